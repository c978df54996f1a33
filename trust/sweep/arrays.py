"""What is swept of ``fastdrop``: functions on arrays, masks, noise, generators, the machine, the command line."""

from __future__ import annotations

import functools
import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop import block, cli, softmax
from fastdrop import random as fd_random

from .target import Good, Target, constant, floats, generator, mask, poison, signature_names

P: dict[str, Good] = {"p": constant(0.5), "training": constant(True), "rng": generator}


def kind(name: str, *shape: int, **more: Any) -> Target:
    """A kind of dropout: x of a shape, p, training, rng, out, and what its signature has beside."""
    function = getattr(fd, name)
    named = signature_names(function)
    good = {named[0]: more.pop("x", floats(*shape))}
    may = {k: v for k, v in P.items() if k in named}
    may["out"] = poison(*shape, dtype=good[named[0]](None).dtype)  # type: ignore[arg-type]
    good.update(more.pop("good", {}))
    return Target(f"fd.{name}", function, good, {**may, **more.pop("may", {})}, named, **more)


def _softmax_rows(context: Any) -> Any:
    return softmax.softmax_dropout_forward(floats(4, 6)(context), 0.5, rng=generator(context))[1]


def _item(self: Any, key: Any) -> Any:
    return type(fd.Mask(0, 0, 0.5, ())).__getitem__(self, key)


def _contains(kind: Any, self: Any, value: Any) -> Any:
    return kind.__contains__(self, value)


def _drawing_from(generator: Any) -> None:
    with fd_random.drawing_from(generator):
        pass


def _array(kind: Any, self: Any, dtype: Any) -> Any:
    return kind.__array__(self, dtype)


def _set_state(self: Any, state: Any) -> None:
    fd.Generator.state.__set__(self, state)  # type: ignore[attr-defined]


def _from_pickle(self: Any, shape: Any, strides: Any) -> Any:
    """What a damaged pickle would call."""
    function, arguments = (fd.Noise if type(self) is fd.Noise else fd.Mask).__reduce__(self)
    return function(*arguments[:-3], shape, 0, strides)


def _state(context: Any) -> dict[str, Any]:
    return dict(generator(context).state)


def _new_mask(context: Any) -> fd.Mask:
    return fd.Mask(1, 2, 0.5, (4, 6))


def _new_noise(context: Any) -> fd.Noise:
    return fd.Noise(1, 2, (4, 6))


def command(words: Any) -> int:
    """The command line with words of which at least one is wrong; its errors are told, and its status is 2."""
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        status = cli.main([*words, "--no-such-flag"] if isinstance(words, (list, tuple)) else words)
    if status != 2:
        raise AssertionError(f"status {status}: {told.getvalue()}")
    if "Traceback" in told.getvalue():
        raise AssertionError(told.getvalue())
    return status


KINDS = (
    kind("dropout", 4, 6, may={"noise_shape": constant((4, 1)), "scaling": constant("standard")}, bits=True),
    kind("dropout1d", 2, 3, 4, bits=True),
    kind("dropout2d", 2, 3, 4, 4, bits=True),
    kind("dropout3d", 2, 3, 2, 4, 4, bits=True),
    kind("spatial_dropout", 2, 3, 4, bits=True),
    kind("drop_path", 4, 6, bits=True),
    kind("locked_dropout", 2, 3, 4, bits=True),
    kind("token_dropout", 4, 6, bits=True),
    kind("embedding_dropout", 4, 6, bits=True),
    kind("word_dropout", 4, 6, x=floats(4, 6, dtype=np.int64), bits=True),
    kind("alpha_dropout", 4, 6, bits=True),
    kind("feature_alpha_dropout", 4, 6, bits=True),
    kind("gaussian_dropout", 4, 6, bits=True),
    kind("gaussian_noise", 4, 6, may={"std": constant(0.5)}, bits=True),
    kind("drop_block1d", 2, 3, 8, may={"block_size": constant(3)}, bits=True),
    kind("drop_block2d", 2, 8, 8, may={"block_size": constant(3)}, bits=True),
    kind("drop_block3d", 2, 4, 4, 4, may={"block_size": constant(2)}, bits=True),
    kind("activation_dropout", 4, 6, may={"bias": floats(6), "activation": constant("relu")}, bits=True),
    kind("dropout_add", 4, 6, good={"residual": floats(4, 6)}, bits=True),
    kind("zoneout", 4, 6, good={"previous": floats(4, 6)}, bits=True),
    kind("softmax_dropout", 4, 6, may={"axis": constant(0)}),
    kind("softmax_dropout_forward", 4, 6, may={"axis": constant(0)}),
)

