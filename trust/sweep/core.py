"""What is swept of ``fastdrop._core``. It is private, and its callers check: here a call only may not crash.

Not swept: `apply_memory` and `set_team`, which take addresses. Nothing a user passes gets there unchecked: they are
called by fastdrop.torch with a tensor's own pointer, shape and strides.
"""

from __future__ import annotations

import numpy as np

from fastdrop import _core

from .target import Target, constant, floats, generator, mask, poison

GEOMETRY = constant(((2, 2), (1, 1), (0, 0), (1, 1)))


def _uint(*shape: int, dtype: type = np.uint8):  # type: ignore[no-untyped-def]
    return lambda context: np.zeros(shape, dtype)


TARGETS: tuple[Target, ...] = (
    Target("_core.apply_fresh", _core.apply_fresh, {"rng": generator, "x": floats(4, 6), "p": constant(0.5)}),
    Target(
        "_core.block_apply",
        _core.block_apply,
        {"seeds": mask(2, 3), "x": floats(4, 6)},
        {"out": poison(4, 6)},
        ("scale",),
    ),
    Target("_core.block_bools", _core.block_bools, {"seeds": mask(2, 3), "shape": constant((4, 6))}),
    Target("_core.check_apart", _core.check_apart, {"out": poison(4, 6), "x": floats(4, 6), "name": constant("x")}),
    Target("_core.check_dtype", _core.check_dtype, {"x": floats(4, 6)}),
    Target("_core.check_out", _core.check_out, {"x": floats(4, 6), "out": poison(4, 6)}),
    Target("_core.check_second", _core.check_second, {"x": floats(4, 6), "second": floats(6), "name": constant("z")}),
    Target(
        "_core.dropconnect_forward",
        _core.dropconnect_forward,
        {"mask": mask(4, 3, 6), "x": floats(4, 6), "w": floats(3, 6), "scale": constant(2.0)},
        {"out": poison(4, 3)},
    ),
    Target(
        "_core.dropconnect_dx",
        _core.dropconnect_dx,
        {"mask": mask(4, 3, 6), "dy": floats(4, 3), "w": floats(3, 6), "scale": constant(2.0)},
    ),
    Target(
        "_core.dropconnect_dw",
        _core.dropconnect_dw,
        {"mask": mask(4, 3, 6), "dy": floats(4, 3), "x": floats(4, 6), "scale": constant(2.0)},
    ),
    Target(
        "_core.fused",
        _core.fused,
        {"mask": mask(4, 6), "operation": constant("add"), "x": floats(4, 6), "second": floats(6)},
        {"out": poison(4, 6)},
        ("name", "activation", "scale", "shift", "dropped"),
    ),
    Target(
        "_core.give_back",
        _core.give_back,
        {"rng": generator, "key": constant(0), "before": constant(0), "after": constant(1)},
    ),
    Target("_core.take_call", _core.take_call, {"rng": generator}),
    Target("_core.inverted_scale", _core.inverted_scale, {"p": constant(0.5)}),
    Target("_core.use_isa", _core.use_isa, {"name": constant("portable")}),
    Target("_core.use_threads", _core.use_threads, {"n": constant(2)}),
    Target(
        "_core.softmax_dropout",
        _core.softmax_dropout,
        {"mask": mask(4, 6), "x": floats(4, 6), "axis": constant(1)},
        {"out": poison(4, 6), "rows": poison(4, 2)},
    ),
    Target(
        "_core.softmax_dropout_grad",
        _core.softmax_dropout_grad,
        {"mask": mask(4, 6), "x": floats(4, 6), "rows": floats(4, 2), "dy": floats(4, 6), "axis": constant(1)},
        {"out": poison(4, 6)},
    ),
    Target("_core.relu", _core.relu, {"x": floats(4, 6), "y": poison(4, 6)}, {"taken": _uint(4, 6)}),
    Target("_core.relu_grad", _core.relu_grad, {"dy": floats(4, 6), "taken": _uint(4, 6), "dx": poison(4, 6)}),
    Target(
        "_core.adam",
        _core.adam,
        {
            "gradient": floats(6),
            "p": floats(6),
            "mean": floats(6),
            "square": floats(6),
            "beta1": constant(0.9),
            "beta2": constant(0.9),
            "eps": constant(0.1),
            "decay": constant(0.0),
            "rate": constant(0.1),
            "root": constant(1.0),
        },
        {"largest": floats(6)},
    ),
    Target(
        "_core.sgd",
        _core.sgd,
        {"gradient": floats(6), "p": floats(6), "rate": constant(0.1)},
        {"velocity": floats(6)},
        ("momentum", "dampening", "decay", "nesterov"),
    ),
    Target(
        "_core.max_pool",
        _core.max_pool,
        {
            "x": floats(2, 4, 4, 3),
            "y": poison(2, 3, 3, 3),
            "winner": _uint(2, 3, 3, 3, dtype=np.uint16),
            "geometry": GEOMETRY,
        },
    ),
    Target(
        "_core.max_pool_grad",
        _core.max_pool_grad,
        {
            "dy": floats(2, 3, 3, 3),
            "winner": _uint(2, 3, 3, 3, dtype=np.uint16),
            "dx": poison(2, 4, 4, 3),
            "geometry": GEOMETRY,
        },
    ),
    Target(
        "_core.conv",
        _core.conv,
        {
            "x": floats(2, 4, 4, 3),
            "weight": floats(2, 3, 2, 2),
            "bias": floats(2),
            "y": poison(2, 3, 3, 2),
            "geometry": GEOMETRY,
        },
        {},
        ("turned",),
    ),
    Target(
        "_core.conv_weights",
        _core.conv_weights,
        {
            "x": floats(2, 4, 4, 3),
            "dy": floats(2, 3, 3, 2),
            "dweight": poison(2, 3, 2, 2),
            "dbias": poison(2),
            "geometry": GEOMETRY,
        },
    ),
    Target(
        "_core.conv_takes",
        _core.conv_takes,
        {"images": constant((2, 4, 4, 3)), "results": constant((2, 3, 3, 2)), "geometry": GEOMETRY},
    ),
)
