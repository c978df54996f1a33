"""The picture of docs/scale.md: steps that were measured here, and what they would take on more and more ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from fastdrop._files import whole_file
from fastdrop._reporting import COLOURS, FAINT, STYLE

from .measured import RANKS, network_here, step_of
from .model import NETWORKS, closed_form, simulate
from .worker import VARIANTS

__all__ = ["draw"]

TITLES = {"mlp": "MLP", "bert": "BERT-base encoder"}
WORDS = {"none": "no dropout", "pytorch": "PyTorch's dropout", "fastdrop": "fastdrop's"}
LOOKS = dict(zip(VARIANTS, ((FAINT, ":", "s"), (COLOURS[1], "--", "D"), (COLOURS[0], "-", "o"))))
SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _here(ax: Any, of: dict[str, Any], bucket: float) -> None:
    """One and two ranks on one machine: medians with quartiles, and the formula's word for two."""
    for i, variant in enumerate(VARIANTS):
        colour, _, mark = LOOKS[variant]
        taken = [of["ranks"][str(n)][variant] for n in RANKS]
        middle = [1e3 * t["step"] for t in taken]
        around = [[abs(1e3 * t["quartiles"][side] - m) for t, m in zip(taken, middle)] for side in (0, 1)]
        places = [n + 0.14 * (i - 1) for n in RANKS]
        ax.errorbar(places, middle, around, fmt=mark, color=colour, ms=5, capsize=2, label=WORDS[variant])
        two = closed_form(step_of(of, variant, of["ranks"]["1"]["spread"]), network_here(of), 2, bucket)
        words = "two by the formula" if i == len(VARIANTS) - 1 else None
        ax.plot(places[1], 1e3 * two, "x", color="black", ms=6, label=words)
    ax.set_xlim(0.6, 2.4)
    ax.set_xticks(RANKS)


def _simulated(ax: Any, of: dict[str, Any], network: Any, bucket: float, spread: float) -> None:
    for variant in VARIANTS:
        colour, style, _ = LOOKS[variant]
        step = step_of(of, variant, spread)
        ax.plot(
            SHOWN, [1e3 * simulate(step, network, n, bucket, steps=200) for n in SHOWN], style, color=colour, lw=1.8,
            label=WORDS[variant],
        )  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks(SHOWN, [str(n) for n in SHOWN])


def draw(figures: dict[str, Any], to: Path, bucket: float, spread: float) -> None:
    """A row for each network: measured here, and simulated for each connection; milliseconds a step."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.5, 6), layout="constrained")
        grid = figure.subplots(
            len(figures), 1 + len(NETWORKS), sharey="row", squeeze=False, width_ratios=[0.7, *[1] * len(NETWORKS)]
        )
        for row, (name, of) in zip(grid, figures.items()):
            _here(row[0], of, bucket)
            row[0].set_title(f"{TITLES[name]}, measured here", loc="left", fontsize=9.5)
            row[0].set_ylabel("milliseconds a step")
            for ax, network in zip(row[1:], NETWORKS):
                _simulated(ax, of, network, bucket, spread)
                ax.set_title(f"simulated, {network.name}", loc="left", fontsize=9.5)
            row[0].set_ylim(0, 1.08 * max(ax.dataLim.ymax for ax in row))
            for ax in row:
                ax.spines[["top", "right"]].set_visible(False)
                ax.grid(axis="y", alpha=0.25)
        for ax in grid[-1]:
            ax.set_xlabel("ranks, of one thread each")
        grid[0][0].legend(frameon=False, fontsize=8, loc="lower right")
        grid[0][1].legend(frameon=False, fontsize=8, loc="lower right")
        with whole_file(to) as part:
            figure.savefig(part, dpi=140, format="png")
