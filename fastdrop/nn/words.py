"""Dropout of words on tensors; `fastdrop.words` has it on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastdrop
from fastdrop._checks import check_flags, check_int, check_p
from fastdrop.nn.autograd import check_inplace
from fastdrop.nn.batch import part_of, shared_batch, undivided, whole
from fastdrop.nn.dropout import DropoutBase
from fastdrop.nn.dropouts import dropout
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import chosen_generator
from fastdrop.words import embedding_shape

if TYPE_CHECKING:
    from fastdrop import Generator

__all__ = ["WordDropout", "embedding_dropout", "word_dropout"]


def word_dropout(
    input: Any,
    p: float = 0.1,
    training: bool = True,
    inplace: bool = False,
    *,
    unknown: int = 0,
    generator: Generator | None = None,
) -> Tensor:
    """Replace tokens by `unknown` with probability `p`; see `fastdrop.word_dropout`.

    Tokens are integers: nothing is recorded, and with `inplace` they are refused only where an embedding's backward
    still needs them.

    Examples
    --------
    >>> word_dropout([5, 6, 7, 8], 0.5, unknown=1, generator=fastdrop.Generator(0))
    tensor([5, 6, 1, 1])
    """
    check_flags(inplace=inplace)
    x = named_tensor(input, "input")
    if inplace:
        check_inplace(x, "word_dropout")
    if x.array.dtype.kind not in "iu":
        raise TypeError(f"word_dropout: tokens have to be integers, but got an input of {x.array.dtype}")
    out = x.array if inplace else None
    mask = None
    if shared_batch() and training and check_p(p) > 0:
        shape = x.array.shape
        mask, generator = part_of(chosen_generator(generator).mask(whole(shape), p), shape), None
    y = fastdrop.word_dropout(x.array, p, training, unknown=unknown, rng=generator, mask=mask, out=out)
    if y is not x.array:
        return Tensor(y)
    if inplace:
        x.storage.version += 1
    return x


def embedding_dropout(
    input: Any,
    p: float = 0.1,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Drop whole rows of an embedding matrix (V, D); see `fastdrop.embedding_dropout`, and `dropout` for the rest.

    Examples
    --------
    >>> import numpy as np
    >>> embedding_dropout(np.ones((2, 3), np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    x = named_tensor(input, "input")
    with undivided():
        return dropout(x, p, training, inplace, noise_shape=embedding_shape(x.array.shape), generator=generator)


class WordDropout(DropoutBase):
    """In training, replaces each token by `unknown` with probability `p`; see `fastdrop.word_dropout`.

    It goes before an `Embedding`. To drop a word type wherever it occurs, give the embedding a `dropout` of its own.

    Parameters
    ----------
    p : float
        The probability to replace a token, 0 <= p <= 1.
    unknown : int
        What stands for an unknown word.
    inplace, generator
        As of `Dropout`.

    Examples
    --------
    >>> WordDropout(0.2, unknown=1)
    WordDropout(p=0.2, inplace=False, unknown=1)
    """

    _function = staticmethod(word_dropout)

    def __init__(
        self, p: float = 0.1, unknown: int = 0, inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        super().__init__(p, inplace, generator, unknown=check_int("unknown", unknown, -(2**63), 2**64 - 1))
