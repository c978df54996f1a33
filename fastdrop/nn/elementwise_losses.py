"""Losses of one number against one number, as functions on tensors and as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop._checks import check_flags, check_real
from fastdrop.nn.autograd import Array
from fastdrop.nn.creation import floating
from fastdrop.nn.losses import Loss, check_reduction, reduced
from fastdrop.nn.operations import promoted, sigmoid_values
from fastdrop.nn.tensor import Tensor, named_tensor

__all__ = [
    "BCEWithLogitsLoss", "HuberLoss", "KLDivLoss", "L1Loss", "SmoothL1Loss", "binary_cross_entropy_with_logits",
    "huber_loss", "kl_div", "l1_loss", "smooth_l1_loss",
]  # fmt: skip

Elementwise = Callable[[Array, Array], Array]


def _loss(
    name: str,
    input: Any,
    target: Any,
    reduction: str,
    value: Elementwise,
    slope_input: Elementwise,
    slope_target: Elementwise,
) -> Tensor:
    """Record the loss ``value(input, target)`` of each pair, reduced; half types are computed in float32."""
    x, t = floating(input, name), named_tensor(target, "target")
    if x.array.shape != t.array.shape:
        raise ValueError(f"{name}: input {x.array.shape} and target {t.array.shape} must have the same shape")
    need_x, need_t = x.requires_grad, t.requires_grad

    def pair() -> tuple[Array, Array, np.dtype[Any]]:
        a, b = promoted(x.array, t.array)
        dtype = np.result_type(a, b)
        wide = np.float32 if dtype.itemsize == 2 else dtype
        return a.astype(wide, copy=False), b.astype(wide, copy=False), dtype

    def gradient(dy: Array) -> tuple[Array | None, Array | None]:
        a, b, _ = pair()
        return dy * slope_input(a, b) if need_x else None, dy * slope_target(a, b) if need_t else None

    a, b, dtype = pair()
    total = len(a) if reduction == "batchmean" else a.size
    losses = np.asarray(value(a, b))
    return reduced(name, losses, (x, t), reduction, float(total), gradient, dtype=dtype, saved=(x, t))


def _of_difference(
    name: str, input: Any, target: Any, reduction: str, value: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> Tensor:
    check_reduction(reduction)
    return _loss(
        name,
        input,
        target,
        reduction,
        lambda a, b: value(a - b),
        lambda a, b: slope(a - b),
        lambda a, b: -slope(a - b),
    )


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the mean (sum, or each) of ``|input - target|``.

    Parameters
    ----------
    input, target : Tensor or ndarray
        Of one shape; gradients flow into both.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ValueError
        If the shapes differ, or `reduction` is another word.
    TypeError
        If `input` has no floating dtype.

    Examples
    --------
    >>> l1_loss([1.0, 2.0], [0.0, 4.0])
    tensor(1.5)
    """
    return _of_difference("l1_loss", input, target, reduction, np.abs, np.sign)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Return ``d**2 / 2`` where ``|d| = |input - target|`` is below `delta`, ``delta * (|d| - delta / 2)`` elsewhere.

    Parameters and errors are `l1_loss`'s; `delta` must be positive (ValueError).

    References
    ----------
    Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> huber_loss([0.0, 0.0], [1.0, 4.0], reduction="none", delta=2.0)
    tensor([0.5, 6. ])
    """
    return _huber("huber_loss", input, target, reduction, check_threshold("delta", delta), 1.0)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Return ``d**2 / (2 beta)`` where ``|d| = |input - target|`` is below `beta`, ``|d| - beta / 2`` elsewhere.

    Parameters and errors are `l1_loss`'s; `beta` must not be negative (ValueError), and 0 gives `l1_loss`.

    Examples
    --------
    >>> smooth_l1_loss([0.0, 0.0], [1.0, 4.0], reduction="none", beta=2.0)
    tensor([0.25, 3.  ])
    """
    width = check_threshold("beta", beta, zero=True)
    if not width:
        return l1_loss(input, target, reduction)
    return _huber("smooth_l1_loss", input, target, reduction, width, 1.0 / width)


def check_threshold(name: str, value: Any, zero: bool = False) -> float:
    """Return a number above 0, or with `zero` of at least 0, as a float."""
    number = check_real(name, value)
    if not (number >= 0 if zero else number > 0):
        raise ValueError(f"{name} must be {'at least 0' if zero else 'positive'}, got {value}")
    return number


