"""Optimizers with PyTorch's names, arguments and numbers: `SGD`, `Adam` and `AdamW`.

Updates are made in place on the parameters' memory, in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from fastdrop import _core
from fastdrop._checks import as_array, check_flags, check_real, shown
from fastdrop.nn.autograd import Array, enable_grad
from fastdrop.nn.kernels import compiled_dtype, plain
from fastdrop.nn.module import zero_grad
from fastdrop.nn.tensor import Tensor

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

Params: TypeAlias = "Iterable[Tensor] | Iterable[dict[str, Any]]"


class Optimizer:
    """Base class: parameter groups, their options, and the state kept for each parameter.

    Attributes
    ----------
    param_groups : list of dict
        Each holds ``"params"`` and the options for them; changing an option takes effect at the next step.
    state : dict
        The arrays kept for each parameter, by ``id(parameter)``.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got Tensor"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[int, dict[str, Any]] = {}
        entries: list[Any] = _entries(params)
        if not entries:
            raise ValueError("optimizer got an empty parameter list: params has to hold Tensors or dicts")
        for group in entries if isinstance(entries[0], dict) else [{"params": entries}]:
            self.add_param_group(group)

    def _check(self, options: dict[str, Any]) -> None:
        """Raise ValueError if an option is out of range."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own; options left out take the optimizer's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        if "params" not in param_group:
            raise ValueError(f"param_group must hold 'params', but got {shown(param_group)}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else _entries(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
            if id(p) in known:
                raise ValueError("some parameters appear in more than one parameter group")
        if len({id(p) for p in params}) != len(params):
            raise ValueError("optimizer contains a parameter group with duplicate parameters")
        group = {**self.defaults, **param_group, "params": params}
        self._check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with ``set_to_none=False`` overwrite them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                zero_grad(p, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return what `closure` (called first) returned."""
        loss = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(f"closure has to be a function without arguments, but got {shown(closure)}")
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._check(group)  # a schedule may have changed an option
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if p.grad.shape != p.shape:
                        raise ValueError(f"a parameter of shape {p.shape} has a gradient of shape {p.grad.shape}")
                    self._update(p.array, p.grad.array, self.state.setdefault(id(p), {}), group)
                    p.storage.version += 1
        return loss

    def _update(self, p: Array, grad: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define an update")

    def __getstate__(self) -> dict[str, Any]:
        # Copies of the parameters have other ids: the state travels beside the parameters themselves.
        known = [p for group in self.param_groups for p in group["params"]]
        state = [(p, self.state[id(p)]) for p in known if id(p) in self.state]
        return {**self.__dict__, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, state={id(p): entry for p, entry in state["state"]})

    def state_dict(self) -> dict[str, Any]:
        """Return the state (arrays are copied) and the options, with parameters named by their position."""
        order = [p for group in self.param_groups for p in group["params"]]
        position = {id(p): i for i, p in enumerate(order)}
        return {
            "state": {
                position[key]: {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in entry.items()}
                for key, entry in self.state.items()
                if entry
            },
            "param_groups": [
                {**group, "params": [position[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, for parameters in the same order.

        Raises
        ------
        ValueError
            If the number of groups, or of the parameters in a group, or the shape of an array differs.
        """
        if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
            raise TypeError(f"state_dict has to be what state_dict() gives, but got {shown(state_dict)}")
        groups = state_dict["param_groups"]
        if not isinstance(groups, (list, tuple)) or any(
            not isinstance(group, dict) or not isinstance(group.get("params"), (list, tuple)) for group in groups
        ):
            raise TypeError(
                f"state_dict['param_groups'] has to be a list of dicts with 'params', but got {shown(groups)}"
            )
        if not isinstance(state_dict["state"], dict):
            raise TypeError(f"state_dict['state'] has to be a dict, but got {shown(state_dict['state'])}")
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        params: dict[Any, Tensor] = {}
        for new, own in zip(groups, self.param_groups, strict=True):
            if len(new["params"]) != len(own["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
                )
            params.update(zip(new["params"], own["params"], strict=True))
        state: dict[int, dict[str, Any]] = {}
        for number, entry in state_dict["state"].items():
            key = int(number) if isinstance(number, str) and number.isdecimal() else number  # JSON's keys are strings
            if key not in params or not isinstance(entry, dict):
                raise ValueError(
                    f"state_dict['state'] has to hold a dict for each of the parameters {list(params)}, "
                    f"but got {shown(entry)} for {shown(number)}"
                )
            p = params[key]
            state[id(p)] = {name: _restored(name, value, p) for name, value in entry.items()}
        wanted = [{**own, **new, "params": own["params"]} for new, own in zip(groups, self.param_groups, strict=True)]
        for options in wanted:  # all of them before anything is changed
            self._check(options)
        for options, own in zip(wanted, self.param_groups, strict=True):
            own.update(options)
        self.state = state

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params")
        return text + ")"


@contextmanager
def _compiled(p: Array, grad: Array, *states: Array | None) -> Iterator[list[Any]]:
    """Give a parameter, its gradient and its state as the compiled updates take them, and take what changes back.

    Copies stand in for arrays that are not contiguous and aligned; half precision is computed in float32.
    """
    dtype = compiled_dtype(p.dtype)
    changing = (p, *states)
    taken = [None if array is None else plain(array, dtype) for array in changing]
    gradient = grad.copy() if np.may_share_memory(p, grad) else grad
    yield [taken[0], plain(gradient, dtype), *taken[1:]]
    for array, copy in zip(changing, taken, strict=True):
        if array is not None and copy is not None and copy is not array:
            np.copyto(array, copy, casting="same_kind")


def _entries(params: Any) -> list[Any]:
    """The entries of `params`; what is none is refused as it comes, so that an iterator need not end."""
    if isinstance(params, (str, bytes)) or not isinstance(params, Iterable):
        raise TypeError(f"params has to be an iterable of Tensors or dicts, but got {shown(params)}")
    found = []
    for entry in params:
        if not isinstance(entry, (Tensor, dict)):
            raise TypeError(
                f"optimizer can only optimize Tensors, but one of the params is {type(entry).__name__}: {shown(entry)}"
            )
        found.append(entry)
    return found


def _restored(name: str, value: Any, p: Tensor) -> Any:
    found = as_array(value, f"state_dict's {name}")
    if found.dtype.kind not in "fiub":
        raise TypeError(f"state_dict's {name} has to be numbers, but got {shown(value)}")
    if not found.ndim:
        return value
    array = np.array(found, dtype=p.array.dtype)
    if array.shape != p.array.shape:
        raise ValueError(f"loaded {name} has shape {array.shape}, its parameter has {p.array.shape}")
    return array


def _not_negative(what: str, value: float) -> None:
    # Written so that NaN fails too.
    if isinstance(value, bool) or not 0.0 <= check_real(f"Invalid {what}: it", value) < math.inf:
        raise ValueError(f"Invalid {what}: {value}, which has to be finite and not negative")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov momentum and weight decay.

    ``g += weight_decay * p``; ``v = momentum * v + (1 - dampening) * g`` (at first ``v = g``);
    ``p -= lr * v``, or ``p -= lr * (g + momentum * v)`` with `nesterov`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to update; dicts are groups with options of their own.
    lr : float
    momentum, dampening, weight_decay : float
    nesterov : bool

    Raises
    ------
    ValueError
        If an option is out of range.

    Examples
    --------
    >>> from fastdrop import nn
    >>> w = nn.Parameter(np.array([1.0]))
    >>> optimizer = SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item()
    0.5
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def _check(self, options: dict[str, Any]) -> None:
        _not_negative("learning rate", options["lr"])
        _not_negative("momentum value", options["momentum"])
        _not_negative("weight_decay value", options["weight_decay"])
        check_real("dampening", options["dampening"])
        check_flags(nesterov=options["nesterov"])
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def _update(self, p: Array, grad: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        momentum, dampening = group["momentum"], group["dampening"]
        velocity = state.get("momentum_buffer") if momentum else None
        if momentum and velocity is None:
            # The first velocity is the gradient itself.
            velocity, dampening = state.setdefault("momentum_buffer", np.zeros_like(p, order="C")), 0.0
        with _compiled(p, grad, velocity) as (value, gradient, speed):
            _core.sgd(
                gradient,
                value,
                speed,
                rate=group["lr"],
                momentum=momentum,
                dampening=dampening,
                decay=group["weight_decay"],
                nesterov=group["nesterov"],
            )


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    ``m = beta1 * m + (1 - beta1) * g``; ``v = beta2 * v + (1 - beta2) * g**2``;
    ``p -= lr / (1 - beta1**t) * m / (sqrt(v / (1 - beta2**t)) + eps)``, with ``g += weight_decay * p`` before.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        What to update; dicts are groups with options of their own.
    lr : float
    betas : (float, float)
        Each in [0, 1).
    eps, weight_decay : float
    amsgrad : bool
        Use the largest v so far instead of v.

    Raises
    ------
    ValueError
        If an option is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        )

    def _check(self, options: dict[str, Any]) -> None:
        _not_negative("learning rate", options["lr"])
        _not_negative("epsilon value", options["eps"])
        if not isinstance(options["betas"], (tuple, list)) or len(options["betas"]) != 2:
            raise ValueError(f"betas must be a pair of numbers, got {shown(options['betas'])}")
        for i, beta in enumerate(options["betas"]):
            if not 0.0 <= check_real(f"Invalid beta parameter at index {i}: it", beta) < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}, which has to be from 0 to below 1")
        _not_negative("weight_decay value", options["weight_decay"])
        check_flags(amsgrad=options["amsgrad"])

    def _update(self, p: Array, grad: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        if not state:
            state.update(step=0, exp_avg=np.zeros_like(p, order="C"), exp_avg_sq=np.zeros_like(p, order="C"))
        if group["amsgrad"] and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = state["exp_avg_sq"].copy()
        step = state["step"] = int(state["step"]) + 1
        most = state["max_exp_avg_sq"] if group["amsgrad"] else None
        with _compiled(p, grad, state["exp_avg"], state["exp_avg_sq"], most) as (value, gradient, *averages):
            _core.adam(
                gradient,
                value,
                *averages,
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                decay=group["weight_decay"],
                rate=group["lr"] / (1 - beta1**step),
                root=math.sqrt(1 - beta2**step),
            )


class AdamW(Adam):
    """Adam with decoupled weight decay: the weights shrink by themselves, not through the gradient's statistics.

    ``p *= 1 - lr * weight_decay``, and then `Adam`'s step without weight decay.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad
        As of `Adam`.
    weight_decay : float

    Raises
    ------
    ValueError
        If an option is out of range.

    References
    ----------
    Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> from fastdrop import nn
    >>> w = nn.Parameter(np.array([1.0]))
    >>> optimizer = AdamW([w], lr=0.5, weight_decay=0.1)
    >>> w.grad = nn.Tensor(np.array([0.0]))
    >>> optimizer.step()
    >>> w.item()
    0.95
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _update(self, p: Array, grad: Array, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            p *= 1 - group["lr"] * group["weight_decay"]
        super()._update(p, grad, state, {**group, "weight_decay": 0.0})
