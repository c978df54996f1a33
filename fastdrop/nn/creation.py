"""Functions that make tensors. Random ones draw from fastdrop's generators, so `fastdrop.manual_seed` governs them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastdrop._checks import LIMIT, check_flags, check_int, check_real, check_shape, shown
from fastdrop.nn.dtypes import checked_dtype
from fastdrop.nn.operations import check_floating
from fastdrop.nn.tensor import Tensor, _without_tensors, as_tensor, named_tensor
from fastdrop.random import chosen_generator, refunding

if TYPE_CHECKING:
    from fastdrop import Generator


def numpy_generator(generator: Generator | None = None) -> np.random.Generator:
    """Return a NumPy generator on its own stream of `generator`, or of fastdrop's default one."""
    return chosen_generator(generator).numpy()


def floating(input: Any, name: str) -> Tensor:
    """Return what an operation called `name` was given as a tensor; TypeError if its dtype is not floating."""
    x = named_tensor(input, "input")
    check_floating(x.array, name)
    return x


def tensor(data: Any, *, dtype: npt.DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor from numbers, (nested) lists or an ndarray; the data is copied.

    Python floats become float32 and ints int64; an ndarray keeps its dtype.

    Examples
    --------
    >>> tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> tensor([1.0, 2.0]).dtype
    dtype('float32')
    """
    check_flags(requires_grad=requires_grad)
    wanted = None if dtype is None else checked_dtype(dtype)
    if wanted is None or isinstance(data, (Tensor, np.ndarray)):
        return Tensor(np.array(as_tensor(data).array, dtype=wanted), requires_grad)
    as_tensor(data)  # refuses what is no number
    try:
        return Tensor(np.array(_without_tensors(data, "data"), dtype=wanted), requires_grad)
    except (OverflowError, ValueError):
        raise ValueError(f"data has to hold numbers that {wanted} holds, but got {shown(data)}") from None


def from_numpy(array: npt.NDArray[Any]) -> Tensor:
    """Make a tensor that shares memory with an ndarray."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray as array (got {type(array).__name__})")
    return named_tensor(array, "array")


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return check_shape(size[0] if len(size) == 1 else size, "size")


def _floats(size: tuple[Any, ...], dtype: npt.DTypeLike, requires_grad: bool) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The checked shape and dtype of what is drawn, before it is."""
    check_flags(requires_grad=requires_grad)
    wanted = checked_dtype(dtype)
    if wanted.kind != "f":
        raise TypeError(f"dtype has to be a floating one for random numbers, but got {wanted}")
    return _shape(size), wanted


def zeros(*size: Any, dtype: npt.DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros; the size is given as ints or as one tuple."""
    check_flags(requires_grad=requires_grad)
    return Tensor(np.zeros(_shape(size), checked_dtype(dtype)), requires_grad)


def ones(*size: Any, dtype: npt.DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones; the size is given as ints or as one tuple."""
    check_flags(requires_grad=requires_grad)
    return Tensor(np.ones(_shape(size), checked_dtype(dtype)), requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of standard normal numbers."""
    shape, wanted = _floats(size, dtype, requires_grad)
    with refunding(chosen_generator(generator)) as rng:  # where there is no memory
        values = rng.numpy().standard_normal(shape, dtype=_random_dtype(wanted))
    return Tensor(np.asarray(values, wanted), requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of numbers uniform in [0, 1)."""
    shape, wanted = _floats(size, dtype, requires_grad)
    with refunding(chosen_generator(generator)) as rng:  # where there is no memory
        values = rng.numpy().random(shape, dtype=_random_dtype(wanted))
    return Tensor(np.asarray(values, wanted), requires_grad)


def _random_dtype(dtype: np.dtype[Any]) -> Any:
    return np.float64 if dtype == np.float64 else np.float32


def randint(low: int, high: Any, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Make an int64 tensor uniform in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None:
        low, high, size = 0, low, high
    low, high = check_int("low", low, -LIMIT, LIMIT - 1), check_int("high", high, -LIMIT, LIMIT)
    if low >= high:
        raise ValueError(f"low has to be below high, but got {low} and {high}")
    shape = _shape((size,))
    with refunding(chosen_generator(generator)) as rng:  # where there is no memory
        return Tensor(np.asarray(rng.numpy().integers(low, high, size=shape, dtype=np.int64)))


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: npt.DTypeLike | None = None) -> Tensor:
    """Make a 1-d tensor of evenly spaced numbers; int64 for ints, float32 otherwise."""
    for name, value in (("start", start), ("stop", start if stop is None else stop), ("step", step)):
        if not math.isfinite(check_real(name, value)):
            raise ValueError(f"{name} has to be finite, but got {value}")
    if not step:
        raise ValueError(f"step has to be another number than 0, but got {step}")
    wanted = None if dtype is None else checked_dtype(dtype)
    if wanted is not None and wanted.kind == "b":
        raise TypeError(f"dtype has to be one of numbers that are spaced, but got {wanted}")
    count = (start if stop is None else stop - start) / step
    if abs(count) >= LIMIT // 8:
        raise ValueError(f"stop has to be fewer than 2**60 steps from start, but got {start}, {stop} and {step}")
    values = np.arange(start, dtype=wanted) if stop is None else np.arange(start, stop, step, dtype=wanted)
    if values.dtype.kind not in "fiu":
        raise ValueError(
            f"start and stop have to be numbers that int64 holds, but got {shown(start)} and {shown(stop)}"
        )
    return Tensor(values.astype(np.float32) if dtype is None and values.dtype.kind == "f" else values)
