"""Monte-Carlo dropout: passes that can be had again, modes, and what the averages say."""

import threading
import tracemalloc

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.nn import functional as F
from fastdrop.nn import mc


class Block(nn.Module):
    """What users write: dropout as a function, a generator of its own, and a layer with another."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.rng = fd.Generator(3)
        self.drop = nn.Dropout(0.2, generator=fd.Generator(4))

    def forward(self, x):
        x = F.dropout(self.fc(x), 0.3, self.training, generator=self.rng)
        return self.drop(x) + F.dropout(x, 0.5, self.training)


class Norm(nn.Module):
    """What batch normalisation does with its mode."""

    mc_training = False

    def __init__(self):
        super().__init__()
        self.running_mean = 0.0

    def forward(self, x):
        if self.training:
            self.running_mean += 1.0
        return x - (float(x.array.mean()) if self.training else self.running_mean)


def mlp(*more):
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), *more, nn.Dropout(0.5), nn.Linear(6, 8), nn.Dropout(0.1))


MODELS = {
    "mlp": (mlp, (5, 6)),
    "nested": (lambda: nn.Sequential(mlp(), nn.Sequential(nn.Linear(8, 3))), (5, 6)),
    "dropout first, in place": (lambda: nn.Sequential(nn.Dropout(0.5, inplace=True), nn.Linear(6, 2)), (5, 6)),
    "standard": (lambda: nn.Sequential(nn.Dropout(0.25, scaling="standard"), nn.Linear(6, 2)), (5, 6)),
    "noise shape": (lambda: nn.Sequential(nn.Dropout(0.25, noise_shape=(None, 1)), nn.Linear(6, 2)), (5, 6)),
    "none of it": (lambda: nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.0), nn.ReLU()), (5, 6)),
    "all of it": (lambda: nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 6), nn.Dropout(1.0)), (5, 6)),
    "a block": (Block, (5, 6)),
    "a block in front": (lambda: nn.Sequential(Block(), nn.Dropout(0.5)), (5, 6)),
    "norm": (lambda: mlp(Norm()), (5, 6)),
    "channels": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.4), nn.ReLU(), nn.Flatten()), (2, 3, 6, 6)),
    "sequence": (lambda: nn.Sequential(nn.LockedDropout(0.4), nn.Linear(6, 6), nn.DropPath(0.3)), (4, 3, 6)),
    "tokens": (lambda: nn.Sequential(nn.TokenDropout(0.4), nn.Linear(6, 6)), (4, 3, 6)),
    "alpha": (lambda: nn.Sequential(nn.Linear(6, 6), nn.AlphaDropout(0.3), nn.Linear(6, 2)), (5, 6)),
    "with the activation": (lambda: nn.Sequential(nn.Linear(6, 6), nn.ActivationDropout(0.3), nn.Dropout(0.5)), (5, 6)),
    "own generators": (lambda: nn.Sequential(*(nn.Dropout(0.5, generator=fd.Generator(k)) for k in range(3))), (5, 6)),
}
models = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)


def input_of(shape, dtype=np.float32):
    return np.random.default_rng(2).standard_normal(shape).astype(dtype)


@models
@pytest.mark.parametrize("group", [1, 300, 32 << 20])
def test_a_pass_can_be_had_again(monkeypatch, make, shape, group):
    """Bit for bit, whatever T is and however many masks are applied at once; and nothing is disturbed by it."""
    monkeypatch.setattr(mc, "GROUP", group)
    model, x = make(), input_of(shape)
    before = x.copy(), fd.default_generator().state
    found = nn.mc_predict(model, x, 7, seed=11, return_samples=True)
    for t in range(7):
        with nn.mc_dropout(model, 11, t):
            again = model(x.copy())
        assert np.array_equal(again.array, found.samples[t]) and again.dtype == found.samples.dtype
        assert not again.requires_grad
    assert np.array_equal(nn.mc_predict(model, x, 3, seed=11, return_samples=True).samples, found.samples[:3])
    assert np.array_equal(x, before[0]) and fd.default_generator().state == before[1]
    np.testing.assert_allclose(found.mean, found.samples.astype(np.float64).mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.variance, found.samples.astype(np.float64).var(axis=0, ddof=1), atol=1e-13)
    np.testing.assert_array_equal(found.std, np.sqrt(found.variance))


@models
def test_masks_in_groups_and_shared_modules_do_not_show(monkeypatch, make, shape):
    model, x = make(), input_of(shape)
    found = nn.mc_predict(model, x, 5, seed=1, return_samples=True)
    monkeypatch.setattr(mc, "_is_one_mask", lambda module, x: False)
    assert np.array_equal(nn.mc_predict(model, x, 5, seed=1, return_samples=True).samples, found.samples)
    monkeypatch.setattr(mc, "_flat", lambda module: [module])
    assert np.array_equal(nn.mc_predict(model, x, 5, seed=1, return_samples=True).samples, found.samples)


@pytest.mark.parametrize(("name", "runs", "masks"), [("mlp", 1, 20), ("nested", 1, 20), ("norm", 1, None),
                                                      ("channels", 1, 20), ("none of it", 1, None)])  # fmt: skip
def test_what_passes_share_runs_once(monkeypatch, name, runs, masks):
    """Of fastdrop's own modules; a user's module in front of the dropout (norm) ends what is shared."""
    make, shape = MODELS[name]
    model, counts, many = make(), [0], []
    first = type(next(module for module in model.modules() if not isinstance(module, nn.Sequential)))
    forward = first.forward

    def counted(self, x):
        counts[0] += self.weight.shape[0] in (4, 6)  # the first layer of each
        return forward(self, x)

    monkeypatch.setattr(first, "forward", counted)
    monkeypatch.setattr(mc, "apply_masks", lambda m, x, **o: many.append(len(m)) or fd.apply_masks(m, x, **o))
    nn.mc_predict(model, input_of(shape), 20)
    assert counts == [runs] and many == ([masks] if masks else [])


@pytest.mark.parametrize("seed", [0, [1, 2], np.random.SeedSequence(5, spawn_key=(3,))])
def test_all_masks_of_a_pass_come_from_its_generator(seed):
    x = np.ones((4, 50), np.float32)
    layers = nn.Sequential(nn.Dropout(0.5, generator=fd.Generator(1)), nn.Dropout(0.25)), nn.Dropout(0.5)
    children = fd.Generator(seed).spawn(6)
    for t in (0, 5):
        entropy = seed.entropy if isinstance(seed, np.random.SeedSequence) else seed
        key = (*seed.spawn_key, t) if isinstance(seed, np.random.SeedSequence) else (t,)
        rng = fd.Generator(np.random.SeedSequence(entropy, spawn_key=key))
        assert rng.key == children[t].key
        masks = rng.mask(x.shape, 0.5), rng.mask(x.shape, 0.25)
        with nn.mc_dropout(layers[0], seed, t):
            assert np.array_equal(layers[0](x).array, masks[1].apply(masks[0].apply(x)))
        with nn.mc_dropout(layers[1], seed, t):
            assert np.array_equal(layers[1](x).array, masks[0].apply(x))


def state_of(model):
    generators = [g for m in model.modules() for g in vars(m).values() if isinstance(g, fd.Generator)]
    return [m.training for m in model.modules()], [(id(g), g.state) for g in generators], fd.default_generator().state


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_everything_is_restored(mode):
    model = nn.Sequential(Block(), Norm(), mlp())
    model.train(mode == "train")
    model[2].train()
    before = state_of(model)
    block = nn.mc_dropout(model, 1, 2)
    with pytest.raises(ZeroDivisionError), block:
        model(input_of((5, 6)))
        assert not nn.is_grad_enabled() and fd.default_generator() is model[0].rng
        with block, nn.mc_dropout(model, 1, 2, grad=True):  # entered again, and another inside
            assert nn.is_grad_enabled() and model(input_of((5, 6))).requires_grad
            assert [m.training for m in model.modules()] == [not isinstance(m, Norm) for m in model.modules()]
        _ = 1 / 0
    assert state_of(model) == before and nn.is_grad_enabled()
    with pytest.raises(RuntimeError, match="expected input of shape"):
        nn.mc_predict(model, input_of((5, 7)), seed=0)
    assert state_of(model) == before and nn.is_grad_enabled()


def test_nested_passes_continue_where_they_were():
    layer, x = nn.Dropout(0.5), np.ones(200, np.float32)
    with nn.mc_dropout(layer, 1, 0):
        want = layer(x).array, layer(x).array
    with nn.mc_dropout(layer, 1, 0):
        first = layer(x).array
        with nn.mc_dropout(layer, 9, 9):
            assert not np.array_equal(layer(x).array, want[1])
        assert np.array_equal(layer(x).array, want[1]) and np.array_equal(first, want[0])


def test_without_a_seed_the_layers_draw_as_ever():
    layer, x = nn.Dropout(0.5, generator=fd.Generator(8)).eval(), np.ones(100, np.float32)
    with nn.mc_dropout(layer):
        y = layer(x)
    assert np.array_equal(y.array, fd.Generator(8).mask(100, 0.5).apply(x)) and layer.generator.call == 1
    fd.manual_seed(4)
    first = nn.mc_predict(layer, x, 5)
    fd.manual_seed(4)
    again = nn.mc_predict(layer, x, 5)
    assert first.seed == again.seed and np.array_equal(first.mean, again.mean) and layer.generator.call == 1
    assert nn.mc_predict(layer, x, 5).seed != first.seed


def test_other_threads_keep_the_default_generator():
    seen = []
    with nn.mc_dropout(nn.Dropout(), 0, 0):
        thread = threading.Thread(target=lambda: seen.append(fd.default_generator()))
        thread.start()
        thread.join()
        assert fd.default_generator() is not seen[0]
    assert fd.default_generator() is seen[0]


def test_batch_statistics_stay_as_they_are():
    model = mlp(Norm())
    model[2].running_mean = 0.25
    with nn.mc_dropout(model, 0, 0):
        assert not model[2].training and model[3].training
    nn.mc_predict(model, input_of((5, 6)), 3)
    assert model[2].running_mean == 0.25


def test_gradients_when_asked():
    model = mlp()
    with nn.mc_dropout(model, 0, 0, grad=True):
        model(input_of((5, 6))).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@models
def test_batches_in_turn_in_one_block(make, shape):
    model, x = make(), input_of(shape)
    for rows in (1, 2, shape[0]):
        found = nn.mc_predict(model, x, 4, seed=3, batch_size=rows, return_samples=True)
        for t in (0, 3):
            with nn.mc_dropout(model, 3, t):
                parts = [model(x[at : at + rows].copy()).array for at in range(0, shape[0], rows)]
            assert np.array_equal(np.concatenate(parts), found.samples[t])
        np.testing.assert_allclose(found.mean, found.samples.mean(axis=0, dtype=np.float64), atol=1e-12)
        assert found.variance.shape == found.mean.shape


def test_memory_does_not_grow_with_the_number_of_passes():
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 200))
    x = input_of((500, 6))
    peaks = []
    for T in (20, 200):
        tracemalloc.start()
        nn.mc_predict(model, x, T, seed=0, kind="classification")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    output = 500 * 200 * 8
    assert peaks[1] < peaks[0] + 180 * x.nbytes + output and peaks[1] < 12 * output


def test_masks_applied_at_once_are_bounded(monkeypatch):
    sizes = []
    monkeypatch.setattr(mc, "apply_masks", lambda m, x, **o: sizes.append(len(m)) or fd.apply_masks(m, x, **o))
    monkeypatch.setattr(mc, "GROUP", 1000)
    nn.mc_predict(nn.Dropout(0.5), np.ones(100, np.float32), 5)
    nn.mc_predict(nn.Dropout(0.5), np.ones(1000, np.float32), 2)
    assert sizes == [2, 2, 1, 1, 1]


# ---- what the averages say ----


class Says(nn.Module):
    """Gives prepared outputs, one per pass; draws a mask to be counted as dropout."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, x):
        F.dropout(x, 0.5)
        return nn.Tensor(np.array(next(self.outputs)))


