# Softmax and dropout in one pass: `fd_softmax_dropout` on arrays. Included by _core.pyx; called by softmax.py, which checks
# everything but the arrays.
cdef cnp.ndarray axis_last(cnp.ndarray x, int axis):
    return x if axis == cnp.PyArray_NDIM(x) - 1 else np.moveaxis(x, axis, -1)


cdef Mask mask_axis_last(Mask mask, int axis):
    cdef int nd = mask.view.ndim
    if axis == nd - 1:
        return mask
    return mask.transpose(*(i for i in range(nd) if i != axis), axis)


cdef int check_rows(Mask mask, cnp.ndarray x, cnp.ndarray rows, int axis) except -1:
    """Refuse what does not fit x: the mask, the axis, or the place for two numbers of each row."""
    cdef tuple shape = (<object>x).shape
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis has to be from 0 to {len(shape) - 1}, but got {axis}")
    if mask.shape != shape:
        raise ValueError(f"mask has to have the shape of x, {shape}, but got {mask.shape}")
    if rows is not None:
        memory(rows, "rows", cnp.NPY_FLOAT64 if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64 else cnp.NPY_FLOAT32,
               (*shape[:axis], *shape[axis + 1:], 2), False)
    return 0


def softmax_dropout(Mask mask not None, cnp.ndarray x not None, int axis, out=None, cnp.ndarray rows=None):
    """Softmax of x along `axis`, under a mask of x's shape, into `out`; what backward needs, into `rows`."""
    cdef int code = dtype_code(x)
    given = out
    x, out = own_view(x), own_view(out)
    check_rows(mask, x, rows, axis)
    if out is not None:
        check_out(x, out)
    x = native(x)
    result = out if out is not None else PyArray_NewLikeArray(x, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
    cdef cnp.ndarray a = axis_last(x, axis)
    cdef cnp.ndarray y = axis_last(result, axis)
    cdef Mask m = mask_axis_last(mask, axis)
    cdef void *saved = NULL if rows is None else cnp.PyArray_DATA(rows)
    cdef double scale = inverted_scale(m.drop)
    watch()
    with nogil:
        fd_softmax_dropout(&m.view, <fd_dtype>code, scale, cnp.PyArray_DATA(a),
                           <const int64_t *>cnp.PyArray_STRIDES(a), cnp.PyArray_DATA(y),
                           <const int64_t *>cnp.PyArray_STRIDES(y), saved)
    unwatch()
    return result if given is None else given


def softmax_dropout_grad(Mask mask not None, cnp.ndarray x not None, cnp.ndarray rows,
                         cnp.ndarray dy not None, int axis, out=None):
    """The gradient of x, given dy of its shape and dtype, into `out`, which may be either.

    Without `rows`, x are the probabilities.
    """
    cdef int code = dtype_code(x)
    given = out
    x, dy, out = own_view(x), own_view(dy), own_view(out)
    check_rows(mask, x, rows, axis)
    check_second(x, dy, "dy")
    if (<object>dy).shape != (<object>x).shape:
        raise ValueError(f"dy has to have the shape of x, {(<object>x).shape}, but got {(<object>dy).shape}")
    if out is not None:
        check_out(x, out)
        if not plain_out(dy, out):
            check_apart(out, dy, "dy")
        if rows is not None and np.may_share_memory(rows, out):
            raise ValueError("out overlaps saved.rows: pass memory of its own, dy or saved.x")
    x, dy = native(x), native(dy)
    result = out if out is not None else PyArray_NewLikeArray(dy, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
    cdef cnp.ndarray a = axis_last(x, axis)
    cdef cnp.ndarray g = axis_last(dy, axis)
    cdef cnp.ndarray dx = axis_last(result, axis)
    cdef Mask m = mask_axis_last(mask, axis)
    cdef const void *state = NULL if rows is None else cnp.PyArray_DATA(rows)
    cdef double scale = inverted_scale(m.drop)
    watch()
    with nogil:
        fd_softmax_dropout_grad(&m.view, <fd_dtype>code, scale, cnp.PyArray_DATA(a),
                                <const int64_t *>cnp.PyArray_STRIDES(a), state,
                                cnp.PyArray_DATA(g), <const int64_t *>cnp.PyArray_STRIDES(g), cnp.PyArray_DATA(dx),
                                <const int64_t *>cnp.PyArray_STRIDES(dx))
    unwatch()
    return result if given is None else given
