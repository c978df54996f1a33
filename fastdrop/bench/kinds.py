"""The further kinds of dropout as families: one row each, with what it has to compute and how peers write it.

A row is all that a kind needs to be measured: `cases` makes a family of it, `_kinds` the contenders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastdrop as fd

from .. import reference

__all__ = ["KINDS", "Kind", "WrongAnswer", "images"]

Array = NDArray[Any]
Shape = tuple[int, ...]
#: How many standard errors a share or a moment may be off: a right contender fails in one of 1.7 million checks.
DEVIATIONS = 5


class WrongAnswer(AssertionError):
    """A contender does not compute what it claims to: its time means nothing."""


def either(kept: Callable[..., Any], dropped: Callable[..., Any], per: Callable[[Shape], Shape]) -> Callable[..., None]:
    """Check that every element has one of two values, and that the share of the second is p.

    `kept` and `dropped` take x, z (float64) and p; `per` says which shape the decisions have.
    """

    def check(x: Array, z: Array, y: Array, p: float) -> None:
        wide, beside, given = x.astype(np.float64), z.astype(np.float64), y.astype(np.float64)
        values = [np.broadcast_to(f(wide, beside, p), x.shape) for f in (kept, dropped)]
        close = {2: 2e-2, 4: 4e-6, 8: 1e-12}[x.dtype.itemsize]
        least = min(1.0, float(np.abs(values[0]).mean()))  # what is an absolute error here: softmax' values are small
        hits = [np.abs(given - v) <= close * np.maximum(least, np.abs(v)) for v in values]
        if not (hits[0] | hits[1]).all():
            raise WrongAnswer("an element is neither what is kept nor what is dropped")
        telling = ~hits[0] | ~hits[1]
        if not telling.any():
            return
        seen = np.count_nonzero(telling)
        share = np.count_nonzero(telling & hits[1]) / seen
        count = max(1, math.prod(per(x.shape)) * seen // x.size)  # decisions that show
        bound = max(DEVIATIONS * math.sqrt(p * (1 - p) / count), 12 / count)
        if abs(share - p) > bound:
            raise WrongAnswer(f"dropped {share:.6f} in {count} decisions where p is {p:g} (allowed: {bound:.6f} off)")

    return check


def scaled(x: Array, z: Array, p: float) -> Array:
    """What plain dropout keeps."""
    return x / (1 - p)


def zero(x: Array, z: Array, p: float) -> float:
    """What plain dropout drops to."""
    return 0.0


def each(shape: Shape) -> Shape:
    """A decision per element."""
    return shape


def square(n: int) -> Shape:
    """Two axes as equal as a power of two allows, the last one not the shorter."""
    power = n.bit_length() - 1
    return (2 ** (power // 2), 2 ** (power - power // 2))


def cube(n: int) -> Shape:
    """Three axes, likewise."""
    power = n.bit_length() - 1
    return tuple(2 ** ((power + axis) // 3) for axis in range(3))


def images(n: int) -> Shape:
    """(N, C, H, W), likewise."""
    power = n.bit_length() - 1
    return tuple(2 ** ((power + 3 - axis) // 4) for axis in range(4))


def bernoulli(like: Any, shape: Shape, keep: float) -> Any:
    """PyTorch's decisions."""
    return like.new_empty(shape).bernoulli_(keep)


def normal(deviation: Callable[..., Array]) -> Callable[..., None]:
    """Check mean and variance of what `deviation` makes of x, y and p: it has to be standard normal."""

    def check(x: Array, z: Array, y: Array, p: float) -> None:
        d = deviation(x.astype(np.float64), y.astype(np.float64), p).ravel()
        rounding = {2: 2e-2, 4: 1e-6, 8: 0.0}[x.dtype.itemsize]
        for what, found, error in (("mean", d.mean(), 1.0), ("variance", np.square(d).mean() - 1, math.sqrt(2))):
            if abs(found) > DEVIATIONS * error / math.sqrt(d.size) + rounding:
                raise WrongAnswer(f"the {what} of {d.size} normals is {found:.6f} off")

    return check


