"""The command ``fastdrop mnist``: what it takes, what it prints, and how it fails."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .._checks import check_int
from .._environment import environment
from .._extra import extra
from .._files import check_folder, remove_parts
from .._launch import launched
from .._reporting import clock, reason, say, write_json
from ..nn.state_file import read_state
from . import data, models, progress, regularizers, report, runner, study, together
from .results import RECORD, Results, labels
from .training import CHECKPOINT

__all__ = ["add_arguments", "run"]

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

TEXT = """\
Train networks on MNIST under several regularizers and seeds, and show what the regularizers change, with intervals:
a table, paired tests, curves and pictures in one report.html.

By default two CNNs, equal but for dropout. The four files of MNIST are looked for in --data, in the folder that
FASTDROP_DATA names and in the cache; else they are downloaded. With no data and no network the run takes
scikit-learn's bundled 8x8 digits, and says so wherever it shows a number.
"""

EXAMPLES = """\
examples:
  fastdrop mnist                       two CNNs, five seeds, 3,000 training images: three minutes on two cores
  fastdrop mnist --quick               a first look, in a minute
  fastdrop mnist --full                the whole training file, three seeds
  fastdrop mnist --regularizer none dropout l2=1e-3 batch-norm+dropout --seeds 10
  fastdrop mnist --p .1 .3 .5 .7 --train-size 500 1000 5000
  fastdrop mnist --model dropconnect --full     the networks of the DropConnect paper
  fastdrop mnist --data ~/gzip/emnist-digits    another set in MNIST's format
  fastdrop mnist --config study.toml --out study
  fastdrop mnist --resume --out study  go on after an interruption, to the same bits
  mpiexec -n 4 fastdrop mnist --full   each batch on four processes together (needs fastdrop[mpi])
  fastdrop mnist --list                which models and regularizers there are

a file for --config: lists for models, regularizers, p, train_sizes and seeds, numbers for the rest
  epochs = 20
  [[grid]]
  regularizers = ["none", "dropout"]
  seeds = 5
  [[grid]]
  p = [0.1, 0.3, 0.5, 0.7]
  regularizers = ["dropout"]
"""

#: Arms that are named before a study; more are counted.
FEW = 6

#: The file that says what a folder's study is.
STUDY = "study.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell a parser what the command takes."""
    add = parser.add_argument
    add("--list", action="store_true", help="show the models, the regularizers and the presets, and end")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer images, epochs and seeds: a minute")
    size.add_argument("--full", action="store_true", help="all images of the training file, 5,000 of them to validate")
    what = parser.add_argument_group("what is compared", "Lists are combined: every model with every regularizer ...")
    add = what.add_argument
    add("--model", nargs="+", metavar="M", help=f"of {', '.join(models.MODELS)} (default: cnn)")
    add(
        "--regularizer", "--regulariser", nargs="+", metavar="R",
        help="such as none, dropout, dropout=0.3, l2=1e-3+max-norm; the model's own comparison by default",
    )  # fmt: skip
    add("--p", type=float, nargs="+", metavar="P", help="probabilities to drop, where a regularizer tells none")
    add("--train-size", type=_size, nargs="+", metavar="N", help='training images; "all" for the whole file')
    add("--validation-size", type=int, metavar="N", help="images to validate on, from the training file too")
    add("--seeds", type=int, metavar="N", help="how many seeds")
    add("--seed", type=int, metavar="N", help="the first of them (default: 0)")
    add("--config", metavar="FILE", help="a TOML file with all of this; options given here go before it")
    how = parser.add_argument_group("how it is trained")
    add = how.add_argument
    add("--epochs", type=int, metavar="N", help="passes over the training images")
    add("--batch-size", type=int, metavar="N", help="images per step")
    add("--optimizer", choices=study.OPTIMIZERS, help="SGD has a momentum of .9 (default: the model's)")
    add("--lr", type=float, metavar="X", help="the learning rate")
    add("--schedule", choices=study.SCHEDULES, help="how the learning rate goes on (default: the model's)")
    add("--jobs", type=int, metavar="N", help="runs at once (default: one for each core); results do not depend on it")
    where = parser.add_argument_group("where things are")
    add = where.add_argument
    add(
        "--data",
        metavar="DIR",
        help="folder with four IDX files, MNIST's or another set's, .gz or unpacked; DIR/PREFIX picks one of several",
    )
    add("--offline", action="store_true", help="do not download anything")
    add("--out", metavar="DIR", default="fastdrop-mnist", help="output folder (default: %(default)s)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the study in the output folder")
    again.add_argument("--overwrite", action="store_true", help="forget the study in the output folder")


