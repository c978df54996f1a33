"""Every allocation of a call, failing in turn: for test_memory_errors.py, with a malloc that fails when told to.

Prints one line per call: its name, how many allocations it made, in how many runs it raised MemoryError.
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import sys
from collections.abc import Callable

import numpy as np

import fastdrop as fd
from fastdrop import _core

malloc = ctypes.CDLL(None)
plan, arm, disarm = ctypes.c_long.in_dll(malloc, "plan"), malloc.arm, malloc.disarm
arm.restype = disarm.restype = None

rng = fd.Generator(5)  # arrays are of more than the 1024 bytes that NumPy keeps for the next
mask = fd.Mask(1, 2, 0.3, (6, 70))
noise = fd.Noise(1, 2, (6, 70))
x = np.linspace(-1, 1, 420, dtype=np.float32).reshape(6, 70)
turned, swapped = np.asfortranarray(x), x.astype(">f4")
maps = np.ones((2, 3, 16, 16), np.float32)
w, dy = np.ones((7, 70), np.float32), np.ones((6, 7), np.float32)
connections = fd.Mask(1, 2, 0.5, (6, 7, 70))
_, saved = fd.softmax_dropout_forward(x, 0.3, mask=mask)
tokens = np.arange(420).reshape(6, 70)

CALLS: dict[str, Callable[[], object]] = {
    "Generator": lambda: fd.Generator(3),
    "spawn": lambda: rng.spawn(2),
    "state": lambda: rng.state,
    "rng.mask": lambda: rng.mask((6, 70), 0.3),
    "rng.noise": lambda: rng.noise((6, 70)),
    "rng.numpy": lambda: rng.numpy(),
    "Mask": lambda: fd.Mask(1, 2, 0.3, (6, 70), 9, strides=(70, 1)),
    "Noise": lambda: fd.Noise(1, 2, (6, 70)),
    "index": lambda: mask[1:, None, ::-2],
    "transpose": lambda: mask.T,
    "reshape": lambda: mask.reshape(4, -1),
    "broadcast_to": lambda: mask.broadcast_to((3, 6, 70)),
    "repr": lambda: repr(mask[::2]),
    "hash": lambda: hash(mask),
    "pickle": lambda: pickle.loads(pickle.dumps(mask)),
    "asarray": lambda: np.asarray(mask),
    "packbits": lambda: mask.packbits(),
    "packbits turned": lambda: fd.Mask(1, 2, 0.3, (90, 70)).T.packbits(),
    "normals": lambda: np.asarray(noise),
    "apply": lambda: mask.apply(x),
    "apply turned": lambda: mask.apply(turned),
    "apply swapped": lambda: mask.apply(swapped),
    "apply out": lambda: mask.apply(x, out=np.empty_like(x)),
    "apply row": lambda: mask[0].apply(x),
    "noise.apply": lambda: noise.apply(x, sigma=0.5),
    "dropout": lambda: fd.dropout(x, 0.3, rng=rng),
    "dropout noise_shape": lambda: fd.dropout(x, 0.3, noise_shape=(6, 1), rng=rng),
    "spatial_dropout": lambda: fd.spatial_dropout(maps, 0.3, rng=rng),
    "alpha_dropout": lambda: fd.alpha_dropout(x, 0.3, rng=rng),
    "gaussian_dropout": lambda: fd.gaussian_dropout(x, 0.3, rng=rng),
    "gaussian_noise": lambda: fd.gaussian_noise(x, 0.3, rng=rng),
    "zoneout": lambda: fd.zoneout(x, x, 0.3, rng=rng),
    "dropout_add": lambda: fd.dropout_add(x, x, 0.3, rng=rng),
    "activation_dropout": lambda: fd.activation_dropout(x, 0.3, activation="gelu", bias=x[0], rng=rng),
    "drop_block2d": lambda: fd.drop_block2d(maps, 0.1, 3, rng=rng),
    "block_apply": lambda: _core.block_apply(fd.Mask(1, 2, 0.05, (2, 3, 14, 14)), maps),
    "block_bools": lambda: _core.block_bools(fd.Mask(1, 2, 0.05, (2, 3, 14, 14)), (2, 3, 16, 16)),
    "apply_masks": lambda: fd.apply_masks([mask, fd.Mask(1, 3, 0.3, (6, 70))], x),
    "softmax": lambda: fd.softmax_dropout(x, 0.3, rng=rng),
    "softmax forward": lambda: fd.softmax_dropout_forward(x, 0.3, mask=mask),
    "softmax backward": lambda: fd.softmax_dropout_backward(x, saved),
    "dropconnect": lambda: fd.dropconnect(x, w, p=0.5, rng=rng),
    "dropconnect backward": lambda: fd.dropconnect_backward(dy, x, w, connections),
    "word_dropout": lambda: fd.word_dropout(tokens, 0.3, rng=rng),
    "embedding_dropout": lambda: fd.embedding_dropout(x, 0.3, rng=rng),
}


#: What CPython says where it makes a lock or looks for a name, and of NumPy's iterator, which forgets to say anything.
ELSEWHERE = ("can't allocate lock", "Can't pickle", "'numpy.nditer'> returned NULL")


def check(name: str, call: Callable[[], object]) -> tuple[int, int]:
    for _ in range(3):  # what is made once is made now
        call()
    raised = 0
    for k in range(100_000):
        before = rng.call
        plan.value = k
        try:  # ctypes allocates too; where that fails, nothing else will
            arm()
            call()
            disarm()
        except MemoryError:
            raised += 1
        except (RuntimeError, SystemError, pickle.PicklingError) as error:
            assert any(words in str(error) for words in ELSEWHERE), error
            raised += 1
        assert before <= rng.call <= before + 2, name
        if not malloc.fired():
            break
    assert rng.call < 2**64 - 1
    return k, raised


if __name__ == "__main__":
    gc.disable()
    for name in sys.argv[1:] or CALLS:
        allocations, raised = check(name, CALLS[name])
        print(f"{name}: {allocations} allocations, {raised} MemoryErrors", flush=True)
    want = fd.Mask(1, 2, 0.3, (6, 70)).apply(x)
    assert np.array_equal(want, fd.reference.keep(1, 2, 0.3, 0, (6, 70), (70, 1)) * x * np.float32(1 / 0.7))
