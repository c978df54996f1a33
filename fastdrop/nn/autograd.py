"""The tape: what an operation leaves behind so that its gradient can be found later.

Every recorded operation leaves one :class:`Node`. A node knows how to turn the gradient of its output into the
gradients of its inputs, and which nodes (or leaf tensors) those belong to. :func:`backward` walks the nodes from the
result to the leaves. Nodes point at nodes, never at the tensors between them, so a tensor that was changed in place
only has to be given a new node.

Memory is followed apart from tensors: tensors that share memory share one :class:`Storage`. It counts in-place changes
and knows the nodes whose backward still reads its values, which is how an in-place operation that would spoil a
gradient is refused at once, with the name of the operation that needs the values.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastdrop.nn.tensor import Tensor

Array = NDArray[Any]
BackwardFunction = Callable[[Array], tuple["Array | None", ...]]
_F = TypeVar("_F", bound=Callable[..., Any])

#: The `graph_version` of tensors that are constants by the user's wish (`detach`), whatever happens to their memory.
DETACHED = -1
#: The same for views taken under `no_grad` of tensors that require grad: to be read, not to be changed in place.
UNRECORDED = -2

_SECOND_BACKWARD = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Saved intermediate values of the graph are freed when you call .backward(). Specify "
    "retain_graph=True if you need to backward through the graph a second time."
)


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Return whether operations on this thread are recorded for backward."""
    return _mode.enabled


class _GradMode:
    """Base of `no_grad` and `enable_grad`: a context manager that is also a decorator."""

    _enabled = True

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_mode.enabled)
        _mode.enabled = self._enabled

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _mode.enabled = self._before.pop()

    def __call__(self, function: _F) -> _F:
        kind = type(self)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # A fresh object for each call: the function may be entered again, or from another thread.
            with kind():
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


class no_grad(_GradMode):
    """Do not record operations; as a context manager or as a decorator.

    Examples
    --------
    >>> from fastdrop.nn import ones, no_grad
    >>> x = ones(2, requires_grad=True)
    >>> with no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    _enabled = False


class enable_grad(_GradMode):
    """Record operations again inside a `no_grad` block; as a context manager or as a decorator."""

    _enabled = True


class Storage:
    """The memory behind one or more tensors, as far as in-place changes are concerned.

    Attributes
    ----------
    version : int
        Number of in-place changes so far. A node that saved values notes it, and refuses to use changed ones.
    graph_version : int
        Number of in-place changes that were recorded for backward. A tensor that has not seen the last one (another
        view of the same memory) no longer knows how its values came about.
    has_leaf : bool
        Whether a leaf that requires grad lives in this memory.
    """

    __slots__ = ("_savers", "graph_version", "has_leaf", "version")

    def __init__(self) -> None:
        self.version = 0
        self.graph_version = 0
        self.has_leaf = False
        self._savers: weakref.WeakSet[Node] | None = None

    def add_saver(self, node: Node) -> None:
        if self._savers is None:
            self._savers = weakref.WeakSet()
        self._savers.add(node)

    def drop_saver(self, node: Node) -> None:
        if self._savers is not None:
            self._savers.discard(node)

    def saver(self) -> str | None:
        """Return the name of an operation whose backward still reads these values, or None."""
        for node in self._savers or ():
            return node.name
        return None


class Node:
    """One recorded operation: where gradients go next, and how they get there.

    Whoever makes one has checked its inputs: `record` does, and `check_inplace` before `record_inplace`.
    """

    __slots__ = ("__weakref__", "edges", "fresh", "function", "meta", "name", "saved")

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tensor],
        function: BackwardFunction,
        saved: Sequence[Storage] = (),
        fresh: bool = False,
    ) -> None:
        self.name = name
        self.fresh = fresh
        self.edges: tuple[Node | Tensor | None, ...] = tuple(
            (tensor.node or tensor) if tensor.requires_grad else None for tensor in inputs
        )
        self.meta = tuple((tensor.array.shape, tensor.array.dtype) for tensor in inputs)
        self.function: BackwardFunction | None = function
        self.saved: tuple[tuple[Storage, int], ...] = tuple((storage, storage.version) for storage in saved)
        for storage in saved:
            storage.add_saver(self)

    def __repr__(self) -> str:
        return f"<{self.name} backward>"

    def run(self, gradient: Array) -> tuple[Array | None, ...]:
        """Return the gradients of the inputs, each in its input's shape and dtype."""
        if self.function is None:
            raise RuntimeError(_SECOND_BACKWARD)
        for storage, version in self.saved:
            if storage.version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"{self.name} saved it at version {version}, it is at version {storage.version} now"
                )
        return tuple(
            None if g is None else _fit(g, shape, dtype)
            for g, (shape, dtype) in zip(self.function(gradient), self.meta, strict=True)
        )

    def release(self) -> None:
        """Let go of the saved values and of the rest of the graph."""
        self.function = None
        self.edges = ()
        for storage, _ in self.saved:
            storage.drop_saver(self)
        self.saved = ()


