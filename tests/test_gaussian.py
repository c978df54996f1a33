"""Normals, noise as a value, and the two functions that use it. Every bit of a normal is part of the law."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastdrop as fd
from fastdrop import reference
from fastdrop.gaussian import dropout_std

VECTORS = Path(__file__).parent / "vectors"
CASES = json.loads((VECTORS / "normals.json").read_text())
KINDS = ("multiplicative", "additive")


def same_bits(a, b):
    u = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.view(u), b.view(u))


def exact(key, call, index):
    """The law in float64, from the words: what the recipe in float32 comes near."""
    lower = index - index % 128 // 64 * 64
    u = (reference.normal_words(key, call, lower) + 0.5) / 2**32
    turn = (reference.normal_words(key, call, lower + 64) + 0.5) / 2**32
    eighth = np.round(turn * 4) / 4  # whole quarters are exact: what is left is small, and so is its error
    quarter, rest = (eighth * 4).astype(int) % 4, 2 * np.pi * (turn - eighth)
    c, s = np.cos(rest), np.sin(rest)
    radius = np.sqrt(-2 * np.where(u < 0.5, np.log(u), np.log1p(u - 1)))
    return radius * np.where(index == lower, np.choose(quarter, [c, -s, -c, s]), np.choose(quarter, [s, c, -s, -c]))


# ---- the law ----


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"start={c['start']}")
def test_vectors(isa, case):
    noise = fd.Noise(int(case["seed"]), int(case["call"]), case["count"], int(case["start"]))
    assert np.asarray(noise).astype("<f4").tobytes().hex() == case["float32_little_endian_hex"]
    assert np.asarray(noise)[:4].tolist() == case["first"]


def test_the_vectors_are_what_the_reference_gives():
    script = runpy.run_path(str(VECTORS / "regenerate.py"))
    assert script["normal_vectors"]() == (VECTORS / "normals.json").read_text()


def test_the_coefficients_are_what_the_fit_gives():
    """The fit is float64 and iterates: another LAPACK may round otherwise, so each is compared to 1 part in 2^22."""
    fitted = runpy.run_path(str(VECTORS / "fit_normals.py"))["polynomials"]()
    number = r'"(-?0x1\.[0-9a-f]+p[-+][0-9]+)"'
    source = (Path(fd.__file__).parent / "reference.py").read_text()
    used = [float.fromhex(c) for c in re.findall(number, source)]
    for coefficients, error in fitted.values():
        assert error < 3e-8
        for c in coefficients:
            assert min(abs(c - v) / abs(c) for v in used) < 2**-22, c


@pytest.mark.parametrize("start", (0, 1, 63, 64, 127, 128, 2**32 * 128 - 300, 2**40 + 5, 2**62 + 77, 2**63 - 2600))
def test_every_start_and_size(isa, start):
    key, call = 2**63 + 11, 2**33 + 1
    want = reference.normals(key, call, start, (2600,), (1,))
    for n in (0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1025, 2047, 2049, 2600):
        assert same_bits(np.asarray(fd.Noise(key, call, n, start)), want[:n])


def test_a_normal_is_within_5_units_in_the_last_place_of_the_exact_one():
    index = np.arange(2**20) + 2**41
    z = np.asarray(fd.Noise(5, 6, 2**20, 2**41))
    want = exact(5, 6, index)
    assert np.all(np.abs(z - want) <= 5 * np.spacing(np.abs(want).astype(np.float32)))


def test_the_ends_of_the_recipe():
    """Words that a test would never meet by chance: both tails of the logarithm, and the seams of the recipe."""
    seams = [0, 2**29, 2**30, 3 * 2**29, 2**31, 5 * 2**29, 3 * 2**30, 7 * 2**29, 2**32]
    seams += [round(2**32 * f) for f in (math.sqrt(0.5), 1 - math.sqrt(0.5), math.sqrt(0.125), math.sqrt(2) / 32)]
    word = np.concatenate([np.arange(max(s - 500, 0), min(s + 500, 2**32)) for s in seams]).astype(np.uint32)
    u, v = (word + 0.5) / 2**32, (~word + 0.5) / 2**32
    radius = reference.normal_radius(word)
    want = np.sqrt(-2 * np.where(u < 0.5, np.log(u), np.log1p(-v)))
    assert np.all(np.abs(radius - want) <= 2 * np.spacing(want.astype(np.float32)))
    assert radius.max() == reference.normal_radius(np.zeros(1, np.uint32)) < 6.77 and radius.min() > 0
    cosine, sine = reference.normal_direction(word)
    assert np.abs(cosine.astype(np.float64) ** 2 + sine.astype(np.float64) ** 2 - 1).max() < 4e-7
    assert np.abs(cosine - np.cos(2 * np.pi * u)).max() < 3e-7 and np.abs(sine - np.sin(2 * np.pi * u)).max() < 3e-7


def test_threads_agree(threads):
    square = fd.Noise(1, 2, (1000, 1000))
    views = [fd.Noise(1, 2, 10**6, 77), square.T, square[:, :1].broadcast_to((1000, 1000)), square[::-1, ::-3]]
    fd.set_num_threads(1)
    want = [np.asarray(view) for view in views]
    for count in (2, 5):
        fd.set_num_threads(count)
        for view, z in zip(views, want, strict=True):
            assert same_bits(np.asarray(view), z)


# ---- the distribution ----

N = 2**22


@pytest.fixture(scope="module")
def z():
    """Four million normals."""
    return np.asarray(fd.Noise(20261121, 3, N)).astype(np.float64)


def test_moments(z):
    """Each of the four within 5 standard deviations of a normal's: wrong by chance once in 1.7 million runs."""
    assert abs(z.mean()) < 5 / math.sqrt(N)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / N)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / N)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / N)


