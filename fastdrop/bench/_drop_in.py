"""fastdrop.torch as a contender: the same PyTorch programs, with its own dropout, with fastdrop's, and with none."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._core import Mask
from . import _ours
from ._torch import array, package, settings, tensor
from .cases import TOKENS, Arrays, Case
from .networks import images, mlp
from .ready import Ready, check_law
from .steps import CLASSES, check_learns, training_step

__all__ = ["OURS", "PLAIN", "THEIRS"]


def _package() -> Any:
    return importlib.import_module("fastdrop.torch")


def _next_mask(case: Case) -> Mask:
    """The mask of the next call; PyTorch's generator stays as it is."""
    stream, rng = importlib.import_module("fastdrop.torch.stream"), package().random
    state = rng.get_rng_state()
    key, call = stream.draw(None)
    rng.set_rng_state(state)
    return Mask(key, call, case.p, (case.n,))


def _threads(case: Case, on: bool) -> Callable[[], None]:
    """What sets threads, PyTorch's and fastdrop's, and whose dropout PyTorch has."""
    theirs, ours, drop_in = settings(case), _ours.settings(case), _package()

    def enter() -> None:
        theirs()
        ours()
        if on:
            drop_in.enable()

    return enter


def _function(case: Case, arrays: Arrays) -> Ready:
    """`dropout` of fastdrop.torch.functional, with its gradient or without."""
    torch, drop_in = package(), _package()
    dropout, grad, p = drop_in.functional.dropout, torch.autograd.grad, case.p
    x, dy = tensor(arrays.x), tensor(arrays.dy)

    def both() -> tuple[Any, Any]:
        y = dropout(x, p)
        return y, grad(y, x, dy)[0]

    backward = case.family == "forward+backward"
    call: Callable[[], Any] = both if backward else lambda: (dropout(x, p),)
    if backward:
        x.requires_grad_()

    def verify() -> None:
        mask = _next_mask(case)
        for given, found in zip((arrays.x, arrays.dy), call()):
            check_law(mask, given, array(found, arrays.dtype))

    return Ready(call, enter=_threads(case, on=False), verify=verify)


def _transformer(torch: Any, case: Case, p: float) -> tuple[Callable[[], Any], Any]:
    """Four encoder layers, d 256, 4 heads, 1024; sequences of 128."""
    nn = torch.nn
    layer = nn.TransformerEncoderLayer(256, 4, 1024, p, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(256, CLASSES))
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((case.n // TOKENS, 128, 256), np.float32))
    labels = x[..., :CLASSES].argmax(-1).flatten()
    return lambda: nn.functional.cross_entropy(model(x).flatten(0, 1), labels), model


def _perceptron(torch: Any, case: Case, p: float) -> tuple[Callable[[], Any], Any]:
    model = mlp(torch.nn, p)
    x, labels = (torch.from_numpy(values) for values in images(case))
    return lambda: torch.nn.functional.cross_entropy(model(x), labels), model


_STEPS = {"torch-transformer": _transformer, "torch-mlp": _perceptron}


def _step(case: Case, arrays: Arrays, on: bool = False, dropout: bool = True) -> Ready:
    """A training step: forward, cross entropy, backward, SGD."""
    torch = package()
    torch.manual_seed(0)
    loss_of, model = _STEPS[case.family](torch, case, case.p if dropout else 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    call = training_step(optimizer, loss_of)

    def verify() -> None:
        mask, ones = _next_mask(case), torch.ones(case.n)
        found = torch.nn.functional.dropout(ones, case.p)
        if on:
            check_law(mask, ones.numpy(), found.numpy())
        check_learns(lambda: call().item())

    return Ready(call, enter=_threads(case, on), verify=verify)


OURS: dict[str, Any] = {
    "forward": _function,
    "forward+backward": _function,
    **dict.fromkeys(_STEPS, partial(_step, on=True)),
}
THEIRS = dict.fromkeys(_STEPS, _step)
PLAIN = dict.fromkeys(_STEPS, partial(_step, dropout=False))
