"""JAX as a contender, compiled, on as many threads as it takes. Dropout is written as Flax writes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Arrays, Case
from .ready import Answer, Ready

__all__ = ["PREPARE"]


def _jax() -> Any:
    return importlib.import_module("jax")


def _stateful(function: Callable[..., Any], *inputs: Any) -> Callable[[], Any]:
    """Compile ``function(key, *inputs)``; the key of the next call is made inside, so that a call is one dispatch."""
    jax = _jax()

    @jax.jit
    def step(key: Any, *inputs: Any) -> tuple[Any, Any]:
        key, now = jax.random.split(key)
        return key, function(now, *inputs)

    key = jax.random.key(0)

    def call() -> Any:
        nonlocal key
        key, outputs = step(key, *inputs)
        return jax.block_until_ready(outputs)

    return call


def _dropped(x: Any, key: Any, case: Case) -> Any:
    jax = _jax()
    kept = jax.random.bernoulli(key, 1 - case.p, case.maps if case.family.startswith("spatial") else x.shape)
    if case.family.startswith("spatial"):
        kept = case.over(kept)
    return jax.numpy.where(kept, x / (1 - case.p), jax.numpy.zeros_like(x))


def _forward(case: Case, arrays: Arrays) -> Ready:
    call = _stateful(lambda key, x: _dropped(x, key, case), _jax().numpy.asarray(arrays.x))
    return Ready(call, lambda y: Answer((np.asarray(y),)))


def _forward_backward(case: Case, arrays: Arrays) -> Ready:
    jax = _jax()

    def both(key: Any, x: Any, dy: Any) -> tuple[Any, Any]:
        y, back = jax.vjp(lambda x: _dropped(x, key, case), x)
        return y, back(dy)[0]

    call = _stateful(both, jax.numpy.asarray(arrays.x), jax.numpy.asarray(arrays.dy))
    return Ready(call, lambda outputs: Answer(tuple(map(np.asarray, outputs))))


def _bits(case: Case, arrays: Arrays) -> Ready:
    jax = _jax()
    call = _stateful(lambda key: jax.random.bernoulli(key, 1 - case.p, (case.n,)))
    return Ready(call, lambda kept: Answer((np.asarray(kept),)))


PREPARE = {
    "forward": _forward,
    "forward+backward": _forward_backward,
    "spatial-nchw": _forward,
    "spatial-nhwc": _forward,
    "mask-bits": _bits,
    "small-calls": _forward,
}
