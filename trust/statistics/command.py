"""The command line: the suite on the library, on broken generators and on a good one; tables, a picture, a record."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trust import record

from . import picture
from .broken import MUST_BE_CAUGHT, Rounds, broken
from .calibration import Calibration, calibrate
from .family import FULL, QUICK, Family, Finding, Scale
from .sources import Law, Source
from .suite import ALPHA, FAMILIES, Outcome, run

#: Shown in the picture beside the library.
DRAWN = ("1.00% copied from the neighbour", "Philox of 5 rounds", "Philox of 6 rounds")


def parser() -> argparse.ArgumentParser:
    """The options."""
    families = "\n".join(f"  {family.name:<13} {family.detects}" for family in FAMILIES)
    parser = argparse.ArgumentParser(
        prog="python -m trust.statistics",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"""Statistical tests of fastdrop's masks and normals.

First the library: a hundred billion elements and more, seeded. A run calls a perfect generator broken with a chance of
at most {ALPHA:g}: each of its N tests has a false-positive rate of {ALPHA:g} / N (Bonferroni). Then generators with a
fault each, at a smaller scale: every one has to be caught. Then the tests themselves, on NumPy's PCG64DXSM: their
p-values have to be as good as uniform. The exit status is 1 if any of it is not so.

What each family detects:
{families}
""",
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="N", help="one or more seeds (default: 1)")
    parser.add_argument("--quick", action="store_true", help="all of it at a small scale, in a minute")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="FAMILY",
        choices=[f.name for f in FAMILIES],
        help="these families, and no runs on a good generator",
    )
    parser.add_argument("--no-broken", action="store_true", help="leave the broken generators out")
    parser.add_argument(
        "--calibrate", type=int, metavar="RUNS", help="runs on a good generator, 0 for none (default: 100)"
    )
    parser.add_argument("--record", action="store_true", help="write docs/trust/statistics.json and statistics.png")
    return parser


class Watch:
    """Shows where the run is: a bar in a terminal, otherwise a line for each step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Any]:
        """A step of `total` parts; gives what to call with how many are done and a note."""
        if not self.console.is_terminal:
            self.console.print(f"{name} ...")
        with self.bars:
            task = self.bars.add_task(name, total=total, note="")
            yield lambda done, note: self.bars.update(task, completed=done, note=note)
            self.bars.remove_task(task)


def of_source(watch: Watch, source: Source, scale: Scale, seed: int, families: Sequence[Family]) -> Outcome:
    """One run, with progress."""
    with watch.step(f"{source.name}, seed {seed}", len(families)) as show:

        def heard(family: Family, finding: Finding) -> None:
            show(families.index(family), f"{family.name}: {finding.test}")

        return run(source, scale, seed, families, heard)


def table_of(outcome: Outcome, title: str) -> Table:
    """By family: how many tests, the smallest p-value, the verdict."""
    table = Table("family", "tests", "smallest p", "of which", "seconds", "verdict", title=title, title_justify="left")
    for name, findings in outcome.findings.items():
        worst = min(findings, key=lambda finding: finding.p)
        caught = sum(finding.p < outcome.bound for finding in findings)
        verdict = f"[bold red]{caught} caught" if caught else "passed"
        table.add_row(
            name, str(len(findings)), f"{worst.p:.2g}", worst.test, f"{outcome.seconds[name]:.0f}", verdict
        )  # fmt: skip
    return table


def by_family(outcome: Outcome) -> dict[str, int]:
    """How many tests of each family caught something."""
    counts = {name: sum(f.p < outcome.bound for f in some) for name, some in outcome.findings.items()}
    return {name: count for name, count in counts.items() if count}


def table_of_broken(outcomes: dict[str, Outcome]) -> Table:
    """What was caught, by which families."""
    table = Table("generator", "tests that catch it", "families", title="Broken generators", title_justify="left")
    for name, outcome in outcomes.items():
        found = by_family(outcome)
        words = ", ".join(f"{family} {count}" for family, count in found.items())
        missed = "not caught" if name not in MUST_BE_CAUGHT else "[bold red]not caught"
        table.add_row(name, str(len(outcome.caught)), words or missed)
    return table


