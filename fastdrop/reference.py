"""Everything fastdrop does, once more, in plain NumPy: slow, obvious, and independent of the compiled code.

Tests compare the library with it bit for bit, and benchmarks use `naive_dropout` as the baseline. It imports NumPy
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array64 = NDArray[np.float64]

BLOCK = 128
PLANES = 32


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int], rounds: int = 10) -> NDArray[np.uint64]:
    """Philox4x32 of counters, shape (4, n), 32-bit values in uint64; returns words of the same shape.

    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
    """
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    for r in range(rounds):
        k0 = np.uint64((key[0] + r * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + r * 0xBB67AE85) & 0xFFFFFFFF)
        left, right = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (right >> high) ^ c1 ^ k0, right & low, (left >> high) ^ c3 ^ k1, left & low
    return np.stack([c0, c1, c2, c3])


def plane_words(key: int, call: int, blocks: NDArray[np.uint64], j: int) -> NDArray[np.uint64]:
    """The four words of plane j of each block: shape (4, len(blocks))."""
    same = np.ones_like(blocks)
    counter = np.stack(
        [
            blocks & np.uint64(0xFFFFFFFF),
            (blocks >> np.uint64(32)) | np.uint64(j << 24),
            same * np.uint64(call & 0xFFFFFFFF),
            same * np.uint64(call >> 32),
        ]
    )
    return philox4x32(counter, (key & 0xFFFFFFFF, key >> 32))


def plane_bits(key: int, call: int, blocks: NDArray[np.uint64], j: int) -> NDArray[np.bool_]:
    """Bit j of U for the 128 elements of each block: shape (len(blocks), 128)."""
    words = plane_words(key, call, blocks, j)
    lanes = (words.T[:, :, None] >> np.arange(32, dtype=np.uint64)) & np.uint64(1)
    bits: NDArray[np.bool_] = lanes.reshape(len(blocks), BLOCK).astype(np.bool_)
    return bits


def threshold(p: float) -> int:
    """q, the keep probability as a 32-bit fixed-point number: 0 to 2**32."""
    return round((1.0 - p) * 2**32)


def uniforms(key: int, call: int, blocks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """U * 2**32 of every element of the blocks, an integer below 2**32."""
    u = np.zeros((len(blocks), BLOCK), np.uint64)
    for j in range(PLANES):
        u = u << np.uint64(1) | plane_bits(key, call, blocks, j)
    return u


def keep_at(key: int, call: int, p: float, index: NDArray[Any]) -> NDArray[np.bool_]:
    """Keep decisions at any bit indices of the sequence; the result has `index`'s shape."""
    q = threshold(p)
    where = np.asarray(index).astype(np.uint64)
    if q in (0, 2**32):
        return np.full(where.shape, q != 0)
    blocks, inverse = np.unique(where // np.uint64(BLOCK), return_inverse=True)
    u = uniforms(key, call, blocks)[inverse.reshape(where.shape), (where % np.uint64(BLOCK)).astype(np.intp)]
    kept: NDArray[np.bool_] = u < np.uint64(q)
    return kept


def view_index(start: int, shape: Sequence[int], strides: Sequence[int]) -> NDArray[np.uint64]:
    """The bit index of each element of a view, as an array of its shape."""
    index = np.full(tuple(shape), start, np.uint64)
    for axis, (n, step) in enumerate(zip(shape, strides)):
        along = np.array([(i * step) % 2**64 for i in range(n)], np.uint64)
        index += along.reshape([n if k == axis else 1 for k in range(len(shape))])
    return index


def keep(key: int, call: int, p: float, start: int, shape: Sequence[int], strides: Sequence[int]) -> NDArray[np.bool_]:
    """Keep decisions of a strided view: what ``np.asarray(Mask(...))`` has to give."""
    return keep_at(key, call, p, view_index(start, shape, strides))


def apply(kept: NDArray[np.bool_], x: NDArray[Any], scale: float) -> NDArray[Any]:
    """``x * scale`` where kept, +0 elsewhere, in x's dtype, to the last bit.

    The scale is rounded to x's dtype; for the half types scale and product are float32, rounded from there.
    """
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x.astype(x.dtype.newbyteorder("="))
    with np.errstate(all="ignore"):
        product = (wide * wide.dtype.type(scale)).astype(x.dtype.newbyteorder("="))
    y: NDArray[Any] = np.where(np.broadcast_to(kept, x.shape), product, product.dtype.type(0))
    return y


def dropout(
    x: NDArray[Any],
    p: float,
    key: int,
    call: int,
    training: bool = True,
    noise_shape: Sequence[int | None] | None = None,
    scaling: str = "inverted",
) -> NDArray[Any]:
    """What ``fastdrop.dropout`` gives with a generator of this key that stands at this call."""
    everything = np.ones(x.shape, np.bool_)
    if not training or p == 0:
        return apply(everything & (p < 1 or scaling == "inverted"), x, 1 - p if scaling == "standard" else 1.0)
    noise = (None,) * x.ndim if noise_shape is None else tuple(noise_shape)
    shape = [n if k is None else int(k) for k, n in zip(noise, x.shape[x.ndim - len(noise) :])]
    kept = keep_at(key, call, p, np.arange(math.prod(shape)).reshape(shape))
    scale = 1.0 if scaling == "standard" or p == 1 else 1.0 / (1.0 - p)
    return apply(everything & kept, x, scale)


def word_dropout(
    tokens: NDArray[Any], p: float, key: int, call: int, training: bool = True, unknown: int = 0
) -> NDArray[Any]:
    """What ``fastdrop.word_dropout`` gives with a generator of this key that stands at this call."""
    kept = np.asarray(not training) | keep_at(key, call, p, np.arange(tokens.size).reshape(tokens.shape))
    y: NDArray[Any] = np.where(kept, tokens, tokens.dtype.type(unknown))
    return y


def embedding_dropout(weight: NDArray[Any], p: float, key: int, call: int, training: bool = True) -> NDArray[Any]:
    """What ``fastdrop.embedding_dropout`` gives with a generator of this key that stands at this call."""
    return dropout(weight, p, key, call, training, noise_shape=(None, 1))


def _wide(x: NDArray[Any]) -> Array64:
    return np.asarray(x).astype(np.float64)


def alpha_dropout(x: NDArray[Any], p: float, kept: NDArray[np.bool_]) -> Array64:
    """Alpha dropout under given decisions, in float64."""
    if p == 1:
        return np.zeros(x.shape)
    low = -1.0507009873554805 * 1.6732632423543772
    a = ((1 - p) * (1 + p * low**2)) ** -0.5
    return np.asarray(a * np.where(np.broadcast_to(kept, x.shape), _wide(x), low) - a * p * low)


def zoneout(x: NDArray[Any], previous: NDArray[Any], kept: NDArray[np.bool_]) -> Array64:
    """The new value where kept, the previous one elsewhere, in float64."""
    return np.where(kept, _wide(x), _wide(previous))


def activation(name: str, t: Array64) -> Array64:
    """An activation of `fastdrop.activation_dropout`, in float64."""
    if name == "relu":
        return np.where(t < 0, 0.0, t)
    if name == "gelu":
        return np.asarray(t * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), otypes=[float])(t))
    if name == "gelu_tanh":
        return np.asarray(0.5 * t * (1 + np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))))
    if name == "silu":
        return np.asarray(t / (1 + np.exp(-t)))
    return t


