"""A report on tiny sizes, and what it says of those who are not in it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastdrop as fd
from fastdrop.bench import blas, contenders, report, sweep
from fastdrop.bench.cases import WIDTH, Case
from fastdrop.bench.contenders import CONTENDERS
from fastdrop.bench.paired import Spread
from fastdrop.bench.ready import Answer, Ready
from fastdrop.bench.sweep import Group, Plan, Point, Result

FACTS: dict[str, Any] = {
    "command": "fastdrop bench",
    "finished": "today",
    "seconds": 1.0,
    "environment": {
        "fastdrop": "0", "python": "3", "numpy": "2", "system": "S", "machine": "m", "cores": 2, "compiler": "cc 1",
        "isa": "avx512",
    },
    "machine": {"cpu": "A Chip", "caches": ["L1 48K"], "stores": "avx512"},
    "versions": {"numpy": "2"},
}  # fmt: skip


def point(name: str, n: int, ns: float, *, threads: int = 1, isa: str | None = None, **more: Any) -> Point:
    contender = CONTENDERS[name]
    values = {"family": "forward", "dtype": "float32", "p": 0.5, **more}
    seconds = tuple(ns * n * 1e-9 for _ in range(3))
    return Point(
        values["family"], n, values["dtype"], values["p"], name, contender.title, contender.role, isa, threads, seconds,
        "memcpy:1", Spread(ns, ns, ns),
    )  # fmt: skip


def made_up() -> Result:
    points = []
    for family in ("forward", "forward+backward"):
        for n in (2**10, 2**17, 2**24):
            for p in (0.5, 0.1):
                more = {"family": family, "p": p}
                points += [
                    point("memcpy", n, 0.2, **more),
                    point("stream", n, 0.1, **more),
                    point("stream", n, 0.05, threads=2, **more),
                    point("fastdrop", n, 0.6, isa="portable", **more),
                    point("fastdrop", n, 0.11, isa="avx512", **more),
                    point("fastdrop", n, 0.07, isa="avx512", threads=2, **more),
                    point("torch", n, 11.0, **more),
                    point("jax", n, 12.0, threads=0, **more),
                ]
    return Result(points, {"Numba": "numba is not installed"}, {})


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def small(monkeypatch: pytest.MonkeyPatch, *names: str) -> Plan:
    """Every family at a size that takes no time, without the peers that take seconds to import."""
    monkeypatch.setattr(sweep, "THREADS_FROM", 2**11)
    groups = [
        Group(Case("forward", 2**10), isas=True),
        Group(Case("forward", 2**11), names=names),
        Group(Case("forward", 2**10, "float64", 0.1)),
        Group(Case("forward+backward", 2**10)),
        Group(Case("in-place", 2**10)),
        Group(Case("spatial-nchw", 2**10, p=0.2)),
        Group(Case("spatial-nhwc", 2**10, p=0.2)),
        Group(Case("mask-bits", 2**10)),
        Group(Case("small-calls", 256)),
        Group(Case("training-step", 2**12), names=("fastdrop", "fastdrop-plain")),
    ]
    return Plan(tuple(replace(g, names=g.names or names) for g in groups), 3, 0.01)


NAMES = ("fastdrop", "numpy-naive", "numpy-good")


def test_a_run_and_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fastdrop.bench.paired.SAMPLE_SECONDS", 1e-6)
    how = small(monkeypatch, *NAMES)
    heard: list[Group] = []
    before = fd.isa(), fd.get_num_threads()
    result = sweep.run(how, heard.append)
    assert (fd.isa(), fd.get_num_threads()) == before
    assert tuple(heard) == how.groups
    assert (result.skipped, result.wrong) == ({}, {})
    files = report.write(result, tmp_path / "out", FACTS)
    assert sorted(file.name for file in files) == ["forward.png", "peers.png", "report.md", "results.json"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)
    held = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert held["schema"] == 1 and held["machine"]["cpu"] == "A Chip"
    assert len(held["points"]) == len(result.points)
    assert {p["family"] for p in held["points"]} == {g.case.family for g in how.groups}
    isas = {p["isa"] for p in held["points"] if p["name"] == "fastdrop" and p["n"] == 2**10}
    assert set(fd.available_isas()) <= isas
    alone = {p["isa"] for p in held["points"] if p["name"] == "fastdrop" and p["family"] in ("in-place", "mask-bits")}
    assert alone == {fd.isa()}  # whichever set was timed last before
    for p in held["points"]:
        assert p["ns_per_element"] > 0 and p["ratio"]["q1"] <= p["ratio"]["median"] <= p["ratio"]["q3"]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    for word in ("## Forward", "## Spatial, channels last", "## Small calls", "µs", "skipped: nobody", "NumPy, good"):
        assert word in text
    assert "Dropout is " in text and " % of fastdrop.nn's step" in text


def test_tables_of_made_up_results() -> None:
    text = report.markdown(made_up(), FACTS, ["forward.png"])
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["|", "1 Ki", "128 Ki", "16 Mi |"]
    assert rows[1][:2] == ["| *the copy*", "0.100"]  # the faster of the two
    assert rows[2][:2] == ["| *the copy, 2 threads*", "0.0500"]
    assert rows[3][:2] == ["| fastdrop (portable)", "0.600 (0.600)"]
    assert rows[5][0] == "| fastdrop (avx512), 2 threads"
    assert ["| PyTorch", "11.0 (11.0)", "11.0 (11.0)", "11.0 (11.0) |"] in rows
    assert "JAX, own threads" in text
    assert "skipped: Numba (numba is not installed)" in text
    assert "A Chip, 2 cores; caches: L1 48K" in text and "compiled by cc 1" in text
    assert "![forward](forward.png)" in text and "peers.png" not in text


def test_pictures_of_made_up_results(tmp_path: Path) -> None:
    figures = dict(report._pictures(made_up(), "below"))
    lines = texts(figures["forward.png"])
    assert "fastdrop's dropout takes 0.110 times as long as a copy, PyTorch's 11.0 times" in lines
    for label in ("the copy  0.100", "fastdrop  0.110", "fastdrop, 2 threads  0.0700", "PyTorch  11.0", "JAX  12.0"):
        assert label in lines
    assert "p = 0.5" in lines and "p = 0.1" in lines and "below" in lines
    bars = texts(figures["peers.png"])
    assert "On one thread, PyTorch takes 100 times fastdrop's time" in bars
    assert "0.110 ns, 0.110 copies" in bars and "11.0 ns, 11.0 copies" in bars  # its own ratio, not the floor's
    assert "the copy, one thread: 0.100 ns" in bars


def inside(figure: Any) -> None:
    """No text leaves the picture, and no label lies on another of its panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    renderer = FigureCanvasAgg(figure).get_renderer()
    whole = figure.bbox
    boxes = []
    for axis in figure.axes:
        for text in axis.texts:
            text.update_positions(renderer)
            boxes.append((text.get_text(), Text.get_window_extent(text, renderer)))  # without its arrow
        for label in axis.get_yticklabels():
            boxes.append((label.get_text(), label.get_window_extent(renderer)))
    boxes += [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    boxes = [(text, box) for text, box in boxes if text]
    for text, box in boxes:
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1, text
    for k, (text, box) in enumerate(boxes):
        for other, beside in boxes[k + 1 :]:
            assert not box.overlaps(beside), (text, other)


def test_no_label_lies_on_another() -> None:
    result = made_up()
    for n in (2**10, 2**17, 2**24):
        for p in (0.5, 0.1):
            for name, ns in (("tensorflow", 11.5), ("numpy-naive", 11.2), ("numpy-good", 0.125), ("numba", 0.124)):
                threads = 0 if name == "tensorflow" else 1
                result.points.append(point(name, n, ns, p=p, threads=threads))
                result.points.append(point(name, n, ns, p=p, threads=threads, family="forward+backward"))
    drawn = dict(report._pictures(result, "A Chip (family 26, model 2), L1 48K, L2 1024K, L3 32768K; 2 cores; avx512"))
    for figure in drawn.values():
        inside(figure)


def test_a_report_without_peers_or_without_the_forward_pass(tmp_path: Path) -> None:
    alone = Result([p for p in made_up().points if p.role != "peer"])
    assert [file.name for file in report.write(alone, tmp_path, FACTS)] == ["forward.png", "report.md", "results.json"]
    other = Result([point("memcpy", 256, 1.0, family="small-calls"), point("fastdrop", 256, 2.0, family="small-calls")])
    names = [file.name for file in report.write(other, tmp_path / "b", FACTS)]
    assert names == ["report.md", "results.json"]


def test_the_limit_of_products_is_the_dense_one() -> None:
    more = {"family": "dropconnect"}
    n = 2 * WIDTH**2
    text = report.markdown(Result([point("dense", n, 0.02, **more), point("fastdrop", n, 0.03, **more)]), FACTS)
    assert "| *the dense product* | 0.0200 |" in text
    assert "(relative to the dense product `x @ w.T`, in NumPy)" in text


def test_a_group_without_a_limit_has_no_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_blas", lambda: SimpleNamespace(lib_controllers=[]))
    result = sweep.run(Plan((Group(Case("dropconnect", WIDTH**2), names=("fastdrop",)),), 3, 0.01))
    assert result.points == [] and "cannot be told" in result.skipped["the dense product"]


def test_shares_of_a_step() -> None:
    more = {"family": "training-step"}
    result = Result([
        point("memcpy", 512, 1.0, **more), point("fastdrop", 512, 100.0, **more),
        point("fastdrop-plain", 512, 95.0, **more), point("torch", 512, 200.0, **more),
        point("torch-plain", 512, 100.0, **more),
    ])  # fmt: skip
    text = report.markdown(result, FACTS)
    assert "Dropout is 5.0 % of fastdrop.nn's step" in text
    assert "Dropout is 50.0 % of PyTorch's step" in text


def test_ratios_are_of_the_fastest_copy_with_at_most_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "THREADS_FROM", 256)
    monkeypatch.setattr(sweep, "_cores", lambda: 2)
    seconds = {
        "memcpy None 1": 2.0, "stream None 1": 1.0, "stream4 None 1": 3.0, "memcpy None 2": 0.5, "stream None 2": 0.7,
        "stream4 None 2": 0.9, f"fastdrop {fd.isa()} 1": 4.0, f"fastdrop {fd.isa()} 2": 3.0, "numpy-good None 1": 8.0,
    }  # fmt: skip

    def interleave(ready: dict[str, Ready], rounds: int, budget: float) -> dict[str, list[float]]:
        assert set(ready) == set(seconds)
        return {key: [seconds[key] * drift for drift in (1.0, 2.0, 3.0)] for key in ready}

    monkeypatch.setattr(sweep, "interleave", interleave)
    result = sweep.run(Plan((Group(Case("forward", 256), names=("fastdrop", "numpy-good")),), 3, 0.01))
    ratios = {(p.name, p.threads): (p.copy, p.ratio.median) for p in result.points if p.role != "limit"}
    assert ratios == {
        ("fastdrop", 1): ("stream:1", 4.0), ("fastdrop", 2): ("memcpy:2", 6.0), ("numpy-good", 1): ("stream:1", 8.0),
    }  # fmt: skip


