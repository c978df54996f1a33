"""The run behind a report: every family, everybody who can compete, in turns with the copies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .. import runtime
from .cases import FAMILIES, PIXELS, TOKENS, WIDTH, Arrays, Case, count
from .contenders import CONTENDERS, Entry, entries, entry
from .kinds import KINDS
from .paired import Spread, fastest, interleave, settings_kept, spread
from .ready import Ready, WrongAnswer, check

__all__ = ["Group", "Plan", "Point", "Result", "plan", "run"]

#: A second thread is tried from here on; peers stop at the second of these, where one call takes up to a second.
THREADS_FROM, PEERS_TO = 2**17, 2**24


@dataclass(frozen=True)
class Group:
    """Everybody in one family at one size: they take turns.

    Parameters
    ----------
    case : Case
    isas : bool
        Whether fastdrop runs on every instruction set, or on the one in use only.
    names : tuple of str, optional
        Who competes, beside the limits; all if not given.
    """

    case: Case
    isas: bool = False
    names: tuple[str, ...] | None = None

    def __str__(self) -> str:
        # Threads and instruction sets are not told: they vary within.
        return f"{self.case.family}, {count(self.case.n)} {self.case.dtype}, p = {self.case.p:g}"


@dataclass(frozen=True)
class Plan:
    """What to run, and for how long: rounds at most, and seconds for the rounds of one group."""

    groups: tuple[Group, ...]
    rounds: int
    budget: float


@dataclass(frozen=True)
class Point:
    """One contender's times.

    Parameters
    ----------
    family, n, dtype, p
        The case.
    name, title, role : str
        The contender.
    isa : str or None
        fastdrop's.
    threads : int
        What it ran on; 0: as many as it took.
    seconds : tuple of float
        Per call, one for each round.
    copy : str
        The limit that it is compared with, and the threads of that: the fastest with at most as many threads. A copy,
        or the dense product.
    ratio : Spread
        Its time over the limit's, round by round.
    """

    family: str
    n: int
    dtype: str
    p: float
    name: str
    title: str
    role: str
    isa: str | None
    threads: int
    seconds: tuple[float, ...]
    copy: str
    ratio: Spread

    @property
    def nanoseconds(self) -> float:
        """The median, per element."""
        return spread(self.seconds).median * 1e9 / self.n

    @property
    def label(self) -> str:
        """Who, on what."""
        threads = {0: ", own threads", 1: ""}.get(self.threads, f", {self.threads} threads")
        return f"{self.title}{f' ({self.isa})' if self.isa else ''}{threads}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**asdict(self), "ratio": self.ratio._asdict(), "ns_per_element": self.nanoseconds}


@dataclass
class Result:
    """What a run gave.

    Parameters
    ----------
    points : list of Point
    skipped : dict
        Who did not run, and why.
    wrong : dict
        Who was not timed since the answer was wrong, and what about it.
    """

    points: list[Point] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {"points": [p.to_dict() for p in self.points], "skipped": self.skipped, "wrong": self.wrong}


def plan(
    quick: bool = False, families: Sequence[str] = (), sizes: Sequence[int] = (), names: Sequence[str] = ()
) -> Plan:
    """What a report runs: minutes, or seconds for a first look.

    Parameters
    ----------
    quick : bool
    families : sequence of str
        Only these, and those whose names go on with a hyphen.
    sizes : sequence of int
        Of the forward pass, and of forward + backward.
    names : sequence of str
        Only these contenders, beside the limits.

    Raises
    ------
    ValueError
        If there is no such family or contender.

    Examples
    --------
    >>> len(plan(quick=True).groups) < len(plan().groups)
    True
    """
    for what, given, known in (("family", families, FAMILIES), ("contender", names, CONTENDERS)):
        for name in given:
            if name not in known:
                raise ValueError(f"a {what} has to be one of {', '.join(known)}, but got {name!r}")
    forward = sizes or ((2**12, 2**17, 2**21) if quick else tuple(2**k for k in (10, 12, 14, 17, 20, 22, 24, 26)))
    both = sizes or ((2**17, 2**20) if quick else (2**14, 2**17, 2**20, 2**24))
    large = 2**20 if quick else 2**24
    halves = (0.5, 0.1)
    groups = [Group(Case("forward", n, p=p), isas=True) for n in forward for p in halves]
    groups += [
        Group(Case("forward", large, dtype, p), names=("fastdrop", "torch"))
        for dtype in ("float64", "float16", "bfloat16")
        for p in halves
    ]
    groups += [Group(Case("forward+backward", n, p=p), isas=True) for n in both for p in halves]
    groups += [Group(Case("in-place", n)) for n in (2**14, large)]
    groups += [Group(Case(f"spatial-{layout}", large, p=0.2)) for layout in ("nchw", "nhwc")]
    groups += [Group(Case("mask-bits", large, p=p)) for p in halves]
    groups += [Group(Case(kind, large >> (0 if quick else 2), p=0.1)) for kind in KINDS]
    # Peers, who keep a mask of all these weights, compete in few examples: a second a call, as elsewhere.
    products = [name for name, family in FAMILIES.items() if family.limit == "the dense product"]
    groups += [Group(Case(name, (2 if quick else 16) * WIDTH**2)) for name in products]
    if not quick:
        groups += [Group(Case(name, 128 * WIDTH**2, p=p)) for name in products for p in halves]
    groups += [Group(Case("small-calls", 256)), Group(Case("training-step", 2**16))]
    groups += [Group(Case(family, 128 * PIXELS)) for family in ("cnn-step", "mlp-step", "torch-mlp")]
    groups += [Group(Case("torch-transformer", (1 if quick else 16) * TOKENS, p=0.1))]
    chosen = [group for group in groups if not families or _among(group.case.family, families)]
    if names:
        chosen = [
            replace(group, names=tuple(n for n in names if not group.names or n in group.names)) for group in chosen
        ]
    return Plan(tuple(chosen), 7, 0.25) if quick else Plan(tuple(chosen), 15, 3.0)


def _among(family: str, chosen: Sequence[str]) -> bool:
    return any(family == name or family.startswith(f"{name}-") for name in chosen)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, runtime.MAX_THREADS)


def _competing(group: Group, cores: int, in_use: str) -> Iterator[Entry]:
    """Who runs in a group, or would if it could; fastdrop on the set `in_use` where it runs on one only."""
    case = group.case
    several = cores > 1 and case.n >= THREADS_FROM
    for threads in (1, cores) if several else (1,):
        for found in entries(replace(case, threads=threads)):
            contender = found.contender
            ours, limit = contender.role == "ours", contender.role == "limit"
            if group.names is not None and contender.name not in group.names and not limit:
                continue
            if case.n > PEERS_TO and contender.role == "peer":
                continue
            # Whoever is not told its threads runs once: beside the copies on one thread, or on all.
            alone = contender.threads == "one" and threads > 1
            if alone or (contender.threads == "own" and several and threads == 1):
                continue
            isas = runtime.available_isas() if ours and threads == 1 and group.isas else [in_use]
            for isa in isas:
                yield entry(contender.name, replace(case, threads=threads, isa=isa)) if ours else found


def _prepared(found: Entry, arrays: Arrays, result: Result) -> Ready | None:
    if found.skipped:
        result.skipped.setdefault(found.contender.title, found.skipped)
        return None
    try:
        ready = found.ready(arrays)
        check(ready, arrays, found.case)
    except WrongAnswer as error:
        result.wrong[f"{found.label}: {found.case}"] = str(error)
        return None
    except Exception as error:  # a peer's own trouble: any kind, and no reason to lose the others' figures
        if found.contender.role != "peer":
            raise
        result.skipped[f"{found.label}: {found.case}"] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None
    return ready


def _measure(group: Group, arrays: Arrays, how: Plan, in_use: str, result: Result) -> None:
    competing: dict[str, Entry] = {}
    ready: dict[str, Ready] = {}
    for found in _competing(group, _cores(), in_use):
        one = _prepared(found, arrays, result)
        if one is not None:
            key = f"{found.contender.name} {found.case.isa} {found.case.threads}"
            competing[key], ready[key] = found, one
    if not any(found.contender.role == "limit" for found in competing.values()):
        return
    times = interleave(ready, how.rounds, budget=how.budget)
    for key, found in competing.items():
        contender, case = found.contender, found.case
        limits = [k for k, f in competing.items() if f.contender.role == "limit" and f.case.threads <= case.threads]
        copy = fastest(times, limits)
        threads = {"told": case.threads, "one": 1, "own": 0}[contender.threads]
        isa = case.isa if contender.role == "ours" else None
        ratio = spread([a / b for a, b in zip(times[key], times[copy])])
        result.points.append(
            Point(
                case.family, case.n, case.dtype, case.p, contender.name, contender.title, contender.role, isa, threads,
                tuple(times[key]), f"{competing[copy].contender.name}:{competing[copy].case.threads}", ratio,
            )
        )  # fmt: skip


def run(how: Plan, listen: Callable[[Group], None] = lambda group: None) -> Result:
    """Run a plan.

    Parameters
    ----------
    how : Plan
    listen : callable
        Called with every group when it is done.

    Returns
    -------
    Result
    """
    result = Result()
    arrays: Arrays | None = None
    in_use = runtime.isa()  # now: later it is that of whoever was timed last
    with settings_kept():
        for group in how.groups:
            case = group.case
            if arrays is None or replace(arrays.case, p=case.p) != case:
                arrays = Arrays(case)
            _measure(group, arrays, how, in_use, result)
            listen(group)
    return result
