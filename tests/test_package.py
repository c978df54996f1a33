"""What the installed package consists of, and what importing it costs."""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import subprocess
import sys

import pytest

import fastdrop as fd


def test_one_version():
    assert fd.__version__ == importlib.metadata.version("fastdrop")


def test_numpy_is_the_only_requirement():
    required = [r for r in importlib.metadata.requires("fastdrop") if "extra ==" not in r]
    assert len(required) == 1 and required[0].startswith("numpy")


def test_files_that_ship():
    folder = os.path.dirname(fd.__file__)
    for name in ("py.typed", "_core.pxd", "_core.pyi", "bench/_limits.pyi", "include/fastdrop.h"):
        assert os.path.exists(os.path.join(folder, name)), name
    assert fd.get_include() == os.path.join(os.path.abspath(folder), "include")


@pytest.mark.parametrize(
    "module", ["fastdrop", "fastdrop.nn", "fastdrop.optim", "fastdrop.mnist", "fastdrop.bench.sweep", "fastdrop.cli"]
)
def test_import_needs_numpy_alone(module, tmp_path):
    """In a process where anything outside the standard library, NumPy and fastdrop cannot be imported."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "fastdrop"):
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
import {module}
"""
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr


def test_importing_fastdrop_does_not_load_the_framework(tmp_path):
    parts = ("fastdrop.nn", "fastdrop.mnist", "fastdrop.bench", "fastdrop.torch", "torch")
    code = f"import sys, fastdrop; print([m for m in sys.modules if m.startswith({parts})])"
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert out.stdout.strip() == "[]", out.stderr


def test_every_public_name_is_there():
    for name in (*fd.__all__, *fd._MODULES, *fd._FROM_NN):
        assert getattr(fd, name) is not None
        assert name in dir(fd)
    with pytest.raises(AttributeError, match="no attribute 'droput'"):
        fd.droput  # noqa: B018


def test_every_public_thing_has_a_docstring():
    names = [m.name for m in pkgutil.iter_modules(fd.__path__, "fastdrop.") if m.name != "fastdrop.torch"]
    for module in (fd, *(__import__(name, fromlist="_") for name in names)):
        assert module.__doc__, module
    for name in fd.__all__:
        thing = getattr(fd, name)
        assert name == "__version__" or thing.__doc__, name
    for cls in (fd.Mask, fd.Noise, fd.Generator, fd._core.View):
        for name, member in vars(cls).items():
            assert name.startswith("_") or member.__doc__, f"{cls.__name__}.{name}"


def test_importing_fastdrop_loads_its_own_few_modules_and_numpy(tmp_path):
    """What is imported is what an import takes: bench/test_import.py times it."""
    own = (
        "_checks _core _version _views alpha block broadcast connections functional fused gaussian random recurrent "
        "runtime softmax words"
    )
    # Neither of these, unless NumPy brings it: some cost more than all of fastdrop.
    slow = {
        "argparse",
        "asyncio",
        "ctypes",
        "dataclasses",
        "inspect",
        "json",
        "logging",
        "subprocess",
        "typing",
        "urllib",
    }
    code = "import sys, numpy, numpy.random, numpy.typing; before = set(sys.modules); import fastdrop; " \
           "print(*sorted(set(sys.modules) - before))"  # fmt: skip
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    new = {name for name in out.stdout.split() if name not in ("cython_runtime",) and not name.startswith("_cython_")}
    assert {name for name in new if name.startswith("fastdrop")} == {
        "fastdrop",
        *(f"fastdrop.{name}" for name in own.split()),
    }
    assert new & slow == set()
    assert {name for name in new if not name.startswith("fastdrop")} <= sys.stdlib_module_names, out.stderr
