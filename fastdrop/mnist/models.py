"""The networks that are compared: one builder each, which puts in what a `Plan` asks for and draws nothing for it.

So one seed gives a network the same initial weights under every regularizer, and the arms of a comparison differ by
the regularizer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .. import nn
from .regularizers import REGULARIZERS, Plan, parse

__all__ = ["MODELS", "Model", "Rows", "cnn", "lstm", "make", "mlp", "mlp_selu"]

Size = tuple[int, int]

#: What any network can be trained with.
IN_TRAINING = ("l2", "max-norm", "label-smoothing", "early-stopping")


def _noise(plan: Plan, maps: bool = False) -> list[nn.Module]:
    """What drops units, or feature maps."""
    makes: dict[str, Callable[[float], nn.Module]] = {
        "dropout": nn.Dropout,
        "spatial": nn.Dropout2d if maps else nn.Dropout,
        "dropblock": (lambda p: nn.DropBlock2d(p, block_size=3)) if maps else nn.Dropout,
        "gaussian": nn.GaussianDropout,
        "alpha": nn.AlphaDropout,
    }
    return [makes[plan.noise](plan.p)] if plan.noise in makes else []


def _linear(plan: Plan, inputs: int, outputs: int) -> nn.Module:
    return nn.DropConnectLinear(inputs, outputs, plan.p) if plan.noise == "dropconnect" else nn.Linear(inputs, outputs)


def cnn(plan: Plan, size: Size = (28, 28), classes: int = 10) -> nn.Sequential:
    """Make a CNN: conv 32, pool, conv 64, pool, dense 128, dense out; noise after each pool and the dense layer.

    Parameters
    ----------
    plan : Plan
        DropConnect drops weights of the dense layer of 128.
    size : (int, int)
        Height and width of the one-channel images, at least 4. Below 16 the convolutions pad by one pixel, since
        scikit-learn's 8x8 digits would shrink to nothing.
    classes : int

    Returns
    -------
    nn.Sequential
        Takes (N, 1, height, width), gives logits (N, classes).

    Examples
    --------
    >>> sum(p.array.size for p in cnn(Plan()).parameters())
    225034
    """
    padding = 0 if min(size) >= 16 else 1
    height, width = size
    layers: list[nn.Module] = []
    channels = 1
    for wide in (32, 64):
        layers.append(nn.Conv2d(channels, wide, 3, padding=padding))
        if plan.batch_norm:
            layers.append(nn.BatchNorm2d(wide))
        layers += [nn.ReLU(), nn.MaxPool2d(2), *_noise(plan, maps=True)]
        channels = wide
        height, width = ((left - 2 + 2 * padding) // 2 for left in (height, width))
    layers += [nn.Flatten(), _linear(plan, channels * height * width, 128)]
    if plan.batch_norm:
        layers.append(nn.BatchNorm1d(128))
    layers += [nn.ReLU(), *_noise(plan), nn.Linear(128, classes)]
    return nn.Sequential(*layers)


def mlp(plan: Plan, size: Size = (28, 28), classes: int = 10) -> nn.Sequential:
    """Make an MLP: two hidden layers of 800 ReLUs, noise after each; DropConnect drops the weights into them.

    The network of Wan et al. (2013), table 2; parameters and result as of `cnn`.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = size[0] * size[1]
    for _ in range(2):
        layers.append(_linear(plan, inputs, 800))
        if plan.batch_norm:
            layers.append(nn.BatchNorm1d(800))
        layers += [nn.ReLU(), *_noise(plan)]
        inputs = 800
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def mlp_selu(plan: Plan, size: Size = (28, 28), classes: int = 10) -> nn.Sequential:
    """Make a self-normalising MLP: four hidden layers of 256 SELUs, noise after each (Klambauer et al. 2017).

    Parameters and result as of `cnn`.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = size[0] * size[1]
    for _ in range(4):
        layers += [nn.Linear(inputs, 256), nn.SELU(), *_noise(plan)]
        inputs = 256
    layers.append(nn.Linear(inputs, classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.lecun_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class Rows(nn.Module):
    """Reads an image (N, 1, height, width) row by row, as `height` steps (height, N, width), and gives the last output.

    Parameters
    ----------
    layer : Module
        A recurrent layer, or `nn.WeightDrop` around one.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Any) -> nn.Tensor:
        x = nn.as_tensor(input)
        steps = x.reshape(len(x), x.shape[-2], x.shape[-1]).transpose(0, 1)
        output: nn.Tensor = self.layer(steps)[0][-1]
        return output


