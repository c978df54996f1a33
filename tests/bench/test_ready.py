"""The check before the timing: right contenders pass, wrong ones are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import fastdrop as fd
from fastdrop.bench import _dropconnect, blas
from fastdrop.bench.cases import DTYPES, FAMILIES, TOKENS, WIDTH, Arrays, Case
from fastdrop.bench.contenders import entries, entry
from fastdrop.bench.kinds import KINDS
from fastdrop.bench.paired import settings_kept
from fastdrop.bench.ready import Answer, Ready, WrongAnswer, check

N = 2**13
RNG = np.random.default_rng(0)


def case_of(family: str, **more: object) -> Case:
    images = dict.fromkeys(("cnn-step", "mlp-step", "torch-mlp"), 64 * 784)
    n = {"small-calls": 256, "training-step": 2**14, "torch-transformer": 2 * TOKENS, **images}.get(family, N)
    if family.startswith("dropconnect"):
        n = 2 * WIDTH**2
    return Case(family, n, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_everybody_here_is_right(family: str, p: float) -> None:
    case = case_of(family, p=p)
    arrays = Arrays(case)
    with settings_kept():
        for found in entries(case):
            # These take seconds to import: the benchmark files have them.
            if found.skipped is None and found.contender.module not in ("jax", "tensorflow", "numba"):
                check(found.ready(arrays), arrays, found.case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 4095, 65535, 65537, 140000])
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_every_dtype_and_odd_sizes(dtype: str, n: int, p: float) -> None:
    for family in ("forward", "forward+backward", "in-place", "mask-bits"):
        case = Case(family, n, dtype, p)
        arrays = Arrays(case)
        for name in ("fastdrop", "numpy-good", "numpy-naive", "stream4", "torch"):
            found = entry(name, case)
            if found.skipped is None:
                check(found.ready(arrays), arrays, case)


def forward(y: Callable[[np.ndarray], np.ndarray]) -> tuple[Ready, Arrays, Case]:
    """A contender that makes y of x."""
    case = Case("forward", N, p=0.25)
    arrays = Arrays(case)
    return Ready(lambda: y(arrays.x), lambda y: Answer((y,))), arrays, case


def kept(share: float, n: int = N) -> np.ndarray:
    return np.random.default_rng(0).random(n) < share


@pytest.mark.parametrize(
    ("y", "complaint"),
    [
        (lambda x: (x * kept(0.75)).astype(x.dtype), "neither 0 nor x / "),
        (lambda x: (x * kept(0.70) / 0.75).astype(x.dtype), "kept 0.7"),
        (lambda x: (x * kept(0.80) / 0.75).astype(x.dtype), "kept 0.7|kept 0.8"),
        (lambda x: (x / 0.75).astype(x.dtype), "kept 1.0"),
        (lambda x: np.zeros_like(x), "kept 0.0"),
        (lambda x: (x * kept(0.75) / 0.75)[:-1].astype(x.dtype), "an output of"),
        (lambda x: x * (RNG.random(N) < 0.75) / 0.75, None),
        (lambda x: (x * kept(0.75) / 0.75).astype(np.float64), "an output of float64"),
        (lambda x: (np.abs(x) * kept(0.75) / 0.75).astype(x.dtype), "neither 0"),
        (lambda x: np.append((x * kept(0.75) / 0.75)[:-1], np.nan).astype(x.dtype), "from element 0 on"),
        (lambda x: x.copy(), "kept 1.0"),
    ],
)
def test_a_wrong_peer_is_caught(y: Callable[[np.ndarray], np.ndarray], complaint: str | None) -> None:
    ready, arrays, case = forward(y)
    if complaint is None:
        check(ready, arrays, case)
    else:
        with pytest.raises(WrongAnswer, match=complaint):
            check(ready, arrays, case)


def test_a_peer_that_does_nothing_is_caught() -> None:
    """What an earlier contender left in the output must not count."""
    case = Case("forward", N)
    arrays = Arrays(case)
    entry("fastdrop", case).ready(arrays).call()
    with pytest.raises(WrongAnswer, match="kept 1"):
        check(Ready(lambda: None, lambda _: Answer((arrays.y,))), arrays, case)


@pytest.mark.parametrize("family", ["forward", "in-place", "mask-bits"])
def test_a_peer_with_one_mask_for_all_calls_is_caught(family: str) -> None:
    case = Case(family, N, p=0.25)
    arrays = Arrays(case)
    mask, source = kept(0.75), arrays.y if family == "in-place" else arrays.x

    def call() -> np.ndarray:
        if family == "mask-bits":
            return mask
        return (source * mask / 0.75).astype(source.dtype)

    with pytest.raises(WrongAnswer, match="two calls made the same decisions"):
        check(Ready(call, lambda y: Answer((y,)), refill=arrays.refill), arrays, case)


def test_a_float64_of_float32_precision_is_caught() -> None:
    case = Case("forward", N, "float64", 0.25)
    arrays = Arrays(case)

    def call() -> np.ndarray:
        return (arrays.x.astype(np.float32) * kept(0.75) / np.float32(0.75)).astype(np.float64)

    with pytest.raises(WrongAnswer, match="neither 0"):
        check(Ready(call, lambda y: Answer((y,))), arrays, case)


@pytest.mark.parametrize(
    "family", ["forward", "forward+backward", "in-place", "spatial-nchw", "spatial-nhwc", "mask-bits"]
)
def test_fastdrop_takes_a_new_mask_each_time(family: str) -> None:
    case = case_of(family)
    ready = entry("fastdrop", case).ready(Arrays(case))
    assert ready.answer is not None
    assert ready.answer(ready.call()).mask != ready.answer(ready.call()).mask


@pytest.mark.parametrize(("errors", "right"), [(4.9, True), (5.1, False)])
def test_only_decisions_that_show_count(errors: float, right: bool) -> None:
    """ReLU hides what becomes of half of the elements: the share's standard error is that of the other half."""
    x = np.where(np.arange(N) % 2, 1.0, -1.0)
    shown = N // 2
    dropped = int(shown * (0.5 + errors * np.sqrt(0.25 / shown)))
    y = np.where(np.cumsum(x > 0) <= dropped, 0.0, np.maximum(x, 0) / 0.5)
    if right:
        KINDS["relu-dropout"].check(x, x, y, 0.5)
    else:
        with pytest.raises(WrongAnswer, match=f"in {shown} decisions"):
            KINDS["relu-dropout"].check(x, x, y, 0.5)


