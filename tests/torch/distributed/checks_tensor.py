"""Parts of features, heads and sequences: DTensors, and torch.distributed's styles of them, against one process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from common import close, gathered, rank, recorded, same, size, train
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

import fastdrop as fd
import fastdrop.torch as ft

F = ft.functional
FUNCTIONS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "dropout": (lambda x, **o: F.dropout(x, 0.5, **o), (7, 6, 5)),
    "dropout1d": (lambda x, **o: F.dropout1d(x, 0.5, **o), (7, 6, 5)),
    "dropout2d": (lambda x, **o: F.dropout2d(x, 0.5, **o), (7, 6, 5, 3)),
    "dropout3d": (lambda x, **o: F.dropout3d(x, 0.5, **o), (7, 6, 5, 3, 2)),
    "alpha": (lambda x, **o: F.alpha_dropout(x, 0.3, True, **o), (7, 6, 5)),
    "feature alpha": (lambda x, **o: F.feature_alpha_dropout(x, 0.3, True, **o), (7, 6, 5)),
    "path": (lambda x, **o: F.drop_path(x, 0.5, **o), (7, 6, 5)),
    "locked": (lambda x, **o: F.locked_dropout(x, 0.5, **o), (7, 6, 5)),
    "block": (lambda x, **o: F.drop_block2d(x, 0.3, 2, **o), (7, 6, 5, 4)),
    "of one row": (lambda x, **o: F.dropout(x, 0.5, **o), (1, 3)),
    "of no axis": (lambda x, **o: F.dropout(x, 0.5, **o), ()),
}


def whole(function: Callable[..., Tensor], x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    y = function(leaf, **options)
    (y**2).sum().backward()
    assert leaf.grad is not None
    return y.detach(), leaf.grad


def check_functions_of_dtensors(out: dict[str, Any]) -> None:
    """Each placement of each function, even parts and uneven ones, on meshes of one axis and of two."""
    for function, shape in FUNCTIONS.values():
        x = torch.randn(shape, dtype=torch.float64)
        axes = range(len(shape) if function is not FUNCTIONS["block"][0] else 2)
        for mesh_shape in ((size(),), (1, size()), (size(), 1)):
            mesh = init_device_mesh("cpu", mesh_shape)
            placed: list[tuple[Placement, ...]] = [(Replicate(),) * len(mesh_shape)]
            for axis in axes:
                placed.append((Shard(axis),) * len(mesh_shape))
                if len(mesh_shape) == 2:
                    placed.append((Shard(axis), Replicate()))
            for placements in placed:
                for own in (True, False):
                    torch.manual_seed(1)
                    y, dx = whole(function, x, generator=fd.Generator(1) if own else None)
                    torch.manual_seed(1)
                    part = distribute_tensor(x, mesh, placements).requires_grad_()
                    z = function(part, generator=fd.Generator(1) if own else None)
                    assert isinstance(z, DTensor) and z.placements == placements and z.stride() == x.stride()
                    same(z.full_tensor(), y)
                    (z**2).sum().backward()
                    assert part.grad.placements == placements
                    same(part.grad.full_tensor(), dx)


def check_sums_still_to_be_made(out: dict[str, Any]) -> None:
    """What is linear leaves them; what is not has them made first."""
    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(7, 6, dtype=torch.float64)
    for how, factor in (("sum", sum(range(1, size() + 1))), ("avg", (size() + 1) / 2)):
        local = (x * (rank() + 1)).requires_grad_()
        part = DTensor.from_local(local, mesh, [Partial(how)], run_check=False)
        y = F.dropout(part, 0.5, generator=fd.Generator(1))
        assert y.placements == (Partial(how),)
        expected = F.dropout(x * factor, 0.5, generator=fd.Generator(1))
        close(y.full_tensor(), expected)
        y.full_tensor().sum().backward()
        close(local.grad, F.dropout(torch.ones_like(x), 0.5, generator=fd.Generator(1)))
        y = F.alpha_dropout(part, 0.5, True, generator=fd.Generator(1))
        assert y.placements == (Replicate(),)
        close(y.full_tensor(), F.alpha_dropout(x * factor, 0.5, True, generator=fd.Generator(1)))


def check_modules_in_place_and_in_eval(out: dict[str, Any]) -> None:
    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(8, 6)
    part = distribute_tensor(x, mesh, [Shard(0)])
    layer = ft.Dropout(0.5, inplace=True, generator=fd.Generator(1))
    assert layer(part) is part
    same(part.full_tensor(), F.dropout(x, 0.5, generator=fd.Generator(1)))
    assert layer.eval()(part) is part
    assert F.dropout(part, 0.0) is part
    # PyTorch's own module, swapped; and of a larger batch, which the mesh knows nothing of
    swapped = ft.accelerate(
        nn.Dropout(0.5), verbose=False, generator=fd.Generator(2), shard=fd.Shard(0, 1, 3, interleaved=True)
    )
    y = F.dropout(torch.ones(24, 6), 0.5, generator=fd.Generator(2))
    same(swapped(distribute_tensor(torch.ones(8, 6), mesh, [Shard(0)])).full_tensor(), y[1::3])


def check_enabled(out: dict[str, Any]) -> None:
    """PyTorch's own functions and modules, while fastdrop does their work."""
    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(7, 6)
    part = distribute_tensor(x, mesh, [Shard(0)])
    with ft.enabled():
        for function in (functools.partial(nn.functional.dropout, p=0.5), nn.Dropout(0.5)):
            torch.manual_seed(1)
            y = function(part)
            torch.manual_seed(1)
            same(y.full_tensor(), F.dropout(x, 0.5))


