"""A Transformer in plain PyTorch, trained with PyTorch's dropout and with fastdrop's: step times and losses.

    python examples/torch_transformer.py              # about ten seconds on one core
    python examples/torch_transformer.py --seeds 5    # and whether the losses differ by more than seeds make them
    python examples/torch_transformer.py --help

The model knows nothing of fastdrop: `fastdrop.torch.enabled()` stands around its steps, and that is all. Digits go in,
the same digits come out in order. There are few sequences to train on, and without dropout the model learns them by
heart: the losses are over others. Three copies train in turn, some steps each, from the same weights, on the same
batches, with the same seed for their masks. The third drops nothing, so the time that its steps do not take is what
dropout costs. That includes another attention: without dropout PyTorch takes a fused one, which is not always quicker
for short sequences, so a small share may be measured below 0. The same seed means other masks with fastdrop than with
PyTorch, so losses are as near as those of two runs of one kind with other masks.

For PyTorch, and for more than one seed scipy: pip install "fastdrop[torch]" scipy
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

import fastdrop as fd
import fastdrop.torch
from fastdrop._extra import extra
from fastdrop.functional import check_p

DIGITS = 10
TRAIN, UNSEEN = 64, 1000
#: So many steps of one copy, then of the next, so that a machine's slow moments fall on all of them.
ROUND = 5
WAYS = {"PyTorch's": contextlib.nullcontext, "fastdrop's": fastdrop.torch.enabled, "none": contextlib.nullcontext}


class Sorter(nn.Module):
    """Digits (N, L) to logits (N, L, 10): what digit stands at each place of the sorted sequence."""

    def __init__(self, length, d_model, heads, layers, dropout):
        super().__init__()
        self.embed = nn.Embedding(DIGITS, d_model)
        self.position = nn.Parameter(0.5 * torch.randn(length, d_model))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            d_model, heads, 4 * d_model, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.head = nn.Linear(d_model, DIGITS)

    def forward(self, digits):
        return self.head(self.encoder(self.dropout(self.embed(digits) + self.position)))


def loss_of(model, digits):
    return F.cross_entropy(model(digits).flatten(0, 1), digits.sort(dim=1).values.flatten())


class Copy:
    """One of the copies: its model and optimizer, its place in PyTorch's random numbers, and what was measured."""

    def __init__(self, way, options, seed):
        torch.manual_seed(seed)
        dropout = 0.0 if way == "none" else options.dropout
        self.model = Sorter(options.length, options.d_model, options.heads, options.layers, dropout)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.way, self.state = way, torch.get_rng_state()
        self.times, self.losses = [], []

    def train(self, steps):
        """Take (batch, learning rate) steps. Only they are timed: the round's time is their median."""
        torch.set_rng_state(self.state)
        times = []
        with WAYS[self.way]():
            for batch, rate in steps:
                self.optimizer.param_groups[0]["lr"] = rate
                began = time.perf_counter()
                self.optimizer.zero_grad()
                loss_of(self.model, batch).backward()
                self.optimizer.step()
                times.append(time.perf_counter() - began)
        self.times.append(statistics.median(times))
        self.state = torch.get_rng_state()

    def evaluate(self, digits):
        self.model.eval()
        with torch.no_grad():
            self.losses.append(loss_of(self.model, digits).item())
        self.model.train()
        if not math.isfinite(self.losses[-1]):
            raise SystemExit(f"the loss has become {self.losses[-1]} (dropout: {self.way}): --lr has to be smaller")


