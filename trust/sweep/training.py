"""What is swept of training: modules, optimizers, ``fit`` and its kind, files."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop import nn, optim

from .network import X
from .target import Target, constant, floats, generator, signature_names


def model(context: Any) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 4, generator=generator(context)), nn.Dropout(0.5, generator=generator(context)), nn.Linear(4, 3)
    )


def parameters(context: Any) -> list[Any]:
    made = [nn.Parameter(np.ones((2, 3), np.float32)), nn.Parameter(np.ones(3, np.float32))]
    for p in made:
        p.grad = nn.Tensor(np.ones(p.shape, np.float32))
    return made


def _optimizer(context: Any) -> optim.Optimizer:
    made = optim.Adam(parameters(context), lr=0.1)
    made.step()
    return made


def data(context: Any) -> tuple[Any, Any]:
    return floats(8, 6)(context), np.arange(8) % 3


def _fit(model: Any, data: Any, optimizer: Any = None, **more: Any) -> Any:
    trained = model.parameters() if isinstance(model, nn.Module) else parameters(None)
    made = optimizer if optimizer is not None else optim.SGD(trained, lr=0.1)
    return nn.fit(model, data, optimizer=made, **more)


def _mc_dropout(**given: Any) -> None:
    with nn.mc_dropout(**given):
        pass


def _step(gradient: Any, lr: Any, betas: Any) -> None:
    """Options that were changed after the optimizer was made, as schedules do."""
    p = nn.Parameter(np.ones((2, 3), np.float32))
    p.grad = gradient if gradient is None or isinstance(gradient, nn.Tensor) else nn.Tensor(gradient)
    made = optim.Adam([p], lr=0.1)
    made.param_groups[0].update(lr=lr, betas=betas)
    made.step()


TARGETS: tuple[Target, ...] = (
    *(
        Target(
            f"optim.{name}",
            getattr(optim, name),
            {"params": parameters},
            {},
            signature_names(getattr(optim, name)),
            words=("parameter", "parameters", "optimizer", "learning rate", "beta", "betas"),
        )
        for name in ("SGD", "Adam", "AdamW")
    ),
    Target(
        "optim.step",
        _step,
        {"gradient": floats(2, 3), "lr": constant(0.1), "betas": constant((0.9, 0.9))},
        words=("learning rate", "beta", "a parameter of", "array"),
    ),
    Target(
        "Optimizer.add_param_group",
        optim.Optimizer.add_param_group,
        {"self": _optimizer, "param_group": lambda c: {"params": parameters(c)}},
        words=("params", "parameter", "optimizer"),
    ),
    Target(
        "Optimizer.load_state_dict",
        optim.Optimizer.load_state_dict,
        {"self": _optimizer, "state_dict": lambda c: _optimizer(c).state_dict()},
        words=("state dict",),
    ),
    Target(
        "Optimizer.load_state_dict parts",
        lambda self, state, param_groups: self.load_state_dict({"state": state, "param_groups": param_groups}),
        {
            "self": _optimizer,
            "state": lambda c: _optimizer(c).state_dict()["state"],
            "param_groups": lambda c: _optimizer(c).state_dict()["param_groups"],
        },
        words=("state dict",),
    ),
    Target(
        "Optimizer.step",
        optim.Optimizer.step,
        {"self": _optimizer, "closure": constant(lambda: 1.0)},
        loud=(AttributeError,),
    ),
    Target(
        "Module.load_state_dict",
        nn.Module.load_state_dict,
        {"self": model, "state_dict": lambda c: model(c).state_dict()},
        {},
        ("strict",),
    ),
    Target(
        "Module.load_state_dict weight",
        lambda self, weight: self.load_state_dict({**self.state_dict(), "0.weight": weight}),
        {"self": model, "weight": floats(4, 6)},
    ),
    *(
        Target(
            f"Module.{name}",
            getattr(nn.Module, name),
            {"self": model, "name": constant("more"), key: constant(None)},
            loud=(KeyError, AttributeError),
            words=(name.split("_")[1], "attribute"),
        )
        for name, key in (("register_parameter", "param"), ("register_buffer", "tensor"), ("add_module", "module"))
    ),
    Target("Module.train", nn.Module.train, {"self": model}, {}, ("mode",)),
    Target("Module.to", nn.Module.to, {"self": model, "dtype": constant(np.float64)}),
    Target(
        "Module.setattr",
        lambda self, value: setattr(self, "0", value),
        {"self": model, "value": constant(None)},
        words=("assign",),
    ),
    Target(
        "Sequential.getitem", lambda self, index: self[index], {"self": model, "index": constant(0)}, loud=(IndexError,)
    ),
    Target("Sequential.append", nn.Sequential.append, {"self": model, "module": lambda c: nn.ReLU()}),
    Target(
        "ModuleList.extend",
        nn.ModuleList.extend,
        {"self": lambda c: nn.ModuleList(), "modules": lambda c: [nn.ReLU()]},
        words=("Module", "axes"),
    ),
    Target(
        "nn.fit",
        _fit,
        {"model": model, "data": data, "epochs": constant(1)},
        {"generator": generator},
        ("validation", "optimizer", "batch_size", "callbacks", "loss", "progress", "checkpoint", "comm"),
        loud=(FloatingPointError, OSError),
        runs=True,
        words=("example", "examples", "loss", "X", "y", "Linear", "linear", "path"),
    ),
    Target(
        "nn.evaluate",
        nn.evaluate,
        {"model": model, "data": data},
        {},
        ("batch_size", "loss", "comm"),
        loud=(AttributeError,),
        words=("X", "y", "Linear", "linear", "example", "tensors"),
    ),
    Target("nn.predict", nn.predict, {"model": model, "X": floats(8, 6)}, {}, ("batch_size",), words=("linear",)),
    Target(
        "nn.mc_predict",
        nn.mc_predict,
        {"model": model, "x": floats(8, 6), "T": constant(2)},
        {"seed": constant(1)},
        ("kind", "batch_size", "return_samples", "progress"),
        words=("linear",),
    ),
    Target("nn.mc_dropout", _mc_dropout, {"model": model}, {"seed": constant(1), "t": constant(1)}, ("grad",)),
    Target("nn.max_norm_", nn.max_norm_, {"weight": X, "max_norm": constant(2.0)}, {"dim": constant(0)}),
    Target(
        "nn.save_weights", nn.save_weights, {"model": model, "path": constant("weights.safetensors")}, loud=(OSError,)
    ),
    Target(
        "nn.load_weights",
        nn.load_weights,
        {"model": model, "path": constant("no-such.safetensors")},
        {},
        ("strict",),
        loud=(OSError,),
        words=("file",),
    ),
    Target(
        "History.getitem",
        lambda self, metric: self[metric],
        {"self": lambda c: nn.History([{"epoch": 1, "loss": 2.0}]), "metric": constant("loss")},
        loud=(KeyError,),
    ),
    Target(
        "History.best",
        nn.History.best,
        {"self": lambda c: nn.History([{"epoch": 1, "loss": 2.0}]), "metric": constant("loss")},
        loud=(KeyError,),
    ),
    Target("History.from_dict", nn.History.from_dict, {"data": lambda c: {"epochs": []}}),
)
