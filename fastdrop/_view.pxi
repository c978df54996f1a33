# View: what Mask and Noise have in common, a law and strides over its sequence. Included by _core.pyx.
cdef int fill(View v, uint64_t key, uint64_t call, uint64_t q, uint64_t start, tuple shape, tuple strides) except -1:
    """`strides` of None: C order."""
    cdef Py_ssize_t i, nd = len(shape)
    cdef int64_t step = 1
    v.dims = <int64_t *>PyMem_Malloc((2 * nd + 1) * sizeof(int64_t))
    if v.dims == NULL:
        raise MemoryError()
    for i in range(nd - 1, -1, -1):
        v.dims[i] = shape[i]
        if strides is None:
            v.dims[nd + i] = step
            step *= v.dims[i] if v.dims[i] else 1
        else:
            v.dims[nd + i] = strides[i]
    v.view.law.key = key
    v.view.law.call = call
    v.view.law.q = q
    v.view.start = start
    v.view.shape = v.dims
    v.view.strides = v.dims + nd
    v.view.ndim = <int>nd  # last: until then it has no axes, for whoever looks at it too soon
    return 0


cdef int check_and_fill(View v, object key, object call, uint64_t q, object shape, object start,
                        object strides) except -1:
    """What `__init__` does once its own arguments are checked."""
    what = type(v).__name__
    if v.dims != NULL:
        raise TypeError(f"a {what} is immutable")
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
    check_extent(start, shape, strides, v._what)
    with cython.critical_section(v):  # as in _generator.pxi
        if v.dims != NULL:  # the arguments' own code, or another thread, may have been here
            raise TypeError(f"a {what} is immutable")
        fill(v, key, call, q, start, shape, strides)
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


cdef tuple plain_item(object shape):
    """`shape` checked; quickly where it is plain."""
    if type(shape) is int and 0 <= shape < LIMIT:
        return (shape,)
    return shape if plain_shape(shape) else check_shape(shape)


cdef View derive(View of, tuple view):
    """Another view over the same sequence; `view` comes from _views.py and lies inside this one."""
    cdef View v
    if type(of) is Mask:
        v = Mask.__new__(Mask)
        (<Mask>v).drop = (<Mask>of).drop
    else:
        v = Noise.__new__(Noise)
    fill(v, of.view.law.key, of.view.law.call, of.view.law.q, view[0], view[1], view[2])
    return v


cdef tuple numbers(const int64_t *values, int n):
    """`n` ints. Not by a comprehension, here or elsewhere: where such a list cannot grow, Cython 3.3 gives its last item back
    twice."""
    cdef list out = [None] * n
    cdef int i
    for i in range(n):
        out[i] = values[i]
    return tuple(out)


cdef tuple view_of(View v):
    return v.start, v.shape, v.strides


cdef View fitted(View v, cnp.ndarray a):
    """The view broadcast to an array's shape; itself where it has that shape."""
    cdef int i
    if cnp.PyArray_NDIM(a) == v.view.ndim:
        for i in range(v.view.ndim):
            if v.view.shape[i] != cnp.PyArray_DIM(a, i):
                break
        else:
            return v
    return v.broadcast_to((<object>a).shape)


cdef void *steady(const fd_view *view, cnp.ndarray a, int64_t *strides) except? NULL:
    """The memory of an array of the view's shape, and a copy of its strides: the last look before a kernel runs.

    Another thread may set an array's shape at any time: since it was checked, and while the kernel runs without the GIL.
    """
    cdef int i, nd = cnp.PyArray_NDIM(a)
    cdef bint same = nd == view.ndim
    for i in range(nd if same else 0):
        same &= cnp.PyArray_DIM(a, i) == view.shape[i]
        strides[i] = cnp.PyArray_STRIDE(a, i)
    if not same:
        raise ValueError(f"an array of shape {numbers(view.shape, view.ndim)} became one of {(<object>a).shape} while it was used: "
                         "let no other thread set its shape")
    return cnp.PyArray_DATA(a)


cdef object _view_of_array = np.ndarray.view  # not a subclass' own


cdef object own_view(object a):
    """A view of an array, of the base class: nobody else can set its shape. Anything else is given back as it is."""
    return _view_of_array(a, np.ndarray) if cnp.PyArray_Check(a) else a


cdef object asked_dtype(object dtype):
    """The argument of ``__array__`` as a dtype, or None."""
    if dtype is None:
        return None
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"dtype has to be one of NumPy's, but got {shown(dtype)}") from error


