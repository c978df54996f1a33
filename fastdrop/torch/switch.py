"""`enable` and `disable`: PyTorch's own dropouts by fastdrop's kernels, for code that cannot be touched.

It takes two things. The functions of torch.nn.functional are replaced, which the compiler sees: it guards on them, so
that what it made before is not used after. And the CPU's operators are overridden, which reaches what no name leads to:
the dropout within C++ (LSTM, attention), TorchScript, and functions imported under other names.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import handle_torch_function, has_torch_function, has_torch_function_unary

from fastdrop._checks import check_p
from fastdrop._core import Mask
from fastdrop.shards import check_shards
from fastdrop.torch import functional
from fastdrop.torch.drop import check_overlap, ours
from fastdrop.torch.ops import CODES, fill
from fastdrop.torch.originals import ORIGINALS
from fastdrop.torch.parts import Parts, check_parts
from fastdrop.torch.stream import draw_key

__all__ = ["disable", "enable", "enabled"]

_Kernel = Callable[..., Tensor]
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_exporting = getattr(torch.compiler, "is_exporting", bool)  # since PyTorch 2.7
_transformed = torch._C._are_functorch_transforms_active
_compiler = functools.partial(torch._C._dispatch_tls_is_dispatch_key_included, torch._C.DispatchKey.PythonDispatcher)


def _plain(x: Tensor) -> bool:
    """Whether x is the kernels'.

    It is not where the compiler traces, which has replaced functions and no use for an operator, nor under torch.func's
    transforms, which have no Function within an operator: PyTorch's operators are taken apart there, to `bernoulli_`.
    """
    return (type(x) is Tensor or type(x) is Parameter) and ours(x) and not (_compiler() or _transformed())


def _as_before(op: Any, *args: Any, **kwargs: Any) -> Tensor:
    y: Tensor = op.decompose(*args, **kwargs) if _compiler() else op._op_dk(_COMPOSITE, *args, **kwargs)
    return y


def _check_whole(name: str) -> None:
    """Refuse what no name leads to where tensors are parts: in C++ the examples are along another axis, or a third."""
    if _switch.shard is not None:
        raise RuntimeError(
            f"{name}: enable(shard=...) reaches calls of torch.nn.functional by that name, but this one came from C++, "
            "as in nn.LSTM, from a function imported under another name, or from what torch.jit or torch.export "
            "records: use a fastdrop module with shard= there"
        )


def _operator(name: str, function: Callable[[Tensor, float, bool, bool], Tensor]) -> tuple[Any, _Kernel]:
    """An operator (input, p, train), and the kernel to put before it."""
    op = getattr(torch.ops.aten, name).default
    inplace = name.endswith("_")

    def kernel(input: Tensor, p: float, train: bool) -> Tensor:
        if train and 0.0 < p <= 1.0:
            _check_whole(name)
        if 0.0 <= p <= 1.0 and _plain(input):
            return function(input, p, train, inplace)
        return _as_before(op, input, p, train)

    return op, kernel


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    p = args[1] if len(args) > 1 else options.get("dropout_p", 0.0)
    if 0.0 < p <= 1.0:
        _check_whole("scaled_dot_product_attention")
        if _plain(query) and _plain(key) and _plain(value):
            return functional.scaled_dot_product_attention(query, key, value, *args, **options)
    return _as_before(torch.ops.aten.scaled_dot_product_attention.default, query, key, value, *args, **options)


#: What PyTorch's own fills; `CODES` has those that need no copy.
_FILLED = {*CODES, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def _bernoulli_(x: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """1 where a mask of p drops, 0 elsewhere. Errors are PyTorch's."""
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    if x.dtype not in _FILLED:
        raise NotImplementedError(f'"bernoulli_scalar_cpu_" not implemented for {x.dtype}')
    check_overlap(x)
    if x.numel() == 0:
        return x
    key = draw_key(generator)
    if x.dtype in CODES:
        return fill((key, 0, p, None, None, 0.0, 0.0, 1.0, None), x)
    dropped = np.logical_not(Mask(key, 0, p, tuple(x.shape)))
    return x.copy_(torch.from_numpy(dropped))


def _feature(alpha: bool) -> Callable[[Tensor, float, bool, bool], Tensor]:
    return lambda input, p, train, inplace: functional.feature(input, p, train, inplace, 1, alpha, None)


_OPERATORS = [
    _operator(name + end, function)
    for name, function in {
        "dropout": functional.dropout,
        "alpha_dropout": functional.alpha_dropout,
        "feature_dropout": _feature(False),
        "feature_alpha_dropout": _feature(True),
    }.items()
    for end in ("", "_")
] + [(torch.ops.aten.scaled_dot_product_attention.default, _attention)]