def test_kolmogorov_smirnov(z):
    """The largest distance to the normal's distribution function, by sqrt(n): above 2.8 once in 3 million runs."""
    some = np.sort(z[: 2**19])
    cdf = 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in some.tolist()]))
    steps = np.arange(len(some) + 1) / len(some)
    distance = max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max())
    assert math.sqrt(len(some)) * distance < 2.8


@pytest.mark.parametrize("beyond", (2.0, 3.0, 4.0, 4.5, 5.0))
def test_tails(z, beyond):
    """How many of each sign lie beyond: Poisson, so its root is within 2.75 of the mean's (5.5 standard deviations) but
    for once in a million runs."""
    expected = N * math.erfc(beyond / math.sqrt(2)) / 2
    for count in ((z > beyond).sum(), (z < -beyond).sum()):
        assert abs(math.sqrt(count) - math.sqrt(expected)) < 2.75
    assert np.abs(z).max() < 6.77


def correlations(a, b):
    """Of the numbers, and of their squares, in standard deviations of independent ones."""
    n = len(a)
    return abs((a * b).sum()) / math.sqrt(n), abs(((a**2 - 1) * (b**2 - 1)).sum()) / math.sqrt(4 * n)


@pytest.mark.parametrize("lag", (1, 2, 3, 31, 32, 33, 64, 96, 127, 128, 129, 256, 1024))
def test_neighbours_are_independent(z, lag):
    """Two correlations for each lag within 5 standard deviations: wrong by chance once in 860 thousand runs."""
    assert max(correlations(z[:-lag], z[lag:])) < 5


def test_pairs_are_independent(z):
    """Lanes l and l + 64 share two words: numbers, squares, and the joint signs of halves and quarters of the circle.

    Two correlations within 5 standard deviations; 64 sectors of equal probability by chi-square, 63 degrees of freedom:
    above 140 once in 10 million runs.
    """
    pairs = z.reshape(-1, 2, 64)
    a, b = pairs[:, 0].ravel(), pairs[:, 1].ravel()
    assert max(correlations(a, b)) < 5
    sector = np.floor((np.arctan2(b, a) + np.pi) / (2 * np.pi) * 64).astype(int) % 64
    counts = np.bincount(sector, minlength=64)
    expected = len(a) / 64
    assert ((counts - expected) ** 2 / expected).sum() < 140


def test_each_lane_is_normal(z):
    """Mean and variance of the 128 lanes, each within 5.5 standard deviations: wrong once in 100 thousand runs."""
    lanes = z.reshape(-1, 128)
    n = len(lanes)
    assert np.abs(lanes.mean(0)).max() < 5.5 / math.sqrt(n)
    assert np.abs((lanes**2).mean(0) - 1).max() < 5.5 * math.sqrt(2 / n)


def test_noise_and_mask_of_one_call_are_independent(z):
    """The mask's bits against the normals and their squares, for three p: six values within 5 standard deviations.

    Wrong by chance once in 290 thousand runs.
    """
    for p in (0.5, 0.25, 0.1):
        kept = (np.asarray(fd.Mask(20261121, 3, p, N)) - (1 - p)) / math.sqrt(p * (1 - p))
        assert abs((kept * z).sum()) < 5 * math.sqrt(N)
        assert abs((kept * (z**2 - 1)).sum()) < 5 * math.sqrt(2 * N)


