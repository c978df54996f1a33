"""What the checks share: who this rank is, parts put together, and training that writes down what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank() -> int:
    return dist.get_rank()


def size() -> int:
    return dist.get_world_size()


def gathered(part: Tensor, axis: int = 0) -> Tensor:
    """All ranks' parts, put together along an axis."""
    parts: list[Any] = [None] * size()
    dist.all_gather_object(parts, part.detach())
    return torch.cat(parts, axis)


def dealt(part: Tensor) -> Tensor:
    """The same where rows were dealt out one by one."""
    return gathered(part).unflatten(0, (size(), -1)).transpose(0, 1).flatten(0, 1)


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Which elements each call of these modules kept, in order; inputs without zeros are asked for."""
    masks: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda module, args, y: masks.append(y.detach() != 0)) for m in modules]
    yield masks
    for hook in hooks:
        hook.remove()


def train(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], total: Callable[[Tensor], Tensor], lr: float = 0.1
) -> list[float]:
    """Steps of SGD on a mean of squares, and their losses; `total` makes the whole's loss of this rank's."""
    optimizer = torch.optim.SGD(model.parameters(), lr)
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(total(loss.detach())))
    return losses


def mean(loss: Tensor) -> Tensor:
    dist.all_reduce(loss)
    return loss / size()


def same(found: Tensor, expected: Tensor) -> None:
    assert torch.equal(found, expected), f"{int((found != expected).sum())} of {found.numel()} differ"


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
