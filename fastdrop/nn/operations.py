"""The operations behind `Tensor`'s operators and methods that take more than a line.

Each computes a result with NumPy and hands `record` a function that turns the gradient of the result into the
gradients of the inputs. The tape undoes broadcasting and promotion, so those functions do not think of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, shown
from fastdrop.nn import rectifier
from fastdrop.nn.autograd import Array, check_inplace, record, record_inplace, replace_node

if TYPE_CHECKING:
    from fastdrop.nn.tensor import Tensor

Dim: TypeAlias = "int | tuple[int, ...] | None"
Slope: TypeAlias = Callable[[Array, Array, Array], Array]


def promoted(a: Array, b: Array, divide: bool = False) -> tuple[Array, Array]:
    """Return two operands in the dtypes that PyTorch would compute with.

    A float meeting an int keeps its dtype, a 0-d float follows one that has dimensions, and ints divide as float32.
    """
    a_float, b_float = a.dtype.kind == "f", b.dtype.kind == "f"
    if a_float and b_float:
        if a.dtype == b.dtype or bool(a.ndim) == bool(b.ndim):
            return a, b
        return (a, b.astype(a.dtype)) if a.ndim else (a.astype(b.dtype), b)
    if a_float:
        return a, b.astype(a.dtype)
    if b_float:
        return a.astype(b.dtype), b
    return (a.astype(np.float32), b.astype(np.float32)) if divide else (a, b)


def operand(value: Any, tensor: Tensor) -> Any:
    """Return the other operand of an operator as a tensor, or NotImplemented.

    Python and NumPy numbers take a dtype beside which `tensor` keeps its own.
    """
    if hasattr(value, "graph_version"):
        return value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        if value.ndim:
            return tensor.detached(np.asarray(value))
        value = value.item()
    if not isinstance(value, (bool, int, float)):
        return NotImplemented
    kind = tensor.array.dtype.kind
    keeps = kind == "f" or (kind in "iu" and type(value) is int)
    dtype = tensor.array.dtype if keeps else np.float32 if isinstance(value, float) else None
    try:
        number = np.asarray(value, dtype)
    except OverflowError:
        raise ValueError(
            f"the other operand has to be a number that {tensor.array.dtype} holds, but got {shown(value)}"
        ) from None
    if number.dtype.kind not in "fiub":
        raise ValueError(f"the other operand has to be a number that int64 holds, but got {shown(value)}")
    return tensor.detached(number)


def reflected(operation: Callable[[Any, Any], Any], value: Any, tensor: Tensor) -> Any:
    """Return ``operation(value, tensor)`` for a left operand that is no tensor."""
    left = operand(value, tensor)
    return NotImplemented if left is NotImplemented else operation(left, tensor)


def compare(ufunc: np.ufunc, left: Tensor, other: Any) -> Any:
    """Return the boolean tensor ``ufunc(left, other)``."""
    right = operand(other, left)
    return NotImplemented if right is NotImplemented else left.detached(np.asarray(ufunc(left.array, right.array)))


def binary(
    name: str,
    ufunc: np.ufunc,
    left: Tensor,
    other: Any,
    slope_left: Slope,
    slope_right: Slope,
    left_reads: str = "",
    right_reads: str = "",
) -> Any:
    """Return ``ufunc(left, other)``, or NotImplemented if `other` is no number.

    A slope maps ``(dy, a, b)`` to the gradient of its operand; `left_reads` and `right_reads` name which of ``a`` and
    ``b`` it looks at, whose values therefore must not change before backward.
    """
    right = operand(other, left)
    if right is NotImplemented:
        return NotImplemented
    a, b = promoted(left.array, right.array, name == "div")
    need_left, need_right = left.requires_grad, right.requires_grad
    reads = (left_reads if need_left else "") + (right_reads if need_right else "")

    def function(dy: Array) -> tuple[Array | None, ...]:
        return slope_left(dy, a, b) if need_left else None, slope_right(dy, a, b) if need_right else None

    saved = [tensor for tensor, letter in ((left, "a"), (right, "b")) if letter in reads]
    return record(name, ufunc(a, b), (left, right), function, saved=saved)


def in_place(name: str, ufunc: np.ufunc, tensor: Tensor, value: Any, operation: Callable[[Any, Any], Any]) -> Tensor:
    """Compute ``ufunc(tensor, value)`` into `tensor`; `operation` is the same, recorded and out of place."""
    other = operand(value, tensor)
    if other is NotImplemented:
        raise TypeError(f"{name}: expected a number, an ndarray or a Tensor, got {type(value).__name__}")
    check_inplace(tensor, name)
    if not (tensor.will_record() or other.will_record()):
        b = promoted(tensor.array, other.array)[1]
        ufunc(tensor.array, b, out=tensor.array, casting="same_kind")
        tensor.storage.version += 1
        return tensor
    result = operation(tensor, other)
    if result.shape != tensor.shape:
        raise RuntimeError(
            f"output with shape {list(tensor.shape)} doesn't match the broadcast shape {list(result.shape)}"
        )
    check_inplace(tensor, name)  # Again: the operation itself may have saved the values.
    np.copyto(tensor.array, result.array)
    tensor.storage.version += 1
    assert result.node is not None
    replace_node(tensor, result.node)
    return tensor


def power_slope(dy: Array, a: Array, b: Array) -> Array:
    """Return the gradient of ``a ** b`` with respect to `a`."""
    # b * a**(b-1) would be 0 * inf at a == 0, b == 0, where the gradient is 0.
    one, zero = b.dtype.type(1), b.dtype.type(0)
    result: Array = dy * np.where(b == zero, zero, b * a ** np.where(b == zero, one, b - one))
    return result


def exponent_slope(dy: Array, a: Array, b: Array) -> Array:
    """Return the gradient of ``a ** b`` with respect to `b`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.power(a, b) * np.log(a)
    result: Array = dy * np.where((a == 0) & (b >= 0), a.dtype.type(0), slope)
    return result


