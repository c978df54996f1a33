"""The generator for those who pass none."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._core import Generator, give_back

_default = Generator()


class _StandIn(threading.local):
    generator: Generator | None = None


_stand_in = _StandIn()


def default_generator() -> Generator:
    """The process-wide generator. It starts from fresh entropy; `manual_seed` makes it reproducible.

    Inside `drawing_from` it is the generator given there, for that thread.
    """
    generator = _stand_in.generator
    return _default if generator is None else generator


@contextmanager
def drawing_from(generator: Generator) -> Iterator[Generator]:
    """Make `generator` the default one of this thread for a block; the process-wide one is neither used nor changed.

    Examples
    --------
    >>> import fastdrop as fd
    >>> with fd.random.drawing_from(fd.Generator(seed=3)) as rng:
    ...     assert fd.default_generator() is rng
    >>> fd.default_generator() is rng
    False
    """
    if check_generator(generator) is None:
        raise TypeError("generator has to be a fastdrop.Generator, but got None")
    before = _stand_in.generator
    _stand_in.generator = generator
    try:
        yield generator
    finally:
        _stand_in.generator = before


def check_generator(generator: Any, name: str = "generator") -> Generator | None:
    """The argument `name`, which has to be a `Generator` or None, itself."""
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"{name} has to be a fastdrop.Generator, but got a {type(generator).__name__}")
    return generator


@contextmanager
def refunding(generator: Generator) -> Iterator[Generator]:
    """Give back the calls that `generator` gave for a block that fails: a refused call of a function takes none.

    Where another thread has taken one since, or seeded the generator, nothing is given back: no two may get the same.

    Examples
    --------
    >>> import fastdrop as fd
    >>> rng = fd.Generator(seed=0)
    >>> try:
    ...     with refunding(rng):
    ...         rng.mask(3), int("x")
    ... except ValueError:
    ...     print(rng.call)
    0
    """
    key, before = generator.key, generator.call
    try:
        yield generator
    except BaseException:
        give_back(generator, key, before, generator.call)
        raise


def chosen_generator(generator: Any, name: str = "generator") -> Generator:
    """The generator that the argument `name` stands for: itself, or the default one for None."""
    return check_generator(generator, name) or default_generator()


def manual_seed(seed: int | Sequence[int] | np.random.SeedSequence | None) -> Generator:
    """Seed the process-wide generator, and return it.

    Parameters
    ----------
    seed : int, sequence of int, numpy.random.SeedSequence or None

    Examples
    --------
    >>> import fastdrop as fd
    >>> a = fd.manual_seed(1).mask(8)
    >>> b = fd.manual_seed(1).mask(8)
    >>> a == b
    True
    """
    return _default.manual_seed(seed)
