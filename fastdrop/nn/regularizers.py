"""What regularises beside dropout, as callbacks of `fit`: early stopping, and a bound on the norm of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, check_real, shown
from fastdrop.nn.autograd import Array
from fastdrop.nn.module import Module
from fastdrop.nn.tensor import Tensor
from fastdrop.nn.train import Callback, History, more_is_better

__all__ = ["EarlyStopping", "MaxNorm", "max_norm_"]


class EarlyStopping(Callback):
    """Ends a run that no longer improves, and gives the model the weights of its best epoch.

    Parameters
    ----------
    monitor : str
        One of the history's numbers. More is better for an accuracy, less for anything else.
    patience : int
        Epochs without improvement that are borne: the next one ends the run.
    min_delta : float
        By how much a number has to be better to count as improved.
    restore_best : bool
        Give the model the weights and buffers of its best epoch at the end of the run, also of one that ran to its last
        epoch.

    Attributes
    ----------
    best : float or None
        The best number so far.
    best_epoch, stopped_epoch : int or None
        Where it was, and where the run was ended; from 1.

    Raises
    ------
    ValueError
        If an argument is out of range; KeyError, after the first epoch, if there is no such number.

    References
    ----------
    Prechelt, "Early stopping - but when?", Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> from fastdrop import nn
    >>> stop = EarlyStopping("loss", patience=1)
    >>> model = nn.Linear(1, 1)
    >>> [stop.on_epoch_end(nn.History([{"epoch": i, "loss": x}]), model) for i, x in enumerate([3.0, 2.0, 4.0, 2.0], 1)]
    [False, False, False, True]
    >>> stop.best_epoch, stop.stopped_epoch
    (2, 4)
    """

    def __init__(
        self, monitor: str = "val_loss", *, patience: int = 5, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
            raise ValueError(f"patience has to be an int from 0 on, but got {shown(patience)}")
        check_flags(restore_best=restore_best)
        if not isinstance(monitor, str):
            raise TypeError(f"monitor has to be the name of a metric, such as 'val_loss', but got {shown(monitor)}")
        if not 0.0 <= check_real("min_delta", min_delta) < math.inf:
            raise ValueError(f"min_delta has to be a finite number from 0 on, but got {min_delta}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._weights: dict[str, Array] | None = None
        self._waited = 0

    def on_epoch_end(self, history: History, model: Module) -> bool:
        now = history[self.monitor][-1]
        epoch = history.epochs[-1]["epoch"]
        if epoch == 1:  # of another run
            self._forget()
        gain = math.nan if math.isnan(now) else math.inf  # a NaN is no improvement, not even on nothing
        if self.best is not None:
            gain = now - self.best if more_is_better(self.monitor) else self.best - now
        if gain > self.min_delta:
            self.best, self.best_epoch, self._waited = now, epoch, 0
            if self.restore_best:
                self._weights = {name: np.array(value.array) for name, value in model.state_dict().items()}
            return False
        self._waited += 1
        if self._waited <= self.patience:
            return False
        self.stopped_epoch = epoch
        return True

    def on_run_end(self, history: History, model: Module) -> None:
        if self._weights is not None:
            model.load_state_dict(self._weights)
            self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch, its weights, and how many epochs have been borne since."""
        return {
            "monitor": self.monitor,
            "restore_best": self.restore_best,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "waited": self._waited,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; `patience` and `min_delta` stay those of this object.

        Raises
        ------
        ValueError
            If the other one watched another number, or kept weights and this one does not, or the other way round.
        """
        for name in ("monitor", "restore_best"):
            if state[name] != getattr(self, name):
                raise ValueError(f"{name} is {getattr(self, name)!r}, and was {state[name]!r}")
        self.best, self.best_epoch, self.stopped_epoch, self._waited, self._weights = (
            state[name] for name in ("best", "best_epoch", "stopped_epoch", "waited", "weights")
        )

    def __repr__(self) -> str:
        return f"EarlyStopping({self.monitor!r}, patience={self.patience}, min_delta={self.min_delta})"


def max_norm_(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """Scale down, in place, what exceeds a norm: each slice along `dim` to at most `max_norm` (2-norm).

    ``w[i] *= min(1, max_norm / ||w[i]||)``. For the weight of `Linear` (out, in) or `Conv2d` (out, in, kh, kw)
    ``dim=0`` bounds what comes into each unit.

    Parameters
    ----------
    weight : Tensor
        At least one axis.
    max_norm : float
        Above 0.
    dim : int
        The axis whose slices are bounded.

    Returns
    -------
    Tensor
        `weight`.

    Raises
    ------
    ValueError
        If `max_norm` is not above 0, or there is no such axis.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014), section 5.1.

    Examples
    --------
    >>> from fastdrop import nn
    >>> max_norm_(nn.Tensor(np.array([[3.0, 4.0], [0.3, 0.4]])), 1.0)
    tensor([[0.6, 0.8],
            [0.3, 0.4]], dtype=float64)
    """
    max_norm = _check_norm(max_norm)
    if not isinstance(weight, Tensor) or weight.array.dtype.kind != "f":
        raise TypeError(f"weight has to be a floating Tensor, but got {shown(weight)}")
    array = weight.array
    if not array.flags.writeable:
        raise ValueError("weight has to be one that can be written to, but its memory is read-only")
    dim = check_int("dim", dim, -LIMIT, LIMIT)
    if not -array.ndim <= dim < array.ndim:
        raise ValueError(f"dim has to be an axis of a tensor of shape {array.shape}, but got {dim}")
    others = tuple(axis for axis in range(array.ndim) if axis != dim % array.ndim)
    wide = np.abs(array, dtype=np.float64)
    largest = wide.max(axis=others, keepdims=True, initial=np.finfo(np.float64).tiny)  # so that no square overflows
    norms = largest * np.sqrt(np.sum(np.square(wide / largest), axis=others, keepdims=True))
    array *= (max_norm / np.maximum(norms, max_norm)).astype(array.dtype)
    weight.storage.version += 1
    return weight


def _check_norm(max_norm: float) -> float:
    value = check_real("max_norm", max_norm)
    if not 0.0 < value < math.inf:
        raise ValueError(f"max_norm has to be a finite number above 0, but got {max_norm}")
    return value


class MaxNorm(Callback):
    """Bounds the norm of weights after each step: `max_norm_`, the constraint that goes with dropout.

    Parameters
    ----------
    params : iterable of Tensor
        Those with fewer than two axes (biases) are left alone.
    max_norm : float
        Above 0; 3 to 4 is usual.
    dim : int
        As of `max_norm_`.

    Examples
    --------
    >>> from fastdrop import nn
    >>> model = nn.Linear(4, 2)
    >>> nn.MaxNorm(model.parameters(), 3.0)
    MaxNorm(1 tensors, max_norm=3.0, dim=0)
    """

    def __init__(self, params: Iterable[Tensor], max_norm: float, dim: int = 0) -> None:
        _check_norm(max_norm)
        if isinstance(params, Tensor):
            raise TypeError("params has to be an iterable of tensors, but got a Tensor")
        if not isinstance(params, Iterable):
            raise TypeError(f"params has to be an iterable of tensors, but got {shown(params)}")
        self.params = []
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"params has to be an iterable of tensors, but it holds {shown(p)}")
            if p.array.ndim > 1:
                self.params.append(p)
        self.max_norm = max_norm
        self.dim = check_int("dim", dim, -LIMIT, LIMIT)

    def on_batch_end(self, epoch: int, seen: int) -> None:
        for p in self.params:
            max_norm_(p, self.max_norm, self.dim)

    def __repr__(self) -> str:
        return f"MaxNorm({len(self.params)} tensors, max_norm={self.max_norm}, dim={self.dim})"
