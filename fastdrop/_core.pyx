# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True, binding=True, autotestdict=False
"""Generator and Mask: buffers in, C calls with the GIL released out.

A Mask is a value: the law (key, call, q) and a strided view (start, shape, strides) over its bits. Arguments are checked
here or in _checks.py before any memory is touched; which bits a view names is _views.py's; everything after that is C.
Policy (what to drop, when, how to scale) lives in functional.py.
"""
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint64_t

cimport cython
cimport numpy as cnp

import numpy as np

from fastdrop._checks import LIMIT, check_int, check_p, check_real, check_shape
from fastdrop._views import (
    broadcast_view,
    check_extent,
    contiguous_strides,
    index_view,
    reshape_view,
    resolve_shape,
    transpose_view,
)

cnp.import_array()

cdef extern from "fastdrop.h":
    uint64_t fd_threshold(double p) nogil
    void fd_bits(const fd_law *law, uint64_t start, uint64_t n, void *out) nogil
    void fd_mask_pack(const fd_view *mask, void *out) nogil
    void fd_mask_bools(const fd_view *mask, void *out) nogil
    void fd_mask_apply(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                       void *y, const int64_t *y_strides) nogil
    const char *fd_isa() nogil
    const char *fd_isa_name(int k, int *usable) nogil
    int fd_set_isa(const char *name) nogil
    int fd_get_num_threads() nogil
    void fd_set_num_threads(int n) nogil

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, cnp.dtype dtype, int subok)

cdef extern from "fd_atomic.h":
    uint64_t fd_counter_get(uint64_t *counter) nogil
    int fd_counter_take(uint64_t *counter, uint64_t *taken) nogil


# ---- the C API, for other extension modules ----

cdef fd_api api_table
api_table.abi = FD_ABI
api_table.threshold = fd_threshold
api_table.bits = fd_bits
api_table.mask_pack = fd_mask_pack
api_table.mask_bools = fd_mask_bools
api_table.mask_apply = fd_mask_apply
api_table.isa = fd_isa
api_table.get_num_threads = fd_get_num_threads
api_table.set_num_threads = fd_set_num_threads

cdef const fd_api *c_api() noexcept nogil:
    return &api_table

_C_API = PyCapsule_New(<void *>&api_table, FD_CAPSULE, NULL)


# ---- arrays ----

FLOATS = "float32, float64, float16 and bfloat16 (of ml_dtypes)"

cdef int dtype_code(cnp.ndarray x) except -1:
    """The kernel's dtype for an array; the byte order is not looked at."""
    cdef int t = cnp.PyArray_TYPE(x)
    if t == cnp.NPY_FLOAT32:
        return FD_F32
    if t == cnp.NPY_FLOAT64:
        return FD_F64
    if t == cnp.NPY_FLOAT16:
        return FD_F16
    if x.dtype.name == "bfloat16" and x.dtype.itemsize == 2:  # a dtype of its own: NumPy has none
        return FD_BF16
    raise TypeError(f"x has to be an array of {FLOATS}, but got {x.dtype}")


def check_dtype(x):
    """Raise TypeError unless x is an array of a dtype that the kernels take."""
    dtype_code(x)


cdef bint overlaps_itself(object a):
    """Whether two elements may share memory. Says no only where axes nest: each step passes over all of the finer ones."""
    axes = sorted((abs(s), n) for s, n in zip(a.strides, a.shape) if n > 1)
    reach = a.itemsize
    for step, n in axes:
        if step < reach:
            return True
        reach += step * (n - 1)
    return False


