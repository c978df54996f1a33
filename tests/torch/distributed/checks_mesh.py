"""Four ranks, as two by two: a batch in parts, and each part's features in parts."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from common import close, same, size, train
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

import fastdrop as fd
import fastdrop.torch as ft

F = ft.functional


def check_placements_on_two_axes(out: dict[str, Any]) -> None:
    """All pairs, with extents that do not divide evenly."""
    mesh = init_device_mesh("cpu", (2, 2))
    x = torch.randn(7, 5, 3, dtype=torch.float64)
    y = F.dropout(x, 0.5, generator=fd.Generator(1))
    for placements in itertools.product([Replicate(), *map(Shard, range(3))], repeat=2):
        z = F.dropout(distribute_tensor(x, mesh, placements), 0.5, generator=fd.Generator(1))
        assert z.placements == placements
        same(z.full_tensor(), y)
    z = F.dropout(
        DTensor.from_local(
            distribute_tensor(x, mesh, [Shard(1), Replicate()]).to_local(), mesh, [Shard(1), Partial()],
            run_check=False, shape=x.shape, stride=x.stride(),
        ), 0.5, generator=fd.Generator(1),
    )  # fmt: skip
    assert z.placements == (Shard(1), Partial())
    close(z.full_tensor(), 2 * y)


def check_ranks_outside_of_a_mesh(out: dict[str, Any]) -> None:
    """They have nothing, and draw as the others do, so that later masks are those of one process on all ranks."""
    mesh = DeviceMesh("cpu", [0, 1])
    x, w = torch.randn(4, 6, 8), torch.randn(5, 8)
    rng, one = fd.Generator(1), fd.Generator(1)
    part, heads = distribute_tensor(x, mesh, [Shard(0)]), distribute_tensor(x[None], mesh, [Shard(1)])
    weight = distribute_tensor(w, mesh, [Shard(0)])

    def calls(rng: fd.Generator, x: Tensor, heads: Tensor, weight: Tensor) -> list[Tensor]:
        return [
            F.dropout(x, 0.5, generator=rng),
            F.dropout2d(x.unsqueeze(-1), 0.5, generator=rng),
            F.drop_path(x, 0.5, generator=rng),
            F.drop_block2d(x, 0.3, 2, generator=rng),
            F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.5, generator=rng),
            F.dropconnect(x, weight, p=0.5, generator=rng),
            F.dropout(x, 0.5),
        ]

    torch.manual_seed(2)
    found = calls(rng, part, heads, weight)
    torch.manual_seed(2)
    expected = calls(one, x, x[None], w)
    assert rng.call == one.call == 6
    for y, z in zip(found, expected):
        assert isinstance(y, DTensor) and y.shape == z.shape
        if mesh.get_coordinate() is not None:
            close(y.full_tensor(), z, 1e-5)
    states: list[Any] = [None] * size()
    torch.distributed.all_gather_object(states, torch.rand(4))
    assert all(torch.equal(state, states[0]) for state in states)


def check_the_order_of_fully_shard(out: dict[str, Any]) -> None:
    """Split by the second axis of the mesh first: consecutive rows, on ranks in another order."""
    mesh = init_device_mesh("cpu", (2, 2))
    first, second = mesh.get_coordinate()
    x = torch.randn(8, 3)
    mine = x[4 * second + 2 * first :][:2]
    placements = [_StridedShard(0, split_factor=2), Shard(0)]
    part = DTensor.from_local(mine, mesh, placements, run_check=False, shape=x.shape, stride=x.stride())
    y = F.dropout(part, 0.5, generator=fd.Generator(1))
    rows = F.dropout(x, 0.5, generator=fd.Generator(1))[4 * second + 2 * first :][:2]
    same(y.to_local(), rows)


def check_data_and_tensor_parallel(out: dict[str, Any]) -> None:
    """A batch split by hand over one axis of the mesh, whose gradients are added up; features split over the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    data, tensor = mesh["data"], mesh["tensor"]
    part = data.get_local_rank()

    def make(local: bool, split: bool) -> nn.Sequential:
        torch.manual_seed(1)
        batch, hidden = fd.Shard(0, part, 2), fd.Shard(-1, tensor.get_local_rank(), 2)
        inner = ft.Dropout(
            0.5, generator=fd.Generator(3), shard=([batch, hidden] if local else batch) if split else None
        )
        outer = ft.Dropout(0.2, generator=fd.Generator(4), shard=batch if split else None)
        return nn.Sequential(nn.Linear(8, 32), inner, nn.Tanh(), nn.Linear(32, 4), outer).double()

    source = torch.Generator().manual_seed(2)
    xs = [torch.randn(12, 8, generator=source, dtype=torch.float64) for _ in range(10)]
    batches = [(x, torch.sin(x[:, :4])) for x in xs]
    one = make(local=True, split=False)
    expected = train(one, batches, lambda loss: loss)
    for local in (True, False):
        plan = {"0": ColwiseParallel(use_local_output=local), "3": RowwiseParallel()}
        model = parallelize_module(make(local, split=True), tensor, plan)

        def total(loss: Tensor) -> Tensor:
            torch.distributed.all_reduce(loss, group=data.get_group())
            return loss / 2

        for parameter in model.parameters():

            def averaged(gradient: DTensor) -> DTensor:
                torch.distributed.all_reduce(gradient.to_local(), group=data.get_group())
                return gradient / 2

            parameter.register_hook(averaged)
        losses = train(model, [(x.chunk(2)[part], y.chunk(2)[part]) for x, y in batches], total)
        close(torch.tensor(losses), torch.tensor(expected))
        for found, other in zip(model.parameters(), one.parameters(), strict=True):
            close(found.full_tensor(), other.data)
    assert size() == 4
