"""The display, on a terminal and elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from fastdrop.mnist.experiment import Step
from fastdrop.mnist.progress import Display

ROW = {"train_loss": 0.5, "train_accuracy": 0.9, "validation_loss": 0.75, "validation_accuracy": 0.875, "seconds": 1.0}
NETS = ("first", "second")


def show(console: Console) -> None:
    with Display(console, NETS, epochs=2) as display:
        for net in NETS:
            for epoch in (1, 2):
                display(Step(net, epoch, 5, 10))
                display(Step(net, epoch, 10, 10))
                display(Step(net, epoch, 10, 10, ROW))


def test_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=False))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("first   epoch 1/2  loss 0.5000 train, 0.7500 valid.; acc 87.50 % valid.")
    assert lines[3].startswith("second  epoch 2/2")
    assert "about 0:00 left" in lines[3]
    assert stream.getvalue().isascii()
    assert not {"\x1b", "\r"} & set(stream.getvalue())


def test_a_live_display_on_a_terminal() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    text = stream.getvalue()
    assert "\x1b[" in text
    last = text.rsplit("\x1b[2K", 1)[-1]
    assert "left" in last
    for word in ("first", "second", "all", "epoch 2/2", "0.7500 valid."):
        assert word in text
    # The cursor is hidden during the display, and shown again.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=True, _environ={"TERM": "dumb"}))
    assert len(stream.getvalue().splitlines()) == 4


def test_the_time_left_shrinks_to_nothing() -> None:
    display = Display(Console(file=io.StringIO()), NETS, epochs=2)
    display.started -= 60
    assert display.left(1).endswith("about 3:00 left")
    assert display.left(3).endswith("about 0:20 left")
    assert display.left(4).endswith("about 0:00 left")
