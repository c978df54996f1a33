"""Batch normalisation, as a function on tensors and as layers.

The arithmetic runs on (rows, channels) matrices: (N, C, ...) with its channels last, which is how the convolutions here
leave their results in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import check_flags, check_int, check_real
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.batch import shared_batch, together, totals
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.tensor import Tensor, named_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BatchNorm1d", "BatchNorm2d", "batch_norm"]

# Rows that one matrix product adds up in the array's own dtype; the partial sums are added in float64.
_BLOCK = 1024

_ONE_VALUE = "Expected more than 1 value per channel when training"


def _rows(array: Array) -> Array:
    """Return (N, C, ...) as an (N * ..., C) matrix; half types in float32."""
    channels = array.shape[1]
    rows = np.moveaxis(array, 1, -1).reshape(array.size // channels if channels else 0, channels)
    return rows.astype(np.float32) if array.dtype.itemsize == 2 else rows


def _unrows(rows: Array, like: Array) -> Array:
    """Return the matrix as an array of the shape and dtype of `like`, channels last in memory."""
    shape = (like.shape[0], *like.shape[2:], like.shape[1])
    return np.moveaxis(rows.reshape(shape), -1, 1).astype(like.dtype, copy=False)


def _sums(rows: Array) -> Array:
    """Return the sum of each column, in float64."""
    count, rest = divmod(len(rows), _BLOCK)
    whole = count * _BLOCK
    ones = np.ones(_BLOCK, rows.dtype)
    blocks = np.matmul(ones, rows[:whole].reshape(count, _BLOCK, rows.shape[1]))
    total: Array = blocks.sum(axis=0, dtype=np.float64) + ones[:rest] @ rows[whole:]
    return total


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    r"""Normalise each channel to mean 0 and variance 1 over the batch, then scale and shift it.

    .. math:: y = \frac{x - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}} w_c + b_c

    with the mean and (biased) variance of the batch in training, and the running ones otherwise. In training the
    running ones move by `momentum` towards those of the batch, the variance towards the unbiased one.

    Parameters
    ----------
    input : Tensor or ndarray
        Shape (N, C, ...), floating dtype. float16 is computed in float32.
    running_mean, running_var : Tensor or ndarray, or None
        Shape (C,). Changed in place in training; may be None there.
    weight, bias : Tensor or ndarray, optional
        Shape (C,), of the input's dtype, or float32 for a float16 input.
    training : bool
        Whether to use the statistics of the batch.
    momentum : float
        The share of the batch in the new running statistics.
    eps : float
        Added to the variance; positive in training.

    Returns
    -------
    Tensor
        Of the input's shape and dtype.

    Raises
    ------
    ValueError
        If the input has fewer than 2 axes or, in training, one value per channel; or if `eps` is out of range.
    RuntimeError
        If shapes or dtypes do not fit, or running statistics are needed and missing.

    Notes
    -----
    Where several processes share a batch (`fit` with `comm`) the statistics are those of all of it.

    Means are taken twice, the second time of what remains after subtracting the first, and sums are added in float64:
    a large mean costs no digits of the variance.

    References
    ----------
    Ioffe, Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML 2015.

    Examples
    --------
    >>> x = np.array([[1.0], [3.0]], dtype=np.float32)
    >>> batch_norm(x, None, None, training=True, eps=1e-12)
    tensor([[-1.],
            [ 1.]])
    """
    check_flags(training=training)
    x = named_tensor(input, "input")
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    tensors = {name: named_tensor(value, name) for name, value in given.items() if value is not None}
    eps = check_real("eps", eps)
    _check(x.array, tensors, training, eps)
    momentum = check_real("momentum", momentum)
    w, b = tensors.get("weight"), tensors.get("bias")

    rows = _rows(x.array)
    add_up = totals()
    if training:
        sums = add_up(np.append(_sums(rows), len(rows)))
        found = sums[-1]
        if found == 1:  # the others of the batch's processes find it too
            shape = list(x.array.shape)
            raise together(ValueError(f"{_ONE_VALUE}, got one in all of the batch, and shape {shape} here"))
        count = max(found, 1.0)
        first = (sums[:-1] / count).astype(rows.dtype)
        y = rows - first
        rest, squares = add_up(np.stack([_sums(y), _sums(y * y)])) / count
        var = np.maximum(squares - rest * rest, 0.0)
        if found:
            _move(tensors.get("running_mean"), first + rest, momentum)
            _move(tensors.get("running_var"), var * (count / (count - 1)), momentum)
    else:
        mean, var = (tensors[name].array.astype(np.float64) for name in ("running_mean", "running_var"))
        first = mean.astype(rows.dtype)
        rest = mean - first
        y = rows - first
    inverse = 1.0 / np.sqrt(var + eps)
    scale = inverse if w is None else inverse * w.array
    shift = -rest * scale if b is None else b.array - rest * scale
    y *= scale.astype(rows.dtype)
    y += shift.astype(rows.dtype)

    need_x, need_w = x.requires_grad, w is not None and w.requires_grad
    reads_x = (need_x and training) or need_w

    def function(dy: Array) -> tuple[Array | None, ...]:
        g = _rows(dy)
        sum_g = _sums(g)
        sum_gx = sum_g
        if reads_x:
            centred = _rows(x.array) - first
            sum_gx = inverse * (_sums(g * centred) - rest * sum_g)
        if need_x:
            dx = g * scale.astype(g.dtype)
            if training:
                all_g, all_gx = add_up(np.stack([sum_g, sum_gx]))
                # scale * (g - mean(g) - n mean(g n)) with n = (centred - rest) * inverse, multiplied out: fewer passes.
                slope = -scale * inverse * all_gx / count
                centred *= slope.astype(g.dtype)
                centred += (-scale * all_g / count - slope * rest).astype(g.dtype)
                dx += centred
        gradients: list[Array | None] = [_unrows(dx, dy) if need_x else None]
        return tuple(gradients + ([] if w is None else [sum_gx]) + ([] if b is None else [sum_g]))

    inputs = [t for t in (x, w, b) if t is not None]
    return record("batch_norm", _unrows(y, x.array), inputs, function, saved=[x] if reads_x else [])


def _check(x: Array, tensors: dict[str, Tensor], training: bool, eps: float) -> None:
    if x.ndim < 2:
        raise ValueError(f"batch_norm: input must have at least 2 axes, (N, C, ...), got shape {x.shape}")
    channels = x.shape[1]
    if training and channels and x.size == channels and not shared_batch():
        raise ValueError(f"{_ONE_VALUE}, got input size {list(x.shape)}")
    if not eps >= 0 or (training and eps == 0):
        raise ValueError(f"batch_norm: eps must be {'positive in training' if training else 'at least 0'}, got {eps}")
    if not training and not {"running_mean", "running_var"} <= set(tensors):
        raise RuntimeError("batch_norm: running_mean and running_var must be given when training=False")
    for name, tensor in tensors.items():
        if tensor.array.shape != (channels,):
            raise RuntimeError(
                f"batch_norm: {name} must have shape ({channels},), one value for each channel of the input of shape "
                f"{x.shape}, got {tensor.array.shape}"
            )
    others = {tensor.array.dtype for tensor in tensors.values()}
    if x.dtype.kind != "f" or not (others <= {x.dtype} or (x.dtype == np.float16 and others == {np.dtype(np.float32)})):
        raise RuntimeError(
            "batch_norm: input, weight, bias and running statistics must have one floating dtype (or float32 for a "
            f"float16 input), got {x.dtype} and {', '.join(sorted(map(str, others))) or 'no others'}"
        )


def _move(running: Tensor | None, towards: Array, momentum: float) -> None:
    if running is not None:
        running.array[...] = (1.0 - momentum) * running.array + momentum * towards
        running.storage.version += 1


class _BatchNorm(Module):
    """What the batch normalisations of every rank share."""

    mc_training = False

    _ranks: tuple[int, ...]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = check_int("num_features", num_features, 1, 2**63 - 1)
        self.eps = check_real("eps", eps)
        self.momentum = None if momentum is None else check_real("momentum", momentum, "a real number or None")
        check_flags(affine=affine, track_running_stats=track_running_stats, bias=bias)
        wanted = floating_dtype(dtype)
        self.affine = affine
        self.track_running_stats = track_running_stats
        size = self.num_features
        self.register_parameter("weight", Parameter(np.ones(size, wanted)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(size, wanted)) if affine and bias else None)
        tracked = {"running_mean": np.zeros(size, wanted), "running_var": np.ones(size, wanted)}
        for name, start in {**tracked, "num_batches_tracked": np.zeros((), np.int64)}.items():
            self.register_buffer(name, Tensor(start) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Set the running statistics back to mean 0, variance 1 and no batches."""
        for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            if buffer is not None:
                buffer.copy_(value)

    def forward(self, input: Any) -> Tensor:
        x = named_tensor(input, "input")
        if x.array.ndim not in self._ranks:
            raise ValueError(f"expected {' or '.join(f'{n}D' for n in self._ranks)} input (got {x.array.ndim}D input)")
        batches = self.num_batches_tracked
        counted = self.training and self.track_running_stats and batches is not None
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / (batches.item() + 1) if counted and batches is not None else 0.0
        # Statistics that are there but no longer tracked serve evaluation, and stay as they are.
        mean, var = (None, None)
        if not self.training or self.track_running_stats:
            mean, var = self.running_mean, self.running_var
        from_batch = self.training or (mean is None and var is None)
        y = batch_norm(x, mean, var, self.weight, self.bias, from_batch, momentum, self.eps)
        if counted and batches is not None:
            batches.add_(1)
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); see `functional.batch_norm`.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
        The share of a batch in the new running statistics; None for the plain average of all batches.
    affine : bool
        Whether to have a weight and a bias.
    track_running_stats : bool
        Whether to keep running statistics for evaluation; otherwise the batch's serve there too.
    bias : bool
        With `affine`, whether to have a bias.
    dtype : dtype
        Of parameters and running statistics.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (C,), at first 1 and 0.
    running_mean, running_var, num_batches_tracked : Tensor or None
        Shapes (C,), (C,) and (), at first 0, 1 and 0.

    Raises
    ------
    ValueError
        If the input has another rank or, in training, one value per channel; nothing has changed then.

    Examples
    --------
    >>> layer = BatchNorm1d(3)
    >>> layer(np.ones((4, 3), dtype=np.float32)).tolist() == [[0.0] * 3] * 4
    True
    >>> layer.num_batches_tracked
    tensor(1)
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W); parameters and errors are `BatchNorm1d`'s.

    Examples
    --------
    >>> BatchNorm2d(3)(np.ones((2, 3, 4, 4), dtype=np.float32)).shape
    (2, 3, 4, 4)
    """

    _ranks = (4,)