class Kind(NamedTuple):
    """One kind of dropout.

    Parameters
    ----------
    title, does : str
        In a report.
    shape : callable
        The shape of an input of n elements, a power of two.
    ours : callable
        Takes x, z, y, p and a generator; writes y.
    naive : callable
        Takes x, z, p and NumPy's generator: as it is usually written.
    torch : callable
        Takes torch, x, z and p.
    check : callable
        Takes x, z, y and p, and raises `WrongAnswer`.
    inputs : int
        1, or 2 where z is read too.
    """

    title: str
    does: str
    shape: Callable[[int], Shape]
    ours: Callable[..., Any]
    naive: Callable[..., Any]
    torch: Callable[..., Any]
    check: Callable[..., None]
    inputs: int = 1


def _naive_shared(per: Callable[[Shape], Shape]) -> Callable[..., Any]:
    def naive(x: Array, z: Array, p: float, rng: np.random.Generator) -> Array:
        return x * (rng.random(per(x.shape)) >= p) / (1 - p)

    return naive


def _torch_shared(per: Callable[[Shape], Shape]) -> Callable[..., Any]:
    def peer(torch: Any, x: Any, z: Any, p: float) -> Any:
        return x * bernoulli(x, per(tuple(x.shape)), 1 - p).div_(1 - p)

    return peer


def _rows(shape: Shape) -> Shape:
    return (shape[0], *(1,) * (len(shape) - 1))


def _steps(shape: Shape) -> Shape:
    return (1, *shape[1:])


def _tokens(shape: Shape) -> Shape:
    return (*shape[:-1], 1)


def _integers(x: Array) -> Array:
    """The bits as integers: words, of which 0 is the unknown one, and +0 as a float."""
    words: Array = x.view(f"i{x.dtype.itemsize}")
    return words


def _torch_words(torch: Any, x: Any, z: Any, p: float) -> Any:
    words = x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])
    return torch.where(bernoulli(words, tuple(words.shape), 1 - p).bool(), words, 0).view(x.dtype)


def _maps(shape: Shape) -> Shape:
    return (*shape[:2], *(1,) * (len(shape) - 2))


def _low() -> float:
    return fd.alpha.SATURATION


def _alpha_kept(x: Array, z: Array, p: float) -> Array:
    scale, shift, _ = fd.alpha.alpha_constants(p)
    return np.asarray(scale * x + shift)


def _alpha_dropped(x: Array, z: Array, p: float) -> float:
    return fd.alpha.alpha_constants(p)[2]


def _naive_alpha(per: Callable[[Shape], Shape]) -> Callable[..., Any]:
    def naive(x: Array, z: Array, p: float, rng: np.random.Generator) -> Array:
        scale = ((1 - p) * (1 + p * _low() ** 2)) ** -0.5
        y: Array = scale * np.where(rng.random(per(x.shape)) >= p, x, x.dtype.type(_low())) - scale * p * _low()
        return y

    return naive


def _naive_gelu(x: Array, z: Array, p: float, rng: np.random.Generator) -> Array:
    t = x + z[0]
    cdf = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)))  # NumPy has no erf
    y: Array = t * cdf * (rng.random(x.shape) >= p) / (1 - p)
    return y


def _torch_gelu(torch: Any, x: Any, z: Any, p: float) -> Any:
    return torch.nn.functional.dropout(torch.nn.functional.gelu(x + z[0], approximate="tanh"), p)


def _spread(p: float) -> float:
    return math.sqrt(p / (1 - p))


def _softmax(x: Array) -> Array:
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    e = np.exp(wide - wide.max(axis=-1, keepdims=True))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


#: Of DropBlock, along both axes.
BLOCK = 7


def _gamma(shape: Shape, p: float) -> float:
    return fd.block.seed_probability(shape[2:], (min(BLOCK, shape[2]), min(BLOCK, shape[3])), p)


