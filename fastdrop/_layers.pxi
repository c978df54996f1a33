# What layers and optimizers do to whole arrays, and the direct convolution (csrc/fd_layers.h, fd_conv.h). Included by
# _core.pyx. Arrays have to be C-contiguous float32 or float64 in native byte order; layouts are the callers' business.
from libc.stdint cimport uint16_t


cdef extern from "fd_conv.h":
    int FD_CONV_RUNS
    ctypedef struct fd_conv_kernels:
        pass
    ctypedef struct fd_conv:
        const fd_conv_kernels *kernels
        int64_t n, h, w, c, o, oh, ow
        int64_t kh, kw, sh, sw, ph, pw, dh, dw
    const fd_conv_kernels *fd_conv_kernels_in_use() nogil
    int64_t fd_conv_panel(const fd_conv *) nogil
    int64_t fd_conv_slabs(const fd_conv *) nogil
    int64_t fd_conv_packed(const fd_conv *) nogil
    int64_t fd_conv_room(const fd_conv *) nogil
    int64_t fd_conv_weights_room(const fd_conv *) nogil
    void fd_conv_pack(const fd_conv *, const float *weight, int turned, float *packed) nogil
    void fd_conv_forward(const fd_conv *, const float *x, const float *packed, const float *bias, float *y,
                         float *room) nogil
    void fd_conv_weights(const fd_conv *, const float *x, const float *dy, float *dweight, float *dbias,
                         float *room) nogil

cdef extern from "fd_layers.h":
    ctypedef struct fd_windows:
        int64_t n, h, w, c, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw
    ctypedef struct fd_adam_step:
        double beta1, beta2, eps, decay, rate, root
    ctypedef struct fd_sgd_step:
        double rate, momentum, dampening, decay
        int nesterov
    void fd_relu(fd_dtype, int64_t n, const void *x, void *y, unsigned char *taken) nogil
    void fd_relu_grad(fd_dtype, int64_t n, const void *dy, const unsigned char *taken, void *dx) nogil
    void fd_adam(fd_dtype, int64_t n, const fd_adam_step *, const void *g, void *p, void *m, void *v,
                 void *largest) nogil
    void fd_sgd(fd_dtype, int64_t n, const fd_sgd_step *, const void *g, void *p, void *velocity) nogil
    void fd_max_pool(fd_dtype, const fd_windows *, const void *x, void *y, uint16_t *winner) nogil
    void fd_max_pool_grad(fd_dtype, const fd_windows *, const void *dy, const uint16_t *winner, void *dx) nogil

CONV_PANEL = 1 << 17  # floats of packed weights that are to stay in a level 2 cache: half a MiB
CONV_IMAGE = 1 << 40  # floats of a padded image


cdef fd_dtype real_code(cnp.ndarray x, str name) except *:
    cdef int t = cnp.PyArray_TYPE(x)
    if t != cnp.NPY_FLOAT32 and t != cnp.NPY_FLOAT64:
        raise TypeError(f"{name} has to be an array of float32 or float64, but got {x.dtype}")
    return FD_F32 if t == cnp.NPY_FLOAT32 else FD_F64


cdef void *memory(cnp.ndarray a, str name, int type, tuple shape, bint write) except NULL:
    """The memory of an array that has to be as the kernels take it."""
    if cnp.PyArray_TYPE(a) != type:
        raise TypeError(f"{name} has to have the dtype {np.dtype(cnp.PyArray_DescrFromType(type))}, but got {a.dtype}")
    if (<object>a).shape != shape:
        raise ValueError(f"{name} has to have the shape {shape}, but got {(<object>a).shape}")
    if not cnp.PyArray_ISCARRAY_RO(a):
        raise ValueError(f"{name} has to be C-contiguous, aligned and in native byte order")
    if write and not cnp.PyArray_ISWRITEABLE(a):
        raise ValueError(f"{name} is read-only")
    return cnp.PyArray_DATA(a)


cdef void *optional(cnp.ndarray a, str name, int type, tuple shape, bint write) except? NULL:
    return NULL if a is None else memory(a, name, type, shape, write)


cdef int check_separate(cnp.ndarray out, tuple others, bint itself=False) except -1:
    """Refuse an output that shares memory with an input or another output; `itself`: being the first one is fine."""
    cdef cnp.ndarray other
    cdef const char *a = <const char *>cnp.PyArray_DATA(out)
    cdef const char *b
    for other in others:
        if other is None:
            continue
        b = <const char *>cnp.PyArray_DATA(other)
        if itself and a == b and cnp.PyArray_NBYTES(out) == cnp.PyArray_NBYTES(other):
            itself = False
        elif a < b + cnp.PyArray_NBYTES(other) and b < a + cnp.PyArray_NBYTES(out):
            raise ValueError("an output overlaps an input, or another output: each needs memory of its own")
    return 0


