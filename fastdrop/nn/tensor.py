"""`Tensor`: a NumPy array that remembers how it was computed.

Each operation is one method: it computes the result with NumPy and says, as a small function, how the gradient of the
result becomes the gradients of the inputs; the longer ones stand in `operations.py`, the tape in `autograd.py`.

Types follow PyTorch's habits: a Python number never changes the dtype of a float tensor, and an integer tensor that
meets a float tensor takes the float's dtype, where NumPy would make a float64 out of float32 and int64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastdrop._checks import LIMIT, MAX_NDIM, as_array, check_flags, check_ints, shown
from fastdrop.nn import autograd
from fastdrop.nn import operations as ops
from fastdrop.nn.autograd import Array, Node, Storage, record
from fastdrop.nn.dtypes import checked_dtype
from fastdrop.nn.operations import Dim

#: The dtypes of tensors: NumPy's real numbers and bool, of at most 64 bits.
KINDS = frozenset("?bBhHiIlLqQefd")


def _no_tensor(array: Array, name: str) -> str:
    return (
        f"cannot make a tensor of dtype {array.dtype}: {name} has to be a tensor, or an array of NumPy's real "
        f"numbers or bool, but got {shown(array)}"
    )


class Tensor:
    """A NumPy array with a gradient.

    Make tensors with `tensor`, `from_numpy`, `zeros`, `randn` and the like; calling ``Tensor(array)`` shares the
    array's memory.

    Parameters
    ----------
    array : array_like
        The values; an ndarray is shared, not copied.
    requires_grad : bool
        Whether `backward` shall find the gradient with respect to this tensor. Only for floating dtypes.

    Attributes
    ----------
    array : numpy.ndarray
        The values themselves. Changing them by hand is not seen by the tape.
    grad : Tensor or None
        The gradient, once `backward` has reached this leaf; further calls add to it.

    Examples
    --------
    >>> from fastdrop.nn import tensor
    >>> x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """

    # Makes `ndarray + tensor` ask the tensor, instead of building an object array element by element.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, array: npt.ArrayLike, requires_grad: bool = False) -> None:
        self.array: Array = np.asarray(array) if isinstance(array, np.ndarray) else as_array(array, "array")
        self.storage = Storage()
        self.graph_version = 0
        self.node: Node | None = None
        self.grad: Tensor | None = None
        self._requires_grad = False
        if self.array.dtype.char not in KINDS:
            raise TypeError(_no_tensor(self.array, "array"))
        if requires_grad is not False:
            self.requires_grad_(requires_grad)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient can flow into this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` of this leaf, and return it."""
        check_flags(requires_grad=requires_grad)
        if requires_grad and self.array.dtype.kind != "f":
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, got {self.array.dtype}")
        if not requires_grad and self.node is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable "
                "in a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        self._requires_grad = requires_grad
        if requires_grad and self.node is None:
            self.storage.has_leaf = True
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by hand rather than computed from tensors that require grad."""
        return self.node is None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as a tuple."""
        return self.array.shape

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or its entry `dim`."""
        shape = self.array.shape
        return shape if dim is None else shape[ops.checked_axis("size", dim, len(shape))]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.array.ndim

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """Return the number of elements."""
        return int(self.array.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return self.array.dtype

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self.array)))

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.array.reshape(()))

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and not self.array.ndim else str(self), spec)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.ndim or self.array.dtype.kind not in "iu":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.array)

    def __repr__(self) -> str:
        text = np.array2string(self.array, separator=", ", prefix="tensor(")
        if self.array.dtype not in (np.float32, np.int64, np.bool_):
            text += f", dtype={self.array.dtype}"
        if self.node is not None:
            text += f", grad_fn=<{self.node.name}>"
        elif self._requires_grad:
            text += ", requires_grad=True"
        return f"tensor({text})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.node is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) can be copied deeply or pickled; "
                "use .detach() first"
            )
        return type(self), (self.array, self._requires_grad), {"grad": self.grad}

    # --- the values ---------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """Return the single value as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"a Tensor with {self.array.size} elements cannot be converted to Scalar")
        return self.array.item()

    def tolist(self) -> Any:
        """Return the values as (nested lists of) Python numbers."""
        return self.array.tolist()

    def numpy(self) -> Array:
        """Return the array itself; it shares memory with the tensor."""
        if self._requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        if copy or (dtype is not None and array.dtype != np.dtype(dtype)):
            return array.astype(dtype or array.dtype)
        return array

    def detached(self, array: Array | None = None) -> Tensor:
        """Return a plain tensor outside the graph: over `array`, or over this tensor's memory."""
        result = Tensor(self.array if array is None else array)
        if array is None:
            result.storage = self.storage
            result.graph_version = autograd.DETACHED
        return result

    def detach(self) -> Tensor:
        """Return a tensor that shares the memory but takes no part in the graph."""
        return self.detached()

    @property
    def data(self) -> Tensor:
        """The values as a tensor outside the graph, sharing the memory."""
        return self.detached()

    def clone(self) -> Tensor:
        """Return a copy; gradients flow through it."""
        return record("clone", self.array.copy(order="K"), (self,), lambda dy: (dy,))

    def cpu(self) -> Tensor:
        """Return the tensor itself: there is no other device here."""
        return self

    def contiguous(self) -> Tensor:
        """Return the tensor in C order, itself if it is already."""
        if self.array.flags.c_contiguous:
            return self
        return record("contiguous", np.ascontiguousarray(self.array), (self,), lambda dy: (dy,))

    def to(self, dtype: npt.DTypeLike | Tensor | str, copy: bool = False) -> Tensor:
        """Return the tensor in another dtype (itself if it has it already); ``"cpu"`` is taken and does nothing."""
        if isinstance(dtype, str) and dtype == "cpu":
            return self
        wanted = dtype.dtype if isinstance(dtype, Tensor) else checked_dtype(dtype)
        check_flags(copy=copy)
        if wanted == self.array.dtype and not copy:
            return self
        if wanted.kind != "f":
            return Tensor(self.array.astype(wanted))
        return record("to", self.array.astype(wanted), (self,), lambda dy: (dy,))

    def float(self) -> Tensor:
        """Return the tensor as float32."""
        return self.to(np.float32)

    def double(self) -> Tensor:
        """Return the tensor as float64."""
        return self.to(np.float64)

    def long(self) -> Tensor:
        """Return the tensor as int64."""
        return self.to(np.int64)

    # --- gradients ----------------------------------------------------------------------------------------------

    def backward(self, gradient: Tensor | npt.ArrayLike | None = None, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that requires grad.

        Parameters
        ----------
        gradient : Tensor or array_like, optional
            The gradient of something with respect to this tensor, in this tensor's shape. May be left out when the
            tensor has one element.
        retain_graph : bool
            Keep what the graph saved, so that `backward` can be called again.

        Raises
        ------
        RuntimeError
            If the tensor does not require grad, if `gradient` is missing or of another shape, or if the graph was
            already freed.
        """
        check_flags(retain_graph=retain_graph)
        if not self._requires_grad:
            raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")
        if gradient is None:
            if self.array.size != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            seed = np.ones_like(self.array)
        else:
            seed = named_tensor(gradient, "gradient").array.astype(self.array.dtype, copy=False)
            if seed.shape != self.array.shape:
                raise RuntimeError(
                    f"Mismatch in shape: grad_output[0] has a shape of {seed.shape} and output[0] has a shape of "
                    f"{self.array.shape}."
                )
        with autograd.no_grad():
            autograd.backward(self, seed, retain_graph)

    def will_record(self) -> bool:
        """Whether an operation on this tensor would be recorded for backward now."""
        return self._requires_grad and autograd.is_grad_enabled()

    def set_node(self, node: Node) -> None:
        """Make `node` the origin of this tensor (used by the tape)."""
        self.node = node
        self._requires_grad = True

    # --- arithmetic ---------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return ops.binary("add", np.add, self, other, lambda dy, a, b: dy, lambda dy, a, b: dy)

    def __sub__(self, other: Any) -> Any:
        return ops.binary("sub", np.subtract, self, other, lambda dy, a, b: dy, lambda dy, a, b: -dy)

    def __mul__(self, other: Any) -> Any:
        return ops.binary("mul", np.multiply, self, other, lambda dy, a, b: dy * b, lambda dy, a, b: dy * a, "b", "a")

    def __truediv__(self, other: Any) -> Any:
        return ops.binary(
            "div", np.divide, self, other, lambda dy, a, b: dy / b, lambda dy, a, b: -dy * a / (b * b), "b", "ab"
        )

    def __pow__(self, other: Any) -> Any:
        return ops.binary("pow", np.power, self, other, ops.power_slope, ops.exponent_slope, "ab", "ab")

    def __matmul__(self, other: Any) -> Any:
        return ops.matmul(self, other)

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __rsub__(self, other: Any) -> Any:
        return ops.reflected(Tensor.__sub__, other, self)

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __rtruediv__(self, other: Any) -> Any:
        return ops.reflected(Tensor.__truediv__, other, self)

    def __rpow__(self, other: Any) -> Any:
        return ops.reflected(Tensor.__pow__, other, self)

    def __rmatmul__(self, other: Any) -> Any:
        return ops.reflected(Tensor.__matmul__, other, self)

    def matmul(self, other: Any) -> Tensor:
        """Return the matrix product ``self @ other``."""
        product: Tensor = self @ other
        return product

    def __neg__(self) -> Tensor:
        return record("neg", -self.array, (self,), lambda dy: (-dy,))

    def __eq__(self, other: object) -> Any:
        return ops.compare(np.equal, self, other)

    def __ne__(self, other: object) -> Any:
        return ops.compare(np.not_equal, self, other)

    def __lt__(self, other: Any) -> Any:
        return ops.compare(np.less, self, other)

    def __le__(self, other: Any) -> Any:
        return ops.compare(np.less_equal, self, other)

    def __gt__(self, other: Any) -> Any:
        return ops.compare(np.greater, self, other)

    def __ge__(self, other: Any) -> Any:
        return ops.compare(np.greater_equal, self, other)

    # --- in place -----------------------------------------------------------------------------------------------

    def add_(self, other: Any) -> Tensor:
        """Add `other` in place."""
        return ops.in_place("add_", np.add, self, other, Tensor.__add__)

    def sub_(self, other: Any) -> Tensor:
        """Subtract `other` in place."""
        return ops.in_place("sub_", np.subtract, self, other, Tensor.__sub__)

    def mul_(self, other: Any) -> Tensor:
        """Multiply by `other` in place."""
        return ops.in_place("mul_", np.multiply, self, other, Tensor.__mul__)

    def div_(self, other: Any) -> Tensor:
        """Divide by `other` in place."""
        return ops.in_place("div_", np.divide, self, other, Tensor.__truediv__)

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    def copy_(self, other: Any) -> Tensor:
        """Overwrite the values with those of `other`, which may broadcast."""
        self[...] = other
        return self

    def zero_(self) -> Tensor:
        """Overwrite the values with zeros."""
        return self.copy_(0)

    def __setitem__(self, key: Any, value: Any) -> None:
        autograd.check_inplace(self, "assignment")
        if autograd.is_grad_enabled() and (self.requires_grad or getattr(value, "requires_grad", False)):
            raise RuntimeError(
                "assignment into a tensor is not recorded for backward; do it under no_grad(), on .detach()ed values, "
                "or build the result from an expression"
            )
        # A view of its own: an index's own code may set the array's shape while NumPy looks at it.
        values = named_tensor(value, "value").array
        try:
            self.array.view()[_plain_key(key)] = values
        except (IndexError, OverflowError, TypeError, ValueError, RuntimeError) as error:
            raise ops.bad_index(key, self.shape, error) from error
        self.storage.version += 1

    # --- element by element -------------------------------------------------------------------------------------

    def exp(self) -> Tensor:
        """Return e**self."""
        y = np.exp(floating(self.array))
        return record("exp", y, (self,), lambda dy: (dy * y,), saves_result=True)

    def log(self) -> Tensor:
        """Return the natural logarithm."""
        x = floating(self.array)
        return record("log", np.log(x), (self,), lambda dy: (dy / x,), saved=(self,))

    def sqrt(self) -> Tensor:
        """Return the square root."""
        y = np.sqrt(floating(self.array))
        return record("sqrt", y, (self,), lambda dy: (dy / (y + y),), saves_result=True)

    def abs(self) -> Tensor:
        """Return the absolute value; its gradient at 0 is 0."""
        x = self.array
        return record("abs", np.abs(x), (self,), lambda dy: (dy * np.sign(x),), saved=(self,))

    __abs__ = abs

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent."""
        y = np.tanh(floating(self.array))
        return record("tanh", y, (self,), lambda dy: (dy * (1 - y * y),), saves_result=True)

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + exp(-self)), safe from overflow."""
        y = ops.sigmoid_values(floating(self.array))
        return record("sigmoid", y, (self,), lambda dy: (dy * y * (1 - y),), saves_result=True)

    def relu(self) -> Tensor:
        """Return max(self, 0)."""
        return ops.relu(self)

    def softmax(self, dim: int) -> Tensor:
        """Return exp(self) / sum(exp(self)) along `dim`, safe from overflow."""
        return ops.softmax(self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        """Return log(softmax(self)) along `dim`, safe from overflow and underflow."""
        return ops.log_softmax(self, dim)

    # --- reductions ---------------------------------------------------------------------------------------------

    def sum(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the sum over `dim` (an int, a tuple of ints, or None for all)."""
        return ops.reduced_sum(self, dim, keepdim)

    def mean(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Return the mean over `dim` (an int, a tuple of ints, or None for all)."""
        return ops.reduced_mean(self, dim, keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """Return the largest value, or with `dim` a pair ``(values, indices)`` along that dimension.

        As in PyTorch, equal maxima share the gradient without `dim`, and the first one takes it with `dim`.
        """
        check_flags(keepdim=keepdim)
        if dim is None:
            return ops.largest(self)
        values, indices = ops.largest_along(self, dim, keepdim)
        return MaxResult(values, Tensor(indices))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Return the index of the (first) largest value, flat without `dim`."""
        check_flags(keepdim=keepdim)
        axis = ops.checked_axes("argmax", dim, self.array.ndim)
        if isinstance(axis, tuple):
            raise TypeError(f"argmax: dim has to be an integer or None, but got {shown(dim)}")
        return Tensor(np.argmax(self.array, axis=axis, keepdims=bool(keepdim)))

    # --- shape --------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """Return the same elements in another shape; one entry may be -1. A view where NumPy can make one."""
        before = self.array.shape
        after = check_ints("reshape: shape", shape[0] if len(shape) == 1 else shape, -1)
        if math.prod(n for n in after if n >= 0) != self.array.size and -1 not in after:
            raise ValueError(
                f"reshape: shape has to hold {self.array.size} elements, as {before} does, but got {after}"
            )
        return record("reshape", self.array.reshape(after), (self,), lambda dy: (dy.reshape(before),), view=True)

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Return the tensor with the dimensions from `start_dim` to `end_dim` joined into one."""
        shape = ops.joined_shape(self.array.shape, start_dim, end_dim)
        return self if shape == self.array.shape else self.reshape(shape)

    def squeeze(self, dim: int | None = None) -> Tensor:
        """Return the tensor without its dimensions of size 1, or without `dim` if that has size 1."""
        if dim is not None and self.array.ndim:
            dim = ops.checked_axis("squeeze", dim, self.array.ndim)
            if self.array.shape[dim] != 1:
                return self
        return self.reshape(self.array.squeeze(dim).shape)

    def unsqueeze(self, dim: int) -> Tensor:
        """Return the tensor with a new dimension of size 1 at `dim`."""
        axis = ops.checked_axis("unsqueeze", dim, self.array.ndim + 1)
        return self.reshape(np.expand_dims(self.array, axis).shape)

    def permute(self, *dims: Any) -> Tensor:
        """Return a view with the dimensions in another order."""
        given = check_ints("permute: dims", dims[0] if len(dims) == 1 else dims, -LIMIT)
        order = tuple(ops.checked_axis("permute", d, self.array.ndim, "dims") for d in given)
        if sorted(order) != list(range(self.array.ndim)):
            raise ValueError(f"permute: dims has to name each of the {self.array.ndim} axes once, but got {given}")
        back = np.argsort(order)
        return record("permute", self.array.transpose(order), (self,), lambda dy: (dy.transpose(back),), view=True)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Return a view with two dimensions exchanged."""
        first, second = (
            ops.checked_axis("transpose", d, self.array.ndim, name) for name, d in (("dim0", dim0), ("dim1", dim1))
        )
        return record(
            "transpose",
            self.array.swapaxes(first, second),
            (self,),
            lambda dy: (dy.swapaxes(first, second),),
            view=True,
        )

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions in reverse order."""
        return record("T", self.array.T, (self,), lambda dy: (dy.T,), view=True)

    def t(self) -> Tensor:
        """Return the transpose of a tensor of at most two dimensions."""
        if self.array.ndim > 2:
            raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {self.array.ndim}D")
        return self.T

    def __getitem__(self, key: Any) -> Tensor:
        return ops.index(self, _plain_key(key))


class MaxResult(NamedTuple):
    """What `Tensor.max` returns along a dimension."""

    values: Tensor
    indices: Tensor


def as_tensor(data: Any) -> Tensor:
    """Return `data` as a tensor: itself if it is one, sharing memory with an ndarray.

    Python numbers and lists become float32, int64 or bool.
    """
    return named_tensor(data, "data")


def named_tensor(value: Any, name: str) -> Tensor:
    """Return the argument `name` as a tensor, as `as_tensor` does; what cannot be one is told with the name."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
    else:
        array = as_array(_without_tensors(value, name), name)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
    if array.dtype.char not in KINDS:
        raise TypeError(_no_tensor(array, name))
    return Tensor(array)


def floating(array: Array) -> Array:
    """Integers and bools as float32, the default dtype; floats as they are."""
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def _without_tensors(value: Any, name: str, depth: int = 0) -> Any:
    if isinstance(value, Tensor):
        return value.array
    if depth > MAX_NDIM:
        raise ValueError(f"{name} may hold lists in lists {MAX_NDIM} deep, as many as an array has axes, but got more")
    return [_without_tensors(item, name, depth + 1) for item in value] if isinstance(value, (list, tuple)) else value


def _plain_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_plain_key(part) for part in key)
    return key.array if isinstance(key, Tensor) else key
