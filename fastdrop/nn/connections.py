"""Layers that drop weights: `DropConnectLinear`, and `WeightDrop` around any other layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import check_flags, check_int, shown
from fastdrop._core import Generator, give_back
from fastdrop.functional import check_p
from fastdrop.nn import functional as F
from fastdrop.nn.batch import along, part_of, undivided, whole
from fastdrop.nn.layers import Linear
from fastdrop.nn.module import Module
from fastdrop.nn.tensor import Tensor, as_tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["DropConnectLinear", "WeightDrop"]


class DropConnectLinear(Linear):
    r"""A linear layer that drops each weight with probability `p`, for each example by itself, and then an activation.

    In training ``activation(dropconnect(x, weight, bias))``. In evaluation either the mean network,
    ``activation(x @ weight.T + bias)``, or the paper's moment matching: the pre-activation is taken as normal, with

    .. math::
        \mu_{bo} = c_o + \sum_i w_{oi} x_{bi}, \qquad
        \sigma_{bo}^2 = \frac{p}{1 - p} \Big(\sum_i w_{oi}^2 x_{bi}^2 + c_o^2\, [\text{bias dropped}]\Big),

    and the activation is averaged over `n_samples` draws of :math:`\mu + \sigma z`.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last dimension of input and output.
    p : float
        The probability to drop a weight, 0 <= p <= 1.
    per_example : bool
        Whether each example has decisions of its own, or the batch shares them.
    bias : bool
        Whether to add a bias.
    drop_bias : bool
        Whether the bias is dropped too.
    activation : callable, optional
        A function or module on tensors, applied to the output in every mode. "gaussian" needs one, since the average is
        taken behind it.
    inference : {"mean", "gaussian"}
        What evaluation does.
    n_samples : int
        How many draws "gaussian" averages.
    dtype : dtype
        Of the parameters; the input must have the same.
    generator : fastdrop.Generator, optional
        Where the initial weights, the masks and the normals come from; by default `fastdrop.default_generator()`.

    Attributes
    ----------
    weight, bias : Parameter
        As of `Linear`, with the same initial values; a state dict loads either way.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    A training step takes a call of the generator, and one more with `drop_bias`; evaluation takes one for "gaussian",
    of normals (n_samples, B, out_features) that are made sample by sample, and none for "mean". The same call gives the
    same normals on every machine. For p = 0 and p = 1 evaluation is the mean network.

    References
    ----------
    Wan, Zeiler, Zhang, LeCun, Fergus, "Regularization of neural networks using DropConnect", ICML 2013; its
    inference, for weights scaled in training.

    Examples
    --------
    >>> from fastdrop import nn
    >>> layer = nn.DropConnectLinear(8, 3, p=0.5, activation=nn.functional.relu, inference="gaussian")
    >>> layer
    DropConnectLinear(in_features=8, out_features=3, bias=True, p=0.5, inference='gaussian', n_samples=1000)
    >>> layer(nn.randn(5, 8)).shape, layer.eval()(nn.randn(5, 8)).shape
    ((5, 3), (5, 3))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        p: float = 0.5,
        per_example: bool = True,
        bias: bool = True,
        *,
        drop_bias: bool = False,
        activation: Callable[[Tensor], Tensor] | None = None,
        inference: str = "mean",
        n_samples: int = 1000,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        check_p(p)
        check_flags(per_example=per_example, drop_bias=drop_bias)
        if activation is not None and not callable(activation):
            raise TypeError(f"activation has to be a function on tensors or None, but got {shown(activation)}")
        if not isinstance(inference, str) or inference not in ("mean", "gaussian"):
            raise ValueError(f"inference has to be 'mean' or 'gaussian', but got {shown(inference)}")
        if inference == "gaussian" and activation is None:
            raise ValueError("inference='gaussian' averages behind the activation: give activation, as F.relu")
        n_samples = check_int("n_samples", n_samples, 1, 2**31)
        super().__init__(in_features, out_features, bias, dtype=dtype, generator=generator)
        self.p = p
        self.per_example = bool(per_example)
        self.drop_bias = bool(drop_bias)
        self.activation = activation
        self.inference = inference
        self.n_samples = n_samples
        self.generator = generator

    def forward(self, input: Any) -> Tensor:
        p = check_p(self.p)
        if not self.training and self.inference == "gaussian" and 0 < p < 1:
            return self._expected(named_tensor(input, "input"), p)
        y = F.dropconnect(
            input, self.weight, self.bias, p, self.training, per_example=self.per_example, drop_bias=self.drop_bias,
            generator=self.generator,
        )  # fmt: skip
        return y if self.activation is None else self.activation(y)

    def _expected(self, x: Tensor, p: float) -> Tensor:
        if self.activation is None:
            raise ValueError("inference='gaussian' averages behind the activation: give activation, as F.relu")
        n_samples = check_int("n_samples", self.n_samples, 1, 2**31)
        half = x.dtype == self.weight.dtype == np.float16

        def wide(t: Tensor) -> Tensor:  # squares and sums leave float16 soon
            return t.to(np.float32) if half else t

        a, w, b = wide(x), wide(self.weight), None if self.bias is None else wide(self.bias)
        mean = F.linear(a, w, b)
        variance = F.linear(a * a, w * w, b * b if b is not None and self.drop_bias else None) * (p / (1 - p))
        # The root's slope at 0 is infinite, and would make NaN of a gradient of 0.
        deviation = (variance + float(np.finfo(mean.dtype).tiny)).sqrt()
        shape = (n_samples, *mean.shape)
        with along(1):
            noise = part_of(chosen_generator(self.generator).noise(whole(shape)), shape)
        total: Any = 0
        for z in noise:
            sample = mean + deviation * Tensor(np.asarray(z).astype(mean.dtype))
            total = wide(self.activation(sample.to(np.float16) if half else sample)) + total
        y = as_tensor(total * (1 / n_samples))
        return y.to(np.float16) if half else y

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, p={self.p}"
        text += "" if self.per_example else ", per_example=False"
        text += ", drop_bias=True" if self.drop_bias else ""
        return text + (f", inference='gaussian', n_samples={self.n_samples}" if self.inference == "gaussian" else "")


