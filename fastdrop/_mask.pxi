# Mask: the value, and its algebra. Included by _core.pyx.
cdef int fill(Mask m, uint64_t key, uint64_t call, double p, uint64_t start, tuple shape, tuple strides) except -1:
    """`strides` of None: C order."""
    cdef Py_ssize_t i, nd = len(shape)
    cdef int64_t step = 1
    m.dims = <int64_t *>PyMem_Malloc((2 * nd + 1) * sizeof(int64_t))
    if m.dims == NULL:
        raise MemoryError()
    for i in range(nd - 1, -1, -1):
        m.dims[i] = shape[i]
        if strides is None:
            m.dims[nd + i] = step
            step *= m.dims[i] if m.dims[i] else 1
        else:
            m.dims[nd + i] = strides[i]
    m.drop = p
    m.view.law.key = key
    m.view.law.call = call
    m.view.law.q = fd_threshold(p)
    m.view.start = start
    m.view.ndim = <int>nd
    m.view.shape = m.dims
    m.view.strides = m.dims + nd
    return 0


cdef bint plain_shape(object shape):
    """Whether `check_shape` would give `shape` itself, said quickly for what is most common. A no says nothing."""
    cdef double size = 1
    if type(shape) is not tuple or len(<tuple>shape) > FD_MAX_NDIM:
        return False
    for n in <tuple>shape:
        if type(n) is not int or not 0 <= n < LIMIT:
            return False
        size *= n if n else 1
    return size < 4e18


cdef Mask derive(Mask of, tuple view):
    """Another view over the same bits; `view` comes from _views.py and lies inside this one."""
    cdef Mask m = Mask.__new__(Mask)
    fill(m, of.view.law.key, of.view.law.call, of.drop, view[0], view[1], view[2])
    return m


cdef tuple mask_view(Mask m):
    return m.start, m.shape, m.strides