def _function(original: _Kernel) -> _Kernel:
    """What stands in for a function of torch.nn.functional."""
    function: _Kernel = getattr(functional, original.__name__)
    in_training: bool = inspect.signature(original).parameters["training"].default

    @functools.wraps(original)
    def call(input: Tensor, p: float = 0.5, training: bool = in_training, inplace: bool = False) -> Tensor:
        # As PyTorch's does, but for who is handed on: it would find this one under its name.
        if has_torch_function_unary(input):
            return handle_torch_function(original, (input,), input, p=p, training=training, inplace=inplace)
        if training and _switch.shard is not None:
            p = check_p(p)
            if p > 0.0 and _exporting():
                _check_whole(original.__name__)
        # Odd values of p reach fastdrop behind the original.
        if type(p) is not float or not isinstance(input, Tensor) or _exporting():
            return original(input, p, training, inplace)
        if training and p > 0.0 and _switch.shard is not None:
            return function(input, p, training, inplace, shard=_switch.shard)
        return function(input, p, training, inplace)

    call.__prepare_scriptable__ = lambda: original  # type: ignore[attr-defined]  # for torch.jit.script
    return call


def _check_examples(name: str, rank: int, merged: bool) -> None:
    """Refuse parts that are not of examples: the first of `rank` axes of weights, where heads may follow each."""
    for shard in check_shards(_switch.shard):  # type: ignore[arg-type]
        if shard.axis not in (0, -rank) or (merged and shard.interleaved):
            raise ValueError(
                f"{name}: enable(shard=...) has to be of axis 0, the examples' in attention weights"
                f"{', and not interleaved where these are returned' if merged else ''}, but got {shard}: give "
                "shard= to fastdrop.torch.functional.scaled_dot_product_attention instead"
            )


@functools.wraps(ORIGINALS["scaled_dot_product_attention"])
def _attention_function(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *args: Any,
    **options: Any,
) -> Tensor:
    tensors = (query, key, value, attn_mask)
    if _switch.shard is not None:
        dropout_p = check_p(dropout_p)
        if dropout_p > 0.0 and _exporting():
            _check_whole("scaled_dot_product_attention")
    if type(dropout_p) is not float or not dropout_p or has_torch_function(tensors) or _exporting():
        return ORIGINALS["scaled_dot_product_attention"](query, key, value, attn_mask, dropout_p, *args, **options)
    if _switch.shard is not None:
        if isinstance(query, Tensor) and isinstance(key, Tensor):  # else it is refused behind this
            _check_examples("scaled_dot_product_attention", max(query.dim(), key.dim()), merged=False)
        options["shard"] = _switch.shard
    return functional.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, *args, **options)


_heads = ORIGINALS["multi_head_attention_forward"]


@functools.wraps(_heads)
def _heads_function(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    *args: Any,
    **options: Any,
) -> Any:
    """Here for its check: weights that are returned have three axes, of which examples and heads are the first."""
    if _switch.shard is not None and training and dropout_p > 0.0 and need_weights:
        _check_examples("multi_head_attention_forward", 3, merged=True)
    given = (
        query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn,
        dropout_p, out_proj_weight, out_proj_bias, training, key_padding_mask, need_weights, *args,
    )  # fmt: skip
    tensors = query, key, value, in_proj_weight, in_proj_bias, bias_k, bias_v, out_proj_weight, out_proj_bias
    if has_torch_function(tensors):
        return handle_torch_function(_heads, tensors, *given, **options)
    return _heads(*given, **options)


_heads_function.__prepare_scriptable__ = lambda: _heads  # type: ignore[attr-defined]
torch.jit._builtins._register_builtin(_attention_function, "aten::scaled_dot_product_attention")

_FUNCTIONS: dict[str, _Kernel] = {
    **{name: _function(original) for name, original in ORIGINALS.items() if "dropout" in name},
    "scaled_dot_product_attention": _attention_function,
    "multi_head_attention_forward": _heads_function,
}


