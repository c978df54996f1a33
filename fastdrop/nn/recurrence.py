"""Recurrence on plain arrays: the arithmetic under `RNN`, `LSTM` and `GRU`, forward and backward through time.

A `Recurrence` is one layer in one direction. It does what all cells have in common: the product of all inputs with
their weights as one matrix product, the loop over the steps, the masks, and after the loop back the gradients of the
weights as one product over all steps. A `Cell` adds what happens within a step.

Masks are applied to what enters the recurrent product, never to a state itself: what is carried on, handed out and
blended is unscaled, so no state is scaled twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastdrop import Mask
from fastdrop.nn.autograd import Array


@dataclass(frozen=True)
class Share:
    """A mask, and the factor of what it keeps (None: its own, 1 / (1 - p)).

    Dropout is a share of a state. Zoneout is a share of the new state, the rest of it staying the old one: in training
    under a mask with factor 1, in evaluation under a mask that keeps all with factor 1 - p.
    """

    mask: Mask
    scale: float | None = None

    def of(self, x: Array, out: Array | None = None) -> Array:
        """Return the share of `x`, which has the mask's shape."""
        return self.mask.apply(x, out, scale=self.scale)

    def steps(self) -> list[Share]:
        """Return the shares along the first axis."""
        return [Share(mask, self.scale) for mask in self.mask]


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer and direction, gates along the first axis; the biases are given both or neither."""

    ih: Array
    hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None


class Cell:
    """One step of a kind of recurrence, with room for what `steps` steps have to remember.

    Gates come first in its arrays, so that each is one run of memory. A sigmoid is ``tanh(v / 2) / 2 + 1 / 2``, which
    cannot overflow, and lets all gates take one tanh. The halving of v is done to the weights beforehand; it is a power
    of two, and so costs no accuracy.

    Parameters
    ----------
    steps, batch, hidden : int
    dtype : dtype

    Attributes
    ----------
    gates : ndarray, shape (steps, gates, batch, hidden)
    """

    #: For each gate whether its activation is a sigmoid.
    sigmoids: ClassVar[tuple[bool, ...]]
    #: How many of the gates, the first ones, take the sum of the input's and the state's product.
    added: ClassVar[int]
    #: How many states a step hands to the next: h, or h and c.
    states: ClassVar[int] = 1

    def __init__(self, steps: int, batch: int, hidden: int, dtype: np.dtype[Any]) -> None:
        self.gates = np.empty((steps, len(self.sigmoids), batch, hidden), dtype)
        self.scratch = np.empty((batch, hidden), dtype)

    def forward(self, t: int, given: Array, product: Array, old: Sequence[Array], new: Sequence[Array]) -> None:
        """Turn the sums in ``gates[t]`` into the gates of step `t`, and write the states after it into `new`.

        Parameters
        ----------
        t : int
        given, product : ndarray, shape (gates - added, batch, hidden)
            What the input and the state, with their weights and biases, give to those gates that do not add them.
        old, new : sequences of ndarray, each of shape (batch, hidden)
        """
        raise NotImplementedError

    def backward(
        self, t: int, old: Sequence[Array], dnew: Sequence[Array], dold: Sequence[Array], dgates: Array, dproduct: Array
    ) -> None:
        """Write the gradients of both products; add those of the states that go past the products to `dold`.

        Parameters
        ----------
        t : int
        old : sequence of ndarray
            As in `forward`.
        dnew : sequence of ndarray
            The gradients of what `forward` wrote; may be overwritten.
        dold : sequence of ndarray
        dgates, dproduct : ndarray, shape (gates, batch, hidden)
            Of the input's and of the state's product; one array where all gates add them.
        """
        raise NotImplementedError


class TanhCell(Cell):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``"""

    sigmoids = (False,)
    added = 1

    def forward(self, t: int, given: Array, product: Array, old: Sequence[Array], new: Sequence[Array]) -> None:
        new[0][...] = np.tanh(self.gates[t, 0], out=self.gates[t, 0])

    def backward(
        self, t: int, old: Sequence[Array], dnew: Sequence[Array], dold: Sequence[Array], dgates: Array, dproduct: Array
    ) -> None:
        _tanh_slope(self.gates[t, 0], dgates[0])
        dgates[0] *= dnew[0]