def relu(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray taken=None):
    """y = max(x, 0), where a NaN stays; `taken` (uint8) becomes 255 where x > 0, else 0. y may be x."""
    cdef fd_dtype code = real_code(x, "x")
    cdef int64_t n = cnp.PyArray_SIZE(x)
    cdef tuple shape = (<object>x).shape
    cdef const void *a = memory(x, "x", cnp.PyArray_TYPE(x), shape, False)
    cdef void *b = memory(y, "y", cnp.PyArray_TYPE(x), shape, True)
    cdef unsigned char *t = <unsigned char *>optional(taken, "taken", cnp.NPY_UINT8, shape, True)
    check_separate(y, (x, taken), True)
    if taken is not None:
        check_separate(taken, (x,))
    with nogil:
        fd_relu(code, n, a, b, t)


def relu_grad(cnp.ndarray dy not None, cnp.ndarray taken not None, cnp.ndarray dx not None):
    """dx = dy where `taken` is not 0, else +0. dx may be dy."""
    cdef fd_dtype code = real_code(dy, "dy")
    cdef int64_t n = cnp.PyArray_SIZE(dy)
    cdef tuple shape = (<object>dy).shape
    cdef const void *a = memory(dy, "dy", cnp.PyArray_TYPE(dy), shape, False)
    cdef const unsigned char *t = <const unsigned char *>memory(taken, "taken", cnp.NPY_UINT8, shape, False)
    cdef void *b = memory(dx, "dx", cnp.PyArray_TYPE(dy), shape, True)
    check_separate(dx, (dy, taken), True)
    with nogil:
        fd_relu_grad(code, n, a, t, b)


def adam(cnp.ndarray gradient not None, cnp.ndarray p not None, cnp.ndarray mean not None, cnp.ndarray square not None,
         cnp.ndarray largest=None, *, double beta1, double beta2, double eps, double decay, double rate, double root):
    """One step of Adam; see ``fd_layers.h``."""
    cdef fd_dtype code = real_code(p, "p")
    cdef int64_t n = cnp.PyArray_SIZE(p)
    cdef tuple shape = (<object>p).shape
    cdef int type = cnp.PyArray_TYPE(p)
    cdef fd_adam_step step = fd_adam_step(beta1, beta2, eps, decay, rate, root)
    cdef void *to = memory(p, "p", type, shape, True)
    cdef const void *g = memory(gradient, "gradient", type, shape, False)
    cdef void *m = memory(mean, "mean", type, shape, True)
    cdef void *v = memory(square, "square", type, shape, True)
    cdef void *most = optional(largest, "largest", type, shape, True)
    check_separate(p, (gradient, mean, square, largest))
    check_separate(mean, (gradient, square, largest))
    check_separate(square, (gradient, largest))
    if largest is not None:
        check_separate(largest, (gradient,))
    with nogil:
        fd_adam(code, n, &step, g, to, m, v, most)


def sgd(cnp.ndarray gradient not None, cnp.ndarray p not None, cnp.ndarray velocity=None, *, double rate,
        double momentum=0.0, double dampening=0.0, double decay=0.0, bint nesterov=False):
    """One step of gradient descent; see ``fd_layers.h``."""
    cdef fd_dtype code = real_code(p, "p")
    cdef int64_t n = cnp.PyArray_SIZE(p)
    cdef tuple shape = (<object>p).shape
    cdef int type = cnp.PyArray_TYPE(p)
    cdef fd_sgd_step step = fd_sgd_step(rate, momentum, dampening, decay, nesterov)
    cdef void *to = memory(p, "p", type, shape, True)
    cdef const void *g = memory(gradient, "gradient", type, shape, False)
    cdef void *speed = optional(velocity, "velocity", type, shape, True)
    check_separate(p, (gradient, velocity))
    if velocity is not None:
        check_separate(velocity, (gradient,))
    with nogil:
        fd_sgd(code, n, &step, g, to, speed)


