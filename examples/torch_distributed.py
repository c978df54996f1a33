"""One training run on two workers, and the same run on one: the same masks, and the same losses but for rounding.

    torchrun --nproc-per-node 2 examples/torch_distributed.py
    torchrun --nproc-per-node 2 examples/torch_distributed.py --dropout pytorch    # what it is like without fastdrop
    torchrun --nproc-per-node 2 examples/torch_distributed.py --help

Each worker has its part of every batch, and DistributedDataParallel adds up the gradients. With PyTorch's own dropout
the run on two workers is another experiment than the run on one: each worker draws masks for itself. fastdrop's are
slices of the mask that one worker would draw, because `shard=` says which part of the batch this worker has. The first
worker then trains alone on whole batches, with the same seed, and prints both runs side by side.

For PyTorch: pip install "fastdrop[torch]"
"""

from __future__ import annotations

import argparse
import gc
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

import fastdrop as fd
import fastdrop.torch

WIDTH, BATCH = 64, 64


def network(p, shard, kind):
    torch.manual_seed(0)
    layers = (nn.Linear(8, WIDTH), nn.Dropout(p), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Dropout(p), nn.Tanh())
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 1))
    return fastdrop.torch.accelerate(model, verbose=False, shard=shard) if kind == "fastdrop" else model


def batches(steps):
    source = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(BATCH, 8, generator=source)
        yield x, torch.sin(x[:, :4]).sum(1, keepdim=True) + 0.1 * torch.randn(BATCH, 1, generator=source)


def train(model, options, rank=0, workers=1):
    """The loss of the whole batch at each step; all workers seed alike, so that they draw from the same masks."""
    torch.manual_seed(options.seed)
    optimizer = torch.optim.SGD(model.parameters(), options.lr)
    losses = []
    for x, y in batches(options.steps):
        optimizer.zero_grad()
        loss = mse_loss(model(x.chunk(workers)[rank]), y.chunk(workers)[rank])
        loss.backward()
        optimizer.step()
        total = loss.detach()
        if workers > 1:
            dist.all_reduce(total)
        losses.append(total.item() / workers)
    return losses


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dropout", choices=("fastdrop", "pytorch"), default="fastdrop", help="whose (default: %(default)s)"
    )
    parser.add_argument("--p", type=float, default=0.3, help="probability to drop (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=3, help="of the masks (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.steps < 1:
        parser.error(f"--steps: has to be a whole number above 0, but got {options.steps}")
    if not 0 <= options.p <= 1:
        parser.error(f"--p: has to be between 0 and 1, but got {options.p}")
    if "RANK" not in os.environ:
        parser.error("start it with torchrun --nproc-per-node 2")
    return options


def main(argv=None):
    """Both runs; the first worker returns the losses of two workers, or as many as there are, and of one."""
    options = parse(argv)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, workers = dist.get_rank(), dist.get_world_size()
    if BATCH % workers:
        raise SystemExit(f"{BATCH} examples do not go into {workers} equal parts")
    part = fd.Shard(0, rank, workers)
    together = train(DistributedDataParallel(network(options.p, part, options.dropout)), options, rank, workers)
    figures = None
    if rank == 0:
        alone = train(network(options.p, None, options.dropout), options)
        print(f"step   loss on {workers}    loss on 1    apart")
        for step in sorted({0, *range(9, options.steps, 10), options.steps - 1}):
            two, one = together[step], alone[step]
            print(f"{step + 1:4}   {two:9.6f}   {one:10.6f}   {abs(two - one):.1e}", flush=True)
        figures = {"together": together, "alone": alone}
    gc.collect()  # DistributedDataParallel's threads end before the group that they use
    dist.barrier()
    dist.destroy_process_group()
    return figures


if __name__ == "__main__":
    main()
