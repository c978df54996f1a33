"""The contenders of the further kinds of dropout, made of their rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastdrop as fd

from . import _ours, _torch
from .cases import Arrays, Case
from .kinds import KINDS, Kind
from .ready import Ready

__all__ = ["NAIVE", "OURS", "TORCH"]

Array = NDArray[Any]


def _prepare_ours(kind: Kind, case: Case, arrays: Arrays) -> Ready:
    x, z, y, rng, p = arrays.x, arrays.dy, arrays.y, fd.Generator(0), case.p

    def call() -> None:
        kind.ours(x, z, y, p, rng)

    def verify() -> None:
        arrays.poison()
        call()
        kind.check(x, z, y, p)

    return Ready(call, enter=_ours.settings(case), verify=verify)


def _prepare_naive(kind: Kind, case: Case, arrays: Arrays) -> Ready:
    x, z, rng, p = arrays.x, arrays.dy, np.random.default_rng(0), case.p

    def call() -> Array:
        y: Array = kind.naive(x, z, p, rng).astype(x.dtype, copy=False)
        return y

    return Ready(call, verify=lambda: kind.check(x, z, call(), p))


def _prepare_torch(kind: Kind, case: Case, arrays: Arrays) -> Ready:
    torch, p = _torch.package(), case.p
    x, z = _torch.tensor(arrays.x), _torch.tensor(arrays.dy)

    def call() -> Any:
        return kind.torch(torch, x, z, p)

    def verify() -> None:
        kind.check(arrays.x, arrays.dy, _torch.array(call(), arrays.dtype), p)

    return Ready(call, enter=_torch.settings(case), verify=verify)


OURS = {name: partial(_prepare_ours, kind) for name, kind in KINDS.items()}
NAIVE = {name: partial(_prepare_naive, kind) for name, kind in KINDS.items()}
TORCH = {name: partial(_prepare_torch, kind) for name, kind in KINDS.items()}
