"""Makes calls and says what they did: one line of JSON for each, and the index of each before it is made."""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop._checks import is_int

from . import pools
from .context import Context
from .judge import comes_from_argument, complaint
from .target import Target
from .targets import TARGETS
from .watch import settings, state_of

SECONDS = 20  # for one call: the longest right one takes a hundredth of that
BYTES = 1 << 30  # beyond what the process had at first

UNSEEN = object()
#: What a function does so many times: a huge number is not wrong, and takes as long as it says.
LOOPED = ("num_layers", "epochs", "T", "n_children")


def plan(seed: int, index: int) -> tuple[Target, Context, dict[str, Any], dict[str, str]]:
    """The call of a seed and an index: target, arguments, and labels of those that were replaced."""
    context = Context(seed, index)
    source = context.source
    target = TARGETS[source.randrange(len(TARGETS))]
    arguments = context.arguments
    for name, make in target.good.items():
        arguments[name] = make(context)
    for name, make in target.may.items():
        if source.random() < 0.4:
            arguments[name] = make(context)
    names = target.parameters
    # Python's own methods say by AttributeError what is no Tensor; a compiled method has to look itself.
    own = {"self", "module"} if not target.name.startswith(("Mask.", "Noise.", "Generator.")) else set()
    free = [name for name in names if name not in own]
    labels: dict[str, str] = {}
    for name in source.sample(free, min(len(free), 1 + (source.random() < 0.2) + (source.random() < 0.05))):
        labels[name], arguments[name] = pools.choose(context)
        if name in LOOPED and ("index" in labels[name] or (is_int(arguments[name]) and arguments[name] > 1000)):
            labels[name], arguments[name] = "3", 3
        if name in ("mask", "noise") and "rng" not in labels and source.random() < 0.5:
            arguments.pop("rng", None)
    return target, context, arguments, labels


def call(seed: int, index: int) -> dict[str, Any]:
    """Make one call and judge it."""
    fd.manual_seed(index)
    target, context, arguments, labels = plan(seed, index)
    told: dict[str, Any] = {"index": index, "target": target.name, "wrong": labels}
    before = {name: state_of(value) for name, value in arguments.items()}
    world = settings()
    result, raised = UNSEEN, None
    try:
        result = target.call(arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: no function of a library ends the process
        raised = error
    finally:
        context.close()
    if raised is None:
        told["verdict"] = "returned"
        if (
            target.bits
            and index % 4 == 0
            and not any("thread" in label or "bare" in label for label in labels.values())
        ):
            told["verdict"] = compared(seed, index, result)
        put_back(world)
        return told
    told["raised"] = type(raised).__name__
    told["said"] = text_of(raised)
    told["verdict"] = "refused"
    if comes_from_argument(raised):
        told["raised"], told["verdict"] = "an argument's own", "refused"
    else:
        trouble = complaint(target, arguments, labels, raised)
        if trouble:
            told["verdict"] = trouble
            told["where"] = [
                f"{os.path.basename(f.filename)}:{f.lineno}" for f in traceback.extract_tb(raised.__traceback__)
            ][-4:]
    meddled = any(word in label for label in labels.values() for word in ("meddles", "dict", "tensor that lies"))
    if not (meddled or target.runs or target.name.startswith("_core.")):
        changed = [name for name, value in arguments.items() if state_of(value) != before[name]]
        if changed:
            told["verdict"], told["changed"] = "changed", changed
        elif settings() != world:
            told["verdict"], told["changed"] = "changed", [f"{world} to {settings()}"]
    put_back(world)
    return told


def text_of(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except Exception as second:
        return f"no text: {second!r}"


def put_back(world: Any) -> None:
    """What a call that was right may have set."""
    fd.set_isa(world[0])
    fd.set_num_threads(world[1])
    for name in set(os.listdir(".")) - set(world[4]):
        Path(name).unlink()


def compared(seed: int, index: int, result: Any) -> str:
    """The same call once more on portable C: the same bits."""
    if type(result) is not np.ndarray or result.dtype.hasobject:
        return "returned"
    isa = fd.isa()
    fd.set_isa("portable")
    fd.manual_seed(index)
    try:
        target, context, arguments, _ = plan(seed, index)
        again = target.call(arguments)
        context.close()
    except Exception:
        return "returned"  # what an argument answers in turn may differ
    finally:
        fd.set_isa(isa)
    if again.dtype != result.dtype or again.shape != result.shape:
        return "differs"
    one, two = (np.ascontiguousarray(a).view(np.uint8) for a in (np.atleast_1d(again), np.atleast_1d(result)))
    # float64's exponentials are the C library's, which may be compiled for each instruction set by itself.
    if not np.array_equal(one, two) and not np.allclose(again, result, rtol=1e-6, equal_nan=True):
        return "differs"
    return "compared"


def limit() -> None:
    """So that an absurd size is a MemoryError, and a hang or a crash says where."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES,) * 2)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)


def main(seed: int, start: int, stop: int, step: int = 1) -> None:
    warnings.simplefilter("ignore")
    out = sys.stdout
    fd.set_num_threads(2)
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        limit()
        for index in itertools.islice(itertools.count(start, step), max(0, -(-(stop - start) // step))):
            out.write(f"{index}\n")
            out.flush()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            told = call(seed, index)
            signal.setitimer(signal.ITIMER_REAL, 0)
            out.write(json.dumps(told, default=str) + "\n")
        out.flush()
        os.chdir(home)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