def check_compiled(out: dict[str, Any]) -> None:
    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(8, 6)
    part = distribute_tensor(x, mesh, [Shard(1)]).requires_grad_()
    compile = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    torch.manual_seed(1)
    y = compile(lambda x: F.dropout(x * 2, 0.5))(part)
    torch.manual_seed(1)
    same(y.full_tensor(), F.dropout(x * 2, 0.5))
    y.sum().backward()
    torch.manual_seed(1)
    same(part.grad.full_tensor(), F.dropout(torch.full_like(x, 2), 0.5))
    layer = ft.Dropout(0.5, generator=fd.Generator(1))
    same(compile(layer)(part).full_tensor(), F.dropout(x, 0.5, generator=fd.Generator(1)))
    torch._dynamo.reset()


def check_strided_shards(out: dict[str, Any]) -> None:
    """What fully_shard over tensor parallel, and views of split axes, have: pieces, at equal steps or not."""
    from torch.distributed.tensor.placement_types import _StridedShard

    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(8, 6, dtype=torch.float64)
    for pieces in (2, 4):  # of which a rank has two of two rows, that are not at equal steps, or every second
        placement = _StridedShard(0, split_factor=pieces)
        rows = [i for k in range(pieces) for i in torch.arange(8).chunk(pieces)[k].chunk(size())[rank()].tolist()]
        part = DTensor.from_local(x[rows], mesh, [placement], run_check=False)
        y = F.dropout(part, 0.5, generator=fd.Generator(1))
        assert y.placements == ((placement,) if pieces == 4 else (Replicate(),)), y.placements
        same(y.full_tensor(), F.dropout(x, 0.5, generator=fd.Generator(1)))


def check_refused_dtensors(out: dict[str, Any]) -> None:
    mesh = init_device_mesh("cpu", (size(),))
    try:
        F.drop_block2d(distribute_tensor(torch.ones(2, 8, 8), mesh, [Shard(1)]), 0.3)
    except ValueError as error:
        assert "a block would reach into another part" in str(error)
    else:
        raise AssertionError("blocks of a map in parts")


def check_what_is_still_on_its_way(out: dict[str, Any]) -> None:
    """Styles hand over tensors that are not yet received; fastdrop waits for them, and PyTorch's dropout never runs."""
    from torch.distributed._functional_collectives import AsyncCollectiveTensor

    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(8, 6)
    part = distribute_tensor(x, mesh, [Shard(0)]).requires_grad_()
    coming = part.redistribute(placements=[Replicate()], async_op=True).to_local()
    assert isinstance(coming, AsyncCollectiveTensor)
    y = F.dropout(coming, 0.5, generator=fd.Generator(1))
    same(y, F.dropout(x, 0.5, generator=fd.Generator(1)))
    y.sum().backward()
    same(part.grad.full_tensor(), F.dropout(torch.ones_like(x), 0.5, generator=fd.Generator(1)))


