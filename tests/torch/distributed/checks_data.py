"""Parts of a batch: DistributedDataParallel, fully_shard, accumulation; each against one process alone, in float64."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from common import close, dealt, gathered, mean, rank, recorded, same, size, train
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fastdrop as fd
import fastdrop.torch as ft
from fastdrop import Shard

STEPS = 30


class Net(nn.Module):
    """All modules whose first axis is the batch, behind layers that give no zeros."""

    def __init__(self, shard: Shard | None = None, generator: fd.Generator | None = None, checkpointed: Any = None):
        super().__init__()
        options: dict[str, Any] = {"shard": shard, "generator": generator}
        self.first, self.second, self.third = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.drops = nn.ModuleList(
            [
                ft.Dropout(0.5, **options),
                ft.AlphaDropout(0.2, **options),
                ft.DropPath(0.3, **options),
                ft.Dropout2d(0.3, **options),
            ]
        )
        self.connect = ft.DropConnectLinear(32, 32, 0.3, **options)
        self.checkpointed = checkpointed

    def hidden(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.drops[0](self.first(x)))
        x = self.drops[1](self.second(x))
        x = x + self.drops[2](torch.tanh(self.connect(x)))
        return self.drops[3](x.unflatten(1, (8, 2, 2))).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointed is None or not self.training:
            return self.third(self.hidden(x))
        return self.third(checkpoint(self.hidden, x, **self.checkpointed))


def net(**options: Any) -> Net:
    torch.manual_seed(1)
    return Net(**options).double()


def data(batch: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        x = torch.randn(batch, 8, generator=source, dtype=torch.float64)
        yield x, torch.sin(x[:, :4] * x[:, 4:])


def alone(batches: Any, **options: Any) -> tuple[Net, list[float], list[Tensor]]:
    """What one process does."""
    model = net(**options)
    torch.manual_seed(3)
    with recorded(model.drops) as masks:
        losses = train(model, batches, lambda loss: loss)
    return model, losses, masks


def compare(model: nn.Module, one: nn.Module, losses: list[float], expected: list[float]) -> None:
    close(torch.tensor(losses), torch.tensor(expected))
    for (name, found), other in zip(model.named_parameters(), one.parameters()):
        close(found, other)
        assert found.grad is not None, name
        close(found.grad, other.grad)
    assert expected[-1] < expected[0]


def check_ddp_consecutive(out: dict[str, Any]) -> None:
    """A batch in consecutive parts, PyTorch's generator: all ranks seed alike."""
    one, expected, masks = alone(data())
    model = DistributedDataParallel(net(shard=Shard(0, rank(), size())))
    torch.manual_seed(3)
    with recorded(model.module.drops) as parts:
        losses = train(model, ((x.chunk(size())[rank()], y.chunk(size())[rank()]) for x, y in data()), mean)
    assert len(masks) == len(parts) == 4 * STEPS
    for part, mask in zip(parts, masks):
        same(gathered(part), mask)
    compare(model.module, one, losses, expected)
    out["losses"], out["alone"] = losses, expected


def check_ddp_masks_of_a_generator(out: dict[str, Any]) -> None:
    """Saved, for a process that knows nothing of this to compare with fastdrop.Mask."""
    layer = ft.Dropout(0.4, generator=fd.Generator(7), shard=Shard(0, rank(), size()))
    out["kept"] = [(layer(torch.ones(3, 5)) != 0).int().tolist() for _ in range(4)]


