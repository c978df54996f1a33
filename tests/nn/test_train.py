"""The training loop, prediction, and weights on disk."""

import io
import json
import os
import sys

import numpy as np
import pytest

import fastdrop
from fastdrop import nn, optim


def blobs(count=300, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    centres = np.array([[3, 0], [-3, 0], [0, 4]], np.float32)
    return (centres[y] + rng.standard_normal((count, 2)).astype(np.float32) * 0.5), y


def make():
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def train(model, **options):
    optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    return nn.fit(
        model, blobs(), **{"epochs": 4, "optimizer": optimizer, "batch_size": 32, "progress": False, **options}
    )


def test_fit_learns():
    model = make()
    history = train(model, validation=blobs(100, 1))
    assert len(history) == 4
    assert set(history.epochs[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_accuracy"][-1] > 0.95
    scores = nn.evaluate(model, blobs(100, 1))
    assert scores == {"loss": history["val_loss"][-1], "accuracy": history["val_accuracy"][-1]}
    assert model.training


def test_one_seed_makes_a_run_reproducible():
    def run():
        fastdrop.manual_seed(6)
        model = make()
        train(model)
        return {name: t.numpy() for name, t in model.state_dict().items()}

    first, second = run(), run()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_generator_governs_the_order():
    model = nn.Linear(2, 3, generator=fastdrop.Generator(1))
    other = nn.Linear(2, 3, generator=fastdrop.Generator(1))
    train(model, generator=fastdrop.Generator(2))
    train(other, generator=fastdrop.Generator(2))
    np.testing.assert_array_equal(model.weight.array, other.weight.array)


def test_history():
    history = train(make(), validation=blobs(50, 1))
    assert nn.History.from_dict(json.loads(json.dumps(history.to_dict()))).epochs == history.epochs
    best = history.best("val_accuracy")
    assert best["val_accuracy"] == max(history["val_accuracy"])
    assert history.best("loss")["loss"] == min(history["loss"])
    assert "4 epochs" in repr(history)
    with pytest.raises(KeyError, match="no metric 'f1'"):
        history.best("f1")
    with pytest.raises(ValueError, match="empty"):
        nn.History().best("loss")


def test_callbacks_hear_of_every_epoch_and_may_stop():
    heard = []
    batches = []

    class Stop(nn.Callback):
        def on_epoch_end(self, history, model):
            heard.append((len(history), model.training))
            return len(history) == 2

    class Count(nn.Callback):
        def on_batch_end(self, epoch, seen):
            batches.append((epoch, seen))

    assert len(train(make(), epochs=9, callbacks=[Stop(), Count(), Stop()])) == 2
    assert [count for count, _ in heard] == [1, 1, 2, 2]
    per_epoch = len(batches) // 2
    assert [epoch for epoch, _ in batches] == [1] * per_epoch + [2] * per_epoch
    assert batches[0][1] > 0 and [seen for _, seen in batches[:per_epoch]] == sorted(
        seen for _, seen in batches[:per_epoch]
    )


def test_loss_that_is_not_finite_stops_the_run():
    X, y = blobs()
    X[5, 0] = np.nan
    model = make()
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1, batch"):
        nn.fit(model, (X, y), epochs=1, optimizer=optim.SGD(model.parameters()), progress=False)


def test_predict_restores_every_mode():
    model = make()
    model[2].eval()
    logits = nn.predict(model, blobs()[0], batch_size=7)
    assert isinstance(logits, np.ndarray) and logits.shape == (300, 3) and logits.dtype == np.float32
    assert model.training and not model[2].training
    np.testing.assert_allclose(logits, model.eval()(blobs()[0]).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert nn.predict(model, np.zeros((0, 2), np.float32)).shape == (0, 3)


def test_modes_are_restored_after_fit():
    model = make()
    model.eval()
    train(model, epochs=1)
    assert not any(m.training for m in model.modules())


def test_another_loss():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((64, 2)).astype(np.float32)
    y = X @ np.array([[1.0], [2.0]], np.float32)
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = nn.fit(model, (X, y), epochs=30, optimizer=optimizer, loss=nn.MSELoss(), batch_size=16, progress=False)
    assert history["loss"][-1] < 1e-4
    assert "accuracy" not in history.epochs[-1]
    assert set(nn.evaluate(model, (X, y), loss=nn.MSELoss())) == {"loss"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": np.ones((3, 2))}, TypeError, "data must be a pair"),
        ({"data": (np.ones((3, 2)), np.ones(2))}, ValueError, r"\(3, 2\) and \(2,\)"),
        ({"validation": (np.ones((3, 2)), np.ones(2))}, ValueError, "validation"),
        ({"data": (np.ones((0, 2)), np.ones(0))}, ValueError, "no examples"),
        ({"epochs": 0}, ValueError, "epochs must be a positive int, got 0"),
        ({"batch_size": 1.5}, ValueError, "batch_size must be a positive int, got 1.5"),
    ],
)
def test_errors(options, error, message):
    model = make()
    arguments = {"data": blobs(), "epochs": 1, "optimizer": optim.SGD(model.parameters()), **options}
    with pytest.raises(error, match=message):
        nn.fit(model, **arguments)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_lines_away_from_a_terminal(capsys):
    train(make(), epochs=2, progress=True, validation=blobs(20, 1))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2  loss ") and "val_accuracy" in lines[1]
    train(make(), epochs=1, progress=None)
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(make(), epochs=2, validation=blobs(20, 1), progress=None)
    assert "epoch 2/2" in terminal.getvalue() and "val_accuracy" in terminal.getvalue()


def test_progress_without_rich(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    train(make(), epochs=1, progress=None)
    assert terminal.getvalue().startswith("epoch 1/1  loss ")


def test_save_and_load(tmp_path):
    pytest.importorskip("safetensors")
    model, other = make(), make()
    path = tmp_path / "model.safetensors"
    nn.save_weights(model, path)
    nn.load_weights(other, str(path))
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    nn.save_weights({name: t.T for name, t in model.state_dict().items()}, path)
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(path)["0.weight"], model[0].weight.array.T)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight"):
        nn.load_weights(model, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    nn.save_weights(make(), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        nn.save_weights(make(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_missing_safetensors_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'pip install "fastdrop\[nn\]"'):
        nn.save_weights(make(), tmp_path / "x")


def test_zero_dimensional_weights_survive_a_file(tmp_path):
    pytest.importorskip("safetensors")
    model = nn.Module()
    model.gain = nn.Parameter(np.array(2.0, np.float32))
    nn.save_weights(model, tmp_path / "w.safetensors")
    nn.load_weights(model, tmp_path / "w.safetensors")
    assert model.gain.shape == ()


def test_bad_weight_files_are_named(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        nn.save_weights(make(), tmp_path / "no" / "w.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        nn.save_weights(make(), tmp_path)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"not at all")
    with pytest.raises(ValueError, match=r"bad\.safetensors is no safetensors file"):
        nn.load_weights(make(), bad)
