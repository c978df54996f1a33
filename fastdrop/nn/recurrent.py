"""The recurrent layers `RNN`, `LSTM` and `GRU`, with locked dropout and zoneout; `recurrence` has their arithmetic."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastdrop._checks import check_flags, check_real, check_shape, shown
from fastdrop._core import Generator, Mask
from fastdrop.nn import functional as F
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.batch import along, part_of, whole
from fastdrop.nn.creation import numpy_generator
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.layers import check_count
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.operations import cat, stack
from fastdrop.nn.recurrence import Cell, GRUCell, LSTMCell, Recurrence, ReLUCell, Share, TanhCell, Weights
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator, refunding

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["GRU", "LSTM", "RNN"]


def run_direction(
    kind: type[Cell],
    x: Tensor,
    initial: Sequence[Tensor],
    weights: Sequence[Tensor],
    recurrent: Share | None = None,
    zoneout: Sequence[Share | None] = (),
) -> list[Tensor]:
    """Run one layer in one direction as one recorded operation.

    Parameters
    ----------
    kind : type of Cell
    x : Tensor, shape (T, N, C)
    initial : sequence of Tensor, each of shape (N, H)
        As many as the cell has states.
    weights : sequence of Tensor
        ``weight_ih, weight_hh`` and perhaps ``bias_ih, bias_hh``.
    recurrent, zoneout
        As of `Recurrence`.

    Returns
    -------
    list of Tensor
        h after each step, (T, N, H); then each state after the last step, (N, H).
    """
    run = Recurrence(
        kind, x.array, [s.array for s in initial], Weights(*(w.array for w in weights)), recurrent, zoneout
    )
    need_x = x.requires_grad

    def function(dy: Array) -> tuple[Array | None, ...]:
        dx, dinitial, dweights = run.backward(dy, need_x)
        found = (dweights.ih, dweights.hh, dweights.bias_ih, dweights.bias_hh)
        return (dx, *dinitial, *found[: len(weights)])

    inputs = (x, *initial, *weights)
    y = record(kind.__name__, run.result, inputs, function, saved=(x, *weights[:2]), saves_result=True)
    steps = run.steps
    return [y[:steps], *(y[steps - 1 + k] for k in range(kind.states))]


class _Recurrent(Module):
    """What the three layers have in common: all but the cell and the names of its states."""

    _cell: type[Cell]
    #: The attributes that are probabilities.
    _rates: ClassVar[tuple[str, ...]] = ("dropout", "dropout_input", "dropout_output", "dropout_recurrent", "zoneout")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        bidirectional: bool,
        dtype: npt.DTypeLike,
        generator: Generator | None,
        **rates: float,
    ) -> None:
        super().__init__()
        self.input_size = check_count("input_size", input_size)
        self.hidden_size = check_count("hidden_size", hidden_size)
        self.num_layers = check_count("num_layers", num_layers)
        check_flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        for name, rate in rates.items():
            setattr(self, name, _check_rate(name, rate))
        check_generator(generator)
        if rates["dropout"] and num_layers == 1:
            warnings.warn(
                f"dropout={rates['dropout']} acts between layers, so that it does nothing with num_layers=1; "
                "dropout_output acts after the last one",
                stacklevel=3,
            )
        self.generator = generator
        with refunding(chosen_generator(generator)):  # where there is no memory
            self._init_weights(floating_dtype(dtype))

    def _init_weights(self, dtype: np.dtype[Any]) -> None:
        check_shape((len(self._cell.sigmoids) * self.hidden_size, self.input_size + self.hidden_size), "weight's shape")
        rng, bound = numpy_generator(self.generator), 1 / math.sqrt(self.hidden_size)
        rows = len(self._cell.sigmoids) * self.hidden_size
        for layer in range(self.num_layers):
            columns = self.hidden_size * self._directions if layer else self.input_size
            for direction in range(self._directions):
                shapes = ((rows, columns), (rows, self.hidden_size), (rows,), (rows,))
                for name, shape in zip(self._names(layer, direction), shapes, strict=False):
                    values = rng.random(shape, dtype=np.float64 if dtype == np.float64 else np.float32)
                    setattr(self, name, Parameter(((values * 2 - 1) * bound).astype(dtype, copy=False)))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _names(self, layer: int, direction: int) -> list[str]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [f"{name}_l{layer}{'_reverse' * direction}" for name in names[: 4 if self.bias else 2]]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run over a sequence.

        Parameters
        ----------
        input : Tensor or ndarray
            (T, N, C), (N, T, C) with `batch_first`, or (T, C) for one sequence, of the parameters' dtype; T at least 1.
        hx : Tensor or ndarray, or for an LSTM a pair of them, optional
            The state to start from, (num_layers * directions, N, H), without N for one sequence; zeros if not given.

        Returns
        -------
        output : Tensor
            The last layer's h at each step, (T, N, directions * H), laid out as the input is.
        h_n : Tensor, or for an LSTM a pair (h_n, c_n)
            The state after the last step, laid out as `hx`.

        Raises
        ------
        ValueError, RuntimeError, TypeError
            If a shape or dtype does not fit; before any mask is drawn.
        """
        x = named_tensor(input, "input")
        rates = {name: _check_rate(name, getattr(self, name)) for name in self._rates}
        self._check_input(x)
        batched = x.array.ndim == 3
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        states = self._initial(hx, x.array.shape[1], batched)
        output, finals = self._run(x, states, rates)
        if not batched:
            output, finals = output.squeeze(1), [final.squeeze(1) for final in finals]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, finals[0] if self._cell.states == 1 else tuple(finals)

    def _run(self, x: Tensor, states: list[Tensor] | None, rates: dict[str, float]) -> tuple[Tensor, list[Tensor]]:
        def drop(x: Tensor, name: str) -> Tensor:
            return F.locked_dropout(x, rates[name], self.training, generator=self.generator)

        steps, batch, _ = x.array.shape
        zeros = Tensor(np.zeros((batch, self.hidden_size), x.array.dtype))
        finals: list[list[Tensor]] = [[] for _ in range(self._cell.states)]
        x = drop(x, "dropout_input")
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self._directions):
                place = layer * self._directions + direction
                output, *last = run_direction(
                    self._cell,
                    x[::-1] if direction else x,
                    [zeros] * self._cell.states if states is None else [state[place] for state in states],
                    [getattr(self, name) for name in self._names(layer, direction)],
                    *self._masks(steps, batch, rates, direction),
                )
                outputs.append(output[::-1] if direction else output)
                for of_state, value in zip(finals, last, strict=True):
                    of_state.append(value)
            x = cat(outputs, -1) if self.bidirectional else outputs[0]
            x = drop(x, "dropout" if layer < self.num_layers - 1 else "dropout_output")
        return x, [stack(of_state) for of_state in finals]

    def _masks(
        self, steps: int, batch: int, rates: dict[str, float], direction: int
    ) -> tuple[Share | None, list[Share | None]]:
        """Draw one layer's masks, in the order that the layers' docstrings promise."""
        rng = chosen_generator(self.generator)
        shape = (batch, self.hidden_size)
        p = rates["dropout_recurrent"]
        with along(0):
            recurrent = Share(part_of(rng.mask(whole(shape), p), shape)) if self.training and p else None
        zoneout: list[Share | None] = []
        for name in ("zoneout", "zoneout_cell")[: self._cell.states]:
            p = rates[name]
            if not p:
                zoneout.append(None)
            elif self.training:
                with along(1):
                    mask = part_of(rng.mask(whole((steps, *shape)), p), (steps, *shape))
                zoneout.append(Share(mask[::-1] if direction else mask, 1.0))
            else:
                zoneout.append(Share(Mask(0, 0, 0.0, ()).broadcast_to((steps, *shape)), 1 - p))
        return recurrent, zoneout

    def _check_input(self, x: Tensor) -> None:
        name, shape = type(self).__name__, x.array.shape
        layout = "(N, T, C)" if self.batch_first else "(T, N, C)"
        if len(shape) not in (2, 3):
            raise ValueError(f"{name}: input must have 3 axes, {layout}, or 2, (T, C), but got shape {shape}")
        if shape[-1] != self.input_size:
            raise RuntimeError(
                f"{name}: input must have input_size={self.input_size} features in its last axis, but got shape {shape}"
            )
        if not shape[1 if self.batch_first and len(shape) == 3 else 0]:
            raise RuntimeError(f"{name}: input must have at least one step, but got shape {shape} for {layout}")
        self._check_dtype("input", x)

    def _check_dtype(self, name: str, x: Tensor) -> None:
        dtype = self.weight_ih_l0.dtype
        if x.array.dtype != dtype:
            raise RuntimeError(
                f"{type(self).__name__}: {name} must have the parameters' dtype {dtype}, but got {x.array.dtype}; "
                "convert it, or the layer with .to(dtype)"
            )

    def _initial(self, hx: Any, batch: int, batched: bool) -> list[Tensor] | None:
        if hx is None:
            return None
        count = self._cell.states
        if count > 1 and not (isinstance(hx, (tuple, list)) and len(hx) == count):
            raise TypeError(f"{type(self).__name__}: hx must be a pair (h_0, c_0), but got {_described(hx)}")
        if count == 1 and isinstance(hx, (tuple, list)):
            raise TypeError(f"{type(self).__name__}: hx must be one Tensor, h_0, but got {_described(hx)}")
        states = [named_tensor(state, "hx") for state in (hx if count > 1 else (hx,))]
        layers = self.num_layers * self._directions
        shape = (layers, batch, self.hidden_size) if batched else (layers, self.hidden_size)
        for name, state in zip(("h_0", "c_0"), states, strict=False):
            if state.array.shape != shape:
                raise RuntimeError(
                    f"{type(self).__name__}: {name} must have shape {shape}, (num_layers * directions, "
                    f"{'N, ' if batched else ''}hidden_size), but got {state.array.shape}"
                )
            self._check_dtype(name, state)
        return states if batched else [state.unsqueeze(1) for state in states]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += ", bias=False"
        if self.batch_first:
            text += ", batch_first=True"
        # PyTorch's own in its place, so that a model prints alike; then those that PyTorch has not.
        first, *others = self._rates
        text += f", {first}={getattr(self, first)}" if getattr(self, first) else ""
        if self.bidirectional:
            text += ", bidirectional=True"
        return text + "".join(f", {name}={getattr(self, name)}" for name in others if getattr(self, name))