def _check_known(tensor: Tensor, name: str) -> None:
    """Raise RuntimeError if how the tensor's values came about is not known any more."""
    # A view that does not require grad is no better than one that does: what was written into its memory may.
    if tensor.graph_version not in (DETACHED, UNRECORDED, tensor.storage.graph_version):
        raise RuntimeError(
            f"{name}: this tensor shares memory with another one that was changed in place by a recorded operation, "
            "so its gradient is no longer known; use the tensor that was changed, or drop inplace=True"
        )


def _fit(gradient: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Undo broadcasting (sum over the axes that were stretched) and promotion (cast back)."""
    if gradient.shape != shape:
        extra = gradient.ndim - len(shape)
        stretched = tuple(i + extra for i, n in enumerate(shape) if n == 1 and gradient.shape[i + extra] != 1)
        gradient = gradient.sum(axis=tuple(range(extra)) + stretched, keepdims=True).reshape(shape)
    return gradient if gradient.dtype == dtype else gradient.astype(dtype)


def _topological(root: Node) -> list[Node]:
    """Return the nodes that `root` depends on, every one before the nodes it sends gradients to."""
    order: list[Node] = []
    seen: set[Node] = {root}
    # A stack of iterators instead of recursion: a graph may be deeper than Python's recursion limit.
    stack = [(root, iter(root.edges))]
    while stack:
        node, edges = stack[-1]
        for edge in edges:
            if isinstance(edge, Node) and edge not in seen:
                seen.add(edge)
                stack.append((edge, iter(edge.edges)))
                break
        else:
            order.append(node)
            stack.pop()
    order.reverse()
    return order


class Watch(Protocol):
    """Who wants to know of gradients while backward goes on."""

    def expect(self, leaves: list[Tensor]) -> None:
        """Before anything else: the leaves that the result was computed from."""

    def ready(self, leaf: Tensor) -> None:
        """The gradient of a leaf is whole."""


class _Uses:
    """How often each leaf is still going to be given a gradient."""

    def __init__(self, order: Sequence[Node], watch: Watch) -> None:
        self.watch = watch
        self.left: dict[int, int] = {}
        leaves: dict[int, Tensor] = {}
        for node in order:
            for edge in node.edges:
                if edge is not None and not isinstance(edge, Node):
                    self.left[id(edge)] = self.left.get(id(edge), 0) + 1
                    leaves.setdefault(id(edge), edge)
        watch.expect(list(leaves.values()))

    def past(self, node: Node) -> None:
        for edge in node.edges:
            if edge is not None and not isinstance(edge, Node):
                self.left[id(edge)] -= 1
                if not self.left[id(edge)] and edge.grad is not None:
                    self.watch.ready(edge)


def backward(root: Tensor, gradient: Array, retain_graph: bool = False, watch: Watch | None = None) -> None:
    """Add the gradient of `root` (weighted by `gradient`) to the `.grad` of every leaf it was computed from."""
    if root.node is None:
        if watch:
            watch.expect([root])
        _accumulate(root, gradient, False)
        if watch:
            watch.ready(root)
        return
    _check_known(root, "backward")
    gradients: dict[Node, Array] = {root.node: gradient}
    order = _topological(root.node)
    uses = _Uses(order, watch) if watch else None
    for node in order:
        incoming = gradients.pop(node, None)
        if incoming is None:
            if uses:
                uses.past(node)
            continue
        for edge, g in zip(node.edges, node.run(incoming), strict=True):
            if edge is None or g is None:
                continue
            if isinstance(edge, Node):
                before = gradients.get(edge)
                gradients[edge] = g if before is None else before + g
            else:
                _accumulate(edge, g, node.fresh)
        if uses:
            uses.past(node)
        if not retain_graph:
            node.release()


def _accumulate(leaf: Tensor, gradient: Array, fresh: bool) -> None:
    if leaf.grad is None:
        # A copy, where the same array may be the gradient of something else that is still on its way.
        leaf.grad = leaf.detached(gradient if fresh else gradient.copy())
        return
    leaf.grad.array += gradient
    leaf.grad.storage.version += 1


# --- recording ------------------------------------------------------------------------------------------------------


def record(
    name: str,
    array: Any,
    inputs: Sequence[Tensor],
    function: BackwardFunction,
    *,
    saved: Sequence[Tensor] = (),
    saves_result: bool = False,
    view: bool = False,
    fresh: bool = False,
) -> Tensor:
    """Return the result of an operation as a tensor, with a node on the tape where a gradient can flow.

    Parameters
    ----------
    name : str
        The operation, as error messages and `repr` shall name it.
    array : numpy.ndarray
        The result.
    inputs : sequence of Tensor
        What it was computed from.
    function : callable
        Takes the gradient of the result and returns one gradient (or None) per input. Gradients may come in the
        broadcast shape and in another dtype; the node sums and casts them.
    saved : sequence of Tensor
        The tensors whose values `function` reads. Changing them in place is refused while the node lives.
    saves_result : bool
        Whether `function` reads the result itself.
    view : bool
        Whether `array` may share memory with the first input.
    fresh : bool
        Whether each gradient is an array of its own, made by `function` and held by nobody else: a leaf may keep it.
    """
    result = inputs[0].detached(np.asarray(array))
    if view and np.may_share_memory(result.array, inputs[0].array):
        result.storage = inputs[0].storage
        result.graph_version = inputs[0].graph_version
        if not _mode.enabled and inputs[0].requires_grad:
            result.graph_version = UNRECORDED
    if _mode.enabled:
        for tensor in inputs:
            _check_known(tensor, name)
    if _mode.enabled and any(tensor.requires_grad for tensor in inputs):
        storages = [tensor.storage for tensor in saved]
        if saves_result:
            storages.append(result.storage)
        result.set_node(Node(name, inputs, function, storages, fresh))
    return result


def check_inplace(tensor: Tensor, name: str) -> None:
    """Raise RuntimeError if changing `tensor` in place would spoil a gradient, ValueError if it is read-only."""
    if not tensor.array.flags.writeable:
        raise ValueError(f"{name}: cannot work in place, the tensor's memory is read-only")
    if not _mode.enabled:
        return  # Under no_grad the version count still guards every backward that has saved the values.
    _check_known(tensor, name)
    if tensor.graph_version == UNRECORDED:
        raise RuntimeError(
            f"{name}: cannot work in place on a view that was taken under no_grad, whose gradient is not known; "
            "take the view outside of no_grad, or change it inside"
        )
    if tensor.requires_grad and tensor.node is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if tensor.requires_grad and tensor.storage.has_leaf:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    saver = tensor.storage.saver()
    if saver is not None:
        raise RuntimeError(
            f"{name}: cannot work in place, the backward of {saver} needs the values that would be overwritten; "
            "use inplace=False here"
        )


def record_inplace(name: str, tensor: Tensor, function: BackwardFunction) -> None:
    """Note that `tensor` (already checked, already changed) went through an operation in place."""
    tensor.storage.version += 1
    if _mode.enabled and tensor.requires_grad:
        replace_node(tensor, Node(name, (tensor,), function))


def replace_node(tensor: Tensor, node: Node) -> None:
    """Make `node` the origin of a tensor that was changed in place; other views of its memory are stale from now on."""
    tensor.storage.graph_version += 1
    tensor.graph_version = tensor.storage.graph_version
    tensor.set_node(node)
