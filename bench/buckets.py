"""Steps that two processes share: how large buckets are best, and what overlapping them with backward is worth.

    OMP_NUM_THREADS=1 mpiexec -n 2 python -m bench.buckets [--batch 128] [--rounds 31]

All ways take turns, so that what else the machine does meets all of them; compare the ratios. Only rank 0 prints.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop import nn, optim
from fastdrop.nn import shared_step
from fastdrop.nn.parallel import Team
from fastdrop.nn.shared_step import Buckets
from fastdrop.nn.tensor import Tensor
from fastdrop.nn.train import _step as plain_step

#: Steps of each way in a round.
STEPS = 5
KI = 1 << 10


class AtTheEnd(Buckets):
    """Sends the same messages, all after backward."""

    def ready(self, leaf: Tensor) -> None:
        self.__dict__.setdefault("held", []).append(leaf)

    def finish(self) -> Any:
        for leaf in self.held:
            super().ready(leaf)
        return super().finish()


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 800), nn.ReLU(), nn.Dropout(), nn.Linear(800, 800), nn.ReLU(), nn.Dropout(), nn.Linear(800, 10)
    )


def deep() -> nn.Module:
    hidden = [layer for _ in range(8) for layer in (nn.ReLU(), nn.Dropout(), nn.Linear(256, 256))]
    return nn.Sequential(nn.Linear(784, 256), *hidden, nn.Linear(256, 10))


def ways(comm: Any, make: Callable[[], nn.Module], batch: int) -> dict[str, Callable[[], Any]]:
    """What is compared; the first is one process alone."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((batch, 784)).astype(np.float32), rng.integers(0, 10, batch)
    fd.manual_seed(0)
    model = make()
    optimizer, team, loss = optim.Adam(model.parameters()), Team(comm), nn.functional.cross_entropy
    rows, own = np.arange(batch), np.arange(batch // team.size)

    def shared(limit: int, kind: type[Buckets] = Buckets) -> None:
        shared_step.Buckets = partial(kind, limit=limit)  # type: ignore[misc, assignment]
        shared_step.shared_step(team, model, loss, optimizer, X, y, rows, ValueError)

    def alone() -> None:
        if team.rank == 0:
            plain_step(model, loss, optimizer, X, y, rows, ValueError)
        ready = comm.Ibarrier()
        while not ready.Test():
            time.sleep(0.0005)  # and leave the machine to rank 0

    return {
        "one process alone": alone,
        "own part, nothing sent": lambda: plain_step(model, loss, optimizer, X, y, own, ValueError),
        "one bucket, at the end": lambda: shared(1 << 40),
        "1 MiB, all at the end": lambda: shared(KI * KI, AtTheEnd),
        **{f"{size} KiB": partial(shared, size * KI) for size in (16, 64, 256, 1024, 4096)},
    }


def main() -> int:
    from mpi4py import MPI

    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=31)
    args = parser.parse_args()
    comm = MPI.COMM_WORLD
    fd.set_num_threads(1)
    for make in (perceptron, deep):
        compared = ways(comm, make, args.batch)
        times: dict[str, list[float]] = {name: [] for name in compared}
        for _ in range(args.rounds + 1):  # the first warms up
            for name, way in compared.items():
                comm.Barrier()
                began = time.perf_counter()
                for _ in range(STEPS):
                    way()
                comm.Barrier()
                times[name].append((time.perf_counter() - began) / STEPS)
        if comm.Get_rank() == 0:
            first = np.array(times["one process alone"][1:])
            print(f"{make.__name__}, batch {args.batch}, {comm.Get_size()} processes")
            for name, values in times.items():
                found = np.array(values[1:])
                print(f"  {name:24}{1e3 * np.median(found):8.2f} ms {np.median(found / first):8.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
