"""PyTorch's own dropouts, as they were when this was imported: `enable` puts others in their places."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

__all__ = ["ORIGINALS"]

_NAMES = (
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "scaled_dot_product_attention", "multi_head_attention_forward",
)  # fmt: skip
ORIGINALS: dict[str, Callable[..., Tensor]] = {name: getattr(F, name) for name in _NAMES}