def train(options, seed, began):
    """Train the copies of one seed in turn; return them, and after how many steps their losses were taken."""
    copies = [Copy(way, options, seed) for way in WAYS]
    rng = torch.Generator().manual_seed(seed)
    data, unseen = (torch.randint(DIGITS, (count, options.length), generator=rng) for count in (TRAIN, UNSEEN))
    rounds = math.ceil(options.steps / ROUND)
    marks = []
    for done in range(rounds + 1):
        if done:
            steps = []
            for step in range(ROUND * (done - 1), min(ROUND * done, options.steps)):
                # Up over the first steps, then down to 0.
                rate = options.lr * min(1.0, (step + 1) / 20) * (1 - step / options.steps)
                steps.append((data[torch.randint(TRAIN, (options.batch_size,), generator=rng)], rate))
            for copy in copies:
                copy.train(steps)
        if done % max(1, rounds // 10) == 0 or done == rounds:
            marks.append(min(ROUND * done, options.steps))
            for copy in copies:
                copy.evaluate(unseen)
            losses = "   ".join(f"{copy.way} {copy.losses[-1]:.3f}" for copy in copies)
            seconds = time.perf_counter() - began
            print(f"seed {seed}  step {marks[-1]:5d}   loss: {losses}   {seconds:6.1f} s", flush=True)
    return copies, marks


def spread(values):
    """Mean, and standard deviation where there is one."""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def table(figures, marks):
    """Losses over the steps, if there are several seeds to average; then the times, and the losses before and after."""
    lines = []
    if len(figures["losses"]["none"]) > 1:
        lines.append(f"loss on unseen sequences, mean ± standard deviation over seeds\n{'step':>6}  ")
        lines[-1] += "".join(f"{way:>18}" for way in WAYS)
        for k, mark in enumerate(marks):
            found = (spread([seed[k] for seed in figures["losses"][way]]) for way in WAYS)
            lines.append(f"{mark:6d}  " + "".join(f"{text:>18}" for text in found))
        lines.append("")
    lines.append(f"{'dropout':<12}{'a step':>10}{'of it dropout':>16}{'loss at first':>18}{'in the end':>18}")
    for way in WAYS:
        share = "" if way == "none" else f"{100 * figures['shares'][way]:.1f} %"
        first, last = (spread([seed[k] for seed in figures["losses"][way]]) for k in (0, -1))
        lines.append(f"{way:<12}{figures['milliseconds'][way]:7.2f} ms{share:>16}{first:>18}{last:>18}")
    return "\n".join(lines)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def count(text):
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"has to be a whole number above 0, but got {text}")
        return int(text)

    def probability(text):
        try:
            return check_p(float(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"has to be between 0 and 1, but got {text}") from None

    def rate(text):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"has to be a finite number above 0, but got {text}")
        return value

    def option(name, kind, default, text, metavar="N"):
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default})")

    option("--d-model", count, 64, "features")
    option("--heads", count, 4, "attention heads")
    option("--layers", count, 2, "encoder layers")
    option("--length", count, 24, "digits in a sequence")
    option("--batch-size", count, 32, "sequences in a step")
    option("--dropout", probability, 0.1, "probability to drop", "P")
    option("--steps", count, 200, "training steps")
    option("--seeds", count, 1, "runs of each way: of weights, data and masks")
    option("--threads", count, torch.get_num_threads(), "for PyTorch, and for fastdrop")
    option("--lr", rate, 3e-3, "learning rate of AdamW, which falls to 0", "RATE")
    options = parser.parse_args(argv)
    if options.d_model % options.heads:
        parser.error(f"argument --heads: has to divide --d-model, {options.d_model}, but got {options.heads}")
    try:
        fd.set_num_threads(options.threads)
    except ValueError as error:
        parser.error(f"argument --threads: {error}")
    torch.set_num_threads(options.threads)
    return options


def main(argv=None):
    """Train; return what a step took, dropout's share of it, the losses of each seed at each mark, and the test's p."""
    options = parse(argv)
    stats = extra("scipy.stats") if options.seeds > 1 else None  # better now than after the training
    began = time.perf_counter()
    times = {way: [] for way in WAYS}
    figures = {"milliseconds": {}, "shares": {}, "losses": {way: [] for way in WAYS}, "p_value": None}
    for seed in range(options.seeds):
        copies, marks = train(options, seed, began)
        for copy in copies:
            times[copy.way] += copy.times
            figures["losses"][copy.way].append(copy.losses)
    for way in WAYS:
        figures["milliseconds"][way] = 1e3 * statistics.median(times[way])
        # Round by round, since a machine that slows down for some rounds would move the medians apart.
        figures["shares"][way] = statistics.median(1 - none / own for none, own in zip(times["none"], times[way]))
    print(f"\n{table(figures, marks)}")
    print(f"Medians over {len(times['none'])} rounds of {ROUND} steps each way, in turn. Threads: {options.threads}.")
    if stats is not None:
        last = ([seed[-1] for seed in figures["losses"][way]] for way in ("PyTorch's", "fastdrop's"))
        found = stats.ttest_ind(*last, equal_var=False)
        figures["p_value"] = float(found.pvalue)
        within = "within" if found.pvalue > 0.05 else "beyond"
        print(
            f"Welch's t-test on the losses in the end, PyTorch's against fastdrop's, {options.seeds} seeds each: "
            f"t = {found.statistic:.2f}, p = {found.pvalue:.3f}.\nThey differ {within} what seeds make them differ, at "
            "the level of 5 %: of equal ways, 1 comparison in 20 would be beyond."
        )
    return figures


if __name__ == "__main__":
    main()
