"""Dropout of tokens, and of the rows of an embedding matrix."""

from __future__ import annotations

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import reference

INTEGERS = [np.int64, np.int32, np.int16, np.uint8, np.int8, np.uint64]


def same_bits(a, b):
    u = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.view(u), b.view(u))


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (127,), (128,), (5, 7, 29)])
def test_word_dropout_is_the_reference(isa, integer, shape):
    tokens = np.random.default_rng(0).integers(1, 100, shape).astype(integer)
    for p in (0.5, 0.1, 1.0):
        rng = fd.Generator(3)
        y = fd.word_dropout(tokens, p, unknown=99, rng=rng)
        assert rng.call == 1 and y is not tokens
        assert same_bits(y, reference.word_dropout(tokens, p, rng.key, 0, unknown=99))
        out = tokens.copy()
        assert fd.word_dropout(out, p, unknown=99, rng=fd.Generator(3), out=out) is out and same_bits(out, y)
    assert np.all(y == 99)


@pytest.mark.parametrize("shape", [(0, 3), (1, 4), (129, 1), (300, 7)])
def test_embedding_dropout_is_the_reference(isa, dtype, shape):
    weight = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for p in (0.5, 0.1, 1.0):
        rng = fd.Generator(3)
        y = fd.embedding_dropout(weight, p, rng=rng)
        assert rng.call == 1
        assert same_bits(y, reference.embedding_dropout(weight, p, rng.key, 0))
        assert same_bits(y, rng.manual_seed(3).mask((len(weight), 1), p).broadcast_to(shape).apply(weight))
        out = weight.copy()
        assert fd.embedding_dropout(out, p, rng=fd.Generator(3), out=out) is out and same_bits(out, y)


def test_decisions_follow_the_logical_index():
    tokens = np.arange(60).reshape(6, 10)
    y = fd.word_dropout(tokens, 0.4, unknown=-1, rng=fd.Generator(1))
    for layout in (np.asfortranarray(tokens), np.repeat(tokens, 2, axis=1)[:, ::2], tokens.astype(">i8")):
        z = fd.word_dropout(layout, 0.4, unknown=-1, rng=fd.Generator(1))
        np.testing.assert_array_equal(z, y)
        assert z.dtype == np.int64
    assert fd.word_dropout(np.asfortranarray(tokens), 0.4).flags.f_contiguous
    tokens.flags.writeable = False
    np.testing.assert_array_equal(fd.word_dropout(tokens, 0.4, unknown=-1, rng=fd.Generator(1)), y)


def test_nothing_to_do_gives_the_input_itself():
    rng, tokens, weight = fd.Generator(0), np.arange(6), np.full((3, 2), np.inf, np.float32)
    for arguments in ((0.0,), (0.5, False)):
        assert fd.word_dropout(tokens, *arguments, rng=rng) is tokens
        assert fd.embedding_dropout(weight, *arguments, rng=rng) is weight
        out = np.zeros_like(tokens)
        assert np.array_equal(fd.word_dropout(tokens, *arguments, rng=rng, out=out), tokens)
    assert rng.call == 0
    assert not fd.embedding_dropout(weight, 1.0).any()


