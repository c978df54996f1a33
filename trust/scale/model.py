"""What a step of data-parallel training takes on N ranks: in closed form, and event by event.

Each rank has the same number of examples. It runs forward and backward; gradients are summed over the ranks in buckets,
which start one after the other as soon as backward has filled them, beside the rest of backward; then the optimizer
runs. Seconds and bytes throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["NETWORKS", "Measured", "Network", "Step", "buckets", "closed_form", "simulate"]


@dataclass(frozen=True)
class Network:
    """A network as a latency and a bandwidth of each rank, in bytes per second.

    Attributes
    ----------
    beside : bool
        Whether sums go on beside the computation, as they do where a network card or another core moves the bytes; else
        they take the ranks' own time.
    """

    name: str
    latency: float
    bandwidth: float
    beside: bool = True

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds to sum `size` bytes over the ranks: reduce-scatter by halving, all-gather by doubling.

        Rabenseifner's algorithm, as analysed by Thakur, Rabenseifner, Gropp, "Optimization of collective communication
        operations in MPICH", IJHPCA 19 (2005). The additions are in the bandwidth.

        >>> Network("", 1.0, 1.0).all_reduce(8.0, 1), Network("", 1.0, 1.0).all_reduce(8.0, 4)
        (0.0, 16.0)
        """
        if ranks == 1:
            return 0.0
        return 2 * math.ceil(math.log2(ranks)) * self.latency + 2 * (ranks - 1) / ranks * size / self.bandwidth


@dataclass(frozen=True)
class Measured(Network):
    """Two ranks whose sums were timed: (bytes, seconds), by bytes. In between, and beyond, along straight lines."""

    sums: tuple[tuple[float, float], ...] = ()

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds to sum `size` bytes over the two.

        >>> two = Measured("", 0.0, 0.0, sums=((2.0, 1.0), (4.0, 3.0)))
        >>> [two.all_reduce(size, 2) for size in (1.0, 3.0, 8.0)], two.all_reduce(3.0, 1)
        ([1.0, 2.0, 6.0], 0.0)
        """
        if ranks == 1:
            return 0.0
        (many, longest) = self.sums[-1]
        if size > many:
            return longest * size / many
        return float(np.interp(size, *zip(*self.sums)))


#: Round figures of what machines are connected by; latencies are those of a message through the library.
NETWORKS = (Network("10 Gbit/s Ethernet", 30e-6, 1.1e9), Network("200 Gbit/s InfiniBand", 3e-6, 22e9))


@dataclass(frozen=True)
class Step:
    """A step of one rank by itself.

    Attributes
    ----------
    forward, backward, optimizer : float
    gradients : tuple of (float, float)
        In the order that backward makes them: bytes, and the share of backward after which they are there.
    spread : float
        Standard deviation of the logarithm of what forward and backward take, from step to step and rank to rank.
    """

    forward: float
    backward: float
    optimizer: float
    gradients: tuple[tuple[float, float], ...]
    spread: float = 0.0

    @property
    def alone(self) -> float:
        """Seconds of a step on one rank."""
        return self.forward + self.backward + self.optimizer


#: Bytes of PyTorch's first bucket, which is small so that sums start soon.
FIRST = float(1 << 20)


def buckets(gradients: Sequence[tuple[float, float]], size: float) -> list[tuple[float, float]]:
    """Gradients gathered to buckets of at least `size` bytes, but for the first and the last.

    Each is there with its last gradient. This is how PyTorch's DistributedDataParallel gathers them.

    >>> buckets([(2.0, 0.5), (3.0, 0.75), (1.0, 1.0)], 4.0)
    [(5.0, 0.75), (1.0, 1.0)]
    """
    made: list[tuple[float, float]] = []
    held = 0.0
    for i, (many, when) in enumerate(gradients):
        held += many
        if held >= (size if made else min(FIRST, size)) or i == len(gradients) - 1:
            made.append((held, when))
            held = 0.0
    return made


def _summed(ready: Sequence[float], sums: Sequence[float]) -> float:
    """When the last of sums is done that run one after the other, each when it is ready."""
    end = 0.0
    for start, takes in zip(ready, sums):
        end = max(end, start) + takes
    return end


def closed_form(step: Step, network: Network, ranks: int, bucket: float) -> float:
    """Seconds of a step: all ranks as slow as the slowest of them is on average.

    With m the mean of the largest of N normal numbers (Blom's approximation), s the spread, f and b forward and
    backward, r_k the share of backward that fills bucket k and c_k what its sum takes:

        T = max(F + B, F + max_k (r_k B + c_k + c_k+1 + ...)) + optimizer,   F, B = f exp(m s), b exp(m s)

    or F + B + c_1 + c_2 + ... + optimizer where sums take the ranks' own time.

    >>> step = Step(1.0, 2.0, 0.5, ((8.0, 0.5), (8.0, 1.0)))
    >>> closed_form(step, Network("", 0.0, 16.0), 2, 8.0), closed_form(step, Network("", 0.0, 16.0, False), 2, 8.0)
    (4.0, 4.5)
    """
    slowest = math.exp(step.spread * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))) if ranks > 1 else 1.0
    forward, backward = step.forward * slowest, step.backward * slowest
    parts = buckets(step.gradients, bucket)
    sums = [network.all_reduce(size, ranks) for size, _ in parts]
    if not network.beside:
        return forward + backward + sum(sums) + step.optimizer
    left = [sum(sums[k:]) for k in range(len(sums))]
    latest = max(when * backward + rest for (_, when), rest in zip(parts, left))
    return forward + max(backward, latest) + step.optimizer


def simulate(step: Step, network: Network, ranks: int, bucket: float, *, steps: int = 400, seed: int = 0) -> float:
    """Seconds of a step, on average over many: forward and backward take a lognormal time, each rank its own.

    A bucket's sum starts when the last rank has filled it and the sum before is done; the optimizer runs when the last
    sum is done, and the next step begins with it on all ranks.

    >>> step = Step(1.0, 2.0, 0.5, ((8.0, 0.5), (8.0, 1.0)))
    >>> simulate(step, Network("", 0.0, 16.0), 2, 8.0)
    4.0
    """
    rng = np.random.default_rng(seed)
    parts = buckets(step.gradients, bucket)
    sums = [network.all_reduce(size, ranks) for size, _ in parts]
    # The median is what was measured.
    factors = np.exp(step.spread * rng.standard_normal((steps, ranks)))
    forward, backward = step.forward * factors, step.backward * factors
    total = 0.0
    for own_forward, own_backward in zip(forward, backward):
        done = (own_forward + own_backward).max()
        if network.beside:
            ready = [float((own_forward + when * own_backward).max()) for _, when in parts]
            done = max(done, _summed(ready, sums))
        else:
            done += sum(sums)
        total += done + step.optimizer
    return float(total / steps)
