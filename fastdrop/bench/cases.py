"""What is measured: families of work, one case of one, and the arrays that all its contenders share."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import check_p
from ..runtime import MAX_THREADS
from .kinds import KINDS, images

__all__ = [
    "DTYPES", "FAMILIES", "HIDDEN", "PIXELS", "TOKENS", "WIDTH", "Arrays", "Case", "Family", "count", "dtype_of",
    "parse_count",
]  # fmt: skip

Array = NDArray[Any]

DTYPES = ("float32", "float64", "float16", "bfloat16")

#: Width of the layer that the training step drops from.
HIDDEN = 512
#: Inputs and outputs of the layers whose weights are dropped, as in DropConnect's paper.
WIDTH = 800

#: Of an image that the networks see.
PIXELS = 28 * 28

#: Numbers in a sequence that the Transformer sees: 128 of 256.
TOKENS = 128 * 256

#: More elements than a machine holds.
MAX_N = 2**40

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


class Family(NamedTuple):
    """One kind of work.

    Parameters
    ----------
    title, does : str
        In a report.
    full : int
        Its size where nothing else is asked for.
    floor : str
        What its limit does.
    inputs : int
        How many inputs the copies read.
    limit : str
        What its limit is called.
    dtypes : tuple of str
        What it takes.
    multiple : int
        What n has to be a multiple of.
    """

    title: str
    full: int
    does: str
    floor: str = "the copy of x to y"
    inputs: int = 1
    limit: str = "the copy"
    dtypes: tuple[str, ...] = DTYPES
    multiple: int = 1


def _dropconnect(title: str, does: str, floor: str) -> Family:
    """An element is a weight of an example: one decision, one multiply-add; (n, O, I) where others have x's shape."""
    return Family(
        title, 128 * WIDTH**2, f"{does} of ({WIDTH}, {WIDTH}) weights with a mask for each of n / {WIDTH}² examples",
        f"the dense product{'s' if ',' in floor else ''} {floor}, in NumPy", limit="the dense product",
        dtypes=("float32", "float64"), multiple=WIDTH**2,
    )  # fmt: skip


FAMILIES = {
    "forward": Family("forward", 2**26, "`y = dropout(x)`, a new mask each time"),
    "forward+backward": Family(
        "forward + backward",
        2**24,
        "`y = dropout(x)`, and dx from dy under the same mask",
        "the copies of x to y, dy to dx",
    ),
    "in-place": Family("in place", 2**24, "`y = dropout(y)`", "the copy of x to y, which touches twice the memory"),
    "spatial-nchw": Family("spatial, channels first", 2**24, "Whole feature maps of (N, C, H, W)"),
    "spatial-nhwc": Family("spatial, channels last", 2**24, "Whole feature maps of (N, H, W, C)"),
    "mask-bits": Family(
        "mask bits",
        2**24,
        "The keep decisions alone, packed where a contender does so",
        "the copy of n / 8 bytes",
    ),
    "small-calls": Family("small calls", 256, "One call, as a small layer makes it"),
    "training-step": Family(
        "training step",
        128 * HIDDEN,
        f"Linear, ReLU, Dropout, Linear ({HIDDEN} hidden units, n / {HIDDEN} examples), loss, backward and SGD step",
        "the copy of the n numbers that dropout sees",
        dtypes=("float32",),
        multiple=HIDDEN,
    ),
    "dropconnect": _dropconnect("DropConnect", "`y = dropconnect(x, w)`", "`x @ w.T`"),
    "dropconnect-dx": _dropconnect("DropConnect, dx", "The gradient of x", "`dy @ w`"),
    "dropconnect-dw": _dropconnect("DropConnect, dw", "The gradient of w", "`dy.T @ x`"),
    "dropconnect-both": _dropconnect(
        "DropConnect, forward + backward", "y, dx and dw", "`x @ w.T`, `dy @ w`, `dy.T @ x`"
    ),
    "cnn-step": Family(
        "training step of a CNN",
        128 * PIXELS,
        "Two convolutions (32, 64) with ReLU, pooling and dropout, two dense layers, on n / 784 images; backward, Adam",
        "the copy of the images",
        dtypes=("float32",),
        multiple=PIXELS,
    ),
    "mlp-step": Family(
        "training step of an MLP",
        128 * PIXELS,
        "784-800-800-10 with ReLU and dropout, on n / 784 images; backward, Adam",
        "the copy of the images",
        dtypes=("float32",),
        multiple=PIXELS,
    ),
    "torch-mlp": Family(
        "training step of an MLP in PyTorch",
        128 * PIXELS,
        "784-800-800-10 with ReLU and nn.Dropout, on n / 784 images; backward, SGD",
        "the copy of the images",
        dtypes=("float32",),
        multiple=PIXELS,
    ),
    "torch-transformer": Family(
        "training step of a Transformer in PyTorch",
        16 * TOKENS,
        f"nn.TransformerEncoder: 4 layers, d 256, 4 heads, 1024, on n / {TOKENS} sequences of 128; backward, SGD",
        "the copy of the input",
        dtypes=("float32",),
        multiple=TOKENS,
    ),
}
for _name, _kind in KINDS.items():
    _floor = "the copy of x to y" if _kind.inputs == 1 else "a copy of as many bytes: 3 n / 2 elements"
    FAMILIES[_name] = Family(_kind.title, 2**22, _kind.does, _floor, _kind.inputs)