class _Switch:
    """Whether PyTorch's dropouts are fastdrop's: a count of who wants it, and what undoes it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stays = False
        self.stays_shard: Parts = None  # of `enable`
        #: Who wants it besides, in the order they came, and their parts: blocks of threads end in any order.
        self.blocks: dict[object, Parts] = {}
        self.library: torch.library.Library | None = None
        #: Which part of the whole the inputs of torch.nn.functional's functions are. The compiler guards on it.
        self.shard: Parts = None

    def stay(self, stays: bool, shard: Parts = None) -> None:
        with self.lock:
            self.stays, self.stays_shard = stays, shard
            self._change()

    def begin(self, block: object, shard: Parts) -> None:
        with self.lock:
            self.blocks[block] = shard
            self._change()

    def end(self, block: object) -> None:
        with self.lock:
            del self.blocks[block]
            self._change()

    def _change(self) -> None:
        """What follows from the above."""
        given = [shard for shard in self.blocks.values() if shard is not None]
        self.shard = given[-1] if given else self.stays_shard
        if (self.stays or bool(self.blocks)) != (self.library is not None):
            if self.library is None:
                self._replace(ORIGINALS, _FUNCTIONS)
                self.library = self._override()
            else:
                self._replace(_FUNCTIONS, ORIGINALS)
                self.library._destroy()
                self.library = None
            for op, _ in _OPERATORS:  # where it was decided which kernel a trace takes
                op._dispatch_cache.clear()
        if self.shard is not None:
            self._let_the_compiler_look()

    @staticmethod
    def _let_the_compiler_look() -> None:
        """See to it that the compiler looks into our functions, where it finds the part, and guards on it.

        It does not where it takes them for PyTorch's: when it is first imported, it lists what is in PyTorch's places.
        """
        rules = importlib.import_module("torch._dynamo.trace_rules").get_torch_obj_rule_map()
        mistaken = [name for name, function in _FUNCTIONS.items() if function in rules]
        for name in mistaken:
            rules[ORIGINALS[name]] = rules.pop(_FUNCTIONS[name])
        # This one calls others of ours, and would be as a whole in what is made.
        rules.pop(ORIGINALS["multi_head_attention_forward"], None)
        if mistaken:  # what it made of them has to be forgotten
            importlib.import_module("torch._dynamo").reset()

    @staticmethod
    def _replace(old: dict[str, _Kernel], new: dict[str, _Kernel]) -> None:
        """Where somebody else has put a function of theirs, it stays: the operators are behind it."""
        for name, function in new.items():
            if getattr(torch.nn.functional, name) is old[name]:
                setattr(torch.nn.functional, name, function)

    @staticmethod
    def _override() -> torch.library.Library:
        library = torch.library.Library("aten", "IMPL")
        for op, kernel in _OPERATORS:
            library.impl(op, kernel, "AutogradCPU")
        with warnings.catch_warnings():  # that this replaces a kernel
            warnings.simplefilter("ignore")
            library.impl(torch.ops.aten.bernoulli_.float, _bernoulli_, "CPU")
        return library


_switch = _Switch()


def _taken(shard: Parts) -> Parts:
    """The argument `shard`; None for no part at all."""
    check_parts(shard)
    return shard or None


def enable(shard: Parts = None) -> None:
    """Let fastdrop's kernels do the dropout of all PyTorch code in this process, until `disable`.

    On CPU tensors of float32, float64, float16 and bfloat16 that is: ``F.dropout`` and its kin, nn.Dropout and its kin,
    nn.MultiheadAttention, nn.Transformer and its layers, ``F.scaled_dot_product_attention`` with `dropout_p`, nn.LSTM,
    GRU and RNN between layers, TorchScript, and `Tensor.bernoulli_` with a number for p, in all dtypes. Models that
    were made before, and functions that were imported under other names, are included. All else stays PyTorch's.

    Parameters
    ----------
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole the inputs of all functions of torch.nn.functional are, as in `functional.dropout`: of a
        batch, where all tensors have their examples along axis 0, as with ``batch_first=True``. Attention refuses other
        axes, and nn.MultiheadAttention that gives its weights parts that are `interleaved`. What these functions do not
        lead to is refused: dropout in C++, and under other names. `Tensor.bernoulli_` knows of no parts, nor does what
        ends there: functions under other names in torch.func's transforms. Modules of fastdrop take their own
        ``shard=``, not this one; `accelerate` gives it to them.

    Raises
    ------
    TypeError
        If `shard` is no `fastdrop.Shard`.

    Notes
    -----
    Masks come from PyTorch's generator (or the one given to `bernoulli_`), but are others than PyTorch's for the same
    seed; see `functional.dropout` for what is guaranteed. Functions that torch.compile has traced are traced again.
    Under it, what C++ draws within LSTM stays PyTorch's, as does what `torch.export` and `torch.jit.trace` record.
    Enable and disable while no other thread runs PyTorch's operators. With activation checkpointing, backward computes
    the forward pass again: it has to run while the same is enabled, with the same `shard`.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> fastdrop.torch.enable()
    >>> _ = torch.manual_seed(0)
    >>> y = torch.nn.functional.dropout(torch.ones(1000), 0.5)  # by fastdrop
    >>> fastdrop.torch.disable()
    """
    _switch.stay(True, _taken(shard))


def disable() -> None:
    """Undo `enable`: PyTorch's functions and operators are what they were. Blocks of `enabled` last until they end.

    Examples
    --------
    >>> import fastdrop.torch
    >>> fastdrop.torch.disable()
    """
    _switch.stay(False)


@contextmanager
def enabled(shard: Parts = None) -> Iterator[None]:
    """`enable` for the extent of a ``with`` block or, as a decorator, of a function.

    Parameters
    ----------
    shard : fastdrop.Shard or sequence of Shard, optional
        As of `enable`; that of `enable`, or of the block around, if not given.

    Notes
    -----
    With activation checkpointing, backward belongs into the block: it computes the forward pass again.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> with fastdrop.torch.enabled():
    ...     y = torch.nn.functional.dropout(torch.ones(1000), 0.5)
    """
    block, shard = object(), _taken(shard)
    _switch.begin(block, shard)
    try:
        yield
    finally:
        _switch.end(block)
