"""Early stopping with the best weights restored, and the bound on the norm of weights."""

import numpy as np
import pytest

from fastdrop import nn, optim
from fastdrop.nn import History, Tensor


def told(stop, model, numbers, monitor="val_loss"):
    """Tell a callback of epochs with these numbers, each marked in the weights; return the one that ended the run."""
    history = History()
    for epoch, number in enumerate(numbers, 1):
        model.weight.array[:] = epoch
        history.epochs.append({"epoch": epoch, monitor: number})
        if stop.on_epoch_end(history, model):
            break
    else:
        epoch = None
    stop.on_run_end(history, model)
    return epoch


@pytest.mark.parametrize(
    ("options", "numbers", "stopped", "best"),
    [
        ({"patience": 0}, [3, 2, 1], None, 3),
        ({"patience": 0}, [3, 3], 2, 1),
        ({"patience": 2}, [3, 2, 4, 4, 4, 1], 5, 2),
        ({"patience": 2}, [3, 2, 4, 4, 1.5, 4], None, 5),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.6, 2.0], 3, 1),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.4, 2.3, 2.2], 4, 2),
        ({"patience": 1}, [float("nan"), 2, 1], None, 3),
    ],
)
def test_where_it_stops_and_what_it_restores(options, numbers, stopped, best):
    model, stop = nn.Linear(2, 1), nn.EarlyStopping(**options)
    assert told(stop, model, numbers) == stopped == stop.stopped_epoch
    assert stop.best_epoch == best and stop.best == numbers[best - 1]
    assert (model.weight.array == best).all()


def test_more_is_better_for_an_accuracy_and_a_callback_serves_two_runs():
    model, stop = nn.Linear(2, 1), nn.EarlyStopping("val_accuracy", patience=1)
    for _ in range(2):
        assert told(stop, model, [0.5, 0.9, 0.8, 0.7], "val_accuracy") == 4
        assert stop.best == 0.9 and (model.weight.array == 2).all()


def test_without_restoring_the_last_weights_stay():
    model = nn.Linear(2, 1)
    told(nn.EarlyStopping(patience=0, restore_best=False), model, [1, 2])
    assert (model.weight.array == 2).all()


def test_in_a_run():
    """One step per epoch, ever larger: the loss has a best epoch, and the model ends with that one's weights."""
    X, y = np.array([[1.0], [1.0]], np.float32), np.array([0, 1])
    model = nn.Linear(1, 2)
    optimizer = optim.SGD(model.parameters(), lr=40.0)
    stop = nn.EarlyStopping("val_loss", patience=2)
    seen = []

    class Watch(nn.Callback):
        def on_epoch_end(self, history, model):
            seen.append({k: v.array.copy() for k, v in model.state_dict().items()})

    history = nn.fit(model, (X, y), validation=(X[:1], y[:1]), epochs=30, optimizer=optimizer, batch_size=1,
                     callbacks=[Watch(), stop], progress=False)  # fmt: skip
    assert stop.best == min(history["val_loss"]) and len(history) == (stop.stopped_epoch or 30)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.array, seen[stop.best_epoch - 1][name])


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2, 2), (3, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_norm_is_renorm(np_rng, shape, dtype):
    torch = pytest.importorskip("torch")
    for dim in range(-len(shape), len(shape)):
        array = np_rng.standard_normal(shape).astype(dtype)
        array.reshape(-1)[0] = 0
        want = torch.renorm(torch.tensor(array), 2, dim % len(shape), 1.2).numpy()
        weight = Tensor(array)
        before = weight.storage.version
        assert nn.max_norm_(weight, 1.2, dim) is weight and weight.dtype == dtype
        assert weight.storage.version == before + 1  # a backward that saved it would notice
        np.testing.assert_allclose(weight.array, want, rtol=1e-5, atol=1e-6)


def test_max_norm_leaves_what_is_small_and_zero_alone():
    array = np.array([[0.0, 0.0], [0.3, 0.4], [1e200, 0.0]])
    weight = nn.max_norm_(Tensor(array.copy()), 1.0)
    np.testing.assert_array_equal(weight.array[:2], array[:2])
    half = nn.max_norm_(Tensor(np.full((1, 4), 300, np.float16)), 2.0)  # the square would overflow in float16
    np.testing.assert_array_equal(half.array, np.ones((1, 4), np.float16))


def test_max_norm_in_a_run():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, 3)).astype(np.float32), rng.integers(0, 2, 64)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.fit(model, (X, y), epochs=3, optimizer=optim.SGD(model.parameters(), lr=5.0), batch_size=8, progress=False,
           callbacks=[nn.MaxNorm(model.parameters(), 0.5)])  # fmt: skip
    for layer in (model[0], model[2]):
        assert np.linalg.norm(layer.weight.array, axis=1).max() <= 0.5 * (1 + 1e-6)
    assert max(np.abs(model[0].bias.array).max(), np.abs(model[2].bias.array).max()) > 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.EarlyStopping(patience=-1), "patience"),
        (lambda: nn.EarlyStopping(patience=1.5), "patience"),
        (lambda: nn.EarlyStopping(min_delta=float("nan")), "min_delta"),
        (lambda: nn.max_norm_(Tensor(np.ones((2, 2))), 0.0), "max_norm"),
        (lambda: nn.max_norm_(Tensor(np.ones((2, 2))), float("nan")), "max_norm"),
        (lambda: nn.max_norm_(Tensor(np.ones((2, 2))), 1.0, 2), "dim has to be an axis"),
        (lambda: nn.MaxNorm([], -1.0), "max_norm"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_an_unknown_number_is_named():
    with pytest.raises(KeyError, match="no metric 'val_loss'; there are epoch, loss"):
        nn.EarlyStopping().on_epoch_end(History([{"epoch": 1, "loss": 1.0}]), nn.Linear(1, 1))
    with pytest.raises(TypeError, match="iterable"):
        nn.MaxNorm(nn.Linear(1, 1).weight, 1.0)