class LSTM(_Recurrent):
    r"""Long short-term memory, with dropout that is locked over time, and zoneout.

    .. math::
        (i, f, g, o)_t &= (\sigma, \sigma, \tanh, \sigma)(W_{ih} x_t + b_{ih} + W_{hh} (m \odot h_{t-1}) + b_{hh}) \\
        \tilde c_t &= f_t c_{t-1} + i_t g_t, \qquad \tilde h_t = o_t \tanh(\tilde c_t)

    with m the mask of `dropout_recurrent`, scaled by 1 / (1 - p). Without zoneout :math:`h_t = \tilde h_t` and
    :math:`c_t = \tilde c_t`; with it each unit of h (and with `zoneout_cell` of c) keeps its value of step t - 1 with
    probability `zoneout`, by a mask of its own for every step.

    Parameters
    ----------
    input_size, hidden_size : int
        C and H: how many features an input and a state have.
    num_layers : int
        Each layer runs over the output of the one before.
    bias : bool
        Whether there are the biases ``b_ih`` and ``b_hh``.
    batch_first : bool
        Whether input and output are (N, T, C) instead of (T, N, C); states are (layers, N, H) in any case.
    dropout : float
        Between the layers, that is on the outputs of all but the last: PyTorch's argument. Here the mask is locked over
        time, one per sequence and feature; PyTorch's changes from step to step.
    bidirectional : bool
        Whether each layer runs over the sequence in both directions, with weights for each; the outputs stand side by
        side, forward first.
    dropout_input, dropout_output : float
        On the input of the first layer and on the output of the last, locked over time too. `h_n` is not dropped.
    dropout_recurrent : float
        On the state that enters the recurrent product ``W_hh h``, of each layer and direction: one mask per sequence
        and unit, the same at every step and for all gates. The state that is carried on is neither dropped nor scaled.
    zoneout, zoneout_cell : float
        The probability that a unit of h, of c, keeps its last value at a step.
    dtype : dtype
        Of the parameters; input and states must have the same.
    generator : fastdrop.Generator, optional
        Where the initial weights come from (one call) and then the masks; by default `fastdrop.default_generator()`.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 : Parameter
        Shapes (4 H, C), (4 H, H), (4 H,), (4 H,), gates in the order i, f, g, o; at first uniform in +-1/sqrt(H). So on
        with ``_l1``, ..., whose C is the output's width, and with ``_reverse`` behind. Names, shapes and order are
        PyTorch's: a state dict loads either way.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Notes
    -----
    In evaluation all dropout is the identity, and no random number is drawn; zoneout is then its expectation,
    ``p * old + (1 - p) * new``. A forward pass in training takes one call of the generator for each probability above
    0, in this order: `dropout_input` (N, C); for each layer and direction `dropout_recurrent` (N, H), `zoneout`
    (T, N, H) and `zoneout_cell` (T, N, H); `dropout` after each layer but the last, and `dropout_output`, both
    (N, directions * H). The masks are those of `Generator.mask` for these shapes, the same bits on every machine. N is
    1 for an input without a batch. Zoneout's masks of the reverse direction stand in the order of the sequence.

    References
    ----------
    Hochreiter, Schmidhuber, "Long short-term memory", Neural Computation 9 (1997). Gal, Ghahramani, "A theoretically
    grounded application of dropout in recurrent neural networks", NeurIPS 2016. Krueger et al., "Zoneout: regularizing
    RNNs by randomly preserving hidden activations", ICLR 2017; as there, the h of a step is made from the c before
    zoneout.

    Examples
    --------
    >>> from fastdrop import nn
    >>> layer = nn.LSTM(8, 16, num_layers=2, dropout=0.3, dropout_recurrent=0.2)
    >>> layer
    LSTM(8, 16, num_layers=2, dropout=0.3, dropout_recurrent=0.2)
    >>> output, (h_n, c_n) = layer(nn.randn(50, 4, 8))
    >>> output.shape, h_n.shape, c_n.shape
    ((50, 4, 16), (2, 4, 16), (2, 4, 16))
    """

    _cell = LSTMCell
    _rates = (*_Recurrent._rates, "zoneout_cell")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dropout_input: float = 0.0,
        dropout_output: float = 0.0,
        dropout_recurrent: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, bidirectional, dtype, generator, dropout=dropout,
            dropout_input=dropout_input, dropout_output=dropout_output, dropout_recurrent=dropout_recurrent,
            zoneout=zoneout, zoneout_cell=zoneout_cell,
        )  # fmt: skip


