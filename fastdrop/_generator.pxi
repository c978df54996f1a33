# Generator: a key and a counter of calls. Included by _core.pyx.
cdef str SEED_KINDS = "seed has to be None, a non-negative integer, a sequence of them or a SeedSequence, but got "

cdef object plain_entropy(object entropy, int depth=0):
    """An int, or a flat list of ints, that seeds alike: what a saved state can hold."""
    if isinstance(entropy, np.ndarray):
        entropy = np.asarray(entropy).tolist()  # not a matrix, whose rows are matrices without end
    if isinstance(entropy, (list, tuple)):
        if depth > FD_MAX_NDIM:
            raise TypeError("lists too deep")
        flat = []
        for e in entropy:
            part = plain_entropy(e, depth + 1)
            flat += part if isinstance(part, list) else [part]
        return flat
    if isinstance(entropy, (bool, np.bool_)):
        raise TypeError(SEED_KINDS + shown(entropy))
    number = operator.index(entropy)
    if number < 0:
        raise ValueError(f"seed has to be non-negative, but got {shown(number)}")
    return number


cdef object seed_sequence(object seed):
    if isinstance(seed, np.random.SeedSequence):
        try:
            plain_entropy(seed.entropy)
        except TypeError:
            raise TypeError(SEED_KINDS + "one of " + shown(seed.entropy)) from None
        return seed
    if seed is None:
        return np.random.SeedSequence()
    try:
        entropy = plain_entropy(seed)
    except TypeError:
        raise TypeError(SEED_KINDS + shown(seed)) from None
    return np.random.SeedSequence(entropy)


# Threads may share a generator. A critical section is a lock of the object's own on builds of Python without a GIL, and
# nothing on the others: no step inside gives the GIL up, and none may run Python code, which could.
cdef int draw(Generator g, fd_law *law) except -1:
    """Take the next call: the law's key and call are of one seed, whoever sets another meanwhile."""
    cdef int taken
    with cython.critical_section(g):
        law.key = g._key
        taken = fd_counter_take(&g._call, &law.call)
    if not taken:
        raise OverflowError("this generator has given all of its 2**64 - 1 calls")
    return 0


cdef int start_from(Generator g, uint64_t key, uint64_t call, object seq) except -1:
    """Set all of the state at once."""
    cdef object before  # whose end may run Python code, after the section
    with cython.critical_section(g):
        before = g._seed_seq
        g._key = key
        g._call = call
        g._seed_seq = seq
    return 0


cdef tuple now(Generator g):
    """Key, call and seed sequence of one moment."""
    cdef uint64_t key, call
    cdef object seq
    with cython.critical_section(g):
        key = g._key
        call = fd_counter_get(&g._call)
        seq = g._seed_seq
    return key, call, seq


# A SeedSequence counts its children without a lock, and generators may share one. The child of a fork gets a lock that
# nobody holds. It can be entered again: to make children may run a subclass' code.
_spawning = threading.RLock()

def _renew_lock():
    global _spawning
    _spawning = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@cython.binding(False)
