"""Objects that raise, lie, or change things while they are looked at."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop.nn import Tensor

from .context import Context


class Evil(Exception):
    """What an argument's own code raises: it is the caller's, and has to come through."""


def boom(*_: Any, **__: Any) -> Any:
    raise Evil("from an argument's own code")


def having(base: type = object, *args: Any, **methods: Any) -> Any:
    """An object whose class has these methods, made from `base`."""
    return type("Evil" + base.__name__.title(), (base,), methods)(*args)


def in_turn(*values: Any) -> Callable[..., Any]:
    """A method that answers differently each time."""
    calls = iter(range(10**9))
    return lambda *_, **__: values[next(calls) % len(values)]


class Sequence:
    """Says that it is of some length, and gives ones without end."""

    def __init__(self, length: Any) -> None:
        self.length = length

    def __len__(self) -> Any:
        return self.length if self.length != np.inf else sys.maxsize

    def __getitem__(self, index: Any) -> Any:
        if index >= 10**5:  # NumPy and list() would never end
            raise IndexError(index)
        return 1


class Lying(np.ndarray):  # type: ignore[type-arg]
    """An array that is asked, and says what is not so."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return (10**6,)

    @property
    def strides(self) -> Any:  # type: ignore[override]
        return (8,)

    @property
    def size(self) -> Any:
        return 10**6

    @property
    def ndim(self) -> Any:
        return 1


class RaisingArray(np.ndarray):  # type: ignore[type-arg]
    """An array none of whose properties can be had."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("shape", "strides", "dtype", "flags", "astype", "reshape", "transpose", "copy"):
            raise Evil(name)
        return super().__getattribute__(name)


class FinalizingArray(np.ndarray):  # type: ignore[type-arg]
    """An array whose views cannot be made."""

    def __array_finalize__(self, of: Any) -> None:
        if of is not None and type(of) is FinalizingArray:
            raise Evil("__array_finalize__")


class LyingTensor(Tensor):
    """A tensor whose array is another each time that it is asked for."""

    def __init__(self) -> None:
        self._turns = 0
        super().__init__(np.ones((4, 6), np.float32))

    @property
    def array(self) -> Any:  # type: ignore[override]
        self._turns += 1
        return np.ones((4, 6) if self._turns % 2 else (6, 4, 2), np.float32)

    @array.setter
    def array(self, value: Any) -> None:
        pass


def _meddle(context: Context) -> None:
    """Change the other arguments' arrays, as their owner may do at any moment."""
    for a in context.arrays():
        try:
            what = context.source.randrange(4)
            if what == 0:
                a.shape = (a.size,)
            elif what == 1:
                a.shape = (1,) * 20 + (a.size,)
            elif what == 2:
                a.setflags(write=False)
            else:
                a.dtype = np.dtype(f"i{a.dtype.itemsize}")
        except (AttributeError, TypeError, ValueError):
            pass
    for value in context.arguments.values():
        if isinstance(value, list):
            value.clear()
        elif isinstance(value, dict) and value is not context.arguments:
            value.clear()


def _meddler(context: Context, answer: Any) -> Callable[..., Any]:
    def method(*_: Any, **__: Any) -> Any:
        _meddle(context)
        return answer

    return method


def recursive_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def recursive_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


def closed_file() -> Any:
    file = io.BytesIO(b"abc")
    file.close()
    return file


def flipping(context: Context) -> Any:
    """An array whose shape another thread changes all the time."""
    a = np.ones((64, 96), np.float32)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            for shape in ((96, 64), (6144,), (1, 64, 96), (64, 96)):
                with suppress(ValueError):  # where the other thread has made something else of it
                    a.shape = shape

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    context.cleanup.append(end)
    return a


def _claims(kind: type) -> Any:
    return having(__class__=property(lambda self: kind))


def _stopping() -> Iterator[int]:
    yield 1
    boom()


F32 = np.ones((4, 6), np.float32)