FUNCTIONS = (
    Target(
        "fd.softmax_dropout_backward",
        fd.softmax_dropout_backward,
        {"dy": floats(4, 6), "saved": _softmax_rows},
        {"out": poison(4, 6)},
        words=("x",),
    ),
    Target(
        "fd.SoftmaxRows parts",
        lambda dy, x, rows, mask, axis: fd.softmax_dropout_backward(dy, softmax.SoftmaxRows(x, rows, mask, axis)),
        {"dy": floats(4, 6), "x": floats(4, 6), "rows": floats(4, 2), "mask": mask(4, 6), "axis": constant(1)},
    ),
    Target(
        "fd.dropconnect",
        fd.dropconnect,
        {"x": floats(4, 6), "w": floats(3, 6)},
        {
            "bias": floats(3),
            "p": constant(0.5),
            "rng": generator,
            "per_example": constant(False),
            "drop_bias": constant(True),
        },
        ("training", "mask", "bias_mask"),
    ),
    Target(
        "fd.dropconnect_backward",
        fd.dropconnect_backward,
        {"dy": floats(4, 3), "x": floats(4, 6), "w": floats(3, 6), "mask": mask(4, 3, 6)},
    ),
    Target(
        "fd.apply_masks",
        fd.apply_masks,
        {"masks": lambda c: [fd.Mask(1, t, 0.5, (4, 6)) for t in range(3)], "x": floats(4, 6)},
        {"out": poison(3, 4, 6), "scale": constant(2.0)},
        bits=True,
    ),
    Target("fd.drop_block_mask", fd.drop_block_mask, {"seeds": mask(2, 6, 6), "shape": constant((2, 8, 8))}, bits=True),
    Target(
        "fd.drop_block_seeds",
        fd.drop_block_seeds,
        {"shape": constant((2, 3, 8, 8)), "spatial": constant(2)},
        {"p": constant(0.1), "block_size": constant(3), "rng": generator},
        ("channels_last",),
    ),
    Target(
        "block.seed_probability",
        block.seed_probability,
        {"extents": constant((8, 8)), "block_size": constant(3), "p": constant(0.1)},
    ),
    Target("fd.manual_seed", fd.manual_seed, {"seed": constant(1)}),
    Target("fd.set_isa", fd.set_isa, {"name": constant("portable")}, words=("isa",)),
    Target("fd.set_num_threads", fd.set_num_threads, {"n": constant(1)}, words=("number of threads",)),
    Target("random.drawing_from", _drawing_from, {"generator": generator}),
)

NEW: dict[str, Good] = {"key": constant(1), "call": constant(2), "shape": constant((4, 6))}
VIEW_WORDS = ("array", "bits", "axes", "index", "indices", "broadcast", "reshape", "elements", "immutable")