class GRU(_Recurrent):
    r"""Gated recurrent units, with dropout that is locked over time, and zoneout.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} (m \odot h_{t-1}) + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} (m \odot h_{t-1}) + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t (W_{hn} (m \odot h_{t-1}) + b_{hn})) \\
        h_t &= (1 - z_t) n_t + z_t h_{t-1}

    with m the mask of `dropout_recurrent`, scaled by 1 / (1 - p). Parameters, notes and errors are `LSTM`'s, but for
    `zoneout_cell`, as there is no cell. Weights are (3 H, C) and (3 H, H), gates in the order r, z, n.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", EMNLP
    2014, with the reset gate behind the product, as in PyTorch. For dropout and zoneout see `LSTM`.

    Examples
    --------
    >>> from fastdrop import nn
    >>> output, h_n = nn.GRU(8, 16, batch_first=True, bidirectional=True, dropout_input=0.2)(nn.randn(4, 50, 8))
    >>> output.shape, h_n.shape
    ((4, 50, 32), (2, 4, 16))
    """

    _cell = GRUCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dropout_input: float = 0.0,
        dropout_output: float = 0.0,
        dropout_recurrent: float = 0.0,
        zoneout: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, bidirectional, dtype, generator, dropout=dropout,
            dropout_input=dropout_input, dropout_output=dropout_output, dropout_recurrent=dropout_recurrent,
            zoneout=zoneout,
        )  # fmt: skip