OBJECTS: dict[str, Callable[[Context], Any]] = {
    "raises in __index__": lambda c: having(__index__=boom),
    "raises in __float__": lambda c: having(float, 0.5, __float__=boom),
    "an int that raises in __index__": lambda c: having(int, 3, __index__=boom, __int__=boom, __float__=boom),
    "raises in __array__": lambda c: having(__array__=boom),
    "raises ValueError in __array__": lambda c: having(__array__=lambda *a, **k: int("x")),
    "raises in __len__": lambda c: having(__len__=boom, __getitem__=boom, __iter__=boom),
    "raises in __eq__": lambda c: having(__eq__=boom, __hash__=boom, __bool__=boom),
    "raises in __repr__": lambda c: having(__repr__=boom, __str__=boom, __format__=boom),
    "raises in __bool__": lambda c: having(__bool__=boom),
    "raises in __getattr__": lambda c: having(__getattr__=boom),
    "raises in __iter__": lambda c: having(__iter__=boom),
    "a list that ends in an error": lambda c: _stopping(),
    "a str that raises in __eq__": lambda c: having(str, "mean", __eq__=boom, __hash__=boom),
    "a tuple that raises in __iter__": lambda c: having(tuple, (4, 6), __iter__=boom),
    "a tuple that lies in __len__": lambda c: having(tuple, (4, 6), __len__=lambda s: 10**9),
    "a list that lies in __len__": lambda c: having(list, [4, 6], __len__=in_turn(2, 0, 100)),
    "a negative __len__": lambda c: having(__len__=lambda s: -1, __getitem__=lambda s, i: range(2)[i]),
    "an endless sequence": lambda c: Sequence(3),
    "a dict that raises in __getitem__": lambda c: having(dict, {"key": 1, "call": 2}, __getitem__=boom),
    "a dict that raises in keys": lambda c: having(dict, {"weight": F32}, keys=boom, __iter__=boom, items=boom),
    "__index__ in turn": lambda c: having(__index__=in_turn(1, -1, 2**70, 0)),
    "a huge __index__": lambda c: having(__index__=lambda s: 2**63),
    "__index__ is no int": lambda c: having(__index__=lambda s: "a"),
    "a float that lies": lambda c: having(float, 0.5, __float__=in_turn(0.5, float("nan"), 7.0)),
    "__float__ alone": lambda c: having(__float__=lambda s: 0.5),
    "__array__ in turn": lambda c: having(
        __array__=in_turn(np.ones((4, 6), np.float32), np.ones((64, 64)), np.ones((), "U3"))
    ),
    "__array__ is no array": lambda c: having(__array__=lambda *a, **k: 3),
    "__array_interface__ is nothing": lambda c: having(__array_interface__=None),
    "__array_interface__ of no memory": lambda c: having(
        __array_interface__={"version": 3, "shape": (3,), "typestr": "<f4", "data": None}
    ),
    "shape flips in a thread": flipping,
    "meddles in __index__": lambda c: having(__index__=_meddler(c, 1)),
    "meddles in __float__": lambda c: having(float, 0.5, __float__=_meddler(c, 0.5)),
    "meddles in __array__": lambda c: having(__array__=_meddler(c, np.ones((4, 6), np.float32))),
    "meddles in __len__": lambda c: having(__len__=_meddler(c, 2), __getitem__=lambda s, i: range(2)[i]),
    "meddles in __iter__": lambda c: having(__iter__=lambda s: iter([_meddle(c), 4, 6][1:])),
    "meddles in __bool__": lambda c: having(__bool__=_meddler(c, True)),
    "meddles in __eq__": lambda c: having(str, "mean", __eq__=_meddler(c, True), __hash__=lambda s: hash("mean")),
    "an array without properties": lambda c: np.ones((4, 6), np.float32).view(RaisingArray),
    "an array without views": lambda c: np.ones((4, 6), np.float32).view(FinalizingArray),
    "a lying array": lambda c: np.ones((4, 6), np.float32).view(Lying),
    "a tensor that lies": lambda c: LyingTensor(),
    "claims to be an array": lambda c: _claims(np.ndarray),
    "claims to be a mask": lambda c: _claims(fd.Mask),
    "claims to be a generator": lambda c: _claims(fd.Generator),
    "claims to be a tensor": lambda c: _claims(Tensor),
    "claims to be a float": lambda c: _claims(float),
    "claims to be a tuple": lambda c: _claims(tuple),
}
