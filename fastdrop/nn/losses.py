"""The losses of classification, and what all losses share; as modules they stand in `layers.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import LIMIT, check_int, check_real, shown
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.module import Module
from fastdrop.nn.operations import log_softmax_values
from fastdrop.nn.tensor import Tensor, named_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise ValueError(f"{shown(reduction)} is not a valid value for reduction, use one of {_REDUCTIONS}")


class Loss(Module):
    """Base of the losses as modules: a checked `reduction`."""

    reduction: str

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Return the mean (sum, or each) of ``(input - target) ** 2``; both have the same shape."""
    check_reduction(reduction)
    x, y = named_tensor(input, "input"), named_tensor(target, "target")
    if x.array.shape != y.array.shape:
        raise ValueError(f"mse_loss: input {x.array.shape} and target {y.array.shape} must have the same shape")
    difference = x - y
    squares: Tensor = difference * difference
    return squares if reduction == "none" else squares.mean() if reduction == "mean" else squares.sum()


def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Return the negative log likelihood ``-weight[target] * input[target]``.

    Parameters
    ----------
    input : Tensor or ndarray
        Log-probabilities, shape (N, C), (N, C, d1, ...) or (C,).
    target : Tensor or ndarray of int
        Class numbers, the shape of `input` without C.
    weight : Tensor or ndarray, optional
        Shape (C,): a weight for each class. The mean is then a weighted one.
    ignore_index : int
        Targets with this value count for nothing.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ValueError, TypeError, IndexError
        If `reduction`, the shape, the dtype or a class number of `target` does not fit.
    """
    check_reduction(reduction)
    x = named_tensor(input, "input")
    share, total = _shares(x.array, named_tensor(target, "target").array, weight, ignore_index, 0.0)
    axis = _class_axis(x.array)
    losses = _losses(share, x.array, axis)
    return reduced("nll_loss", losses, (x,), reduction, total, lambda g: (-share * np.expand_dims(g, axis),))


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross entropy of softmax(input) against class numbers or class probabilities.

    ``-sum_c share_c * log_softmax(input)_c``, where the share is 1 for the target class (moved towards 1/C by
    `label_smoothing`), or the given probability, times the weight of the class.

    Parameters
    ----------
    input : Tensor or ndarray
        Logits, shape (N, C), (N, C, d1, ...) or (C,).
    target : Tensor or ndarray
        Class numbers (int, the shape of `input` without C) or class probabilities (float, the shape of `input`).
    weight : Tensor or ndarray, optional
        Shape (C,): a weight for each class.
    ignore_index : int
        Class numbers with this value count for nothing.
    reduction : {"mean", "sum", "none"}
        The mean over class numbers is weighted by the weights of their classes.
    label_smoothing : float
        0 <= label_smoothing <= 1.

    Raises
    ------
    ValueError, TypeError, IndexError
        If an argument is out of range or the target does not fit.

    Examples
    --------
    >>> cross_entropy(np.zeros((2, 4), dtype=np.float32), np.array([0, 3])).item() == np.log(np.float32(4))
    np.True_
    """
    check_reduction(reduction)
    label_smoothing = check_real("label_smoothing", label_smoothing)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    x = named_tensor(input, "input")
    axis = _class_axis(x.array)
    share, total = _shares(x.array, named_tensor(target, "target").array, weight, ignore_index, label_smoothing)
    log_p = log_softmax_values(x.array, axis)
    losses = _losses(share, log_p, axis)

    def gradient(g: Array) -> tuple[Array]:
        dx = np.exp(log_p)
        dx *= share.sum(axis=axis, keepdims=True)
        dx -= share
        dx *= np.expand_dims(g, axis)
        return (dx,)

    return reduced("cross_entropy", losses, (x,), reduction, total, gradient)


def _losses(share: Array, log_p: Array, axis: int) -> Array:
    # A class with no share adds nothing, even where its logit was masked with minus infinity.
    losses: Array = -np.multiply(share, log_p, out=np.zeros_like(log_p), where=share != 0).sum(axis=axis)
    return losses


def _class_axis(x: Array) -> int:
    if x.ndim == 0 or x.dtype.kind != "f":
        raise ValueError(f"expected input of shape (N, C, ...) or (C,) and floating dtype, got {x.dtype} {x.shape}")
    return 0 if x.ndim == 1 else 1


def _shares(x: Array, target: Array, weight: Any, ignore: int, smoothing: float) -> tuple[Array, float]:
    """Return what each class counts in each loss, in the shape of the logits, and what the mean divides by."""
    axis = _class_axis(x)
    classes = x.shape[axis]
    column = tuple(classes if i == axis else 1 for i in range(x.ndim))
    weights = None
    if weight is not None:
        weights = named_tensor(weight, "weight").array.astype(x.dtype)
        if weights.shape != (classes,):
            raise RuntimeError(f"weight must have shape ({classes},), one for each class, got {weights.shape}")
        weights = weights.reshape(column)
    if target.dtype.kind == "f":
        if target.shape != x.shape:
            raise ValueError(
                f"class probabilities must have the shape of the input {x.shape}, got {target.shape}; "
                "class numbers must be integers"
            )
        share = target.astype(x.dtype)
        total = float(max(x.size // max(classes, 1), 0))
        picked = None
    else:
        if target.dtype.kind not in "iu":
            raise TypeError(f"target must hold class numbers (int) or probabilities (float), got {target.dtype}")
        expected = x.shape[:axis] + x.shape[axis + 1 :]
        if target.shape != expected:
            raise ValueError(f"Expected target of shape {expected} for input of shape {x.shape}, got {target.shape}")
        counted = target != check_int("ignore_index", ignore, -LIMIT, LIMIT - 1)
        outside = counted & ((target < 0) | (target >= classes))
        if outside.any():
            raise IndexError(f"Target {target[outside].flat[0]} is out of bounds for {classes} classes.")
        picked = np.expand_dims(np.where(counted, target, 0), axis)
        share = np.zeros_like(x, order="C")
        np.put_along_axis(share, picked, np.expand_dims(counted, axis).astype(x.dtype), axis)
        total = float(counted.sum()) if weights is None else float((share * weights).sum())
    if smoothing:
        full = smoothing / classes if picked is None else share.sum(axis=axis, keepdims=True) * (smoothing / classes)
        share = share * (1 - smoothing) + full
    return share if weights is None else share * weights, total


def reduced(
    name: str,
    losses: Array,
    inputs: Sequence[Tensor],
    reduction: str,
    total: float,
    gradient: Callable[[Array], tuple[Array | None, ...]],
    *,
    dtype: npt.DTypeLike | None = None,
    saved: Sequence[Tensor] = (),
) -> Tensor:
    """Record a loss whose `gradient` turns the gradient of each single loss into those of the inputs.

    `total` is what the sum is divided by for the mean; `dtype` is the result's, where `losses` have a wider one.
    """
    if reduction == "none":
        return record(name, losses.astype(dtype or losses.dtype, copy=False), inputs, gradient, saved=saved)
    factor = 1.0
    if reduction != "sum":
        # The mean of no losses is NaN, and does not depend on the input: its gradient is 0.
        factor = 1.0 / total if total else 0.0
    wide = losses.dtype.type
    value = losses.sum() * wide(factor) if reduction == "sum" or total else wide("nan")

    def function(dy: Array) -> tuple[Array | None, ...]:
        return gradient(np.broadcast_to(dy * wide(factor), losses.shape))

    return record(name, value.astype(dtype or losses.dtype), inputs, function, saved=saved)
