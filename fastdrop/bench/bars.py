"""The bars that fastdrop has to clear, as something that runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .cases import FAMILIES, PIXELS, Arrays, Case, count
from .paired import Outcome, Skipped, Spread, compare, spread

__all__ = ["BARS", "Bar", "Cleared", "run"]


@dataclass(frozen=True)
class Bar:
    """A case, a rival, and how many times the rival's time may be taken.

    Parameters
    ----------
    key : str
        To select it by.
    case : Case
    against : str or None
        As for `compare`; None: `limit` is in microseconds for a whole call.
    limit : float
    who : str
        The contender that has to clear it.
    """

    key: str
    case: Case
    against: str | None
    limit: float
    who: str = "fastdrop"


def _bars() -> Iterator[Bar]:
    half, tenth = 0.5, 0.1

    def large(key: str, limit: float, p: float = half, against: str = "copy", n: int = 2**26, **more: object) -> Bar:
        return Bar(key, Case("forward", n, p=p, **{"isa": "avx512", **more}), against, limit)  # type: ignore[arg-type]

    yield large("float32-p.5", 1.08)
    yield large("float32-p.1", 1.25, tenth)
    yield large("float32-p.5-2t", 1.10, threads=2)
    yield large("float32-p.1-2t", 1.15, tenth, threads=2)
    yield large("float64-p.5", 1.05, dtype="float64")
    yield large("float64-p.1", 1.05, tenth, dtype="float64")
    yield large("bfloat16-p.1", 1.35, tenth, dtype="bfloat16")
    yield large("float16-p.1", 1.35, tenth, dtype="float16")
    yield large("cache-p.5", 1.5, against="memcpy", n=2**17)
    yield large("cache-p.1", 2.5, tenth, "memcpy", 2**17)
    for layout, limit in (("nchw", 1.05), ("nhwc", 1.10)):
        yield Bar(f"spatial-{layout}", Case(f"spatial-{layout}", 2**24, p=0.2, isa="avx512"), "copy", limit)
    yield large("avx2-p.5", 1.25, isa="avx2")
    yield large("avx2-p.1", 1.9, tenth, isa="avx2")
    for threads, limit in ((1, 1 / 20), (2, 1 / 35)):
        for n in (2**14, 2**17, 2**20, 2**24):
            for p in (half, tenth):
                case = Case("forward+backward", n, p=p, threads=threads)
                size = count(n).replace(" ", "")
                yield Bar(f"torch-{size}-{'p.5' if p == half else 'p.1'}-{threads}t", case, "torch", limit)

    def product(key: str, limit: float, against: str = "dense", work: str = "", **more: object) -> Bar:
        family = f"dropconnect{work}"
        case = Case(family, FAMILIES[family].full, isa="avx512", **more)  # type: ignore[arg-type]
        return Bar(f"dropconnect-{key}", case, against, limit)

    yield product("p.5", 3)
    yield product("dx", 3.5, work="-dx")
    yield product("dw", 3.5, work="-dw")
    yield product("p.1", 9, p=tenth)
    yield product("both-2t", 0.6, "fastdrop:1", "-both", threads=2)
    yield product("einsum", 1 / 150, "numpy-stored")
    for key, limit in (("cnn-step", 1.3), ("mlp-step", 0.8)):
        yield Bar(key, Case(key, 128 * PIXELS, threads=2), "torch", limit)
    for n in (2**20, 2**26):
        case = Case("forward+backward", n, threads=2)
        yield Bar(f"drop-in-{count(n).replace(' ', '')}", case, "torch", 1 / 20, "fastdrop-torch")
    # Dropout's share of a step: 5 and 6 % of it are these times the step without.
    for key, p, share in (("torch-transformer", tenth, 0.05), ("torch-mlp", half, 0.06)):
        case = Case(key, FAMILIES[key].full, p=p, threads=2)
        yield Bar(key.replace("torch", "drop-in"), case, "torch-plain", round(1 / (1 - share), 3), "fastdrop-torch")
    yield Bar("call-us", Case("small-calls", 256), None, 1.0)
    yield Bar("call-torch", Case("small-calls", 256), "torch", 0.1)


#: All of them, in the order of their table.
BARS = tuple(_bars())


@dataclass(frozen=True)
class Cleared:
    """How a bar went: the figure to compare with its limit, or why there is none."""

    bar: Bar
    figure: Spread | None
    outcome: Outcome | None
    skipped: str | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the median is at most the limit; None if it was skipped."""
        return None if self.figure is None else self.figure.median <= self.bar.limit


@lru_cache(maxsize=1)
def _arrays(family: str, n: int, dtype: str) -> Arrays:
    return Arrays(Case(family, n, dtype))


def run(bars: Sequence[Bar] = BARS, rounds: int = 15) -> Iterator[Cleared]:
    """Run bars, one after the other.

    Parameters
    ----------
    bars : sequence of Bar
    rounds : int
        Of each.

    Yields
    ------
    Cleared
    """
    for bar in bars:
        case = bar.case
        try:
            arrays = _arrays(case.family, case.n, case.dtype)
            outcome = compare(bar.who, bar.against or "memcpy", case, rounds, arrays=arrays)
        except Skipped as why:
            yield Cleared(bar, None, None, str(why))
            continue
        if bar.against is None:
            yield Cleared(bar, spread([t * 1e6 for t in outcome.times[outcome.first]]), outcome)
        else:
            yield Cleared(bar, outcome.ratio, outcome)
