"""What is swept of ``fastdrop.torch``, where PyTorch is there. What PyTorch itself says is PyTorch's."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

import fastdrop as fd

from .target import Good, Target, floats, generator, maker, signature_names

TARGETS: tuple[Target, ...] = ()

if importlib.util.find_spec("torch"):
    import torch

    import fastdrop.torch
    from fastdrop.torch import functional as TF

    def shard(context: Any) -> Any:
        return fd.Shard(0, context.source.randrange(2), 2)

    def enter(context: Any) -> None:
        with context:
            pass

    def tensors(*shape: int, dtype: Any = np.float32) -> Good:
        return lambda context: torch.from_numpy(floats(*shape, dtype=dtype)(context))

    #: What PyTorch's own functions call an argument that is no tensor.
    WORDS = (
        "Tensor",
        "argument",
        "input",
        "self",
        "dropout probability",
        "dimension",
        "dimensions",
        "device",
        "CPU",
        "has no attribute",
        "ambiguous",
        "convert",
    )

    def function(name: str, first: Good, **good: Any) -> Target:
        called = getattr(TF, name)
        named = signature_names(called)
        needed = {named[0]: first, **{k: maker(v) for k, v in good.items()}}
        return Target(
            f"torch.{name}",
            called,
            needed,
            {"generator": generator, "shard": shard},
            named,
            words=(*WORDS, name),
            loud=(NotImplementedError, IndexError, AttributeError),
        )

    def layer(name: str, first: Good, *loud: type[BaseException], **good: Any) -> tuple[Target, ...]:
        cls = getattr(fastdrop.torch, name)
        needed = {k: maker(v) for k, v in good.items()}
        new = Target(
            f"torch.nn.{name}",
            cls,
            needed,
            {"generator": generator, "shard": shard},
            signature_names(cls),
            words=WORDS,
            loud=loud,
        )

        def make(context: Any) -> Any:
            return cls(**{k: v(context) for k, v in needed.items()}, generator=generator(context))

        call = Target(
            f"torch.nn.{name}()",
            lambda module, input: module(input),
            {"module": make, "input": first},
            words=(*WORDS, name, "mat1", "shape"),
            loud=(NotImplementedError, IndexError, AttributeError),
        )
        return new, call

    X = tensors(4, 6)
    KINDS = (
        ("Dropout", "dropout", X, {}),
        ("Dropout1d", "dropout1d", tensors(2, 3, 4), {}),
        ("Dropout2d", "dropout2d", tensors(2, 3, 4, 4), {}),
        ("Dropout3d", "dropout3d", tensors(2, 3, 2, 4, 4), {}),
        ("AlphaDropout", "alpha_dropout", X, {}),
        ("FeatureAlphaDropout", "feature_alpha_dropout", X, {}),
        ("DropPath", "drop_path", X, {}),
        ("LockedDropout", "locked_dropout", tensors(2, 3, 4), {}),
        ("DropBlock2d", "drop_block2d", tensors(2, 8, 8), {"block_size": 3}),
    )
    TARGETS = (
        *(function(name, first, **good) for _, name, first, good in KINDS),
        *(target for name, _, first, good in KINDS for target in layer(name, first, **good)),
        *layer("DropConnectLinear", X, in_features=6, out_features=2),
        *layer("WeightDrop", X, AttributeError, module=lambda c: torch.nn.Linear(6, 2), names=("weight",)),
        function("dropconnect", X, weight=tensors(3, 6), bias=tensors(3)),
        function("scaled_dot_product_attention", tensors(2, 4, 6), key=tensors(2, 4, 6), value=tensors(2, 4, 6)),
        Target(
            "torch.accelerate",
            lambda model, generator=None, shard=None: fastdrop.torch.accelerate(
                model, False, generator=generator, shard=shard
            ),
            {"model": lambda c: torch.nn.Dropout()},
            {"generator": generator, "shard": shard},
        ),
        Target("torch.enabled", lambda shard: enter(fastdrop.torch.enabled(shard)), {"shard": shard}),
        Target(
            "torch.checkpoint_contexts",
            lambda generator: fastdrop.torch.checkpoint_contexts(generator),
            {"generator": generator},
            words=("generators",),
        ),
    )
