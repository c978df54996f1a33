"""What can be added to a network or its training, written as ``dropout=0.5+max-norm=3``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..functional import check_p

__all__ = ["REGULARIZERS", "Plan", "Regularizer", "parse", "parts_of"]


@dataclass(frozen=True)
class Regularizer:
    """One thing that can be asked for by name.

    Attributes
    ----------
    about : str
        What it does, in a few words.
    value : float or None
        What stands behind ``=`` unless told; None: it takes no value.
    unit : str
        What the value is.
    drops : bool
        Whether it is noise in the network, with `value` the probability p: a network takes at most one of these.
    """

    about: str
    value: float | None
    unit: str = ""
    drops: bool = False


def _noise(about: str, p: float = 0.5) -> Regularizer:
    return Regularizer(about, p, "p", True)


#: By name. Which of them a model takes is the model's to say.
REGULARIZERS = {
    "dropout": _noise("each unit (Srivastava et al. 2014)"),
    "spatial": _noise("whole feature maps, and units of dense layers (Tompson et al. 2015)", 0.2),
    "dropblock": _noise("blocks of feature maps, and units of dense layers (Ghiasi et al. 2018)", 0.2),
    "gaussian": _noise("each unit times a normal factor of the same variance as dropout's (Srivastava et al. 2014)"),
    "alpha": _noise("each unit to SELU's lowest value, mean and variance kept (Klambauer et al. 2017)", 0.1),
    "variational": _noise("the same units at every step, inputs, states and outputs (Gal, Ghahramani 2016)", 0.25),
    "zoneout": _noise("units of the state that keep their value (Krueger et al. 2017)", 0.1),
    "dropconnect": _noise("each weight, for each example (Wan et al. 2013); recurrent weights, for the batch"),
    "batch-norm": Regularizer("batch normalisation before each activation (Ioffe, Szegedy 2015)", None),
    "l2": Regularizer("half the squared norm of all weights and biases times the value, in the loss", 1e-4, "factor"),
    "max-norm": Regularizer("a bound on the norm of what comes into each unit (Srebro et al. 2005)", 3.0, "norm"),
    "label-smoothing": Regularizer("targets mixed with the uniform distribution (Szegedy et al. 2016)", 0.1, "share"),
    "early-stopping": Regularizer("the weights of the epoch of lowest validation loss (Prechelt 1998)", 5, "patience"),
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A regularizer, or several, as numbers.

    Attributes
    ----------
    noise : str or None
        Which of those that drop.
    p : float
        Its probability to drop.
    batch_norm : bool
    l2, max_norm, label_smoothing : float
        0 for none.
    patience : int or None
        Of early stopping; None for none.

    Examples
    --------
    >>> plan = parse("dropout+max-norm=2")
    >>> plan
    Plan(noise='dropout', p=0.5, batch_norm=False, l2=0.0, max_norm=2.0, label_smoothing=0.0, patience=None)
    >>> plan.text, plan.label
    ('dropout=0.5+max-norm=2', 'dropout p=0.5 + max-norm 2')
    """

    noise: str | None = None
    p: float = 0.0
    batch_norm: bool = False
    l2: float = 0.0
    max_norm: float = 0.0
    label_smoothing: float = 0.0
    patience: int | None = None

    @property
    def parts(self) -> tuple[tuple[str, float | None], ...]:
        """Names and values, in the order of `REGULARIZERS`."""
        found = [
            (self.noise or "", self.p, self.noise is not None),
            ("batch-norm", None, self.batch_norm),
            ("l2", self.l2, self.l2 > 0),
            ("max-norm", self.max_norm, self.max_norm > 0),
            ("label-smoothing", self.label_smoothing, self.label_smoothing > 0),
            ("early-stopping", self.patience, self.patience is not None),
        ]
        return tuple((name, value) for name, value, there in found if there)

    @property
    def text(self) -> str:
        """As `parse` reads it, every value told."""
        return "+".join(name if value is None else f"{name}={_exactly(value)}" for name, value in self.parts) or "none"

    @property
    def family(self) -> str:
        """The same without its values."""
        return "+".join(name for name, _ in self.parts) or "none"

    @property
    def label(self) -> str:
        """The same for people."""
        words = []
        for name, value in self.parts:
            given = "" if value is None else f" p={value:g}" if REGULARIZERS[name].drops else f" {value:g}"
            words.append(name + given)
        return " + ".join(words) or "none"


