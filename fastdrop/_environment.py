"""What a run runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import numpy as np

import fastdrop

from .bench import _limits


def version(package: str) -> str | None:
    """The installed version of a package, by the name it is installed by; None where there is none.

    Examples
    --------
    >>> version("fastdrop") == fastdrop.__version__
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Describe what a run ran on: versions, the compiler of the compiled modules, instruction set, threads.

    Examples
    --------
    >>> environment()["isa"] in fastdrop.available_isas()
    True
    """
    return {
        "fastdrop": fastdrop.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "compiler": _limits.COMPILER,
        "isa": fastdrop.isa(),
        "threads": fastdrop.get_num_threads(),
    }