class RNN(_Recurrent):
    r"""The plain recurrent layer, with dropout that is locked over time, and zoneout.

    .. math:: h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} (m \odot h_{t-1}) + b_{hh})

    with m the mask of `dropout_recurrent`, scaled by 1 / (1 - p). Parameters, notes and errors are `LSTM`'s, but for
    `zoneout_cell`, as there is no cell, and `nonlinearity`. Weights are (H, C) and (H, H).

    Parameters
    ----------
    nonlinearity : {"tanh", "relu"}

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14 (1990). For dropout and zoneout see `LSTM`.

    Examples
    --------
    >>> from fastdrop import nn
    >>> output, h_n = nn.RNN(8, 16, nonlinearity="relu")(nn.randn(50, 8))
    >>> output.shape, h_n.shape
    ((50, 16), (1, 16))
    """

    _cell = TanhCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dropout_input: float = 0.0,
        dropout_output: float = 0.0,
        dropout_recurrent: float = 0.0,
        zoneout: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(nonlinearity, str) or nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {shown(nonlinearity)}")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, bidirectional, dtype, generator, dropout=dropout,
            dropout_input=dropout_input, dropout_output=dropout_output, dropout_recurrent=dropout_recurrent,
            zoneout=zoneout,
        )  # fmt: skip
        self.nonlinearity = nonlinearity
        if nonlinearity == "relu":
            self._cell = ReLUCell


def _check_rate(name: str, p: Any) -> float:
    value = check_real(name, p, "a probability, between 0 and 1,")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} has to be a probability, between 0 and 1, but got {shown(p)}")
    return value


def _described(hx: Any) -> str:
    return f"a {type(hx).__name__}" + (f" of {len(hx)}" if isinstance(hx, (tuple, list)) else "")
