"""Everything that is swept."""

from __future__ import annotations

from . import arrays, core, network, torch_targets, training
from .target import Target

TARGETS: tuple[Target, ...] = (
    *arrays.TARGETS,
    *network.TARGETS,
    *training.TARGETS,
    *core.TARGETS,
    *torch_targets.TARGETS,
)
