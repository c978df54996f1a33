"""The generator for those who pass none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._core import Generator

_default = Generator()


def default_generator() -> Generator:
    """The process-wide generator. It starts from fresh entropy; `manual_seed` makes it reproducible."""
    return _default


def manual_seed(seed: int | Sequence[int] | np.random.SeedSequence | None) -> Generator:
    """Seed the default generator, and return it.

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