def check_ddp_with_a_distributed_sampler(out: dict[str, Any]) -> None:
    """The sampler deals rows out one by one; the last batch of an epoch is smaller."""
    x, y = (torch.cat(tensors)[:44] for tensors in zip(*data()))
    dataset = TensorDataset(x, y)

    def epochs(replicas: int, mine: int) -> Iterator[tuple[Tensor, Tensor]]:
        sampler = DistributedSampler(dataset, replicas, mine, shuffle=True)
        loader = DataLoader(dataset, 16 // replicas, sampler=sampler)
        for epoch in range(10):
            sampler.set_epoch(epoch)
            # Or the loader would draw a number of PyTorch's generator.
            with torch.random.fork_rng():
                batches = list(loader)
            yield from batches

    one, expected, masks = alone(epochs(1, 0))
    model = DistributedDataParallel(net(shard=Shard(0, rank(), size(), interleaved=True)))
    torch.manual_seed(3)
    with recorded(model.module.drops) as parts:
        losses = train(model, epochs(size(), rank()), mean)
    assert len(masks) == len(parts) == 4 * STEPS and masks[-1].shape[0] == 12
    for part, mask in zip(parts, masks):
        same(dealt(part), mask)
    compare(model.module, one, losses, expected)


def check_ddp_uneven_parts(out: dict[str, Any]) -> None:
    """Parts of 11 and 5 of 16, and a rank that has none of 3."""
    extents = (11, 5)
    first = sum(extents[: rank()])
    x = torch.randn(16, 8)
    y = ft.functional.dropout(x, 0.5, generator=fd.Generator(1))
    mine = slice(first, first + extents[rank()])
    same(ft.functional.dropout(x[mine], 0.5, generator=fd.Generator(1), shard=Shard(0, rank(), extents)), y[mine])
    layer = ft.Dropout(0.5, shard=Shard(0, rank(), (3, 0)))
    torch.manual_seed(4)
    layer(x[: (3, 0)[rank()]])
    after = torch.rand(4)
    same(gathered(after), torch.cat([after, after]))  # a rank without rows has drawn too


def check_ddp_checkpointing(out: dict[str, Any]) -> None:
    """Recomputed masks are those of forward, and everything is as without checkpointing and with one process."""
    for own in (False, True):
        one, expected, masks = alone(data(), generator=fd.Generator(5) if own else None)
        for reentrant in (False, True):
            if own and reentrant:
                continue  # PyTorch takes no contexts there
            rng = fd.Generator(5) if own else None
            options: dict[str, Any] = {"use_reentrant": reentrant}
            if rng is not None:
                options["context_fn"] = functools.partial(ft.checkpoint_contexts, rng)
            model = DistributedDataParallel(net(shard=Shard(0, rank(), size()), generator=rng, checkpointed=options))
            torch.manual_seed(3)
            # To the end of the region: the last dropout saves nothing, and would not be called again.
            with recorded(model.module.drops) as parts, set_checkpoint_early_stop(False):
                batches = ((x.chunk(size())[rank()].requires_grad_(), y.chunk(size())[rank()]) for x, y in data())
                losses = train(model, batches, mean)
            assert len(parts) == 2 * len(masks)  # forward, then again
            for step in range(STEPS):
                forward, again = parts[8 * step : 8 * step + 4], parts[8 * step + 4 : 8 * step + 8]
                for part, repeated, mask in zip(forward, again, masks[4 * step :]):
                    same(repeated, part)
                    same(gathered(part), mask)
            compare(model.module, one, losses, expected)


def check_transformer(out: dict[str, Any]) -> None:
    """PyTorch's own, of which nothing is changed: all its dropouts take their part, those on attention weights too."""

    def make() -> nn.Module:
        torch.manual_seed(1)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.2, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        return nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Linear(4, 8), encoder, nn.Flatten(), nn.Linear(16, 4)).double()

    one = make()
    torch.manual_seed(3)
    with ft.enabled():
        expected = train(one, data(), lambda loss: loss)
    for interleaved in (False, True):
        model = DistributedDataParallel(make())
        mine = slice(rank(), None, size()) if interleaved else slice(8 * rank(), 8 * rank() + 8)
        torch.manual_seed(3)
        with ft.enabled(shard=Shard(0, rank(), size(), interleaved=interleaved)):
            losses = train(model, ((x[mine], y[mine]) for x, y in data()), mean)
        compare(model.module, one, losses, expected)


def check_ddp_compiled(out: dict[str, Any]) -> None:
    """The compiler sees which part it is, and another one on each rank."""
    torch.manual_seed(1)
    layers = nn.Linear(8, 16), ft.Dropout(0.5), nn.Tanh(), nn.Linear(16, 4), ft.Dropout(0.2)
    one = nn.Sequential(*layers).double()
    model = copy.deepcopy(one)
    for drop in (model[1], model[4]):
        drop.shard = Shard(0, rank(), size())
    compiled = torch.compile(DistributedDataParallel(model), backend="aot_eager")
    batches = list(data())[:5]
    torch.manual_seed(3)
    expected = train(one, batches, lambda loss: loss)
    torch.manual_seed(3)
    losses = train(compiled, [(x.chunk(size())[rank()], y.chunk(size())[rank()]) for x, y in batches], mean)
    compare(model, one, losses, expected)
    torch._dynamo.reset()


