"""The picture of docs/scale.md: what a step takes on more and more ranks, for each network and connection."""

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
LOOKS = dict(zip(VARIANTS, ((FAINT, ":"), (COLOURS[1], "--"), (COLOURS[0], "-"))))
SHOWN = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def draw(figures: dict[str, Any], to: Path, bucket: float, spread: float) -> None:
    """Measured points on 1 and 2 ranks of this machine, and lines that are simulated, of a step's milliseconds."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 6.4), layout="constrained")
        grid = figure.subplots(len(figures), len(NETWORKS), sharex=True, sharey="row", squeeze=False)
        for row, (name, of) in zip(grid, figures.items()):
            for ax, network in zip(row, NETWORKS):
                for variant in VARIANTS:
                    colour, style = LOOKS[variant]
                    first = variant == VARIANTS[0]
                    step = step_of(of, variant, spread)
                    simulated = [1e3 * simulate(step, network, n, bucket, steps=200) for n in SHOWN]
                    ax.plot(SHOWN, simulated, style, color=colour, label=f"{WORDS[variant]}, simulated", lw=1.6)
                    formula = [1e3 * closed_form(step, network, n, bucket) for n in SHOWN]
                    ax.plot(
                        SHOWN, formula, "x", color=colour, ms=4, label="by the formula" if variant == "none" else None
                    )
                    here = [1e3 * of["ranks"][str(n)][variant]["step"] for n in RANKS]
                    ax.plot(
                        RANKS, here, "o", color=colour, mfc="white", ms=6,
                        label="measured (two ranks on one machine)" if first else None,
                    )  # fmt: skip
                ax.set_xscale("log", base=2)
                ax.set_xticks(SHOWN, [str(n) for n in SHOWN])
                ax.set_ylim(bottom=0)
                ax.margins(y=0.08)
                ax.set_title(f"{TITLES[name]}, {network.name}", loc="left", fontsize=10)
                ax.spines[["top", "right"]].set_visible(False)
                ax.grid(axis="y", alpha=0.25)
            row[0].set_ylabel("milliseconds a step")
        for ax in grid[-1]:
            ax.set_xlabel("ranks, of one thread each")
        grid[0][0].legend(frameon=False, fontsize=8)
        last = network_here(next(iter(figures.values())))
        figure.supxlabel(
            f"Circles: over gloo on one machine, {last.bandwidth / 1e9:.1f} GB/s and no core to spare for it. "
            "Lines: the network named.",
            fontsize=8,
            color=FAINT,
        )
        with whole_file(to) as part:
            figure.savefig(part, dpi=150, format="png")
