"""Runs that go on from a checkpoint: bit-identical to runs that were never interrupted."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop import nn, optim
from fastdrop.nn.state_file import FORMAT, read_state, write_state

from .runs import (
    Killed,
    Run,
    Tied,
    adamw_in_groups,
    assert_same,
    blobs,
    copied,
    mlp,
    momentum,
    own_generator,
    run_state,
    sgd,
    shared_generator,
    with_batch_norm,
)

pytest.importorskip("safetensors")

CASES = {
    "adam": {},
    "sgd": {"optimizer": sgd},
    "momentum": {"optimizer": momentum, "own_order": True},
    "groups": {"optimizer": adamw_in_groups},
    "tied": {"make": Tied},
    "batch norm": {"make": with_batch_norm},
    "one generator in two layers": {"make": shared_generator, "own_order": True},
    "float64": {"dtype": np.float64},
    "float16": {"dtype": np.float16, "optimizer": sgd},
    "early stopping": {"patience": 0, "optimizer": lambda model: optim.SGD(model.parameters(), lr=2.0)},
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_goes_on_to_the_same_bits(case, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = Run(**CASES[case]).go().everything()
    # In the first epoch, in the middle, before the epoch's file is written, and twice.
    for kills in [[(1, 32)], [(3, 64)], [(2, None)], [(2, 32), (4, 90)]]:
        path.unlink(missing_ok=True)
        for kill in kills:
            run = Run(**CASES[case], kill=kill)
            if len(whole["history"]) >= kill[0]:
                with pytest.raises(Killed):
                    run.go(path)
            assert path.exists() == (kill[0] > 1)
        assert_same(Run(**CASES[case]).go(path).everything(), whole)
        assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]


def test_early_stopping_is_in_the_cases():
    assert 1 < len(Run(**CASES["early stopping"]).go().history) < 5


def test_the_file_changes_nothing_in_a_run_that_is_not_interrupted(tmp_path):
    assert_same(Run().go(tmp_path / "c").everything(), Run().go().everything())


@pytest.mark.parametrize("case", ["adam", "early stopping"])
def test_a_run_that_has_ended_gives_its_result_again(case, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = Run(**CASES[case]).go(path).everything()
    content = path.read_bytes()
    again = Run(**CASES[case])
    fastdrop.default_generator().mask(3)
    again.go(path, epochs=5 if case == "adam" else 50)  # a callback's word stands
    assert_same(again.everything(), whole)
    assert path.read_bytes() == content and all(m.training for m in again.model.modules())


def test_more_epochs_go_on(tmp_path):
    Run().go(tmp_path / "c", epochs=2)
    assert_same(Run().go(tmp_path / "c").everything(), Run().go().everything())


def test_the_same_objects_go_on_after_an_interruption(tmp_path):
    run = Run(kill=(3, 64))
    with pytest.raises(Killed):
        run.go(tmp_path / "c")
    run.callbacks[-1].epoch = None
    assert_same(run.go(tmp_path / "c").everything(), Run().go().everything())


def test_the_options_in_the_file_win(tmp_path):
    Run(optimizer=sgd).go(tmp_path / "c", epochs=1)
    run = Run(optimizer=lambda model: optim.SGD(model.parameters(), lr=0.9)).go(tmp_path / "c", epochs=2)
    assert_same(run.everything(), Run(optimizer=sgd).go(epochs=2).everything())


def test_generators_that_were_not_seeded_take_the_files(tmp_path):
    Run(seed=None).go(tmp_path / "c", epochs=2)
    first = Run(seed=None).go(tmp_path / "c", epochs=3).everything()
    assert first["generators"][0]["key"] == read_state(tmp_path / "c")["generators"]["default"]["key"]
    with pytest.raises(ValueError, match=r"the generator default has the key \d+, and had \d+"):
        Run(seed=0).go(tmp_path / "c")


def test_a_generator_that_stands_in_for_the_default_one(tmp_path):
    def run(path, epochs):
        fastdrop.manual_seed(1)
        with fastdrop.random.drawing_from(fastdrop.Generator(3)) as rng:
            model = mlp()
            nn.fit(model, blobs(), epochs=epochs, optimizer=sgd(model), progress=False, checkpoint=path)
            assert fastdrop.default_generator() is rng
        assert fastdrop.default_generator().call == 0
        return model[0].weight.array

    run(tmp_path / "c", 1)
    np.testing.assert_array_equal(run(tmp_path / "c", 3), run(None, 3))


class Scaled(nn.Module):
    """A loss with a parameter, a buffer and random numbers."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(np.array(1.0, np.float32))
        self.drop = nn.Dropout(0.5, generator=fastdrop.Generator(2))

    def forward(self, logits, targets):
        return nn.functional.cross_entropy(self.drop(logits) * self.scale, targets)


