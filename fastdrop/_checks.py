"""Checks of arguments that every layer shares. They run before any memory is touched."""

from __future__ import annotations

import itertools
import numbers
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

MAX_NDIM = 64
LIMIT = 2**63  # bit indices and element counts stay below


def shown(value: Any) -> str:
    """What messages show of a value: its repr, on one line and not endless; its type where it has none.

    Examples
    --------
    >>> shown([0.5, "a"]), shown(10**5000), len(shown("x" * 10000))
    ("[0.5, 'a']", '<an int>', 200)
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # also where Python refuses to print so many digits, or so deep a list
        kind = type(value).__name__
        return f"<a{'n' if kind[0] in 'aeiouAEIOU' else ''} {kind}>"
    return text if len(text) <= 200 else f"{text[:197]}..."


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
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {value}")
    return value


def check_real(name: str, value: Any, what: str = "a real number") -> float:
    """`value` as a float; Python's and NumPy's real numbers are taken, bool is not."""
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real)):
        raise TypeError(f"{name} has to be {what}, but got {shown(value)} (a {type(value).__name__})")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} has to be {what}, but got a number that no float holds") from None
    except TypeError:  # a duration of NumPy's says that it is a number
        raise TypeError(f"{name} has to be {what}, but got {shown(value)} (a {type(value).__name__})") from None


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int with ``low <= value <= high``; bool is not taken."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        i = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} has to be an integer, but got {shown(value)} (a {type(value).__name__})") from None
    if not low <= i <= high:
        raise ValueError(f"{name} has to be between {low} and {high}, but got {shown(i)}")
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
                f"{name} has to be an integer or a tuple of integers, but got {shown(value)} (a {kind})"
            ) from None
        try:
            entries = tuple(itertools.islice(value, MAX_NDIM + 1))
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{name} has to be an integer or a tuple of integers, but got {shown(value)}: {error}"
            ) from error
    if len(entries) > MAX_NDIM:
        raise ValueError(f"{name} may have at most {MAX_NDIM} axes, but got more")
    single = len(entries) == 1
    return tuple(check_int(name if single else f"{name}[{i}]", n, low, LIMIT - 1) for i, n in enumerate(entries))


def is_int(value: Any) -> bool:
    """Whether a value is an integer of Python's or NumPy's; no bool, and no duration, which NumPy calls one."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def check_flags(**flags: Any) -> None:
    """Refuse what is neither True nor False: a string is true whatever it says, and an array is neither.

    Examples
    --------
    >>> check_flags(training="no")
    Traceback (most recent call last):
    TypeError: training has to be True or False, but got 'no' (a str)
    """
    for name, value in flags.items():
        if value is not True and value is not False and not isinstance(value, np.bool_):
            raise TypeError(f"{name} has to be True or False, but got {shown(value)} (a {type(value).__name__})")


def as_array(value: Any, name: str) -> NDArray[Any]:
    """The argument `name` as an array, by ``numpy.asarray``; what that refuses is told with the name.

    Examples
    --------
    >>> as_array([[1.0], [2.0, 3.0]], "x")
    Traceback (most recent call last):
    ValueError: x has to be an array, or what NumPy makes one of, but got [[1.0], [2.0, 3.0]] (a list)
    """
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        what = f"but got {shown(value)} (a {type(value).__name__})"
        raise kind(f"{name} has to be an array, or what NumPy makes one of, {what}") from error


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
