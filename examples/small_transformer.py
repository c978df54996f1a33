"""A small Transformer learns to sort: digits go in, the same digits come out in order.

    python examples/small_transformer.py            # well under a minute on one core
    python examples/small_transformer.py --help

Every place of the output depends on every place of the input, so this is a task for attention. Each step draws new
sequences; the accuracy is over others still, in evaluation mode, where dropout is off. Dropout is there to be seen at
work in attention weights, activations and branches: with endless data there is nothing for it to prevent.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim
from fastdrop.nn import functional as F

DIGITS = 10


class Sorter(nn.Module):
    """Digits (N, L) to logits (N, L, 10): what digit stands at each place of the sorted sequence."""

    def __init__(self, length, d_model, heads, layers, dropout, drop_path):
        super().__init__()
        self.embed = nn.Linear(DIGITS, d_model, bias=False)
        self.position = nn.Parameter(nn.randn(length, d_model).array * np.float32(0.5))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            d_model, heads, 2 * d_model, dropout, "gelu", batch_first=True, norm_first=True, drop_path=drop_path
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(d_model))
        self.head = nn.Linear(d_model, DIGITS)

    def forward(self, digits):
        one_hot = np.eye(DIGITS, dtype=np.float32)[digits]
        return self.head(self.encoder(self.dropout(self.embed(one_hot) + self.position)))


def make_data(rng, count, length):
    """Sequences, and the same ones sorted."""
    digits = rng.integers(0, DIGITS, (count, length))
    return digits, np.sort(digits, axis=1)


def accuracies(model, digits, target):
    """The shares of places and of whole sequences that are right."""
    model.eval()
    with nn.no_grad():
        right = model(digits).array.argmax(axis=-1) == target
    model.train()
    return float(right.mean()), float(right.all(axis=1).mean())


def main(argv=None):
    """Train and test; returns the shares of places and of whole sequences that are right in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=12, help="digits in a sequence (default: %(default)s)")
    parser.add_argument("--d-model", type=int, default=64, help="features (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=4, help="attention heads (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="encoder layers (default: %(default)s)")
    parser.add_argument("--dropout", type=float, default=0.1, help="probability to drop (default: %(default)s)")
    parser.add_argument("--drop-path", type=float, default=0.0, help="and to drop a branch (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="training steps (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="sequences in a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=3e-3, help="learning rate, which falls to 0 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and masks (default: %(default)s)")
    options = parser.parse_args(argv)
    if min(options.length, options.steps, options.batch_size) < 1:
        parser.error("--length, --steps and --batch-size must be at least 1")

    began = time.perf_counter()
    sizes = options.length, options.d_model, options.heads, options.layers
    try:  # What fastdrop says of a bad value serves a user of the command line too.
        fd.manual_seed(options.seed)
        model = Sorter(*sizes, options.dropout, options.drop_path)
        optimizer = optim.AdamW(model.parameters(), lr=options.lr)
    except ValueError as error:
        parser.error(str(error))
    rng = np.random.default_rng(options.seed)
    test = make_data(rng, 1000, options.length)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {options.length} digits to sort")
    for step in range(1, options.steps + 1):
        # Up over the first steps, then down to 0.
        optimizer.param_groups[0]["lr"] = options.lr * min(1.0, step / 50) * (1 - (step - 1) / options.steps)
        digits, target = make_data(rng, options.batch_size, options.length)
        loss = F.cross_entropy(model(digits).reshape(-1, DIGITS), target.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, options.steps // 10) == 0:
            places, whole = accuracies(model, *test)
            print(
                f"step {step:5d}  loss {loss.item():.4f}  right: {places:6.1%} of places, {whole:6.1%} of sequences  "
                f"{time.perf_counter() - began:5.1f} s"
            )
    places, whole = accuracies(model, *test)
    print(f"example: {test[0][0]} -> {model.eval()(test[0][:1]).array[0].argmax(axis=-1)}")
    print(f"accuracy: {places:.1%} of places, {whole:.1%} of whole sequences, on {len(test[0])} not trained on")
    return {"places": places, "sequences": whole}


if __name__ == "__main__":
    main()
