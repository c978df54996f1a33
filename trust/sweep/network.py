"""What is swept of ``fastdrop.nn``: tensors, functions, layers, initial weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop import nn
from fastdrop.nn import functional as F
from fastdrop.nn import init

from .target import Good, Target, constant, floats, generator, maker, signature_names


def tensors(*shape: int, dtype: Any = np.float32, grad: bool = False) -> Good:
    return lambda context: nn.Tensor(floats(*shape, dtype=dtype)(context), requires_grad=grad)


def classes(*shape: int, below: int = 3) -> Good:
    return lambda context: np.arange(np.prod(shape)).reshape(shape) % below


X = tensors(4, 6)


def function(name: str, first: Good = X, words: tuple[str, ...] = (), **good: Any) -> Target:
    """A function of nn.functional: the first argument, those that are needed, and all that its signature has."""
    called = getattr(F, name)
    named = signature_names(called)
    needed = {named[0]: first, **{k: maker(v) for k, v in good.items()}}
    may = {"generator": generator} if "generator" in named else {}
    return Target(f"F.{name}", called, needed, may, named, words=(name, *words))


FUNCTIONS = (
    *(
        function(name)
        for name in (
            "dropout",
            "alpha_dropout",
            "feature_alpha_dropout",
            "gaussian_dropout",
            "gaussian_noise",
            "drop_path",
            "token_dropout",
            "embedding_dropout",
            "activation_dropout",
            "relu",
            "elu",
            "selu",
            "silu",
            "gelu",
            "tanh",
            "sigmoid",
            "leaky_relu",
            "flatten",
        )
    ),
    *(function(name, tensors(2, 3, 4)) for name in ("dropout1d", "locked_dropout")),
    function("dropout2d", tensors(2, 3, 4, 4)),
    function("dropout3d", tensors(2, 3, 2, 4, 4)),
    function("drop_block1d", tensors(2, 3, 8), block_size=3),
    function("drop_block2d", tensors(2, 8, 8), block_size=3),
    function("drop_block3d", tensors(2, 4, 4, 4), block_size=2),
    function("word_dropout", tensors(4, 6, dtype=np.int64)),
    function("dropout_add", residual=X),
    function("zoneout", previous=X),
    function("softmax", dim=1),
    function("log_softmax", dim=1),
    function("softmax_dropout"),
    function("linear", weight=tensors(3, 6), bias=tensors(3)),
    function("dropconnect", weight=tensors(3, 6), bias=tensors(3)),
    function("conv2d", tensors(2, 3, 5, 5), weight=tensors(2, 3, 2, 2), bias=tensors(2)),
    function("max_pool2d", tensors(2, 3, 5, 5), kernel_size=2),
    function("embedding", classes(4, 6), weight=tensors(8, 3, grad=True), words=("token",)),
    function("batch_norm", running_mean=tensors(6), running_var=tensors(6), training=True),
    function("layer_norm", normalized_shape=6),
    function("cross_entropy", target=classes(4), words=("Target", "class")),
    function("nll_loss", target=classes(4), words=("Target", "class")),
    *(
        function(name, target=X)
        for name in (
            "mse_loss",
            "l1_loss",
            "huber_loss",
            "smooth_l1_loss",
            "binary_cross_entropy_with_logits",
        )
    ),
    function("kl_div", target=lambda c: nn.Tensor(np.full((4, 6), 0.5, np.float32))),
    function("scaled_dot_product_attention", tensors(2, 4, 6), key=tensors(2, 4, 6), value=tensors(2, 4, 6)),
)


def layer(name: str, arguments: dict[str, Any], *inputs: Good, words: tuple[str, ...] = ()) -> tuple[Target, ...]:
    """A layer's constructor, and its call."""
    cls = getattr(nn, name)
    named = signature_names(cls)
    may = {"generator": generator} if "generator" in named else {}
    needed = {k: maker(v) for k, v in arguments.items()}
    new = Target(f"nn.{name}", cls, needed, may, named, words=words)
    if not inputs:
        return (new,)

    def make(context: Any) -> Any:
        extra = {"generator": generator(context)} if may else {}
        return cls(**{k: v(context) for k, v in needed.items()}, **extra)

    names = ("input", "other")[: len(inputs)]

    def call(module: Any, input: Any, **more: Any) -> Any:
        return module(input, *more.values())

    return (
        new,
        Target(
            f"nn.{name}()",
            call,
            {"module": make, **dict(zip(names, inputs))},
            words=(*words, name, *signature_names(cls.forward)),
        ),
    )


SEQUENCE = tensors(5, 2, 6)

