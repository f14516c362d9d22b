"""Memory that a C library hands back to the kernel too soon. It knows no models."""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h; see mallopt(3)."""


@cache
def keep_blocks() -> bool:
    """Let glibc keep freed blocks, however large; returns whether it does (not with another C library).

    By default it hands those of megabytes back to the kernel after every operation and takes them again, page by page,
    for the next: 10 to 15% of the time of a U-Net on a CPU (docs/decisions/0011). For this process, once and for all.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    options = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1}
    return all([set_option(option, value) == 1 for option, value in options.items()])
