"""Functions that make tensors. Random ones draw from fastdrop's generators, so `fastdrop.manual_seed` governs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastdrop.nn.operations import check_floating
from fastdrop.nn.tensor import Tensor, as_tensor
from fastdrop.random import chosen_generator

if TYPE_CHECKING:
    from fastdrop import Generator


def numpy_generator(generator: Generator | None = None) -> np.random.Generator:
    """Return a NumPy generator on its own stream of `generator`, or of fastdrop's default one."""
    return chosen_generator(generator).numpy()


def floating(input: Any, name: str) -> Tensor:
    """Return what an operation called `name` was given as a tensor; TypeError if its dtype is not floating."""
    x = as_tensor(input)
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
    if dtype is not None and not isinstance(data, Tensor):
        array = np.array(data, dtype=dtype)
        as_tensor(array)  # Refuses what is no number.
    else:
        array = np.array(as_tensor(data).array, dtype=dtype)
    return Tensor(array, requires_grad)


def from_numpy(array: npt.NDArray[Any]) -> Tensor:
    """Make a tensor that shares memory with an ndarray."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    return as_tensor(array)


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], (int, np.integer)) else size


def zeros(*size: Any, dtype: npt.DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of zeros; the size is given as ints or as one tuple."""
    return Tensor(np.zeros(_shape(size), dtype), requires_grad)


def ones(*size: Any, dtype: npt.DTypeLike = np.float32, requires_grad: bool = False) -> Tensor:
    """Make a tensor of ones; the size is given as ints or as one tuple."""
    return Tensor(np.ones(_shape(size), dtype), requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of standard normal numbers."""
    values = numpy_generator(generator).standard_normal(_shape(size), dtype=_random_dtype(dtype))
    return Tensor(np.asarray(values, dtype), requires_grad)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: npt.DTypeLike = np.float32,
    requires_grad: bool = False,
) -> Tensor:
    """Make a tensor of numbers uniform in [0, 1)."""
    values = numpy_generator(generator).random(_shape(size), dtype=_random_dtype(dtype))
    return Tensor(np.asarray(values, dtype), requires_grad)


def _random_dtype(dtype: npt.DTypeLike) -> Any:
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32


def randint(low: int, high: Any, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Make an int64 tensor uniform in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``."""
    if size is None:
        low, high, size = 0, low, high
    return Tensor(numpy_generator(generator).integers(low, high, size=size, dtype=np.int64))


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: npt.DTypeLike | None = None) -> Tensor:
    """Make a 1-d tensor of evenly spaced numbers; int64 for ints, float32 otherwise."""
    values = np.arange(start, dtype=dtype) if stop is None else np.arange(start, stop, step, dtype=dtype)
    return Tensor(values.astype(np.float32) if dtype is None and values.dtype == np.float64 else values)
