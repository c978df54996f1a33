"""The two networks of the comparison: equal but for dropout."""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn

__all__ = ["DROPOUT", "cnn"]

#: p after each of the two pools, and p after the dense layer of 128.
DROPOUT = (0.5, 0.5)


def cnn(dropout: bool | Sequence[float] = False, *, side: int = 28) -> nn.Sequential:
    """Make a CNN: conv 32, pool, conv 64, pool, dense 128, dense 10.

    Parameters
    ----------
    dropout : bool or (float, float)
        False: none. True: p = .5 after each pool and after the dense layer. Or two p's, after the pools and after the
        dense layer; p is the probability to drop.
    side : int
        Pixels along one side of the square, one-channel images, at least 4. Below 16 the convolutions pad by one
        pixel, since scikit-learn's 8x8 digits would shrink to nothing.

    Returns
    -------
    nn.Sequential
        Takes (N, 1, side, side), gives 10 logits. The weights come from the default generator, and dropout draws
        nothing when it is made: one seed gives both networks the same weights.

    Examples
    --------
    >>> sum(p.array.size for p in cnn().parameters())
    225034
    >>> cnn(dropout=(2, 0.5))
    Traceback (most recent call last):
    ValueError: dropout probability has to be between 0 and 1, but got 2
    """
    if side < 4:
        raise ValueError(f"side has to be at least 4, but got {side}")
    after_pool, after_dense = (DROPOUT if dropout else (0.0, 0.0)) if isinstance(dropout, bool) else dropout
    padding = 0 if side >= 16 else 1
    left = side
    for _ in range(2):
        left = (left - 2 + 2 * padding) // 2

    layers: list[nn.Module] = []
    channels = 1
    for width in (32, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.ReLU(), nn.MaxPool2d(2)]
        if after_pool:
            layers.append(nn.Dropout(p=after_pool))
        channels = width
    layers += [nn.Flatten(), nn.Linear(channels * left * left, 128), nn.ReLU()]
    if after_dense:
        layers.append(nn.Dropout(p=after_dense))
    layers.append(nn.Linear(128, 10))
    return nn.Sequential(*layers)
