"""The files: the report and what stands behind it, from made-up results and from real runs."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fastdrop.mnist import report
from fastdrop.mnist.report.uncertain import Uncertain, uncertain
from fastdrop.mnist.results import Results
from fastdrop.mnist.runner import execute, run_folder
from fastdrop.mnist.training import WEIGHTS

from .made import IMAGES, NONE, dataset, diverged, run, study, texts

PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Checks what any page has to keep to, and collects images and headings."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str | None] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        held = dict(attrs)
        if tag == "img":
            self.images.append(held)
        self.links += [held[name] for name in ("src", "href", "action", "data", "poster") if name in held]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_files(tmp_path: Path) -> None:
    paths = report.write(study(), tmp_path / "a" / "b", command="fastdrop mnist")
    names = ["report.html", "results.json", "curves.png", "predictions.png", "confusion.png"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == sorted(names)
    for path in paths[2:]:
        assert path.read_bytes().startswith(PNG)


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    paths = report.write(study(), tmp_path)
    found = page(tmp_path)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "url(" not in content and "@import" not in content and "script" not in found.tags
    assert found.links and all(link is not None and link.startswith("data:") for link in found.links)
    assert all(image["alt"] for image in found.images)
    pictures = [path.read_bytes() for path in paths[2:]]
    head = "data:image/png;base64,"
    assert [base64.b64decode(str(image["src"]).removeprefix(head)) for image in found.images] == pictures
    assert found.tags.count("h1") == 1 and found.tags.count("table") == found.tags.count("caption") == 3


def test_the_page_says_it_all(tmp_path: Path) -> None:
    report.write(study(), tmp_path, command="fastdrop mnist --x", environment={"isa": "avx2"})
    said = page(tmp_path).text
    for words in (
        "some digits: none and dropout on cnn", "some digits: 60 training, 40 validation, 40 test images",
        "dropout is better than none by 0.50 points (95 % interval 0.41 to 0.59", "90.00 ± 0.39", "same test images",
        "--train-size 500 1000 2000", "--p .1 .3 .5 .7", "the weights of these results are not kept",
        "fastdrop mnist --x", "isa avx2",
    ):  # fmt: skip
        assert words in said


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _console(path: Path, profile: Path) -> list[str]:
    """Open a page in a browser without a window; what it writes to its console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [str(BROWSER), *options, f"--screenshot={profile / 'page.png'}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert (profile / "page.png").read_bytes().startswith(PNG)
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_browser_opens_it_without_a_word(tmp_path: Path) -> None:
    report.write(study(), tmp_path)
    assert _console(tmp_path / "report.html", tmp_path / "one") == []
    # What would be heard:
    (tmp_path / "bad.html").write_text("<!DOCTYPE html><script>nothing()</script>")
    assert len(_console(tmp_path / "bad.html", tmp_path / "two")) == 1


def test_names_are_escaped(tmp_path: Path) -> None:
    results = study(data=dataset(name="<script>alert(1)</script> & 'co'"))
    report.write(results, tmp_path, command='fastdrop mnist --out "<b>"')
    found = page(tmp_path)
    assert not {"script", "b"} & set(found.tags)
    assert "<script>alert(1)</script> & 'co'" in found.text and '"<b>"' in found.text


def test_the_numbers(tmp_path: Path) -> None:
    report.write(study(), tmp_path, command="fastdrop mnist", finished="today")
    held = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (held["schema"], held["command"], held["finished"]) == (2, "fastdrop mnist", "today")
    assert held["dataset"]["name"] == "some digits" and held["dataset"]["size"] == [8, 8]
    assert (held["dataset"]["classes"], held["dataset"]["train_file"], held["dataset"]["test_file"]) == (10, 100, 40)
    assert len(held["dataset"]["digest"]) == 64 and sum(held["dataset"]["test_counts"]) == IMAGES
    first = held["arms"][0]
    assert (first["name"], first["seeds"], first["diverged"]) == ("none", [0, 1, 2, 3, 4], [])
    assert first["measures"]["test_accuracy"]["mean"] == pytest.approx(90)
    assert first["settings"]["model"] == "cnn" and "seed" not in first["settings"]
    (pair,) = held["comparisons"]
    assert (pair["first"], pair["second"], pair["baseline"]) == ("none", "dropout", True)
    assert pair["test_accuracy"]["mean"] == pytest.approx(0.5)
    assert pair["test_accuracy"]["p"] < pair["test_accuracy"]["p_holm"] < 0.001
    assert len(held["runs"]) == 10
    assert "predicted" not in held["runs"][0] and held["runs"][0]["final"]["test_accuracy"] == 0.9
    assert held["runs"][3]["key"] == study().records[3].run.key


def test_no_nan_gets_into_json(tmp_path: Path) -> None:
    results = study()
    results.records[0].history["validation_loss"][1] = math.nan
    results.records[1].final["test_loss"] = math.inf
    report.write(results, tmp_path)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    held = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert held["runs"][0]["history"]["validation_loss"][1] is None
    assert held["arms"][0]["measures"]["test_loss"]["n"] == 4


def test_where_everything_diverged(tmp_path: Path) -> None:
    results = study()
    paths = report.write(Results(results.dataset, tuple(map(diverged, results.records))), tmp_path)
    assert [path.name for path in paths] == ["report.html", "results.json"]
    assert "every run diverged" in page(tmp_path).text


def test_one_run(tmp_path: Path) -> None:
    report.write(study([(run(), [0.9])]), tmp_path)
    assert "no two arms differ by the regularizer alone" in page(tmp_path).text


def test_pictures_of_an_earlier_report_go(tmp_path: Path) -> None:
    (tmp_path / "mine.png").touch()
    arms = [(run(train_size=n), NONE) for n in (20, 60)]
    assert tmp_path / "gap.png" in report.write(study(arms), tmp_path)
    report.write(study(), tmp_path)
    assert not (tmp_path / "gap.png").exists() and (tmp_path / "mine.png").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path.name for path in report.write(study(), tmp_path))
    before = (tmp_path / "results.json").read_bytes()

    def full(self: Path, text: str, **_: object) -> int:
        self.write_bytes(text[:10].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(study(), tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_the_files_get_the_usual_rights(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        paths = report.write(study(), tmp_path)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o644}


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install \"fastdrop\[mnist\]\""):
        report.write(study(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Results:
    settings = {"model": "mlp-selu", "train_size": 60, "validation_size": 40, "epochs": 2}
    runs = [run(name, seed=seed, **settings) for seed in (0, 1) for name in ("none", "alpha")]
    return execute(runs, dataset(), tmp_path_factory.mktemp("study"), jobs=1)


def test_a_real_study(real: Results, tmp_path: Path) -> None:
    told: list[str] = []
    paths = report.write(real, tmp_path, tell=told.append, command="x")
    assert [path.name for path in paths][2:] == ["curves.png", "predictions.png", "uncertain.png", "confusion.png"]
    assert told == ["reading test digits 50 times with the noise of alpha=0.1"]
    assert len(page(tmp_path).images) == 4


def test_the_uncertain_digits(real: Results) -> None:
    found = uncertain(real)
    assert isinstance(found, Uncertain)
    assert found.record.run.regularizer == "alpha=0.1" and found.record.run.seed == 0
    assert found.mean.shape == (IMAGES, 10) and found.which == "all 40 test images"
    np.testing.assert_allclose(found.mean.sum(axis=1), 1)
    assert (found.entropy >= found.information).all() and (found.information > 0).all()
    # The network is the one that was trained: with dropout off it reads what the run's record says.
    np.testing.assert_array_equal(found.plain, found.record.predicted)
    again = uncertain(real)
    assert isinstance(again, Uncertain)
    np.testing.assert_array_equal(found.mean, again.mean)


def test_the_uncertain_digits_are_ordered_and_told(real: Results) -> None:
    from fastdrop.mnist.report.digits import uncertain_digits

    found = uncertain(real)
    assert isinstance(found, Uncertain)
    shown = texts(uncertain_digits(real, found))
    most = int(found.entropy.argmax())
    assert f"H = {found.entropy[most]:.2f}, I = {found.information[most]:.2f}; test image {most}" in shown
    assert "shown: alpha, seed 0" in shown and "50 passes over all 40 test images" in shown
    assert shown.count("H = ") == 12


def test_weights_that_are_missing_or_damaged(tmp_path: Path) -> None:
    runs = [run("alpha", model="mlp-selu", train_size=20, epochs=1)]
    results = execute(runs, dataset(), tmp_path, jobs=1)
    path = run_folder(tmp_path, runs[0]) / WEIGHTS
    path.write_bytes(path.read_bytes()[:100])
    assert "cannot be read" in str(uncertain(results))
    path.unlink()
    assert "the weights are missing" in str(uncertain(results))
    paths = report.write(results, tmp_path / "out")
    assert "uncertain.png" not in [path.name for path in paths]
    assert "the weights are missing" in page(tmp_path / "out").text


def test_no_arm_drops_anything() -> None:
    assert "--regularizer none dropout" in str(uncertain(study([(run("l2"), NONE)])))
