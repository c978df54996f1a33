# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=True, autotestdict=False
# cython: freethreading_compatible=True
"""The limits as functions on arrays: memcpy and streaming copies, on one thread or several."""
cimport numpy as cnp

cnp.import_array()

cdef extern from "copies.h":
    ctypedef enum copies_kind:
        COPIES_MEMCPY
        COPIES_STREAM
        COPIES_STREAM4
    void copies_copy(copies_kind kind, void *y, const void *x, size_t n, int threads) nogil
    const char *copies_stores()
    int copies_use_stores(const char *name)
    const char *copies_compiler()

#: The compiler that built this package's compiled modules, and its version.
COMPILER = copies_compiler().decode().strip()
copies_stores()  # the first to ask finds out, and that must not be two threads at once


def stores():
    """The streaming stores in use: "avx512", "avx2" or "sse2"; or "none", and every copy is memcpy."""
    return copies_stores().decode()


def use_stores(str name not None):
    """Use other streaming stores; whether this machine has them."""
    return copies_use_stores(name.encode()) == 0


cdef int copy(copies_kind kind, cnp.ndarray y, cnp.ndarray x, int threads) except -1:
    if not (cnp.PyArray_ISCARRAY(y) and cnp.PyArray_ISCARRAY_RO(x)):
        raise ValueError("y and x have to be C-contiguous and aligned, and y writeable")
    cdef size_t n = cnp.PyArray_NBYTES(x)
    cdef char *to = cnp.PyArray_BYTES(y)
    cdef const char *from_ = cnp.PyArray_BYTES(x)
    if <size_t>cnp.PyArray_NBYTES(y) != n:
        raise ValueError(f"y has to have as many bytes as x, {n}, but got {cnp.PyArray_NBYTES(y)}")
    if to < from_ + n and from_ < to + n:
        raise ValueError("y overlaps x")
    if threads < 1:
        raise ValueError(f"threads has to be at least 1, but got {threads}")
    with nogil:
        copies_copy(kind, to, from_, n, threads)
    return 0


def memcpy(cnp.ndarray y not None, cnp.ndarray x not None, int threads=1):
    """Copy x to y with the C library's memcpy.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.zeros(3); memcpy(y, np.arange(3.0)); y
    array([0., 1., 2.])
    """
    copy(COPIES_MEMCPY, y, x, threads)


def stream(cnp.ndarray y not None, cnp.ndarray x not None, int threads=1):
    """Copy x to y with streaming stores, one page after the other."""
    copy(COPIES_STREAM, y, x, threads)


def stream4(cnp.ndarray y not None, cnp.ndarray x not None, int threads=1):
    """Copy x to y with streaming stores, four pages at once."""
    copy(COPIES_STREAM4, y, x, threads)
