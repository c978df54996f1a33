"""Other people's C and Cython, compiled against the installed package."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastdrop as fd

C_SOURCE = """
#include <Python.h>
#include <fastdrop.h>

static const fd_api *fd;

/* bits(key, call, p, start, n) -> bytes, and a mask of n elements applied to ones, as a float sum. */
static PyObject *bits(PyObject *self, PyObject *args) {
    unsigned long long key, call, start, n;
    double p;
    (void)self;
    if (!PyArg_ParseTuple(args, "KKdKK", &key, &call, &p, &start, &n)) return NULL;
    PyObject *out = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)((n + 7) / 8));
    if (out == NULL) return NULL;
    const fd_law law = {key, call, fd->threshold(p)};
    fd->bits(&law, start, n, PyBytes_AS_STRING(out));
    float x[100], y[100], sum = 0;
    const int64_t shape = 100, step = 1, bytes = sizeof(float);
    const fd_view mask = {law, start, 1, &shape, &step};
    for (int i = 0; i < 100; i++) x[i] = 1;
    fd->mask_apply(&mask, FD_F32, 1.0, x, &bytes, y, &bytes);
    for (int i = 0; i < 100; i++) sum += y[i];
    return Py_BuildValue("Nfs", out, sum, fd->isa());
}

static PyMethodDef methods[] = {{"bits", bits, METH_VARARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "c_user", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_c_user(void) {
    if ((fd = fd_import()) == NULL) return NULL;
    return PyModule_Create(&module);
}
"""

CYTHON_SOURCE = """
# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from fastdrop._core cimport Generator, Mask, c_api, fd_api

def kept(Mask mask):
    '''How many elements of a one-dimensional mask are kept, from its C view.'''
    cdef const fd_api *fd = c_api()
    cdef unsigned char packed[128]
    assert mask.view.ndim == 1 and mask.view.shape[0] <= 1024
    with nogil:
        fd.mask_pack(&mask.view, packed)
    cdef int64_t i, n = 0
    for i in range(mask.view.shape[0]):
        n += packed[i // 8] >> (i % 8) & 1
    return n, mask.p
"""

SETUP = """
from setuptools import Extension, setup
import fastdrop
{prepare}
setup(name="user", ext_modules={modules}, script_args=["-q", "build_ext", "--inplace"])
"""


def build(folder, name, modules, prepare=""):
    (folder / "setup.py").write_text(SETUP.format(prepare=prepare, modules=modules))
    env = {**os.environ, "CFLAGS": "-Wall -Wextra -Werror=implicit-function-declaration"}
    done = subprocess.run(
        [sys.executable, "setup.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob(f"{name}*.so") if sys.platform != "win32" else folder.glob(f"{name}*.pyd")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_c_extension_uses_the_kernels(tmp_path):
    pytest.importorskip("setuptools")
    (tmp_path / "c_user.c").write_text(textwrap.dedent(C_SOURCE))
    user = build(tmp_path, "c_user", '[Extension("c_user", ["c_user.c"], include_dirs=[fastdrop.get_include()])]')
    mask = fd.Mask(2**63, 5, 0.3, 100, start=77)
    packed, kept, isa = user.bits(2**63, 5, 0.3, 77, 100)
    assert packed == mask.packbits().tobytes()
    assert kept == np.asarray(mask).sum() and isa == fd.isa()


def test_a_cython_extension_cimports_the_classes(tmp_path):
    pytest.importorskip("setuptools")
    pytest.importorskip("Cython")
    (tmp_path / "cython_user.pyx").write_text(textwrap.dedent(CYTHON_SOURCE))
    modules = """cythonize(
    [Extension("cython_user", ["cython_user.pyx"], include_dirs=[fastdrop.get_include()])],
    include_path=[os.path.dirname(os.path.dirname(fastdrop.__file__))],  # needed by editable installs only
)"""
    user = build(tmp_path, "cython_user", modules, "import os\nfrom Cython.Build import cythonize")
    mask = fd.Generator(3).mask(1000, p=0.25)[::2]
    assert user.kept(mask) == (int(np.asarray(mask).sum()), 0.25)