def _size(text: str) -> int | str:
    return text if text == "all" else int(text)


_size.__name__ = "number of images"  # what argparse calls it


def _listing(console: Any) -> None:
    table = extra("rich.table").Table
    box = extra("rich.box").SIMPLE_HEAD
    for title, heads, rows in (
        (
            "models",
            ("name", "what it is", "takes, besides " + ", ".join(models.IN_TRAINING), "compares"),
            [(name, m.about, ", ".join(m.takes), ", ".join(m.compare)) for name, m in models.MODELS.items()],
        ),
        (
            "regularizers, joined by +",
            ("name", "value unless told", "what it does"),
            [
                (name, "" if r.value is None else f"{r.value:g} ({r.unit})", r.about)
                for name, r in regularizers.REGULARIZERS.items()
            ],
        ),
        (
            "presets",
            ("name", "training images", "to validate", "epochs", "seeds"),
            [
                (
                    name,
                    p["train_sizes"] if p["train_sizes"] == "all" else f"{p['train_sizes']:,}",
                    *(f"{p[key]:,}" for key in ("validation_size", "epochs", "seeds")),
                )
                for name, p in study.PRESETS.items()
            ],
        ),
    ):
        made = table(title=title, box=box, title_style="bold", title_justify="left", padding=(0, 2, 0, 0))
        for head in heads:
            made.add_column(head, overflow="fold")
        for row in rows:
            made.add_row(*row)
        console.print(made)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the study."""
    told: dict[str, Any] = {
        "models": args.model,
        "regularizers": args.regularizer,
        "p": args.p,
        "train_sizes": args.train_size,
        "seeds": args.seeds,
        "epochs": args.epochs,
        "validation_size": args.validation_size,
        "batch_size": args.batch_size,
        "optimizer": args.optimizer,
        "lr": args.lr,
        "schedule": args.schedule,
    }
    return {name: value for name, value in told.items() if value is not None}


def _asks(args: argparse.Namespace) -> bool:
    """Whether the command line says what to run."""
    return bool(_options(args) or args.config is not None or args.seed is not None or args.quick or args.full)


def _runs(
    args: argparse.Namespace,
    grids: list[dict[str, Any]],
    kept: dict[str, Any] | None,
    dataset: data.Dataset,
) -> list[study.Run]:
    """What is to be run: what options and a configuration file say, or else what the folder's study says."""
    if kept is not None and not _asks(args):
        return [study.Run(**each) for each in kept["runs"]]
    options = _options(args)
    named = "full" if args.full else "quick" if args.quick else "default"
    runs = study.expand([{**grid, **options} for grid in grids], dataset, named)
    return [dataclasses.replace(run, seed=run.seed + (args.seed or 0)) for run in runs]


def _kept(out: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    """The study that a folder holds, if it is to be gone on with."""
    path = out / STUDY
    if not (args.resume or args.overwrite) and (path.exists() or (out / "runs").exists()):
        raise ValueError(
            f"{out} holds a study: --resume goes on with it (or draws its report again), --overwrite forgets it, "
            "--out DIR leaves it alone"
        )
    if not args.resume:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for each in found["runs"]:
            study.Run(**each)
        if not (found["runs"] and isinstance(found["data"], (str, type(None)))):
            raise ValueError("no runs, or no folder of data")
        return {name: found[name] for name in ("runs", "data", "digest")}
    except FileNotFoundError:
        if (out / "runs").exists() and _asks(args):
            return None  # what is asked for and finished there is not repeated
        raise ValueError(f"{out} holds no {STUDY} to go on with: leave out --resume, or say what to run") from None
    except (ValueError, KeyError, TypeError) as error:
        if _asks(args):
            return None
        raise ValueError(f"{path}: damaged ({error!r}); --resume with the study's options makes it again") from None


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other runs of the command out of a folder; the system forgets the lock when the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"another fastdrop mnist is at work in {out}: wait for it, or take another --out"
            ) from None
        yield