def test_a_backward_of_another_mask_is_caught() -> None:
    case = Case("forward+backward", N, p=0.5)
    arrays = Arrays(case)

    def call() -> tuple[np.ndarray, np.ndarray]:
        return arrays.x * np.float32(2) * kept(0.5), arrays.dy * np.float32(2) * kept(0.5)[::-1]

    with pytest.raises(WrongAnswer, match="neither 0"):
        check(Ready(call, Answer), arrays, case)
    with pytest.raises(WrongAnswer, match="1 outputs where 2"):
        check(Ready(call, lambda both: Answer(both[:1])), arrays, case)


@pytest.mark.parametrize("where", [0, 1, 4095, 4096, N - 1])
def test_one_wrong_bit_of_fastdrop_is_caught(where: int) -> None:
    case = Case("forward", N)
    arrays = Arrays(case)
    right = entry("fastdrop", case).ready(arrays)

    def call() -> fd.Mask:
        mask: fd.Mask = right.call()
        arrays.y[where] = 0 if arrays.y[where] else 1
        return mask

    with pytest.raises(WrongAnswer, match="differs from what"):
        check(replace(right, call=call), arrays, case)


def test_a_mask_that_is_not_the_law_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask's own booleans are checked too, against the reference."""
    case = Case("forward", 512)
    arrays = Arrays(case)
    ready = entry("fastdrop", case).ready(arrays)
    from fastdrop.bench import ready as module

    keep_at = module.reference.keep_at
    monkeypatch.setattr(module.reference, "keep_at", lambda *args: ~keep_at(*args))
    with pytest.raises(WrongAnswer, match="differs from the reference"):
        check(ready, arrays, case)


def test_maps_in_part_are_caught() -> None:
    case = Case("spatial-nchw", 2**12, p=0.5)
    arrays = Arrays(case)
    ready = Ready(lambda: arrays.x * np.float32(2) * kept(0.5, 2**12).reshape(arrays.x.shape), lambda y: Answer((y,)))
    with pytest.raises(WrongAnswer, match="dropped in part"):
        check(ready, arrays, case)


def test_wrong_bits_are_caught() -> None:
    case = Case("mask-bits", 1001, p=0.5)
    arrays = Arrays(case)
    mask = fd.Mask(0, 0, 0.5, 1001)
    check(Ready(mask.packbits, lambda bits: Answer((bits,), mask)), arrays, case)
    with pytest.raises(WrongAnswer, match="packed bits"):
        check(Ready(lambda: mask.packbits() ^ np.uint8(1), lambda bits: Answer((bits,), mask)), arrays, case)
    with pytest.raises(WrongAnswer, match="kept"):
        check(Ready(lambda: np.full(126, 255, np.uint8), lambda bits: Answer((bits,))), arrays, case)
    with pytest.raises(WrongAnswer, match="1000 decisions"):
        check(Ready(lambda: np.ones(1000, np.bool_), lambda bits: Answer((bits,))), arrays, case)