def activation_dropout(x: NDArray[Any], bias: Any, p: float, kept: NDArray[np.bool_], name: str) -> Array64:
    """``dropout(activation(x + bias))`` under given decisions, in float64."""
    t = activation(name, _wide(x) + _wide(bias))
    return np.where(kept, t / (1 - p) if p < 1 else t, 0.0)


def dropout_add(x: NDArray[Any], residual: NDArray[Any], p: float, kept: NDArray[np.bool_]) -> Array64:
    """``dropout(x) + residual`` under given decisions, in float64."""
    return np.where(kept, _wide(x) / (1 - p) if p < 1 else 0.0, 0.0) + _wide(residual)


def normal_words(key: int, call: int, index: NDArray[Any]) -> NDArray[np.uint32]:
    """The word of each normal at any indices of the sequence: planes 32 to 63, word k for lanes 32 k to 32 k + 31."""
    where = np.asarray(index).astype(np.uint64)
    blocks, inverse = np.unique(where // np.uint64(BLOCK), return_inverse=True)
    words = np.stack([plane_words(key, call, blocks, PLANES + i) for i in range(32)])  # (32, 4, blocks)
    by_lane = words.transpose(2, 1, 0).reshape(len(blocks), BLOCK).astype(np.uint32)
    lane = (where % np.uint64(BLOCK)).astype(np.intp)
    found: NDArray[np.uint32] = by_lane[inverse.reshape(where.shape), lane]
    return found


def _polynomial(x: NDArray[np.float32], *coefficients: str) -> NDArray[np.float32]:
    """Horner's rule, from the highest coefficient down: one product and one sum at a time, each rounded to float32."""
    value = np.full_like(x, float.fromhex(coefficients[0]))
    for c in coefficients[1:]:
        value = value * x + np.float32(float.fromhex(c))
    return value


def normal_radius(word: NDArray[np.uint32]) -> NDArray[np.float32]:
    """sqrt(-2 log((word + 1/2) / 2^32)), by the recipe that csrc/fd_normal.h explains, in float32 throughout."""
    one, half = np.float32(1), np.float32(0.5)
    upper = word >= np.uint32(2**31)
    f = np.minimum(word, ~word).astype(np.float32) + half
    # Below 1/2: f is a power of two times a number between sqrt(1/2) and sqrt(2).
    mantissa, exponent = np.frexp(f)
    small = mantissa < np.float32(float.fromhex("0x1.6a09e6p-1"))
    mantissa, exponent = np.where(small, mantissa * np.float32(2), mantissa), np.where(small, exponent - 1, exponent)
    # Above: 1 - v, or half of 2 - 2 v.
    v = f * np.float32(2.0**-32)
    far = v > np.float32(float.fromhex("0x1.2bec34p-2"))
    s = np.where(upper, np.where(far, one - np.float32(2) * v, -v), mantissa - one)
    e = np.where(upper, np.where(far, -1, 0), exponent - 32).astype(np.float32)
    p = _polynomial(
        s, "-0x1.38c9dep-4", "0x1.055ec6p-3", "-0x1.0d8242p-3", "0x1.22d92ep-3", "-0x1.54728ap-3", "0x1.99a01cp-3",
        "-0x1.000226p-2", "0x1.555554p-2",
    )  # fmt: skip
    p = s * s * (s * p - half)
    log = s + (p + e * np.float32(float.fromhex("-0x1.bd0106p-13"))) + e * np.float32(float.fromhex("0x1.63p-1"))
    root: NDArray[np.float32] = np.sqrt(np.float32(-2) * log)
    return root


def normal_direction(word: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of 2 pi (word + 1/2) / 2^32, by the same recipe: quarter turns, and at most an eighth besides."""
    turned = word.astype(np.int64) + 2**29
    quarter = turned // 2**30 % 4
    y = ((turned % 2**30 - 2**29).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    yy = y * y
    s = y * _polynomial(yy, "-0x1.33198ep+6", "0x1.4680a4p+6", "-0x1.4abc24p+5", "0x1.921fb6p+2")
    c = yy * _polynomial(yy, "0x1.d4f632p+5", "-0x1.55b2b4p+6", "0x1.03c1b0p+6", "-0x1.3bd3ccp+4") + np.float32(1)
    first, second, third = (quarter == k for k in range(3))  # no np.choose: it takes at most 32 axes
    cosine = np.where(first, c, np.where(second, -s, np.where(third, -c, s)))
    sine = np.where(first, s, np.where(second, c, np.where(third, -s, -c)))
    return cosine, sine


def normals_at(key: int, call: int, index: NDArray[Any]) -> NDArray[np.float32]:
    """The standard normals at any indices of the sequence; the result has `index`'s shape.

    Lanes l and l + 64 of a block are a pair: the radius is the lower one's, the angle the upper one's.
    """
    where = np.asarray(index).astype(np.uint64)
    lower = where - (where % np.uint64(BLOCK) // np.uint64(64)) * np.uint64(64)
    radius = normal_radius(normal_words(key, call, lower))
    cosine, sine = normal_direction(normal_words(key, call, lower + np.uint64(64)))
    z: NDArray[np.float32] = radius * np.where(where == lower, cosine, sine)
    return z


def normals(key: int, call: int, start: int, shape: Sequence[int], strides: Sequence[int]) -> NDArray[np.float32]:
    """The normals of a strided view: what ``np.asarray(Noise(...))`` has to give."""
    return normals_at(key, call, view_index(start, shape, strides))


def apply_noise(z: NDArray[np.float32], x: NDArray[Any], sigma: float, kind: str) -> NDArray[Any]:
    """``x * (1 + sigma * z)`` or ``x + sigma * z`` in x's dtype, to the last bit.

    Half types are computed in float32 and rounded once.
    """
    wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x.astype(x.dtype.newbyteorder("="))
    number = wide.dtype.type
    with np.errstate(all="ignore"):
        part = number(sigma) * np.broadcast_to(z, x.shape).astype(wide.dtype)
        y = wide * (number(1) + part) if kind == "multiplicative" else wide + part
        rounded: NDArray[Any] = y.astype(x.dtype.newbyteorder("="))
    return rounded


def gaussian_dropout(x: NDArray[Any], p: float, key: int, call: int, training: bool = True) -> NDArray[Any]:
    """What ``fastdrop.gaussian_dropout`` gives with a generator of this key that stands at this call."""
    if not training or p == 0:
        return x
    if p == 1:
        return np.zeros_like(x)
    z = normals_at(key, call, np.arange(x.size).reshape(x.shape))
    return apply_noise(z, x, math.sqrt(p / (1 - p)), "multiplicative")


def gaussian_noise(x: NDArray[Any], std: float, key: int, call: int, training: bool = True) -> NDArray[Any]:
    """What ``fastdrop.gaussian_noise`` gives with a generator of this key that stands at this call."""
    if not training or std == 0:
        return x
    return apply_noise(normals_at(key, call, np.arange(x.size).reshape(x.shape)), x, std, "additive")


def drop_block_kept(seeds: NDArray[np.bool_], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Keep decisions of `shape`: a seed that is not kept drops a block; the last one's ends where the map does."""
    kept = np.ones(tuple(shape), np.bool_)
    for at in np.argwhere(~seeds):
        kept[tuple(slice(i, i + n - k + 1) for i, n, k in zip(at, shape, seeds.shape))] = False
    return kept


def drop_block_gamma(extents: Sequence[int], block: Sequence[int], p: float) -> float:
    """The probability of a seed at which a map of these extents loses the share `p` of its elements, by bisection."""
    covered = np.zeros(tuple(extents))
    for at in np.ndindex(*(n - min(b, n) + 1 for n, b in zip(extents, block))):
        covered[tuple(slice(i, i + b) for i, b in zip(at, block))] += 1
    if covered.size == 0:
        return p
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if np.mean(1 - (1 - middle) ** covered) < p:
            low = middle
        else:
            high = middle
    return high


def drop_block(
    x: NDArray[Any], p: float, block: Sequence[int], key: int, call: int, channels_last: bool = False
) -> NDArray[Any]:
    """What ``fastdrop.drop_block1d`` and so on give with a generator of this key that stands at this call."""
    axes = range(x.ndim - len(block), x.ndim) if not channels_last else range(x.ndim - 1 - len(block), x.ndim - 1)
    gamma = drop_block_gamma([x.shape[k] for k in axes], block, p)
    extent = dict(zip(axes, block))
    places = tuple(slice(0, n - min(extent.get(k, 1), n) + 1) for k, n in enumerate(x.shape))
    seeds = keep_at(key, call, gamma, np.arange(x.size).reshape(x.shape))[places]
    return apply(drop_block_kept(seeds, x.shape), x, 1.0 / (1.0 - p) if p < 1 else 1.0)


def naive_dropout(x: NDArray[Any], p: float, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Dropout as it is usually written in NumPy: the output and the boolean mask that backward needs."""
    kept = rng.random(x.shape) >= p
    return (x * kept / (1.0 - p)).astype(x.dtype), kept


def naive_dropout_backward(dy: NDArray[Any], kept: NDArray[np.bool_], p: float) -> NDArray[Any]:
    """The gradient that goes with `naive_dropout`."""
    return (dy * kept / (1.0 - p)).astype(dy.dtype)


def softmax(x: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:
    """Softmax in float64; a row of minus infinities gives zeros."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        top = wide.max(axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(wide - np.where(top == -np.inf, 0.0, top))
        total = e.sum(axis=axis, keepdims=True)
        probabilities: NDArray[np.float64] = e / np.where(total == 0.0, 1.0, total)
    return probabilities


def softmax_dropout(x: NDArray[Any], p: float, key: int, call: int, axis: int = -1) -> NDArray[np.float64]:
    """What ``fastdrop.softmax_dropout`` gives in training, but for rounding, with a generator of this key and call."""
    return dropout(softmax(x, axis), p, key, call)


def softmax_dropout_backward(
    dy: NDArray[Any], x: NDArray[Any], p: float, key: int, call: int, axis: int = -1
) -> NDArray[np.float64]:
    """Its gradient: the mask applied to dy, then softmax's own Jacobian, in float64."""
    probabilities, g = softmax(x, axis), dropout(dy.astype(np.float64), p, key, call)
    with np.errstate(all="ignore"):
        dx: NDArray[np.float64] = probabilities * (g - (probabilities * g).sum(axis=axis, keepdims=True))
    return dx


def dropconnect(
    x: NDArray[Any], w: NDArray[Any], kept: NDArray[np.bool_], p: float, bias: Any = 0.0, bias_kept: Any = None
) -> Array64:
    """DropConnect of (B, I) and (O, I) under given decisions (B, O, I), in float64, one output after the other.

    `bias_kept`, (B, O), says what is kept of the bias; it is not dropped if not given.
    """
    scale = 1 / (1 - p) if p < 1 else 1.0
    y = np.zeros((len(x), len(w)))
    for b, o in np.ndindex(y.shape):
        y[b, o] = scale * np.where(kept[b, o], _wide(w[o]) * _wide(x[b]), 0.0).sum()
    shift = np.broadcast_to(_wide(bias), y.shape)
    return np.asarray(y + (shift if bias_kept is None else np.where(bias_kept, scale * shift, 0.0)))


def dropconnect_backward(
    dy: NDArray[Any], x: NDArray[Any], w: NDArray[Any], kept: NDArray[np.bool_], p: float
) -> tuple[Array64, Array64]:
    """Its gradients (dx, dw), in float64, one example after the other."""
    scale = 1 / (1 - p) if p < 1 else 1.0
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for b in range(len(x)):
        dx[b] = scale * np.where(kept[b], _wide(dy[b])[:, None] * _wide(w), 0.0).sum(axis=0)
        dw += scale * np.where(kept[b], np.outer(_wide(dy[b]), _wide(x[b])), 0.0)
    return dx, dw