LAYERS = (
    *(
        target
        for name in (
            "Dropout",
            "AlphaDropout",
            "FeatureAlphaDropout",
            "GaussianDropout",
            "GaussianNoise",
            "DropPath",
            "TokenDropout",
            "ActivationDropout",
            "ReLU",
            "ELU",
            "SELU",
            "SiLU",
            "GELU",
            "LeakyReLU",
            "Tanh",
            "Sigmoid",
            "Flatten",
            "Identity",
        )
        for target in layer(name, {}, X, words=("start_dim", "end_dim"))
    ),
    *layer("Dropout1d", {}, tensors(2, 3, 4)),
    *layer("Dropout2d", {}, tensors(2, 3, 4, 4)),
    *layer("Dropout3d", {}, tensors(2, 3, 2, 4, 4)),
    *layer("LockedDropout", {}, tensors(2, 3, 4)),
    *layer("DropBlock1d", {"block_size": 3}, tensors(2, 3, 8)),
    *layer("DropBlock2d", {"block_size": 3}, tensors(2, 8, 8)),
    *layer("DropBlock3d", {"block_size": 2}, tensors(2, 4, 4, 4)),
    *layer("WordDropout", {}, tensors(4, 6, dtype=np.int64)),
    *layer("DropoutAdd", {}, X, X, words=("residual",)),
    *layer("Zoneout", {}, X, X, words=("previous",)),
    *layer("Softmax", {"dim": 1}, X, words=("dim",)),
    *layer("LogSoftmax", {"dim": 1}, X, words=("dim",)),
    *layer("Linear", {"in_features": 6, "out_features": 2}, X, words=("features", "linear")),
    *layer("DropConnectLinear", {"in_features": 6, "out_features": 2}, X, words=("features", "dropconnect")),
    *layer(
        "Conv2d",
        {"in_channels": 3, "out_channels": 2, "kernel_size": 2},
        tensors(2, 3, 5, 5),
        words=("conv2d", "channels"),
    ),
    *layer("MaxPool2d", {"kernel_size": 2}, tensors(2, 3, 5, 5), words=("max_pool2d",)),
    *layer("Embedding", {"num_embeddings": 8, "embedding_dim": 3}, classes(4, 6), words=("embedding", "token")),
    *layer("LayerNorm", {"normalized_shape": 6}, X, words=("layer_norm",)),
    *layer("BatchNorm1d", {"num_features": 6}, X, words=("batch_norm", "features")),
    *layer("BatchNorm2d", {"num_features": 3}, tensors(2, 3, 4, 4), words=("batch_norm", "features")),
    *layer("RNN", {"input_size": 6, "hidden_size": 3}, SEQUENCE),
    *layer("LSTM", {"input_size": 6, "hidden_size": 3}, SEQUENCE),
    *layer("GRU", {"input_size": 6, "hidden_size": 3}, SEQUENCE),
    *layer("MultiheadAttention", {"embed_dim": 6, "num_heads": 2}),
    *layer(
        "TransformerEncoderLayer",
        {"d_model": 6, "nhead": 2, "dim_feedforward": 8},
        SEQUENCE,
        words=("MultiheadAttention", "dropout probability"),
    ),
    *layer(
        "TransformerEncoder",
        {"encoder_layer": lambda c: nn.TransformerEncoderLayer(6, 2, 8), "num_layers": 1},
        SEQUENCE,
        words=("MultiheadAttention",),
    ),
    *layer("WeightDrop", {"module": lambda c: nn.Linear(6, 2), "names": ("weight",)}, X),
    *layer("Sequential", {}),
    *layer("ModuleList", {}),
    *layer("Parameter", {"data": floats(4)}),
    *layer(
        "MaxNorm", {"params": lambda c: [nn.Parameter(np.ones((4, 6), np.float32))], "max_norm": 2.0}, words=("axes",)
    ),
    *layer("EarlyStopping", {}),
    *layer("History", {}),
    *(
        target
        for name in ("MSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss", "KLDivLoss", "BCEWithLogitsLoss")
        for target in layer(name, {}, X, X, words=("target",))
    ),
    *(
        target
        for name in ("CrossEntropyLoss", "NLLLoss")
        for target in layer(name, {}, X, classes(4), words=("target", "Target", "class"))
    ),
    Target(
        "nn.MultiheadAttention()",
        lambda module, query, key, value, key_padding_mask, attn_mask: module(
            query, key, value, key_padding_mask=key_padding_mask, attn_mask=attn_mask
        ),
        {
            "module": lambda c: nn.MultiheadAttention(6, 2),
            "query": SEQUENCE,
            "key": SEQUENCE,
            "value": SEQUENCE,
            "key_padding_mask": constant(None),
            "attn_mask": constant(None),
        },
        words=("MultiheadAttention",),
    ),
    Target(
        "nn.LSTM() with hx",
        lambda module, input, hx: module(input, hx),
        {
            "module": lambda c: nn.LSTM(6, 3),
            "input": SEQUENCE,
            "hx": lambda c: (tensors(1, 2, 3)(c), tensors(1, 2, 3)(c)),
        },
        words=("h_0", "c_0"),
    ),
)


def method(name: str, make: Good = X, words: tuple[str, ...] = (), spread: str = "", **good: Any) -> Target:
    """A method of Tensor; who calls it is right, what it is given is not."""
    called = getattr(nn.Tensor, name)
    needed = {k: maker(v) for k, v in good.items()}
    return Target(
        f"Tensor.{name}",
        called,
        {"self": make, **needed},
        {},
        signature_names(called),
        spread=spread,
        words=(name.strip("_"), *words),
        loud=(IndexError,),
    )


