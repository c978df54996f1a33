"""PyTorch as a contender. It has no ``out=`` for dropout: its outputs are allocated in each call, as its users' are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import HIDDEN, Arrays, Case
from .ready import Answer, Ready

__all__ = ["PREPARE", "array", "own_dropout", "package", "prepare_step", "settings", "tensor"]


def package() -> Any:
    """PyTorch itself."""
    return importlib.import_module("torch")


def own_dropout() -> None:
    """Let PyTorch's dropout be its own, if anybody has changed that."""
    drop_in = sys.modules.get("fastdrop.torch")
    if drop_in is not None:
        drop_in.disable()


def settings(case: Case) -> Callable[[], None]:
    """What sets its threads."""
    torch = package()

    def enter() -> None:
        own_dropout()
        if torch.get_num_threads() != case.threads:
            torch.set_num_threads(case.threads)

    return enter


def tensor(values: NDArray[Any]) -> Any:
    """A tensor over the same memory."""
    torch = package()
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def array(tensor: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The way back."""
    torch = package()
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array.view(dtype)


def _forward(case: Case, arrays: Arrays) -> Ready:
    dropout, x, p = package().nn.functional.dropout, tensor(arrays.x), case.p
    return Ready(lambda: dropout(x, p), lambda y: Answer((array(y, arrays.dtype),)), settings(case))


def _forward_backward(case: Case, arrays: Arrays) -> Ready:
    torch = package()
    dropout, grad, p = torch.nn.functional.dropout, torch.autograd.grad, case.p
    x, dy = tensor(arrays.x).requires_grad_(), tensor(arrays.dy)

    def call() -> tuple[Any, Any]:
        y = dropout(x, p)
        return y, grad(y, x, dy)[0]

    return Ready(call, lambda both: Answer(tuple(array(t, arrays.dtype) for t in both)), settings(case))


def _in_place(case: Case, arrays: Arrays) -> Ready:
    dropout, y, p = package().nn.functional.dropout, tensor(arrays.y), case.p
    return Ready(
        lambda: dropout(y, p, inplace=True), lambda _: Answer((arrays.y,)), settings(case), refill=arrays.refill
    )


def _spatial(case: Case, arrays: Arrays) -> Ready:
    dropout, x, p = package().nn.functional.dropout2d, tensor(arrays.x), case.p
    if case.family == "spatial-nchw":
        return Ready(lambda: dropout(x, p), lambda y: Answer((array(y, arrays.dtype),)), settings(case))
    x = x.permute(0, 3, 1, 2)  # what PyTorch calls channels_last

    def answer(y: Any) -> Answer:
        return Answer((array(y.permute(0, 2, 3, 1).contiguous(), arrays.dtype),))

    return Ready(lambda: dropout(x, p), answer, settings(case))


def _bits(case: Case, arrays: Arrays) -> Ready:
    torch = package()
    kept, keep = torch.empty(case.n, dtype=torch.bool), 1 - case.p
    return Ready(lambda: kept.bernoulli_(keep), lambda kept: Answer((kept.numpy(),)), settings(case))


def prepare_step(case: Case, arrays: Arrays, dropout: bool = True) -> Ready:
    """A training step of PyTorch, with dropout or without."""
    from .steps import CLASSES, FEATURES, check_dropped, check_learns, examples, training_step

    torch = package()
    nn = torch.nn
    images, labels = (torch.from_numpy(array) for array in examples(case))
    hidden = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU())
    drop = nn.Dropout(case.p) if dropout else nn.Identity()
    model = nn.Sequential(hidden, drop, nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    call = training_step(optimizer, lambda: nn.functional.cross_entropy(model(images), labels))

    def verify() -> None:
        check_learns(lambda: call().item())
        if dropout:
            before = hidden(images).detach()
            check_dropped(case, before.numpy(), drop(before).numpy())

    return Ready(call, enter=settings(case), verify=verify)


def _network(case: Case, arrays: Arrays) -> Ready:
    """A training step of a whole network."""
    from . import networks

    torch = package()
    return networks.prepare(case, torch.nn, torch.optim, torch.from_numpy, settings(case))


PREPARE = {
    "forward": _forward,
    "forward+backward": _forward_backward,
    "in-place": _in_place,
    "spatial-nchw": _spatial,
    "spatial-nhwc": _spatial,
    "mask-bits": _bits,
    "small-calls": _forward,
    "training-step": prepare_step,
    "cnn-step": _network,
    "mlp-step": _network,
}
