"""Sizes, cases and the arrays that contenders share."""

from __future__ import annotations

import numpy as np
import pytest

from fastdrop.bench.cases import FAMILIES, WIDTH, Arrays, Case, count, parse_count


@pytest.mark.parametrize(
    ("text", "n"),
    [("256", 256), ("16Ki", 2**14), ("64Mi", 2**26), ("64mi", 2**26), (" 1 Gi ", 2**30), ("1.5Ki", 1536), ("2k", 2000)],
)
def test_counts(text: str, n: int) -> None:
    assert parse_count(text) == n


@pytest.mark.parametrize("text", ["", "Mi", "0", "0Ki", "-1", "1.3", "1e6", "16 K i", "64MB", "0x10", "ten", "1_000"])
def test_bad_counts(text: str) -> None:
    with pytest.raises(ValueError, match="256, 16Ki or 64Mi, but got"):
        parse_count(text)


@pytest.mark.parametrize("n", [1, 255, 2**10, 2**17, 2**26, 3 * 2**20, 1000])
def test_counts_come_back(n: int) -> None:
    assert parse_count(count(n)) == n


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"family": "sideways"}, "family has to be one of forward, "),
        ({"dtype": "int8"}, "dtype has to be one of float32, "),
        ({"n": 0}, "n has to be from 1 to "),
        ({"n": 2**40 + 1}, "n has to be from 1 to "),
        ({"threads": 0}, "threads has to be from 1 to 256"),
        ({"threads": 257}, "threads has to be from 1 to 256"),
        ({"p": 0.0}, "inside 0 to 1"),
        ({"p": 1.0}, "inside 0 to 1"),
        ({"p": 1.5}, "between 0 and 1, but got 1.5"),
        ({"family": "spatial-nchw", "n": 1000}, "power of two, but got 1000"),
        ({"family": "training-step", "n": 1000}, "multiple of 512"),
        ({"family": "training-step", "n": 1024, "dtype": "float64"}, "has to be float32, but got float64"),
        ({"family": "cnn-step", "n": 1000}, "multiple of 784"),
        ({"family": "mlp-step", "n": 784, "dtype": "float16"}, "has to be float32"),
        ({"family": "dropconnect", "n": 1000}, "multiple of 640000, but got 1000"),
        ({"family": "dropconnect-dx", "n": 640000, "dtype": "float16"}, "has to be float32 or float64, but got"),
    ],
)
def test_bad_cases(bad: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Case(**{"family": "forward", "n": 1024, **bad})  # type: ignore[arg-type]


def test_every_family_has_a_case() -> None:
    for name, family in FAMILIES.items():
        case = Case(name, family.full)
        assert np.prod(case.shape) == case.n


@pytest.mark.parametrize("power", range(25))
def test_spatial_shapes_hold_n_elements(power: int) -> None:
    case = Case("spatial-nchw", 2**power)
    assert len(case.shape) == 4 and np.prod(case.shape) == 2**power
    assert case.over(np.ones(case.maps)).shape == (*case.maps, 1, 1)
    last = Case("spatial-nhwc", 2**power)
    assert last.over(np.ones(last.maps)).shape == (last.maps[0], 1, 1, last.maps[1])


def test_arrays_are_aligned_alike_and_hold_no_zero(dtype: np.dtype) -> None:
    arrays = Arrays(Case("forward+backward", 3001, dtype.name))
    for array in (arrays.x, arrays.y, arrays.dy, arrays.dx):
        assert array.shape == (3001,) and array.dtype == dtype and array.ctypes.data % 4096 == 64
    assert (arrays.x != 0).all() and (arrays.dy != 0).all()
    assert (arrays.x < 0).any() and (arrays.x > 0).any()
    assert not np.array_equal(arrays.x, arrays.dy)
    arrays.poison()
    assert not np.array_equal(arrays.x, arrays.y)
    arrays.refill()
    assert np.array_equal(arrays.x, arrays.y)


def test_arrays_of_more_than_one_period() -> None:
    arrays = Arrays(Case("forward", 2**20 + 7 + 100, "float16"))
    assert np.array_equal(arrays.x[-100:], arrays.x[:100])


def test_operands_of_products() -> None:
    arrays = Arrays(Case("dropconnect", 3 * WIDTH**2))
    assert arrays.shape == (3, WIDTH, WIDTH)
    assert (arrays.x.shape, arrays.w.shape, arrays.dy.shape) == ((3, WIDTH), (WIDTH, WIDTH), (3, WIDTH))
    assert not np.array_equal(arrays.x, arrays.dy)


def test_packed_arrays() -> None:
    assert Arrays(Case("mask-bits", 1001)).x.shape == (126,)
