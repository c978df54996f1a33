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
from fastdrop import _core

C_SOURCE = """
#define PY_SSIZE_T_CLEAN
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

/* What each further member makes of x = 0, 1, ..., 59 as (5, 12), under the mask (key, call, .3): a tuple of bytes. */
static PyObject *kinds(PyObject *self, PyObject *args) {
    unsigned long long key, call;
    (void)self;
    if (!PyArg_ParseTuple(args, "KK", &key, &call)) return NULL;
    float x[60], y[60], many[2][60], grad[60], noisy[60], normals[60], block[60], soft[60], rows[10], back[60];
    float y3[40], dx3[60], dw3[96];
    unsigned char bools[60];
    const int64_t shape[] = {5, 12}, steps[] = {12, 1}, bytes[] = {48, 4}, places[] = {4, 10};
    const int64_t three[] = {5, 8, 12}, steps3[] = {96, 12, 1};
    const fd_law law = {key, call, fd->threshold(0.3)}, laws[] = {law, {key, call + 1, law.q}};
    const fd_view mask = {law, 0, 2, shape, steps}, seeds = {law, 0, 2, places, steps};
    const fd_view connections = {law, 0, 3, three, steps3};
    float w[96], dy[40];
    const fd_op op = {FD_ACT, FD_RELU, 2, 0, 0}, op_grad = {FD_ACT_GRAD, FD_RELU, 2, 0, 0};
    for (int i = 0; i < 60; i++) x[i] = (float)(i % 12);
    for (int i = 0; i < 96; i++) w[i] = (float)(i % 7);
    for (int i = 0; i < 40; i++) dy[i] = (float)(i % 5);
    fd->mask_fused(&mask, FD_F32, &op, x, bytes, x, bytes, y, bytes);
    fd->mask_fused(&mask, FD_F32, &op_grad, x, bytes, x, bytes, grad, bytes);
    fd->masks_apply(&mask, 2, laws, FD_F32, 2, x, bytes, many, bytes, sizeof many[0]);
    fd->noise_apply(&mask, FD_F32, FD_NOISE_PLUS, 0.5, x, bytes, noisy, bytes);
    fd->normals(&mask, normals);
    if (fd->block_apply(&seeds, shape, FD_F32, 2, x, bytes, block, bytes) != 0) return PyErr_NoMemory();
    if (fd->block_bools(&seeds, shape, bools) != 0) return PyErr_NoMemory();
    fd->softmax_dropout(&mask, FD_F32, 1 / 0.7, x, bytes, soft, bytes, rows);
    fd->softmax_dropout_grad(&mask, FD_F32, 1 / 0.7, x, bytes, rows, x, bytes, back, bytes);
    fd->dropconnect(&connections, FD_F32, 2, x, w, y3);
    fd->dropconnect_dx(&connections, FD_F32, 2, dy, w, dx3);
    fd->dropconnect_dw(&connections, FD_F32, 2, dy, x, dw3);
#define BYTES(a) (const char *)a, (Py_ssize_t)sizeof a
    return Py_BuildValue("y#y#y#y#y#y#y#y#y#y#y#y#", BYTES(y), BYTES(grad), BYTES(many), BYTES(noisy), BYTES(normals),
                         BYTES(block), BYTES(bools), BYTES(soft), BYTES(back), BYTES(y3), BYTES(dx3), BYTES(dw3));
}

static PyMethodDef methods[] = {
    {"bits", bits, METH_VARARGS, ""}, {"kinds", kinds, METH_VARARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "c_user", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_c_user(void) {
    if ((fd = fd_import()) == NULL) return NULL;
    return PyModule_Create(&module);
}
"""

CYTHON_SOURCE = """
# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from fastdrop._core cimport Generator, Mask, c_api, fd_api, FD_F32

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

def connect(Mask mask, const float[:, ::1] x, const float[:, ::1] w, const float[:, ::1] dy, float[:, ::1] y,
            float[:, ::1] dx, float[:, ::1] dw):
    '''The last three members of the table: they come out right where it is the same one on both sides.'''
    c_api().dropconnect(&mask.view, FD_F32, 2.0, &x[0, 0], &w[0, 0], &y[0, 0])
    c_api().dropconnect_dx(&mask.view, FD_F32, 2.0, &dy[0, 0], &w[0, 0], &dx[0, 0])
    c_api().dropconnect_dw(&mask.view, FD_F32, 2.0, &dy[0, 0], &x[0, 0], &dw[0, 0])

def softmax(Mask mask, const float[:, ::1] x, float[:, ::1] y, float[:, ::1] dx):
    cdef int64_t[2] steps
    cdef float[2] rows
    steps[0], steps[1] = 4 * x.shape[1], 4
    assert x.shape[0] == 1
    c_api().softmax_dropout(&mask.view, FD_F32, 2.0, &x[0, 0], steps, &y[0, 0], steps, rows)
    c_api().softmax_dropout_grad(&mask.view, FD_F32, 2.0, &x[0, 0], steps, rows, &x[0, 0], steps, &dx[0, 0], steps)
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
    check_kinds(user)


def check_kinds(user):
    """Every further member of the table, against what Python gives."""
    x = np.tile(np.arange(12, dtype=np.float32), (5, 1))
    mask, other = (fd.Mask(9, call, 0.3, x.shape) for call in (4, 5))
    noise = fd.Noise(9, 4, x.shape)
    seeds = mask[:4, :10]
    connections = fd.Mask(9, 4, 0.3, (5, 8, 12))
    w = (np.arange(96) % 7).astype(np.float32).reshape(8, 12)
    dy = (np.arange(40) % 5).astype(np.float32).reshape(5, 8)
    soft, saved = fd.softmax.softmax_dropout_forward(x, 0.3, mask=mask)
    wanted = [
        mask.apply(2 * x, scale=2),  # relu(x + x)
        mask.apply(np.where(x > 0, x, 0), scale=2),
        np.stack([mask.apply(x, scale=2), other.apply(x, scale=2)]),
        noise.apply(x, sigma=0.5, kind="additive"),
        np.asarray(noise),
        np.where(fd.drop_block_mask(seeds, x.shape), 2 * x, 0),
        fd.drop_block_mask(seeds, x.shape),
        soft,
        fd.softmax.softmax_dropout_backward(x, saved),
        _core.dropconnect_forward(connections, x, w, 2.0),
        _core.dropconnect_dx(connections, dy, w, 2.0),
        _core.dropconnect_dw(connections, dy, x, 2.0),
    ]
    for got, want in zip(user.kinds(9, 4), wanted, strict=True):
        assert got == want.tobytes()


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
    x, y, dx = np.linspace(-1, 1, 40, dtype=np.float32)[None], *np.empty((2, 1, 40), np.float32)
    mask = fd.Mask(3, 0, 0.5, x.shape)
    user.softmax(mask, x, y, dx)
    want, saved = fd.softmax.softmax_dropout_forward(x, 0.5, mask=mask)
    assert np.array_equal(y, want) and np.array_equal(dx, fd.softmax.softmax_dropout_backward(x, saved))
    mask, arrays = fd.Mask(3, 1, 0.5, (4, 5, 6)), [np.ones(shape, np.float32) for shape in ((4, 6), (5, 6), (4, 5))]
    got = [np.empty(shape, np.float32) for shape in ((4, 5), (4, 6), (5, 6))]
    user.connect(mask, *arrays, *got)
    for result, axis in zip(got, (2, 1, 0), strict=True):
        assert np.array_equal(result, 2 * np.asarray(mask).sum(axis))
