"""The command line of paired runs: ``python -m bench.paired`` from a clone, or ``python -m fastdrop.bench.command``."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from .._extra import extra
from .bars import BARS, Bar, Cleared, run
from .cases import DTYPES, FAMILIES, Case, count, parse_count
from .contenders import CONTENDERS
from .paired import Outcome, Skipped, compare
from .ready import WrongAnswer

__all__ = ["main"]

EXAMPLES = """\
examples:
  python -m bench.paired fastdrop copy --n 64Mi --p .1       against the fastest copy of the same run
  python -m bench.paired fastdrop@avx512 fastdrop@avx2       two instruction sets
  python -m bench.paired fastdrop:2 fastdrop:1 --n 256Ki     does a second thread pay
  python -m bench.paired fastdrop torch --family forward+backward --n 1Mi --threads 2
  python -m bench.paired fastdrop dense --family dropconnect-dw
  python -m bench.paired fastdrop fastdrop                   what the machine's noise makes of no difference
  python -m bench.paired bars                                every bar, with pass or miss
  python -m bench.paired bars --only float32 spatial --rounds 31
"""


def _count(text: str) -> int:
    try:
        return parse_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rounds(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"rounds has to be a number from 1 on, but got {text!r}")
    return int(text)


def _pair_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Time two contenders in turns, in one process, and print the ratio of the first to the second.",
        epilog=f"contenders: copy, {', '.join(CONTENDERS)}\nfamilies: {', '.join(FAMILIES)}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", help='NAME[@ISA][:THREADS]; or "bars", which has a help of its own')
    parser.add_argument("second", help="the same; copy: the fastest of memcpy and the streaming copies")
    parser.add_argument("--family", choices=FAMILIES, default="forward", metavar="F", help="default: %(default)s")
    parser.add_argument("--n", type=_count, metavar="N", help="elements: 256, 16Ki, 64Mi (default: the family's)")
    parser.add_argument("--p", type=float, default=0.5, metavar="P", help="probability to drop (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", metavar="T", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, metavar="K", help="for all (default: %(default)s)")
    parser.add_argument("--isa", metavar="I", help="fastdrop's instruction set (default: the one in use)")
    parser.add_argument("--rounds", type=_rounds, default=15, metavar="R", help="default: %(default)s")
    return parser


def _bars_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{prog} bars", description="Run the bars, and say of each whether it was cleared."
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="KEY", help=f"parts of keys, of: {', '.join(b.key for b in BARS)}"
    )
    parser.add_argument("--rounds", type=_rounds, default=15, metavar="R", help="of each bar (default: %(default)s)")
    return parser


def _number(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:.4f}"


def _shown(outcome: Outcome) -> str:
    wide = max(map(len, outcome.times))
    lines = [f"{outcome.case}, {len(outcome.ratios)} rounds"]
    for label in outcome.times:
        mark = " *" if label in (outcome.first, outcome.second) else ""
        lines.append(f"  {label:{wide}}  {outcome.nanoseconds(label):10.4f} ns per element{mark}")
    ratio = outcome.ratio
    lines.append(
        f"{outcome.first} / {outcome.second}: {_number(ratio.median)} [{_number(ratio.q1)}, {_number(ratio.q3)}]"
    )
    return "\n".join(lines)


def _row(cleared: Cleared) -> tuple[str, ...]:
    """The cells of a bar: its key, n, both times, the limit, the median, the quartiles, the verdict."""
    bar, outcome = cleared.bar, cleared.outcome
    unit = "" if bar.against else " µs"
    n, limit = count(bar.case.n), f"{_number(bar.limit)}{unit}"
    if cleared.figure is None or outcome is None:
        return bar.key, n, "", "", limit, "", "", "skipped"
    low, median, high = (_number(value) for value in cleared.figure)
    ours = f"{outcome.nanoseconds(outcome.first):.4g}"
    theirs = f"{outcome.nanoseconds(outcome.second):.4g} {outcome.second}" if bar.against else ""
    verdict = "pass" if cleared.passed else "MISS"
    return bar.key, n, ours, theirs, limit, f"{median}{unit}", f"[{low}, {high}]", verdict


def _bars(chosen: Sequence[Bar], rounds: int) -> int:
    rich_table, rich_box, rich_console = (extra(f"rich.{part}", "bench") for part in ("table", "box", "console"))
    made = rich_table.Table(box=rich_box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="Medians of interleaved rounds")
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    made.add_column("bar", no_wrap=True)
    made.add_column("n", **right)
    made.add_column("ours, ns/el.", **right)
    made.add_column("theirs, ns/el.")
    made.add_column("at most", **right)
    made.add_column("ratio", style="bold", **right)
    made.add_column("quartiles", no_wrap=True)
    made.add_column("")
    missed = 0
    for done, cleared in enumerate(run(chosen, rounds), 1):
        row = _row(cleared)
        figure = f"skipped: {cleared.skipped}" if cleared.skipped else f"{row[5]} {row[6]}, at most {row[4]}: {row[7]}"
        print(f"[{done}/{len(chosen)}] {row[0]}: {figure}", flush=True)
        missed += cleared.passed is False
        made.add_row(*row, style={True: None, False: "red", None: "dim"}[cleared.passed])
    # Where there is less room the terminal may wrap the table; rich would cut figures and leave verdicts out.
    rich_console.Console(highlight=False, width=max(120, shutil.get_terminal_size().columns)).print(made)
    print(f"{missed} of {len(chosen)} missed")
    return 1 if missed else 0


def main(argv: Sequence[str] | None = None, prog: str = "python -m fastdrop.bench.command") -> int:
    """Run it.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.
    prog : str
        What the help calls it.

    Returns
    -------
    int
        0: done, and no bar missed; 1: one was missed, or an answer wrong; 2: bad input, told in one line; 130:
        interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["bars"]:
            args = _bars_parser(prog).parse_args(given[1:])
            chosen = [bar for bar in BARS if not args.only or any(part in bar.key for part in args.only)]
            if not chosen:
                raise ValueError(f"no bar's key contains {' or '.join(args.only)}")
            return _bars(chosen, args.rounds)
        args = _pair_parser(prog).parse_args(given)
        n = FAMILIES[args.family].full if args.n is None else args.n
        case = Case(args.family, n, args.dtype, args.p, args.threads, args.isa)
        print(_shown(compare(args.first, args.second, case, args.rounds)), flush=True)
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except (ValueError, ImportError, MemoryError, Skipped) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except WrongAnswer as error:
        print(f"{prog}: not timed, since the answer is wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it (head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
