"""The README's Python runs as it stands, and that of the pages that teach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
#: Their blocks go on from each other, the README's stand alone.
PAGES = [README.parent / "docs" / "distributed.md"]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


BLOCKS = blocks(README)


@pytest.mark.parametrize("code", BLOCKS, ids=[code.strip().splitlines()[0] for code in BLOCKS])
def test_examples(code):
    if "import torch" in code:
        pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
    # What stands above a block in the README has been imported there.
    names = {}
    exec("import numpy as np, fastdrop as fd", names)
    exec(code, names)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_pages(page):
    names = {}
    exec("import numpy as np, fastdrop as fd", names)
    for code in blocks(page):
        if "import torch" in code:
            pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
        exec(code, names)


def test_pictures_are_there():
    shown = re.findall(r"\]\((docs/[^)]+)\)", README.read_text(encoding="utf-8"))
    assert shown and all((README.parent / path).is_file() for path in shown)


def test_there_are_examples():
    assert len(BLOCKS) >= 3
    assert "@@" not in README.read_text(encoding="utf-8")
