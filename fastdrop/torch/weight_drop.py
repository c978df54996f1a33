"""`WeightDrop`: any layer, some of whose weights are dropped in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.func import functional_call

from fastdrop._checks import check_p, shown
from fastdrop._core import Generator
from fastdrop.random import check_generator
from fastdrop.torch.functional import dropout
from fastdrop.torch.parts import Parts, check_parts, said

__all__ = ["WeightDrop"]


class WeightDrop(nn.Module):
    """Another layer, some of whose weights are dropped in training: one mask per call for the whole batch.

    While the layer runs, ``dropout(parameter, p)`` stands in for each named parameter. A recurrent layer sees the same
    dropped weights at every step, as in the AWD-LSTM; a convolution with ``names=("weight",)`` becomes DropConnect for
    convolutions. Gradients go to the parameters themselves, which keep their names in the layer.

    Parameters
    ----------
    module : torch.nn.Module
        The layer. Its parameters are this module's, under ``module.``.
    p : float
        The probability to drop a weight, 0 to 1.
    names : sequence of str
        Which of the layer's parameters; of an LSTM of two layers ``("weight_hh_l0", "weight_hh_l1")``.
    generator : fastdrop.Generator, optional
        One call per name, in the order given; PyTorch's default generator if not given.
    shard : fastdrop.Shard or sequence of Shard, optional
        Which part of the whole each of these parameters is; see `functional.dropout`. DTensors say it themselves.

    Raises
    ------
    TypeError, ValueError
        If `module` is no module, a name is not among its parameters or there twice, `p` is out of range, or
        `shard` no `fastdrop.Shard`.

    Notes
    -----
    In evaluation, and for p = 0, the layer runs as it is and no number is drawn. The dropped weights are put in by
    `torch.func.functional_call`, so the layer's own parameters are never replaced, and hooks, deepcopy and pickling
    see them. PyTorch warns once that a recurrent layer's weights are not one block of memory; that is a matter of GPUs.

    References
    ----------
    Merity, Keskar, Socher, "Regularizing and optimizing LSTM language models", ICLR 2018. Wan et al., ICML 2013.

    Examples
    --------
    >>> import torch
    >>> layer = WeightDrop(torch.nn.LSTM(4, 8), p=0.5)
    >>> layer
    WeightDrop(
      p=0.5, names=('weight_hh_l0',)
      (module): LSTM(4, 8)
    )
    >>> layer(torch.ones(10, 2, 4))[0].shape
    torch.Size([10, 2, 8])
    """

    shard: Parts = None

    def __init__(
        self,
        module: nn.Module,
        p: float = 0.5,
        names: Sequence[str] = ("weight_hh_l0",),
        *,
        generator: Generator | None = None,
        shard: Parts = None,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module has to be a torch.nn.Module, but got a {type(module).__name__}")
        if isinstance(names, str) or not isinstance(names, Sequence) or not names:
            raise TypeError(f"names has to be a sequence of parameters' names, but got {shown(names)}")
        own = [name for name, _ in module.named_parameters()]
        for name in names:
            if not isinstance(name, str) or name not in own:
                raise ValueError(
                    f"names has to hold parameters of {type(module).__name__}, {own}, but got {shown(name)}"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"names has to hold each parameter once, but got {tuple(names)}")
        check_p(p)
        self.module = module
        self.p = p
        self.names = tuple(names)
        check_parts(shard)
        self.generator = check_generator(generator)
        self.shard = shard

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        p = check_p(self.p)
        if not self.training or p == 0.0:
            return self.module(*args, **kwargs)
        dropped = {
            name: dropout(self.module.get_parameter(name), p, generator=self.generator, shard=self.shard)
            for name in self.names
        }
        return functional_call(self.module, dropped, args, kwargs)

    def extra_repr(self) -> str:
        return f"p={self.p}, names={self.names}{said(self.shard)}"
