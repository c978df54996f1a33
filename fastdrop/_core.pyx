# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=True, autotestdict=False
# cython: freethreading_compatible=True
"""Generator, Mask and Noise: buffers in, C calls with the GIL released out.

A Mask is a value: the law (key, call, q) and a strided view (start, shape, strides) over its bits; Noise is one over its
normals. Arguments are checked here or in _checks.py before any memory is touched; which bits a view names is _views.py's;
everything after that is C. Policy (what to drop, when, how to scale) lives in functional.py.
"""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

cimport cython
cimport numpy as cnp

import operator
import os
import threading

import numpy as np

from fastdrop._checks import LIMIT, as_array, check_int, check_ints, check_p, check_real, check_shape, shown
from fastdrop._views import (
    broadcast_view,
    check_extent,
    check_shard,
    contiguous_strides,
    index_view,
    memory_order,
    nested,
    reshape_view,
    resolve_shape,
    shard_view,
    transpose_view,
    turned,
)

cnp.import_array()

cdef extern from "fastdrop.h":
    uint64_t fd_threshold(double p) nogil
    void fd_bits(const fd_law *law, uint64_t start, uint64_t n, void *out) nogil
    void fd_mask_pack(const fd_view *mask, void *out) nogil
    void fd_mask_bools(const fd_view *mask, void *out) nogil
    void fd_mask_apply(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                       void *y, const int64_t *y_strides) nogil
    void fd_mask_fused(const fd_view *mask, fd_dtype dtype, const fd_op *op, const void *x, const int64_t *x_strides,
                       const void *z, const int64_t *z_strides, void *y, const int64_t *y_strides) nogil
    void fd_masks_apply(const fd_view *mask, int64_t count, const fd_law *laws, fd_dtype dtype, double scale,
                        const void *x, const int64_t *x_strides, void *y, const int64_t *y_strides,
                        int64_t y_step) nogil
    void fd_noise_apply(const fd_view *noise, fd_dtype dtype, fd_noise_kind kind, double sigma, const void *x,
                        const int64_t *x_strides, void *y, const int64_t *y_strides) nogil
    void fd_normals(const fd_view *noise, float *out) nogil
    int fd_block_apply(const fd_view *seeds, const int64_t *shape, fd_dtype dtype, double scale, const void *x,
                       const int64_t *x_strides, void *y, const int64_t *y_strides) nogil
    int fd_block_bools(const fd_view *seeds, const int64_t *shape, void *out) nogil
    void fd_dropconnect(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const void *w,
                        void *y) noexcept nogil
    void fd_dropconnect_dx(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *w,
                           void *dx) noexcept nogil
    void fd_dropconnect_dw(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *x,
                           void *dw) noexcept nogil
    void fd_softmax_dropout(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                            void *y, const int64_t *y_strides, void *rows) nogil
    void fd_softmax_dropout_grad(const fd_view *mask, fd_dtype dtype, double scale, const void *x,
                                 const int64_t *x_strides, const void *rows, const void *dy, const int64_t *dy_strides,
                                 void *dx, const int64_t *dx_strides) nogil
    const char *fd_isa() nogil
    const char *fd_isa_name(int k, int *usable) nogil
    int fd_set_isa(const char *name) nogil
    int fd_get_num_threads() nogil
    void fd_set_num_threads(int n) nogil

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, cnp.dtype dtype, int subok)

cdef extern from "fd_atomic.h":
    uint64_t fd_counter_get(uint64_t *counter) nogil
    int fd_counter_take(uint64_t *counter, uint64_t *taken) nogil
    int fd_replace_if(uint64_t *counter, uint64_t expected, uint64_t value) nogil


# ---- the C API, for other extension modules ----

cdef fd_api api_table
api_table.abi = FD_ABI
api_table.threshold = fd_threshold
api_table.bits = fd_bits
api_table.mask_pack = fd_mask_pack
api_table.mask_bools = fd_mask_bools
api_table.mask_apply = fd_mask_apply
api_table.isa = fd_isa
api_table.set_isa = fd_set_isa
api_table.isa_name = fd_isa_name
api_table.get_num_threads = fd_get_num_threads
api_table.set_num_threads = fd_set_num_threads
api_table.mask_fused = fd_mask_fused
api_table.masks_apply = fd_masks_apply
api_table.noise_apply = fd_noise_apply
api_table.normals = fd_normals
api_table.block_apply = fd_block_apply
api_table.block_bools = fd_block_bools
api_table.softmax_dropout = fd_softmax_dropout
api_table.softmax_dropout_grad = fd_softmax_dropout_grad
api_table.dropconnect = fd_dropconnect
api_table.dropconnect_dx = fd_dropconnect_dx
api_table.dropconnect_dw = fd_dropconnect_dw

cdef const fd_api *c_api() noexcept nogil:
    return &api_table

_C_API = PyCapsule_New(<void *>&api_table, FD_CAPSULE, NULL)


include "_interrupt.pxi"


# ---- arrays ----

cdef enum:
    SHORT_CALL = 4096  # elements: about a microsecond's work where the mask is dense, a third of a millisecond at worst

FLOATS = "float32, float64, float16 and bfloat16 (of ml_dtypes)"

