"""The command ``fastdrop``: ``fastdrop mnist``, ``fastdrop bench`` and ``fastdrop info``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import datetime, timezone
from textwrap import fill
from typing import Any

import fastdrop
from fastdrop import _core
from fastdrop._environment import environment, version
from fastdrop._extra import extra
from fastdrop._launch import launched
from fastdrop._reporting import clock, reason, say
from fastdrop.bench.cases import FAMILIES

from ._checks import shown

__all__ = ["main"]

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

#: The optional packages: what imports them, the name they are installed by, and what they serve.
OPTIONAL = (
    ("rich", "rich", "fastdrop mnist and bench"),
    ("matplotlib", "matplotlib", "fastdrop mnist and bench"),
    ("pooch", "pooch", "fastdrop mnist"),
    ("sklearn", "scikit-learn", "fastdrop mnist"),
    ("safetensors", "safetensors", "nn.save_weights"),
    ("mpi4py", "mpi4py", "nn.fit on several processes, mpiexec -n N fastdrop mnist"),
    ("ml_dtypes", "ml_dtypes", "bfloat16"),
    ("numba", "numba", "fastdrop bench, to compare with"),
    ("torch", "torch", "fastdrop bench, to compare with"),
    ("jax", "jax", "fastdrop bench, to compare with"),
    ("tensorflow", "tensorflow", "fastdrop bench, to compare with"),
)

BENCH_TEXT = """\
Time fastdrop, its peers (NumPy; Numba, PyTorch, JAX and TensorFlow where they are installed) and the
copy of the same bytes (for DropConnect the dense product), which is the limit, and write a report:
report.md, results.json and pictures.

Everybody's answer is checked before it is timed, and all take turns in one process: compare their
ratios, since absolute times drift. Run it on a machine that does nothing else.
"""

BENCH_EXAMPLES = f"""\
examples:
  fastdrop bench                            all of it: under five minutes on two cores
  fastdrop bench --quick                    a first look, in under 40 seconds
  fastdrop bench --family forward --n 16Ki 64Mi
  fastdrop bench --family dropconnect       and dropconnect-dx, dropconnect-dw, dropconnect-both
  fastdrop bench --only fastdrop torch --out against-torch

{fill("families: " + ", ".join(FAMILIES), 100, subsequent_indent="  ", break_on_hyphens=False)}
contenders: fastdrop, fastdrop-apply, fastdrop-plain (a step without dropout), fastdrop-torch, numpy-naive, numpy-good,
  numpy-stored (a mask that is there already), numba, torch, torch-plain, jax, tensorflow