@pytest.mark.parametrize("kind", ["module", "parameters of no module"])
def test_what_is_trained_beside_the_model(kind, tmp_path):
    def run(path, epochs):
        fastdrop.manual_seed(1)
        model, scaled, shift = mlp(), Scaled(), nn.Parameter(np.zeros(3, np.float32))
        optimizer = optim.Adam([shift, *model.parameters(), *scaled.parameters()], lr=0.1)
        if kind == "module":
            loss = scaled
        else:
            scaled.eval()  # as an attribute of a function its generator would not be found

            def loss(logits, targets):
                return scaled(logits + shift, targets)

        nn.fit(model, blobs(), epochs=epochs, optimizer=optimizer, loss=loss, progress=False, checkpoint=path)
        return [p.array for p in (*model.parameters(), shift, scaled.scale)]

    run(tmp_path / "c", 2)
    assert_same(run(tmp_path / "c", 4), run(None, 4))


# --- files that are refused ---------------------------------------------------------------------------------------


def other_width():
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Dropout(0.4), nn.Linear(9, 3))


def adam_in_groups(model):
    return optim.Adam([{"params": [p]} for p in model.parameters()])


class Other(nn.Callback):
    pass


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        ({"make": other_width}, {}, r"model\.0\.weight is float32 \(9, 4\), and was float32 \(8, 4\)"),
        ({"make": with_batch_norm}, {}, r"model\.1\.weight is float32 \(8,\), and was none"),
        ({"dtype": np.float64}, {}, r"model\.0\.weight is float64"),
        ({"make": own_generator}, {}, r"the generator model\.2\.generator"),
        ({"optimizer": sgd}, {}, "the optimizer is SGD, and was Adam"),
        (
            {"optimizer": lambda m: optim.Adam([{"params": [p]} for p in m.parameters()])},
            {},
            "group 1 of the optimizer",
        ),
        ({"optimizer": lambda m: optim.Adam(list(m.parameters())[::-1])}, {}, "group 0 of the optimizer"),
        ({"seed": 1}, {}, "the generator default has the key"),
        ({"own_order": True}, {}, "the generator order is Generator, and was Generator, the same as default"),
        ({}, {"data": blobs(91)}, r"len\(data\) is 91, and was 90"),
        ({}, {"data": blobs(90, 0, np.float64)}, "an example of data is float64"),
        ({}, {"validation": None}, r"len\(validation\) is None, and was 30"),
        ({}, {"batch_size": 16}, "batch_size is 16, and was 32"),
        ({}, {"epochs": 1}, "epochs is 1, and 2 have been trained"),
        ({}, {"callbacks": []}, r"callbacks\[0\] is none, and was EarlyStopping"),
        ({}, {"callbacks": [Other()] * 4}, r"callbacks\[0\] is Other, and was EarlyStopping"),
        ({}, {"stop": nn.EarlyStopping("loss")}, "refuses its state: monitor is 'loss', and was 'val_loss'"),
        ({}, {"stop": nn.EarlyStopping(restore_best=False)}, "refuses its state: restore_best is False, and was True"),
    ],
)
def test_another_runs_file_is_refused_and_nothing_is_touched(tmp_path, options, change, words):
    path = tmp_path / "run.safetensors"
    Run().go(path, epochs=2)
    content = path.read_bytes()
    run = Run(**options)
    if "stop" in change:
        # Last, so that what was restored before it has to be put back.
        run.callbacks[0], run.stop = change["stop"], change["stop"]
    for name in ("data", "validation", "callbacks"):
        if name in change:
            setattr(run, name, change[name])
    arguments = {name: change[name] for name in ("batch_size", "epochs") if name in change}
    whole = copied(run_state(run))
    with pytest.raises(ValueError, match=rf"run\.safetensors belongs to another run: .*{words}"):
        run.go(path, **arguments)
    assert copied(run_state(run)) == whole and path.read_bytes() == content