def test_a_copy_with_a_wrong_byte_is_caught() -> None:
    case = Case("forward", N)
    arrays = Arrays(case)
    right = entry("memcpy", case).ready(arrays)

    def call() -> None:
        right.call()
        arrays.y[-1] = 0

    with pytest.raises(WrongAnswer, match="differs from its original"):
        check(replace(right, call=call), arrays, case)


def products(family: str, made: Callable[[Arrays, np.ndarray], tuple[np.ndarray, ...]], p: float = 0.5) -> None:
    """Check products that somebody makes under a mask of their own."""
    case = Case(family, 2 * WIDTH**2, p=0.5)
    arrays = Arrays(case)
    kept = np.random.default_rng(0).random(case.shape) >= p
    _dropconnect.check_products(case, arrays, _dropconnect.Made(made(arrays, kept), kept))


def right_y(a: Arrays, kept: np.ndarray) -> np.ndarray:
    return np.einsum("boi,oi,bi->bo", kept, a.w, a.x) * np.float32(2)


def test_wrong_products_are_caught() -> None:
    products("dropconnect", lambda a, kept: (right_y(a, kept),))
    for complaint, y in {
        "y is not the sum": lambda a, kept: right_y(a, kept ^ (np.arange(WIDTH) == 3)),
        "y is not": lambda a, kept: a.x @ a.w.T,
        "y of float64": lambda a, kept: right_y(a, kept).astype(np.float64),
        r"y of float32 \(800, 2\)": lambda a, kept: right_y(a, kept).T,
    }.items():
        with pytest.raises(WrongAnswer, match=complaint):
            products("dropconnect", lambda a, kept, y=y: (y(a, kept),))
    with pytest.raises(WrongAnswer, match=r"kept 0\.49"):
        products("dropconnect", lambda a, kept: (right_y(a, kept),), p=0.505)
    with pytest.raises(WrongAnswer, match="1 outputs where 3"):
        products("dropconnect-both", lambda a, kept: (right_y(a, kept),))
    with pytest.raises(WrongAnswer, match="dx is not"):
        products("dropconnect-dx", lambda a, kept: (a.dy @ a.w,))
    with pytest.raises(WrongAnswer, match="dw is not"):
        products("dropconnect-dw", lambda a, kept: (np.einsum("boi,bo,bi->oi", kept, a.x, a.dy) * np.float32(2),))


def test_products_under_one_mask_for_all_calls_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("dropconnect", 2 * WIDTH**2)
    arrays = Arrays(case)
    draws = np.random.default_rng(0).random(case.shape)
    ready = entry("numpy-naive", case)
    arrays.x, arrays.w, arrays.dy  # noqa: B018  made by a generator that is right
    monkeypatch.setattr(_dropconnect.np.random, "default_rng", lambda seed: SimpleNamespace(random=lambda shape: draws))
    with pytest.raises(WrongAnswer, match="two calls made the same decisions"):
        check(ready.ready(arrays), arrays, case)


def test_blas_is_told_its_threads_and_gets_them_back() -> None:
    if blas.get_threads() is None:
        pytest.skip("the threads of NumPy's BLAS cannot be told")
    before = blas.get_threads()
    case = Case("dropconnect", 2 * WIDTH**2)
    arrays = Arrays(case)
    with settings_kept():
        for threads in (2, 1):
            entry(f"dense:{threads}", case).ready(arrays).enter()
            assert blas.get_threads() == threads
    assert blas.get_threads() == before


def test_another_blas_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_blas", lambda: SimpleNamespace(lib_controllers=[]))
    case = Case("dropconnect", 2 * WIDTH**2)
    assert blas.get_threads() is None and "cannot be told" in str(entry("dense", case).skipped)
    blas.set_threads(1)
    assert entry("memcpy", Case("forward", N)).skipped is None


def test_a_step_that_does_not_learn_is_caught() -> None:
    from fastdrop.bench.steps import check_dropped, check_learns

    with pytest.raises(WrongAnswer, match="does not learn"):
        check_learns(lambda: 1.0)
    with pytest.raises(WrongAnswer, match="does not learn"):
        check_learns(iter([3.0, *[float("nan")] * 9]).__next__)
    case = Case("training-step", 2**14, p=0.5)
    before = np.ones(2**14, np.float32)
    with pytest.raises(WrongAnswer, match="the layer kept"):
        check_dropped(case, before, before * 2)
    with pytest.raises(WrongAnswer, match="not x / "):
        check_dropped(case, before, before * kept(0.5, 2**14))
