"""`accelerate`: the dropouts of a model that exists, given fastdrop's forward.

A module stays the object it is, with its attributes and hooks; its class becomes a subclass of what it was.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fastdrop._core import Generator
from fastdrop._reporting import say
from fastdrop.random import check_generator
from fastdrop.torch import functional, modules
from fastdrop.torch.connections import DropConnectLinear
from fastdrop.torch.parts import Parts, check_parts
from fastdrop.torch.weight_drop import WeightDrop

__all__ = ["accelerate"]

_Model = TypeVar("_Model", bound=nn.Module)


class _Path(nn.Module):
    """timm's DropPath, and those of the models in transformers."""

    drop_prob: float | None
    scale_by_keep: bool = True
    generator: Generator | None = None
    shard: Parts = None

    def forward(self, x: Tensor) -> Tensor:
        p = self.drop_prob or 0.0
        return functional.path(x, p, self.training, "row", self.scale_by_keep, self.generator, self.shard)


class _Depth(nn.Module):
    """torchvision's StochasticDepth."""

    p: float
    mode: str
    generator: Generator | None = None
    shard: Parts = None

    def forward(self, input: Tensor) -> Tensor:
        return functional.path(input, self.p, self.training, self.mode, True, self.generator, self.shard)


_FORWARDS: dict[type[nn.Module], type[nn.Module]] = {
    cls: getattr(modules, cls.__name__)
    for cls in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
}
#: Package and end of the name of classes that are not imported for this.
_NAMED = {("timm", "DropPath"): _Path, ("transformers", "DropPath"): _Path, ("torchvision", "StochasticDepth"): _Depth}
_OURS = (modules.Drawing, DropConnectLinear, *_NAMED.values())


def _known(cls: type) -> type[nn.Module] | None:
    """The class with fastdrop's forward for modules of a class."""
    if cls in _FORWARDS:
        return _FORWARDS[cls]
    package = cls.__module__.partition(".")[0]
    return next((ours for (root, end), ours in _NAMED.items() if package == root and cls.__name__.endswith(end)), None)


def _reduce(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Copies and pickles name the two classes, since nobody can import the one made of them."""
    reduced: Any = super(type(module), module).__reduce_ex__(protocol)
    return _blank, type(module).__bases__, *reduced[2:]


def _scriptable(module: nn.Module) -> nn.Module:
    """What torch.jit.script compiles: theirs, which `enable` reaches, but no generator nor part."""
    given = [name for name in ("generator", "shard") if getattr(module, name) is not None]
    if module.training and given:
        raise RuntimeError(
            f"torch.jit.script takes no {' nor '.join(given)}, but {type(module).__name__} was accelerated with it: "
            "use torch.compile or torch.export, or eval() before"
        )
    twin = copy(module)
    twin.__class__ = type(module).__bases__[1]
    return twin


def _blank(ours: type[nn.Module], theirs: type[nn.Module]) -> nn.Module:
    cls = _combined(ours, theirs)
    return cls.__new__(cls)


_made: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}


def _combined(ours: type[nn.Module], theirs: type[nn.Module]) -> type[nn.Module]:
    """Their class with our forward, under its own name: torch.fx tells by that what it does not look into."""
    if (ours, theirs) not in _made:
        names = {name: getattr(theirs, name) for name in ("__module__", "__qualname__", "__doc__")}
        added = {"__reduce_ex__": _reduce, "__prepare_scriptable__": _scriptable}
        _made[ours, theirs] = type(theirs.__name__, (ours, theirs), {**names, **added})
    return _made[ours, theirs]


def _swap(module: nn.Module, given: dict[str, Any]) -> str:
    """Swap one module's forward: "swapped", "" for what is no dropout, or fastdrop's already, or why it is left."""
    theirs: Any = type(module)
    if isinstance(module, _OURS):
        vars(module).update(given)
        return "swapped" if given else ""
    if isinstance(module, WeightDrop):
        return "drops weights, and takes generator= and shard= itself" if given else ""
    parts = "shard" in given
    reached = f"; fastdrop.torch.enable({'shard=...' if parts else ''}) reaches it"
    beyond = "; fastdrop.torch.enable(shard=...) does not reach it" if parts else reached
    if isinstance(module, torch.jit.ScriptModule):
        return f"is TorchScript{beyond}" if "Drop" in module.original_name else ""
    for cls in theirs.__mro__:
        ours = _known(cls)
        if ours is not None:
            if theirs.forward is not cls.forward or "forward" in vars(module):
                return "has a forward of its own"
            module.__class__ = _combined(ours, theirs)
            vars(module).update(given)
            return "swapped"
    if isinstance(module, nn.MultiheadAttention) and module.dropout > 0:
        return f"drops in a function{reached}"
    if isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1:
        return f"drops in C++{beyond}"
    return "is not known" if "Drop" in theirs.__name__ and not any(True for _ in module.children()) else ""


def accelerate(
    model: _Model, verbose: bool = True, *, generator: Generator | None = None, shard: Parts = None
) -> _Model:
    """Let fastdrop do the dropout of a model's modules, in place.

    These are torch.nn's dropouts, timm's DropPath, torchvision's StochasticDepth and the DropPaths of transformers, and
    subclasses of all of them that do not replace ``forward``. A module stays the same object, with its attributes,
    hooks and mode; its class becomes a subclass of what it was. Parameters and ``state_dict`` do not change.

    Parameters
    ----------
    model : torch.nn.Module
        A dropout itself, or what has some in it.
    verbose : bool
        Say on standard error what was done, and which dropouts were left and why.
    generator : fastdrop.Generator, optional
        Where all of them take their masks from, each its next call; PyTorch's default generator if not given. Modules
        of fastdrop, and those that were accelerated before, are given it too, but for `WeightDrop`.
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole the inputs of all of them are, likewise; see `functional.dropout`.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Raises
    ------
    TypeError
        If `model` is no module, `generator` no `fastdrop.Generator`, or `shard` no `fastdrop.Shard`.

    Notes
    -----
    nn.MultiheadAttention and recurrent layers drop in functions of PyTorch, and code may call ``F.dropout``: for these
    there is `enable`. What modules compute is `functional.dropout`'s and its kin's. A module's `shard` stays what it is
    until its backward has run, where activation checkpointing computes the forward pass again. ``torch.jit.script``
    puts PyTorch's own modules back, also in the model itself, and refuses `generator` and `shard` in training.

    Examples
    --------
    >>> import fastdrop.torch, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.1))
    >>> accelerate(model, verbose=False) is model
    True
    >>> model[1], isinstance(model[1], fastdrop.torch.Dropout)
    (Dropout(p=0.1, inplace=False), True)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model has to be a torch.nn.Module, but got a {type(model).__name__}")
    check_generator(generator)
    check_parts(shard)
    given = {name: value for name, value in (("generator", generator), ("shard", shard)) if value is not None}
    swapped: Counter[str] = Counter()
    left: dict[tuple[str, str], list[str]] = {}
    for name, module in model.named_modules():
        kind, outcome = type(module).__name__, _swap(module, given)
        if outcome == "swapped":
            swapped[kind] += 1
        elif outcome:
            left.setdefault((kind, outcome), []).append(name or "the model")
    if verbose:
        found = ", ".join(f"{count} {kind}" for kind, count in swapped.items())
        say(f"accelerated {found or 'nothing: no module is a dropout that it knows'}")
        for (kind, outcome), names in left.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            say(f"left {names[0]}{more}: {kind} {outcome}")
    return model
