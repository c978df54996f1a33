"""Many runs, in several processes, some of which are killed."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.mnist import runner
from fastdrop.mnist.data import Dataset
from fastdrop.mnist.results import Results
from fastdrop.mnist.runner import Event, WorkerDied, execute, run_folder
from fastdrop.mnist.study import Run, expand
from fastdrop.mnist.training import CHECKPOINT, WEIGHTS, Step, train

from .conftest import digits, numbers

GRID = {
    "models": "mlp-selu",
    "regularizers": ["none", "alpha"],
    "seeds": 2,
    "train_sizes": 60,
    "validation_size": 50,
    "epochs": 2,
    "batch_size": 16,
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("MNIST", "here", *digits(120, 1), *digits(40, 2))


@pytest.fixture(scope="module")
def runs(dataset: Dataset) -> list[Run]:
    return expand([GRID], dataset)


@pytest.fixture(scope="module")
def results(dataset: Dataset, runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Results:
    return execute(runs, dataset, tmp_path_factory.mktemp("study"), jobs=1)


def all_numbers(results: Results) -> list[object]:
    return [numbers(record) for record in results.records]


def test_every_run_leaves_its_weights_and_its_record(dataset: Dataset, runs: list[Run], results: Results) -> None:
    assert [record.run for record in results.records] == runs
    assert results.folder is not None
    for record in results.records:
        folder = run_folder(results.folder, record.run)
        assert sorted(path.name for path in folder.iterdir()) == ["record.json", WEIGHTS]
        again, model = train(record.run, dataset)
        assert numbers(again) == numbers(record)
        nn.load_weights(model, folder / WEIGHTS)
        np.testing.assert_array_equal(
            nn.predict(model, _test_images(record.run, dataset)).argmax(axis=1), record.predicted
        )


def _test_images(run: Run, dataset: Dataset) -> np.ndarray:
    from fastdrop.mnist.training import prepare

    return prepare(run, dataset)["test"][0]


@pytest.mark.parametrize("jobs", [2, 9])
def test_results_do_not_depend_on_the_number_of_processes(
    dataset: Dataset, runs: list[Run], results: Results, tmp_path: Path, jobs: int
) -> None:
    events: list[Event] = []
    found = execute(runs, dataset, tmp_path, jobs=jobs, listen=events.append)
    assert all_numbers(found) == all_numbers(results)
    ends = [event for event in events if event.record]
    assert {event.run for event in ends} == set(runs)
    assert not any(event.found for event in ends)
    for run in runs:
        rows = [event.step.epoch for event in events if event.run == run and event.step and event.step.row]
        assert rows == [1, 2]
    assert not multiprocessing.active_children()


def test_finished_runs_are_not_repeated(
    dataset: Dataset, runs: list[Run], results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run_one", None)
    events: list[Event] = []
    assert results.folder is not None
    again = execute(runs[::-1], dataset, results.folder, listen=events.append)
    assert all_numbers(again) == all_numbers(results)[::-1]
    assert all(event.found for event in events)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("", "no record of a run"), ("{}", "no record of a run"), ("[1]", "no record of a run"), ("\x00", "no record")],
)
def test_a_damaged_record_is_named(
    dataset: Dataset, runs: list[Run], tmp_path: Path, content: str, complaint: str
) -> None:
    path = run_folder(tmp_path, runs[0]) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        execute(runs, dataset, tmp_path, jobs=1)
    assert str(path) in str(error.value)


def test_a_record_of_other_data_or_another_run_is_refused(
    dataset: Dataset, runs: list[Run], results: Results, tmp_path: Path
) -> None:
    assert results.folder is not None
    other = Dataset("MNIST", "here", *digits(120, 5), *digits(40, 2))
    with pytest.raises(ValueError, match="trained on other data"):
        execute(runs, other, results.folder)
    moved = run_folder(tmp_path, runs[1])
    moved.parent.mkdir()
    moved.symlink_to(run_folder(results.folder, runs[0]))
    with pytest.raises(ValueError, match="the record of another run"):
        execute(runs[1:2], dataset, tmp_path)


def test_a_damaged_checkpoint_is_named(dataset: Dataset, runs: list[Run], tmp_path: Path) -> None:
    path = run_folder(tmp_path, runs[0]) / CHECKPOINT
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing of the kind")
    for jobs in (1, 2):  # in this process and in another
        with pytest.raises(ValueError) as error:
            execute(runs, dataset, tmp_path, jobs=jobs)
        assert str(path) in str(error.value)
    assert not multiprocessing.active_children()


def test_an_interruption_ends_every_process(
    dataset: Dataset, runs: list[Run], results: Results, tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if event.step and event.step.row:
            raise KeyboardInterrupt

    for jobs in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            execute(runs, dataset, tmp_path, jobs=jobs, listen=interrupt)
        assert not multiprocessing.active_children()
    assert all_numbers(execute(runs, dataset, tmp_path, jobs=1)) == all_numbers(results)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to keep away")
def test_not_even_the_first_process_hears_a_ctrl_c() -> None:
    script = (
        "import multiprocessing, signal\n"
        "from fastdrop.mnist.runner import _deaf\n"
        "with _deaf():\n"
        "    process = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    process.start()\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)\n"
        "process.join()\n"
    )
    # In a fresh interpreter: the first process brings multiprocessing's resource tracker along.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True"]


def test_a_process_that_dies_is_told(dataset: Dataset, runs: list[Run], results: Results, tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(WorkerDied, match=r"died \(exit code -9\); memory may be short: fewer --jobs"):
        execute(runs, dataset, tmp_path, jobs=2, listen=kill)
    assert not multiprocessing.active_children()
    assert all_numbers(execute(runs, dataset, tmp_path, jobs=1)) == all_numbers(results)


def test_a_folder_that_cannot_be_written_to(dataset: Dataset, runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(OSError):
        execute(runs, dataset, tmp_path, jobs=2)


def test_messages_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(runner.time, "monotonic", lambda: now)
    heard: list[Step] = []
    listen = runner._seldom(heard.append)
    row = {"train_loss": 1.0}
    for step in (Step(1, 1), Step(1, 2), Step(1, 3, row), Step(2, 1)):
        listen(step)
    now += 1
    listen(Step(2, 2))
    assert heard == [Step(1, 1), Step(1, 3, row), Step(2, 2)]


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    # More data than a pipe takes at once: whoever sends them to a process that has died must not wait for ever.
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, numpy as np\nfrom fastdrop.mnist import Dataset, execute, expand\n"
        "images, labels = np.zeros((2000, 28, 28), np.uint8), np.arange(2000, dtype=np.uint8) % 10\n"
        "data = Dataset('blank', 'here', images, labels, images, labels)\n"
        "grid = {'train_sizes': 50, 'validation_size': 50, 'epochs': 1}\n"
        "execute(expand([grid], data), data, pathlib.Path('o'), jobs=2)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert 'a script that calls execute needs if __name__ == "__main__"' in done.stderr.splitlines()[-1]


def test_what_a_killed_run_left_is_taken_away(dataset: Dataset, runs: list[Run], results: Results) -> None:
    assert results.folder is not None
    left = run_folder(results.folder, runs[0]) / CHECKPOINT
    left.write_bytes(b"killed between the record and its end")
    execute(runs, dataset, results.folder)
    assert not left.exists()
