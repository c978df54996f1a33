"""Write docs/scale.md and its picture of what docs/scale/measured.json says: ``python -m trust.scale page``.

The words stand here, every number is measured or computed of what was. tests/trust/test_scale.py holds the page to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastdrop._files import whole_file
from trust import record
from trust.page import table

from .measured import FOLDER, network_here, step_of
from .model import NETWORKS, Network, Step, closed_form, simulate
from .picture import draw
from .worker import TOKENS, VARIANTS

__all__ = ["BUCKET", "CORES", "MANY", "SERVED", "SPREAD", "on_cores", "page", "write"]

PAGE = record.ROOT / "docs" / "scale.md"

BUCKET = float(25 << 20)  # PyTorch's
MANY = (1, 2, 8, 64, 256)
#: How much steps differ from time to time and rank to rank where others than these two are simulated: an assumption.
SPREAD = 0.03
#: Cores of a rank in the second simulation, and how many of them the memory serves at a core's own speed.
CORES, SERVED = 32, 8

Figures = dict[str, Any]

NAMES = {"none": "no dropout", "pytorch": "PyTorch's", "fastdrop": "fastdrop's"}
TITLES = {"mlp": "MLP 784-800-800-10", "bert": "BERT-base encoder"}


def on_cores(steps: dict[str, Step], variant: str, drawing_cores: int) -> Step:
    """A step of a rank with CORES cores, of which `drawing_cores` draw PyTorch's masks.

    All that is no dropout takes 1 / CORES of the time. PyTorch's drawing is what its forward takes longer than
    fastdrop's; the rest of its dropout, and all of fastdrop's, moves memory: 1 / SERVED.
    """
    none, own, ours = steps["none"], steps[variant], steps["fastdrop"]
    drawing = max(own.forward - ours.forward, 0.0) if variant == "pytorch" else 0.0
    moving = [max(own.forward - drawing - none.forward, 0.0), max(own.backward - none.backward, 0.0)]
    return replace(
        none,
        forward=none.forward / CORES + drawing / drawing_cores + moving[0] / SERVED,
        backward=none.backward / CORES + moving[1] / SERVED,
        optimizer=none.optimizer / CORES,
    )


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _costs(none: Step, own: Step, network: Network) -> list[str]:
    """What dropout adds to a step on more and more ranks, in percent of one without."""
    took = [[simulate(step, network, ranks, BUCKET, steps=200) for ranks in MANY] for step in (none, own)]
    return [f"{100 * (with_it / without - 1):.1f}" for without, with_it in zip(*took)]


def _measured(figures: Figures) -> Iterator[str]:
    rows = []
    for name, of in figures.items():
        here = network_here(of)
        for variant in VARIANTS:
            one, two = (of["ranks"][ranks][variant] for ranks in ("1", "2"))
            step = step_of(of, variant, of["ranks"]["1"]["spread"])
            rows.append(
                [
                    TITLES[name],
                    NAMES[variant],
                    *(f"{_ms(t['step'])} ({_ms(t['quartiles'][0])} to {_ms(t['quartiles'][1])})" for t in (one, two)),
                    _ms(closed_form(step, here, 2, BUCKET)),
                    _ms(simulate(step, here, 2, BUCKET)),
                ]
            )
    yield table(
        [
            "network",
            "dropout",
            "1 rank, measured",
            "2 ranks, measured",
            "2 ranks, by the formula",
            "2 ranks, simulated",
        ],
        rows,
    )


def _costs_here(figures: Figures) -> Iterator[str]:
    rows = []
    for name, of in figures.items():
        for ranks in ("1", "2"):
            costs = [of["ranks"][ranks][variant] for variant in VARIANTS[1:]]
            told = [
                f"{100 * cost['cost']:.1f} ({' to '.join(f'{100 * q:.1f}' for q in cost['cost quartiles'])})"
                for cost in costs
            ]
            rows.append([TITLES[name], ranks, *told])
    yield table(["network", "ranks", "PyTorch's dropout, % of a step without", "fastdrop's, %"], rows)


def _costs_simulated(figures: Figures) -> Iterator[str]:
    rows = []
    for name, of in figures.items():
        steps = {variant: step_of(of, variant, SPREAD) for variant in VARIANTS}
        for network in NETWORKS:
            for variant in VARIANTS[1:]:
                rows.append(
                    [TITLES[name], network.name, NAMES[variant], *_costs(steps["none"], steps[variant], network)]
                )
    yield table(["network", "connected by", "dropout", *_heads()], rows)


def _costs_on_cores(figures: Figures) -> Iterator[str]:
    rows = []
    for name, of in figures.items():
        steps = {variant: step_of(of, variant, SPREAD) for variant in VARIANTS}
        none = on_cores(steps, "none", 1)
        for network in NETWORKS:
            for words, variant, cores in (
                ("PyTorch's, drawn on one core", "pytorch", 1),
                ("PyTorch's, drawn on all", "pytorch", CORES),
                ("fastdrop's", "fastdrop", 1),
            ):
                costs = _costs(none, on_cores(steps, variant, cores), network)
                rows.append([TITLES[name], network.name, words, *costs])
    yield table(["network", "connected by", "dropout", *_heads()], rows)


def _heads() -> list[str]:
    return [f"{ranks} rank{'s' * (ranks > 1)}, %" for ranks in MANY]


def _sums(figures: Figures) -> Iterator[str]:
    """What sums took, alone."""
    sizes = list(figures["mlp"]["sums"])
    rows = [[TITLES[name], *(f"{1e3 * of['sums'][size]:.1f}" for size in sizes)] for name, of in figures.items()]
    yield table(["in the run of", *(f"{int(size) / 2**20:g} MiB, ms" for size in sizes)], rows)


def _misfit(figures: Figures) -> str:
    """How far the formula is from what two ranks took without dropout."""
    told = []
    for name, of in figures.items():
        measured = of["ranks"]["2"]["none"]["step"]
        off = closed_form(step_of(of, "none", of["ranks"]["1"]["spread"]), network_here(of), 2, BUCKET) / measured - 1
        told.append(f"{abs(100 * off):.0f} % {'more' if off > 0 else 'less'} for the {TITLES[name].split()[0]}")
    return " and ".join(told)


def page(found: Figures) -> str:
    """The page's text."""
    figures, e = found["figures"], found["environment"]
    mlp, bert = figures["mlp"], figures["bert"]
    spreads = {name: 100 * of["ranks"]["1"]["spread"] for name, of in figures.items()}
    parts = [
        f"""# Beyond one process: what a step takes, and dropout in it

What is dropped does not depend on how many processes share the work: each takes its slice of one mask, without a word to
the others and without a generator's state to keep ([distributed.md](distributed.md)). This page says what that costs.
Figures are **measured** on 1 and 2 ranks of one machine, of one thread each ({e["cores"]} cores, {e["isa"]}); what is said of more
ranks is **simulated**, or computed by a **formula**, and says so. `{found["command"]}` measures again; the record is
[scale/measured.json](scale/measured.json), of {found["date"]}.

## The two networks

- MLP: 784-800-800-10, p = {mlp["p"]:g}, {mlp["examples"]} examples a rank, {sum(mlp["gradients"]) / 1e6:.1f} MB of gradients.
- The encoder of BERT-base: 12 layers, d = 768, 12 heads, 3072 in between, p = {bert["p"]:g} on attention weights and in three places
  of each layer, {bert["examples"]} sequences of {TOKENS} tokens a rank, {sum(bert["gradients"]) / 1e6:,.0f} MB of gradients.

Both are PyTorch's own modules{" (" + bert["pytorch"] + ")" if "pytorch" in bert else ""} in float32 with AdamW and a linear layer at the end, under `DistributedDataParallel` over gloo on 2 ranks; "fastdrop's" is the same
program within `fastdrop.torch.enabled(shard=...)`. Each rank has as many examples whatever the number of ranks.

## Measured, and what the model says of the same

Milliseconds a step: medians, with quartiles; {bert["ranks"]["1"]["rounds"]} steps of each kind for BERT and {mlp["ranks"]["1"]["rounds"]} for the MLP, in turns.
""",
        *_measured(figures),
        """
Two ranks that share a machine without a core to spare sum their gradients on the cores that compute, so here sums take the ranks' own
time: step = F + B + c_1 + c_2 + ... + optimizer, in the words of the model below. What sums take, c, was measured alone, and is read off along straight
lines:
""",
        *_sums(figures),
        f"""
By that formula a step without dropout on 2 ranks takes {_misfit(figures)} than it did. What it misses is what two
ranks take from each other, caches and memory bandwidth, and what other programs of a shared machine do.

What dropout adds to a step, as the median (and quartiles) over rounds in which each kind had its turn:
""",
        *_costs_here(figures),
        f"""
## The model

A rank runs forward (F) and backward (B). Gradients are gathered in buckets of 1 MiB, for the first, and {BUCKET / 2**20:.0f} MiB (PyTorch's), in the order in which
backward makes them, which is taken to be at one rate of bytes. Bucket k is full after a share r_k of backward, and takes

    c_k = 2 ceil(log2 N) latency + 2 (N - 1)/N bytes_k / bandwidth

to sum over N ranks (Rabenseifner's algorithm, of MPI libraries: Thakur, Rabenseifner, Gropp, IJHPCA 19, 2005; gloo goes around a ring, which has
2 (N - 1) latencies and the same bytes). Sums run one after the other beside backward, so that

    step = max(F + B, F + max_k (r_k B + c_k + c_k+1 + ...)) + optimizer

where F and B are those of the slowest rank: exp(m s) times the median, s the standard deviation of the logarithm from step
to step and rank to rank, and m the mean of the largest of N normal numbers. The simulation draws F and B for every rank and step,
and starts each sum when the last rank is ready for it. For the two ranks above s is what 1 rank had here ({spreads["mlp"]:.0f} % for the
MLP, {spreads["bert"]:.0f} % for BERT: this machine is shared); below it is assumed to be {100 * SPREAD:.0f} %.

F, B and the optimizer's time are the medians on 1 rank without dropout; a dropout adds the medians of the differences to F and B, 0 where noise made one
negative, and nothing to the optimizer. {" ".join(f"{n.name} stands for {1e6 * n.latency:.0f} us and {n.bandwidth / 1e9:g} GB/s." for n in NETWORKS)}

![A step's time against the number of ranks](scale/steps.png)

## Simulated: what dropout adds on more ranks

In percent of the same step without dropout. Sums make a step longer, and so dropout's share of it smaller; what dropout adds in backward can hide behind
sums that take longer than backward, but most of it is in forward.
""",
        *_costs_simulated(figures),
        f"""
The same for ranks of {CORES} cores. This is more guess than the table above: everything but dropout is taken to be {CORES} times as fast. PyTorch draws
masks on one core on most processors (seen here: AMD's), and on all of them on Intel's, with MKL; what remains of its dropout, and all
of fastdrop's, is taken to be {SERVED} times as fast, since it moves memory.
""",
        *_costs_on_cores(figures),
        """
## What is left out

Tensor and pipeline parallel steps, whose sums are activations; networks that several jobs share; a rank that is slow for good;
links that differ. Dropout's own part of those is the same: a slice of a mask, on the rank that has the tensor's slice.
""",
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def write(folder: Path = FOLDER, to: Path = PAGE) -> Path:
    """Write the page and its picture."""
    found = record.read("measured", folder)
    draw(found["figures"], folder / "steps.png", BUCKET, SPREAD)
    with whole_file(to) as part:
        part.write_text(page(found), encoding="utf-8")
    return to
