"""Times steps on 1 and 2 ranks of this machine and keeps them, and reads them as what the model takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trust import record

from .model import Network, Step
from .worker import SETTINGS, VARIANTS

__all__ = ["FOLDER", "RANKS", "measure", "network_here", "step_of"]

FOLDER = record.ROOT / "docs" / "scale"
RANKS = (1, 2)

Figures = dict[str, Any]


def _run(network: str, ranks: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        command = [sys.executable, *launcher, "-m", "trust.scale.worker", network, str(out)]
        done = subprocess.run(command, cwd=record.ROOT, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        found: Figures = json.loads(out.read_text(encoding="utf-8"))
        return found


def _summary(found: Figures) -> Figures:
    """Medians and quartiles of what each part of a step took, and how steps spread."""
    parts: Figures = {}
    for variant, times in found["seconds"].items():
        seconds = np.array(times)
        whole = seconds.sum(axis=1)
        parts[variant] = {
            **dict(zip(("forward", "backward", "optimizer"), np.median(seconds, axis=0).tolist())),
            "step": float(np.median(whole)),
            "quartiles": np.percentile(whole, (25, 75)).tolist(),
            "steps": len(whole),
            # From the quartiles, which an interruption does not move: .6745 standard deviations to each side.
            "spread": float(np.subtract(*np.log(np.percentile(seconds[:, :2].sum(axis=1), (75, 25)))) / 1.349),
        }
    return parts


def measure(tell: Callable[[str], None] = print) -> Path:
    """Time both networks on 1 and 2 ranks, and write docs/scale/measured.json."""
    started = time.monotonic()
    figures: Figures = {}
    for network in SETTINGS:
        for ranks in RANKS:
            found = _run(network, ranks)
            kept = figures.setdefault(network, {"p": found["p"], "examples": found["examples"], "ranks": {}})
            kept["gradients"] = found["gradients"]
            kept["ranks"][str(ranks)] = _summary(found)
            if "sums" in found:
                kept["sums"] = found["sums"]
            steps = ", ".join(f"{v} {kept['ranks'][str(ranks)][v]['step'] * 1e3:,.1f}" for v in VARIANTS)
            tell(f"{time.monotonic() - started:4.0f} s  {network} on {ranks}: {steps} ms a step")
    return record.write("measured", "make scale", time.monotonic() - started, figures, FOLDER)


def network_here(figures: Figures) -> Network:
    """Latency and bandwidth of this machine's two ranks: the line through what sums took, in relative error."""
    sizes, seconds = (np.array(list(map(float, column))) for column in zip(*figures["sums"].items()))
    # Of two ranks a sum takes 2 latencies and its bytes once.
    lines = np.stack([2 / seconds, sizes / seconds], axis=1)
    latency, per_byte = np.linalg.lstsq(lines, np.ones(len(sizes)), rcond=None)[0]
    return Network("two ranks here", max(float(latency), 0.0), float(1 / per_byte), beside=False)


def step_of(figures: Figures, variant: str) -> Step:
    """A step on one rank; backward is taken to fill gradients at one rate, from the last layer's to the first's."""
    alone = figures["ranks"]["1"]
    parts, weights = alone[variant], figures["gradients"]
    ends = np.cumsum(weights) / sum(weights)
    gradients = tuple(zip(map(float, weights), ends.tolist()))
    return Step(parts["forward"], parts["backward"], parts["optimizer"], gradients, alone["none"]["spread"])
