# Mask: keep bits, as a value. Included by _core.pyx.
@cython.binding(False)
@cython.embedsignature.format("clinic")
@cython.final
cdef class Mask(View):
    """A dropout mask as a value: which bits of the mask law it names. It holds no array.

    The keep bit of element ``(i0, i1, ...)`` is bit ``start + i0*strides[0] + i1*strides[1] + ...`` of the infinite
    sequence that `key`, `call` and `p` name. Indexing, transposing, reshaping and broadcasting give another Mask over
    the same bits, as they do with NumPy's views. Masks are immutable, compare equal by value, hash and pickle (about a
    hundred bytes).

    Parameters
    ----------
    key, call : int
        Below 2**64: the generator's key, and the number of the draw.
    p : float
        Probability to drop, between 0 and 1; exact to 2**-32.
    shape : int or tuple of int
        At most 64 axes.
    start : int, default 0
        Bit of the first element.
    strides : tuple of int, optional
        Step along each axis, in bits; C order if not given.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or a bit would lie outside 0 to 2**63 - 1.

    Notes
    -----
    *Compatibility guarantee*: equal (key, call, p, start, shape, strides) give equal bits on every instruction set,
    number of threads, memory layout and device, in every release of the same major version.

    The bits are planes of Philox4x32-10 (Salmon et al., SC 2011); ``fastdrop.h`` states the law on one page.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> mask = fd.Mask(key=42, call=7, p=0.5, shape=(2, 8))
    >>> np.asarray(mask).astype(int)
    array([[1, 1, 0, 0, 1, 0, 1, 1],
           [0, 0, 0, 0, 1, 0, 0, 1]])
    >>> mask.apply(np.ones((2, 8), np.float32))
    array([[2., 2., 0., 0., 2., 0., 2., 2.],
           [0., 0., 0., 0., 2., 0., 0., 2.]], dtype=float32)
    >>> mask[1, ::2]
    Mask(key=42, call=7, p=0.5, shape=(4,), start=8, strides=(2,))
    """

    def __cinit__(self):
        self.view.law.q = FD_KEEP_ALL  # without __init__: a mask of no axes and p = 0

    def __init__(self, key, call, p, shape, start=0, *, strides=None):
        cdef double drop = check_p(p)
        check_and_fill(self, key, call, fd_threshold(drop), shape, start, strides)
        self.drop = drop

    @property
    def p(self):
        """float: the probability to drop."""
        return self.drop

    def apply(self, x, out=None, *, scale=None):
        """Keep and scale, or drop: ``y = x * scale`` where kept, ``+0`` where dropped.

        The backward pass is the same operator, on the gradient.

        Parameters
        ----------
        x : array_like
            float32, float64, float16 or bfloat16, of a shape that the mask broadcasts to; any strides, alignment and
            byte order.
        out : ndarray, optional
            Where to write, of x's shape and dtype; ``out=x`` works in place.
        scale : float, optional
            ``1 / (1 - p)`` if not given: inverted dropout.

        Returns
        -------
        ndarray
            `out`, or a new array that keeps the memory order of a dense x.

        Raises
        ------
        TypeError
            If x is of another dtype, out is no native array of x's dtype, or scale no number.
        ValueError
            If the mask does not broadcast to x's shape, or out has another shape, is read-only or overlaps x without
            being it.

        Notes
        -----
        A dropped element is +0 whatever it was, Inf and NaN too. The scale is computed in double and rounded to x's
        dtype; for float16 and bfloat16 scale and product are float32, and the product is rounded from there, to nearest
        even. Which element gets which bit depends on the logical (C-order) index alone, never on the memory order of x.

        Ctrl-C, and whatever a signal's handler raises, ends a long call soon, as in every function that takes long; `out`
        is then written in part, and so is x where it is `out`.

        Examples
        --------
        >>> import numpy as np, fastdrop as fd
        >>> x = np.array([1., np.nan, 3., 4.])
        >>> fd.Mask(key=0, call=0, p=0.5, shape=4).apply(x)
        array([ 0., nan,  0.,  8.])
        """
        cdef cnp.ndarray a, y
        cdef View m
        cdef int code
        cdef double factor
        # Whatever runs the caller's code comes first: from the first look at a shape to the kernel nothing may change it.
        if scale is None:
            factor = inverted_scale(self.drop)
        else:
            factor = check_real("scale", scale)
        a = x if type(x) is np.ndarray else as_array(x, "x")
        given = out
        if out is not None:
            out = plain_array(out)
        code = dtype_code(a)
        m = fitted(self, a)
        if out is not None:
            check_out(a, out)
        a = native(a)
        y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
        apply_view(&m.view, code, factor, a, y)
        return y if given is None else given

    def __array__(self, dtype=None, copy=None):
        """The keep decisions as a new boolean array of the mask's shape."""
        if copy is False:
            raise ValueError("a mask holds no array: np.asarray(mask) always makes one, so copy=False cannot be met")
        dtype = asked_dtype(dtype)
        cdef cnp.ndarray bools = np.empty(self.shape, np.bool_)
        cdef void *to = cnp.PyArray_DATA(bools)
        watch()
        with nogil:
            fd_mask_bools(&self.view, to)
        unwatch()
        return bools if dtype is None else bools.astype(dtype, copy=False)

    def packbits(self):
        """The keep decisions at one bit each.

        Returns
        -------
        ndarray of uint8, shape ((size + 7) // 8,)
            C order, least significant bit first: ``np.packbits(np.asarray(mask), bitorder="little")``. Unused bits of
            the last byte are 0.

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Mask(key=0, call=0, p=0.5, shape=16).packbits()
        array([42, 23], dtype=uint8)
        """
        cdef cnp.ndarray packed
        cdef void *to
        if turned(self.shape, self.strides):
            # A transposed view: its bits come in tiles, which are made as booleans.
            return np.packbits(np.asarray(self), bitorder="little")
        packed = np.empty((self.size + 7) // 8, np.uint8)
        to = cnp.PyArray_DATA(packed)
        watch()
        with nogil:
            fd_mask_pack(&self.view, to)
        unwatch()
        return packed

    def _identity(self):
        return self.p, *View._identity(self)

    def __reduce__(self):
        return _mask, (self.key, self.call, self.p, self.shape, self.start, self.strides)

    def __repr__(self):
        return view_repr(self, f"p={self.p}, ")


def _mask(key, call, p, shape, start, strides):
    return Mask(key, call, p, shape, start, strides=strides)
