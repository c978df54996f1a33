"""What the machine is, as far as it tells."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from . import _limits

__all__ = ["PACKAGES", "describe"]

#: Whose versions a report names: by the names they are installed by.
PACKAGES = ("numpy", "ml_dtypes", "numba", "torch", "jax", "tensorflow", "tensorflow-cpu", "matplotlib")


def _cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found.get('model', '?')})"
    return name


def _caches() -> list[str]:
    """Of the first core: "L1 48K (data)" and so on; empty where the system does not say."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return found


def describe() -> dict[str, Any]:
    """CPU, caches, and the stores that the streaming copies use.

    Examples
    --------
    >>> sorted(describe())
    ['caches', 'cpu', 'stores']
    """
    return {"cpu": _cpu(), "caches": _caches(), "stores": _limits.stores()}
