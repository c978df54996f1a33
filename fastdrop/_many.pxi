# Many masks in one read of the input. Included by _core.pyx.
cdef bint same_view(const fd_view *a, const fd_view *b):
    if a.ndim != b.ndim or a.start != b.start:
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i] or a.strides[i] != b.strides[i]:
            return False
    return True


cdef tuple all_masks(object masks):
    """The masks as a tuple; what is none is refused as it comes, so that an iterator need not end."""
    found = []
    for m in masks:
        if type(m) is not Mask:
            raise TypeError(f"masks[{len(found)}] has to be a fastdrop.Mask, but got a {type(m).__name__}")
        found.append(m)
    return tuple(found)


cdef Mask common_view(tuple masks):
    """The first of the masks, whose p and view the others have too."""
    cdef Mask first, m
    cdef Py_ssize_t t
    first = masks[0]
    for t in range(1, len(masks)):
        m = masks[t]
        if m.drop != first.drop:
            raise ValueError(f"masks have to be of one p, but masks[0] has p={first.drop} and masks[{t}] p={m.drop}")
        if not same_view(&m.view, &first.view):
            raise ValueError(
                "masks have to be of one view (start, shape, strides), but masks[0] has "
                f"{view_of(first)} and masks[{t}] {view_of(m)}"
            )
    return first


cdef int check_outs(cnp.ndarray x, Py_ssize_t count, object out) except -1:
    """`check_out` for several outputs, first in a few comparisons for what is most common."""
    cdef cnp.ndarray y
    cdef int i
    if type(out) is np.ndarray:
        y = out
        if (cnp.PyArray_ISCARRAY(y) and cnp.PyArray_ISCARRAY_RO(x) and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)
                and cnp.PyArray_NDIM(y) == cnp.PyArray_NDIM(x) + 1 and cnp.PyArray_DIM(y, 0) == count):
            for i in range(cnp.PyArray_NDIM(x)):
                if cnp.PyArray_DIM(x, i) != cnp.PyArray_DIM(y, i + 1):
                    break
            else:
                if (cnp.PyArray_BYTES(x) + cnp.PyArray_NBYTES(x) <= cnp.PyArray_BYTES(y)
                        or cnp.PyArray_BYTES(y) + cnp.PyArray_NBYTES(y) <= cnp.PyArray_BYTES(x)):
                    return 0
    if isinstance(out, np.ndarray):  # what `check_out` would say in words for one mask
        shape = (count, *(<object>x).shape)
        if out.shape != shape:
            raise ValueError(f"out has to have the shape (T, *x.shape), {shape}, but got {out.shape}")
        if out.size and np.may_share_memory(x, out):
            raise ValueError("out overlaps x: it has to be memory of its own")
    check_out(np.broadcast_to(x, (count, *(<object>x).shape)), out)
    return 0


def apply_masks(masks, x, out=None, *, scale=None):
    """Several masks, each applied to the same input, which is read once: Monte-Carlo dropout.

    ``y[t] = masks[t].apply(x)``, bit for bit.

    Parameters
    ----------
    masks : sequence of T Mask
        Of the same p and view (start, shape, strides): only key and call differ. They broadcast to x's shape.
    x : array_like
        float32, float64, float16 or bfloat16; any strides, alignment and byte order.
    out : ndarray, optional
        Where to write: of shape (T, *x.shape) and x's dtype, apart from x.
    scale : float, optional
        ``1 / (1 - p)`` if not given: inverted dropout.

    Returns
    -------
    ndarray, shape (T, *x.shape)
        `out`, or a new array in which each ``y[t]`` has the memory order of x.

    Raises
    ------
    TypeError
        If an entry is no Mask, x is of another dtype, out is no native array of x's dtype, or scale no number.
    ValueError
        If the masks differ in p or view, do not broadcast to x's shape, or out has another shape, is read-only or
        overlaps x.

    Notes
    -----
    What `Mask.apply` guarantees holds here. Inputs beyond the caches are walked in pieces that stay in them, all
    outputs of a piece before the next, so that memory gives each element once instead of T times.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> rng = fd.Generator(seed=0)
    >>> fd.apply_masks([rng.mask(4), rng.mask(4)], np.ones(4, np.float32))
    array([[2., 2., 0., 0.],
           [0., 2., 2., 2.]], dtype=float32)
    """
    cdef cnp.ndarray a, y
    cdef Mask m
    cdef fd_law *laws
    cdef const void *from_
    cdef void *to
    cdef const int64_t *x_strides
    cdef const int64_t *y_strides
    cdef int64_t step
    cdef Py_ssize_t t, count
    cdef int code
    cdef double factor = 1.0
    # Whatever runs the caller's code comes first: from the first look at a shape to the kernel nothing may change it.
    if isinstance(masks, (Mask, type, np.ndarray)) or not hasattr(masks, "__iter__"):
        raise TypeError(f"masks has to be a sequence of fastdrop.Mask, but got a {type(masks).__name__}")
    masks = all_masks(masks)
    count = len(masks)
    m = common_view(masks) if count else None
    if scale is not None:
        factor = check_real("scale", scale)
    elif m is not None:
        factor = inverted_scale(m.drop)
    a = own_view(as_array(x, "x"))
    given = out
    out = own_view(out)
    code = dtype_code(a)
    shape = (<object>a).shape
    if m is not None and m.shape != shape:
        m = m.broadcast_to(shape)
    if out is None:
        extents, places = memory_order((count, *shape), (1 << 63, *(<object>a).strides))
        y = np.empty(extents, a.dtype.newbyteorder("=")).transpose(places)
    else:
        check_outs(a, count, out)
        y = out
    a = native(a)
    if count:
        laws = <fd_law *>PyMem_Malloc(count * sizeof(fd_law))
        if laws == NULL:
            raise MemoryError()
        for t in range(count):
            laws[t] = (<Mask>masks[t]).view.law
        from_, to = cnp.PyArray_DATA(a), cnp.PyArray_DATA(y)
        x_strides = <const int64_t *>cnp.PyArray_STRIDES(a)
        y_strides = <const int64_t *>cnp.PyArray_STRIDES(y) + 1
        step = cnp.PyArray_STRIDE(y, 0)
        watch()
        with nogil:
            fd_masks_apply(&m.view, count, laws, <fd_dtype>code, factor, from_, x_strides, to, y_strides, step)
        PyMem_Free(laws)
        unwatch()
    return y if given is None else given