def test_calls_and_keys_are_independent(z):
    """Eight correlations within 5 standard deviations: wrong by chance once in 200 thousand runs."""
    for key, call in ((20261121, 4), (20261121, 2), (20261120, 3), (20261121 + 2**32, 3)):
        assert max(correlations(z, np.asarray(fd.Noise(key, call, N)).astype(np.float64))) < 5


# ---- the value ----

settings.register_profile("fastdrop", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("fastdrop")
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 130]), max_size=3).map(tuple)


@given(shape=shapes, data=st.data())
def test_views_are_numpys(shape, data):
    noise = fd.Noise(77, 3, shape, 19)
    want = reference.normals(77, 3, 19, shape, noise.strides)
    order = data.draw(st.permutations(range(len(shape))))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    for view, array in ((noise.transpose(*order), want.transpose(*order)), (noise[index], want[index])):
        assert type(view) is fd.Noise and same_bits(np.asarray(view), np.asarray(array))
    assert same_bits(np.asarray(noise.reshape(-1)), want.reshape(-1))
    if want.size:
        assert same_bits(np.asarray(noise[None].broadcast_to((3, *shape))), np.array([want] * 3))


def test_it_is_a_value():
    noise = fd.Noise(1, 2, (4, 6), 9)
    assert (noise.key, noise.call, noise.shape, noise.start, noise.strides) == (1, 2, (4, 6), 9, (6, 1))
    assert (noise.ndim, noise.size, len(noise), noise.T.shape) == (2, 24, 4, (6, 4))
    assert noise == noise.T.T == noise.reshape(24).reshape(4, 6) and hash(noise) == hash(fd.Noise(1, 2, (4, 6), 9))
    assert noise != noise.T and noise != fd.Noise(1, 3, (4, 6), 9) and noise != fd.Mask(1, 2, 0.0, (4, 6), 9)
    assert fd.Mask(1, 2, 0.0, 3) != fd.Noise(1, 2, 3) != "noise"
    assert not hasattr(noise, "p") and not hasattr(noise, "packbits")
    for view in (noise, noise[::-2, None, 3], noise[:0]):
        assert pickle.loads(pickle.dumps(view)) == view == copy.deepcopy(view)
        assert eval(repr(view), {"Noise": fd.Noise}) == view
    assert repr(noise) == "Noise(key=1, call=2, shape=(4, 6), start=9)"
    with pytest.raises(AttributeError):
        noise.start = 1
    with pytest.raises(TypeError, match="a Noise is immutable"):
        noise.__init__(0, 0, 3)
    assert np.asarray(noise, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(noise, copy=False)
    assert [np.asarray(n).tolist() for n in noise] == np.asarray(noise).tolist()


def test_a_generator_gives_it(rng):
    assert rng.noise((2, 3)) == fd.Noise(rng.key, 0, (2, 3)) and rng.noise(4) == fd.Noise(rng.key, 1, 4)
    assert rng.mask(4) == fd.Mask(rng.key, 2, 0.5, 4) and rng.noise([2, 2]).call == 3
    for shape in (-1, (2, 2.5), "3", (2**40, 2**40)):
        with pytest.raises((TypeError, ValueError)):
            rng.noise(shape)
    assert rng.call == 4


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fd.Noise(-1, 0, 3), ValueError, "key"),
        (lambda: fd.Noise(0, 1.5, 3), TypeError, "call.*1.5"),
        (lambda: fd.Noise(0, 0, (3, -1)), ValueError, r"shape\[1\].*-1"),
        (lambda: fd.Noise(0, 0, 3, start=2**63 - 2), ValueError, "the noise would use .* outside 0"),
        (lambda: fd.Noise(0, 0, 3, strides=(1, 1)), ValueError, "one entry per axis"),
        (lambda: fd.Noise(0, 0, 3)[3], IndexError, "index 3 is out of bounds"),
        (lambda: fd.Noise(0, 0, 3)[[0]], IndexError, r"np.asarray\(noise\)"),
        (lambda: fd.Noise(0, 0, (3, 4)).T.reshape(12), ValueError, "a view cannot"),
        (lambda: fd.Noise(0, 0, 3).broadcast_to(4), ValueError, "cannot broadcast a noise"),
        (lambda: bool(fd.Noise(0, 0, 3)), ValueError, "truth value of a noise"),
        (lambda: len(fd.Noise(0, 0, ())), TypeError, "noise without axes"),
        (lambda: fd.Noise(0, 0, 3).apply(np.ones(3)), TypeError, "sigma"),
        (lambda: fd.Noise(0, 0, 3).apply(np.ones(3), sigma="1"), TypeError, "sigma"),
        (lambda: fd.Noise(0, 0, 3).apply(np.ones(3), sigma=1.0, kind="plus"), ValueError, "'additive', but got 'plus'"),
        (lambda: fd.Noise(0, 0, 3).apply(np.ones(4), sigma=1.0), ValueError, "broadcast"),
        (lambda: fd.Noise(0, 0, 3).apply(np.arange(3), sigma=1.0), TypeError, "int64"),
        (lambda: fd.Noise(0, 0, 3).apply(np.ones(3), np.ones(3, np.float32), sigma=1.0), TypeError, "float64"),
    ],
)
def test_bad_arguments(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_apply_is_the_reference(isa, dtype, kind):
    random = np.random.default_rng(0)
    for shape in ((), (0, 3), (1,), (17, 33), (5000,), (3, 1000)):
        noise = fd.Noise(9, 4, shape, 100)
        x = random.standard_normal(shape).astype(dtype)
        if x.size > 100:
            x.ravel()[:4] = np.inf, -np.inf, np.nan, -0.0
        want = reference.apply_noise(np.asarray(noise), x, 0.3, kind)
        got = noise.apply(x, sigma=0.3, kind=kind)
        assert same_bits(np.nan_to_num(got), np.nan_to_num(want)) and np.array_equal(np.isnan(got), np.isnan(want))
        out = x.copy()
        assert noise.apply(out, out=out, sigma=0.3, kind=kind) is out
        assert same_bits(np.nan_to_num(out), np.nan_to_num(want))


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_agree(dtype, kind):
    """Fortran order, steps, reversal, unaligned and byte-swapped memory: an element's normal is that of its index."""
    x = np.random.default_rng(1).standard_normal((60, 70, 9)).astype(dtype)
    noise = fd.Noise(9, 4, x.shape)
    want = noise.apply(x, sigma=0.7, kind=kind)
    room = np.empty(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(x.shape)
    room[:] = x
    layouts = [np.asfortranarray(x), room, np.repeat(x, 2, 1)[:, ::2], x[::-1, :, ::-1].copy()[::-1, :, ::-1]]
    if dtype.name != "bfloat16":
        layouts.append(x.astype(dtype.newbyteorder("S")))
    for a in layouts:
        assert same_bits(noise.apply(a, sigma=0.7, kind=kind), want)
        out = np.empty(x.shape[::-1], dtype).T
        assert noise.apply(a, out, sigma=0.7, kind=kind) is out and same_bits(out.copy("C"), want)
    parts = [noise[k : k + 20].apply(x[k : k + 20], sigma=0.7, kind=kind) for k in (0, 20, 40)]
    assert same_bits(np.concatenate(parts), want)
    last = noise[:, :1].broadcast_to(x.shape)
    assert same_bits(noise[:, :1].apply(x, sigma=0.7, kind=kind), last.apply(x, sigma=0.7, kind=kind))
    want = reference.apply_noise(np.asarray(noise)[:, :1], x, 0.7, kind)
    assert same_bits(last.apply(x, sigma=0.7, kind=kind), want)


# ---- the functions ----

FUNCTIONS = [
    (fd.gaussian_dropout, reference.gaussian_dropout, (0.3, 0.9), "p"),
    (fd.gaussian_noise, reference.gaussian_noise, (0.1, 2.5), "std"),
]
functions = pytest.mark.parametrize(("function", "oracle", "values", "name"), FUNCTIONS, ids=[f[3] for f in FUNCTIONS])


@functions
def test_they_are_the_reference(isa, dtype, function, oracle, values, name):
    x = np.random.default_rng(0).standard_normal((17, 33)).astype(dtype)
    for value in values:
        rng = fd.Generator(5)
        y = function(x, value, rng=rng)
        assert rng.call == 1 and same_bits(y, oracle(x, value, rng.key, 0))
        out = x.copy()
        assert function(out, value, rng=fd.Generator(5), out=out) is out and same_bits(out, y)
        assert same_bits(function(x, value, noise=fd.Generator(5).noise(x.shape)), y)
        fd.manual_seed(5)
        assert same_bits(function(x, value), y)


@functions
def test_nothing_to_do_gives_the_input_itself(rng, dtype, function, oracle, values, name):
    x = np.ones(8, dtype)
    assert function(x, 0.0, rng=rng) is x and function(x, values[0], training=False, rng=rng) is x
    assert function(x, 0, noise=fd.Noise(0, 0, 8)) is x
    out = np.zeros(8, dtype)
    assert function(x, 0.0, rng=rng, out=out) is out and np.array_equal(out, x)
    out[:] = 0
    assert function(x, values[0], False, rng=rng, out=out) is out and np.array_equal(out, x)
    assert rng.call == 0


@functions
def test_noise_can_be_shared(function, oracle, values, name):
    x = np.random.default_rng(0).standard_normal((4, 5, 6, 7)).astype(np.float32)
    maps = fd.Generator(3).noise((4, 5))[:, :, None, None]
    y = function(x, values[0], noise=maps)
    change = y / x if name == "p" else y - x
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :, :1, :1], x.shape), rtol=2e-3, atol=1e-5)
    assert len(np.unique(change[:, :, 0, 0].round(4))) == 20