def _check_room(runs: Sequence[study.Run], dataset: data.Dataset, out: Path, jobs: int) -> None:
    """Compare what the weights will take with what is free."""
    sizes = {
        name: sum(p.array.nbytes for p in models.make(name, "none", dataset.size, dataset.classes).parameters())
        for name in {run.model for run in runs}
    }
    left = [run for run in runs if not (runner.run_folder(out, run) / RECORD).exists()]
    # Weights of each; weights, best weights and Adam's two means of each at work, in a file and in its successor.
    need = sum(sizes[run.model] for run in left) + 8 * max(sizes.values()) * jobs + 20e6
    free = shutil.disk_usage(out).free
    if left and free < need:
        raise OSError(f"{out}: {free / 1e6:,.0f} MB are free there, but the study needs about {need / 1e6:,.0f} MB")


class _Job:
    """How a study is run: by this process and those it starts, or by those of a communicator."""

    def __init__(self, out: str, size: int = 1) -> None:
        self.out = out
        self.size = size
        self.comm: Any = None
        self.run: study.Run | None = None

    @property
    def launcher(self) -> str:
        """What stands before the command."""
        return "" if self.size == 1 else f"mpiexec -n {self.size} "

    @property
    def again(self) -> str:
        """How a study goes on that has ended before its time."""
        more = "" if self.size == 1 else " for any number of processes to go on with"
        return f"what is done is kept{more}: {self.launcher}fastdrop mnist --resume --out {shlex.quote(self.out)}"

    def hear(self, run: study.Run) -> None:
        """Note which run is at work."""
        self.run = run

    def end(self, signal: str) -> None:
        """Say last words."""
        # At once, before a launcher loses its patience.
        say(f"{signal} ends the job: a process of it has died, or it was told to stop; {self.again}")
        if self.run is not None:
            say(f"{self.run.key}: {self._reached(self.run)}")

    def _reached(self, run: study.Run) -> str:
        try:
            state = read_state(runner.run_folder(Path(self.out).expanduser(), run) / CHECKPOINT)
        except (OSError, ValueError):
            return "no checkpoint yet"
        return f"its checkpoint is of epoch {state['epoch']} of {run.epochs}"


def run(args: argparse.Namespace, command: str) -> int:
    """Run a study and write its files.

    Returns
    -------
    int
        As of `fastdrop.cli.main`.
    """
    place = launched()
    if place is None:
        return _run(args, command, _Job(args.out))
    job = _Job(args.out, size=place.size)

    def lead(comm: Any) -> int:
        job.comm = comm
        return _run(args, job.launcher + command, job)

    return together.on_all(place, lead, job.hear, job.end)


def _run(args: argparse.Namespace, command: str, job: _Job) -> int:
    try:
        # All that can fail for a reason the user can mend fails here, before minutes of training. A launcher gives its
        # processes terminals that are none.
        console = extra("rich.console").Console(highlight=False, force_terminal=None if job.comm is None else False)
        if args.list:
            _listing(console)
            return OK
        for option in ("data", "out", "config"):
            if getattr(args, option) == "":
                raise ValueError(f"--{option} has to be a path, but got an empty string")
        for package in ("matplotlib.figure", "safetensors.numpy", "scipy.stats", "threadpoolctl"):
            extra(package)
        out = check_folder(args.out)
        with _locked(out):
            if job.comm is not None and args.jobs is not None:
                raise ValueError("under mpiexec all processes do one run after the other together: leave out --jobs")
            runs, dataset, jobs = _prepare(args, command, out)
            return _go(command, console, out, runs, dataset, jobs if job.comm is None else 1, job)
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:  # RuntimeError: "~nobody"
        say(reason(error))
        return BAD_INPUT


