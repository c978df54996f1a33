"""What a run leaves: ``report.md``, ``results.json`` and two pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .._files import check_folder, whole_file
from .._reporting import figures, write_json
from . import pictures
from .cases import FAMILIES, count
from .paired import spread
from .sweep import Point, Result

__all__ = ["check_folder", "machine_line", "markdown", "write"]

_STEPS = ("training-step", "cnn-step", "mlp-step", "torch-mlp", "torch-transformer")

#: Families whose n says nothing to the reader: times are given for the whole call.
_CALLS = ("small-calls", *_STEPS)

NOTES = """\
Every contender's answer was checked before it was timed: fastdrop's bit for bit against `fastdrop.reference`, a peer's
by its keep rate (within 5 standard deviations) and the values it kept, a copy's by every byte; sums of products by
float64 under the same mask. All contenders in one column took turns in one process, on the same input and output.
Figures are medians over the rounds; in brackets the median over the rounds of the time relative to the limit, with at
most as many threads: the fastest of memcpy and the streaming copies, or where a section says so the dense product.
Outputs are allocated before, but for PyTorch, JAX, TensorFlow and naive NumPy, and in products: there everybody makes
new ones. Good NumPy and Numba round p to 16 bits, fastdrop to 32. "Own threads": as many as it takes. Peers stop at
16 Mi elements.
Absolute times drift from run to run: compare within a column."""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _by(points: Sequence[Point], *names: str) -> dict[tuple[Any, ...], list[Point]]:
    """Points by some of their attributes, in the order of their first."""
    found: dict[tuple[Any, ...], list[Point]] = {}
    for point in points:
        found.setdefault(tuple(getattr(point, name) for name in names), []).append(point)
    return found


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    if point.family in _STEPS:
        return f"{figures(spread(point.seconds).median * 1e6)} µs"
    call = point.family == "small-calls"
    figure = f"{figures(spread(point.seconds).median * 1e6)} µs" if call else figures(point.nanoseconds)
    return figure if point.role == "limit" else f"{figure} ({figures(point.ratio.median)})"


def _table(points: Sequence[Point], heads: Sequence[tuple[tuple[Any, ...], str]], keys: Sequence[str]) -> Iterator[str]:
    """Contenders down, cases across. Of the limits one row for each number of threads: the fastest with at most it."""
    cells: dict[tuple[str, tuple[Any, ...]], Point] = {}
    told, name = sorted({p.threads for p in points if p.role == "limit"}), FAMILIES[points[0].family].limit
    rows = {t: f"*{name}{f', {t} threads' if t > 1 else ''}*" for t in told}
    for point in points:
        key = tuple(getattr(point, name) for name in keys)
        labels = [point.label]
        if point.role == "limit":
            labels = [label for threads, label in rows.items() if threads >= point.threads]
        for label in labels:
            if (label, key) not in cells or point.nanoseconds < cells[label, key].nanoseconds:
                cells[label, key] = point
    yield "| | " + " | ".join(text for _, text in heads) + " |"
    yield "|---|" + "---:|" * len(heads)
    for label in [*rows.values(), *dict.fromkeys(p.label for p in points if p.role != "limit")]:
        yield f"| {label} | " + " | ".join(_cell(cells.get((label, key))) for key, _ in heads) + " |"


def _sections(family: str, points: Sequence[Point]) -> Iterator[str]:
    """One table for a family, or where n varies one for each p."""
    unit = "Time of a call" if family in _CALLS else "Nanoseconds per element"
    yield f"## {_capital(FAMILIES[family].title)}"
    yield ""
    floor = "" if family in _STEPS else f" (relative to {FAMILIES[family].floor})"
    yield f"{FAMILIES[family].does}. {unit}{floor}."
    yield ""
    for (dtype, p), some in _by(points, "dtype", "p").items():
        sizes = [((n,), f"{count(n)}") for n in sorted({q.n for q in some})]
        if len(sizes) > 1:
            yield f"{dtype}, p = {p:g}, by number of elements:"
            yield ""
            yield from _table(some, sizes, ("n",))
            yield ""
    single = [q for q in points if len({o.n for o in points if (o.dtype, o.p) == (q.dtype, q.p)}) == 1]
    for (n,), some in _by(single, "n").items():
        heads = [(key, f"{key[0]}, p = {key[1]:g}") for key in _by(some, "dtype", "p")]
        yield f"{count(n)} elements:"
        yield ""
        yield from _table(some, heads, ("dtype", "p"))
        yield ""


def _shares(points: Sequence[Point]) -> Iterator[str]:
    """What dropout takes of a training step: with against without, round by round."""
    titles = {"fastdrop": "fastdrop.nn", "torch": "PyTorch", "fastdrop-torch": "PyTorch with fastdrop.torch.enable()"}
    plains = {"fastdrop": "fastdrop-plain", "torch": "torch-plain", "fastdrop-torch": "torch-plain"}
    for whose, plain in plains.items():
        for (threads,), some in _by(points, "threads").items():
            named = {p.name: p for p in some}
            if whose in named and plain in named:
                pairs = zip(named[whose].seconds, named[plain].seconds)
                share = spread([1 - without / with_ for with_, without in pairs])
                yield (
                    f"Dropout is {100 * share.median:.1f} % of {titles[whose]}'s step "
                    f"(quartiles {100 * share.q1:.1f} and {100 * share.q3:.1f} %; threads: {threads})."
                )


def machine_line(facts: dict[str, Any]) -> str:
    """The machine in one line, from `facts` as `write` takes them."""
    env, machine = facts["environment"], facts["machine"]
    caches = f", {', '.join(machine['caches'])}" if machine["caches"] else ""
    return f"{machine['cpu']}{caches}; {env['cores']} cores; {env['isa']}; {env['compiler']}; NumPy {env['numpy']}"


def markdown(result: Result, facts: dict[str, Any], drawn: Sequence[str] = ()) -> str:
    """Write the tables.

    Parameters
    ----------
    result : Result
    facts : dict
        ``environment``, ``machine``, ``versions``, ``finished`` and ``command``: what `write` was given.
    drawn : sequence of str
        Names of the pictures beside it.

    Returns
    -------
    str
    """
    env, machine = facts["environment"], facts["machine"]
    said = [
        "# fastdrop: how fast, and how near a copy",
        "",
        f"- finished: {facts['finished']}, by `{facts['command']}`",
        f"- CPU: {machine['cpu']}, {env['cores']} cores; caches: {', '.join(machine['caches']) or 'not told'}",
        f"- fastdrop {env['fastdrop']}, instruction set {env['isa']}, compiled by {env['compiler']}; the streaming "
        f"copies' stores: {machine['stores']}",
        f"- {env['system']} {env['machine']}, Python {env['python']}; "
        + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "- skipped: " + ("; ".join(f"{who} ({why})" for who, why in result.skipped.items()) or "nobody"),
    ]
    said += [f"- **not timed, wrong answer**: {who}: {why}" for who, why in result.wrong.items()]
    said += ["", NOTES, ""]
    for (family,), points in _by(result.points, "family").items():
        said += _sections(family, points)
        if family == "training-step":
            said += [*_shares(points), ""]
        if family == "forward":
            said += [line for name in drawn for line in (f"![{name.removesuffix('.png')}]({name})", "")]
    return "\n".join(said).rstrip() + "\n"


def _pictures(result: Result, below: str) -> Iterator[tuple[str, Any]]:
    """Names of files, and their figures: those that there are points for."""
    forward = [p for p in result.points if p.family == "forward" and p.dtype == "float32"]
    if forward:
        yield "forward.png", pictures.lines(forward, below)
    panels = []
    finding = of = ""
    for family in ("forward", "forward+backward"):
        some = [p for p in result.points if (p.family, p.dtype, p.p) == (family, "float32", 0.5)]
        if not any(p.role == "peer" for p in some):
            continue
        n = max(p.n for p in some if p.role == "peer")
        shown = [p for p in some if p.n == n]
        of = FAMILIES[family].title
        panels.append((f"{_capital(of)}, {count(n)} elements", shown))
        finding = _compared(shown)
    if panels:
        yield "peers.png", pictures.bars(panels, finding, f"float32, p = 0.5; title: {of}. {below}")


def _compared(points: Sequence[Point]) -> str:
    """How peers compare with fastdrop on its widest instruction set, all on one thread."""
    times = {p.name: p.nanoseconds for p in points if p.threads == 1}  # the last of fastdrop's is the widest
    names = {"torch": "PyTorch", "numpy-good": "good NumPy", "numba": "Numba"}
    if "fastdrop" not in times or not set(names) & set(times):
        return "Dropout, and the copy of the same bytes"
    ratios = {title: figures(times[name] / times["fastdrop"]) for name, title in names.items() if name in times}
    first, *others = ratios.items()
    told = [f"{first[0]} takes {first[1]} times fastdrop's time", *(f"{title} {ratio}" for title, ratio in others)]
    return f"On one thread, {', '.join(told)}"


def write(result: Result, folder: str | os.PathLike[str], facts: dict[str, Any]) -> list[Path]:
    """Write all files; each appears whole or not at all.

    Parameters
    ----------
    result : Result
    folder : path
    facts : dict
        Of the run: ``command``, ``finished``, ``seconds``, ``environment``, ``machine``, ``versions``.

    Returns
    -------
    list of Path
        The files written: the pictures that there are results for, ``report.md`` and ``results.json``.
    """
    path = check_folder(folder)
    written = []
    for name, figure in _pictures(result, machine_line(facts)):
        with whole_file(path / name) as part:
            figure.savefig(part)
        written.append(path / name)
    with whole_file(path / "report.md") as part:
        part.write_text(markdown(result, facts, [file.name for file in written]), encoding="utf-8")
    write_json(path / "results.json", {"schema": 1, **facts, **result.to_dict()})
    return [*written, path / "report.md", path / "results.json"]