def parse_count(text: str) -> int:
    """Read a number of elements: ``256``, ``16Ki``, ``64Mi``, ``1.5M``.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse_count("64Mi"), parse_count("16Ki"), parse_count("256"), parse_count("1.5M")
    (67108864, 16384, 256, 1500000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or float(match[1]) * unit < 1 or float(match[1]) * unit % 1:
        raise ValueError(f"n has to be a number of elements such as 256, 16Ki or 64Mi, but got {text!r}")
    return round(float(match[1]) * unit)


def count(n: int) -> str:
    """Write a number of elements the short way.

    Examples
    --------
    >>> count(2**26), count(2**14), count(1000), count(3 * 2**19)
    ('64 Mi', '16 Ki', '1000', '1536 Ki')
    """
    for power, unit in ((20, "Mi"), (10, "Ki")):
        if n >= 2**power and n % 2**power == 0:
            return f"{n >> power} {unit}"
    return str(n)


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype of a name of `DTYPES`.

    Raises
    ------
    ImportError
        For bfloat16 without the package that defines it.

    Examples
    --------
    >>> dtype_of("float16")
    dtype('float16')
    """
    scalar: Any = importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name
    found: np.dtype[Any] = np.dtype(scalar)
    return found


@dataclass(frozen=True)
class Case:
    """One point: what to do, on what, with what.

    Parameters
    ----------
    family : str
        Of `FAMILIES`.
    n : int
        Elements of the input.
    dtype : str
        Of `DTYPES`.
    p : float
        Probability to drop.
    threads : int
        What contenders may use that can be told.
    isa : str, optional
        fastdrop's instruction set; the one in use if not given.

    Raises
    ------
    ValueError
        If one of them is none that can be measured.

    Examples
    --------
    >>> Case("spatial-nhwc", 2**24).shape
    (64, 64, 64, 64)
    """

    family: str
    n: int
    dtype: str = "float32"
    p: float = 0.5
    threads: int = 1
    isa: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("family", FAMILIES), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} has to be one of {', '.join(known)}, but got {getattr(self, name)!r}")
        if not 0 < check_p(self.p) < 1:
            raise ValueError(f"p has to be inside 0 to 1: elsewhere nothing is drawn, but got {self.p}")
        for name, most in (("n", MAX_N), ("threads", MAX_THREADS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} has to be from 1 to {most}, but got {getattr(self, name)}")
        if (self.family.startswith("spatial") or self.family in KINDS) and self.n & (self.n - 1):
            raise ValueError(f"n of {self.family} has to be a power of two, but got {self.n}")
        family = FAMILIES[self.family]
        if self.dtype not in family.dtypes:
            raise ValueError(f"{self.family} has to be {' or '.join(family.dtypes)}, but got {self.dtype}")
        if self.n % family.multiple:
            raise ValueError(f"n of {self.family} has to be a multiple of {family.multiple}, but got {self.n}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The decisions' shape: flat, but for the further kinds, and for the spatial families: as equal as n allows.

        It is the arrays' too, but for DropConnect's: (B, O, I).
        """
        if self.family in KINDS:
            return KINDS[self.family].shape(self.n)
        if self.products:
            return (self.n // WIDTH**2, WIDTH, WIDTH)
        if not self.family.startswith("spatial"):
            return (self.n,)
        return images(self.n)

    @property
    def products(self) -> bool:
        """Whether the work is products of matrices under a mask of (B, O, I)."""
        return self.family.startswith("dropconnect")

    @property
    def maps(self) -> tuple[int, int]:
        """(N, C) of a spatial family."""
        return self.shape[0], self.shape[1 if self.family == "spatial-nchw" else 3]

    def over(self, kept: Array) -> Array:
        """Something per (N, C), as a view that broadcasts over the input."""
        view: Array = kept[:, :, None, None] if self.family == "spatial-nchw" else kept[:, None, None, :]
        return view

    def __str__(self) -> str:
        isa = f", {self.isa}" if self.isa else ""
        return f"{self.family}, {count(self.n)} {self.dtype}, p = {self.p:g}, threads {self.threads}{isa}"


def _empty(n: int, dtype: np.dtype[Any]) -> Array:
    """A line above a page: aligned for every kernel, and the same for every array, as large allocations are anyway."""
    raw = np.empty(n * dtype.itemsize + 4096 + 64, np.uint8)
    skip = -raw.ctypes.data % 4096 + 64
    return raw[skip : skip + n * dtype.itemsize].view(dtype)


class Arrays:
    """Input and output of a case. Every contender gets the same ones, so that none has the better pages.

    Examples
    --------
    >>> arrays = Arrays(Case("forward", 1000))
    >>> arrays.x.shape, bool(arrays.x.all())
    ((1000,), True)
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        packed = case.family == "mask-bits"
        self.dtype = np.dtype(np.uint8) if packed else dtype_of(case.dtype)
        self.shape = ((case.n + 7) // 8,) if packed else case.shape

    def _values(self, seed: int, *axes: int) -> Array:
        """From 1 to 2 with either sign: a zero of an output was dropped. In products it has these axes of the mask."""
        shape = tuple(self.shape[axis] for axis in axes) if self.case.products else self.shape
        size = int(np.prod(shape))
        rng = np.random.default_rng(seed)
        some = 1 + rng.random(min(size, 2**20 + 7), np.float32)
        some[rng.random(some.size, np.float32) < 0.5] *= -1
        array = _empty(size, self.dtype)
        few = some.view(np.uint8)[: some.size] if self.dtype == np.uint8 else some.astype(self.dtype)
        for begin in range(0, size, some.size):
            array[begin : begin + some.size] = few[: size - begin]
        return array.reshape(shape)

    def _output(self) -> Array:
        array = _empty(int(np.prod(self.shape)), self.dtype)
        array.view(np.uint8).fill(0)  # every page is there before the first timed write
        return array.reshape(self.shape)

    @cached_property
    def x(self) -> Array:
        """The input."""
        return self._values(0, 0, 2)

    @cached_property
    def w(self) -> Array:
        """The weights of a product."""
        return self._values(2, 1, 2)

    @cached_property
    def y(self) -> Array:
        """The output."""
        return self._output()

    @cached_property
    def dy(self) -> Array:
        """The gradient that comes in."""
        return self._values(1, 0, 1)

    @cached_property
    def dx(self) -> Array:
        """The gradient that goes out."""
        return self._output()

    def poison(self) -> None:
        """Fill the outputs with bytes that are no answer."""
        for array in (self.y, self.dx) if self.case.family == "forward+backward" else (self.y,):
            array.view(np.uint8).fill(0xA5)

    def refill(self) -> None:
        """Give the work in place its input back: after some rounds all would be dropped."""
        np.copyto(self.y, self.x)