VALUES = (
    Target(
        "fd.Mask",
        fd.Mask,
        {**NEW, "p": constant(0.5)},
        {"start": constant(3), "strides": constant((6, 1))},
        words=VIEW_WORDS,
    ),
    Target("fd.Noise", fd.Noise, NEW, {"start": constant(3), "strides": constant((6, 1))}, words=VIEW_WORDS),
    Target("fd.Generator", fd.Generator, {"seed": constant(1)}),
    Target(
        "Mask.apply",
        fd.Mask.apply,
        {"self": _new_mask, "x": floats(4, 6)},
        {"out": poison(4, 6), "scale": constant(2.0)},
        bits=True,
        words=("mask",),
    ),
    Target(
        "Noise.apply",
        fd.Noise.apply,
        {"self": _new_noise, "x": floats(4, 6), "sigma": constant(0.5)},
        {"out": poison(4, 6), "kind": constant("additive")},
        bits=True,
        words=("noise",),
    ),
    *(
        Target(
            f"{type(make(None)).__name__}.{name}",
            function,
            {"self": make, **good},
            spread=spread,
            words=VIEW_WORDS,
            loud=loud,
        )  # type: ignore[arg-type]
        for make in (_new_mask, _new_noise)
        for name, function, good, spread, loud in (
            ("broadcast_to", type(make(None)).broadcast_to, {"shape": constant((3, 4, 6))}, "", ()),
            ("reshape", type(make(None)).reshape, {"shape": constant((6, -1))}, "shape", ()),
            (
                "shard",
                type(make(None)).shard,
                {"axis": constant(0), "rank": constant(1), "size": constant(2), "interleaved": constant(True)},
                "",
                (),
            ),
            ("transpose", type(make(None)).transpose, {"axes": constant((1, 0))}, "axes", ()),
            ("getitem", _item, {"key": constant((1, slice(None)))}, "", (IndexError,)),
            ("array", functools.partial(_array, type(make(None))), {"dtype": constant(np.float32)}, "", ()),
            ("in", functools.partial(_contains, type(make(None))), {"value": constant(True)}, "", ()),
            ("reduced", _from_pickle, {"shape": constant((4, 6)), "strides": constant((6, 1))}, "", ()),
        )
    ),
    Target(
        "fd.Shard",
        fd.Shard,
        {"axis": constant(0), "rank": constant(1), "size": constant((2, 3))},
        {"interleaved": constant(False)},
    ),
    Target("Mask.packbits", fd.Mask.packbits, {"self": _new_mask}),
    Target("Generator.mask", fd.Generator.mask, {"self": generator, "shape": constant((4, 6))}, {"p": constant(0.5)}),
    Target("Generator.noise", fd.Generator.noise, {"self": generator, "shape": constant((4, 6))}),
    Target("Generator.spawn", fd.Generator.spawn, {"self": generator, "n_children": constant(3)}),
    Target("Generator.numpy", fd.Generator.numpy, {"self": generator}),
    Target("Generator.manual_seed", fd.Generator.manual_seed, {"self": generator, "seed": constant(3)}),
    Target("Generator.state", _set_state, {"self": generator, "state": _state}),
    Target(
        "Generator.state['key']",
        lambda self, key: _set_state(self, {"key": key, "call": 3}),
        {"self": generator, "key": constant(3)},
        words=("state",),
    ),
    Target(
        "Generator.state['seed_seq']",
        lambda self, entropy, spawn_key: _set_state(
            self, {"key": 1, "call": 3, "seed_seq": {"entropy": entropy, "spawn_key": spawn_key}}
        ),
        {"self": generator, "entropy": constant(3), "spawn_key": constant((1,))},
        words=("state",),
    ),
    Target("Generator reduced", lambda state: fd.Generator(0).__reduce__()[0](state), {"state": _state}),
)

FLAGS = (
    "mnist",
    "bench",
    "info",
    "--quick",
    "--epochs",
    "--model",
    "--p",
    "--n",
    "--family",
    "--seeds",
    "--out",
    "--config",
    "--data",
    "--resume",
    "--train-size",
    "0",
    "-1",
    "nan",
    "x",
    "",
    "1e400",
    "cnn",
    "--lr",
    "--regularizer",
    "l2=a",
    "none",
    "--version",
    "--help",
    "--list",
    "\ud800",
    "--jobs",
    "64Ki",
    "--only",
    "numpy-good",
    "--optimizer",
    "--schedule",
)


def _words(context: Any) -> list[str]:
    said = [context.source.choice(FLAGS) for _ in range(context.source.randrange(5))]
    # What ends with status 0 ends before the wrong flag is seen.
    return [word for word in said if word not in ("--version", "--help")]


COMMAND = (Target("cli.main", command, {"words": _words}, words=("argv",)),)

TARGETS: tuple[Target, ...] = (*KINDS, *FUNCTIONS, *VALUES, *COMMAND)
