"""Who competes in what: the one list that the paired runs, the report and the benchmark files share."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from .. import runtime
from . import _copies, _drop_in, _dropconnect, _jax, _kinds, _numba, _numpy, _ours, _tensorflow, _torch, blas
from .cases import DTYPES, FAMILIES, Arrays, Case
from .ready import Ready

__all__ = ["CONTENDERS", "COPIES", "Contender", "Entry", "entries", "entry"]

Prepare = Callable[[Case, Arrays], Ready]


@dataclass(frozen=True)
class Contender:
    """Someone who competes.

    Parameters
    ----------
    name : str
        On the command line.
    title : str
        In a report.
    role : {"ours", "peer", "limit"}
    prepare : mapping
        Per family that it competes in: what makes it ready for a case.
    module : str, optional
        The package it needs, beside NumPy.
    dtypes : tuple of str
        What it can take.
    threads : {"told", "one", "own"}
        Whether it runs on as many threads as it is told, always on one, or on as many as it takes.
    spins : bool
        Whether threads of its own go on spinning after a call (OpenMP's do, for about 10 ms; Eigen's, too).
    products : bool
        Whether NumPy's BLAS does its work, on as many threads as it is told.
    """

    name: str
    title: str
    role: str
    prepare: Mapping[str, Prepare]
    module: str | None = None
    dtypes: tuple[str, ...] = DTYPES
    threads: str = "told"
    spins: bool = False
    products: bool = False

    @property
    def missing(self) -> bool:
        """Whether its package is not installed."""
        return self.module is not None and importlib.util.find_spec(self.module) is None


_COPIED = [name for name, family in FAMILIES.items() if family.limit == "the copy"]

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("fastdrop", "fastdrop", "ours", {**_ours.PREPARE, **_kinds.OURS, **_dropconnect.OURS}),
        Contender("fastdrop-apply", "fastdrop, mask.apply alone", "ours", {"small-calls": _ours.prepare_apply}),
        Contender(
            "fastdrop-plain", "fastdrop without dropout", "ours",
            {"training-step": partial(_ours.prepare_step, dropout=False)},
        ),
        Contender("fastdrop-torch", "fastdrop.torch", "ours", _drop_in.OURS, "torch", spins=True),
        Contender("memcpy", "memcpy", "limit", dict.fromkeys(_COPIED, _copies.prepare_memcpy)),
        Contender("stream", "streaming copy", "limit", dict.fromkeys(_COPIED, _copies.prepare_stream)),
        Contender("stream4", "streaming copy, 4 pages", "limit", dict.fromkeys(_COPIED, _copies.prepare_stream4)),
        Contender("dense", "the dense product", "limit", _dropconnect.DENSE, spins=True, products=True),
        Contender(
            "numpy-naive", "NumPy, naive", "peer", {**_numpy.NAIVE, **_kinds.NAIVE, **_dropconnect.NAIVE},
            threads="one",
        ),
        Contender("numpy-stored", "NumPy, stored mask", "peer", _dropconnect.STORED, threads="one"),
        Contender("numpy-good", "NumPy, good", "peer", _numpy.GOOD, threads="one"),
        Contender("numba", "Numba", "peer", _numba.PREPARE, "numba", ("float32", "float64"), spins=True),
        Contender(
            "torch", "PyTorch", "peer",
            {**_torch.PREPARE, **_kinds.TORCH, **_dropconnect.TORCH, **_drop_in.THEIRS}, "torch", spins=True,
        ),
        Contender(
            "torch-plain", "PyTorch without dropout", "peer",
            {"training-step": partial(_torch.prepare_step, dropout=False), **_drop_in.PLAIN}, "torch", spins=True,
        ),
        Contender("jax", "JAX", "peer", _jax.PREPARE, "jax", ("float32", "float16", "bfloat16"), "own", True),
        Contender("tensorflow", "TensorFlow", "peer", _tensorflow.PREPARE, "tensorflow", threads="own", spins=True),
    )
}  # fmt: skip

#: The limits that "copy" stands for: the fastest of them in the same run.
COPIES = ("memcpy", "stream", "stream4")


@dataclass(frozen=True)
class Entry:
    """A contender in a case that it can run, or the reason why it cannot."""

    label: str
    contender: Contender
    case: Case
    skipped: str | None = None

    def ready(self, arrays: Arrays) -> Ready:
        """Prepare it; `arrays` are those of a case that differs in threads and instruction set at most."""
        made = self.contender.prepare[self.case.family](self.case, arrays)
        several = self.case.threads > 1 or self.contender.threads == "own"
        return replace(made, spins=(self.contender.spins or made.spins) and several)


def _reason(contender: Contender, case: Case) -> str | None:
    if contender.missing:
        return f"{contender.module} is not installed"
    if case.dtype == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
        return "ml_dtypes is not installed"
    if case.family not in contender.prepare:
        return f"does not compete in {case.family}"
    if case.dtype not in contender.dtypes and case.family != "mask-bits":
        return f"takes no {case.dtype}"
    if contender.products and blas.get_threads() is None:
        return "the threads of NumPy's BLAS cannot be told"
    if contender.role == "ours" and case.isa is not None and case.isa not in runtime.available_isas():
        return f"this machine or build cannot run {case.isa}"
    return None


def entry(spec: str, case: Case) -> Entry:
    """Find who competes, from ``NAME[@ISA][:THREADS]``.

    Raises
    ------
    ValueError
        If nobody has this name.

    Examples
    --------
    >>> entry("fastdrop@portable:2", Case("forward", 1024)).label
    'fastdrop portable, 2 threads'
    >>> entry("numba", Case("forward", 1024, dtype="float16")).skipped is None
    False
    """
    match = re.fullmatch(r"([a-z0-9-]+)(?:@([a-z0-9]+))?(?::(\d+))?", spec)
    if match is None or match[1] not in CONTENDERS:
        raise ValueError(f"a contender has to be one of copy, {', '.join(CONTENDERS)}, but got {spec!r}")
    contender = CONTENDERS[match[1]]
    if match[2] and contender.role != "ours":
        raise ValueError(f"only fastdrop has instruction sets to choose from, but got {spec!r}")
    case = replace(case, isa=match[2] or case.isa, threads=int(match[3] or case.threads))
    isa = f" {case.isa or runtime.isa()}" if contender.role == "ours" else ""
    threads = case.threads if contender.threads == "told" else 1 if contender.threads == "one" else 0
    told = f", {threads} threads" if threads > 1 else ", own threads" if threads == 0 else ""
    return Entry(f"{contender.title}{isa}{told}", contender, case, _reason(contender, case))


def entries(case: Case) -> list[Entry]:
    """Everybody in a case's family, the limits first, with the reason of those that cannot run."""
    order = {"limit": 0, "ours": 1, "peer": 2}
    found = [c for c in CONTENDERS.values() if case.family in c.prepare]
    return [entry(c.name, case) for c in sorted(found, key=lambda c: order[c.role])]
