"""fastdrop: dropout at the speed of a copy, with masks that are values.

A mask is a law and a strided view over its infinite bit sequence, never an array::

    import numpy as np, fastdrop as fd

    rng  = fd.Generator(seed=0)
    mask = rng.mask(x.shape, p=0.5)        # a value: key, call, p, start, shape, strides
    y    = mask.apply(x)                   # keep ? x / (1-p) : 0
    dx   = mask.apply(dy)                  # backward is the same operator

    y = fd.dropout(x, p=0.5, rng=rng)      # the one-liner

The training framework is ``fastdrop.nn``, the MNIST comparison the command ``fastdrop mnist``. Importing fastdrop needs
NumPy alone.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from ._core import Generator, Mask, Noise, apply_masks
from ._version import __version__
from .alpha import alpha_dropout, feature_alpha_dropout
from .block import drop_block1d, drop_block2d, drop_block3d, drop_block_mask, drop_block_seeds
from .broadcast import drop_path, dropout1d, dropout2d, dropout3d, locked_dropout, spatial_dropout, token_dropout
from .connections import dropconnect, dropconnect_backward
from .functional import dropout
from .fused import activation_dropout, dropout_add
from .gaussian import gaussian_dropout, gaussian_noise
from .random import default_generator, manual_seed
from .recurrent import zoneout
from .runtime import available_isas, get_num_threads, isa, set_isa, set_num_threads
from .softmax import softmax_dropout, softmax_dropout_backward, softmax_dropout_forward
from .words import embedding_dropout, word_dropout

if TYPE_CHECKING:
    from .shards import Shard

__all__ = [
    "Generator",
    "Mask",
    "Noise",
    "Shard",
    "__version__",
    "activation_dropout",
    "alpha_dropout",
    "apply_masks",
    "available_isas",
    "default_generator",
    "drop_block1d",
    "drop_block2d",
    "drop_block3d",
    "drop_block_mask",
    "drop_block_seeds",
    "drop_path",
    "dropconnect",
    "dropconnect_backward",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "gaussian_noise",
    "get_include",
    "get_num_threads",
    "isa",
    "locked_dropout",
    "manual_seed",
    "set_isa",
    "set_num_threads",
    "softmax_dropout",
    "softmax_dropout_backward",
    "softmax_dropout_forward",
    "spatial_dropout",
    "token_dropout",
    "word_dropout",
    "zoneout",
]

_MODULES = (
    "alpha",
    "bench",
    "block",
    "broadcast",
    "connections",
    "functional",
    "fused",
    "gaussian",
    "mnist",
    "nn",
    "optim",
    "random",
    "recurrent",
    "reference",
    "runtime",
    "shards",
    "softmax",
    "words",
)
# Names of the framework that PyTorch has at the top level, so that its examples run with the import changed.
_FROM_NN = (
    "Tensor",
    "arange",
    "as_tensor",
    "cat",
    "enable_grad",
    "from_numpy",
    "is_grad_enabled",
    "no_grad",
    "ones",
    "rand",
    "randint",
    "randn",
    "stack",
    "tensor",
    "zeros",
)


def get_include() -> str:
    """The folder of ``fastdrop.h``, for compiling C or Cython code that uses the kernels.

    Examples
    --------
    >>> import os, fastdrop
    >>> os.path.exists(os.path.join(fastdrop.get_include(), "fastdrop.h"))
    True
    """
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def __getattr__(name: str) -> Any:
    # The framework loads on first use: `import fastdrop` stays as quick as the kernels alone.
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "Shard":
        return importlib.import_module(f"{__name__}.shards").Shard
    if name in _FROM_NN:
        return getattr(importlib.import_module(f"{__name__}.nn"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_FROM_NN, "Shard"})