def test_who_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else find(name))
    result = sweep.run(Plan((Group(Case("forward", 256), names=("fastdrop", "numba")),), 3, 0.01))
    assert result.skipped == {"Numba": "numba is not installed"}
    assert {p.name for p in result.points} == {"memcpy", "stream", "stream4", "fastdrop"}


def replaced(monkeypatch: pytest.MonkeyPatch, call: Any) -> Result:
    """A run in which good NumPy is somebody else."""
    made = lambda case, arrays: Ready(lambda: call(arrays), lambda y: Answer((y,)))  # noqa: E731
    peer = replace(CONTENDERS["numpy-good"], prepare={"forward": made})
    monkeypatch.setitem(contenders.CONTENDERS, "numpy-good", peer)
    return sweep.run(Plan((Group(Case("forward", 256), names=("fastdrop", "numpy-good")),), 3, 0.01))


def test_a_wrong_answer_is_told_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = replaced(monkeypatch, lambda arrays: arrays.x)
    assert next(iter(result.wrong.values())).startswith("kept 1.0")
    assert "numpy-good" not in {p.name for p in result.points}
    assert "**not timed, wrong answer**: NumPy, good" in report.markdown(result, FACTS)


def test_a_peer_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arrays: Any) -> None:
        raise OSError("no such thing\nand more")

    result = replaced(monkeypatch, fail)
    assert list(result.skipped.values()) == ["OSError: no such thing"]
    assert "fastdrop" in {p.name for p in result.points}


def test_plans() -> None:
    assert {g.case.family for g in sweep.plan().groups} == {g.case.family for g in sweep.plan(quick=True).groups}
    only = sweep.plan(families=["forward"], sizes=[64], names=["torch"])
    assert all(g.case.family == "forward" and set(g.names or ()) <= {"torch"} for g in only.groups)
    assert {g.case.n for g in only.groups if g.case.dtype == "float32"} == {64}
    products = {g.case.family for g in sweep.plan(families=["dropconnect"]).groups}
    assert products == {"dropconnect", "dropconnect-dx", "dropconnect-dw", "dropconnect-both"}
    assert {g.case.family for g in sweep.plan(families=["forward", "dropconnect-dx"]).groups} == {
        "forward", "dropconnect-dx",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"a family has to be one of forward, .* but got 'back'"):
        sweep.plan(families=["back"])
    with pytest.raises(ValueError, match=r"a contender has to be one of .* but got 'tork'"):
        sweep.plan(names=["tork"])
