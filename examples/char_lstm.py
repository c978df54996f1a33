"""A character LSTM on a text of a few pages: without dropout, and with dropout that is locked over time.

A small grammar writes the text, so that there is as much of it as we like, and so that we know how well any model could
do: the grammar's own choices, in nats per character, are the floor. The training text is short enough for the LSTM to
learn it by heart. Without dropout it does so, and gets worse at text it has not seen; with locked dropout it learns the
grammar instead.

    python examples/char_lstm.py
    python examples/char_lstm.py --plot char_lstm.png
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim
from fastdrop._extra import extra
from fastdrop._files import whole_file
from fastdrop._reporting import COLOURS, FAINT, STYLE, spread_labels
from fastdrop.functional import check_p

#: So many pieces of a text are read side by side.
STREAMS = 16

# {name} stands for one of the alternatives under that name, all equally likely. No sentence can be made in two ways.
GRAMMAR = {
    "sentence": [
        "{who} {acts} {what} {where}.\n",
        "{when} {who} {acts} {what}.\n",
        "{who} {says} that {who} {acts} {what}.\n",
        "{when} {who} {acts} {what}, and {who} {acts} {what} {where}.\n",
    ],
    "who": ["the {how} {person}", "the {person}", "{name}"],
    "how": ["old", "young", "quiet", "clever", "tired", "merry", "lonely", "proud"],
    "person": ["baker", "sailor", "miller", "teacher", "gardener", "painter", "doctor", "fiddler", "weaver", "judge"],
    "name": ["anna", "boris", "clara", "david", "emma", "felix", "greta", "hugo"],
    "acts": ["buys", "finds", "hides", "paints", "carries", "forgets", "sells", "mends", "draws", "washes"],
    "what": ["a {colour} {thing}", "the {thing}", "{number} {thing}s"],
    "colour": ["red", "green", "golden", "black", "white", "blue"],
    "thing": ["boat", "clock", "lamp", "basket", "violin", "ladder", "kettle", "carpet", "window", "bridge"],
    "number": ["two", "three", "five", "seven", "twelve", "forty"],
    "where": ["near the {place}", "behind the {place}", "in the {place}"],
    "place": ["harbour", "market", "church", "forest", "garden", "station", "school", "castle"],
    "when": ["today", "at night", "in spring", "every morning", "after the storm", "on sundays"],
    "says": ["says", "knows", "dreams", "denies", "hopes"],
}


def write_text(rng: np.random.Generator, length: int) -> tuple[str, float]:
    """Write sentences until there are `length` characters; return them, and the nats per character they took."""
    nats = 0.0

    def choose(match: re.Match[str]) -> str:
        nonlocal nats
        choices = GRAMMAR[match[1]]
        nats += math.log(len(choices))
        return re.sub(r"\{(\w+)\}", choose, choices[rng.integers(len(choices))])

    text = ""
    while len(text) < length:
        text += re.sub(r"\{(\w+)\}", choose, "{sentence}")
    return text, nats / len(text)


class CharLSTM(nn.Module):
    """Scores of the next character, for each character of a text."""

    def __init__(self, characters: int, hidden: int, **dropout: Any) -> None:
        super().__init__()
        self.one_hot = np.eye(characters, dtype=np.float32)
        self.lstm = nn.LSTM(characters, hidden, **dropout)
        self.scores = nn.Linear(hidden, characters)

    def forward(self, codes: Any, state: Any = None) -> Any:
        output, state = self.lstm(self.one_hot[codes], state)
        return self.scores(output), state


def streams(codes: Any, count: int) -> Any:
    """Cut a text into `count` pieces that are read side by side: (steps, count)."""
    steps = len(codes) // count
    return codes[: steps * count].reshape(count, steps).T


def loss_of(model: CharLSTM, batch: Any, state: Any = None) -> tuple[Any, Any]:
    """Mean loss, in nats per character, of reading each character but the last and foretelling the next one."""
    scores, state = model(batch[:-1], state)
    return nn.functional.cross_entropy(scores.flatten(0, 1), batch[1:].ravel()), state


def evaluate(model: CharLSTM, text: Any) -> float:
    """The loss on a text that is read in one go, with dropout off."""
    model.eval()
    with nn.no_grad():
        loss, _ = loss_of(model, text)
    model.train()
    return float(loss.item())


def train(model: CharLSTM, text: Any, validation: Any, options: argparse.Namespace) -> dict[str, list[float]]:
    """Train for some epochs, and return both losses after each of them."""
    optimizer = optim.Adam(model.parameters(), lr=options.lr)
    history: dict[str, list[float]] = {"train": [], "validation": []}
    began = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        state = None
        for start in range(0, len(text) - 1, options.steps):
            loss, state = loss_of(model, text[start : start + options.steps + 1], state)
            # What was read goes on into the next window; gradients stop here.
            state = tuple(s.detach() for s in state)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        history["train"].append(evaluate(model, text))
        history["validation"].append(evaluate(model, validation))
        if epoch % max(1, options.epochs // 6) == 0 or epoch == options.epochs:
            print(
                f"  epoch {epoch:3d}   train {history['train'][-1]:.3f}   validation {history['validation'][-1]:.3f}"
                f"   {time.perf_counter() - began:5.1f} s"
            )
    return history


def sample(model: CharLSTM, alphabet: str, length: int, rng: np.random.Generator) -> str:
    """Let the model write, one character after the other; each begins where the state of the last one ended."""
    model.eval()
    code, state, text = alphabet.index("\n"), None, ""
    with nn.no_grad():
        for _ in range(length):
            scores, state = model(np.array([[code]]), state)
            chances = scores.softmax(-1).array[0, 0].cumsum()
            code = min(int(np.searchsorted(chances, rng.random())), len(alphabet) - 1)
            text += alphabet[code]
    model.train()
    return text


def table(figures: dict[str, Any]) -> str:
    """The losses after the last epoch, beside the best of any epoch and what the grammar allows."""
    lines = ["nats per character   train   validation   best validation"]
    for name, history in figures["nets"].items():
        best = min(history["validation"])
        epoch = 1 + history["validation"].index(best)
        lines.append(
            f"{name:<18}   {history['train'][-1]:5.3f}   {history['validation'][-1]:10.3f}   {best:.3f} (epoch {epoch})"
        )
    lines.append(f"{'the grammar itself':<18}   {'':5}   {figures['floor']:10.3f}")
    return "\n".join(lines)


def plot(figures: dict[str, Any], path: Path) -> None:
    """Draw both losses of both nets over the epochs."""
    with extra("matplotlib").rc_context(STYLE):
        figure = extra("matplotlib.figure").Figure(figsize=(7.2, 4.4), dpi=150, facecolor="white")
        axis = figure.add_axes((0.085, 0.12, 0.655, 0.70))
        top = 2.5 * max(min(history["validation"]) for history in figures["nets"].values())
        ends = []
        for (name, history), colour in zip(figures["nets"].items(), COLOURS):
            epochs = np.arange(1, len(history["train"]) + 1)
            for part, style, width in (("validation", "-", 2.2), ("train", "--", 1.4)):
                axis.plot(epochs, history[part], style, color=colour, lw=width)
                word = "training" if part == "train" else part
                ends.append((history[part][-1], f"{name},\n{word} {history[part][-1]:.3f}", colour))
        axis.axhline(figures["floor"], color=FAINT, lw=1, ls=":")
        ends.append((figures["floor"], f"what the grammar\nallows {figures['floor']:.3f}", FAINT))
        axis.set(xlabel="epoch", ylim=(0, top), xlim=(0, len(epochs)))
        axis.grid(axis="y", color="#dddddd", lw=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        for (value, text, colour), place in zip(ends, spread_labels([end[0] for end in ends], 0.1 * top, 0, top)):
            axis.annotate(
                text, (len(epochs), value), (1.06, place / top), textcoords="axes fraction", color=colour, va="center",
                fontsize=8.5, annotation_clip=False, linespacing=1.15,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 1, "relpos": (0, 0.5)},
            )  # fmt: skip
        figure.text(0.03, 0.935, "A character LSTM on a short text", fontsize=13, fontweight="bold")
        figure.text(0.03, 0.875, "Loss in nats per character, measured after each epoch with dropout off", color=FAINT)
        with whole_file(path) as file:
            figure.savefig(file)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"has to be a whole number above 0, but got {text}")
        return int(text)

    def probability(text: str) -> float:
        try:
            return check_p(float(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"has to be between 0 and 1, but got {text}") from None

    def option(name: str, kind: Any, default: Any, text: str, metavar: str = "N") -> None:
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default})")

    option("--epochs", number, 60, "passes over the training text")
    option("--length", number, 8000, "characters of the training text; the longer, the less there is to gain")
    option("--unseen", number, 20000, "characters of the validation text")
    option("--hidden", number, 128, "units of the LSTM")
    option("--recurrent", probability, 0.3, "dropout on the state that enters the recurrent product", "P")
    option("--output", probability, 0.5, "dropout on the LSTM's output", "P")
    option("--steps", number, 50, "characters between updates")
    option("--lr", float, 0.005, "learning rate of Adam", "RATE")
    option("--seed", int, 0, "of texts, weights and masks")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the losses into a picture (needs matplotlib)")
    parser.epilog = "On a busy machine OPENBLAS_NUM_THREADS=1 is quicker: the products are too small to share."
    options = parser.parse_args(argv)
    for name in ("length", "unseen"):
        if getattr(options, name) < 4 * STREAMS:
            parser.error(f"argument --{name}: has to be at least {4 * STREAMS}, but got {getattr(options, name)}")
    if options.seed < 0:
        parser.error(f"argument --seed: has to be at least 0, but got {options.seed}")
    if options.plot is not None:
        # Better now than after the training.
        if not options.plot.parent.is_dir():
            parser.error(f"argument --plot: there is no folder {options.plot.parent}")
        extra("matplotlib.figure")
    return options


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the comparison; return the losses per epoch under ``nets``, and the grammar's own under ``floor``."""
    options = parse(argv)
    writer = fd.Generator(options.seed).numpy()
    text, _ = write_text(writer, options.length)
    unseen, floor = write_text(writer, options.unseen)
    alphabet = "".join(sorted(set(text + unseen)))
    codes, unseen_codes = (np.array([alphabet.index(character) for character in t]) for t in (text, unseen))
    print(f"{len(text):,} characters to train on, {len(unseen):,} to validate; the first ones:\n\n{text[:200]}...\n")

    figures: dict[str, Any] = {"floor": floor, "nets": {}}
    locked = {"dropout_recurrent": options.recurrent, "dropout_output": options.output}
    for name, dropout in {"without dropout": {}, "locked dropout": locked}.items():
        fd.manual_seed(options.seed)  # so that both nets start from the same weights
        model = CharLSTM(len(alphabet), options.hidden, **dropout)
        print(f"{name}: {model.lstm}")
        figures["nets"][name] = train(model, streams(codes, STREAMS), streams(unseen_codes, STREAMS), options)
        print(f"  it writes: {sample(model, alphabet, 120, np.random.default_rng(options.seed))!r}\n")
    print(table(figures))
    if options.plot is not None:
        plot(figures, options.plot)
        print(f"\nwrote {options.plot}")
    return figures


if __name__ == "__main__":
    main()