def test_a_mask_can_be_used_again():
    tokens = np.random.default_rng(0).integers(1, 50, (8, 20))
    mask = fd.Generator(7).mask((8, 20), 0.3)
    y = fd.word_dropout(tokens, 0.3, mask=mask)
    np.testing.assert_array_equal(y, fd.word_dropout(tokens, 0.3, rng=fd.Generator(7)))
    np.testing.assert_array_equal(y == 0, ~np.asarray(mask))
    columns = fd.word_dropout(tokens, 0.3, mask=fd.Generator(7).mask((1, 20), 0.3)) == 0
    assert np.array_equal(columns, np.broadcast_to(columns[:1], columns.shape)) and 0 < columns[0].sum() < 20
    weight = np.random.default_rng(0).standard_normal((30, 4))
    rows = fd.Generator(7).mask((30, 1), 0.3)
    y = fd.embedding_dropout(weight, 0.3, mask=rows)
    assert same_bits(y, fd.embedding_dropout(weight, 0.3, rng=fd.Generator(7)))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_statistics(p):
    """At rate p, and unrelated from one decision to the next and from one call to the next.

    200 calls of 600 decisions: rate and correlations are within 5 standard deviations, which fails once in 1.7 million
    runs each. The seed is fixed.
    """
    rng, tokens, weight = fd.Generator(11), np.ones((20, 30), np.int64), np.ones((600, 3), np.float32)
    words, types = [], []
    for _ in range(200):
        words.append(fd.word_dropout(tokens, p, rng=rng).ravel() != 0)
        rows = fd.embedding_dropout(weight, p, rng=rng)
        assert np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape))
        types.append(rows[:, 0] != 0)
    for decisions in (np.array(words, float), np.array(types, float)):
        n = decisions.size
        assert abs(decisions.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
        centred = (decisions - (1 - p)) / np.sqrt(p * (1 - p))
        assert abs((centred[:, 1:] * centred[:, :-1]).mean()) < 5 / np.sqrt(n - 200)
        assert abs((centred[1:] * centred[:-1]).mean()) < 5 / np.sqrt(n - 600)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda rng: fd.word_dropout(np.ones(3), rng=rng), TypeError, "tokens have to be integers, but got float64"),
        (lambda rng: fd.word_dropout([True], rng=rng), TypeError, "but got bool"),
        (lambda rng: fd.word_dropout(["a"], rng=rng), TypeError, "tokens have to be integers"),
        (lambda rng: fd.word_dropout([1], 1.5, rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.word_dropout([1], float("nan"), rng=rng), ValueError, "dropout probability"),
        (lambda rng: fd.word_dropout([1], "often", rng=rng), TypeError, "dropout probability"),
        (lambda rng: fd.word_dropout(np.ones(2, np.uint8), unknown=-1, rng=rng), ValueError, "between 0 and 255"),
        (lambda rng: fd.word_dropout([1], unknown="?", rng=rng), TypeError, "unknown has to be an integer"),
        (lambda rng: fd.word_dropout(np.ones(2, int), out=np.ones(3, int), rng=rng), ValueError, "shape of x"),
        (lambda rng: fd.word_dropout(np.ones(2, int), out=np.ones(2), rng=rng), TypeError, "native int64 array"),
        (lambda rng: fd.word_dropout(np.ones(2, int), 0.0, out=np.ones(2), rng=rng), TypeError, "native int64"),
        (lambda rng: fd.word_dropout([1], rng=np.random.default_rng(0)), TypeError, r"fastdrop\.Generator"),
        (lambda rng: fd.word_dropout([1], 0.5, mask=rng), TypeError, r"fastdrop\.Mask"),
        (lambda rng: fd.word_dropout([1], 0.5, mask=fd.Mask(0, 0, 0.2, 1)), ValueError, "mask has p=0.2"),
        (lambda rng: fd.word_dropout([1], 0.5, mask=fd.Mask(0, 0, 0.5, 1), rng=rng), ValueError, "give no rng"),
        (lambda rng: fd.word_dropout([1], 0.5, mask=fd.Mask(0, 0, 0.5, 7)), ValueError, r"\(7,\)"),
        (lambda rng: fd.embedding_dropout(np.ones(3), rng=rng), ValueError, r"2 axes, \(V, D\), but got \(3,\)"),
        (lambda rng: fd.embedding_dropout(np.ones((3, 2), int), rng=rng), TypeError, "int64"),
        (lambda rng: fd.embedding_dropout(np.ones((3, 2)), -0.1, rng=rng), ValueError, "dropout probability"),
    ],
)  # fmt: skip
def test_bad_input_takes_no_call(call, error, words):
    rng = fd.Generator(0)
    with pytest.raises(error, match=words):
        call(rng)
    assert rng.call == 0


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_every_integer_stays_as_it_is(isa, width):
    """Bits that would be NaN as a float, too: wide integers are selected by the kernels for floats."""
    top = np.iinfo(f"i{width}").max
    near = {4: 0x7F800001, 8: 0x7FF0000000000001}.get(width, top // 2)
    tokens = np.concatenate([np.arange(near, near + 40), np.arange(top - 40, top), [-1, 0, -top - 1]]).astype(
        f"i{width}"
    )
    kept = np.asarray(fd.Generator(1).mask(tokens.shape, 0.3))
    y = fd.word_dropout(tokens, 0.3, unknown=near, rng=fd.Generator(1))
    assert np.array_equal(y, np.where(kept, tokens, tokens.dtype.type(near)))
    out = tokens[::-1].copy()[::-1]
    assert fd.word_dropout(out, 0.3, unknown=near, rng=fd.Generator(1), out=out) is out and np.array_equal(out, y)