def matmul(left: Tensor, other: Any) -> Any:
    """Return the matrix product, batched over leading dimensions as `numpy.matmul` does."""
    right = operand(other, left)
    if right is NotImplemented:
        return NotImplemented
    a, b = promoted(left.array, right.array)
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        shapes = " and ".join("x".join(map(str, shape)) for shape in (a.shape, b.shape))
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({shapes})")
    need_left, need_right = left.requires_grad, right.requires_grad
    rows = a if a.ndim > 1 else a[None, :]
    columns = b if b.ndim > 1 else b[:, None]

    def function(dy: Array) -> tuple[Array | None, ...]:
        dy = dy if b.ndim > 1 else dy[..., None]
        dy = dy if a.ndim > 1 else dy[..., None, :]
        da = dy @ columns.swapaxes(-1, -2) if need_left else None
        db = rows.swapaxes(-1, -2) @ dy if need_right else None
        if da is not None and a.ndim == 1:
            da = da.reshape(-1, a.shape[0]).sum(axis=0)
        if db is not None and b.ndim == 1:
            db = db.reshape(-1, b.shape[0]).sum(axis=0)
        return da, db

    saved = ([right] if need_left else []) + ([left] if need_right else [])
    return record("matmul", a @ b, (left, right), function, saved=saved)


def reduced_sum(x: Tensor, dim: Dim, keepdim: bool) -> Tensor:
    """Return the sum over `dim`."""
    shape = x.array.shape
    check_flags(keepdim=keepdim)
    dim = checked_axes("sum", dim, len(shape))
    return record(
        "sum",
        x.array.sum(axis=dim, keepdims=bool(keepdim), dtype=None if x.array.dtype.kind == "f" else np.int64),
        (x,),
        lambda dy: (np.broadcast_to(restore_dims(dy, dim, keepdim), shape),),
    )


def reduced_mean(x: Tensor, dim: Dim, keepdim: bool) -> Tensor:
    """Return the mean over `dim`."""
    if x.array.dtype.kind != "f":
        raise RuntimeError(
            f"mean(): could not infer output dtype. Input dtype must be a floating point dtype. Got: {x.array.dtype}"
        )
    shape = x.array.shape
    check_flags(keepdim=keepdim)
    dim = checked_axes("mean", dim, len(shape))
    y = x.array.mean(axis=dim, keepdims=bool(keepdim))
    share = max(np.size(y), 1) / max(x.array.size, 1)
    return record(
        "mean",
        y,
        (x,),
        lambda dy: (np.broadcast_to(restore_dims(dy * dy.dtype.type(share), dim, keepdim), shape),),
    )


def largest(x: Tensor) -> Tensor:
    """Return the largest element; equal ones share the gradient, as in PyTorch."""
    array = x.array
    y = array.max()

    def share(dy: Array) -> tuple[Array]:
        hits = (array == y).astype(array.dtype)
        return (hits * (dy / hits.sum()),)

    return record("max", y, (x,), share, saved=(x,))


