# DropConnect: `fd_dropconnect` and its gradients on arrays. Included by _core.pyx.
cdef cnp.ndarray matrix(object a, str name, cnp.ndarray like, str like_name, Py_ssize_t rows, Py_ssize_t columns):
    """`a`, the argument `name`, in C order: (rows, columns) of float32 or float64, and of the dtype of `like` if given."""
    cdef cnp.ndarray given = as_array(a, name)
    cdef int t = cnp.PyArray_TYPE(given)
    if t != cnp.NPY_FLOAT32 and t != cnp.NPY_FLOAT64:
        raise TypeError(f"{name} has to be an array of float32 or float64, but got {given.dtype}")
    if like is not None and t != cnp.PyArray_TYPE(like):
        raise TypeError(f"{name} has to have the dtype of {like_name}, {like.dtype}, but got {given.dtype}")
    if (<object>given).shape != (rows, columns):
        raise ValueError(f"{name} has to have the shape {(rows, columns)}, as the mask says, "
                         f"but got {(<object>given).shape}")
    return np.require(given, given.dtype.newbyteorder("="), ["C", "A"])


cdef int check_examples(Mask mask) except -1:
    if mask.view.ndim != 3:
        raise ValueError(f"mask has to have the shape (batch, out, in), but got {mask.shape}")
    return 0


cdef int check_product(cnp.ndarray y, object out, cnp.ndarray x, cnp.ndarray w) except -1:
    """`check_out` for an output that has another shape than the inputs, and may be neither; y is as it has to be.

    x and w are what the kernels read: a subclass could answer for NumPy that it shares no memory.
    """
    if isinstance(out, np.ndarray):
        if out.shape != (<object>y).shape:
            raise ValueError(f"out has to have the shape (batch, out), {(<object>y).shape}, but got {out.shape}")
        for name, a in (("x", x), ("w", w)):
            if out.size and np.may_share_memory(a, out):
                raise ValueError(f"out overlaps {name}: it has to be memory of its own")
    check_out(y, out)
    return 0


def dropconnect_forward(Mask mask not None, x, w, double scale, out=None):
    """``y[b, o] = scale * sum(mask[b, o] * w[o] * x[b])`` for a mask of shape (B, O, I), as (B, O) (see ``fastdrop.h``).

    The mask is made tile by tile: 42 KiB on the stack of each thread are all the memory that it takes.
    """
    check_examples(mask)
    cdef const int64_t *n = mask.view.shape
    cdef cnp.ndarray a = matrix(x, "x", None, "", n[0], n[2])
    cdef cnp.ndarray b = matrix(w, "w", a, "x", n[1], n[2])
    given = out
    out = plain_array(out)
    cdef cnp.ndarray y = np.empty((n[0], n[1]), a.dtype)
    if out is not None:
        check_product(y, out, a, b)
        if cnp.PyArray_ISCARRAY(out):
            y = out
    cdef fd_dtype code = <fd_dtype>dtype_code(a)
    watch()
    with nogil:
        fd_dropconnect(&mask.view, code, scale, cnp.PyArray_DATA(a), cnp.PyArray_DATA(b), cnp.PyArray_DATA(y))
    unwatch()
    if out is None:
        return y
    if out is not y:
        out[...] = y
    return given


def dropconnect_dx(Mask mask not None, dy, w, double scale):
    """``dx[b, i] = scale * sum(mask[b, :, i] * w[:, i] * dy[b])``, as (B, I): the gradient of x."""
    check_examples(mask)
    cdef const int64_t *n = mask.view.shape
    cdef cnp.ndarray g = matrix(dy, "dy", None, "", n[0], n[1])
    cdef cnp.ndarray b = matrix(w, "w", g, "dy", n[1], n[2])
    cdef cnp.ndarray dx = np.empty((n[0], n[2]), g.dtype)
    cdef fd_dtype code = <fd_dtype>dtype_code(g)
    watch()
    with nogil:
        fd_dropconnect_dx(&mask.view, code, scale, cnp.PyArray_DATA(g), cnp.PyArray_DATA(b), cnp.PyArray_DATA(dx))
    unwatch()
    return dx


def dropconnect_dw(Mask mask not None, dy, x, double scale):
    """``dw[o, i] = scale * sum(mask[:, o, i] * dy[:, o] * x[:, i])``, as (O, I): the gradient of w."""
    check_examples(mask)
    cdef const int64_t *n = mask.view.shape
    cdef cnp.ndarray g = matrix(dy, "dy", None, "", n[0], n[1])
    cdef cnp.ndarray a = matrix(x, "x", g, "dy", n[0], n[2])
    cdef cnp.ndarray dw = np.empty((n[1], n[2]), g.dtype)
    cdef fd_dtype code = <fd_dtype>dtype_code(g)
    watch()
    with nogil:
        fd_dropconnect_dw(&mask.view, code, scale, cnp.PyArray_DATA(g), cnp.PyArray_DATA(a), cnp.PyArray_DATA(dw))
    unwatch()
    return dw