def _prepare(args: argparse.Namespace, command: str, out: Path) -> tuple[list[study.Run], data.Dataset, int]:
    kept = _kept(out, args)
    grids = [{}] if args.config is None else study.read_toml(args.config)
    folder = args.data or (kept["data"] if kept else None)
    dataset = data.load(folder, download=not args.offline, say=say)
    if kept and kept["digest"] != dataset.digest:
        raise ValueError(f"the study in {out} is of other data; give --data, or another --out")
    runs = _runs(args, grids, kept, dataset)
    remove_parts(out / STUDY)
    jobs = min(len(runs), runner.cores() if args.jobs is None else check_int("jobs", args.jobs, 1, 1024))
    if args.overwrite:
        # A new study that is interrupted is not to stand beside the old one's report.
        for name in report.FILES:
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(out / "runs", ignore_errors=True)
    _check_room(runs, dataset, out, jobs)
    held = [dataclasses.asdict(run) for run in runs]
    # Absolute, for a --resume from another folder.
    where = None if folder is None else str(Path(folder).expanduser().absolute())
    write_json(out / STUDY, {"schema": 1, "command": command, "data": where, "digest": dataset.digest, "runs": held})
    return runs, dataset, jobs


def _go(
    command: str,
    console: Any,
    out: Path,
    runs: list[study.Run],
    dataset: data.Dataset,
    jobs: int,
    job: _Job,
) -> int:
    _announce(runs, dataset, jobs, job)
    started = time.monotonic()
    try:
        with progress.Display(console, runs, jobs) as display:

            def listen(event: runner.Event) -> None:
                job.hear(event.run)
                display(event)

            results = runner.execute(runs, dataset, out, jobs=jobs, listen=listen, comm=job.comm)
        return _show(results, console, out, command, time.monotonic() - started)
    except KeyboardInterrupt:
        say(f"interrupted; {job.again}")
        return INTERRUPTED
    except (OSError, ValueError, MemoryError, runner.WorkerDied) as error:
        say(f"{reason(error)}; {job.again}")
        return FAILED


def _announce(runs: Sequence[study.Run], dataset: data.Dataset, jobs: int, job: _Job) -> None:
    print(f"{dataset.name} ({dataset.source})")
    train, validation = (
        report.joined([f"{value:,}" for value in sorted({getattr(run, name) for run in runs})], "or")
        for name in ("train_size", "validation_size")
    )
    print(
        f"{train} training and {validation} validation images, of the {len(dataset.train_labels):,} in the training "
        f"file; all {len(dataset.test_labels):,} test images"
    )
    arms = labels(list(dict.fromkeys(run.arm for run in runs)))
    told = "; ".join(arms.values()) if len(arms) <= FEW else f"{len(arms)} arms"
    how = f"{jobs} at a time" if job.comm is None else f"each on {job.size} processes"
    print(f"{len(runs)} runs, {how}: {told}; seeds {report.span(run.seed for run in runs)}", flush=True)
    if job.comm is not None:
        # Where mpiexec itself is interrupted it passes on no last words.
        print(f"whenever this ends early, {job.again}", flush=True)


def _show(results: Results, console: Any, out: Path, command: str, seconds: float) -> int:
    console.print(report.table(results))
    print(report.notes(results))
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    facts: dict[str, Any] = {"command": command, "finished": finished, "environment": environment()}
    files = report.write(results, out, tell=say, **facts)
    print(f"{clock(seconds)} minutes; wrote {', '.join(str(path) for path in files)}")
    diverged = [record for record in results.records if record.diverged]
    if diverged:
        say(f"training diverged in {len(diverged)} of {len(results.records)} runs: {diverged[0].diverged}")
    return FAILED if diverged else OK