cdef int dtype_code(cnp.ndarray x) except -1:
    """The kernel's dtype for an array; the byte order is not looked at."""
    cdef int t = cnp.PyArray_TYPE(x)
    if t == cnp.NPY_FLOAT32:
        return FD_F32
    if t == cnp.NPY_FLOAT64:
        return FD_F64
    if t == cnp.NPY_FLOAT16:
        return FD_F16
    if x.dtype.name == "bfloat16" and x.dtype.itemsize == 2:  # a dtype of its own: NumPy has none
        return FD_BF16
    raise TypeError(f"x has to be an array of {FLOATS}, but got {x.dtype}")


def check_dtype(x):
    """Raise TypeError unless x is an array of a dtype that the kernels take."""
    dtype_code(x)


cdef bint overlaps_itself(object a):
    """Whether two elements may share memory. Says no only where axes nest: each step passes over all finer ones."""
    return not nested(a.strides, a.shape, a.itemsize)


cdef bint plain_out(cnp.ndarray x, object out):
    """Whether `check_out` would pass, said in a few comparisons for what is most common: two C-contiguous arrays of one
    dtype and shape, apart or the same. A no says nothing."""
    cdef cnp.ndarray y
    cdef int i
    if type(out) is not np.ndarray:
        return False
    y = out
    if not (cnp.PyArray_ISCARRAY(y) and cnp.PyArray_ISCARRAY_RO(x)):  # contiguous, aligned, native; y writeable
        return False
    if cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(y) or cnp.PyArray_NDIM(x) != cnp.PyArray_NDIM(y):
        return False
    for i in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(x, i) != cnp.PyArray_DIM(y, i):
            return False
    cdef const char *a = <const char *>cnp.PyArray_DATA(x)
    cdef const char *b = <const char *>cnp.PyArray_DATA(y)
    return a == b or a + cnp.PyArray_NBYTES(x) <= b or b + cnp.PyArray_NBYTES(y) <= a


def check_out(cnp.ndarray x not None, out):
    """Refuse an output that is of another kind, cannot be written, or overlaps x without being it."""
    if plain_out(x, out):
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out has to be a NumPy array, but got a {type(out).__name__}")
    out = np.asarray(out)  # the base class: a subclass may say anything of itself
    if out.dtype != x.dtype.newbyteorder("="):
        swapped = " (byte-swapped)" if not out.dtype.isnative else ""
        raise TypeError(f"out has to be a native {x.dtype.newbyteorder('=')} array, but got {out.dtype}{swapped}")
    if out.shape != (<object>x).shape:
        raise ValueError(f"out has to have the shape of x, {(<object>x).shape}, but got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if out.size == 0:
        return
    check_apart(out, x, "x")
    if overlaps_itself(out):
        raise ValueError(f"out may have elements that share memory (strides {out.strides}): each needs its own")


def check_apart(out, cnp.ndarray x not None, str name):
    """Refuse an output that shares memory with the input `name` without being it, element by element."""
    same = (x.dtype.isnative and cnp.PyArray_DATA(x) == cnp.PyArray_DATA(<cnp.ndarray>out)
            and all(s == t or n == 1 for s, t, n in zip((<object>x).strides, out.strides, out.shape)))
    if not same and np.may_share_memory(x, out):
        raise ValueError(f"out overlaps {name} without being {name}: pass out={name} to work in place, "
                         "or memory of its own")


cdef object plain_array(object out):
    """`out` without a subclass' methods and properties, which could say what is not so."""
    return np.asarray(out) if type(out) is not np.ndarray and isinstance(out, np.ndarray) else out


cdef cnp.ndarray native(cnp.ndarray x):
    """x in this machine's byte order."""
    return x if cnp.PyArray_ISNOTSWAPPED(x) else x.astype(x.dtype.newbyteorder("="))


cpdef double inverted_scale(double p) noexcept:
    """What kept elements are multiplied by: 1 / (1 - p), and 0 where none is kept."""
    return 1.0 / (1.0 - p) if p < 1.0 else 0.0


cdef int apply_view(const fd_view *mask, int code, double scale, cnp.ndarray x, cnp.ndarray y) except -1:
    """`fd_mask_apply` on two arrays that were checked. A short call keeps the GIL: handing it over takes longer."""
    cdef int64_t x_strides[64]  # FD_MAX_NDIM
    cdef int64_t y_strides[64]
    cdef const void *from_ = steady(mask, x, x_strides)
    cdef void *to = steady(mask, y, y_strides)
    if cnp.PyArray_SIZE(x) <= SHORT_CALL:
        fd_mask_apply(mask, <fd_dtype>code, scale, from_, x_strides, to, y_strides)
    else:
        watch()
        with nogil:
            fd_mask_apply(mask, <fd_dtype>code, scale, from_, x_strides, to, y_strides)
        unwatch()
    return 0


include "_view.pxi"
include "_mask.pxi"
include "_many.pxi"
include "_noise.pxi"
include "_generator.pxi"
include "_fused.pxi"
include "_block.pxi"
include "_softmax.pxi"
include "_dropconnect.pxi"
include "_layers.pxi"
include "_memory.pxi"


# ---- the machine: thin, checked in runtime.py ----

def isa_in_use():
    return fd_isa().decode()


def isas():
    """(name, usable) of every instruction set the library knows, from the narrowest to the widest."""
    cdef int usable
    found = []
    while True:
        name = fd_isa_name(len(found), &usable)
        if name == NULL:
            return found
        found.append((name.decode(), bool(usable)))


def use_isa(str name):
    return fd_set_isa(name.encode())


def threads():
    return fd_get_num_threads()


def use_threads(int n):
    fd_set_num_threads(n)
