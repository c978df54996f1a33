"""Where the masks' numbers come from: PyTorch's default generator, or a `fastdrop.Generator` of one's own.

A call under PyTorch's generator draws one number below 2**62, the key, and its call is 0. A call under a generator
takes that generator's next call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from fastdrop._core import Generator, take_call
from fastdrop.random import check_generator

__all__ = ["KEYS", "checkpoint_contexts", "draw", "draw_key", "seed_of", "seed_tensor"]


#: Keys are below: the remainder that `random_`, with no limit to check, and vmap's `randint` agree on.
KEYS = 2**62


class _Word(threading.local):
    """A thread's memory for the number that is drawn: a tensor for each would take three times as long."""

    def __init__(self) -> None:
        with torch.inference_mode(False):  # an inference tensor could not be written to outside
            word = torch.empty((), dtype=torch.int64, device="cpu")
        self.random, self.read = word.random_, word.numpy().item


_word = _Word()


def draw(generator: Generator | None) -> tuple[int, int]:
    """The key and the call of the next mask."""
    if generator is not None:
        return take_call(generator)
    _word.random()
    return _word.read() % KEYS, 0


def draw_key(generator: torch.Generator | None) -> int:
    """A key from one of PyTorch's generators: what `draw` gives for the default."""
    if generator is None:
        return draw(None)[0]
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator).item()) % KEYS


def seed_tensor(key: int, call: int) -> torch.Tensor:
    """(key, call) as int64 of the same bits: what the operator takes, and traces can hold."""
    words = [n - 2**64 if n >= 2**63 else n for n in (key, call)]
    return torch.tensor(words, dtype=torch.int64, device="cpu")


def seed_of(seed: torch.Tensor) -> tuple[int, int]:
    """What `seed_tensor` was made from; a single number is a key, and the call is 0."""
    if seed.dim() == 0:
        return int(seed.item()) % 2**64, 0
    key, call = seed.tolist()
    return key % 2**64, call % 2**64


@contextmanager
def _recorded(generators: tuple[Generator, ...], states: list[Any]) -> Iterator[None]:
    states[:] = [generator.state for generator in generators]
    yield


@contextmanager
def _replayed(generators: tuple[Generator, ...], states: list[Any]) -> Iterator[None]:
    now = [generator.state for generator in generators]
    for generator, state in zip(generators, states):
        generator.state = state
    try:
        yield
    finally:
        for generator, state in zip(generators, now):
            generator.state = state


def checkpoint_contexts(*generators: Generator) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Make a checkpointed region draw the same masks from `generators` when it is computed again.

    ``torch.utils.checkpoint`` restores PyTorch's own generators, so this is needed for ``generator=`` alone. Bind the
    generators and give the function as ``context_fn``.

    Parameters
    ----------
    *generators : fastdrop.Generator
        All that the region's modules draw from.

    Returns
    -------
    forward, recompute : context managers

    Raises
    ------
    TypeError
        If one is no `fastdrop.Generator`.

    Notes
    -----
    What else says which masks are drawn has to be in backward what it was in the forward pass: a module's ``shard``
    stays until its backward has run, and a block of `enabled` holds both.

    Examples
    --------
    >>> import functools, fastdrop, torch
    >>> from torch.utils.checkpoint import checkpoint
    >>> rng = fastdrop.Generator(seed=0)
    >>> layer = fastdrop.torch.Dropout(generator=rng)
    >>> x = torch.ones(4, requires_grad=True)
    >>> y = checkpoint(layer, x, use_reentrant=False, context_fn=functools.partial(checkpoint_contexts, rng))
    """
    for generator in generators:
        if check_generator(generator) is None:
            raise TypeError("generators have to be fastdrop.Generators, but got None")
    states: list[Any] = []
    return _recorded(generators, states), _replayed(generators, states)
