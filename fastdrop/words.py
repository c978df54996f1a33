"""Dropout of words: of tokens, and of the rows of an embedding matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array, check_int, check_p
from ._core import Generator, Mask, fused
from .functional import decide, dropout, untouched

__all__ = ["embedding_dropout", "embedding_shape", "word_dropout"]

Array = NDArray[Any]


def embedding_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """One decision per row of an embedding matrix (V, D).

    Examples
    --------
    >>> embedding_shape((10000, 300))
    (10000, 1)
    """
    if len(shape) != 2:
        raise ValueError(f"embedding_dropout takes 2 axes, (V, D), but got {shape}")
    return shape[0], 1


def word_dropout(
    tokens: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    unknown: int = 0,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Replace each token by `unknown` with probability `p`.

    .. math:: y_i = \begin{cases} t_i & m_i = 1 \\ u & m_i = 0 \end{cases}, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    Every token has a decision of its own: a word that occurs twice may be replaced once. `embedding_dropout` decides
    for all occurrences of a word at once.

    Parameters
    ----------
    tokens : array_like of int
        Numbers of words; any shape, 0-d and empty too, any memory layout and integer dtype.
    p : float, default 0.1
        Probability to replace a token, 0 to 1.
    training : bool, default True
        Out of training the tokens themselves are returned.
    unknown : int, default 0
        What stands for an unknown word; the tokens' dtype has to hold it.
    rng : Generator, optional
        Takes its next call; the default generator if not given.
    mask : Mask, optional
        Use these decisions, broadcast to the tokens' shape, instead of drawing: a mask of shape (1, N) replaces whole
        columns. Its p has to be `p`, and `rng` not given.
    out : ndarray, optional
        Where to write; ``out=tokens`` works in place.

    Returns
    -------
    ndarray
        Of the tokens' shape and dtype. The tokens themselves where nothing is to be done (p = 0, or out of training),
        unless `out` is given: that is always filled.

    Raises
    ------
    TypeError
        If the tokens are no integers, or an argument is of another type.
    ValueError
        If p is outside 0 to 1 or NaN, the dtype does not hold `unknown`, or `out` or `mask` does not fit.

    Notes
    -----
    Which tokens are replaced depends on the generator's key and call and on the logical (C-order) index alone. This is
    guaranteed within a major version.

    References
    ----------
    Iyyer, Manjunatha, Boyd-Graber, Daumé III, "Deep unordered composition rivals syntactic methods for text
    classification", ACL 2015. Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio, "Generating sentences from a
    continuous space", CoNLL 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.word_dropout(np.array([[5, 6, 7, 8]]), p=0.5, unknown=1, rng=fd.Generator(seed=0))
    array([[5, 6, 1, 1]])
    """
    a = as_array(tokens, "tokens")
    p = check_p(p)
    if a.dtype.kind not in "iu":
        raise TypeError(f"tokens have to be integers, but got {a.dtype}")
    limits = np.iinfo(a.dtype)
    unknown = check_int("unknown", unknown, int(limits.min), int(limits.max))
    decided = decide(a, p, training, rng=rng, mask=mask, out=out, floats=False)
    if decided is None and out is None:
        return untouched(tokens)
    y = np.empty_like(a, dtype=a.dtype.newbyteorder("="), subok=False) if out is None else np.asarray(out)
    if decided is not None and a.dtype.isnative and a.itemsize >= 4:  # to select by the bit is to select floats so wide
        wide = f"f{a.itemsize}"
        fused(decided, "where", a.view(wide), np.array(unknown, a.dtype).view(wide), y.view(wide))
        return y if out is None else out
    np.copyto(y, a)
    if decided is not None:
        np.copyto(y, y.dtype.type(unknown), where=~np.asarray(decided))
    return y if out is None else out


def embedding_dropout(
    weight: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Drop whole rows of an embedding matrix: one decision :math:`m_v` per word type, for all its occurrences.

    .. math:: y_{vd} = m_v w_{vd} / (1 - p), \qquad m_v \sim \mathrm{Bernoulli}(1 - p)

    The mask has shape (V, 1). To look tokens up afterwards, ``nn.Embedding(..., dropout=p)`` gives the same values
    without making this matrix.

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        (V, D): a row for each of V word types.
    p : float, default 0.1
        Probability to drop a word type, 0 to 1.
    training : bool, default True
        Out of training the weight itself is returned.
    rng, mask, out
        As for `fastdrop.dropout`.

    Returns
    -------
    ndarray
        Of the weight's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        If the weight has not 2 axes; else as `fastdrop.dropout`.

    References
    ----------
    Gal, Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016.
    Merity, Keskar, Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.embedding_dropout(np.ones((3, 2), np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([[2., 2.],
           [2., 2.],
           [0., 0.]], dtype=float32)
    """
    a = as_array(weight, "weight")
    shape = embedding_shape(a.shape)
    return dropout(a, p, training, noise_shape=shape if mask is None else None, rng=rng, mask=mask, out=out)