def _blocks(shape: Shape) -> Shape:
    """Cells of a block drop together: half as many decisions as blocks that fit, which is on the safe side."""
    return (max(1, math.prod(shape) // (2 * BLOCK**2)),)


def _naive_block(x: Array, z: Array, p: float, rng: np.random.Generator) -> Array:
    n, c, h, w = x.shape
    rows, columns = min(BLOCK, h), min(BLOCK, w)
    seeds = rng.random((n, c, h - rows + 1, w - columns + 1)) < _gamma(x.shape, p)
    dropped = np.zeros(x.shape, np.bool_)
    for i in range(rows):
        for k in range(columns):
            dropped[:, :, i : i + seeds.shape[2], k : k + seeds.shape[3]] |= seeds
    y: Array = np.where(dropped, x.dtype.type(0), x * x.dtype.type(1 / (1 - p)))
    return y


def _torch_block(torch: Any, x: Any, z: Any, p: float) -> Any:
    n, c, h, w = x.shape
    rows, columns = min(BLOCK, h), min(BLOCK, w)
    seeds = bernoulli(x, (n, c, h - rows + 1, w - columns + 1), _gamma(tuple(x.shape), p))
    padded = torch.nn.functional.pad(seeds, [columns - 1] * 2 + [rows - 1] * 2)
    return x * (1 - torch.nn.functional.max_pool2d(padded, (rows, columns), 1)).div_(1 - p)


def _stack(n: int) -> Shape:
    """Eight masks of one input."""
    return (8, n // 8)


def _ours_masks(x: Array, z: Array, y: Array, p: float, rng: fd.Generator) -> None:
    fd.apply_masks([rng.mask(x.shape[1], p) for _ in range(len(x))], x[0], y)


def _torch_masks(torch: Any, x: Any, z: Any, p: float) -> Any:
    return torch.stack([torch.nn.functional.dropout(x[0], p) for _ in range(len(x))])


#: Every kind by the name of its family.
KINDS = {
    "path": Kind(
        "stochastic depth", "`y = drop_path(x)`: whole examples", square,
        lambda x, z, y, p, rng: fd.drop_path(x, p, rng=rng, out=y),
        _naive_shared(_rows), _torch_shared(_rows), either(scaled, zero, _rows),
    ),
    "locked": Kind(
        "locked dropout", "`y = locked_dropout(x)` of (T, N, C): the same features at every step", cube,
        lambda x, z, y, p, rng: fd.locked_dropout(x, p, rng=rng, out=y),
        _naive_shared(_steps), _torch_shared(_steps), either(scaled, zero, _steps),
    ),
    "word": Kind(
        "word dropout", "`y = word_dropout(tokens)` of integers, as wide as the dtype says", square,
        lambda x, z, y, p, rng: fd.word_dropout(_integers(x), p, rng=rng, out=_integers(y)),
        lambda x, z, p, rng: np.where(rng.random(x.shape) >= p, _integers(x), 0).astype(f"i{x.itemsize}").view(x.dtype),
        _torch_words, either(lambda x, z, p: x, zero, each),
    ),
    "embedding": Kind(
        "embedding dropout", "`y = embedding_dropout(w)` of (V, D): whole rows", square,
        lambda x, z, y, p, rng: fd.embedding_dropout(x, p, rng=rng, out=y),
        _naive_shared(_rows), _torch_shared(_rows), either(scaled, zero, _rows),
    ),
    "token": Kind(
        "token dropout", "`y = token_dropout(x)` of (N, T, C): whole tokens", cube,
        lambda x, z, y, p, rng: fd.token_dropout(x, p, rng=rng, out=y),
        _naive_shared(_tokens), _torch_shared(_tokens), either(scaled, zero, _tokens),
    ),
    "alpha": Kind(
        "alpha dropout", "`y = alpha_dropout(x)`", square,
        lambda x, z, y, p, rng: fd.alpha_dropout(x, p, rng=rng, out=y),
        _naive_alpha(each), lambda torch, x, z, p: torch.nn.functional.alpha_dropout(x, p, True),
        either(_alpha_kept, _alpha_dropped, each),
    ),
    "feature-alpha": Kind(
        "feature alpha dropout", "`y = feature_alpha_dropout(x)` of (N, C, H, W)", images,
        lambda x, z, y, p, rng: fd.feature_alpha_dropout(x, p, rng=rng, out=y),
        _naive_alpha(_maps), lambda torch, x, z, p: torch.nn.functional.feature_alpha_dropout(x, p, True),
        either(_alpha_kept, _alpha_dropped, _maps),
    ),
    "zoneout": Kind(
        "zoneout", "`y = zoneout(x, z)`", square,
        lambda x, z, y, p, rng: fd.zoneout(x, z, p, rng=rng, out=y),
        lambda x, z, p, rng: np.where(rng.random(x.shape) >= p, x, z),
        lambda torch, x, z, p: torch.where(bernoulli(x, tuple(x.shape), 1 - p).bool(), x, z),
        either(lambda x, z, p: x, lambda x, z, p: z, each), 2,
    ),
    "relu-dropout": Kind(
        "ReLU and dropout", "`y = dropout(relu(x))` in one pass", square,
        lambda x, z, y, p, rng: fd.activation_dropout(x, p, activation="relu", rng=rng, out=y),
        lambda x, z, p, rng: np.maximum(x, 0) * (rng.random(x.shape) >= p) / (1 - p),
        lambda torch, x, z, p: torch.nn.functional.dropout(torch.relu(x), p),
        either(lambda x, z, p: np.maximum(x, 0) / (1 - p), zero, each),
    ),
    "bias-gelu-dropout": Kind(
        "bias, GELU and dropout", "`y = dropout(gelu(x + b))` in one pass, by tanh, a bias per column", square,
        lambda x, z, y, p, rng: fd.activation_dropout(x, p, activation="gelu_tanh", bias=z[0], rng=rng, out=y),
        _naive_gelu, _torch_gelu,
        either(lambda x, z, p: reference.activation("gelu_tanh", x + z[0]) / (1 - p), zero, each),
    ),
    "dropout-add": Kind(
        "dropout and residual", "`y = dropout(x) + z` in one pass", square,
        lambda x, z, y, p, rng: fd.dropout_add(x, z, p, rng=rng, out=y),
        lambda x, z, p, rng: x * (rng.random(x.shape) >= p) / (1 - p) + z,
        lambda torch, x, z, p: torch.nn.functional.dropout(x, p) + z,
        either(lambda x, z, p: x / (1 - p) + z, lambda x, z, p: z, each), 2,
    ),
    "softmax-dropout": Kind(
        "softmax and dropout", "`y = dropout(softmax(x))` along rows, as attention has it, in one pass", square,
        lambda x, z, y, p, rng: fd.softmax_dropout(x, p, rng=rng, out=y),
        lambda x, z, p, rng: _softmax(x) * (rng.random(x.shape) >= p) / (1 - p),
        lambda torch, x, z, p: torch.nn.functional.dropout(torch.softmax(x, -1), p),
        either(lambda x, z, p: _softmax(x) / (1 - p), zero, each),
    ),
    "gaussian-dropout": Kind(
        "Gaussian dropout", "`y = gaussian_dropout(x)`", square,
        lambda x, z, y, p, rng: fd.gaussian_dropout(x, p, rng=rng, out=y),
        lambda x, z, p, rng: x * (1 + _spread(p) * rng.standard_normal(x.shape)),
        lambda torch, x, z, p: x * torch.empty_like(x).normal_(1, _spread(p)),
        normal(lambda x, y, p: (y / x - 1) / _spread(p)),
    ),
    "gaussian-noise": Kind(
        "Gaussian noise", "`y = gaussian_noise(x, std=p)`", square,
        lambda x, z, y, p, rng: fd.gaussian_noise(x, p, rng=rng, out=y),
        lambda x, z, p, rng: x + p * rng.standard_normal(x.shape),
        lambda torch, x, z, p: x + torch.empty_like(x).normal_(0, p),
        normal(lambda x, y, p: (y - x) / p),
    ),
    "drop-block": Kind(
        "DropBlock", f"`y = drop_block2d(x)` of (N, C, H, W), blocks of {BLOCK} x {BLOCK}", images,
        lambda x, z, y, p, rng: fd.drop_block2d(x, p, BLOCK, rng=rng, out=y),
        _naive_block, _torch_block, either(scaled, zero, _blocks),
    ),
    "masks": Kind(
        "many masks", "`y = apply_masks(masks, x)`: eight masks of one x, as Monte-Carlo dropout has them", _stack,
        _ours_masks, lambda x, z, p, rng: x[0] * (rng.random(x.shape) >= p) / (1 - p), _torch_masks,
        either(lambda x, z, p: x[0] / (1 - p), zero, each),
    ),
}  # fmt: skip
