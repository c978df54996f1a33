"""Every kind of dropout as a function on tensors; `nn.functional` has them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdrop._checks import check_flags
from fastdrop.broadcast import feature_shape, locked_shape, path_shape, token_shape
from fastdrop.functional import check_p, check_scaling, noise_shape_to_mask_shape
from fastdrop.nn import buffers
from fastdrop.nn.autograd import Array, check_inplace, record, record_inplace
from fastdrop.nn.batch import along, part_of, whole
from fastdrop.nn.creation import floating
from fastdrop.nn.tensor import Tensor, as_tensor, named_tensor
from fastdrop.random import check_generator, chosen_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastdrop import Generator, Mask

__all__ = ["drop_path", "dropout", "dropout1d", "dropout2d", "dropout3d", "locked_dropout", "token_dropout"]


def checked_input(
    name: str, input: Any, training: bool, inplace: bool = False, generator: Generator | None = None
) -> Tensor:
    """The input of a kind `name` as a floating tensor, after the checks of what all kinds are given."""
    check_flags(training=training, inplace=inplace)
    check_generator(generator)
    return floating(input, name)


def draw(
    x: Tensor, p: float, noise_shape: Sequence[Any] | None, generator: Generator | None, inplace: bool, name: str
) -> Mask:
    """The mask of a call of the kind `name`: the checks that come before one is drawn, then the draw.

    `noise_shape` is of the whole batch, where this process has a part of it.
    """
    own = x.array.shape
    all_of_it = whole(own)
    shape = noise_shape_to_mask_shape(noise_shape, all_of_it)
    if inplace:
        check_inplace(x, name)
    mask = chosen_generator(generator).mask(shape, p)
    return part_of(mask if shape == all_of_it else mask.broadcast_to(all_of_it), own)


def masked(
    name: str,
    x: Tensor,
    inplace: bool,
    forward: Callable[[Array, Array | None], Array],
    backward: Callable[[Array], Array],
) -> Tensor:
    """Record a kind of dropout, neither of whose directions reads what the other one saw."""

    def function(dy: Array) -> tuple[Array]:
        return (backward(dy),)

    if not inplace:
        return record(name, forward(x.array, None), (x,), function)
    forward(x.array, x.array)
    record_inplace(name, x, function)
    return x


def dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    noise_shape: Sequence[int | None] | None = None,
    scaling: str = "inverted",
    generator: Generator | None = None,
) -> Tensor:
    """Zero elements with probability `p` and scale the others by 1 / (1 - p), in training.

    ``y = x / (1 - p)`` where the mask keeps, 0 elsewhere; the gradient is the same operation on `dy`. The mask is a
    value of the generator, never an array: backward makes its bits again.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, floating dtype.
    p : float
        The probability to drop an element, 0 <= p <= 1.
    training : bool
        Outside training the input itself is returned (for ``scaling="standard"``, the input times 1 - p).
    inplace : bool
        Overwrite `input` and return it.
    noise_shape : sequence of int or None, optional
        Shape of the mask, broadcast over the input: each entry 1, the input's size, or None for the input's size.
    scaling : {"inverted", "standard"}
        "inverted" scales in training; "standard" does not, and multiplies by 1 - p outside training instead.
    generator : fastdrop.Generator, optional
        Where the mask comes from; by default `fastdrop.default_generator()`.

    Raises
    ------
    ValueError
        If `p`, `noise_shape` or `scaling` is out of range.
    TypeError
        If `p` is no number, or `input` has no floating dtype.
    RuntimeError
        With `inplace`, if backward needs the values that would be overwritten, or `input` is a leaf.

    Examples
    --------
    >>> import numpy as np
    >>> dropout(np.ones(4, dtype=np.float32), p=0.0)
    tensor([1., 1., 1., 1.])
    >>> dropout(np.ones(4, dtype=np.float32), p=1.0)
    tensor([0., 0., 0., 0.])
    """
    p = check_p(p)
    check_scaling(scaling)
    x = checked_input("dropout", input, training, inplace, generator)
    if not training and scaling == "standard" and p > 0:
        return x.mul_(1 - p) if inplace else as_tensor(x * (1 - p))
    if not training or p == 0:
        return x
    mask = draw(x, p, noise_shape, generator, inplace, "dropout")
    scale = None if scaling == "inverted" else 1.0

    def apply(a: Array, out: Array | None = None) -> Array:
        return mask.apply(a, buffers.empty_like(a) if out is None else out, scale=scale)

    return masked("dropout", x, inplace, apply, apply)


def dropout1d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop whole channels of (N, C, L) or (C, L); see `fastdrop.dropout1d`, and `dropout` for the rest.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> dropout1d(np.ones((2, 3), np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    x = named_tensor(input, "input")
    shape = feature_shape(whole(x.array.shape), 1, channels_last)
    return dropout(x, p, training, inplace, noise_shape=shape, generator=generator)


def dropout2d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop whole feature maps of (N, C, H, W); see `fastdrop.dropout2d`, and `dropout` for the rest.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> dropout2d(np.ones((1, 2, 2, 2), np.float32), 0.5, generator=fastdrop.Generator(1)).array[0, :, 0, 0]
    array([0., 2.], dtype=float32)
    """
    x = named_tensor(input, "input")
    shape = feature_shape(whole(x.array.shape), 2, channels_last)
    return dropout(x, p, training, inplace, noise_shape=shape, generator=generator)


def dropout3d(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    channels_last: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop whole feature maps of (N, C, D, H, W) or (C, D, H, W); see `fastdrop.dropout3d`, and `dropout` for the rest.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> dropout3d(np.ones((2, 1, 1, 2), np.float32), 0.5, generator=fastdrop.Generator(1)).array[:, 0, 0]
    array([[0., 0.],
           [2., 2.]], dtype=float32)
    """
    x = named_tensor(input, "input")
    shape = feature_shape(whole(x.array.shape), 3, channels_last)
    return dropout(x, p, training, inplace, noise_shape=shape, generator=generator)


def drop_path(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    mode: str = "row",
    generator: Generator | None = None,
) -> Tensor:
    """Drop a residual branch for each example ("row") or for all ("batch"); see `fastdrop.drop_path`.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> drop_path(np.ones((2, 3), np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    x = named_tensor(input, "input")
    return dropout(x, p, training, inplace, noise_shape=path_shape(whole(x.array.shape), mode), generator=generator)


def locked_dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    batch_first: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Drop the same features at every step of (T, N, C); see `fastdrop.locked_dropout`.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> locked_dropout(np.ones((2, 3), np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 2., 0.],
            [0., 2., 0.]])
    """
    x = named_tensor(input, "input")
    check_flags(batch_first=batch_first)
    with along(0 if batch_first else 1):
        shape = locked_shape(whole(x.array.shape), batch_first)
        return dropout(x, p, training, inplace, noise_shape=shape, generator=generator)


def token_dropout(
    input: Any, p: float = 0.1, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Drop whole tokens of (..., C); see `fastdrop.token_dropout`, and `dropout` for the rest.

    Examples
    --------
    >>> import fastdrop, numpy as np
    >>> token_dropout(np.ones((2, 3), np.float32), 0.5, generator=fastdrop.Generator(1))
    tensor([[0., 0., 0.],
            [2., 2., 2.]])
    """
    x = named_tensor(input, "input")
    return dropout(x, p, training, inplace, noise_shape=token_shape(whole(x.array.shape)), generator=generator)