def test_gaussian_dropout_of_p_one_is_zero_whatever_came_in(rng, dtype):
    x = np.array([np.inf, np.nan, -1, -0.0], dtype)
    y = fd.gaussian_dropout(x, 1.0, rng=rng)
    assert same_bits(y, np.zeros(4, dtype)) and rng.call == 1
    assert fd.gaussian_dropout(x, 1, out=x) is x and not x.any()
    assert fd.gaussian_dropout(x, 1 - 2.0**-53).dtype == dtype


def test_gaussian_dropout_has_the_moments_of_dropout():
    """Mean and variance of a factor, for four p, within 5 standard deviations: wrong once in 200 thousand runs."""
    n, rng = 2**20, fd.Generator(8)
    for p in (0.05, 0.2, 0.5, 0.8):
        y = fd.gaussian_dropout(np.ones(n), p, rng=rng)
        assert abs(y.mean() - 1) < 5 * math.sqrt(p / (1 - p) / n)
        assert abs(y.var() / (p / (1 - p)) - 1) < 5 * math.sqrt(2 / n)
        assert dropout_std(p) == math.sqrt(p / (1 - p))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: fd.gaussian_dropout(np.ones(3), 1.5, rng=rng), ValueError, "between 0 and 1, but got 1.5"),
        (lambda rng: fd.gaussian_dropout(np.ones(3), math.nan, rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.gaussian_dropout(np.ones(3), "half", rng=rng), TypeError, "dropout probability.*'half'"),
        (lambda rng: fd.gaussian_dropout(np.ones(3), True, False, rng=rng), TypeError, "True"),
        (lambda rng: fd.gaussian_noise(np.ones(3), -0.1, rng=rng), ValueError, "not negative, but got -0.1"),
        (lambda rng: fd.gaussian_noise(np.ones(3), math.inf, rng=rng), ValueError, "finite"),
        (lambda rng: fd.gaussian_noise(np.ones(3), math.nan, False, rng=rng), ValueError, "nan"),
        (lambda rng: fd.gaussian_noise(np.ones(3), None, rng=rng), TypeError, "std.*None"),
        (lambda rng: fd.gaussian_noise(np.arange(3), rng=rng), TypeError, "int64"),
        (lambda rng: fd.gaussian_dropout(np.arange(3), 0.0, rng=rng), TypeError, "int64"),
        (lambda rng: fd.gaussian_dropout(np.ones(3), rng=np.random.default_rng(0)), TypeError, "fastdrop.Generator"),
        (lambda rng: fd.gaussian_noise(np.ones(3), noise=fd.Mask(0, 0, 0.5, 3)), TypeError, "fastdrop.Noise"),
        (lambda rng: fd.gaussian_noise(np.ones(3), noise=fd.Noise(0, 0, 3), rng=rng), ValueError, "give no rng"),
        (lambda rng: fd.gaussian_noise(np.ones(3), noise=fd.Noise(0, 0, 4)), ValueError, "broadcast"),
        (lambda rng: fd.gaussian_noise(np.ones(3), rng=rng, out=np.ones(4)), ValueError, "shape"),
        (lambda rng: fd.gaussian_dropout(np.ones(3), 1.0, rng=rng, out=np.ones(4)), ValueError, "shape"),
        (lambda rng: fd.gaussian_noise(np.ones(3), rng=rng, out=np.broadcast_to(1.0, 3)), ValueError, "read-only"),
    ],
)
def test_bad_input_takes_no_call(call, error, words):
    rng = fd.Generator(0)
    with pytest.raises(error, match=words):
        call(rng)
    assert rng.call == 0