def check_fsdp2(out: dict[str, Any]) -> None:
    """fully_shard splits parameters for keeping; what a rank computes is its part of the batch, as with DDP."""
    from torch.distributed.fsdp import fully_shard

    one, expected, masks = alone(data())
    model = net(shard=Shard(0, rank(), size()))
    for layer in (model.first, model.second, model.connect):
        fully_shard(layer)
    fully_shard(model)
    torch.manual_seed(3)
    with recorded(model.drops) as parts:
        losses = train(model, ((x.chunk(size())[rank()], y.chunk(size())[rank()]) for x, y in data()), mean)
    for part, mask in zip(parts, masks, strict=True):
        same(gathered(part), mask)
    close(torch.tensor(losses), torch.tensor(expected))
    for found, other in zip(model.parameters(), one.parameters(), strict=True):
        close(found.full_tensor(), other.data)


def check_accumulation(out: dict[str, Any]) -> None:
    """Gradients of four microbatches, added up, in each of the ranks: sixteen rows in eight parts."""
    one, expected, masks = alone(data(), generator=fd.Generator(5))
    rng = fd.Generator(5)
    model = DistributedDataParallel(net(generator=rng))
    drops = [module for module in model.modules() if hasattr(module, "shard")]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses, count = [], 4
    with recorded(model.module.drops) as parts:
        for x, y in data():
            xs, ys = (t.chunk(size())[rank()].chunk(count) for t in (x, y))
            optimizer.zero_grad()
            state, total = rng.state, torch.zeros((), dtype=torch.float64)
            for m in range(count):
                rng.state = state  # the same calls for all parts of a batch
                for drop in drops:
                    drop.shard = Shard(0, rank() * count + m, size() * count)
                with model.no_sync() if m < count - 1 else torch.enable_grad():
                    loss = nn.functional.mse_loss(model(xs[m]), ys[m]) / count
                    loss.backward()
                total += loss.detach()
            optimizer.step()
            losses.append(float(mean(total)))
    for step in range(STEPS):
        for k in range(4):
            mine = torch.cat([parts[(step * count + m) * 4 + k] for m in range(count)])
            same(gathered(mine), masks[4 * step + k])
    compare(model.module, one, losses, expected)


class Stage(nn.Module):
    """Half of a network. What it draws follows from the step and the microbatch alone: nothing is remembered."""

    def __init__(self, layers: nn.ModuleList, stage: int, count: int) -> None:
        super().__init__()
        self.layers, self.stage, self.count, self.step = layers, stage, count, 0

    def forward(self, x: Tensor, microbatch: Tensor) -> Tensor:
        rng = fd.Generator((6, self.step, self.stage))
        part = Shard(0, int(microbatch), self.count)
        for layer in self.layers:
            x = ft.functional.dropout(torch.tanh(layer(x)), 0.4, generator=rng, shard=part)
        return x


def check_pipeline(out: dict[str, Any]) -> None:
    """Two stages of torch.distributed.pipelining, and four microbatches, against the whole batch at once."""
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    def stage(k: int, count: int) -> Stage:
        torch.manual_seed(10 + k)
        widths = ((8, 32), (32, 32)) if k == 0 else ((32, 32), (32, 4))
        return Stage(nn.ModuleList(nn.Linear(*w) for w in widths), k, count).double()

    count, mine = 4, stage(rank(), 4)
    piped = PipelineStage(mine, rank(), size(), torch.device("cpu"))
    schedule = Schedule1F1B(piped, count, loss_fn=nn.functional.mse_loss)
    optimizer = torch.optim.SGD(mine.parameters(), 0.1)
    one = nn.ModuleList(stage(k, 1) for k in range(size()))
    expected = torch.optim.SGD(one.parameters(), 0.1)
    for step, (x, y) in zip(range(8), data()):
        mine.step = step
        optimizer.zero_grad()
        losses: list[Tensor] = []
        options = {"target": y, "losses": losses} if rank() == size() - 1 else {}
        schedule.step(*((x,) if rank() == 0 else ()), microbatch=torch.arange(count), **options)
        optimizer.step()
        expected.zero_grad()
        hidden = x
        for part in one:
            part.step = step
            hidden = part(hidden, torch.zeros(1))
        loss = nn.functional.mse_loss(hidden, y)
        loss.backward()
        expected.step()
        if losses:
            close(torch.stack(losses).mean(), loss)
        for found, other in zip(mine.parameters(), one[rank()].parameters()):
            close(found.grad, other.grad)
            close(found, other)
    dist.barrier()