def _exactly(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def parts_of(text: str) -> list[str]:
    """Take a text apart at each ``+`` that joins names; that of ``1e+06`` stands before a digit.

    Examples
    --------
    >>> parts_of("dropout + max-norm=1e+06")
    ['dropout', 'max-norm=1e+06']
    """
    return [part.strip() for part in re.split(r"\+(?!\d)", text)]


def parse(text: str) -> Plan:
    """Read a regularizer: names of `REGULARIZERS` joined by ``+``, each with ``=value`` where it takes one.

    Parameters
    ----------
    text : str
        ``"none"``, ``"dropout"``, ``"dropout=0.3"``, ``"batch-norm+dropout=0.2+l2=1e-3"``.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        Where a name is unknown or there twice, a value is out of range, or two of them drop.

    Examples
    --------
    >>> parse("none").parts
    ()
    >>> parse("dropuot")
    Traceback (most recent call last):
    ValueError: regularizer 'dropuot': there is none of that name; there are none, dropout, spatial, dropblock, \
gaussian, alpha, variational, zoneout, dropconnect, batch-norm, l2, max-norm, label-smoothing, early-stopping
    """
    if not isinstance(text, str):
        raise TypeError(f"a regularizer is a text such as 'dropout=0.5+max-norm=3', but got {text!r}")
    if text.strip() == "none":
        return Plan()

    def wrong(why: str) -> ValueError:
        return ValueError(f"regularizer {text!r}: {why}")

    values: dict[str, float | None] = {}
    for part in parts_of(text):
        name, equals, given = (piece.strip() for piece in part.partition("="))
        if name not in REGULARIZERS:
            raise wrong(f"there is none of that name; there are none, {', '.join(REGULARIZERS)}")
        if name in values:
            raise wrong(f"{name} is there twice")
        value = REGULARIZERS[name].value
        if equals:
            if value is None:
                raise wrong(f"{name} takes no value, but got {given!r}")
            try:
                value = float(given)
            except ValueError:
                raise wrong(f"{name} takes a number, but got {given!r}") from None
        values[name] = value
    dropping = [name for name in values if REGULARIZERS[name].drops]
    if len(dropping) > 1:
        raise wrong(f"{' and '.join(dropping)} both drop: one of them has to do")
    try:
        return _plan(values, dropping[0] if dropping else None)
    except ValueError as error:
        raise wrong(str(error)) from None


def _plan(values: dict[str, float | None], noise: str | None) -> Plan:
    def number(name: str) -> float:
        value = values.get(name)
        return 0.0 if value is None else value

    p = check_p(number(noise)) if noise else 0.0
    if noise and not 0 < p < 1:
        raise ValueError(
            f"{noise} has to drop with a probability above 0 and below 1, but got {p:g}: for none say 'none'"
        )
    for name, bound in (("l2", math.inf), ("max-norm", math.inf), ("label-smoothing", 1.0)):
        if name in values and not 0 < number(name) < bound:
            raise ValueError(f"{name} has to be above 0 and below {bound:g}, but got {number(name):g}")
    patience = None
    if "early-stopping" in values:
        if not 0 <= number("early-stopping") < math.inf or number("early-stopping") % 1:
            raise ValueError(
                f"early-stopping's patience has to be a whole number of epochs, but got {number('early-stopping'):g}"
            )
        patience = int(number("early-stopping"))
    return Plan(noise, p, "batch-norm" in values, number("l2"), number("max-norm"), number("label-smoothing"), patience)