To compare two contenders more closely: python -m fastdrop.bench.command --help
"""


def info() -> int:
    """Print what this installation is and can do."""
    here = environment()
    isas = [f"{name}{'' if usable else ' (not here)'}" for name, usable in _core.isas()]
    lines = [
        ("fastdrop", here["fastdrop"]),
        ("Python", f"{here['python']}, NumPy {here['numpy']}"),
        ("machine", f"{here['system']} {here['machine']}, {here['cores']} cores"),
        ("instruction set", f"{here['isa']}  (of: {', '.join(isas)})"),
        ("threads", str(here["threads"])),
        ("dtypes", _core.FLOATS),
        ("compiled by", here["compiler"]),
    ]
    wide = max(len(name) for name, _ in lines) + 2
    for name, text in lines:
        print(f"{name:{wide}}{text}")
    print("optional packages")
    for module, package, purpose in OPTIONAL:
        found = importlib.util.find_spec(module) is not None
        state = (version(package) or "found") if found else "not installed"
        print(f"  {package:{wide - 2}}{state:15}for {purpose}")
    return OK


def bench(args: argparse.Namespace, command: str) -> int:
    """Run the benchmarks and write their report."""
    from .bench import cases, machine, progress, report, sweep

    try:
        console = extra("rich.console", "bench").Console(highlight=False)
        extra("matplotlib.figure", "bench")
        how = sweep.plan(args.quick, args.family, [cases.parse_count(n) for n in args.n], args.only)
        if args.out == "":
            raise ValueError("--out has to be a folder, but got an empty string")
        out = report.check_folder(args.out)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        say(reason(error))
        return BAD_INPUT

    facts: dict[str, Any] = {"command": command, "environment": environment(), "machine": machine.describe()}
    facts["versions"] = {name: found for name in machine.PACKAGES if (found := version(name))}
    print(report.machine_line(facts), flush=True)
    started = time.perf_counter()
    try:
        with progress.Display(console, how.groups) as display:
            result = sweep.run(how, display)
    except MemoryError as error:
        say(reason(error))
        return BAD_INPUT
    facts["seconds"] = time.perf_counter() - started
    facts["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for who, why in result.skipped.items():
        print(f"skipped: {who}: {why}")
    for who, why in result.wrong.items():
        say(f"not timed, since the answer is wrong: {who}: {why}")
    try:
        files = report.write(result, out, facts)
    except OSError as error:
        say(reason(error))
        return FAILED
    print(f"{clock(facts['seconds'])} minutes; wrote {', '.join(str(path) for path in files)}")
    return FAILED if result.wrong else OK


def _parser(asked: str | None) -> argparse.ArgumentParser:
    """Make the parser; `asked` is the command that is called, whose options alone may need much to be imported."""
    parser = argparse.ArgumentParser(
        prog="fastdrop",
        description="Dropout at the speed of a copy, with masks that are values.",
        epilog='Each command has a help of its own: "fastdrop mnist --help".',
    )
    parser.add_argument("--version", action="version", version=f"fastdrop {fastdrop.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)

    run = commands.add_parser(
        "mnist",
        help="train networks with and without dropout on MNIST and compare them",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if asked == "mnist":
        from .mnist import command as mnist

        run.description, run.epilog = mnist.TEXT, mnist.EXAMPLES
        mnist.add_arguments(run)
        run.set_defaults(run=mnist.run)

    run = commands.add_parser(
        "bench",
        help="time fastdrop, its peers and the copy, and write a report",
        description=BENCH_TEXT,
        epilog=BENCH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(run=bench)
    run.add_argument("--out", metavar="DIR", default="bench-report", help="output folder (default: %(default)s)")
    run.add_argument("--quick", action="store_true", help="fewer and smaller sizes, fewer rounds: under 40 seconds")
    run.add_argument("--family", nargs="+", default=[], metavar="NAME", help="only these families, and NAME-...")
    run.add_argument("--n", nargs="+", default=[], metavar="N", help="elements of the forward pass: 256, 16Ki, 64Mi")
    run.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these contenders beside the limits")

    commands.add_parser("info", help="show version, instruction set, threads and optional packages")
    return parser


@contextmanager
def _silent() -> Iterator[None]:
    """For all processes of a job but one, which says it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        0: done; 1: training diverged, a benchmark's answer was wrong, or the results could not be written; 2: bad
        input, told in one line; 130: interrupted.
    """
    if argv is not None and (isinstance(argv, str) or not isinstance(argv, Sequence)):
        raise TypeError(f"argv has to be a sequence of strings, but got {shown(argv)}")
    given = list(sys.argv[1:] if argv is None else argv)
    if not all(isinstance(word, str) for word in given):
        raise TypeError(f"argv has to be a sequence of strings, but got {shown(argv)}")
    # No option of the parser itself takes a value: the first word is the command.
    asked = next((word for word in given if not word.startswith("-")), None)
    place = launched()
    # Whichever process is the first to give a status ends a job: it has to be the one that says why.
    follows = place is not None and place.rank > 0
    try:
        with _silent() if follows else nullcontext():
            args = _parser(asked).parse_args(given)
    except SystemExit as stop:
        return OK if follows else int(stop.code or 0)
    if follows and args.command != "mnist":
        return OK  # rank 0 does what one process can do
    try:
        if args.command == "info":
            return info()
        command = shlex.join(["fastdrop", *given])
        code: int = args.run(args, command)
        return code
    except KeyboardInterrupt:
        say("interrupted; no results, or not all of them, were written")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it (head): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