class WeightDrop(Module):
    """Another layer, some of whose weights are dropped in training: one mask per call for the whole batch.

    Each named parameter is replaced, while the layer runs, by ``dropout(parameter, p)``. A recurrent layer sees the
    same dropped weights at every step, as in the AWD-LSTM; a convolution with ``names=("weight",)`` becomes DropConnect
    for convolutions. Gradients go to the parameters themselves, which keep their names in the layer.

    Parameters
    ----------
    module : Module
        The layer. Its parameters are this module's, under ``module.``.
    p : float
        The probability to drop a weight, 0 <= p <= 1.
    names : sequence of str
        Which of the layer's own parameters; of an `LSTM` of two layers ``("weight_hh_l0", "weight_hh_l1")``.
    generator : fastdrop.Generator, optional
        Where the masks come from, one call per name in the order given; by default `fastdrop.default_generator()`.

    Raises
    ------
    TypeError, ValueError
        If `module` is no Module, a name is not among its parameters or there twice, or `p` is out of range.

    Notes
    -----
    In evaluation, and for p = 0, the layer runs as it is and no random number is drawn. Where the layer raises, the
    calls are given back, unless others have taken calls of the generator since. While the layer runs, the dropped
    weights stand in its attributes: one thread at a time.

    References
    ----------
    Merity, Keskar, Socher, "Regularizing and optimizing LSTM language models", ICLR 2018. Wan et al., ICML 2013.

    Examples
    --------
    >>> from fastdrop import nn
    >>> layer = nn.WeightDrop(nn.LSTM(4, 8), p=0.5)
    >>> layer
    WeightDrop(
      p=0.5, names=('weight_hh_l0',)
      (module): LSTM(4, 8)
    )
    >>> output, (h_n, c_n) = layer(nn.randn(10, 2, 4))
    >>> output.shape
    (10, 2, 8)
    """

    def __init__(
        self,
        module: Module,
        p: float = 0.5,
        names: Sequence[str] = ("weight_hh_l0",),
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, Module):
            raise TypeError(f"module has to be a Module, but got a {type(module).__name__}")
        if isinstance(names, str) or not isinstance(names, Sequence) or not names:
            raise TypeError(f"names has to be a sequence of parameters' names, but got {shown(names)}")
        own = [name for name, _ in module.named_parameters(recurse=False)]
        for name in names:
            if not isinstance(name, str) or name not in own:
                raise ValueError(
                    f"names has to hold parameters of {type(module).__name__}, {own}, but got {shown(name)}"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"names has to hold each parameter once, but got {tuple(names)}")
        check_p(p)
        check_generator(generator)
        self.module = module
        self.p = p
        self.names = tuple(names)
        self.generator = generator

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.training or check_p(self.p) == 0:
            return self.module(*args, **kwargs)
        attributes = vars(self.module)  # found before the parameters, which stay registered
        rng = chosen_generator(self.generator)
        key, before = rng.key, rng.call
        after = before
        try:
            for name in self.names:
                with undivided():
                    attributes[name] = F.dropout(getattr(self.module, name), self.p, generator=rng)
                after += 1
            return self.module(*args, **kwargs)
        except BaseException:
            # The layer sees its input only now. What it refuses has to take no call.
            give_back(rng, key, before, after)
            raise
        finally:
            for name in self.names:
                attributes.pop(name, None)

    def extra_repr(self) -> str:
        return f"p={self.p}, names={self.names}"