def said(outputs, **options):
    return nn.mc_predict(Says(outputs), np.ones(1, np.float32), len(outputs), **options)


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3)])
def test_entropies_against_a_reference(np_rng, shape):
    logits = np_rng.standard_normal((9, *shape)).astype(np.float32) * 3
    found = said(logits, kind="classification")
    powers = np.exp(logits.astype(np.float64))
    p = powers / powers.sum(axis=2, keepdims=True)
    total = -(p.mean(axis=0) * np.log(p.mean(axis=0))).sum(axis=1)
    expected = -(p * np.log(p)).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(found.mean, p.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, p.var(axis=0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(found.predictive_entropy, total, rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mutual_information, total - expected, atol=1e-14)


def test_entropies_in_closed_form(np_rng):
    same = said([np_rng.standard_normal((50, 10))] * 30, kind="classification")
    assert (same.mutual_information == 0).all() and (same.variance == 0).all()
    assert np.array_equal(same.predictive_entropy, same.expected_entropy)
    even = said([np.zeros((2, 4))] * 3, kind="classification")
    np.testing.assert_allclose(even.predictive_entropy, np.log(4), rtol=1e-15)
    sure = said([[[2000.0, 0.0]], [[0.0, 2000.0]]], kind="classification")  # each pass sure, of the opposite
    assert sure.expected_entropy == 0
    np.testing.assert_allclose(sure.mutual_information, np.log(2), rtol=1e-15)
    alike = said(np.zeros((40, 60, 5)) + np_rng.standard_normal((40, 60, 5)) * 1e-9, kind="classification")
    assert (alike.mutual_information >= 0).all() and (alike.mutual_information < 1e-12).all()


def test_nan_and_inf_pass_through():
    found = said([[1.0, np.nan, np.inf], [2.0, 3.0, 4.0]])
    assert found.mean[0] == 1.5 and np.isnan(found.mean[1:]).all() and np.isnan(found.variance[1:]).all()
    found = said([[[0.0, np.nan], [0.0, np.inf], [0.0, -np.inf]]] * 2, kind="classification")
    assert np.isnan(found.mean[:2]).all() and found.mean[2].tolist() == [1.0, 0.0]
    assert np.isnan(found.mutual_information[:2]).all() and found.predictive_entropy[2] == 0


def test_one_pass_shows_no_spread():
    found = nn.mc_predict(nn.Dropout(0.5), np.ones(5, np.float32), 1)
    assert np.isnan(found.variance).all() and not np.isnan(found.mean).any()


def test_moments_of_a_linear_model(np_rng):
    """w (m x) / q has mean w x and variance sum(a^2) p / q, with a = w x. Six means and six variances, each allowed 4.5
    standard errors (the variances' from the fourth cumulant): a false positive about once in 10,000 seeds."""
    p, q, T = 0.3, 0.7, 4000
    model = nn.Sequential(nn.Dropout(p), nn.Linear(40, 6, bias=False, dtype=np.float64))
    x = np_rng.standard_normal((1, 40))
    found = nn.mc_predict(model, x, T, seed=5)
    a = model[1].weight.array * x
    variance = (a**2).sum(axis=1) * p / q
    fourth = 3 * variance**2 + ((a / q) ** 4).sum(axis=1) * p * q * (1 - 6 * p * q)
    assert (np.abs(found.mean[0] - a.sum(axis=1)) < 4.5 * np.sqrt(variance / T)).all()
    error = np.sqrt((fourth - variance**2 * (T - 3) / (T - 1)) / T)
    assert (np.abs(found.variance[0] - variance) < 4.5 * error).all()


# ---- arguments ----


def test_kinds_of_input_and_progress():
    seen = []
    found = nn.mc_predict(
        nn.Dropout(0.5), nn.ones(5, 2), 3, batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert found.mean.shape == (5, 2) and seen == [(i, 9) for i in range(1, 10)]
    assert repr(found).startswith("MCPrediction(T=3, seed=") and repr(found).endswith("mean of shape (5, 2))")
    assert found.samples is None and found.predictive_entropy is None
    for rows in (None, 2):
        assert nn.mc_predict(nn.Dropout(0.5), np.ones((0, 2)), 3, batch_size=rows).mean.shape == (0, 2)
    assert nn.mc_predict(nn.Dropout(0.5), np.float64(3), 3).mean.shape == ()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"T": 0}, ValueError, "T has to be between 1 and"),
        ({"T": 2.0}, TypeError, "T has to be an integer"),
        ({"kind": "softmax"}, ValueError, "kind has to be 'regression' or 'classification', but got 'softmax'"),
        ({"batch_size": 0}, ValueError, "batch_size has to be between 1"),
        ({"seed": -1}, ValueError, "seed has to be non-negative"),
        ({"seed": "x"}, TypeError, "seed has to be None, a non-negative integer"),
        ({"x": np.float32(1), "batch_size": 1}, ValueError, "axis of examples"),
        ({"x": np.ones(3, np.float32), "kind": "classification"}, ValueError, r"\(N, C\).*but the model gave \(3,\)"),
        ({"x": np.ones((3, 1), np.float32), "kind": "classification"}, ValueError, "2 classes or more"),
        ({"x": np.ones(3, np.int64)}, TypeError, "floating"),
        ({"model": nn.Sequential(nn.ReLU())}, ValueError, "the model has no dropout"),
        ({"model": F.relu}, TypeError, "model has to be a Module, but got a function"),
    ],
)
def test_bad_arguments(options, error, words):
    before = fd.default_generator().state
    arguments = {"model": nn.Dropout(0.5), "x": np.ones((3, 2), np.float32), "seed": 0, **options}
    with pytest.raises(error, match=words):
        nn.mc_predict(arguments.pop("model"), arguments.pop("x"), **arguments)
    assert fd.default_generator().state == before


def test_bad_outputs():
    class Pair(nn.Module):
        def forward(self, x):
            return F.dropout(x), x

    class Sum(nn.Module):
        def forward(self, x):
            return F.dropout(x).sum()

    x = np.ones((4, 2), np.float32)
    with pytest.raises(TypeError, match="return a Tensor, but gave a tuple"):
        nn.mc_predict(Pair(), x)
    assert nn.mc_predict(Sum(), x).mean.shape == ()
    with pytest.raises(ValueError, match=r"examples first, \(2, ...\), but got \(\)"):
        nn.mc_predict(Sum(), x, batch_size=2)


def test_a_pass_is_named_by_both():
    for options in ({"seed": 1}, {"t": 1}):
        with pytest.raises(ValueError, match="give both or neither"):
            nn.mc_dropout(nn.Dropout(), **options)
    for t, error in ((-1, ValueError), (2**32, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="t has to be"):
            nn.mc_dropout(nn.Dropout(), 1, t)
    with pytest.raises(TypeError, match="has to be a Module"):
        nn.mc_dropout(None)
