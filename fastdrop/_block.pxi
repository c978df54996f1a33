# DropBlock: `fd_block_apply` and `fd_block_bools` on arrays. Included by _core.pyx.
cdef int check_seeds(Mask seeds, tuple shape) except -1:
    """Refuse seeds that do not fit: along each axis there is a place for at least one, and no more than elements."""
    own = seeds.shape
    if len(own) != len(shape) or any(not min(n, 1) <= k <= n for k, n in zip(own, shape)):
        raise ValueError(f"seeds has to have as many axes as x and from 1 to x's extent along each, {shape}, "
                         f"but got {own}")
    return 0


def block_apply(Mask seeds not None, x, out=None, *, double scale=1.0):
    """``x * scale`` where no block over an element is dropped, +0 elsewhere (see ``fastdrop.h``).

    A block along an axis has as many elements as x has there beyond those of `seeds`, and one more.
    """
    cdef cnp.ndarray a, y
    cdef int code, failed
    a = own_view(as_array(x, "x"))
    given = out
    out = own_view(out)
    code = dtype_code(a)
    check_seeds(seeds, (<object>a).shape)
    if out is not None:
        check_out(a, out)
    a = native(a)
    y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
    cdef const void *from_ = cnp.PyArray_DATA(a)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef const int64_t *shape = <const int64_t *>cnp.PyArray_DIMS(a)
    cdef const int64_t *x_strides = <const int64_t *>cnp.PyArray_STRIDES(a)
    cdef const int64_t *y_strides = <const int64_t *>cnp.PyArray_STRIDES(y)
    if cnp.PyArray_SIZE(a) <= SHORT_CALL:
        failed = fd_block_apply(&seeds.view, shape, <fd_dtype>code, scale, from_, x_strides, to, y_strides)
    else:
        watch()
        with nogil:
            failed = fd_block_apply(&seeds.view, shape, <fd_dtype>code, scale, from_, x_strides, to, y_strides)
        unwatch()
    if failed:
        raise MemoryError("no memory for the bits of a map")
    return y if given is None else given


def block_bools(Mask seeds not None, shape):
    """The keep decisions of `block_apply` as a new boolean array of `shape`."""
    cdef cnp.ndarray bools
    cdef int failed
    shape = check_shape(shape)
    check_seeds(seeds, shape)
    bools = np.empty(shape, np.bool_)
    cdef void *to = cnp.PyArray_DATA(bools)
    cdef const int64_t *dims = <const int64_t *>cnp.PyArray_DIMS(bools)
    watch()
    with nogil:
        failed = fd_block_bools(&seeds.view, dims, to)
    unwatch()
    if failed:
        raise MemoryError("no memory for the bits of a map")
    return bools
