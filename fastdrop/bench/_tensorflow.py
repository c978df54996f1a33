"""TensorFlow as a contender, as a compiled graph, on as many threads as it takes."""

from __future__ import annotations

import importlib
import os
from typing import Any

from .cases import Arrays, Case
from .ready import Answer, Ready

__all__ = ["PREPARE"]


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what it says of its own start is no part of a report
    tf = importlib.import_module("tensorflow")
    tf.get_logger().setLevel("ERROR")  # nor that each case is traced anew
    return tf


def _rate(case: Case) -> dict[str, Any]:
    rate: dict[str, Any] = {"rate": case.p}
    if case.family.startswith("spatial"):
        n, c = case.maps
        rate["noise_shape"] = [n, c, 1, 1] if case.family == "spatial-nchw" else [n, 1, 1, c]
    return rate


def _forward(case: Case, arrays: Arrays) -> Ready:
    tf = _tensorflow()
    x, rate = tf.constant(arrays.x), _rate(case)
    graph = tf.function(lambda x: tf.nn.dropout(x, **rate))
    return Ready(lambda: graph(x), lambda y: Answer((y.numpy(),)))


def _forward_backward(case: Case, arrays: Arrays) -> Ready:
    tf = _tensorflow()
    x, dy, rate = tf.constant(arrays.x), tf.constant(arrays.dy), _rate(case)

    @tf.function
    def both(x: Any, dy: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.nn.dropout(x, **rate)
        return y, tape.gradient(y, x, dy)

    return Ready(lambda: both(x, dy), lambda outputs: Answer(tuple(t.numpy() for t in outputs)))


PREPARE = {
    "forward": _forward,
    "forward+backward": _forward_backward,
    "spatial-nchw": _forward,
    "spatial-nhwc": _forward,
    "small-calls": _forward,
}
