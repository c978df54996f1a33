"""What a net does not know: Monte-Carlo dropout on a curve with a gap in its data.

    python examples/mc_regression.py            # a few seconds on one core; writes mc_regression.png
    python examples/mc_regression.py --help

A small net with dropout learns a curve from noisy points that leave out a stretch in the middle. Then it predicts many
times with dropout at work: the mean is the prediction, and the passes' spread says how far to trust it. On the data the
passes agree; in the gap and beyond the ends, where nothing held them together, they part.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim

LEFT, RIGHT = (-3.6, -1.1), (1.1, 3.6)  # where there are data
NOISE = 0.15
GRID = np.linspace(-5, 5, 401, dtype=np.float32)
SHOWN = 12  # passes drawn one by one

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, INK, FAINT = "#0072B2", "#D55E00", "#222222", "#777777"
STYLE = {"font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.edgecolor": FAINT}


def truth(x):
    """The curve that the points lie about."""
    return np.sin(1.8 * x) + 0.35 * x


def make_data(points, seed):
    """Half of the points left of the gap and half right of it, with noise."""
    rng = np.random.default_rng(seed)
    sides = [rng.uniform(*side, points // 2) for side in (LEFT, RIGHT)]
    x = np.concatenate(sides)
    y = truth(x) + NOISE * rng.standard_normal(x.size)
    return x[:, None].astype(np.float32), y[:, None].astype(np.float32)


def make_model(p, width=128):
    """Dropout stands before every layer but the first, as in Gal and Ghahramani's paper."""
    layers = [nn.Linear(1, width), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Dropout(p), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(p), nn.Linear(width, 1))


def one_net_per_pass(model):
    """Let all points of a pass share their masks: each pass is then one thinned net, and draws one curve."""
    for layer in model:
        if isinstance(layer, nn.Dropout):
            layer.noise_shape = (1, None)


def draw(x, y, found, curves, path, subtitle):
    """The picture: data, truth, mean, bands and some passes; below, how far the passes are apart."""
    import matplotlib
    from matplotlib.figure import Figure

    mean, std = found.mean[:, 0], found.std[:, 0]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.6), dpi=150, facecolor="white")
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        for times, shade, percent in ((2, 0.16, 95), (1, 0.26, 68)):
            label = f"about {percent} % of passes (± {times} std)"
            top.fill_between(GRID, mean - times * std, mean + times * std, color=BLUE, alpha=shade, lw=0, label=label)
        for k, curve in enumerate(curves):
            top.plot(GRID, curve, color=BLUE, lw=0.6, alpha=0.45, label="single passes" if k == 0 else None)
        top.plot(GRID, mean, color=BLUE, lw=2.4, label="mean of the passes")
        top.plot(GRID, truth(GRID), "--", color=INK, lw=1.3, label="truth")
        top.plot(x, y, "o", ms=3.6, mfc=ORANGE, mec="white", mew=0.4, label="data")
        top.set_ylabel("y")
        handles, labels = top.get_legend_handles_labels()
        order = [labels.index(name) for name in ("data", "truth", "mean of the passes", "single passes")]
        order += [labels.index(name) for name in labels if name.startswith("about")][::-1]
        top.legend([handles[i] for i in order], [labels[i] for i in order], loc="upper left", ncols=2, edgecolor="none",
                   framealpha=0.85)  # fmt: skip
        below.fill_between(GRID, 0, std, color=BLUE, alpha=0.26, lw=0)
        below.plot(GRID, std, color=BLUE, lw=1.6)
        below.set_ylabel("std of passes")
        below.set_xlabel("x")
        below.set_ylim(0, None)
        for side in (LEFT, RIGHT):
            below.axvspan(*side, color=ORANGE, alpha=0.10, lw=0)
            below.text(sum(side) / 2, 0.93, "data", color=ORANGE, ha="center", va="top",
                       transform=below.get_xaxis_transform())  # fmt: skip
        below.text(0, 0.93, "gap", color=FAINT, ha="center", va="top", transform=below.get_xaxis_transform())
        for axis in (top, below):
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color="#e4e4e4", lw=0.7)
            axis.set_axisbelow(True)
        top.set_xlim(GRID[0], GRID[-1])
        middle = np.concatenate([mean - 2 * std, mean + 2 * std])
        low, high = middle.min(), middle.max()
        top.set_ylim(low - 0.02 * (high - low), high + 0.1 * (high - low))
        figure.suptitle("What the net does not know", x=0.065, y=0.975, ha="left", fontsize=15, fontweight="bold")
        figure.text(0.065, 0.905, subtitle, ha="left", color=FAINT)
        figure.align_ylabels()
        figure.subplots_adjust(left=0.065, right=0.985, top=0.885, bottom=0.08, hspace=0.08)
        figure.savefig(path)


def main(argv=None):
    """Train, predict, draw; returns the mean spread on the data, in the gap and outside, and where the picture is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("mc_regression.png"), help="the picture (default: %(default)s)"
    )
    parser.add_argument("--points", type=int, default=160, help="noisy points (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=600, help="passes over them (default: %(default)s)")
    parser.add_argument("--p", type=float, default=0.1, help="probability to drop (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=500, help="predictions to average (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and masks (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.points < 2 or options.passes < 2:
        parser.error("a spread takes at least 2 points and 2 passes")
    if not options.out.parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.parent}")

    began = time.perf_counter()
    try:  # What fastdrop says of a bad value serves a user of the command line too.
        fd.manual_seed(options.seed)
        model = make_model(options.p)
    except ValueError as error:
        parser.error(str(error))
    x, y = make_data(options.points, options.seed)
    optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    nn.fit(model, (x, y), epochs=options.epochs, optimizer=optimizer, loss=nn.functional.mse_loss, batch_size=32)

    one_net_per_pass(model)
    found = nn.mc_predict(model, GRID[:, None], options.passes, seed=options.seed)
    curves = []
    for t in range(min(SHOWN, options.passes)):  # the very passes that entered the mean, again
        with nn.mc_dropout(model, options.seed, t):
            curves.append(model(GRID[:, None]).array[:, 0])

    std = found.std[:, 0]
    on = ((GRID > LEFT[0]) & (GRID < LEFT[1])) | ((GRID > RIGHT[0]) & (GRID < RIGHT[1]))
    gap = (GRID > LEFT[1]) & (GRID < RIGHT[0])
    figures = {
        "on the data": float(std[on].mean()),
        "in the gap": float(std[gap].mean()),
        "outside": float(std[~on & ~gap].mean()),
    }
    subtitle = (
        f"Monte-Carlo dropout: {options.passes} passes of a net of 3 hidden layers, p = {options.p:g}, trained on "
        f"{len(x)} points; seed {options.seed}"
    )
    draw(x, y, found, curves, options.out, subtitle)
    print("std of the passes:", ", ".join(f"{value:.3f} {where}" for where, value in figures.items()))
    print(f"{options.out} after {time.perf_counter() - began:.1f} s")
    return {**figures, "out": options.out}


if __name__ == "__main__":
    main()
