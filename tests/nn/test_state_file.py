"""What a file of nested state holds, exactly."""

import numpy as np
import pytest

from fastdrop import nn
from fastdrop.nn.state_file import read_state, write_state

from .runs import assert_same

pytest.importorskip("safetensors")


def test_every_value_survives_in_its_type(tmp_path):
    nan = np.frombuffer(bytes.fromhex("0100000000f8ff7f"), np.float64)[0]  # with a payload
    state = {
        "numbers": [0, -1, 2**64 - 1, 2**64, -(2**200), 1 << 40000, True, False, None, 0.1, -0.0, 5e-324, 1e308],
        "not finite": [float("inf"), float("-inf"), float("nan"), float(nan)],
        "\ud800": {"\n": np.ones(1)},
        "strings": ["", "é\0\n", "\ud800", "{'array': 'x'}"],
        "nested": {"array": {"tuple": [(), [], {}, (1, [2, (3,)])]}, 3: {(1, 2): "t", None: 1.5}},
        "scalars": [np.float32(0.1), np.float64(nan), np.int8(-3), np.bool_(True), np.datetime64("2020-01-01")],
        "dtypes": [np.array([1, 0, 1]).astype(code) for code in "?bBhHiIqQefdgFD"],
        "swapped": np.arange(3, dtype=">f4"),
        "words": np.array(["a", "bcd"]),
        "shapes": [np.array(2.5, np.float16), np.zeros((0, 3)), np.zeros(0, bool), np.arange(12).reshape(3, 4).T[::2]],
        "a": {"b": np.ones(1)},
        "a.b": np.zeros(1),
        "tensor": nn.Tensor(np.arange(3.0)),
    }
    write_state(tmp_path / "c", state)
    back = read_state(tmp_path / "c")
    assert back.keys() == state.keys()
    assert_same(back, state)
    back["dtypes"][0][0] = False  # they can be written to


def test_more_than_safetensors_takes(tmp_path, monkeypatch):
    import safetensors.numpy

    def fail(*_, **__):  # as above 100 MB of metadata
        raise safetensors.SafetensorError("header too large")

    monkeypatch.setattr(safetensors.numpy, "save", fail)
    with pytest.raises(ValueError, match=r"c cannot hold this state, with 1 arrays .*: header too large"):
        write_state(tmp_path / "c", {"a": "x", "b": np.ones(3)})
    assert not list(tmp_path.iterdir())
