"""Where there is no memory, MemoryError: never a crash, and nothing is broken after it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

# malloc, calloc and realloc of the GNU C library, one of whose calls fails: the k-th from now on, on this thread.
SHIM = """
#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
long plan;
static __thread long left = -1;
static __thread int did;

void arm(void) { left = plan, did = 0; }
void disarm(void) { left = -1; }
int fired(void) { return did; }
static int fails(void) {
    if (left < 0 || left-- > 0) return 0;
    errno = ENOMEM;
    return did = 1;
}
void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not shutil.which("cc"), reason="needs Linux and a C compiler"
)
def test_each_allocation_failing(tmp_path):
    """Over the whole API (allocations.py), with Python's own allocations among them."""
    source, library = tmp_path / "failing.c", tmp_path / "failing.so"
    source.write_text(textwrap.dedent(SHIM))
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True, timeout=120)
    env = {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc", "PATH": "", "FASTDROP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("allocations.py")
    run = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-3000:]
    found = re.findall(r"^(.+): (\d+) allocations, (\d+) MemoryErrors$", run.stdout, re.M)
    assert len(found) > 40
    for name, allocations, raised in found:
        assert int(raised) > 0 or int(allocations) == 0, name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited through setrlimit")
def test_no_room_for_a_result():
    """Results larger than the address space that is left: each is refused, and small ones are made as before."""
    script = """
import resource
import numpy as np, fastdrop as fd
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
huge = np.broadcast_to(np.float32(1), (2, 1 << 16, 1 << 15))
mask, noise, rng = fd.Mask(0, 0, 0.5, huge.shape), fd.Noise(0, 0, huge.shape), fd.Generator(0)
masks = [fd.Mask(0, call, 0.5, huge.shape) for call in range(2)]
for call in (
    lambda: np.asarray(mask),
    lambda: np.asarray(mask.T),
    lambda: fd.Mask(0, 0, 0.5, 1 << 40).packbits(),
    lambda: np.asarray(noise),
    lambda: mask.apply(huge),
    lambda: noise.apply(huge, sigma=1.0),
    lambda: fd.dropout(huge, 0.5, rng=rng),
    lambda: fd.dropout_add(huge, huge, 0.5, rng=rng),
    lambda: fd.apply_masks(masks, huge),
    lambda: fd.softmax_dropout(huge, 0.5, rng=rng),
    lambda: fd.drop_block_mask(fd.Mask(0, 0, 0.1, (1 << 20, 1 << 19)), (1 << 20, 1 << 20)),
    lambda: fd.dropconnect(huge[0, :, :9], np.ones((1 << 20, 9), np.float32), p=0.5, rng=rng),
):
    try:
        call()
    except MemoryError:
        continue
    raise SystemExit("no MemoryError")
# A block as large as its map takes four words of bits per 64 elements, which malloc has to refuse here.
x = np.broadcast_to(np.float32(1), (1, 40000, 40000))
out = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), x.shape, (0, 0, 0))
assert (fd.Mask(0, 0, 0.5, 8).apply(np.ones(8)) == [0, 2, 0, 2, 0, 2, 0, 0]).all()
print("fine")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.stdout == "fine\n", run.stderr[-2000:]