OPERATORS = (
    "add",
    "sub",
    "mul",
    "truediv",
    "pow",
    "matmul",
    "radd",
    "rsub",
    "rmul",
    "rtruediv",
    "rpow",
    "lt",
    "ge",
    "eq",
)


def _operator(name: str) -> Callable[[Any, Any], Any]:
    def call(self: Any, other: Any) -> Any:
        result = getattr(self, f"__{name}__")(other)
        if result is NotImplemented:
            raise TypeError(f"unsupported operand other of {name}")  # as Python says of it, both types named
        return result

    return call


def _assign(self: Any, key: Any, value: Any) -> None:
    self[key] = value


METHODS = (
    *(
        Target(
            f"Tensor.__{name}__",
            _operator(name),
            {"self": tensors(6, 6), "other": tensors(6, 6)},
            words=("operand", "operands", "tensors", "mat1", "shapes", "ufunc", name),
        )
        for name in OPERATORS
    ),
    *(
        method(name, other=X, words=("operand", "operands", "value", "broadcast", "assignment"))
        for name in ("add_", "sub_", "mul_", "div_", "copy_")
    ),
    method("matmul", other=tensors(6, 2), words=("operand", "mat1")),
    Target(
        "Tensor.getitem",
        lambda self, key: self[key],
        {"self": X, "key": constant(1)},
        loud=(IndexError,),
        words=("index", "indices", "__array_interface__", "indexing", "broadcast", "slice"),
    ),
    Target(
        "Tensor.setitem",
        _assign,
        {"self": X, "key": constant(1), "value": constant(2.0)},
        loud=(IndexError,),
        words=("index", "indices", "assign", "assignment", "broadcast", "slice"),
    ),
    method("reshape", shape=(6, 4), spread="shape"),
    method("permute", dims=(1, 0), spread="dims"),
    method("transpose", dim0=0, dim1=1),
    method("flatten"),
    method("squeeze"),
    method("unsqueeze", dim=1),
    method("sum"),
    method("mean"),
    method("max"),
    method("argmax"),
    method("size"),
    method("softmax", dim=1),
    method("log_softmax", dim=1),
    method("to", dtype=np.float64),
    method("requires_grad_"),
    method("backward", lambda c: tensors(4, 6, grad=True)(c) * 2, gradient=floats(4, 6), words=("grad_output", "grad")),
    method("detached"),
    Target("nn.Tensor", nn.Tensor, {"array": floats(4)}, {"requires_grad": constant(True)}),
    Target("nn.tensor", nn.tensor, {"data": constant([1.0, 2.0])}, {}, ("dtype", "requires_grad")),
    Target("nn.as_tensor", nn.as_tensor, {"data": constant([1.0, 2.0])}, words=("tensor",)),
    Target("nn.from_numpy", nn.from_numpy, {"array": floats(4)}, words=("tensor",)),
    *(
        Target(
            f"nn.{name}", getattr(nn, name), {"size": constant((4, 6))}, {}, ("dtype", "requires_grad"), spread="size"
        )
        for name in ("zeros", "ones")
    ),
    *(
        Target(
            f"nn.{name}",
            getattr(nn, name),
            {"size": constant((4, 6))},
            {"generator": generator},
            ("dtype", "requires_grad"),
            spread="size",
        )
        for name in ("randn", "rand")
    ),
    Target(
        "nn.randint",
        nn.randint,
        {"low": constant(0), "high": constant(9), "size": constant((4,))},
        {"generator": generator},
    ),
    Target("nn.arange", nn.arange, {"start": constant(0), "stop": constant(9)}, {"step": constant(2)}, ("dtype",)),
    Target(
        "nn.cat", nn.cat, {"tensors": lambda c: [X(c), X(c)]}, {"dim": constant(1)}, words=("cat",), loud=(IndexError,)
    ),
    Target(
        "nn.stack",
        nn.stack,
        {"tensors": lambda c: [X(c), X(c)]},
        {"dim": constant(1)},
        words=("stack",),
        loud=(IndexError,),
    ),
)


def _init(name: str, **good: Any) -> Target:
    called = getattr(init, name)
    named = signature_names(called)
    first = {"tensor": X} if named[0] == "tensor" else {}
    needed = {k: constant(v) for k, v in good.items()}
    may = {"generator": generator} if "generator" in named else {}
    return Target(f"init.{name}", called, {**first, **needed}, may, named, words=("fan", name.strip("_"), "Tensor"))


INIT = (
    _init("calculate_gain", nonlinearity="relu"),
    _init("constant_", val=1.0),
    *(_init(name) for name in init.__all__ if name not in ("calculate_gain", "constant_")),
)

TARGETS: tuple[Target, ...] = (*FUNCTIONS, *LAYERS, *METHODS, *INIT)
