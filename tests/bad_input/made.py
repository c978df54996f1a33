"""What the tables are made of: arrays and masks, models, optimizers, data, and things that are broken."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim


def mask() -> fd.Mask:
    return fd.Mask(1, 2, 0.5, (4, 6))


def rng() -> fd.Generator:
    return fd.Generator(3)


def f32(*shape: int) -> Any:
    return lambda: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3))


def data() -> Any:
    return np.ones((8, 6), np.float32), np.arange(8) % 3


def parameter() -> nn.Parameter:
    made = nn.Parameter(np.ones((2, 3), np.float32))
    made.grad = nn.Tensor(np.ones((2, 3), np.float32))
    return made


def adam() -> optim.Optimizer:
    made = optim.Adam([parameter()], lr=0.1)
    made.step()
    return made


def two_groups() -> optim.Optimizer:
    return optim.SGD([{"params": [parameter()]}, {"params": [parameter()]}], lr=0.1)


def x(*shape: int) -> Any:
    return lambda: nn.Tensor(np.ones(shape, np.float32))


def fit(model: Any, data: Any, **changes: Any) -> Any:
    trained = {"epochs": 1, "optimizer": optim.SGD(model.parameters(), lr=0.1), **changes}
    return nn.fit(model, data, **trained)


def load(optimizer: Any, **changes: Any) -> None:
    optimizer.load_state_dict({**optimizer.state_dict(), **changes})


MODEL: dict[str, Any] = {"model": model}
RUN: dict[str, Any] = {"model": model, "data": data}
ADAM: dict[str, Any] = {"optimizer": adam}


def bare(kind: type) -> Any:
    return kind.__new__(kind)


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def closed() -> Any:
    file = io.BytesIO()
    file.close()
    return file
