"""A rank that times steps of PyTorch's DistributedDataParallel: started by `torch.distributed.run`, or alone.

One thread a rank. A round takes a step without dropout, one with PyTorch's and one with fastdrop's, in a random order
that all ranks share.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import fastdrop.torch
from fastdrop.bench.networks import mlp

__all__ = ["SETTINGS", "VARIANTS"]

VARIANTS = ("none", "pytorch", "fastdrop")
#: Sizes of the sums whose times say what latency and bandwidth are.
SUMS = (1 << 16, 1 << 20, 1 << 22, 26 << 20, 1 << 26)

#: p, examples of a rank, rounds.
SETTINGS = {"mlp": (0.5, 128, 200), "bert": (0.1, 4, 8)}
TOKENS = 128


def _bert(p: float) -> nn.Module:
    """The encoder of BERT-base, without its embeddings."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, p, "gelu", batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 12, enable_nested_tensor=False), nn.Flatten(), nn.LazyLinear(2))


def _made(name: str, p: float, batch: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = mlp(nn, p) if name == "mlp" else _bert(p)
    shape = (batch, 784) if name == "mlp" else (batch, TOKENS, 768)
    torch.manual_seed(1 + dist.get_rank() if dist.is_initialized() else 1)
    x, y = torch.randn(shape), torch.randint(0, 2, (batch,))
    torch.manual_seed(2)
    model(x)
    return model, x, y


@contextmanager
def _as(variant: str, model: nn.Module, p: float) -> Iterator[None]:
    """Whose dropout the model has, if any."""
    rate = 0.0 if variant == "none" else p
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = rate
    if variant != "fastdrop":
        yield
        return
    size = dist.get_world_size() if dist.is_initialized() else 1
    part = fastdrop.Shard(0, dist.get_rank(), size) if size > 1 else None
    with fastdrop.torch.enabled(shard=part):
        yield


def _steps(name: str) -> dict[str, Any]:
    p, batch, rounds = SETTINGS[name]
    model, x, y = _made(name, p, batch)
    wrapped = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    order = np.random.default_rng(0)
    times: dict[str, list[tuple[float, ...]]] = {variant: [] for variant in VARIANTS}
    for i in range(rounds + 1):
        for variant in order.permutation(VARIANTS):
            with _as(str(variant), model, p):
                if dist.is_initialized():
                    dist.barrier()
                stamps = [time.perf_counter()]
                loss = nn.functional.cross_entropy(wrapped(x), y)
                stamps.append(time.perf_counter())
                loss.backward()
                stamps.append(time.perf_counter())
                optimizer.step()
                optimizer.zero_grad()
                stamps.append(time.perf_counter())
            if i:  # the first makes memory, and DDP its buckets
                times[str(variant)].append(tuple(b - a for a, b in itertools.pairwise(stamps)))
    weights = [parameter.numel() * parameter.element_size() for parameter in reversed(list(model.parameters()))]
    return {"pytorch": torch.__version__, "p": p, "examples": batch, "seconds": times, "gradients": weights}


def _sums() -> dict[str, float]:
    """Seconds of sums over the ranks, by bytes: medians, all ranks starting together."""
    found = {}
    for size in SUMS:
        data = torch.zeros(size // 4)
        taken = []
        for _ in range(12):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(data)
            taken.append(time.perf_counter() - start)
        found[str(size)] = float(np.median(taken[2:]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=SETTINGS)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together:
        dist.init_process_group("gloo")
    found = _steps(args.network)
    if together:
        found["sums"] = _sums()
        rank = dist.get_rank()
        gc.collect()  # DistributedDataParallel's threads end before the group they use
        dist.barrier()
        dist.destroy_process_group()
    if not together or rank == 0:
        args.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
