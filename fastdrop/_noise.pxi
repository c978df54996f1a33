# Noise: standard normals, as a value. Included by _core.pyx.
cdef fd_noise_kind noise_kind(object kind) except *:
    if isinstance(kind, str):
        if kind == "multiplicative":
            return FD_NOISE_TIMES
        if kind == "additive":
            return FD_NOISE_PLUS
    raise ValueError(f"kind has to be 'multiplicative' or 'additive', but got {shown(kind)}")


@cython.binding(False)
@cython.embedsignature.format("clinic")
@cython.final
cdef class Noise(View):
    """Standard normals as a value: which of the law's normals it names. It holds no array.

    The normal of element ``(i0, i1, ...)`` is number ``start + i0*strides[0] + i1*strides[1] + ...`` of the infinite
    sequence that `key` and `call` name. Indexing, transposing, reshaping and broadcasting give another Noise over the
    same normals, as they do with NumPy's views. It is immutable, compares equal by value, hashes and pickles (about a
    hundred bytes).

    Parameters
    ----------
    key, call : int
        Below 2**64: the generator's key, and the number of the draw.
    shape : int or tuple of int
        At most 64 axes.
    start : int, default 0
        Number of the first element.
    strides : tuple of int, optional
        Step along each axis, in elements of the sequence; C order if not given.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or an element would lie outside 0 to 2**63 - 1.

    Notes
    -----
    *Compatibility guarantee*: equal (key, call, start, shape, strides) give equal float32 normals, to the last bit, on
    every instruction set, number of threads, memory layout and device, in every release of the same major version.

    The normals come from Philox4x32-10 words by the method of Box and Muller, with 32 bits each for radius and angle, so
    that none is beyond 6.77; ``fastdrop.h`` states the law, ``fastdrop.reference`` the recipe of float32 operations.
    They are independent of the masks of the same key and call.

    Examples
    --------
    >>> import numpy as np, fastdrop as fd
    >>> noise = fd.Noise(key=42, call=7, shape=(2, 3))
    >>> np.asarray(noise).round(3)
    array([[ 1.995, -2.223, -0.922],
           [ 0.577,  0.549,  0.31 ]], dtype=float32)
    >>> noise.apply(np.ones((2, 3)), sigma=0.5).round(3)
    array([[ 1.997, -0.111,  0.539],
           [ 1.288,  1.274,  1.155]])
    >>> noise[1, ::2]
    Noise(key=42, call=7, shape=(2,), start=3, strides=(2,))
    """

    _what = "noise"

    def __init__(self, key, call, shape, start=0, *, strides=None):
        check_and_fill(self, key, call, FD_KEEP_ALL, shape, start, strides)

    def apply(self, x, out=None, *, sigma, kind="multiplicative"):
        """``y = x * (1 + sigma * z)``, or ``y = x + sigma * z``, with these normals z.

        The backward pass of the first is the same operator, on the gradient; of the second it is the identity.

        Parameters
        ----------
        x : array_like
            float32, float64, float16 or bfloat16, of a shape that the noise broadcasts to; any strides, alignment and
            byte order.
        out : ndarray, optional
            Where to write, of x's shape and dtype; ``out=x`` works in place.
        sigma : float
            The standard deviation of the noise.
        kind : {"multiplicative", "additive"}

        Returns
        -------
        ndarray
            `out`, or a new array that keeps the memory order of a dense x.

        Raises
        ------
        TypeError
            If x is of another dtype, out is no native array of x's dtype, or sigma no number.
        ValueError
            If the noise does not broadcast to x's shape, `kind` is another word, or out has another shape, is read-only
            or overlaps x without being it.

        Notes
        -----
        float64 is computed in float64, with the same float32 normals; float16 and bfloat16 in float32, rounded once, to
        nearest even. Which element gets which normal depends on the logical (C-order) index alone.

        Examples
        --------
        >>> import numpy as np, fastdrop as fd
        >>> noise = fd.Noise(key=0, call=0, shape=4)
        >>> np.array_equal(noise.apply(np.zeros(4, np.float32), sigma=1.0, kind="additive"), noise)
        True
        """
        cdef cnp.ndarray a, y
        cdef View z
        cdef int code
        cdef double factor = check_real("sigma", sigma)
        cdef fd_noise_kind how = noise_kind(kind)
        a = as_array(x, "x")
        given = out
        out = plain_array(out)
        code = dtype_code(a)
        z = fitted(self, a)
        if out is not None:
            check_out(a, out)
        a = native(a)
        y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
        cdef int64_t x_strides[64]  # FD_MAX_NDIM
        cdef int64_t y_strides[64]
        cdef const void *from_ = steady(&z.view, a, x_strides)
        cdef void *to = steady(&z.view, y, y_strides)
        watch()
        with nogil:
            fd_noise_apply(&z.view, <fd_dtype>code, how, factor, from_, x_strides, to, y_strides)
        unwatch()
        return y if given is None else given

    def __array__(self, dtype=None, copy=None):
        """The normals as a new float32 array of the noise's shape."""
        if copy is False:
            raise ValueError("noise holds no array: np.asarray(noise) always makes one, so copy=False cannot be met")
        dtype = asked_dtype(dtype)
        cdef cnp.ndarray z = np.empty(self.shape, np.float32)
        cdef float *to = <float *>cnp.PyArray_DATA(z)
        watch()
        with nogil:
            fd_normals(&self.view, to)
        unwatch()
        return z if dtype is None else z.astype(dtype, copy=False)

    def __reduce__(self):
        return _noise, (self.key, self.call, self.shape, self.start, self.strides)

    def __repr__(self):
        return view_repr(self, "")


def _noise(key, call, shape, start, strides):
    return Noise(key, call, shape, start, strides=strides)
