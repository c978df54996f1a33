"""The Transformer's encoder: attention and a feed-forward net, each a residual branch with dropout."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import LIMIT, check_flags, check_int, check_real, shown
from fastdrop._core import Generator
from fastdrop.nn import functional as F
from fastdrop.nn.batch import along
from fastdrop.nn.dropout import Dropout
from fastdrop.nn.fused import activation_dropout, dropout_add, is_plain
from fastdrop.nn.layer_norm import LayerNorm
from fastdrop.nn.layers import Linear, check_count
from fastdrop.nn.module import Module, ModuleList
from fastdrop.nn.multihead import MultiheadAttention
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import chosen_generator, refunding

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]

_ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    r"""Self-attention, then a feed-forward net; each is added to what came in, and normalised.

    .. math:: x \leftarrow \mathrm{norm}(x + \mathrm{branch}(x)) \quad\text{or, norm first,}\quad
        x \leftarrow x + \mathrm{branch}(\mathrm{norm}(x))

    Parameters
    ----------
    d_model, nhead : int
        Features, and heads of the attention.
    dim_feedforward : int
        Features between the two linear layers of the feed-forward net.
    dropout : float
        Probability to drop: an attention weight, an activation, an element of what a branch gives.
    activation : {"relu", "gelu"} or callable
        A callable takes a tensor and returns one.
    layer_norm_eps : float
    batch_first : bool
        Whether inputs are (N, L, E); else (L, N, E). Without a batch (L, E) either way.
    norm_first : bool
        Whether branches start with the normalisation, instead of the sum being normalised.
    bias : bool
        Whether linear layers and normalisations have biases.
    drop_path : float
        Probability to drop a whole branch, for each example by itself: stochastic depth. 0 is PyTorch's layer. The
        layer is `drop_path`, whose `p` may be raised with depth, as the paper does.
    dtype : dtype
        Of the parameters; the input must have the same.
    generator : fastdrop.Generator, optional
        Where initial weights and all masks come from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RuntimeError
        If `activation` is neither.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017; Xiong et al., "On layer normalization in the Transformer
    architecture", ICML 2020; Huang et al., "Deep networks with stochastic depth", ECCV 2016.

    Examples
    --------
    >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> layer(np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        drop_path: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        function = _ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
        if not callable(function):
            raise RuntimeError(f"activation should be relu/gelu or a callable, not {shown(activation)}")
        check_flags(norm_first=norm_first)
        with refunding(chosen_generator(generator)):  # the parts are made one after the other, and check what is theirs
            self._make(
                d_model, nhead, dim_feedforward, dropout, layer_norm_eps, batch_first, bias, drop_path, dtype, generator
            )
        self.norm_first = norm_first
        self.activation = function

    def _make(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        layer_norm_eps: float,
        batch_first: bool,
        bias: bool,
        drop_path: float,
        dtype: npt.DTypeLike,
        generator: Generator | None,
    ) -> None:
        for name, value in (("d_model", d_model), ("nhead", nhead), ("dim_feedforward", dim_feedforward)):
            check_count(name, value)
        check_real("layer_norm_eps", layer_norm_eps)
        made: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **made)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **made)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **made)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, generator=generator)
        self.dropout2 = Dropout(dropout, generator=generator)
        one_per_example = (None, 1, 1) if batch_first else (1, None, 1)
        self.drop_path = Dropout(drop_path, noise_shape=one_per_example, generator=generator)

    def forward(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False
    ) -> Tensor:
        """Return the encoded sequences, in the shape of `src`; masks as of `MultiheadAttention`."""
        x = named_tensor(src, "src")
        axis = 0 if self.self_attn.batch_first else 1
        if x.ndim == 2:
            return self.forward(x.unsqueeze(axis), src_mask, src_key_padding_mask, is_causal).squeeze(axis)
        with along(axis):
            return self._encode(x, src_mask, src_key_padding_mask, is_causal)

    def _encode(self, x: Tensor, src_mask: Any, src_key_padding_mask: Any, is_causal: bool) -> Tensor:

        def attend(x: Tensor) -> Tensor:
            y: Tensor = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
            return y

        if self.norm_first:
            middle = self._add(x, attend(self.norm1(x)), self.dropout1)
            return self._add(middle, self._feed_forward(self.norm2(middle)), self.dropout2)
        middle = self.norm1(self._add(x, attend(x), self.dropout1))
        encoded: Tensor = self.norm2(self._add(middle, self._feed_forward(middle), self.dropout2))
        return encoded

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden, drop = self.linear1(x), self.dropout
        name = next((name for name, known in _ACTIVATIONS.items() if self.activation is known), None)
        if name is not None and is_plain(drop):
            hidden = activation_dropout(hidden, drop.p, drop.training, activation=name, generator=drop.generator)
        else:
            hidden = drop(self.activation(hidden))
        y: Tensor = self.linear2(hidden)
        return y

    def _add(self, x: Tensor, branch: Tensor, drop: Module) -> Tensor:
        """The residual connection, with dropout of its branch; in one pass where nothing else drops there."""
        if is_plain(drop) and getattr(self.drop_path, "p", None) == 0:
            return dropout_add(branch, x, drop.p, drop.training, generator=drop.generator)
        y: Tensor = x + self.drop_path(drop(branch))
        return y


class TransformerEncoder(Module):
    """A stack of copies of one layer.

    Parameters
    ----------
    encoder_layer : Module
        Copied `num_layers` times: each copy has parameters of its own, which start out equal as in PyTorch. A generator
        is not copied but shared, by all layers and `encoder_layer`: copies of it would repeat each other's masks.
    num_layers : int
    norm : Module, optional
        Applied at the end; usual where the layers normalise first.

    Attributes
    ----------
    layers : ModuleList
    norm : Module or None

    Examples
    --------
    >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)
    >>> encoder(np.ones((4, 5, 8), np.float32)).shape
    (4, 5, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        for name, module in (("encoder_layer", encoder_layer), ("norm", norm)):
            if not isinstance(module, Module) and not (name == "norm" and module is None):
                raise TypeError(f"{name} must be a Module, got a {type(module).__name__}")
        self.num_layers = check_int("num_layers", num_layers, 0, LIMIT)
        shared = [value for m in encoder_layer.modules() for value in vars(m).values() if isinstance(value, Generator)]
        self.layers = ModuleList(
            # What deepcopy finds in its memo it takes for the copy.
            copy.deepcopy(encoder_layer, {id(generator): generator for generator in shared})
            for _ in range(self.num_layers)
        )
        self.norm = norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Tensor:
        """Return the encoded sequences, in the shape of `src`; masks as of `MultiheadAttention`, for every layer."""
        x = named_tensor(src, "src")
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, bool(is_causal))
        return x if self.norm is None else self.norm(x)
