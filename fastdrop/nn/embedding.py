"""Embeddings: rows of a matrix, looked up by number; with dropout of word types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastdrop._checks import check_flags, check_int, check_p
from fastdrop._core import Generator
from fastdrop.functional import KEEP_ALL
from fastdrop.nn.autograd import Array, record
from fastdrop.nn.creation import randn
from fastdrop.nn.module import Module, Parameter
from fastdrop.nn.tensor import Tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Embedding", "embedding"]


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    *,
    dropout: float = 0.0,
    training: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """Return the rows of `weight` that the tokens name, some word types dropped where `dropout` is given.

    With dropout the result is that of ``embedding(input, embedding_dropout(weight, dropout))``, values and gradients,
    but only the rows that are looked up are scaled or dropped.

    Parameters
    ----------
    input : Tensor or ndarray of int
        Numbers of rows, any shape.
    weight : Tensor or ndarray
        Shape (V, D), floating dtype.
    padding_idx : int, optional
        A row that takes no gradient; negative numbers count from the end.
    dropout : float
        The probability to drop a word type: all its occurrences give zeros, the others are scaled by 1 / (1 - p).
    training : bool
        Nothing is dropped outside of training.
    generator : fastdrop.Generator, optional
        Where the decisions come from, one for each of the V rows; by default `fastdrop.default_generator()`.

    Returns
    -------
    Tensor
        Shape (*input.shape, D).

    Raises
    ------
    IndexError
        If a token is negative or not below V.
    TypeError, ValueError, RuntimeError
        If a dtype, `padding_idx`, `dropout` or the weight's shape does not fit.

    References
    ----------
    Gal, Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NeurIPS 2016.

    Examples
    --------
    >>> import fastdrop
    >>> weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> embedding(np.array([2, 0]), weight)
    tensor([[4., 5.],
            [0., 1.]])
    >>> embedding(np.array([2, 0, 2]), weight, dropout=0.5, generator=fastdrop.Generator(0))
    tensor([[0., 0.],
            [0., 2.],
            [0., 0.]])
    """
    tokens, w = named_tensor(input, "input"), named_tensor(weight, "weight")
    p = check_p(dropout)
    if w.array.ndim != 2 or w.array.dtype.kind != "f":
        raise RuntimeError(
            f"embedding: weight must have shape (V, D) and a floating dtype, got {w.array.shape} of {w.array.dtype}"
        )
    if tokens.array.dtype.kind not in "iu":
        raise TypeError(f"embedding: tokens must be integers, got {tokens.array.dtype}; convert them with .long()")
    rows, width = w.array.shape
    padding = _row("padding_idx", padding_idx, rows)
    check_flags(training=training)
    check_generator(generator)
    if tokens.array.size:
        for extreme in (tokens.array.min(), tokens.array.max()):
            if not 0 <= extreme < rows:
                raise IndexError(f"embedding: token {extreme} is out of range for {rows} rows (0 to {rows - 1})")
    index = tokens.array.astype(np.intp, copy=False)
    y = np.take(w.array, index, axis=0)
    kept: Array | None = None
    if training and p > 0:
        mask = chosen_generator(generator).mask((rows, 1), p)
        kept = np.asarray(mask)[index, 0]
        _scale(y, p)
        y[~kept] = 0

    def function(dy: Array) -> tuple[None, Array]:
        counted = np.ones(index.shape, np.bool_) if kept is None else kept
        if padding is not None:
            counted = counted & (index != padding)
        types, sums = _summed(index[counted], dy[counted], w.array.dtype)
        if kept is not None:
            _scale(sums, p)
        dw = np.zeros((rows, width), w.array.dtype)
        dw[types] = sums
        return None, dw

    return record("embedding", y, (tokens, w), function, saved=(tokens,))


def _row(name: str, value: Any, rows: int) -> int | None:
    return None if value is None else check_int(name, value, -rows, rows - 1) % rows


def _scale(rows: Array, p: float) -> None:
    """Multiply by 1 / (1 - p) in place, rounded as a mask's apply does."""
    KEEP_ALL.apply(rows, rows, scale=1.0 / (1.0 - p) if p < 1 else 0.0)


def _summed(types: Array, gradients: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return each type once, and the sum of its gradients; `np.add.at` takes many times as long."""
    order = np.argsort(types, kind="stable")
    ordered = types[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    wide = np.float32 if dtype.itemsize == 2 else dtype
    sums = np.add.reduceat(gradients[order], starts, axis=0, dtype=wide)
    return ordered[starts], sums.astype(dtype, copy=False)


class Embedding(Module):
    """A row of numbers for each of `num_embeddings` words; see `functional.embedding`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        V and D.
    padding_idx : int, optional
        A row that starts as zeros and takes no gradient; negative numbers count from the end.
    dropout : float
        The probability to drop a word type in training, at all its occurrences in a call.
    dtype : dtype
        Of the weight.
    generator : fastdrop.Generator, optional
        Where the initial weights, and then the decisions of `dropout`, come from; by default
        `fastdrop.default_generator()`.

    Attributes
    ----------
    weight : Parameter
        Shape (V, D), standard normal at first.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    Examples
    --------
    >>> layer = Embedding(10, 3, padding_idx=0, dropout=0.1)
    >>> layer
    Embedding(10, 3, padding_idx=0, dropout=0.1)
    >>> layer(np.array([[1, 2, 0]])).shape
    (1, 3, 3)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dropout: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = check_int("num_embeddings", num_embeddings, 1, 2**63 - 1)
        self.embedding_dim = check_int("embedding_dim", embedding_dim, 1, 2**63 - 1)
        self.padding_idx = _row("padding_idx", padding_idx, self.num_embeddings)
        check_p(dropout)
        check_generator(generator)
        self.dropout = dropout
        self.generator = generator
        weight = randn(self.num_embeddings, self.embedding_dim, dtype=dtype, generator=generator)
        if self.padding_idx is not None:
            weight.array[self.padding_idx] = 0
        self.weight = Parameter(weight)

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None, *, dropout: float = 0.0
    ) -> Embedding:
        """Make an embedding over a (V, D) matrix, whose memory it shares; by default it is not trained.

        Examples
        --------
        >>> Embedding.from_pretrained(np.eye(3, dtype=np.float32))(np.array([1]))
        tensor([[0., 1., 0.]])
        """
        weight = named_tensor(embeddings, "embeddings")
        if weight.array.ndim != 2:
            raise ValueError(f"embeddings must have shape (V, D), got {weight.array.shape}")
        layer = cls.__new__(cls)
        Module.__init__(layer)
        layer.num_embeddings, layer.embedding_dim = weight.array.shape
        layer.padding_idx = _row("padding_idx", padding_idx, layer.num_embeddings)
        layer.dropout = check_p(dropout)
        layer.generator = None
        layer.weight = Parameter(weight, requires_grad=not freeze)
        return layer

    def forward(self, input: Any) -> Tensor:
        return embedding(
            input,
            self.weight,
            self.padding_idx,
            dropout=self.dropout,
            training=self.training,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return f"{text}, dropout={self.dropout}" if self.dropout else text
