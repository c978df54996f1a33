# What other Cython code can cimport: the classes' layout, and the C API as a table of functions.
from libc.stdint cimport int64_t, uint64_t


cdef extern from "fastdrop.h":
    int FD_ABI
    int FD_MAX_NDIM
    uint64_t FD_KEEP_ALL
    const char *FD_CAPSULE

    ctypedef enum fd_dtype:
        FD_F32
        FD_F64
        FD_F16
        FD_BF16

    ctypedef enum fd_noise_kind:
        FD_NOISE_TIMES
        FD_NOISE_PLUS

    ctypedef struct fd_law:
        uint64_t key
        uint64_t call
        uint64_t q

    ctypedef struct fd_view:
        fd_law law
        uint64_t start
        int ndim
        const int64_t *shape
        const int64_t *strides

    ctypedef enum fd_opcode:
        FD_AFFINE
        FD_WHERE
        FD_ADD
        FD_ACT
        FD_ACT_GRAD

    ctypedef enum fd_activation:
        FD_IDENTITY
        FD_RELU
        FD_GELU
        FD_GELU_TANH
        FD_SILU

    ctypedef struct fd_op:
        fd_opcode code
        fd_activation activation
        double scale
        double shift
        double dropped

    ctypedef struct fd_api:
        int abi
        uint64_t (*threshold)(double) noexcept nogil
        void (*bits)(const fd_law *, uint64_t, uint64_t, void *) noexcept nogil
        void (*mask_pack)(const fd_view *, void *) noexcept nogil
        void (*mask_bools)(const fd_view *, void *) noexcept nogil
        void (*mask_apply)(const fd_view *, fd_dtype, double, const void *, const int64_t *, void *,
                           const int64_t *) noexcept nogil
        const char *(*isa)() noexcept nogil
        int (*set_isa)(const char *) noexcept nogil
        const char *(*isa_name)(int, int *) noexcept nogil
        int (*get_num_threads)() noexcept nogil
        void (*set_num_threads)(int) noexcept nogil
        void (*mask_fused)(const fd_view *, fd_dtype, const fd_op *, const void *, const int64_t *, const void *,
                           const int64_t *, void *, const int64_t *) noexcept nogil
        void (*masks_apply)(const fd_view *, int64_t, const fd_law *, fd_dtype, double, const void *, const int64_t *,
                            void *, const int64_t *, int64_t) noexcept nogil
        void (*noise_apply)(const fd_view *, fd_dtype, fd_noise_kind, double, const void *, const int64_t *, void *,
                            const int64_t *) noexcept nogil
        void (*normals)(const fd_view *, float *) noexcept nogil
        int (*block_apply)(const fd_view *, const int64_t *, fd_dtype, double, const void *, const int64_t *, void *,
                           const int64_t *) noexcept nogil
        int (*block_bools)(const fd_view *, const int64_t *, void *) noexcept nogil
        void (*softmax_dropout)(const fd_view *, fd_dtype, double, const void *, const int64_t *, void *,
                                const int64_t *, void *) noexcept nogil
        void (*softmax_dropout_grad)(const fd_view *, fd_dtype, double, const void *, const int64_t *, const void *,
                                     const void *, const int64_t *, void *, const int64_t *) noexcept nogil
        void (*dropconnect)(const fd_view *, fd_dtype, double, const void *, const void *, void *) noexcept nogil
        void (*dropconnect_dx)(const fd_view *, fd_dtype, double, const void *, const void *, void *) noexcept nogil
        void (*dropconnect_dw)(const fd_view *, fd_dtype, double, const void *, const void *, void *) noexcept nogil


cdef const fd_api *c_api() noexcept nogil


cdef class View:
    cdef fd_view view       # its shape and strides point into dims, and live as long as the View
    cdef int64_t *dims


cdef class Mask(View):
    cdef double drop        # p, the probability to drop; view.law.q is made from it


cdef class Noise(View):
    pass


cdef class Generator:
    cdef uint64_t _key, _call
    cdef object _seed_seq