def check_attention_of_dtensors(out: dict[str, Any]) -> None:
    """Batches, heads or queries in parts; causal, masked, and with heads in groups."""
    mesh = init_device_mesh("cpu", (size(),))
    mask = (torch.rand(4, 1, 6, 6) < 0.8) | torch.eye(6, dtype=torch.bool)
    # axis of the query, of key and value, heads of these, options
    square, per_head = torch.randn(6, 6), torch.randn(1, 4, 6, 6)
    for axis, others, heads, options in (
        (0, 0, 4, {}), (1, 1, 4, {}), (1, 1, 4, {"is_causal": True}), (2, None, 4, {}),
        (2, None, 4, {"is_causal": True}), (0, 0, 4, {"attn_mask": mask}), (2, None, 4, {"attn_mask": mask}),
        (1, 1, 4, {"attn_mask": per_head}), (2, None, 4, {"attn_mask": square}), (1, 1, 4, {"attn_mask": square}),
        (1, 1, 2, {"enable_gqa": True}), (1, 1, 1, {"enable_gqa": True}), (3, 3, 4, {}), (None, 2, 4, {}),
    ):  # fmt: skip
        inputs = [torch.randn(4, h, 6, 8, dtype=torch.float64) for h in (4, heads, heads)]
        leaves = [t.clone().requires_grad_() for t in inputs]
        bias = options.pop("attn_mask", None)
        if bias is not None and bias.is_floating_point():  # as of positions, and learnt
            bias = bias.double().requires_grad_()
        attend = functools.partial(F.scaled_dot_product_attention, dropout_p=0.4, **options)
        y = attend(*leaves, bias, generator=fd.Generator(1))
        (y**2).sum().backward()
        placements = [[Replicate() if a is None else Shard(a)] for a in (axis, others, others)]
        if heads == 1:
            placements[1:] = [[Replicate()]] * 2
        parts = [distribute_tensor(t, mesh, p).requires_grad_() for t, p in zip(inputs, placements)]
        placed = None if bias is None else distribute_tensor(bias.detach(), mesh, [Replicate()])
        if placed is not None and bias.requires_grad:
            placed.requires_grad_()
        z = attend(*parts, placed, generator=fd.Generator(1))
        close(z.full_tensor(), y)
        (z**2).sum().backward()
        for part, leaf in zip(parts, leaves):
            close(part.grad.full_tensor(), leaf.grad)
        if placed is not None and placed.requires_grad:
            close(placed.grad.full_tensor(), bias.grad)


# ---- tensor parallel ----


