"""The examples in the docstrings, of the compiled module too."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastdrop as fd

MODULES = ["fastdrop", *(m.name for m in pkgutil.walk_packages(fd.__path__, "fastdrop.") if "__main__" not in m.name)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    if name.startswith("fastdrop.torch"):
        pytest.importorskip("torch", reason="fastdrop.torch needs PyTorch")
    monkeypatch.chdir(tmp_path)  # an example that writes does so here
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    if name in ("fastdrop._core", "fastdrop.functional"):
        assert result.attempted > 5
