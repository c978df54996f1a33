"""A function to call, and arguments with which the call is right: what is wrong is put in their place, one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fastdrop as fd

from .context import Context

Good = Callable[[Context], Any]


@dataclass(frozen=True)
class Target:
    """One function, class or method of the public API.

    Attributes
    ----------
    name : str
    function : callable
    good : dict
        How to make a right value of each argument that is needed.
    may : dict
        And of those that may be given.
    others : tuple of str
        Arguments to be swept that are neither.
    spread : str
        The argument that is handed over as ``*args`` where it is a tuple.
    loud : tuple of exception types
        That are right here, beside those that are right everywhere.
    words : tuple of str
        By which messages may say what was wrong, beside the arguments' names.
    runs : bool
        Whether it runs for long, and may have changed what it trains before it comes to what is wrong.
    bits : bool
        Whether every instruction set gives the same bits, so that a call which turns out to be right can be compared.
    """

    name: str
    function: Callable[..., Any]
    good: Mapping[str, Good]
    may: Mapping[str, Good] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    spread: str = ""
    loud: tuple[type[BaseException], ...] = ()
    words: tuple[str, ...] = ()
    bits: bool = False
    runs: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """All arguments that are swept."""
        return tuple(dict.fromkeys((*self.good, *self.may, *self.others)))

    def call(self, arguments: dict[str, Any]) -> Any:
        """Call with arguments by name; those before ``/`` and ``*args`` in their places."""
        named = dict(arguments)
        positional: list[Any] = []
        try:
            signature = inspect.signature(self.function).parameters
        except (TypeError, ValueError):
            return self.function(**named)
        for name, parameter in signature.items():
            if parameter.kind is parameter.VAR_POSITIONAL and self.spread in named:
                value = named.pop(self.spread)
                positional += value if type(value) is tuple else [value]
            elif parameter.kind is parameter.POSITIONAL_ONLY and name in named:
                positional.append(named.pop(name))
            elif name == "self" and name in named:
                positional.append(named.pop(name))
        return self.function(*positional, **named)


def signature_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments; none where it does not tell."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "self")


def floats(*shape: int, dtype: Any = np.float32) -> Good:
    """Makes arrays of numbers around 0."""
    return lambda context: (np.arange(np.prod(shape), dtype=np.float64).reshape(shape) % 7 - 3).astype(dtype)


def poison(*shape: int, dtype: Any = np.float32) -> Good:
    """Makes outputs that show whether they were written to."""
    return lambda context: np.full(shape, -77, dtype)


def constant(value: Any) -> Good:
    return lambda context: value


def maker(value: Any) -> Good:
    """`value` itself where it makes values, and else what makes it each time; a class is a value."""
    return value if callable(value) and not isinstance(value, type) else constant(value)


def generator(context: Context) -> fd.Generator:
    return fd.Generator(context.source.randrange(2**32))


def mask(*shape: int, p: float = 0.5) -> Good:
    return lambda context: fd.Mask(1, 2, p, shape)