class Perceptron(nn.Module):
    """Dropout on the hidden features, and behind what comes of all of them."""

    def __init__(self, generator: fd.Generator | None = None, shard: Any = None, checkpointed: Any = None) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 4)
        self.inner = ft.Dropout(0.5, generator=generator, shard=shard)
        self.outer = ft.Dropout(0.2, generator=generator)
        self.checkpointed = checkpointed

    def body(self, x: Tensor) -> Tensor:
        return self.outer(self.down(torch.tanh(self.inner(self.up(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if self.checkpointed is None else checkpoint(self.body, x, **self.checkpointed)


def perceptron(**options: Any) -> Perceptron:
    torch.manual_seed(1)
    return Perceptron(**options).double()


def data() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(2)
    xs = [torch.randn(12, 8, generator=source, dtype=torch.float64) for _ in range(30)]
    return [(x, torch.sin(x[:, :4] * x[:, 4:])) for x in xs]


def check_column_and_row_parallel(out: dict[str, Any]) -> None:
    """Hidden features in parts, as local tensors with shard=, and as DTensors without; recomputed, too."""
    mesh = init_device_mesh("cpu", (size(),))
    for own in (True, False):
        one = perceptron(generator=fd.Generator(3) if own else None)
        torch.manual_seed(4)
        with recorded([one.inner]) as masks, recorded([one.outer]) as outer:
            expected = train(one, data(), lambda loss: loss)
        for local in (True, False):
            for reentrant in (None, True, False):
                rng = fd.Generator(3) if own else None
                options: dict[str, Any] = {"generator": rng}
                if local:
                    options["shard"] = fd.Shard(-1, rank(), size())
                if reentrant is not None:
                    options["checkpointed"] = {"use_reentrant": reentrant}
                    if rng is not None and not reentrant:
                        contexts = functools.partial(ft.checkpoint_contexts, rng)
                        options["checkpointed"]["context_fn"] = contexts
                    elif rng is not None:
                        continue  # PyTorch takes no contexts there
                plan = {"up": ColwiseParallel(use_local_output=local), "down": RowwiseParallel()}
                model = parallelize_module(perceptron(**options), mesh, plan)
                torch.manual_seed(4)
                batches = [(x.clone().requires_grad_(), y) for x, y in data()]
                with (
                    recorded([model.inner]) as parts, recorded([model.outer]) as last, set_checkpoint_early_stop(False)
                ):  # fmt: skip
                    losses = train(model, batches, lambda loss: loss)
                times = 1 if reentrant is None else 2
                assert len(parts) == times * len(masks) and len(last) == times * len(outer)
                for i, part in enumerate(parts):
                    full = gathered(part, -1) if local else part.full_tensor()
                    same(full, masks[i // times])
                for i, mask in enumerate(last):
                    same(mask, outer[i // times])
                close(torch.tensor(losses), torch.tensor(expected))
                for found, other in zip(model.parameters(), one.parameters()):
                    close(found.full_tensor(), other.data)
                    close(found.grad.full_tensor(), other.grad)


def check_sequence_parallel(out: dict[str, Any]) -> None:
    """Dropout and norm on parts of the sequence, axis 1."""
    mesh = init_device_mesh("cpu", (size(),))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop = nn.LayerNorm(6), ft.Dropout(0.5, generator=fd.Generator(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(self.norm(x))

    x = torch.randn(3, 8, 6)
    torch.manual_seed(0)
    one = Block()
    y = one(x)
    y.square().sum().backward()
    torch.manual_seed(0)
    model = parallelize_module(Block(), mesh, {"norm": SequenceParallel(), "drop": SequenceParallel()})
    z = model(x.chunk(size(), 1)[rank()])
    assert z.placements == (Shard(1),)
    close(z.full_tensor(), y.detach(), 1e-6)
    z.square().sum().backward()
    close(model.norm.weight.grad.full_tensor(), one.norm.weight.grad, 1e-4)


def check_attention_with_heads_in_parts(out: dict[str, Any]) -> None:
    """A transformer's attention: projections by columns, each rank its heads, the way back by rows."""
    mesh = init_device_mesh("cpu", (size(),))

    class Attention(nn.Module):
        def __init__(self, heads: int, shard: fd.Shard | None) -> None:
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
            self.heads, self.shard, self.rng = heads, shard, fd.Generator(1)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (f(x).unflatten(-1, (self.heads, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = F.scaled_dot_product_attention(
                q, k, v, dropout_p=0.3, is_causal=True, generator=self.rng, shard=self.shard
            )
            return self.out(y.transpose(1, 2).flatten(2))

    def make(heads: int, shard: fd.Shard | None) -> Attention:
        torch.manual_seed(0)
        return Attention(heads, shard).double()

    x = torch.randn(3, 5, 16, dtype=torch.float64)
    one = make(4, None)
    y = one(x)
    y.square().sum().backward()
    for local in (True, False):
        model = make(4 // size() if local else 4, fd.Shard(1, rank(), size()) if local else None)
        columns = ColwiseParallel(use_local_output=local)
        parallelize_module(model, mesh, {"q": columns, "k": columns, "v": columns, "out": RowwiseParallel()})
        z = model(x)
        close(z, y.detach())
        z.square().sum().backward()
        for found, other in zip(model.parameters(), one.parameters()):
            close(found.grad.full_tensor(), other.grad)


def check_dropconnect_in_parts(out: dict[str, Any]) -> None:
    """Weights by columns, by rows, and examples in parts; decisions for each example, and shared."""
    mesh = init_device_mesh("cpu", (size(),))
    x = torch.randn(6, 8, dtype=torch.float64)
    for per_example in (True, False):

        def make(per_example: bool = per_example) -> nn.Module:
            torch.manual_seed(0)
            return ft.DropConnectLinear(8, 4, 0.5, per_example, generator=fd.Generator(1)).double()

        one = make()
        leaf = x.clone().requires_grad_()
        y = one(leaf)
        y.square().sum().backward()
        for style, placement in (
            (ColwiseParallel(output_layouts=Replicate()), Replicate()),
            (RowwiseParallel(input_layouts=Replicate()), Replicate()),
            (ColwiseParallel(use_local_output=False), Replicate()),
            (RowwiseParallel(use_local_output=False), Shard(1)),
        ):
            model = parallelize_module(make(), mesh, style)
            part = distribute_tensor(x, mesh, [placement]).requires_grad_()
            z = model(part)
            close(z.full_tensor() if isinstance(z, DTensor) else z, y.detach())
            z.square().sum().backward()
            close(part.grad.full_tensor(), leaf.grad)
            for found, other in zip(model.parameters(), one.parameters()):
                close(found.grad.full_tensor(), other.grad)
        weight, bias = (distribute_tensor(p.data, mesh, [Replicate()]).requires_grad_() for p in one.parameters())
        for placement in (Shard(0), Replicate()):
            weight.grad = bias.grad = None
            part = distribute_tensor(x, mesh, [placement])
            z = F.dropconnect(part, weight, bias, per_example=per_example, generator=fd.Generator(1))
            assert z.placements == (placement,)
            close(z.full_tensor(), y.detach())
            z.square().sum().backward()
            close(weight.grad.full_tensor(), one.weight.grad)
            close(bias.grad.full_tensor(), one.bias.grad)


def check_causal_attention_without_dropout(out: dict[str, Any]) -> None:
    """Positions count in the whole, of which the DTensor is a part."""
    mesh = init_device_mesh("cpu", (size(),))
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 6, 8, dtype=torch.float64), torch.randn(2, 3, 12, 8, dtype=torch.float64)
    later = fd.Shard(-2, 1, 2)
    y = F.scaled_dot_product_attention(q, k, k, is_causal=True, shard=later)
    queries, keys = distribute_tensor(q, mesh, [Shard(2)]), distribute_tensor(k, mesh, [Replicate()])
    close(F.scaled_dot_product_attention(queries, keys, keys, is_causal=True, shard=later).full_tensor(), y)


def check_dropconnect_of_a_sequence_in_parts(out: dict[str, Any]) -> None:
    """Rows that do not follow each other are put together first."""
    mesh = init_device_mesh("cpu", (size(),))
    x, w = torch.randn(3, 2, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    for lead in (x, x[:1]):
        leaf = lead.clone().requires_grad_()
        y = F.dropconnect(leaf, w, generator=fd.Generator(1))
        y.square().sum().backward()
        part = distribute_tensor(lead, mesh, [Shard(1)]).requires_grad_()
        z = F.dropconnect(part, distribute_tensor(w, mesh, [Replicate()]), generator=fd.Generator(1))
        assert z.placements == ((Shard(1),) if len(lead) == 1 else (Replicate(),))
        close(z.full_tensor(), y.detach())
        z.square().sum().backward()
        close(part.grad.full_tensor(), leaf.grad)


def check_what_dtensors_refuse(out: dict[str, Any]) -> None:
    """Before a number is drawn; and what enable(shard=) cannot give a part to."""
    mesh = init_device_mesh("cpu", (size(),))
    x, rng = torch.ones(8, 6), fd.Generator(1)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        F.dropout(distribute_tensor(x, mesh, [Shard(0)]).requires_grad_(), inplace=True, generator=rng)
    assert rng.call == 0
    part = distribute_tensor(x, mesh, [Shard(0)])
    with ft.enabled(shard=fd.Shard(0, 1, 2)):
        torch.manual_seed(0)
        y = nn.functional.dropout(part, np.float64(0.5))
        with pytest.raises(RuntimeError, match="under another name"):
            torch.dropout(part, 0.5, True)
    torch.manual_seed(0)
    same(y.full_tensor(), F.dropout(x, 0.5, shard=fd.Shard(0, 1, 2)))
    with pytest.raises(ValueError, match="but got DTensors and other tensors"):
        F.dropconnect(x, distribute_tensor(torch.ones(4, 6), mesh, [Shard(0)]), generator=rng)


def check_embedding_in_parts(out: dict[str, Any]) -> None:
    """A sum that is still to be made, of which PyTorch has a mask: value and gradient."""
    mesh = init_device_mesh("cpu", (size(),))
    w, ids = torch.randn(10, 4, dtype=torch.float64), torch.tensor([1, 9, 4, 4, 0, 7])
    leaf = w.clone().requires_grad_()
    y = F.dropout(nn.functional.embedding(ids, leaf), 0.5, generator=fd.Generator(1))
    y.square().sum().backward()
    part = distribute_tensor(w, mesh, [Shard(0)]).requires_grad_()
    z = F.dropout(
        nn.functional.embedding(distribute_tensor(ids, mesh, [Replicate()]), part), 0.5, generator=fd.Generator(1)
    )
    close(z.full_tensor(), y.detach())
    z.full_tensor().square().sum().backward()
    close(part.grad.full_tensor(), leaf.grad)


def check_weight_drop(out: dict[str, Any]) -> None:
    """Parameters that are DTensors say themselves which part of the weights they are."""
    mesh = init_device_mesh("cpu", (size(),))
    torch.manual_seed(0)
    one = ft.WeightDrop(nn.Linear(8, 4), 0.5, ("weight",), generator=fd.Generator(1))
    x = torch.randn(3, 8)
    y = one(x)
    torch.manual_seed(0)
    model = ft.WeightDrop(nn.Linear(8, 4), 0.5, ("weight",), generator=fd.Generator(1))
    parallelize_module(model.module, mesh, ColwiseParallel())
    z = model(distribute_tensor(x, mesh, [Replicate()]))
    close(gathered(z.to_local() if isinstance(z, DTensor) else z, -1), y.detach(), 1e-5)
