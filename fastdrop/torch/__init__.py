"""Dropout for PyTorch: modules with torch.nn's arguments, and `functional` with torch.nn.functional's.

On CPU tensors a mask is a value, (key, call), and never a tensor: nothing is saved for backward, which makes the same
bits again. PyTorch's default generator gives the keys, so that ``torch.manual_seed``, ``fork_rng`` and checkpointing
mean what they always meant; ``generator=`` takes a `fastdrop.Generator` for a stream of a module's own. Tensors of
other devices, layouts and dtypes go to PyTorch's own functions. Where a tensor is a part of a whole, on one of several
workers, ``shard=`` or a DTensor's placements say which, and its mask is that part of the whole's.

Read `stream` (where keys come from), `ops` (the operator), `drop` (which way a call takes), `parts` and `sharded`
(parts of a whole), then `functional`.
"""

from __future__ import annotations

from fastdrop._extra import extra

extra("torch", "torch")

from fastdrop.torch import functional  # noqa: E402
from fastdrop.torch.connections import DropConnectLinear  # noqa: E402
from fastdrop.torch.modules import (  # noqa: E402
    AlphaDropout,
    DropBlock2d,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    FeatureAlphaDropout,
    LockedDropout,
)
from fastdrop.torch.stream import checkpoint_contexts  # noqa: E402
from fastdrop.torch.swap import accelerate  # noqa: E402
from fastdrop.torch.switch import disable, enable, enabled  # noqa: E402
from fastdrop.torch.weight_drop import WeightDrop  # noqa: E402

__all__ = [
    "AlphaDropout", "DropBlock2d", "DropConnectLinear", "DropPath", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d",
    "FeatureAlphaDropout", "LockedDropout", "WeightDrop", "accelerate", "checkpoint_contexts",
    "disable", "enable", "enabled", "functional",
]  # fmt: skip