cdef int window(tuple geometry, int64_t *kernel, int64_t *stride, int64_t *padding, int64_t *dilation) except -1:
    """Read ((kh, kw), (sh, sw), (ph, pw), (dh, dw)), each pair checked."""
    cdef int64_t *parts[4]
    parts[0], parts[1], parts[2], parts[3] = kernel, stride, padding, dilation
    if len(geometry) != 4:
        raise ValueError(f"geometry has to be kernel, stride, padding and dilation, but got {geometry}")
    for i, (name, least) in enumerate((("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1))):
        parts[i][0], parts[i][1] = geometry[i]
        if not (least <= parts[i][0] < 1 << 30 and least <= parts[i][1] < 1 << 30):
            raise ValueError(f"{name} has to be at least {least}, but got {geometry[i]}")
    return 0


cdef int check_reach(int64_t size, int64_t count, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                     bint pooling) except -1:
    """Refuse windows that leave the padded image (for pooling: of which one has no pixel)."""
    cdef int64_t last = (count - 1) * stride - padding, k
    if not pooling:
        if count < 1 or last + dilation * (kernel - 1) >= size + padding:
            raise ValueError(f"{count} windows do not fit an image of {size} with padding {padding}")
        return 0
    for start in (-padding, last):
        for k in range(kernel):
            if 0 <= start + k * dilation < size:
                break
        else:
            raise ValueError(f"a window of {count} holds no pixel of an image of {size} with padding {padding}")
    return 0


cdef int read_windows(fd_windows *s, tuple large, tuple small, tuple geometry) except -1:
    cdef int64_t kernel[2]
    cdef int64_t stride[2]
    cdef int64_t padding[2]
    cdef int64_t dilation[2]
    if len(large) != 4 or len(small) != 4 or large[0] != small[0] or large[3] != small[3]:
        raise ValueError(f"images and results have to be (N, H, W, C) with N and C in common, but got {large}, {small}")
    window(geometry, kernel, stride, padding, dilation)
    s.n, s.h, s.w, s.c = large
    s.oh, s.ow = small[1], small[2]
    s.kh, s.kw, s.sh, s.sw = kernel[0], kernel[1], stride[0], stride[1]
    s.ph, s.pw, s.dh, s.dw = padding[0], padding[1], dilation[0], dilation[1]
    if s.kh * s.kw > 65535:
        raise ValueError(f"kernel has to have at most 65535 places, but got {geometry[0]}")
    check_reach(s.h, s.oh, s.kh, s.sh, s.ph, s.dh, True)
    check_reach(s.w, s.ow, s.kw, s.sw, s.pw, s.dw, True)
    return 0


def max_pool(cnp.ndarray x not None, cnp.ndarray y not None, cnp.ndarray winner, tuple geometry not None):
    """Maxima of the windows of (N, H, W, C) images; `winner` (uint16), if given, takes the place of each in its window."""
    cdef fd_windows s
    cdef fd_dtype code = real_code(x, "x")
    cdef tuple small = (<object>y).shape
    read_windows(&s, (<object>x).shape, small, geometry)
    cdef const void *a = memory(x, "x", cnp.PyArray_TYPE(x), (<object>x).shape, False)
    cdef void *b = memory(y, "y", cnp.PyArray_TYPE(x), small, True)
    cdef uint16_t *wins = <uint16_t *>optional(winner, "winner", cnp.NPY_UINT16, small, True)
    check_separate(y, (x, winner))
    if winner is not None:
        check_separate(winner, (x,))
    with nogil:
        fd_max_pool(code, &s, a, b, wins)


def max_pool_grad(cnp.ndarray dy not None, cnp.ndarray winner not None, cnp.ndarray dx not None, tuple geometry not None):
    """Gradients of the images from those of their windows' maxima."""
    cdef fd_windows s
    cdef fd_dtype code = real_code(dy, "dy")
    cdef tuple small = (<object>dy).shape
    read_windows(&s, (<object>dx).shape, small, geometry)
    cdef const void *a = memory(dy, "dy", cnp.PyArray_TYPE(dy), small, False)
    cdef const uint16_t *wins = <const uint16_t *>memory(winner, "winner", cnp.NPY_UINT16, small, False)
    cdef void *b = memory(dx, "dx", cnp.PyArray_TYPE(dy), (<object>dx).shape, True)
    check_separate(dx, (dy, winner))
    with nogil:
        fd_max_pool_grad(code, &s, a, wins, b)


cdef int read_conv(fd_conv *s, tuple images, tuple results, tuple geometry) except -1:
    cdef int64_t kernel[2]
    cdef int64_t stride[2]
    cdef int64_t padding[2]
    cdef int64_t dilation[2]
    if len(images) != 4 or len(results) != 4 or images[0] != results[0]:
        raise ValueError(f"images and results have to be (N, H, W, C) with N in common, but got {images}, {results}")
    window(geometry, kernel, stride, padding, dilation)
    s.kernels = fd_conv_kernels_in_use()
    s.n, s.h, s.w, s.c = images
    s.oh, s.ow, s.o = results[1], results[2], results[3]
    s.kh, s.kw, s.sh, s.sw = kernel[0], kernel[1], stride[0], stride[1]
    s.ph, s.pw, s.dh, s.dw = padding[0], padding[1], dilation[0], dilation[1]
    check_reach(s.h, s.oh, s.kh, s.sh, s.ph, s.dh, False)
    check_reach(s.w, s.ow, s.kw, s.sw, s.pw, s.dw, False)
    return 0


cdef bint takes(const fd_conv *s):
    return (s.kernels != NULL and s.kh * s.kw <= FD_CONV_RUNS and s.c > 0 and s.o > 0
            and fd_conv_panel(s) <= CONV_PANEL
            # Sizes of memory are counted in 64 bits, which padding on all sides can run over.
            and <double>(s.h + 2 * s.ph) * <double>(s.w + 2 * s.pw) * s.c < CONV_IMAGE)


cdef object check_takes(const fd_conv *s):
    if not takes(s):
        raise ValueError("the instruction set in use has no direct convolution of this shape")


def conv_takes(tuple images, tuple results, tuple geometry):
    """Whether `conv` and `conv_weights` take these shapes, (N, H, W, C) and (N, oh, ow, O), on this instruction set."""
    cdef fd_conv s
    read_conv(&s, images, results, geometry)
    return takes(&s)


def conv(cnp.ndarray x not None, cnp.ndarray weight not None, cnp.ndarray bias, cnp.ndarray y not None,
         tuple geometry not None, *, bint turned=False):
    """y = x * weight + bias of float32 (N, H, W, C) images, for (O, C, kh, kw) weights; `turned`: (C, O, kh, kw) ones,
    turned by half a turn."""
    cdef fd_conv s
    cdef tuple images = (<object>x).shape, results = (<object>y).shape
    read_conv(&s, images, results, geometry)
    check_takes(&s)
    ends = (s.c, s.o) if turned else (s.o, s.c)
    cdef const float *a = <const float *>memory(x, "x", cnp.NPY_FLOAT32, images, False)
    cdef const float *w = <const float *>memory(weight, "weight", cnp.NPY_FLOAT32, (ends[0], ends[1], s.kh, s.kw), False)
    cdef const float *b = <const float *>optional(bias, "bias", cnp.NPY_FLOAT32, (s.o,), False)
    cdef float *to = <float *>memory(y, "y", cnp.NPY_FLOAT32, results, True)
    check_separate(y, (x, weight, bias))
    cdef cnp.ndarray packed = np.empty(fd_conv_packed(&s), np.float32)
    cdef cnp.ndarray room = np.empty(fd_conv_slabs(&s) * fd_conv_room(&s), np.float32)
    cdef float *pack = <float *>cnp.PyArray_DATA(packed)
    cdef float *free = <float *>cnp.PyArray_DATA(room)
    with nogil:
        fd_conv_pack(&s, w, turned, pack)
        fd_conv_forward(&s, a, pack, b, to, free)


def conv_weights(cnp.ndarray x not None, cnp.ndarray dy not None, cnp.ndarray dweight not None,
                 cnp.ndarray dbias not None, tuple geometry not None):
    """The gradients of `conv`'s weights and bias, in C order."""
    cdef fd_conv s
    cdef tuple images = (<object>x).shape, results = (<object>dy).shape
    read_conv(&s, images, results, geometry)
    check_takes(&s)
    cdef const float *a = <const float *>memory(x, "x", cnp.NPY_FLOAT32, images, False)
    cdef const float *g = <const float *>memory(dy, "dy", cnp.NPY_FLOAT32, results, False)
    cdef float *dw = <float *>memory(dweight, "dweight", cnp.NPY_FLOAT32, (s.o, s.c, s.kh, s.kw), True)
    cdef float *db = <float *>memory(dbias, "dbias", cnp.NPY_FLOAT32, (s.o,), True)
    check_separate(dweight, (x, dy, dbias))
    check_separate(dbias, (x, dy))
    # At least the sums of one slab, which are 0 where there are no images.
    cdef cnp.ndarray room = np.zeros(max(1, fd_conv_slabs(&s)) * fd_conv_weights_room(&s), np.float32)
    cdef float *free = <float *>cnp.PyArray_DATA(room)
    with nogil:
        fd_conv_weights(&s, a, g, dw, db, free)