cpdef int check_out(cnp.ndarray x, object out) except -1:
    """Refuse an output that is of another kind, cannot be written, or overlaps x without being it."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out has to be a NumPy array, but got a {type(out).__name__}")
    if out.dtype != x.dtype.newbyteorder("="):
        swapped = " (byte-swapped)" if not out.dtype.isnative else ""
        raise TypeError(f"out has to be a native {x.dtype.newbyteorder('=')} array, but got {out.dtype}{swapped}")
    if out.shape != (<object>x).shape:
        raise ValueError(f"out has to have the shape of x, {(<object>x).shape}, but got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if out.size == 0:
        return 0
    same = (x.dtype.isnative and cnp.PyArray_DATA(x) == cnp.PyArray_DATA(<cnp.ndarray>out)
            and (<object>x).strides == out.strides)
    if not same and np.may_share_memory(x, out):
        raise ValueError("out overlaps x without being x: pass out=x to work in place, or memory of its own")
    if overlaps_itself(out):
        raise ValueError(f"out has elements that share memory (strides {out.strides}): each needs its own")
    return 0


# ---- the mask ----

cdef int fill(Mask m, uint64_t key, uint64_t call, double p, uint64_t start, tuple shape, tuple strides) except -1:
    cdef Py_ssize_t i, nd = len(shape)
    m.dims = <int64_t *>PyMem_Malloc((2 * nd + 1) * sizeof(int64_t))
    if m.dims == NULL:
        raise MemoryError()
    for i in range(nd):
        m.dims[i] = shape[i]
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
            strides = tuple(check_int(f"strides[{i}]", s, 1 - LIMIT, LIMIT - 1) for i, s in enumerate(strides))
            if len(strides) != len(shape):
                raise ValueError(f"strides has to have one entry per axis of shape {shape}, but got {strides}")
        check_extent(start, shape, strides)
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
        A dropped element is +0 whatever it was, Inf and NaN too. The scale is computed in double and rounded once;
        float16 and bfloat16 are scaled in float32 and rounded once, to nearest even. Which element gets which bit
        depends on the logical (C-order) index alone, never on the memory order of x.

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
        a = x if isinstance(x, np.ndarray) else np.asarray(x)
        code = dtype_code(a)
        if cnp.PyArray_NDIM(a) == m.view.ndim:
            for i in range(m.view.ndim):
                if m.view.shape[i] != cnp.PyArray_DIM(a, i):
                    m = m.broadcast_to((<object>a).shape)
                    break
        else:
            m = m.broadcast_to((<object>a).shape)
        if scale is None:
            factor = 1.0 / (1.0 - m.drop) if m.drop < 1.0 else 0.0
        else:
            factor = check_real("scale", scale)
        if out is not None:
            check_out(a, out)
        if not cnp.PyArray_ISNOTSWAPPED(a):
            a = a.astype(a.dtype.newbyteorder("="))
        y = out if out is not None else PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
        cdef const void *from_ = cnp.PyArray_DATA(a)
        cdef void *to = cnp.PyArray_DATA(y)
        cdef const int64_t *a_strides = <const int64_t *>cnp.PyArray_STRIDES(a)
        cdef const int64_t *y_strides = <const int64_t *>cnp.PyArray_STRIDES(y)
        with nogil:
            fd_mask_apply(&m.view, <fd_dtype>code, factor, from_, a_strides, to, y_strides)
        return y

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
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))):
            axes = axes[0]
        elif not axes:
            axes = None
        if axes is not None:
            axes = tuple(check_int("axes", a, -64, 63) for a in axes)
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
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        shape = resolve_shape(tuple(check_int("shape", n, 1 - LIMIT, LIMIT - 1) for n in shape), self.size)
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
        if self.strides != contiguous_strides(self.shape):
            text += f", strides={self.strides}"
        return text + ")"


def _mask(key, call, p, shape, start, strides):
    return Mask(key, call, p, shape, start, strides=strides)


# ---- the generator ----

cdef object seed_sequence(object seed):
    if isinstance(seed, np.random.SeedSequence):
        return seed
    if isinstance(seed, (bool, np.bool_, float, str, bytes)):
        raise TypeError(f"seed has to be None, a non-negative integer, a sequence of them or a SeedSequence, but got {seed!r}")
    try:
        return np.random.SeedSequence(seed)
    except TypeError:
        raise TypeError(
            f"seed has to be None, a non-negative integer, a sequence of them or a SeedSequence, but got {seed!r}"
        ) from None
    except ValueError:
        raise ValueError(f"seed has to be non-negative, but got {seed!r}") from None


cdef uint64_t take(Generator g) except? 0:
    cdef uint64_t call
    if not fd_counter_take(&g._call, &call):
        raise OverflowError("this generator has given all of its 2**64 - 1 calls")
    return call


@cython.final
cdef class Generator:
    """Gives masks: a 64-bit key and a counter of calls.

    Each new mask takes the next call, so that no two share bits. The counter is atomic: threads that share a generator
    never get the same call.

    Parameters
    ----------
    seed : None, int, sequence of int or numpy.random.SeedSequence, optional
        The key is the seed sequence's first 64-bit word; None takes fresh entropy from the operating system.

    Raises
    ------
    TypeError, ValueError
        If `seed` is something else, or negative.

    Notes
    -----
    *Compatibility guarantee*: equal seeds give equal keys, and equal (key, call) equal masks, in every release of the
    same major version. A process that forks shares its generators' states with the child: give each worker its own,
    with `spawn`.

    Examples
    --------
    >>> import fastdrop as fd
    >>> rng = fd.Generator(seed=0)
    >>> rng.mask((2, 3), p=0.5)
    Mask(key=15793235383387715774, call=0, p=0.5, shape=(2, 3))
    >>> rng
    Generator(key=15793235383387715774, call=1)
    """

    def __init__(self, seed=None):
        self.manual_seed(seed)

    def manual_seed(self, seed):
        """Start again from another seed: `call` is 0 after it. Returns the generator itself."""
        seq = seed_sequence(seed)
        self._key = seq.generate_state(1, np.uint64)[0]
        self._call = 0
        self._seed_seq = seq
        return self

    @property
    def key(self):
        """int: the 64-bit key."""
        return self._key

    @property
    def call(self):
        """int: the call that the next mask takes."""
        return fd_counter_get(&self._call)

    @property
    def seed_seq(self):
        """numpy.random.SeedSequence: where the key comes from."""
        return self._seed_seq

    def mask(self, shape, p=0.5):
        """A fresh mask, C-contiguous from bit 0 of the next call.

        Parameters
        ----------
        shape : int or tuple of int
        p : float, default 0.5
            Probability to drop, between 0 and 1.

        Returns
        -------
        Mask

        Raises
        ------
        TypeError, ValueError
            If `shape` or `p` is of the wrong kind or out of range; no call is taken then.
        """
        cdef Mask m = Mask.__new__(Mask)
        p = check_p(p)
        shape = check_shape(shape)
        fill(m, self._key, take(self), p, 0, shape, contiguous_strides(shape))
        return m

    def numpy(self):
        """A NumPy generator on a stream of its own, for what is not a mask: initial weights, shuffles.

        It takes the next call too, so that the state of this generator alone is enough to repeat a run.

        Returns
        -------
        numpy.random.Generator
            Over NumPy's Philox (4x64) with the key (key, call).

        Examples
        --------
        >>> import fastdrop as fd
        >>> fd.Generator(seed=0).numpy().permutation(5)
        array([3, 1, 2, 4, 0])
        """
        return np.random.Generator(np.random.Philox(key=np.array([self._key, take(self)], np.uint64)))

    def spawn(self, n_children):
        """Independent generators, as ``numpy.random.Generator.spawn``.

        Parameters
        ----------
        n_children : int

        Returns
        -------
        list of Generator
        """
        return [Generator(s) for s in self._seed_seq.spawn(check_int("n_children", n_children, 0, 2**32 - 1))]

    @property
    def state(self):
        """dict: all there is to save, in plain ints, lists and None (JSON can hold it).

        ``key`` and ``call`` continue with the same masks; ``seed_seq`` continues with the same children. Assigning a
        state restores it; one without ``seed_seq`` spawns from a sequence seeded with its key.
        """
        seq = self._seed_seq
        entropy = seq.entropy
        return {
            "key": self._key,
            "call": self.call,
            "seed_seq": {
                "entropy": entropy if entropy is None or isinstance(entropy, int) else [int(e) for e in entropy],
                "spawn_key": [int(k) for k in seq.spawn_key],
                "pool_size": int(seq.pool_size),
                "n_children_spawned": int(seq.n_children_spawned),
            },
        }

    @state.setter
    def state(self, state):
        if not isinstance(state, dict) or not {"key", "call"} <= state.keys():
            raise ValueError(f"state has to be a dict with 'key' and 'call', as Generator.state gives, but got {state!r}")
        key = check_int("state['key']", state["key"], 0, 2**64 - 1)
        call = check_int("state['call']", state["call"], 0, 2**64 - 1)
        seq = state.get("seed_seq") or {"entropy": key}
        try:
            seq = np.random.SeedSequence(**seq)
        except (TypeError, ValueError) as error:
            raise ValueError(f"state['seed_seq'] has to be as Generator.state gives it, but got {seq!r}: {error}") from None
        self._key = key
        self._call = call
        self._seed_seq = seq

    def __eq__(self, other):
        if not isinstance(other, Generator):
            return NotImplemented
        return self.state == other.state

    __hash__ = None

    def __reduce__(self):
        return _generator, (self.state,)

    def __repr__(self):
        return f"Generator(key={self._key}, call={self.call})"


def _generator(state):
    rng = Generator(0)
    rng.state = state
    return rng


# ---- the machine: thin, checked in runtime.py ----

def isa_in_use():
    return fd_isa().decode()


def isas():
    """(name, usable) of every instruction set the library knows, from the narrowest to the widest."""
    cdef int usable
    found = []
    while True:
        name = fd_isa_name(len(found), &usable)
        if name == NULL:
            return found
        found.append((name.decode(), bool(usable)))


def use_isa(str name):
    return fd_set_isa(name.encode())


def threads():
    return fd_get_num_threads()


def use_threads(int n):
    fd_set_num_threads(n)
