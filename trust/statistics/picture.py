"""All p-values of a run, sorted, against those of a perfect generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from fastdrop._files import whole_file
from fastdrop._reporting import COLOURS, FAINT, INK, STYLE

from .family import Finding
from .suite import Outcome


def draw(ours: dict[int, Outcome], worse: dict[str, Outcome], path: Path) -> None:
    """Draw runs of the library, by seed, and of broken generators, by name.

    The band is where 95 of 100 sorted p-values lie, each on its own, if all are independent and uniform.
    """
    with rc_context(cast(Any, STYLE)):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots(1, 2)
        some = next(iter(ours.values()))
        number = len(chances(some))
        rank = np.arange(1, number + 1)
        low, high = (stats.beta.ppf(level, rank, number + 1 - rank) for level in (0.025, 0.975))
        expected = rank / (number + 1)
        for axis in axes:
            axis.fill_between(
                expected, low, high, color=FAINT, alpha=0.3, linewidth=0, label="95 % band of a perfect one"
            )
            title = "fastdrop, seed " + ", ".join(map(str, ours))
            for outcome in ours.values():
                mine = chances(outcome)
                share = np.arange(1, len(mine) + 1) / (len(mine) + 1)
                axis.plot(share, mine, color=COLOURS[1], alpha=0.8, linewidth=1.2, label=title)
                title = ""
            axis.set_xlabel("share of the tests")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set(title="all p-values, sorted", ylabel="p-value", xlim=(0, 1), ylim=(0, 1), aspect="equal")

        axes[1].axhline(some.bound, color=INK, linewidth=1, linestyle="--")
        axes[1].text(1, some.bound * 0.8, f"the bound, {some.bound:.1e}", ha="right", va="top", fontsize=8)
        for (name, outcome), colour, line in zip(worse.items(), COLOURS[::-1], (":", "-.", (0, (5, 1)))):
            theirs = np.maximum(chances(outcome), 1e-30)
            share = np.arange(1, len(theirs) + 1) / (len(theirs) + 1)
            axes[1].plot(share, theirs, color=colour, linestyle=line, linewidth=1.6, label=name)
        axes[1].set(title="the smallest ones", xscale="log", yscale="log", ylim=(1e-15, 1.5))
        axes[0].legend(*axes[1].get_legend_handles_labels(), loc="lower right", frameon=False, fontsize=8)
        with whole_file(path) as part:
            figure.savefig(part, format="png", dpi=110)


def chances(outcome: Outcome) -> np.ndarray:
    """The sorted p-values of what is a matter of chance: not of overlaps, which are right or wrong."""

    def of_chance(finding: Finding) -> bool:
        return not finding.test.startswith("overlap")

    return np.sort([f.p for some in outcome.findings.values() for f in some if of_chance(f)])
