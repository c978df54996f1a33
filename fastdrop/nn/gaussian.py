"""Gaussian dropout and Gaussian noise: as functions on tensors, which `nn.functional` has too, and as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._checks import check_flags
from fastdrop._core import Generator
from fastdrop.functional import check_p
from fastdrop.gaussian import check_std, dropout_std
from fastdrop.nn.autograd import check_inplace
from fastdrop.nn.batch import part_of, whole
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.dropouts import checked_input, dropout, masked
from fastdrop.nn.module import Module
from fastdrop.random import check_generator, chosen_generator

if TYPE_CHECKING:
    from fastdrop.nn.tensor import Tensor

__all__ = ["GaussianDropout", "GaussianNoise", "gaussian_dropout", "gaussian_noise"]


def _apply(name: str, x: Tensor, sigma: float, kind: str, inplace: bool, generator: Generator | None) -> Tensor:
    if inplace:
        check_inplace(x, name)
    noise = part_of(chosen_generator(generator).noise(whole(x.array.shape)), x.array.shape)
    return masked(
        name,
        x,
        inplace,
        lambda a, out: noise.apply(a, out, sigma=sigma, kind=kind),
        (lambda dy: noise.apply(dy, sigma=sigma)) if kind == "multiplicative" else (lambda dy: dy),
    )


def gaussian_dropout(
    input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Multiply each element by a normal factor of mean 1, in training; see `fastdrop.gaussian_dropout`.

    The factor's variance is p / (1 - p). The gradient is the same operation on `dy`, with the same factors: noise is a
    value of the generator, never an array, and backward makes its normals again.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype.
    p : float
        The probability to drop of the dropout that it stands for, 0 <= p <= 1; ``p=1`` gives zeros.
    training : bool
        Outside training the input itself is returned.
    inplace : bool
        Overwrite `input` and return it.
    generator : fastdrop.Generator, optional
        Where the noise comes from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError
        If `p` is out of range.
    TypeError
        If `p` is no number, or `input` has no floating dtype.
    RuntimeError
        With `inplace`, if backward needs the values that would be overwritten, or `input` is a leaf.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_dropout(np.ones(3, np.float32), p=0.0)
    tensor([1., 1., 1.])
    """
    p = check_p(p)
    x = checked_input("gaussian_dropout", input, training, inplace, generator)
    if not training or p == 0:
        return x
    if p == 1:
        return dropout(x, p, True, inplace, generator=generator)
    return _apply("gaussian_dropout", x, dropout_std(p), "multiplicative", inplace, generator)


def gaussian_noise(
    input: Any, std: float = 1.0, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Add normal noise of standard deviation `std`, in training; see `fastdrop.gaussian_noise`. The gradient is `dy`.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype.
    std : float
        Finite and not negative.
    training, inplace, generator
        As for `gaussian_dropout`.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If `std` is no such number; else as `gaussian_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_noise(np.ones(3, np.float32), std=0.1, training=False)
    tensor([1., 1., 1.])
    """
    std = check_std(std)
    x = checked_input("gaussian_noise", input, training, inplace, generator)
    if not training or std == 0:
        return x
    return _apply("gaussian_noise", x, std, "additive", inplace, generator)


class GaussianDropout(DropoutBase):
    """In training, multiplies each element by a normal factor of mean 1; see `fastdrop.gaussian_dropout`.

    Parameters
    ----------
    p : float
        The probability to drop of the dropout that it stands for, 0 <= p <= 1.
    inplace, generator
        As of `Dropout`.

    Examples
    --------
    >>> GaussianDropout(0.3)
    GaussianDropout(p=0.3, inplace=False)
    """

    _function = staticmethod(gaussian_dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__(p, inplace, generator)


class GaussianNoise(Module):
    """In training, adds normal noise; see `fastdrop.gaussian_noise`.

    Parameters
    ----------
    std : float
        Standard deviation of the noise, finite and not negative.
    inplace, generator
        As of `Dropout`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; `std` is checked again at each call, since it may be assigned.

    Examples
    --------
    >>> GaussianNoise(0.1)
    GaussianNoise(std=0.1, inplace=False)
    """

    def __init__(self, std: float = 1.0, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__()
        check_std(std)
        check_generator(generator)
        self.std = std
        check_flags(inplace=inplace)
        self.inplace = inplace
        self.generator = generator

    def forward(self, input: Any) -> Tensor:
        return gaussian_noise(input, self.std, self.training, self.inplace, generator=self.generator)

    def extra_repr(self) -> str:
        return f"std={self.std}, inplace={self.inplace}"