def lstm(plan: Plan, size: Size = (28, 28), classes: int = 10) -> nn.Sequential:
    """Make an LSTM of 128 units over the rows of an image, and a dense layer behind its last step.

    Parameters
    ----------
    plan : Plan
        Dropout drops units of the last output; variational dropout locks its masks over the steps; DropConnect drops
        recurrent weights, as the AWD-LSTM does.
    size, classes
        As of `cnn`.

    Returns
    -------
    nn.Sequential
        As of `cnn`.
    """
    rates: dict[str, Any] = {}
    if plan.noise == "variational":
        rates = dict.fromkeys(("dropout_input", "dropout_recurrent", "dropout_output"), plan.p)
    elif plan.noise == "zoneout":
        rates = dict.fromkeys(("zoneout", "zoneout_cell"), plan.p)
    layer: nn.Module = nn.LSTM(size[1], 128, **rates)
    if plan.noise == "dropconnect":
        layer = nn.WeightDrop(layer, plan.p)
    return nn.Sequential(Rows(layer), *_noise(plan), nn.Linear(128, classes))


@dataclass(frozen=True)
class Model:
    """A network that can be asked for by name.

    Attributes
    ----------
    about : str
        What it is, in a few words.
    build : callable
        (Plan, size, classes) -> Module.
    takes : tuple of str
        The `REGULARIZERS` it takes, beside `IN_TRAINING`.
    compare : tuple of str
        What is compared unless told; the first is what the others are measured against.
    training : dict
        Settings of a `study.Run` that are this model's own.
    full : dict
        The same with the preset "full".
    """

    about: str
    build: Callable[[Plan, Size, int], nn.Module]
    takes: tuple[str, ...]
    compare: tuple[str, ...]
    training: dict[str, Any] = field(default_factory=dict)
    full: dict[str, Any] = field(default_factory=dict)


_MLP = ("dropout", "gaussian", "dropconnect", "batch-norm")

#: By name.
MODELS = {
    "cnn": Model(
        "conv 32, pool, conv 64, pool, dense 128",
        cnn, ("dropout", "spatial", "dropblock", "gaussian", "dropconnect", "batch-norm"), ("none", "dropout"),
    ),
    "mlp": Model("two hidden layers of 800 ReLUs", mlp, _MLP, ("none", "dropout")),
    "mlp-selu": Model("four hidden layers of 256 SELUs", mlp_selu, ("dropout", "gaussian", "alpha"), ("none", "alpha")),
    "lstm": Model(
        "an LSTM of 128 over the rows of the image",
        lstm, ("dropout", "gaussian", "variational", "zoneout", "dropconnect"), ("none", "variational"),
    ),
    "dropconnect": Model(
        "the MLP as Wan et al. (2013) train it: SGD with momentum, batches of 128, falling learning rate",
        mlp, _MLP, ("none", "dropout", "dropconnect"),
        {"optimizer": "sgd", "lr": 0.03, "schedule": "cosine", "batch_size": 128}, {"epochs": 50, "seeds": 5},
    ),
}  # fmt: skip


def make(model: str, regularizer: str | Plan = "none", size: Size = (28, 28), classes: int = 10) -> nn.Module:
    """Make a network by name.

    Parameters
    ----------
    model : str
        Of `MODELS`.
    regularizer : str or Plan
        As `regularizers.parse` reads it.
    size : (int, int)
        Height and width of the images.
    classes : int

    Returns
    -------
    nn.Module
        Takes (N, 1, height, width), gives logits (N, classes). Its weights come from the default generator.

    Raises
    ------
    ValueError
        Where there is no such model, it does not take the regularizer, or the images are too small.

    Examples
    --------
    >>> make("mlp", "dropout=0.2")
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=784, out_features=800, bias=True)
      (2): ReLU()
      (3): Dropout(p=0.2, inplace=False)
      (4): Linear(in_features=800, out_features=800, bias=True)
      (5): ReLU()
      (6): Dropout(p=0.2, inplace=False)
      (7): Linear(in_features=800, out_features=10, bias=True)
    )
    >>> make("mlp", "spatial")
    Traceback (most recent call last):
    ValueError: model 'mlp' takes no 'spatial'; it takes dropout, gaussian, dropconnect, batch-norm, l2, max-norm, \
label-smoothing, early-stopping
    """
    plan = check(model, regularizer)
    if min(size) < 4:
        raise ValueError(f"images have to be at least 4 pixels high and wide, but got {size[0]}x{size[1]}")
    return MODELS[model].build(plan, size, classes)


def check(model: str, regularizer: str | Plan) -> Plan:
    """Find the plan of a regularizer, and that a model takes it; ValueError otherwise."""
    if model not in MODELS:
        raise ValueError(f"model {model!r}: there is none of that name; there are {', '.join(MODELS)}")
    plan = parse(regularizer) if isinstance(regularizer, str) else regularizer
    takes = [name for name in REGULARIZERS if name in MODELS[model].takes + IN_TRAINING]
    for name, _ in plan.parts:
        if name not in takes:
            raise ValueError(f"model {model!r} takes no {name!r}; it takes {', '.join(takes)}")
    return plan
