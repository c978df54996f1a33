# The fused operations under a mask: `fd_mask_fused` on arrays. Included by _core.pyx.
OPERATIONS = {"affine": FD_AFFINE, "where": FD_WHERE, "add": FD_ADD, "act": FD_ACT, "act_grad": FD_ACT_GRAD}
ACTIVATIONS = {"identity": FD_IDENTITY, "relu": FD_RELU, "gelu": FD_GELU, "gelu_tanh": FD_GELU_TANH, "silu": FD_SILU}


def check_second(cnp.ndarray x not None, second, str name):
    """`second`, the input `name`, as an array of x's dtype and shape; broadcast where it has to be."""
    other = as_array(second, name)
    if other.dtype.newbyteorder("=") != x.dtype.newbyteorder("="):
        raise TypeError(f"{name} has to have the dtype of x, {x.dtype}, but got {other.dtype}")
    if not other.dtype.isnative:
        other = other.astype(other.dtype.newbyteorder("="))
    shape = (<object>x).shape
    if other.shape == shape:
        return other
    try:
        return np.broadcast_to(other, shape)
    except ValueError:
        raise ValueError(f"{name} has to broadcast to the shape of x, {shape}, but got {other.shape}") from None


def fused(Mask mask not None, str operation not None, x, second=None, out=None, *, str name="second",
          str activation="identity", double scale=1.0, double shift=0.0, double dropped=0.0):
    """One pass of `operation` (see ``fastdrop.h``) over x, under a mask that broadcasts to it.

    Parameters are those of ``fd_mask_fused``; `name` is what errors call `second`.
    """
    cdef cnp.ndarray a, z, y
    cdef fd_op op
    cdef int code
    cdef int64_t x_strides[64]  # FD_MAX_NDIM
    cdef int64_t y_strides[64]
    cdef int64_t z_strides[64]
    cdef const void *z_data = NULL
    op.code = <fd_opcode><int>OPERATIONS[operation]
    op.activation = <fd_activation><int>ACTIVATIONS[activation]
    op.scale, op.shift, op.dropped = scale, shift, dropped
    # Whatever runs the caller's code comes first: from the first look at a shape to the kernel nothing may change it.
    a = x if type(x) is np.ndarray else as_array(x, "x")
    if second is not None:
        second = as_array(second, name)
    given = out
    out = plain_array(out)
    code = dtype_code(a)
    if (<object>a).shape != mask.shape:
        mask = mask.broadcast_to((<object>a).shape)
    if second is not None:
        z = check_second(a, second, name)
    elif operation not in ("affine", "act"):
        raise TypeError(f"{name} has to be given")
    if out is not None:
        check_out(a, out)
        if second is not None and not plain_out(z, out):
            check_apart(out, z, name)
    a = native(a)
    y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
    cdef const void *from_ = steady(&mask.view, a, x_strides)
    cdef void *to = steady(&mask.view, y, y_strides)
    if second is not None:
        z_data = steady(&mask.view, z, z_strides)
    if cnp.PyArray_SIZE(a) <= SHORT_CALL:
        fd_mask_fused(&mask.view, <fd_dtype>code, &op, from_, x_strides, z_data, z_strides, to, y_strides)
    else:
        watch()
        with nogil:
            fd_mask_fused(&mask.view, <fd_dtype>code, &op, from_, x_strides, z_data, z_strides, to, y_strides)
        unwatch()
    return y if given is None else given