def largest_along(x: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Array]:
    """Return the largest elements along `dim` and their indices; the first of equal ones takes the gradient."""
    shape = x.array.shape
    dim = checked_axis("max", dim, len(shape))
    indices = np.expand_dims(x.array.argmax(axis=dim), dim)
    values = np.take_along_axis(x.array, indices, dim)

    def scatter(dy: Array) -> tuple[Array]:
        dx = np.zeros(shape, dy.dtype)
        np.put_along_axis(dx, indices, restore_dims(dy, dim, keepdim), dim)
        return (dx,)

    if not keepdim:
        return record("max", values.squeeze(dim), (x,), scatter), indices.squeeze(dim)
    return record("max", values, (x,), scatter), indices


def restore_dims(dy: Array, dim: Dim, keepdim: bool) -> Array:
    """Give a gradient back the dimensions that a reduction took away."""
    return dy if dim is None or keepdim else np.expand_dims(dy, dim)


def joined_shape(shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    """Return `shape` with the dimensions from `start_dim` to `end_dim` joined into one."""
    ndim = len(shape)
    if ndim == 0:
        return (1,)
    first, last = (
        checked_axis("flatten", dim, ndim, name) for name, dim in (("start_dim", start_dim), ("end_dim", end_dim))
    )
    if first > last:
        raise RuntimeError(f"flatten: start_dim={start_dim} cannot come after end_dim={end_dim}")
    # The joined size is computed rather than left to -1, which an empty array leaves undetermined.
    joined = int(np.prod(shape[first : last + 1], dtype=np.int64))
    return (*shape[:first], joined, *shape[last + 1 :])


def index(x: Tensor, key: Any) -> Tensor:
    """Return ``x[key]`` for any key that NumPy takes."""
    shape, dtype = x.array.shape, x.array.dtype
    parts = key if isinstance(key, tuple) else (key,)
    basic = all(part is None or part is Ellipsis or isinstance(part, (int, np.integer, slice)) for part in parts)

    def scatter(dy: Array) -> tuple[Array]:
        dx = np.zeros(shape, dtype)
        if basic:
            dx[key] = dy
        else:
            np.add.at(dx, key, dy)  # An index array may name an element twice; assignment would lose one of them.
        return (dx,)

    try:
        # A view of its own: an index's own code may set the array's shape while NumPy looks at it.
        y = x.array.view()[key]
    except (IndexError, OverflowError, TypeError, ValueError, RuntimeError) as error:
        raise bad_index(key, shape, error) from error
    return record("getitem", y, (x,), scatter, view=basic)


def bad_index(key: Any, shape: tuple[int, ...], error: Exception) -> Exception:
    """Return what to raise where NumPy refuses an index: its reason, and what was indexed by what."""
    kind: type[Exception] = ValueError if isinstance(error, ValueError) else TypeError
    if isinstance(error, (IndexError, OverflowError)):
        kind = IndexError
    return kind(f"cannot index a tensor of shape {shape} by {shown(key)}: {error}")


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along a dimension they have.

    Parameters
    ----------
    tensors : sequence of Tensor
        At least one; of one shape but for the size of `dim`. Floats of different widths become the widest, and integers
        beside floats take their dtype.
    dim : int
        The dimension to join along; negative ones count from the end.

    Returns
    -------
    Tensor
        A copy; a gradient goes to each tensor as its part of it.

    Raises
    ------
    TypeError
        If `tensors` is no sequence of tensors.
    RuntimeError
        If there is none, one is 0-d, or the shapes do not fit.
    IndexError
        If there is no such dimension.

    Examples
    --------
    >>> from fastdrop import nn
    >>> nn.cat([nn.ones(2, 1), nn.zeros(2, 2)], dim=1)
    tensor([[1., 0., 0.],
            [1., 0., 0.]])
    """
    arrays = _arrays("cat", tensors)
    first = arrays[0].shape
    if not first:
        raise RuntimeError("cat: zero-dimensional tensors cannot be joined; use stack")
    axis = checked_axis("cat", dim, len(first))
    for position, array in enumerate(arrays):
        if array.shape[:axis] + array.shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise RuntimeError(
                f"cat: the shapes of tensors must be the same except in dimension {axis}, but tensor 0 has {first} and "
                f"tensor {position} has {array.shape}"
            )
    ends = np.cumsum([array.shape[axis] for array in arrays])[:-1]
    joined = np.concatenate(arrays, axis, dtype=_common_dtype(arrays))
    return record("cat", joined, tensors, lambda dy: tuple(np.split(dy, ends, axis)))


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new dimension.

    Parameters
    ----------
    tensors : sequence of Tensor
        At least one, all of one shape; dtypes as for `cat`.
    dim : int
        Where the new dimension goes in the result's shape; negative ones count from its end.

    Returns
    -------
    Tensor
        A copy; a gradient goes to each tensor as its part of it.

    Raises
    ------
    TypeError, RuntimeError, IndexError
        As `cat`.

    Examples
    --------
    >>> from fastdrop import nn
    >>> nn.stack([nn.zeros(2), nn.ones(2)], dim=1)
    tensor([[0., 1.],
            [0., 1.]])
    """
    arrays = _arrays("stack", tensors)
    axis = checked_axis("stack", dim, arrays[0].ndim + 1)
    for position, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise RuntimeError(
                f"stack: each tensor must have one shape, but tensor 0 has {arrays[0].shape} and tensor {position} has "
                f"{array.shape}"
            )
    joined = np.stack(arrays, axis, dtype=_common_dtype(arrays))
    return record("stack", joined, tensors, lambda dy: tuple(np.moveaxis(dy, axis, 0)))


def _arrays(name: str, tensors: Any) -> list[Array]:
    if isinstance(tensors, (str, bytes)) or hasattr(tensors, "graph_version") or not isinstance(tensors, Sequence):
        raise TypeError(f"{name}: tensors must be a list or tuple of Tensors, got a {type(tensors).__name__}")
    for position, tensor in enumerate(tensors):
        if not hasattr(tensor, "graph_version"):
            raise TypeError(f"{name}: expected Tensor as element {position}, got a {type(tensor).__name__}")
    if not tensors:
        raise RuntimeError(f"{name}: expected a non-empty list of Tensors")
    return [tensor.array for tensor in tensors]


def checked_axis(name: str, dim: Any, ndim: int, what: str = "dim") -> int:
    """Return the argument `what` of an operation called `name`, an axis of `ndim`, counted from the start."""
    axis = check_int(f"{name}: {what}", dim, -LIMIT, LIMIT)
    if not -ndim <= axis < ndim:
        raise IndexError(f"{name}: {what}={axis} is out of range, expected it in [{-ndim}, {ndim - 1}]")
    return axis % ndim


def checked_axes(name: str, dim: Any, ndim: int) -> Any:
    """Return the axes that a reduction goes over, None for all of them."""
    if dim is None:
        return None
    if not isinstance(dim, (tuple, list)):
        return None if ndim == 0 and dim in (0, -1) else checked_axis(name, dim, ndim)
    axes = tuple(checked_axis(name, d, ndim) for d in dim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: dim has to name each axis once, but got {shown(dim)}")
    return axes


def _common_dtype(arrays: Sequence[Array]) -> Any:
    dtypes = [array.dtype for array in arrays]
    return np.result_type(*([dtype for dtype in dtypes if dtype.kind == "f"] or dtypes))


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """Return max(x, 0); backward keeps a byte per element, and neither the input nor the result."""
    check_flags(inplace=inplace)
    if inplace:
        check_inplace(x, "relu")
    y, gradient = rectifier.relu(x.array, inplace, x.will_record())

    def function(dy: Array) -> tuple[Array]:
        assert gradient is not None
        return (gradient(dy),)

    if not inplace:
        return record("relu", y, (x,), function)
    record_inplace("relu", x, function)
    return x


def sigmoid_values(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) of an array, to full relative accuracy for any x."""
    with np.errstate(over="ignore"):  # exp gives infinity where the result is 0 to rounding
        y: Array = 1 / (1 + np.exp(-x))
    return y


def check_floating(array: Array, name: str) -> None:
    """Raise TypeError if what an operation called `name` was given has no floating dtype."""
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: input must have a floating dtype, got {array.dtype}; convert it with .float()")


def _checked_dim(name: str, x: Tensor, dim: Any) -> int:
    check_floating(x.array, name)
    return checked_axis(name, dim, x.array.ndim)


def softmax(x: Tensor, dim: int) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `dim`."""
    dim = _checked_dim("softmax", x, dim)
    y = np.exp(log_softmax_values(x.array, dim))
    return record("softmax", y, (x,), lambda dy: (y * (dy - (dy * y).sum(axis=dim, keepdims=True)),), saves_result=True)


def log_softmax(x: Tensor, dim: int) -> Tensor:
    """Return log(softmax(x)) along `dim`."""
    dim = _checked_dim("log_softmax", x, dim)
    y = log_softmax_values(x.array, dim)
    return record(
        "log_softmax", y, (x,), lambda dy: (dy - np.exp(y) * dy.sum(axis=dim, keepdims=True),), saves_result=True
    )


def log_softmax_values(x: Array, dim: int) -> Array:
    """Return log(softmax(x)) of an array, subtracting the maximum first so that nothing overflows."""
    y: Array
    if not x.size:  # no row has a maximum
        y = x.copy()
        return y
    y = x - x.max(axis=dim, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=dim, keepdims=True))
    return y
