"""One loaded base model per process: the same one while its files are the same, another after a change."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import save_sd1
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import choose_device, resident
from ti_core.errors import InputError


def test_the_same_digest_is_the_same_object_and_a_change_is_another(tmp_path: Path) -> None:
    folder = save_sd1(tmp_path / "sd1")
    with resident(find_base(str(folder)), "cpu") as first, resident(find_base(str(folder)), "cpu") as again:
        assert again is first
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with resident(find_base(str(folder)), "cpu") as changed:
        assert changed is not first
        assert changed.info.digest != first.info.digest


def test_weights_that_do_not_load_are_an_input_error(tmp_path: Path) -> None:
    folder = save_sd1(tmp_path / "sd1")
    config = folder / "unet/config.json"
    config.write_text(config.read_text().replace("64", "96"))
    with pytest.raises(InputError, match="does not load") as error, resident(find_base(str(folder)), "cpu"):
        pass
    assert str(folder) in str(error.value)


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("").type in {"cpu", "cuda"}
    for wish in ("cuda:99", "toaster"):
        with pytest.raises(InputError, match=rf"PSEUDOWORD_DEVICE is '{wish}'"):
            choose_device(wish)


COUNT = """
import ctypes, resource
from ti_core.backbone.resident import keep_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(64 * 2**20)  # more than glibc ever keeps by itself
        libc.memset(block, 1, 64 * 2**20)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults(4)
assert keep_blocks() and keep_blocks()
faults(1)
print(before, faults(4))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_blocks_that_were_freed_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=120, check=True)
    before, after = map(int, done.stdout.split())
    pages = 64 * 2**20 // resource.getpagesize()
    assert after < before / 4 and after < pages
