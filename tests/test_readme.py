"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=[code.strip().splitlines()[0] for code in BLOCKS])
def test_examples(code):
    if "import torch" in code:
        pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
    # What stands above a block in the README has been imported there.
    names = {}
    exec("import numpy as np, fastdrop as fd", names)
    exec(code, names)


def test_pictures_are_there():
    shown = re.findall(r"\]\((docs/[^)]+)\)", README.read_text(encoding="utf-8"))
    assert shown and all((README.parent / path).is_file() for path in shown)


def test_there_are_examples():
    assert len(BLOCKS) >= 3
    assert "@@" not in README.read_text(encoding="utf-8")