@cython.final
cdef class Mask:
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
        if self.dims != NULL:
            raise TypeError("a Mask is immutable")
        p = check_p(p)
        shape = check_shape(shape)
        start = check_int("start", start, 0, LIMIT - 1)
        key = check_int("key", key, 0, 2**64 - 1)
        call = check_int("call", call, 0, 2**64 - 1)
        if strides is None:
            strides = contiguous_strides(shape)
        else:
            strides = check_ints("strides", strides, 1 - LIMIT)
            if len(strides) != len(shape):
                raise ValueError(f"strides has to have one entry per axis of shape {shape}, but got {strides}")
        check_extent(start, shape, strides)
        if self.dims != NULL:  # the arguments' own code may have been here
            raise TypeError("a Mask is immutable")
        fill(self, key, call, p, start, shape, strides)

    def __dealloc__(self):
        PyMem_Free(self.dims)

    @property
    def key(self):
        """int: the 64-bit key."""
        return self.view.law.key

    @property
    def call(self):
        """int: the number of the draw."""
        return self.view.law.call

    @property
    def p(self):
        """float: the probability to drop."""
        return self.drop

    @property
    def start(self):
        """int: the bit of element (0, 0, ...)."""
        return self.view.start

    @property
    def shape(self):
        """tuple of int: the extents."""
        return tuple([self.dims[i] for i in range(self.view.ndim)])

    @property
    def strides(self):
        """tuple of int: the step along each axis, in bits of the sequence; 0 repeats."""
        return tuple([self.dims[self.view.ndim + i] for i in range(self.view.ndim)])

    @property
    def ndim(self):
        """int: the number of axes."""
        return self.view.ndim

    @property
    def size(self):
        """int: the number of elements."""
        n = 1
        for i in range(self.view.ndim):
            n *= self.dims[i]
        return n

    @property
    def T(self):
        """Mask: the axes reversed."""
        return self.transpose()

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

        Examples
        --------
        >>> import numpy as np, fastdrop as fd
        >>> x = np.array([1., np.nan, 3., 4.])
        >>> fd.Mask(key=0, call=0, p=0.5, shape=4).apply(x)
        array([ 0., nan,  0.,  8.])
        """
        cdef cnp.ndarray a, y
        cdef Mask m = self
        cdef int code, i
        cdef double factor
        # Whatever runs the caller's code comes first: from the first look at a shape to the kernel nothing may change it.
        if scale is None:
            factor = inverted_scale(m.drop)
        else:
            factor = check_real("scale", scale)
        a = x if type(x) is np.ndarray else np.asarray(x)
        given = out
        if out is not None and type(out) is not np.ndarray and isinstance(out, np.ndarray):
            out = np.asarray(out)  # the base class: a subclass may say anything of its shape
        code = dtype_code(a)
        if cnp.PyArray_NDIM(a) == m.view.ndim:
            for i in range(m.view.ndim):
                if m.view.shape[i] != cnp.PyArray_DIM(a, i):
                    m = m.broadcast_to((<object>a).shape)
                    break
        else:
            m = m.broadcast_to((<object>a).shape)
        if out is not None:
            check_out(a, out)
        if not cnp.PyArray_ISNOTSWAPPED(a):
            a = a.astype(a.dtype.newbyteorder("="))
        y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
        apply_view(&m.view, code, factor, a, y)
        return y if given is None else given

    def __array__(self, dtype=None, copy=None):
        """The keep decisions as a new boolean array of the mask's shape."""
        if copy is False:
            raise ValueError("a mask holds no array: np.asarray(mask) always makes one, so copy=False cannot be met")
        cdef cnp.ndarray bools = np.empty(self.shape, np.bool_)
        cdef void *to = cnp.PyArray_DATA(bools)
        with nogil:
            fd_mask_bools(&self.view, to)
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
        strides = [abs(s) for s, n in zip(self.strides, self.shape) if n > 1]
        if strides and strides[len(strides) - 1] >= 64 and 0 < min(strides) < strides[len(strides) - 1]:
            # A transposed view: its bits come in tiles, which are made as booleans.
            return np.packbits(np.asarray(self), bitorder="little")
        packed = np.empty((self.size + 7) // 8, np.uint8)
        to = cnp.PyArray_DATA(packed)
        with nogil:
            fd_mask_pack(&self.view, to)
        return packed

    def __getitem__(self, key):
        return derive(self, index_view(mask_view(self), key))

    def transpose(self, *axes):
        """The view with its axes permuted, as ``ndarray.transpose``; reversed if none are given.

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Mask(key=0, call=0, p=0.5, shape=(2, 3)).transpose().shape
        (3, 2)
        """
        if len(axes) == 1:
            axes = axes[0]
        elif not axes:
            axes = None
        if axes is not None:
            axes = check_ints("axes", axes, 1 - LIMIT)
        return derive(self, transpose_view(mask_view(self), axes))

    def reshape(self, *shape):
        """The same elements in C order under another shape, where a view can; one entry may be -1.

        Raises
        ------
        ValueError
            If the sizes differ, or no strides say it: then ``np.asarray(mask).reshape(...)`` does.

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Mask(key=0, call=0, p=0.5, shape=(2, 3)).reshape(-1).shape
        (6,)
        """
        shape = resolve_shape(check_ints("shape", shape[0] if len(shape) == 1 else shape, 1 - LIMIT), self.size)
        return derive(self, reshape_view(mask_view(self), check_shape(shape)))

    def broadcast_to(self, shape):
        """The view repeated along new leading axes and axes of extent 1, as ``np.broadcast_to``.

        This is how one mask serves a whole feature map (spatial dropout) or all time steps (locked dropout).

        Raises
        ------
        ValueError
            If the shapes do not fit.

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Mask(key=0, call=0, p=0.5, shape=(8, 3))[:, :, None, None].broadcast_to((8, 3, 32, 32)).strides
        (3, 1, 0, 0)
        """
        return derive(self, broadcast_view(mask_view(self), check_shape(shape)))

    def __len__(self):
        if self.view.ndim == 0:
            raise TypeError("len() of a mask without axes")
        return self.dims[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, value):
        return value in np.asarray(self)

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"the truth value of a mask of {self.size} elements is ambiguous; see np.asarray(mask)")
        return bool(np.asarray(self))

    def _identity(self):
        """What equality compares: strides along axes of one element, and everything of an empty mask, name no bit."""
        shape = self.shape
        if 0 in shape:
            return self.key, self.call, self.p, shape
        strides = tuple(s if n > 1 else 0 for s, n in zip(self.strides, shape))
        return self.key, self.call, self.p, shape, self.start, strides

    def __eq__(self, other):
        if not isinstance(other, Mask):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())

    def __reduce__(self):
        return _mask, (self.key, self.call, self.p, self.shape, self.start, self.strides)

    def __repr__(self):
        text = f"Mask(key={self.key}, call={self.call}, p={self.p}, shape={self.shape}"
        if self.start:
            text += f", start={self.start}"
        if any(s != c for s, c, n in zip(self.strides, contiguous_strides(self.shape), self.shape) if n != 1):
            text += f", strides={self.strides}"
        return text + ")"


def _mask(key, call, p, shape, start, strides):
    return Mask(key, call, p, shape, start, strides=strides)
