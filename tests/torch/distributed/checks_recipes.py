"""What docs say to write, as short as there: each against one process that has the whole."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from common import close, gathered, same
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import fastdrop as fd
import fastdrop.torch as ft
from fastdrop import Shard


def whole(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 4), nn.Dropout(0.1)).double()


def of_one_process(x: Tensor, y: Tensor) -> list[Tensor]:
    """Its gradients."""
    model = ft.accelerate(network(), verbose=False, generator=fd.Generator(7))
    mse_loss(model(x), y).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def check_data_parallel(out: dict[str, Any]) -> None:
    x, y = whole(16, 8), whole(16, 4)
    gradients = of_one_process(x, y)
    for interleaved in (False, True):
        rank, world = dist.get_rank(), dist.get_world_size()
        mine = slice(rank, None, world) if interleaved else slice(rank * 8, rank * 8 + 8)
        x_mine, y_mine, model = x[mine], y[mine], network()
        # -- the recipe
        part = Shard(0, rank, world, interleaved=interleaved)  # interleaved: as DistributedSampler deals rows
        model = ft.accelerate(model, verbose=False, shard=part, generator=fd.Generator(7))  # the same seed on all ranks
        ddp = nn.parallel.DistributedDataParallel(model)
        mse_loss(ddp(x_mine), y_mine).backward()
        # --
        for found, expected in zip(model.parameters(), gradients):
            close(found.grad, expected)


def check_data_parallel_of_code_that_cannot_be_touched(out: dict[str, Any]) -> None:
    x, rank, world = whole(16, 8), dist.get_rank(), dist.get_world_size()
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.2, batch_first=True).double()
    torch.manual_seed(3)
    with ft.enabled():
        y = layer(x[:, None])
    x_mine = x.chunk(world)[rank][:, None]
    # -- the recipe
    torch.manual_seed(3)  # the same on all ranks
    with ft.enabled(shard=Shard(0, rank, world)):
        y_mine = layer(x_mine)
    # --
    close(gathered(y_mine), y)


def check_column_and_row(out: dict[str, Any]) -> None:
    """A hidden layer in parts, without torch.distributed.tensor: columns, then rows, whose products are added up."""
    x, rank, world = whole(6, 8), dist.get_rank(), dist.get_world_size()
    up, down = whole(32, 8), whole(4, 32)
    y = ft.functional.dropout(torch.tanh(x @ up.T), 0.5, generator=fd.Generator(7)) @ down.T
    up_mine, down_mine = up.chunk(world)[rank], down.chunk(world, 1)[rank]
    # -- the recipe
    hidden = torch.tanh(x @ up_mine.T)  # (examples, hidden / world)
    hidden = ft.functional.dropout(hidden, 0.5, generator=fd.Generator(7), shard=Shard(-1, rank, world))
    result = hidden @ down_mine.T
    dist.all_reduce(result)  # the same on all ranks: a dropout from here on has no shard
    # --
    close(result, y)


def check_styles(out: dict[str, Any]) -> None:
    """The same by torch.distributed.tensor: DTensors say themselves which part they are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    x, y = whole(16, 8), whole(16, 4)
    gradients = of_one_process(x, y)
    mesh, model = init_device_mesh("cpu", (dist.get_world_size(),)), network()
    # -- the recipe
    model = ft.accelerate(model, verbose=False, generator=fd.Generator(7))
    parallelize_module(model, mesh, {"0": ColwiseParallel(use_local_output=False), "3": RowwiseParallel()})
    mse_loss(model(x), y).backward()
    # --
    for found, expected in zip(model.parameters(), gradients):
        close(found.grad.full_tensor(), expected)


def check_heads_and_queries(out: dict[str, Any]) -> None:
    q, k, v = whole(3, 2, 4, 6, 8)
    rank, world, attend = dist.get_rank(), dist.get_world_size(), ft.functional.scaled_dot_product_attention
    y = attend(q, k, v, dropout_p=0.3, is_causal=True, generator=fd.Generator(7))
    q_mine, k_mine, v_mine = (t.chunk(world, 1)[rank] for t in (q, k, v))
    # -- the recipe: heads
    heads = Shard(1, rank, world)  # of weights (N, H, L, S)
    y_mine = attend(q_mine, k_mine, v_mine, dropout_p=0.3, is_causal=True, generator=fd.Generator(7), shard=heads)
    # --
    close(gathered(y_mine, 1), y)
    q_mine = q.chunk(world, 2)[rank]
    # -- the recipe: queries of a long sequence, with all keys; is_causal knows which queries they are
    queries = Shard(-2, rank, world)
    y_mine = attend(q_mine, k, v, dropout_p=0.3, is_causal=True, generator=fd.Generator(7), shard=queries)
    # --
    close(gathered(y_mine, 2), y)


def check_sequence(out: dict[str, Any]) -> None:
    """(batch, sequence, features) in parts of the sequence, and batches in parts as well."""
    x, rank, world = whole(4, 6, 8), dist.get_rank(), dist.get_world_size()
    y = ft.functional.dropout(x, 0.5, generator=fd.Generator(7))
    x_mine = x.chunk(world, 1)[rank]
    # -- the recipe
    y_mine = ft.functional.dropout(x_mine, 0.5, generator=fd.Generator(7), shard=Shard(1, rank, world))
    # --
    same(gathered(y_mine, 1), y)
    second_half = x_mine[2:]
    # -- the recipe: two axes at once
    parts = [Shard(0, 1, 2), Shard(1, rank, world)]
    y_mine = ft.functional.dropout(second_half, 0.5, generator=fd.Generator(7), shard=parts)
    # --
    same(gathered(y_mine, 1), y[2:])


def check_accumulation(out: dict[str, Any]) -> None:
    x, y = whole(16, 8), whole(16, 4)
    gradients = of_one_process(x, y)
    rng, count = fd.Generator(7), 4
    model = ft.accelerate(network(), verbose=False, generator=rng)
    # -- the recipe
    drops = [module for module in model.modules() if hasattr(module, "shard")]
    before = rng.state
    for m, (x_part, y_part) in enumerate(zip(x.chunk(count), y.chunk(count))):
        rng.state = before  # all parts of a batch are of the same masks
        for drop in drops:
            drop.shard = Shard(0, m, count)
        (mse_loss(model(x_part), y_part) / count).backward()
    # --
    for found, expected in zip(model.parameters(), gradients):
        close(found.grad, expected)


def check_stateless(out: dict[str, Any]) -> None:
    """What a pipeline's stage does: the masks follow from the step and the microbatch, in whatever order they come."""
    x, step = whole(16, 8), 12

    # -- the recipe
    def stage(x: Tensor, microbatch: int, count: int) -> Tensor:
        rng = fd.Generator((7, step))  # made anew each time: computing this again, later, gives the same masks
        part = Shard(0, microbatch, count)
        x = ft.functional.dropout(torch.tanh(x), 0.5, generator=rng, shard=part)
        return ft.functional.dropout(x + 1, 0.1, generator=rng, shard=part)

    # --
    found = [stage(part, m, 4) for m, part in reversed(list(enumerate(x.chunk(4))))]
    same(torch.cat(found[::-1]), stage(x, 0, 1))
