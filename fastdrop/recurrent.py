"""Dropout of recurrent states: zoneout, where what is dropped keeps the value it had one step before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import as_array
from ._core import Generator, Mask, fused
from .functional import KEEP_ALL, check_p, decide, untouched
from .fused import second_input

__all__ = ["zoneout"]

Array = NDArray[Any]


def zoneout(
    x: ArrayLike,
    previous: ArrayLike,
    p: float = 0.1,
    training: bool = True,
    *,
    rng: Generator | None = None,
    mask: Mask | None = None,
    out: Array | None = None,
) -> Array:
    r"""Keep the previous value of each element with probability `p`, and take the new one otherwise.

    .. math:: y_i = m_i x_i + (1 - m_i) h_i, \qquad m_i \sim \mathrm{Bernoulli}(1 - p)

    in training, with :math:`h` the previous values; out of training the expectation, :math:`(1 - p) x + p h`.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The new state, of any shape.
    previous : array_like
        The state before, of x's dtype; its shape broadcasts to x's.
    p : float, default 0.1
        Probability to keep the previous value, 0 to 1. 0 returns x itself.
    training : bool, default True
        Out of training the expectation is returned and no random number is drawn.
    rng, mask, out
        As for `fastdrop.dropout`; `out` may be x or `previous`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        If `previous` has another dtype or does not broadcast; else as `fastdrop.dropout`.

    Notes
    -----
    The decisions are those of `fastdrop.dropout` under the same generator. The gradient goes to x where the mask keeps,
    and to `previous` elsewhere.

    References
    ----------
    Krueger, Maharaj, Kramár, Pezeshki, Ballas, Ke, Goyal, Bengio, Courville, Pal, "Zoneout: regularizing RNNs by
    randomly preserving hidden activations", ICLR 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> fd.zoneout(np.ones(4, np.float32), np.full(4, 7, np.float32), p=0.5, rng=fd.Generator(seed=0))
    array([1., 1., 7., 7.], dtype=float32)
    """
    a = as_array(x, "x")
    p = check_p(p)
    before = second_input(a, previous, "previous", out)
    decided = decide(a, p, training, rng=rng, mask=mask, out=out)
    if decided is not None:
        return fused(decided, "where", a, before, out, name="previous")
    if p == 0.0:
        return untouched(x, out)
    if p == 1.0:  # not 0 * x, which an Inf or NaN would survive
        return KEEP_ALL.apply(before, out)
    wide: Any = np.float64 if a.dtype.itemsize == 8 else np.float32
    with np.errstate(all="ignore"):  # as in training
        mean = (a.astype(wide) * wide(1.0 - p) + before.astype(wide) * wide(p)).astype(a.dtype.newbyteorder("="))
    return untouched(mean, out)
