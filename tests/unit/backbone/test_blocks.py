"""Freed blocks stay with the process."""

import platform
import resource
import subprocess
import sys

import pytest

COUNT = """
import ctypes, resource
from ti_core.backbone.blocks import keep_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(40 * 2**20)  # more than glibc ever keeps by itself
        libc.memset(block, 1, 40 * 2**20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults(2)
assert keep_blocks() and keep_blocks()
faults(1)
print(before, faults(2))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_blocks_that_were_freed_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=600, check=True)
    before, after = map(int, done.stdout.split())
    pages = 40 * 2**20 // resource.getpagesize()
    assert after < before / 4 and after < pages
