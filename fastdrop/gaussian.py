"""Noise in place of zeros: dropout by a factor drawn around 1, and noise that is added.

Both are Noise, a view over the law's normals, applied: policy here, the normals and the memory in _core.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_flags, check_p, check_real
from ._core import Generator, Noise, check_dtype, check_out
from .functional import DROP_ALL, untouched
from .random import check_generator, default_generator

__all__ = ["check_std", "dropout_std", "gaussian_dropout", "gaussian_noise"]

Array = NDArray[Any]


def check_std(std: Any) -> float:
    """A standard deviation as a float.

    Raises
    ------
    TypeError
        If `std` is no real number.
    ValueError
        If it is negative, infinite or NaN.

    Examples
    --------
    >>> check_std(-1)
    Traceback (most recent call last):
    ValueError: std has to be finite and not negative, but got -1
    """
    value = check_real("std", std, "a finite number that is not negative")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"std has to be finite and not negative, but got {std}")
    return value


def dropout_std(p: float) -> float:
    """The standard deviation of a factor that does as dropout with probability p < 1 does: that of m / (1 - p).

    Examples
    --------
    >>> dropout_std(0.5), dropout_std(0.0)
    (1.0, 0.0)
    """
    return math.sqrt(p / (1.0 - p))


def _apply(
    x: ArrayLike,
    sigma: float,
    kind: str,
    training: bool,
    rng: Generator | None,
    noise: Noise | None,
    out: Array | None,
) -> Array:
    """sigma of 0 changes nothing; inf, for a factor without a variance, gives zeros."""
    a = as_array(x, "x")
    check_dtype(a)
    check_flags(training=training)
    check_generator(rng, "rng")
    if noise is not None:
        if not isinstance(noise, Noise):
            raise TypeError(f"noise has to be a fastdrop.Noise, but got a {type(noise).__name__}")
        if rng is not None:
            raise ValueError("noise brings its own normals: give no rng with it")
        noise = noise.broadcast_to(a.shape)
    if not training or sigma == 0.0:
        return untouched(x, out)
    if out is not None:
        check_out(a, out)  # apply does so too, but a refused call must not take a draw from the generator
    if noise is None:
        noise = (default_generator() if rng is None else rng).noise(a.shape)
    if sigma == math.inf:
        return DROP_ALL.apply(a, out)
    return noise.apply(a, out, sigma=sigma, kind=kind)


def gaussian_dropout(
    x: ArrayLike,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: Generator | None = None,
    noise: Noise | None = None,
    out: Array | None = None,
) -> Array:
    r"""Multiply each element by a normal factor of mean 1, with the variance that dropout's factor has.

    .. math:: y_i = x_i \left(1 + \sqrt{p / (1 - p)}\, z_i\right), \qquad z_i \sim \mathcal{N}(0, 1)

    in training; out of training :math:`y = x`. Mean and variance of y given x are those of `dropout` with the same p,
    and no value is lost.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, 0-d and empty too, any memory layout.
    p : float, default 0.5
        The probability to drop of the dropout that it stands for, 0 to 1.
    training : bool, default True
        Out of training x itself is returned.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    noise : Noise, optional
        Apply these normals, broadcast to x's shape, instead of drawing any: the backward pass, or noise that elements
        share, as ``rng.noise((N, C))[:, :, None, None]`` for feature maps. `rng` not given then.
    out : ndarray, optional
        Where to write; ``out=x`` works in place.

    Returns
    -------
    ndarray
        Of x's shape and dtype. x itself where nothing is to be done (p = 0, or out of training), unless `out` is given:
        that is always filled.

    Raises
    ------
    TypeError
        If x is of another dtype, p no number, or `rng` or `noise` something else.
    ValueError
        If p is outside 0 to 1 or NaN, `noise` does not fit or comes with an `rng`, or `out` has another shape, is
        read-only or overlaps x without being it.

    Notes
    -----
    The variance grows without bounds as p nears 1, and Keras refuses 1. Here p = 1 gives +0 everywhere, as in each kind
    of dropout. The normals, and so the values, depend on the generator's key and call and on the logical (C-order)
    index alone, to the last bit; this is guaranteed within a major version.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15 (2014), section 10. Kingma, Salimans, Welling, "Variational dropout and the local
    reparameterization trick", NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.gaussian_dropout(np.ones(4, np.float32), p=0.2, rng=fd.Generator(seed=0)).round(3)
    array([0.854, 0.822, 0.955, 1.495], dtype=float32)
    """
    p = check_p(p)
    return _apply(x, dropout_std(p) if p < 1.0 else math.inf, "multiplicative", training, rng, noise, out)


def gaussian_noise(
    x: ArrayLike,
    std: float = 1.0,
    training: bool = True,
    *,
    rng: Generator | None = None,
    noise: Noise | None = None,
    out: Array | None = None,
) -> Array:
    r"""Add normal noise in training.

    .. math:: y_i = x_i + \mathrm{std} \cdot z_i, \qquad z_i \sim \mathcal{N}(0, 1)

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, 0-d and empty too, any memory layout.
    std : float, default 1.0
        Standard deviation of the noise, finite and not negative.
    training : bool, default True
        Out of training x itself is returned.
    rng, noise, out
        As for `gaussian_dropout`.

    Returns
    -------
    ndarray
        Of x's shape and dtype. x itself where nothing is to be done (std = 0, or out of training), unless `out` is
        given: that is always filled.

    Raises
    ------
    TypeError, ValueError
        If std is no number, negative, infinite or NaN; else as `gaussian_dropout`.

    Notes
    -----
    Reproducible as `gaussian_dropout`.

    References
    ----------
    Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7 (1995).

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.gaussian_noise(np.ones(4, np.float32), std=0.1, rng=fd.Generator(seed=0)).round(3)
    array([0.971, 0.964, 0.991, 1.099], dtype=float32)
    """
    return _apply(x, check_std(std), "additive", training, rng, noise, out)
