"""What every wrong call has to give, and how the tables of wrong calls are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from trust.sweep.context import Context
from trust.sweep.target import Target
from trust.sweep.watch import settings, state_of

#: What no wrong call may give, though some of these are kinds of what it may.
INNER = (SystemError, RecursionError, AssertionError, AttributeError, UnicodeError, NameError, UnboundLocalError)


class Wrong(NamedTuple):
    """One kind of wrong call: the argument, what is wrong with it, and what the message has to say.

    `value` makes the wrong value, given the arguments of a right call and the name. `says` are patterns: by custom one
    for the argument's name, one for the value, and one for what would be right; ``{name}`` stands for the name.
    """

    what: str
    value: Callable[[dict[str, Any], str], Any]
    error: type[BaseException] | tuple[type[BaseException], ...]
    says: tuple[str, ...]
    without: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


class Row(NamedTuple):
    """One wrong call written out: what it is made with, the call, and what the message has to say."""

    id: str
    made: dict[str, Callable[[], Any]]
    call: Callable[..., Any]
    error: type[BaseException] | tuple[type[BaseException], ...]
    says: tuple[str, ...]


def refuses(call: Callable[[], Any], watched: dict[str, Any], error: Any, says: tuple[str, ...]) -> None:
    """The call raises as it should, and leaves everything as it was."""
    before, world = {name: state_of(value) for name, value in watched.items()}, settings()
    with pytest.raises(error) as caught:
        call()
    assert not isinstance(caught.value, INNER), f"{caught.type.__name__} from the inside"
    message = str(caught.value)
    for pattern in says:
        assert re.search(pattern, message, re.DOTALL), f"no {pattern!r} in {message!r}"
    for name, value in watched.items():
        assert state_of(value) == before[name], f"{name} was changed"
    assert settings() == world


def refuses_row(row: Row) -> None:
    made = {name: make() for name, make in row.made.items()}
    refuses(lambda: row.call(**made), made, row.error, row.says)


def refuses_crossed(target: Target, name: str, wrong: Wrong) -> None:
    """A right call of the target, with one argument replaced; the right call is made first, on its own arguments."""
    context = Context(0, 0)
    target.call({k: make(context) for k, make in target.good.items()})
    context = Context(0, 0)
    arguments = {k: make(context) for k, make in target.good.items()}
    for other in ("rng", "generator", name, *wrong.needs):
        if other in target.may and other not in wrong.without:
            arguments[other] = target.may[other](context)
    arguments[name] = wrong.value(arguments, name)
    says = tuple(pattern.replace("{name}", name) for pattern in wrong.says)
    refuses(lambda: target.call(arguments), arguments, wrong.error, says)


def array_of(arguments: dict[str, Any], name: str = "") -> Any:
    """The argument itself as an array, or else the call's input: the first argument that has one."""
    for value in (arguments.get(name), *arguments.values()):
        found = getattr(value, "array", value)
        if isinstance(found, np.ndarray):
            return found
    raise LookupError("no array among the arguments")


def always(value: Any) -> Any:
    return lambda arguments, name: value


def like(change: Any) -> Any:
    """A wrong array made from the call's input."""
    return lambda arguments, name: change(array_of(arguments))


def own(change: Any) -> Any:
    """A wrong array made from the right one."""
    return lambda arguments, name: change(array_of(arguments, name))