# Methods of these classes are not bound as Python's are: those would not look at the type of what they are called on.
@cython.binding(False)
@cython.embedsignature.format("clinic")
cdef class View:
    """A strided view over the sequence that a key and a call name: the base of `Mask` and `Noise`.

    Indexing, transposing, reshaping and broadcasting give another view over the same sequence, as they do with NumPy's.
    """

    _what = "mask"  # in messages

    def __dealloc__(self):
        PyMem_Free(self.dims)

    def __array__(self, dtype=None, copy=None):
        """What the view names, as a new array: `Mask` and `Noise` say of what."""
        raise NotImplementedError

    def __reduce__(self):
        raise NotImplementedError

    @property
    def key(self):
        """int: the 64-bit key."""
        return self.view.law.key

    @property
    def call(self):
        """int: the number of the draw."""
        return self.view.law.call

    @property
    def start(self):
        """int: the index of element (0, 0, ...) in the sequence."""
        return self.view.start

    @property
    def shape(self):
        """tuple of int: the extents."""
        return numbers(self.view.shape, self.view.ndim)

    @property
    def strides(self):
        """tuple of int: the step along each axis, in elements of the sequence; 0 repeats."""
        return numbers(self.view.strides, self.view.ndim)

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
        """The view with its axes reversed."""
        return self.transpose()

    def __getitem__(self, key):
        return derive(self, index_view(view_of(self), key, self._what))

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
        return derive(self, transpose_view(view_of(self), axes, self._what))

    def reshape(self, *shape):
        """The same elements in C order under another shape, where a view can; one entry may be -1.

        Raises
        ------
        ValueError
            If the sizes differ, or no strides say it: then ``np.asarray(view).reshape(...)`` does.

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Mask(key=0, call=0, p=0.5, shape=(2, 3)).reshape(-1).shape
        (6,)
        """
        shape = resolve_shape(check_ints("shape", shape[0] if len(shape) == 1 else shape, 1 - LIMIT), self.size, self._what)
        return derive(self, reshape_view(view_of(self), check_shape(shape), self._what))

    def broadcast_to(self, shape):
        """The view repeated along new leading axes and axes of extent 1, as ``np.broadcast_to``.

        This is how one mask, or noise, serves a whole feature map (spatial dropout) or all time steps (locked dropout).

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
        return derive(self, broadcast_view(view_of(self), check_shape(shape), self._what))

    def shard(self, axis, rank, size, *, interleaved=False):
        """The part of the view that one of several processes has: a slice along `axis`.

        The parts of all ranks, put together, are the view: a process that applies its part to its part of a tensor gets
        the bits that one process alone would have.

        Parameters
        ----------
        axis : int
            May be negative.
        rank : int
            Which part, from 0.
        size : int or sequence of int
            How many parts there are: as even as can be, the longer ones first, as of `numpy.array_split`. Or the
            extents of all parts.
        interleaved : bool
            Deal the elements out one by one, ``view[rank::size]``, as `torch.utils.data.DistributedSampler` does.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or out of range, or `size` names other extents than the axis has.

        Examples
        --------
        >>> import fastdrop as fd
        >>> mask = fd.Mask(key=0, call=0, p=0.5, shape=(7, 4))
        >>> mask.shard(0, 1, 3) == mask[3:5], mask.shard(0, 1, 3, interleaved=True) == mask[1::3]
        (True, True)
        >>> mask.shard(0, 1, [2, 5]).shard(-1, 0, 2).shape
        (5, 2)
        """
        rank, size = check_shard(rank, size, interleaved)
        return derive(self, shard_view(view_of(self), axis, rank, size, interleaved, self._what))

    def __len__(self):
        if self.view.ndim == 0:
            raise TypeError(f"len() of a {self._what} without axes")
        return self.dims[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, value):
        try:
            return value in np.asarray(self)
        except (ArithmeticError, TypeError):  # an int that no 64 bits hold, a signaling NaN, what compares with no number
            return False

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"the truth value of a {self._what} of {self.size} elements is ambiguous; see np.asarray({self._what})")
        return bool(np.asarray(self))

    def _identity(self):
        """What equality compares: strides along axes of one element, and everything of an empty view, name nothing."""
        shape = self.shape
        if 0 in shape:
            return self.key, self.call, shape
        return self.key, self.call, shape, self.start, tuple(s if n > 1 else 0 for s, n in zip(self.strides, shape))

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self):
        return hash(self._identity())


cdef str view_repr(View v, str parameters):
    text = f"{type(v).__name__}(key={v.key}, call={v.call}, {parameters}shape={v.shape}"
    if v.start:
        text += f", start={v.start}"
    if any(s != c for s, c, n in zip(v.strides, contiguous_strides(v.shape), v.shape) if n != 1):
        text += f", strides={v.strides}"
    return text + ")"
