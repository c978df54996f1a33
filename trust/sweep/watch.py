"""What a refused call may not have changed: memory, masks' counters, weights, settings, files."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop.nn import Module, Tensor
from fastdrop.optim import Optimizer

_SHAPE, _BASE, _TOBYTES = (getattr(np.ndarray, name) for name in ("shape", "base", "tobytes"))


def memory(a: Any) -> Any:
    """The bytes that lie under an array, asked past what a subclass says; None where they are no numbers."""
    while isinstance(_BASE.__get__(a), np.ndarray):
        a = _BASE.__get__(a)
    dtype = np.ndarray.dtype.__get__(a)
    return None if dtype.hasobject else np.ndarray.tobytes(a)


def state_of(value: Any, depth: int = 0) -> Any:
    """What is to be the same afterwards, as something that compares."""
    kind = type(value)
    torch = sys.modules.get("torch")
    if issubclass(kind, np.ndarray):
        return memory(value)
    if issubclass(kind, Tensor):
        if kind is not Tensor and not hasattr(kind, "__init__"):
            return None
        grad = value.__dict__.get("grad")
        a = value.__dict__.get("array")
        return (
            memory(a) if a is not None else None,
            value.storage.version,
            None if grad is None else memory(grad.array),
        )
    if issubclass(kind, fd.Generator):
        return value.key, value.call
    if issubclass(kind, Module):
        if "_modules" not in value.__dict__:
            return None
        return tuple(
            (
                name,
                module.training,
                tuple((n, state_of(p)) for n, p in module._parameters.items()),
                tuple((n, state_of(b)) for n, b in module._buffers.items()),
                state_of(module.__dict__.get("generator")),
            )
            for name, module in value.named_modules()
        )
    if issubclass(kind, Optimizer):
        return (
            [(len(group["params"]), [state_of(p) for p in group["params"]]) for group in value.param_groups],
            [sorted((k, state_of(v)) for k, v in entry.items()) for entry in value.state.values()],
        )
    if torch is not None and issubclass(kind, torch.Tensor):
        return None if value.is_sparse or value.device.type != "cpu" else value.detach().clone().numpy().tobytes()
    if kind in (list, tuple) and depth < 3:
        return [state_of(item, depth + 1) for item in value[:8]]
    if kind is dict and depth < 3:
        return [(key, state_of(item, depth + 1)) for key, item in list(value.items())[:8] if type(key) is str]
    return None


def settings() -> Any:
    """What is of the whole process."""
    from fastdrop import nn

    return (
        fd.isa(),
        fd.get_num_threads(),
        state_of(fd.default_generator()),
        nn.is_grad_enabled(),
        sorted(os.listdir(".")),
    )
