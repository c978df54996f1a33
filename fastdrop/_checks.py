"""Checks of arguments that every layer shares. They run before any memory is touched."""

from __future__ import annotations

import itertools
import numbers
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np

MAX_NDIM = 64
LIMIT = 2**63  # bit indices and element counts stay below


def check_p(p: Any) -> float:
    """The probability to drop as a float.

    Parameters
    ----------
    p : real number
        Between 0 and 1; Python's and NumPy's numbers are taken, bool is not.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `p` is no real number.
    ValueError
        If `p` is negative, above 1 or NaN.

    Examples
    --------
    >>> check_p(np.float32(0.5))
    0.5
    >>> check_p(1.5)
    Traceback (most recent call last):
    ValueError: dropout probability has to be between 0 and 1, but got 1.5
    """
    value = check_real("dropout probability", p, "a number between 0 and 1")
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return value


def check_real(name: str, value: Any, what: str = "a real number") -> float:
    """`value` as a float; Python's and NumPy's real numbers are taken, bool is not."""
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)):
        raise TypeError(f"{name} has to be {what}, but got {value!r} (a {type(value).__name__})")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} has to be {what}, but got a number that no float holds") from None


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int with ``low <= value <= high``; bool is not taken."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        i = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} has to be an integer, but got {value!r} (a {type(value).__name__})") from None
    if not low <= i <= high:
        raise ValueError(f"{name} has to be between {low} and {high}, but got {i}")
    return i


def check_ints(name: str, value: Any, low: int) -> tuple[int, ...]:
    """An int, or a sequence of at most 64, as a tuple of ints from `low` to 2**63 - 1."""
    try:
        operator.index(value)
        entries = (value,)
    except TypeError:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            kind = type(value).__name__
            raise TypeError(
                f"{name} has to be an integer or a tuple of integers, but got {value!r} (a {kind})"
            ) from None
        entries = tuple(itertools.islice(value, MAX_NDIM + 1))
    if len(entries) > MAX_NDIM:
        raise ValueError(f"{name} may have at most {MAX_NDIM} axes, but got more")
    single = len(entries) == 1
    return tuple(check_int(name if single else f"{name}[{i}]", n, low, LIMIT - 1) for i, n in enumerate(entries))


def check_shape(shape: SupportsIndex | Iterable[SupportsIndex], name: str = "shape") -> tuple[int, ...]:
    """A shape as a tuple of ints; an int means one axis, as in NumPy.

    Raises
    ------
    TypeError
        If it holds something else than integers.
    ValueError
        If an entry is negative, there are more than 64, or they ask for 2**63 elements or more.
    """
    out = check_ints(name, shape, 0)
    size = 1
    for n in out:
        size *= max(n, 1)  # as NumPy: an empty axis does not excuse the others
    if size >= LIMIT:
        raise ValueError(f"{name} has to stay below 2**63 elements, but got {out}")
    return out