def table_of_calibration(found: Calibration) -> Table:
    """Shares of small p-values."""
    title = f"The tests on NumPy's PCG64DXSM, {found.runs} runs of {found.tests} tests"
    table = Table(
        "family", "level", "share of p-values up to it", "chance of so many", title=title, title_justify="left"
    )
    for share in found.shares:
        table.add_row(share.family, f"{share.level:g}", f"{share.found:.4f} ± {share.error:.4f}", f"{share.p:.2g}")
    return table


def figures_of(
    ours: dict[int, Outcome], worse: dict[str, Outcome], found: Calibration | None, scale: Scale
) -> dict[str, Any]:
    """The record."""
    first = next(iter(ours.values()))
    figures: dict[str, Any] = {
        "alpha_of_a_run": ALPHA,
        "tests": first.number,
        "false_positive_rate_of_a_test": first.bound,
        "elements_for_each_p": 2**scale.rate,
        "elements_of_a_long_mask": 2**scale.stream,
        "families": {
            name: {"tests": len(some), "smallest_p": min(f.p for f in some), "seconds": round(first.seconds[name], 1)}
            for name, some in first.findings.items()
        },
        "seeds": {
            str(seed): {
                "caught": len(outcome.caught),
                "smallest_p": min(f.p for some in outcome.findings.values() for f in some),
            }
            for seed, outcome in ours.items()
        },
    }
    if worse:
        rounds = [r for r in range(1, 11) if (name := Rounds(r).name) in worse and worse[name].caught]
        figures["broken_generators"] = {name: by_family(outcome) for name, outcome in worse.items()}
        figures["broken_generators_missed"] = [name for name, outcome in worse.items() if not outcome.caught]
        figures["most_rounds_of_philox_caught"] = max(rounds, default=0)
    if found:
        figures["calibration"] = {
            "runs": found.runs,
            "tests": found.tests,
            "honest": found.honest,
            "smallest_p": found.smallest,
            "shares": {f"{s.family}, p <= {s.level:g}": round(s.found, 5) for s in found.shares},
            "worst_ks_p_of_a_test": min(found.distances.values()),
        }
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    options = parser().parse_args(argv)
    if options.record and (options.only or options.no_broken or options.quick or options.calibrate == 0):
        parser().error(
            "--record keeps a whole run: it goes with none of --quick, --only, --no-broken and --calibrate 0"
        )
    runs = options.calibrate
    if runs is None:
        runs = 0 if options.only else 10 if options.quick else 100
    if runs == 1 or runs < 0:
        parser().error(f"--calibrate takes 0, or 2 runs and more, but got {runs}")
    console = Console()
    watch = Watch(console)
    scale = QUICK if options.quick else FULL
    families = [family for family in FAMILIES if not options.only or family.name in options.only]
    began = time.perf_counter()
    good = True

    ours = {}
    for seed in options.seed:
        ours[seed] = outcome = of_source(watch, Law(), scale, seed, families)
        title = f"fastdrop, seed {seed}: {outcome.number} tests, each of a false-positive rate of {outcome.bound:.2g}"
        console.print(table_of(outcome, title))
        for family, finding in outcome.caught:
            console.print(f"[bold red]caught[/] {family}, {finding.test}: p = {finding.p:.3g}")
        good &= not outcome.caught

    worse: dict[str, Outcome] = {}
    if not options.no_broken:
        for source in broken():
            worse[source.name] = of_source(watch, source, QUICK, options.seed[0], families)
        console.print(table_of_broken(worse))
        if len(families) == len(FAMILIES):
            good &= all(worse[name].caught for name in MUST_BE_CAUGHT)

    found = None
    if runs:
        with watch.step("calibration", runs) as show:
            found = calibrate(runs, watch=lambda done: show(done, f"{done} of {runs} runs"))
        console.print(table_of_calibration(found))
        if not found.honest:
            console.print(f"[bold red]p-values are off[/]; the smallest: {found.smallest:.3g}, {found.smallest_of}")
            for test, p in sorted(found.distances.items(), key=lambda pair: pair[1])[:3]:
                console.print(f"distribution of p-values: p = {p:.3g}, {test}")
        good &= found.honest

    console.print("All as it has to be." if good else "[bold red]Not as it has to be.")
    if options.record:
        seconds = time.perf_counter() - began
        seeds = " ".join(map(str, options.seed))
        command = f"make stats ARGS='--seed {seeds} --record'"
        record.write("statistics", command, seconds, figures_of(ours, worse, found, scale))
        picture.draw(ours, {name: worse[name] for name in DRAWN}, record.FOLDER / "statistics.png")
    return 0 if good else 1