def test_a_refusal_late_in_the_list_is_undone(tmp_path):
    class Refuses(nn.Callback):
        fail = False

        def state_dict(self):
            return {"x": 1}

        def load_state_dict(self, state):
            if self.fail:
                self.fail = False
                raise KeyError("x")

    run = Run()
    run.callbacks.append(Refuses())
    run.go(tmp_path / "c", epochs=2)
    run = Run()
    run.callbacks.append(Refuses())
    run.callbacks[-1].fail = True
    before = copied(run_state(run))
    with pytest.raises(ValueError, match=r"callbacks\[4\], .*Refuses, refuses its state: 'x'"):
        run.go(tmp_path / "c")
    after = copied(run_state(run))
    before["callbacks"].pop(), after["callbacks"].pop()
    assert after == before


def test_weights_that_were_tied_and_are_not(tmp_path):
    def untied():
        model = Tied()
        model.b.weight = nn.Parameter(model.b.weight.array.copy())
        return model

    Run(Tied).go(tmp_path / "c", epochs=1)
    with pytest.raises(ValueError, match=r"model\.b\.weight is float32 \(4, 4\), and was .* same as model\.a\.weight"):
        Run(untied, lambda m: optim.Adam(m.parameters(), amsgrad=True)).go(tmp_path / "c")


def test_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "run.safetensors"
    model = nn.Linear(1, 1)
    data = np.ones((2, 1), np.float32), np.zeros(2, np.int64)

    def go():
        fastdrop.manual_seed(0)
        nn.fit(model, data, epochs=1, optimizer=sgd(model), progress=False, checkpoint=path)

    go()
    good = path.read_bytes()
    rng = random.Random(0)
    # Every length near the ends and every tenth byte with a bit turned over: refused, or, in the padding, the same.
    state = read_state(path)
    spoilt = [good[:n] for n in (0, 1, 7, 8, 9, len(good) // 2, len(good) - 1)] + [good + b"\0", b"\0" * len(good)]
    for i in range(rng.randrange(10), len(good), 10):
        spoilt.append(good[:i] + bytes([good[i] ^ (1 << rng.randrange(8))]) + good[i + 1 :])
    for content in spoilt:
        path.write_bytes(content)
        before = model.weight.array.tobytes()
        try:
            assert_same(read_state(path), state)
        except ValueError as error:
            assert str(path) in str(error)
            with pytest.raises(ValueError, match=r"run\.safetensors is"):
                go()
            assert fastdrop.default_generator().call == 0
        assert model.weight.array.tobytes() == before
    nn.save_weights(model, path)
    with pytest.raises(ValueError, match=r"run\.safetensors is no checkpoint"):
        go()
    write_state(path, {"a": 1})
    with pytest.raises(ValueError, match=r"run\.safetensors does not fit this run"):
        go()
    assert FORMAT.encode() in good


# --- errors before and while a file is written ---


@pytest.mark.parametrize("bad", [{1, 2}, object(), np.array([None]), b"bytes", Path("x")])
def test_what_cannot_be_held_is_named_before_the_first_epoch(tmp_path, bad):
    run = Run()
    run.callbacks[1].seen = {"x": [bad]}
    before = copied(run_state(run))
    with pytest.raises(TypeError, match=r"^callbacks\.1\.seen\.x\.0 is a"):
        run.go(tmp_path / "c")
    assert copied(run_state(run)) == before and not list(tmp_path.iterdir())


def test_a_callback_with_a_state_has_to_take_it_back():
    nn.Callback().load_state_dict({})
    with pytest.raises(NotImplementedError, match="Callback has a state_dict, and needs a load_state_dict"):
        nn.Callback().load_state_dict({"a": 1})


def test_errors_at_the_start(tmp_path, monkeypatch):
    run = Run()
    before = copied(run_state(run))
    with pytest.raises(TypeError, match="checkpoint has to be a path or None, but got a int"):
        run.go(3)
    with pytest.raises(FileNotFoundError, match="no such folder, to write the checkpoint"):
        run.go(tmp_path / "no" / "c")
    with pytest.raises(OSError, match=str(tmp_path)):
        run.go(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'pip install "fastdrop\[nn\]"'):
        run.go(tmp_path / "c")
    assert copied(run_state(run)) == before


def test_errors_while_writing_name_the_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    Run().go(path, epochs=1)
    before = path.read_bytes()
    for error in (OSError(28, "No space left on device"), OSError("no number")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(
            OSError, match=r"cannot write the checkpoint: (No space|no number).*run\.safetensors"
        ) as told:
            Run().go(path)
        assert told.value.errno == error.errno and path.read_bytes() == before
        assert len(list(tmp_path.iterdir())) == 1