class ReLUCell(TanhCell):
    """``h' = max(W_ih x + b_ih + W_hh h + b_hh, 0)``"""

    def forward(self, t: int, given: Array, product: Array, old: Sequence[Array], new: Sequence[Array]) -> None:
        new[0][...] = np.maximum(self.gates[t, 0], 0, out=self.gates[t, 0])

    def backward(
        self, t: int, old: Sequence[Array], dnew: Sequence[Array], dold: Sequence[Array], dgates: Array, dproduct: Array
    ) -> None:
        np.multiply(dnew[0], self.gates[t, 0] > 0, out=dgates[0])


class LSTMCell(Cell):
    """``c' = f c + i g``, ``h' = o tanh(c')``; i, f and o are sigmoids, g a tanh, in the order i, f, g, o."""

    sigmoids = (True, True, False, True)
    added = 4
    states = 2

    def __init__(self, steps: int, batch: int, hidden: int, dtype: np.dtype[Any]) -> None:
        super().__init__(steps, batch, hidden, dtype)
        self.tanh_c = np.empty((steps, batch, hidden), dtype)

    def forward(self, t: int, given: Array, product: Array, old: Sequence[Array], new: Sequence[Array]) -> None:
        gates = self.gates[t]
        np.tanh(gates, out=gates)
        _from_tanh(gates[:2])
        _from_tanh(gates[3])
        i, f, g, o = gates
        np.multiply(f, old[1], out=new[1])
        np.add(new[1], np.multiply(i, g, out=self.scratch), out=new[1])
        np.multiply(o, np.tanh(new[1], out=self.tanh_c[t]), out=new[0])

    def backward(
        self, t: int, old: Sequence[Array], dnew: Sequence[Array], dold: Sequence[Array], dgates: Array, dproduct: Array
    ) -> None:
        (dh, dc), scratch, tanh_c = dnew, self.scratch, self.tanh_c[t]
        i, f, g, o = self.gates[t]
        di, df, dg, do = dgates
        _tanh_slope(tanh_c, scratch)
        scratch *= o
        scratch *= dh
        dc += scratch
        _sigmoid_slope(self.gates[t], dgates)
        _tanh_slope(g, dg)
        di *= np.multiply(g, dc, out=scratch)
        df *= np.multiply(old[1], dc, out=scratch)
        dg *= np.multiply(i, dc, out=scratch)
        do *= np.multiply(tanh_c, dh, out=scratch)
        np.add(dold[1], np.multiply(f, dc, out=scratch), out=dold[1])


class GRUCell(Cell):
    """``h' = n + z (h - n)``, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``; sigmoids r and z; order r, z, n."""

    sigmoids = (True, True, False)
    added = 2

    def __init__(self, steps: int, batch: int, hidden: int, dtype: np.dtype[Any]) -> None:
        super().__init__(steps, batch, hidden, dtype)
        self.inner = np.empty((steps, batch, hidden), dtype)

    def forward(self, t: int, given: Array, product: Array, old: Sequence[Array], new: Sequence[Array]) -> None:
        switches, inner = self.gates[t, :2], self.inner[t]
        np.tanh(switches, out=switches)
        _from_tanh(switches)
        r, z, n = self.gates[t]
        inner[...] = product[0]
        np.add(given[0], np.multiply(r, inner, out=n), out=n)
        np.tanh(n, out=n)
        np.subtract(old[0], n, out=new[0])
        np.multiply(new[0], z, out=new[0])
        np.add(new[0], n, out=new[0])

    def backward(
        self, t: int, old: Sequence[Array], dnew: Sequence[Array], dold: Sequence[Array], dgates: Array, dproduct: Array
    ) -> None:
        (dh,), scratch = dnew, self.scratch
        r, z, n = self.gates[t]
        dr, dz, dn = dgates
        _sigmoid_slope(self.gates[t], dgates)
        _tanh_slope(n, dn)
        dz *= np.subtract(old[0], n, out=scratch)
        dz *= dh
        dn *= np.subtract(1, z, out=scratch)
        dn *= dh
        dr *= np.multiply(self.inner[t], dn, out=scratch)
        dproduct[:2] = dgates[:2]
        np.multiply(r, dn, out=dproduct[2])
        np.add(dold[0], np.multiply(z, dh, out=scratch), out=dold[0])


