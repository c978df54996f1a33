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

from .model import Measured, Step
from .worker import SETTINGS, VARIANTS

__all__ = ["FOLDER", "RANKS", "measure", "network_here", "step_of"]

FOLDER = record.ROOT / "docs" / "scale"
RANKS = (1, 2)
PARTS = ("forward", "backward", "optimizer")

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
    """What a step and its parts took, and what dropout added: medians, with quartiles.

    What a dropout adds is the median of differences within rounds: what else a shared machine does changes more slowly.
    """
    seconds = {variant: np.array(times) for variant, times in found["seconds"].items()}
    none = seconds["none"]
    whole = {variant: times.sum(axis=1) for variant, times in seconds.items()}
    computed = np.log(np.percentile(none[:, :2].sum(axis=1), (25, 75)))
    summary: Figures = {
        "rounds": len(none),
        "parts": dict(zip(PARTS, np.median(none, axis=0).tolist())),
        # From the quartiles, which an interruption does not move: .6745 standard deviations to each side.
        "spread": float(computed[1] - computed[0]) / 1.349,
    }
    for variant, times in whole.items():
        summary[variant] = {"step": float(np.median(times)), "quartiles": np.percentile(times, (25, 75)).tolist()}
        if variant != "none":
            summary[variant] |= {
                "added": dict(zip(PARTS, np.median(seconds[variant] - none, axis=0).tolist())),
                "cost": float(np.median(times / whole["none"])) - 1,
                "cost quartiles": (np.percentile(times / whole["none"], (25, 75)) - 1).tolist(),
            }
    return summary


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
            kept["pytorch"] = found["pytorch"]
            if "sums" in found:
                kept["sums"] = found["sums"]
            steps = ", ".join(f"{v} {kept['ranks'][str(ranks)][v]['step'] * 1e3:,.1f}" for v in VARIANTS)
            tell(f"{time.monotonic() - started:4.0f} s  {network} on {ranks}: {steps} ms a step")
    return record.write("measured", "make scale", time.monotonic() - started, figures, FOLDER)


def network_here(figures: Figures) -> Measured:
    """This machine's two ranks, whose sums take the time of those who compute."""
    sums = tuple(sorted((float(size), seconds) for size, seconds in figures["sums"].items()))
    return Measured("two ranks here", 0.0, 0.0, False, sums)


def step_of(figures: Figures, variant: str, spread: float) -> Step:
    """A step on one rank; backward is taken to fill gradients at one rate, from the last layer's to the first's."""
    alone = figures["ranks"]["1"]
    added = alone[variant].get("added", {})
    forward, backward = (alone["parts"][part] + max(added.get(part, 0.0), 0.0) for part in PARTS[:2])
    weights = figures["gradients"]
    ends = np.cumsum(weights) / sum(weights)
    # Dropout does not touch the optimizer: what differs there is noise.
    return Step(forward, backward, alone["parts"]["optimizer"], tuple(zip(map(float, weights), ends.tolist())), spread)
