"""Whether an MPI launcher has started this process, before any MPI library is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Place", "launched"]

#: Where launchers say how many processes they have started, and which this one is: Open MPI's, MPICH's (Intel's too),
#: MVAPICH's, and Slurm's with PMIx.
SAID = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "PMIX_RANK"),
)


class Place(NamedTuple):
    """Which process of a job this is, from 0, and how many there are."""

    rank: int
    size: int


def launched(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process' place in a job of several; None where it is alone.

    Examples
    --------
    >>> launched({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"})
    Place(rank=3, size=4)
    >>> launched({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"})
    >>> launched({"SLURM_STEP_NUM_TASKS": "4"})
    """
    for size, rank in SAID:
        count, own = environment.get(size, ""), environment.get(rank, "")
        if count.isdecimal() and own.isdecimal() and int(count) > 1:
            return Place(int(own), int(count))
    return None
