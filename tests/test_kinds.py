"""Every kind of dropout is complete: function, layer, docstring, rows in the README and in the benchmarks."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import nn
from fastdrop.bench.kinds import KINDS as MEASURED
from fastdrop.nn import functional as F

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
FLOATS = ("float32", "float64", "float16", "bfloat16")

# function: layer (None: the function alone, or a part of another layer), bench family, what comes after x
KINDS = {
    "dropout": ("Dropout", "forward", ()),
    "dropout1d": ("Dropout1d", "spatial-nchw", ()),
    "dropout2d": ("Dropout2d", "spatial-nchw", ()),
    "dropout3d": ("Dropout3d", "spatial-nchw", ()),
    "spatial_dropout": (None, "spatial-nhwc", ()),
    "drop_block1d": ("DropBlock1d", "drop-block", ()),
    "drop_block2d": ("DropBlock2d", "drop-block", ()),
    "drop_block3d": ("DropBlock3d", "drop-block", ()),
    "drop_path": ("DropPath", "path", ()),
    "locked_dropout": ("LockedDropout", "locked", ()),
    "token_dropout": ("TokenDropout", "token", ()),
    "word_dropout": ("WordDropout", "word", ()),
    "embedding_dropout": (None, "embedding", ()),
    "zoneout": ("Zoneout", "zoneout", ("previous",)),
    "alpha_dropout": ("AlphaDropout", "alpha", ()),
    "feature_alpha_dropout": ("FeatureAlphaDropout", "feature-alpha", ()),
    "gaussian_dropout": ("GaussianDropout", "gaussian-dropout", ()),
    "gaussian_noise": ("GaussianNoise", "gaussian-noise", ()),
    "activation_dropout": ("ActivationDropout", "relu-dropout", ()),
    "dropout_add": ("DropoutAdd", "dropout-add", ("residual",)),
    "softmax_dropout": (None, "softmax-dropout", ()),
}
SHAPES = {
    "drop_block1d": (4, 8, 9),
    "drop_block3d": (2, 4, 5, 5, 5),
    "dropout1d": (4, 8, 9),
    "dropout3d": (2, 4, 5, 5, 5),
    "embedding_dropout": (30, 40),
    "locked_dropout": (9, 4, 8),
    "word_dropout": (30, 40),
}
kinds = pytest.mark.parametrize("name", KINDS)


def call(name, p=0.5, training=True, dtype="float32", rng=None, **more):
    """(x, y) of a call on an input of ones."""
    dtype = np.dtype(np.int64 if name == "word_dropout" else dtype)
    x = np.ones(SHAPES.get(name, (4, 8, 9, 9)), dtype)
    second = {what: np.full_like(x, 3) for what in KINDS[name][2]}
    return x, getattr(fd, name)(x, *second.values(), p, training=training, rng=rng, **more)


@kinds
def test_it_is_documented(name):
    text = inspect.getdoc(getattr(fd, name))
    parts = ["Examples", ">>> "]
    if not re.match(r"`\w+` (of|along)", text):  # what is a form of another kind points there for the rest
        parts += ["Parameters", "Returns", "Raises", "dtype"]
        assert ".. math::" in text or "``y" in text or name == "word_dropout"
    assert all(part in text for part in parts), [part for part in parts if part not in text]


@kinds
def test_it_has_a_layer_a_row_in_the_readme_and_a_benchmark(name):
    layer, family, _ = KINDS[name]
    assert f"`fd.{name}`" in README or re.search(rf"`fd\.\w+`[^|]*`{name}`", README)
    if layer is not None:
        assert hasattr(nn, layer) and (f"`nn.{layer}`" in README or re.search(rf"`nn\.\w+`[^|]*`{layer}`", README))
        assert inspect.getdoc(getattr(nn, layer))
    if name != "spatial_dropout":
        assert hasattr(F, name)
    assert family in (*MEASURED, "forward", "spatial-nchw", "spatial-nhwc")


def test_nothing_measured_is_missing_here():
    assert set(MEASURED) - {"bias-gelu-dropout", "masks"} == {k[1] for k in KINDS.values() if k[1] in MEASURED}


@kinds
def test_out_of_training_and_for_p_0_nothing_is_drawn(name):
    rng = fd.Generator(3)
    for p, training in ((0.5, False), (0.0, True)):
        x, y = call(name, p, training, rng=rng)
        if name in ("zoneout", "activation_dropout", "dropout_add", "softmax_dropout"):
            assert y.shape == x.shape and len(np.unique(y)) == 1  # they do something else too
        else:
            assert y is x
    assert rng.call == 0


@kinds
@pytest.mark.parametrize("dtype", FLOATS)
def test_p_1_and_every_dtype(name, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x, y = call(name, 1.0, dtype=dtype)
    want = {"zoneout": 3, "dropout_add": 3, "gaussian_noise": None}.get(name, 0)
    assert y.dtype == x.dtype and (want is None or (y == want).all())
    x, y = call(name, 0.5, dtype=dtype, rng=fd.Generator(1))
    assert y.dtype == x.dtype and y.shape == x.shape and len(np.unique(y.astype(float))) > 1
    x, again = call(name, 0.5, dtype=dtype, rng=fd.Generator(1))
    assert np.array_equal(y, again)


@kinds
def test_out_and_a_refused_call(name):
    rng = fd.Generator(5)
    x, want = call(name, rng=fd.Generator(5))
    out = np.full_like(x, 7)
    assert call(name, rng=fd.Generator(5), out=out)[1] is out and np.array_equal(out, want)
    for bad, error in ((1.5, ValueError), ("half", TypeError), (float("nan"), ValueError), (-0.1, ValueError)):
        with pytest.raises(error):
            call(name, bad, rng=rng) if name != "gaussian_noise" or bad != 1.5 else call(name, np.inf, rng=rng)
    with pytest.raises((TypeError, ValueError)):
        call(name, rng=rng, out=np.empty((1, 1), x.dtype))
    with pytest.raises(TypeError, match=r"fastdrop\.Generator"):
        call(name, rng=np.random.default_rng(0))
    assert rng.call == 0


@pytest.mark.parametrize("name", ["activation_dropout", "dropout_add", "softmax_dropout"])
def test_statistics_of_the_fused_ones(name):
    """A million decisions: rate and correlation of neighbours each within 5 standard deviations (once in 1.7 million).

    Those of the other kinds stand in their own files.
    """
    x, p, n = np.ones((1000, 1000), np.float32), 0.3, 10**6
    second = (np.zeros_like(x),) if name == "dropout_add" else ()
    kept = (getattr(fd, name)(x, *second, p, rng=fd.Generator(17)) != 0).ravel().astype(float)
    assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    centred = (kept - (1 - p)) / np.sqrt(p * (1 - p))
    assert abs((centred[1:] * centred[:-1]).mean()) < 5 / np.sqrt(n)