@cython.embedsignature.format("clinic")
@cython.final
cdef class Generator:
    """Gives masks and noise: a 64-bit key and a counter of calls.

    Each new mask or noise takes the next call, so that no two share bits. The counter is atomic: threads that share a generator
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

    def __cinit__(self, seed=None):
        self.manual_seed(seed)

    def manual_seed(self, seed):
        """Start again from another seed: `call` is 0 after it. Returns the generator itself."""
        seq = seed_sequence(seed)
        start_from(self, seq.generate_state(1, np.uint64)[0], 0, seq)
        return self

    @property
    def key(self):
        """int: the 64-bit key."""
        return now(self)[0]

    @property
    def call(self):
        """int: the call that the next mask takes."""
        return now(self)[1]

    @property
    def seed_seq(self):
        """numpy.random.SeedSequence: where the key comes from."""
        return now(self)[2]

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
        cdef fd_law law
        cdef Mask m = Mask.__new__(Mask)
        if type(p) is not float or not 0.0 <= p <= 1.0:
            p = check_p(p)
        m.drop = p
        shape = plain_item(shape)
        draw(self, &law)
        fill(m, law.key, law.call, fd_threshold(m.drop), 0, shape, None)
        return m

    def noise(self, shape):
        """Fresh standard normals, C-contiguous from the first of the next call.

        Parameters
        ----------
        shape : int or tuple of int

        Returns
        -------
        Noise

        Raises
        ------
        TypeError, ValueError
            If `shape` is of the wrong kind or out of range; no call is taken then.
        """
        cdef fd_law law
        cdef Noise z = Noise.__new__(Noise)
        shape = plain_item(shape)
        draw(self, &law)
        fill(z, law.key, law.call, FD_KEEP_ALL, 0, shape, None)
        return z

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
        return np.random.Generator(np.random.Philox(key=np.array(take_call(self), np.uint64)))

    def spawn(self, n_children):
        """Independent generators, as ``numpy.random.Generator.spawn``.

        Parameters
        ----------
        n_children : int

        Returns
        -------
        list of Generator
        """
        n_children = check_int("n_children", n_children, 0, 2**32 - 1)
        with _spawning:
            children = self.seed_seq.spawn(n_children)
        return list(map(Generator, children))

    @property
    def state(self):
        """dict: all there is to save, in plain ints, lists and None (JSON can hold it).

        ``key`` and ``call`` continue with the same masks; ``seed_seq`` continues with the same children. Assigning a
        state restores it; one without ``seed_seq`` spawns from a sequence seeded with its key.
        """
        key, call, seq = now(self)
        return {
            "key": key,
            "call": call,
            "seed_seq": {
                "entropy": plain_entropy(seq.entropy),
                "spawn_key": list(map(int, seq.spawn_key)),
                "pool_size": int(seq.pool_size),
                "n_children_spawned": int(seq.n_children_spawned),
            },
        }

    @state.setter
    def state(self, state):
        if not isinstance(state, dict) or not {"key", "call"} <= state.keys():
            raise ValueError(f"state has to be as Generator.state gives it, with 'key' and 'call', but got {shown(state)}")
        key = check_int("state['key']", state["key"], 0, 2**64 - 1)
        call = check_int("state['call']", state["call"], 0, 2**64 - 1)
        seq = state.get("seed_seq") or {"entropy": key}
        try:
            # NumPy follows lists that hold themselves until the stack ends.
            plain = {**seq, "entropy": plain_entropy(seq["entropy"])}
            if "spawn_key" in seq:
                plain["spawn_key"] = tuple(plain_entropy(list(seq["spawn_key"])))
            seq = np.random.SeedSequence(**plain)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"state['seed_seq'] has to be as Generator.state gives it, but got {shown(seq)}") from error
        start_from(self, key, call, seq)

    def __eq__(self, other):
        if not isinstance(other, Generator):
            return NotImplemented
        return self.state == other.state

    __hash__ = None

    def __reduce__(self):
        return _generator, (self.state,)

    def __repr__(self):
        key, call, _ = now(self)
        return f"Generator(key={key}, call={call})"


def _generator(state):
    rng = Generator(0)
    rng.state = state
    return rng


def take_call(Generator rng not None):
    """(key, call) of the generator's next call, which is taken."""
    cdef fd_law law
    draw(rng, &law)
    return law.key, law.call


def give_back(Generator rng not None, uint64_t key, uint64_t before, uint64_t after):
    """Take the calls from `before` to `after` of a key back, if nobody has taken one since: then nobody gets a call
    twice."""
    cdef bint given = False
    with cython.critical_section(rng):
        if rng._key == key:
            given = fd_replace_if(&rng._call, after, before)
    return given


def apply_fresh(rng, x, p):
    """``rng.mask(x.shape, p).apply(x)`` where everything is as most calls have it: a plain array, a plain p that drops
    something. Else None, and no call is taken. A mask that nobody sees needs no object."""
    cdef cnp.ndarray a, y
    cdef fd_view view
    cdef int64_t shape[64]
    cdef int64_t strides[64]  # NPY_MAXDIMS
    cdef int64_t step = 1
    cdef int i, code
    if type(rng) is not Generator or type(x) is not np.ndarray or type(p) is not float or not 0.0 < p <= 1.0:
        return None
    a = x
    if cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64, cnp.NPY_FLOAT16) or not cnp.PyArray_ISNOTSWAPPED(a):
        return None
    code = dtype_code(a)
    view.ndim = cnp.PyArray_NDIM(a)
    view.shape = shape
    view.strides = strides
    for i in range(view.ndim - 1, -1, -1):
        shape[i] = cnp.PyArray_DIM(a, i)
        strides[i] = step
        step *= shape[i] if shape[i] else 1
    y = PyArray_NewLikeArray(a, cnp.NPY_KEEPORDER, <cnp.dtype>NULL, 0)
    draw(rng, &view.law)
    view.law.q = fd_threshold(p)
    view.start = 0
    apply_view(&view, code, inverted_scale(p), a, y)
    return y
