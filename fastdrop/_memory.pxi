# Memory that is no NumPy array: the law on what a pointer, a shape and strides say. Included by _core.pyx.
# The caller answers for the pointers: both have to lie in memory of that shape, and y to be x or apart from it.
cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>
    #endif

    /* Ask for huge pages, where the system leaves that to programs. It is advice: nothing depends on the answer. */
    static void fd_advise_huge(void *memory, size_t bytes)
    {
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t begin = ((uintptr_t)memory + page - 1) / page * page, end = ((uintptr_t)memory + bytes) / page * page;
        if (begin < end)
            (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    #else
        (void)memory, (void)bytes;
    #endif
    }
    """
    void fd_advise_huge(void *memory, size_t bytes) nogil

cdef extern from "fd_impl.h" nogil:
    ctypedef void fd_team_fn(void (*)(void *) noexcept nogil, void *, unsigned, unsigned) noexcept nogil
    void fd_set_team(fd_team_fn *run)
    void fd_ask_threads(int n)


def set_team(size_t address):
    """Let calls that name a number of threads run on another library's: the address of its ``GOMP_parallel``, or 0."""
    fd_set_team(<fd_team_fn *>address)


# From here on outputs are asked to lie in huge pages, as NumPy asks for its arrays: PyTorch takes large ones fresh from the
# system, and to fault in every 4 KiB of them takes six times as long as to fill them.
cdef enum:
    HUGE_BYTES = 1 << 22


def apply_memory(uint64_t key, uint64_t call, double p, noise, block, double scale, double shift, double dropped, part,
                 int code, size_t x, size_t y, shape, x_strides, y_strides, int threads):
    """Apply the mask (key, call, p) to memory: ``keep ? scale * x + shift : dropped``.

    Parameters
    ----------
    key, call, p
        The law.
    noise : sequence of int or None
        The mask's shape, one entry per axis, 1 or x's extent: 1 shares decisions. None is x's shape. Where x is a part,
        it is needed, and of the whole.
    block : sequence of int or None
        Extents of DropBlock's blocks along the last axes; p is the seeds' probability then, and there is neither shift
        nor dropped, and no part along these axes.
    scale, shift, dropped : float
        What becomes of what is kept and dropped.
    part : sequence of int or None
        Which part of the whole x is: axis, first index and step, for each axis that x has a part of. Axes are negative,
        since new ones come first.
    code : int
        The dtype: a value of ``DTYPE_CODES``.
    x, y : int
        Addresses of the first elements.
    shape : sequence of int
    x_strides, y_strides : sequence of int
        In elements.
    threads : int
        How many may work.
    """
    cdef fd_view view
    cdef fd_op op
    cdef int64_t dims[64]  # FD_MAX_NDIM
    cdef int64_t mask_shape[64]
    cdef int64_t mask_strides[64]
    cdef int64_t from_steps[64]
    cdef int64_t to_steps[64]
    cdef int64_t step = 1, size = 1, span = 1, own
    cdef int64_t itemsize = 8 if code == FD_F64 else 4 if code == FD_F32 else 2
    cdef int i, axis, nd = len(shape), spatial = 0 if block is None else len(block), failed = 0
    if nd > FD_MAX_NDIM:
        raise ValueError(f"x may have at most {FD_MAX_NDIM} axes, but has {nd}")
    if noise is not None and len(noise) != nd:
        raise ValueError(f"noise has to have {nd} axes, as x has, but got {tuple(noise)}")
    if spatial > nd:
        raise ValueError(f"block has to have at most {nd} axes, as x has, but got {tuple(block)}")
    if part is not None and (noise is None or len(part) % 3):
        raise ValueError(f"part has to be axis, first and step for each axis, with noise, but got {tuple(part)}")
    for i in range(nd - 1, -1, -1):
        dims[i] = shape[i]
        own = dims[i] if noise is None else noise[i]
        mask_shape[i] = dims[i]
        mask_strides[i] = 0 if own == 1 else step
        if own < 0 or (own and step > INT64_MAX // own):
            raise ValueError(f"noise has to be of a whole of fewer than 2**63 elements, but got {tuple(noise)}")
        step *= own if own else 1
        size *= dims[i]
        span += (dims[i] - 1) * <int64_t>y_strides[i]
        from_steps[i] = itemsize * <int64_t>x_strides[i]
        to_steps[i] = itemsize * <int64_t>y_strides[i]
    for i in range(spatial):
        own = block[i]
        if own < dims[nd - spatial + i]:
            mask_shape[nd - spatial + i] -= own - 1
        elif dims[nd - spatial + i]:
            mask_shape[nd - spatial + i] = 1
    view.law.key = key
    view.law.call = call
    view.law.q = fd_threshold(p)
    view.start = 0
    if part is not None:
        for i in range(0, len(part), 3):
            axis = nd + <int>part[i]
            if not 0 <= axis < nd:
                raise ValueError(f"part names axis {part[i]} of {nd}: it has to be negative")
            view.start += <uint64_t>part[i + 1] * <uint64_t>mask_strides[axis]
            mask_strides[axis] *= <int64_t>part[i + 2]
    view.ndim = nd
    view.shape = mask_shape
    view.strides = mask_strides
    op.code = FD_AFFINE
    op.activation = FD_IDENTITY
    op.scale, op.shift, op.dropped = scale, shift, dropped
    cdef bint plain = shift == 0.0 and dropped == 0.0
    if size * itemsize >= HUGE_BYTES and x != y and span == size:
        fd_advise_huge(<void *>y, size * itemsize)
    # As in `apply_view`: a short call keeps the GIL.
    if size <= SHORT_CALL:
        failed = on_memory(&view, &op, plain, spatial, code, dims, <void *>x, from_steps, <void *>y, to_steps)
    else:
        fd_ask_threads(threads)
        watch()
        with nogil:
            failed = on_memory(&view, &op, plain, spatial, code, dims, <void *>x, from_steps, <void *>y, to_steps)
        fd_ask_threads(0)
        unwatch()
    if failed:
        raise MemoryError("no memory for the bits of a map")


cdef int on_memory(const fd_view *view, const fd_op *op, bint plain, int spatial, int code, const int64_t *dims,
                   const void *x, const int64_t *x_steps, void *y, const int64_t *y_steps) noexcept nogil:
    if spatial:
        return fd_block_apply(view, dims, <fd_dtype>code, op.scale, x, x_steps, y, y_steps)
    if plain:
        fd_mask_apply(view, <fd_dtype>code, op.scale, x, x_steps, y, y_steps)
    else:
        fd_mask_fused(view, <fd_dtype>code, op, x, x_steps, NULL, NULL, y, y_steps)
    return 0


DTYPE_CODES = {"float32": FD_F32, "float64": FD_F64, "float16": FD_F16, "bfloat16": FD_BF16}
