"""The display, on a terminal and elsewhere."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from fastdrop.mnist import progress
from fastdrop.mnist.progress import Display, Pace
from fastdrop.mnist.results import Record
from fastdrop.mnist.runner import Event
from fastdrop.mnist.study import Run
from fastdrop.mnist.training import Step

ROW = {"train_loss": 0.5, "train_accuracy": 0.9, "validation_loss": 0.75, "validation_accuracy": 0.875, "seconds": 1.0}
FINAL = {**ROW, "test_loss": 0.25, "test_accuracy": 0.96}
RUNS = [Run("cnn", name, train_size=10, epochs=2, seed=seed) for seed in (0, 1) for name in ("none", "dropout")]


def record(run: Run, diverged: str | None = None) -> Record:
    history = {name: [0.5, 0.5] for name in ROW}
    return Record(run, (), 1, history, {} if diverged else FINAL, np.zeros(3, np.int64), diverged)


def show(console: Console, found: int = 0) -> None:
    with Display(console, RUNS, jobs=2) as display:
        for run in RUNS[:found]:
            display(Event(run, record=record(run), found=True))
        for run in RUNS[found:]:
            for epoch in (1, 2):
                display(Event(run, Step(epoch, 5)))
                display(Event(run, Step(epoch, 10)))
                display(Event(run, Step(epoch, 0, ROW)))
                if display.live:
                    display.bars.refresh()
            display(Event(run, record=record(run)))


def test_a_line_for_each_run_without_a_terminal() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=False))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("1/4  none, seed 0: test acc 96.00 %, loss 0.5000 train, 0.7500 valid., 0.2500 test  (")
    assert lines[3].startswith("4/4  dropout, seed 1: ")
    assert "about 0:00 left" in lines[3]
    assert stream.getvalue().isascii()
    assert not {"\x1b", "\r"} & set(stream.getvalue())


def test_a_long_run_shows_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=False))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("     none, seed 0: epoch 1/2, loss 0.5000 train, 0.7500 valid.; acc 87.50 % valid.  (")


def test_what_was_done_before_is_told_once() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=False), found=2)
    assert stream.getvalue().splitlines()[0] == "finished runs are not repeated"
    assert len(stream.getvalue().splitlines()) == 3
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=False), found=4)
    assert stream.getvalue().splitlines() == ["finished runs are not repeated", "all were finished before"]


def test_a_run_that_diverged_says_so() -> None:
    stream = io.StringIO()
    with Display(Console(file=stream, force_terminal=False), RUNS, jobs=1) as display:
        display(Event(RUNS[0], record=record(RUNS[0], "the loss is nan")))
    assert stream.getvalue().startswith("1/4  none, seed 0: diverged: the loss is nan")


def test_a_live_display_on_a_terminal() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=True, width=100, _environ={"TERM": "xterm"}))
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "left" in text.rsplit("\x1b[2K", 1)[-1]
    for word in ("none, seed 0", "dropout, seed 1", "all", "epoch 2/2", "4/4 runs"):
        assert word in text
    # The cursor is hidden during the display, and shown again.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_lines() -> None:
    stream = io.StringIO()
    show(Console(file=stream, force_terminal=True, _environ={"TERM": "dumb"}))
    assert len(stream.getvalue().splitlines()) == 4


def test_the_time_left_follows_each_arm() -> None:
    pace = Pace(RUNS, jobs=1)
    assert pace.seconds is None
    pace.hear(Event(RUNS[0], Step(1, 5)), 100.0)
    assert pace.seconds is None
    pace.hear(Event(RUNS[0], Step(1, 0, ROW)), 110.0)
    assert pace.seconds == pytest.approx(7 * 10)  # 10 s an epoch, seven epochs left
    pace.hear(Event(RUNS[0], Step(2, 0, ROW)), 120.0)
    pace.hear(Event(RUNS[0], record=record(RUNS[0])), 120.0)
    pace.hear(Event(RUNS[1], Step(1, 1)), 120.0)
    pace.hear(Event(RUNS[1], Step(1, 0, ROW)), 150.0)
    assert pace.seconds == pytest.approx(3 * 30 + 2 * 10)
    pace.jobs = 2
    assert pace.seconds == pytest.approx(60)  # the longest run
    for run in RUNS[1:]:
        pace.hear(Event(run, record=record(run)), 200.0)
    assert pace.seconds == 0.0