class Recurrence:
    """A cell run over a sequence; `backward` runs it back.

    Parameters
    ----------
    kind : type of Cell
    x : ndarray, shape (T, N, C)
    initial : sequence of ndarray, each of shape (N, H)
        What the first step starts from: h, and for an LSTM c.
    weights : Weights
    recurrent : Share, optional
        Of shape (N, H): dropout on the state that enters the recurrent product, the same at each step.
    zoneout : sequence of (Share or None), optional
        Each of shape (T, N, H), for each state: the share of the new state, the rest stays the old one.

    Attributes
    ----------
    result : ndarray, shape (T, N, H), or (T + 1, N, H) for an LSTM
        h after each step, and then c after the last one: one array, since the tape takes one.
    """

    def __init__(
        self,
        kind: type[Cell],
        x: Array,
        initial: Sequence[Array],
        weights: Weights,
        recurrent: Share | None = None,
        zoneout: Sequence[Share | None] = (),
    ) -> None:
        steps, batch, features = x.shape
        hidden = weights.hh.shape[1]
        self.weights, self.recurrent = weights, recurrent
        self.steps, self.shape = steps, (batch, hidden)
        self.zoneout = [None if share is None else share.steps() for share in zoneout] or [None] * kind.states
        self.cell = kind(steps, batch, hidden, x.dtype)
        self.rows = x.reshape(-1, features)

        # The state before a step and that after it are neighbours, so all "before" are one array, as are all "after".
        h = np.empty((steps + kind.states, batch, hidden), x.dtype)
        self.states = [h, *(np.empty((steps + 1, batch, hidden), x.dtype) for _ in range(1, kind.states))]
        for state, start in zip(self.states, initial, strict=True):
            state[0] = start
        self.result = h[1:]
        self._forward()
        for place, state in enumerate(self.states[1:], steps):
            self.result[place] = state[steps]

    def _forward(self) -> None:
        cell, (batch, hidden), width = self.cell, self.shape, len(self.weights.hh)
        dtype, added = cell.gates.dtype, cell.added
        halving = np.where(np.repeat(cell.sigmoids, hidden), 0.5, 1).astype(dtype)
        given = self.rows @ (self.weights.ih * halving[:, None]).T
        alone: Array | None = None
        if self.weights.bias_ih is not None and self.weights.bias_hh is not None:
            bias, other = self.weights.bias_ih * halving, self.weights.bias_hh * halving
            bias[: added * hidden] += other[: added * hidden]
            given += bias
            alone = other[added * hidden :]
        matrix = np.ascontiguousarray((self.weights.hh * halving[:, None]).T)
        product = np.empty((batch, width), dtype)
        masked = np.empty(self.shape, dtype)
        given_by_gate, product_by_gate = _by_gate(given, self.steps, hidden), _by_gate(product, 1, hidden)[0]
        for t in range(self.steps):
            old, new = [state[t] for state in self.states], [state[t + 1] for state in self.states]
            np.matmul(old[0] if self.recurrent is None else self.recurrent.of(old[0], masked), matrix, out=product)
            if alone is not None and len(alone):
                product[:, added * hidden :] += alone
            np.add(given_by_gate[t, :added], product_by_gate[:added], out=cell.gates[t, :added])
            cell.forward(t, given_by_gate[t, added:], product_by_gate[added:], old, new)
            for shares, before, after in zip(self.zoneout, old, new, strict=True):
                if shares is not None:
                    shares[t].of(after, after)
                    # In this order a unit that is replaced, or one that stays, is so to the bit.
                    after += np.subtract(before, shares[t].of(before, masked), out=masked)

    def backward(self, dresult: Array, need_dx: bool = True) -> tuple[Array | None, list[Array], Weights]:
        """Return the gradients of x (None unless wanted), of the initial states, and of the weights.

        Parameters
        ----------
        dresult : ndarray
            The gradient of `result`.
        need_dx : bool
        """
        cell, (batch, hidden), steps, width = self.cell, self.shape, self.steps, len(self.weights.hh)
        dtype, separate = cell.gates.dtype, cell.added < len(cell.sigmoids)
        dgiven = np.empty((steps * batch, width), dtype)
        dproduct = np.empty_like(dgiven) if separate else dgiven
        step_given = np.empty(cell.gates.shape[1:], dtype)
        step_product = np.empty_like(step_given) if separate else step_given
        given_by_gate, product_by_gate = (_by_gate(d, steps, hidden) for d in (dgiven, dproduct))
        dnew = [np.zeros(self.shape, dtype), *dresult[steps:].astype(dtype)]
        dold, made = [np.empty_like(d) for d in dnew], [np.empty_like(d) for d in dnew]
        through = np.empty_like(dnew[0])
        for t in reversed(range(steps)):
            dnew[0] += dresult[t]
            dmade = list(dnew)
            for k, shares in enumerate(self.zoneout):
                if shares is None:
                    dold[k].fill(0)
                else:
                    dmade[k] = shares[t].of(dnew[k], made[k])
                    np.subtract(dnew[k], dmade[k], out=dold[k])
            cell.backward(t, [state[t] for state in self.states], dmade, dold, step_given, step_product)
            given_by_gate[t] = step_given
            if separate:
                product_by_gate[t] = step_product
            np.matmul(dproduct[t * batch : (t + 1) * batch], self.weights.hh, out=through)
            dold[0] += through if self.recurrent is None else self.recurrent.of(through, through)
            dnew, dold = dold, dnew
        ones = np.ones(len(dgiven), dtype)  # A matrix product sums columns faster than `sum` does.
        bias_ih = ones @ dgiven
        gradients = Weights(
            dgiven.T @ self.rows,
            dproduct.T @ self._entered().reshape(-1, hidden),
            bias_ih,
            ones @ dproduct if separate else bias_ih,
        )
        dx = (dgiven @ self.weights.ih).reshape(steps, batch, self.rows.shape[1]) if need_dx else None
        return dx, dnew, gradients

    def _entered(self) -> Array:
        """Return what entered the recurrent product at each step."""
        before = self.states[0][: self.steps]
        if self.recurrent is None:
            return before
        return Share(self.recurrent.mask.broadcast_to(before.shape), self.recurrent.scale).of(before)


def _by_gate(rows: Array, steps: int, hidden: int) -> Array:
    """View (steps * batch, gates * hidden) as (steps, gates, batch, hidden)."""
    view: Array = rows.reshape(steps, len(rows) // steps, rows.shape[1] // hidden, hidden).swapaxes(1, 2)
    return view


def _from_tanh(gates: Array) -> None:
    """Turn tanh(v / 2) into the sigmoid of v."""
    np.multiply(gates, 0.5, out=gates)
    np.add(gates, 0.5, out=gates)


def _tanh_slope(y: Array, out: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1, out, out=out)


def _sigmoid_slope(y: Array, out: Array) -> None:
    np.multiply(y, y, out=out)
    np.subtract(y, out, out=out)