def _huber(name: str, input: Any, target: Any, reduction: str, delta: float, factor: float) -> Tensor:
    def value(d: Array) -> Array:
        size = np.abs(d)
        inner = np.minimum(size, delta)
        result: Array = inner * (size - 0.5 * inner) * factor
        return result

    return _of_difference(name, input, target, reduction, value, lambda d: np.clip(d, -delta, delta) * factor)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    r"""Return the cross entropy of sigmoid(input) against the probabilities `target`.

    .. math:: \ell = -w \left[ v t \log \sigma(x) + (1 - t) \log(1 - \sigma(x)) \right]

    by way of log(1 + exp(-|x|)), so that no logit is too large.

    Parameters
    ----------
    input : Tensor or ndarray
        Logits x, any shape, floating dtype.
    target : Tensor or ndarray
        Probabilities t, of the same shape.
    weight : Tensor or ndarray, optional
        w, broadcast over the losses. The mean is not a weighted one.
    reduction : {"mean", "sum", "none"}
    pos_weight : Tensor or ndarray, optional
        v, broadcast over the losses: above 1 it raises the recall.

    Raises
    ------
    ValueError
        If the shapes of `input` and `target` differ, a weight does not broadcast, or `reduction` is another word.
    TypeError
        If `input` has no floating dtype.

    Examples
    --------
    >>> binary_cross_entropy_with_logits([0.0, 1000.0], [1.0, 0.0], reduction="none")
    tensor([6.931472e-01, 1.000000e+03])
    """
    check_reduction(reduction)
    shape = named_tensor(input, "input").array.shape
    w, v = _broadcastable("weight", weight, shape), _broadcastable("pos_weight", pos_weight, shape)

    def softplus(x: Array) -> Array:
        result: Array = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
        return result

    def weighted(x: Array, factor: Array | None) -> Array:
        return x if factor is None else x * factor.astype(x.dtype)

    return _loss(
        "binary_cross_entropy_with_logits",
        input,
        target,
        reduction,
        lambda x, t: weighted((1 - t) * softplus(x) + weighted(t, v) * softplus(-x), w),
        lambda x, t: weighted((1 - t) * sigmoid_values(x) - weighted(t, v) * sigmoid_values(-x), w),
        lambda x, t: weighted(weighted(softplus(-x), v) - softplus(x), w),
    )


def _broadcastable(name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
    if value is None:
        return None
    array = named_tensor(value, name).array
    if len(array.shape) > len(shape) or any(n not in (1, m) for n, m in zip(array.shape[::-1], shape[::-1])):
        raise ValueError(f"{name} must broadcast to the input's shape {shape}, got {array.shape}")
    return array


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Return the Kullback-Leibler divergence ``target * (log(target) - input)``, element by element.

    Parameters
    ----------
    input : Tensor or ndarray
        Log-probabilities, any shape, floating dtype.
    target : Tensor or ndarray
        Probabilities, of the same shape; where one is 0 so is the loss.
    reduction : {"mean", "batchmean", "sum", "none"}
        "batchmean", the sum over the size of the first axis, is the divergence; "mean" divides by all sizes.
    log_target : bool
        Whether `target` holds logarithms too.

    Raises
    ------
    ValueError
        If the shapes differ, or `reduction` is another word or needs an axis that is not there.
    TypeError
        If `input` has no floating dtype.

    Examples
    --------
    >>> kl_div(np.log([[0.5, 0.5]]), np.array([[1.0, 0.0]]), reduction="batchmean")
    tensor(0.69314718, dtype=float64)
    """
    check_flags(log_target=log_target)
    if not isinstance(reduction, str) or reduction != "batchmean":
        check_reduction(reduction)
    elif named_tensor(input, "input").array.ndim == 0:
        raise ValueError("kl_div: reduction='batchmean' needs at least 1 axis")
    if log_target:
        return _loss(
            "kl_div",
            input,
            target,
            reduction,
            lambda x, t: np.exp(t) * (t - x),
            lambda x, t: -np.exp(t),
            lambda x, t: np.exp(t) * (t - x + 1),
        )

    def log(t: Array) -> Array:
        result: Array = np.log(np.where(t == 0, t.dtype.type(1), t))
        return result

    return _loss(
        "kl_div",
        input,
        target,
        reduction,
        # Not a product where t is 0: the log-probability may be minus infinity there.
        lambda x, t: np.multiply(t, log(t) - x, out=np.zeros_like(t), where=t != 0),
        lambda x, t: -t,
        lambda x, t: log(t) + 1 - x,
    )


class L1Loss(Loss):
    """Mean absolute error (see `functional.l1_loss`)."""

    def forward(self, input: Any, target: Any) -> Tensor:
        return l1_loss(input, target, self.reduction)


class SmoothL1Loss(Loss):
    """Squared near 0, absolute beyond `beta` (see `functional.smooth_l1_loss`)."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = check_threshold("beta", beta, zero=True)

    def forward(self, input: Any, target: Any) -> Tensor:
        return smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(Loss):
    """Squared near 0, of slope `delta` beyond (see `functional.huber_loss`)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = check_threshold("delta", delta)

    def forward(self, input: Any, target: Any) -> Tensor:
        return huber_loss(input, target, self.reduction, self.delta)


class BCEWithLogitsLoss(Loss):
    """Cross entropy of sigmoids of logits (see `functional.binary_cross_entropy_with_logits`)."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else named_tensor(weight, "weight"))
        self.register_buffer("pos_weight", None if pos_weight is None else named_tensor(pos_weight, "pos_weight"))

    def forward(self, input: Any, target: Any) -> Tensor:
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of log-probabilities from probabilities (see `functional.kl_div`)."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        check_flags(log_target=log_target)
        super().__init__("mean" if isinstance(reduction, str) and reduction == "batchmean" else reduction)
        self.reduction = reduction
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Tensor:
        return kl_div(input, target, self.reduction, self.log_target)
