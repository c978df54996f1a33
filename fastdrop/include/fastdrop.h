/* fastdrop: the public C API, and the law in one page.
 *
 * THE LAW. (key, call, p) names an infinite sequence of Bernoulli(1-p) keep bits, indexed by e = 0, 1, 2, ...
 *
 *     b = e / 128   (block)          l = e % 128   (lane inside the block)
 *     plane(b, j) = Philox4x32-10( counter = { lo32(b), hi32(b) | j << 24, lo32(call), hi32(call) },
 *                                  key     = { lo32(key), hi32(key) } )              4 words = 128 bits
 *     bit(e, j)   = plane(b, j).word[l / 32] >> (l % 32) & 1
 *     U(e)        = sum over j = 0 .. 31 of bit(e, j) * 2^-(j+1)
 *     q           = round_half_even((1 - p) * 2^32)                                  0 .. 2^32
 *     keep(e)     = U(e) < q / 2^32
 *
 * and (key, call) an infinite sequence of standard normals, indexed by the same e: masks take planes 0 .. 31 of a block,
 * normals planes 32 .. 63.
 *
 *     word(e)     = plane(b, 32 + l % 32).word[l / 32]           u(e) = (word(e) + 1/2) / 2^32
 *     normal(e)   = sqrt(-2 log u(e)) * cos(2 pi u(e + 64))      for l < 64
 *                   sqrt(-2 log u(e - 64)) * sin(2 pi u(e))      for l >= 64
 *
 * rounded to float32 by the recipe in csrc/fd_normal.h, which fixes every bit of it.
 *
 * The bits are part of the reproducibility guarantee: they are the same on every instruction set, for every number of
 * threads, every memory layout and every device, and change only with the library's major version. Block numbers stay
 * below 2^56, so bit indices stay below 2^63. Philox is that of Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3" (SC 2011).
 *
 * A MASK is a strided view over that sequence. The keep bit of element (i0, i1, ...) is bit
 * start + i0*strides[0] + i1*strides[1] + ... ; a stride of 0 repeats bits along an axis, a negative one reverses it.
 * NOISE is the same view over the normals.
 *
 * From another extension module, use the table: `const fd_api *fd = fd_import();` (include Python.h first), or in
 * Cython `from fastdrop._core cimport c_api`. Compile with -I"$(python -c 'import fastdrop; print(fastdrop.get_include())')".
 * The functions themselves are declared here for programs that compile csrc/ in.
 */
#ifndef FASTDROP_H
#define FASTDROP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FD_ABI 2
#define FD_MAX_NDIM 64
#define FD_BLOCK_BITS 128
/* q that keeps everything; q == 0 drops everything. Neither draws a random number. */
#define FD_KEEP_ALL ((uint64_t)1 << 32)

typedef enum { FD_F32 = 0, FD_F64 = 1, FD_F16 = 2, FD_BF16 = 3 } fd_dtype;
#define FD_NDTYPES 4

typedef struct {
    uint64_t key, call;
    uint64_t q; /* keep threshold, 0 .. 2^32 */
} fd_law;

/* A view borrows shape and strides (in bits), as a Py_buffer does. */
typedef struct {
    fd_law law;
    uint64_t start;
    int ndim;
    const int64_t *shape, *strides;
} fd_view;

/* q for a probability p to drop, 0 <= p <= 1. */
uint64_t fd_threshold(double p);

/* Keep bits start .. start+n-1 as (n+7)/8 bytes, least significant bit first; unused high bits of the last are 0. */
void fd_bits(const fd_law *law, uint64_t start, uint64_t n, void *out);

/* The same for the elements of a view, in C order. */
void fd_mask_pack(const fd_view *mask, void *out);

/* One byte (0 or 1) per element of a view, in C order. */
void fd_mask_bools(const fd_view *mask, void *out);

/* y = keep ? x * scale : +0, whatever x is (Inf and NaN too). For float16 and bfloat16 the product is made in float32
 * and rounded from there, to nearest even; of a NaN times a NaN either may come out. x and y have the mask's shape,
 * strides in bytes, any alignment; y may be x itself with the same strides, or must not overlap it. */
void fd_mask_apply(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides, void *y,
                   const int64_t *y_strides);

/* What else is done under a mask, in one pass. x is the input, z the second one where an operation has one; what is
 * computed from them is rounded once for float16 and bfloat16, and otherwise as it stands here.
 *
 *   FD_AFFINE    y = keep ? x * scale + shift : dropped                        alpha dropout
 *   FD_WHERE     y = keep ? x : z                                              zoneout
 *   FD_ADD       y = (keep ? x * scale : +0) + z                               dropout, then the residual connection
 *   FD_ACT       y = keep ? act(x + z) * scale : +0                            bias (no z: none), activation, dropout
 *   FD_ACT_GRAD  y = keep ? x * scale * act'(z) : +0                           its gradient: x is dy, z what act took */
typedef enum { FD_AFFINE = 0, FD_WHERE = 1, FD_ADD = 2, FD_ACT = 3, FD_ACT_GRAD = 4 } fd_opcode;
#define FD_NOPS 5

/* FD_RELU max(t, 0); FD_GELU t Phi(t), Phi the normal distribution function; FD_GELU_TANH its approximation by tanh;
 * FD_SILU t / (1 + exp(-t)). */
typedef enum { FD_IDENTITY = 0, FD_RELU = 1, FD_GELU = 2, FD_GELU_TANH = 3, FD_SILU = 4 } fd_activation;

typedef struct {
    fd_opcode code;
    fd_activation activation;
    double scale, shift, dropped;
} fd_op;

/* z is NULL, with z_strides NULL, or has the mask's shape; any of its strides may be 0. y may be x or z, each with the
 * same strides, and overlaps neither otherwise. */
void fd_mask_fused(const fd_view *mask, fd_dtype dtype, const fd_op *op, const void *x, const int64_t *x_strides,
                   const void *z, const int64_t *z_strides, void *y, const int64_t *y_strides);

/* `count` masks of one view in one read of x: output t, y_step bytes after the one before, is x under `mask` with the law
 * laws[t] instead of its own. y_strides are those of one output. None may overlap x or another. */
void fd_masks_apply(const fd_view *mask, int64_t count, const fd_law *laws, fd_dtype dtype, double scale, const void *x,
                    const int64_t *x_strides, void *y, const int64_t *y_strides, int64_t y_step);

/* What is done with normals z: y = x * (1 + sigma z), or y = x + sigma z. */
typedef enum { FD_NOISE_TIMES = 0, FD_NOISE_PLUS = 1 } fd_noise_kind;

/* Normals applied; noise->law.q is not looked at. float32 in float32, sigma rounded to it; float64 in float64 with the same
 * normals, widened; float16 and bfloat16 in float32, rounded once, to nearest even. x, y and strides as for fd_mask_apply. */
void fd_noise_apply(const fd_view *noise, fd_dtype dtype, fd_noise_kind kind, double sigma, const void *x,
                    const int64_t *x_strides, void *y, const int64_t *y_strides);

/* The normals of a view themselves, in C order. */
void fd_normals(const fd_view *noise, float *out);

/* DropBlock: y has `shape`, and each dropped bit of the mask drops a block of y, the one that starts at the same index.
 * Along axis k a block has shape[k] - seeds->shape[k] + 1 elements: one where the shapes agree, so that equal shapes
 * make it fd_mask_apply. An element is kept where every block over it is. 0, or -1: there was no memory for bits, and y
 * is undefined; where blocks are nearly as large as what they lie in, that takes four of them per element and thread,
 * and one more. */
int fd_block_apply(const fd_view *seeds, const int64_t *shape, fd_dtype dtype, double scale, const void *x,
                   const int64_t *x_strides, void *y, const int64_t *y_strides);

/* The same keep decisions, one byte (0 or 1) per element, in C order. */
int fd_block_bools(const fd_view *seeds, const int64_t *shape, void *out);

/* Softmax along the last axis, and dropout of what comes out, in one pass:
 *
 *   P = exp(x - max) / sum(exp(x - max)),   y = keep ? P * scale : +0
 *
 * A row of -Inf alone (nothing to attend to) gives zeros; a NaN or +Inf makes its whole row NaN where it is kept. x has at
 * least one axis, and the mask's shape. `rows`, unless NULL, gets two numbers for each row, in C order, from which backward
 * makes P again: the maximum, and one over the sum (0, 0 for a row of -Inf). They are float64 for FD_F64 and float32
 * otherwise. Half types are computed in float32 and rounded once. y may be x with the same strides, or overlaps nothing. */
void fd_softmax_dropout(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                        void *y, const int64_t *y_strides, void *rows);

/* Its gradient, with g = keep ? dy * scale : +0:   dx = P * (g - sum(P * g)).   With `rows` NULL, x is P
 * itself. dx may be x or dy. */
void fd_softmax_dropout_grad(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                             const void *rows, const void *dy, const int64_t *dy_strides, void *dx,
                             const int64_t *dx_strides);

/* DropConnect (Wan et al., ICML 2013): a layer's weights are dropped for each example on its own. The mask has the shape (B, O, I):
 * examples, outputs, inputs; x is (B, I), w (O, I), y and dy (B, O), each in C order, aligned, FD_F32 or FD_F64.
 *
 *   fd_dropconnect      y[b, o]  = scale * sum over i of keep(b, o, i) w[o, i] x[b, i]
 *   fd_dropconnect_dx   dx[b, i] = scale * sum over o of keep(b, o, i) w[o, i] dy[b, o]
 *   fd_dropconnect_dw   dw[o, i] = scale * sum over b of keep(b, o, i) dy[b, o] x[b, i]
 *
 * Dropped products are selected away: an Inf or NaN in one does not show. Sums are made in the dtype, in an order that
 * depends on the instruction set, and on nothing else. The output overlaps no input. */
void fd_dropconnect(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const void *w, void *y);
void fd_dropconnect_dx(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *w, void *dx);
void fd_dropconnect_dw(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *x, void *dw);

/* The instruction set in use: "portable", "avx2", "avx512" or "neon". */
const char *fd_isa(void);
/* Use another one; results never change. 0, or -1: no such name, or -2: this machine or build lacks it. */
int fd_set_isa(const char *name);
/* The k-th name, from the narrowest to the widest, NULL past the last; *usable says whether fd_set_isa takes it. */
const char *fd_isa_name(int k, int *usable);

/* Threads that one call may use, the caller's included; results never depend on it. */
int fd_get_num_threads(void);
void fd_set_num_threads(int n);

/* Everything above, for extension modules. Members are only ever appended, and FD_ABI grows when they are. */
typedef struct {
    int abi;
    uint64_t (*threshold)(double p);
    void (*bits)(const fd_law *law, uint64_t start, uint64_t n, void *out);
    void (*mask_pack)(const fd_view *mask, void *out);
    void (*mask_bools)(const fd_view *mask, void *out);
    void (*mask_apply)(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                       void *y, const int64_t *y_strides);
    const char *(*isa)(void);
    int (*set_isa)(const char *name);
    const char *(*isa_name)(int k, int *usable);
    int (*get_num_threads)(void);
    void (*set_num_threads)(int n);
    void (*mask_fused)(const fd_view *mask, fd_dtype dtype, const fd_op *op, const void *x, const int64_t *x_strides,
                       const void *z, const int64_t *z_strides, void *y, const int64_t *y_strides);
    void (*masks_apply)(const fd_view *mask, int64_t count, const fd_law *laws, fd_dtype dtype, double scale,
                        const void *x, const int64_t *x_strides, void *y, const int64_t *y_strides, int64_t y_step);
    void (*noise_apply)(const fd_view *noise, fd_dtype dtype, fd_noise_kind kind, double sigma, const void *x,
                        const int64_t *x_strides, void *y, const int64_t *y_strides);
    void (*normals)(const fd_view *noise, float *out);
    int (*block_apply)(const fd_view *seeds, const int64_t *shape, fd_dtype dtype, double scale, const void *x,
                       const int64_t *x_strides, void *y, const int64_t *y_strides);
    int (*block_bools)(const fd_view *seeds, const int64_t *shape, void *out);
    void (*softmax_dropout)(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                            void *y, const int64_t *y_strides, void *rows);
    void (*softmax_dropout_grad)(const fd_view *mask, fd_dtype dtype, double scale, const void *x,
                                 const int64_t *x_strides, const void *rows, const void *dy, const int64_t *dy_strides,
                                 void *dx, const int64_t *dx_strides);
    void (*dropconnect)(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const void *w, void *y);
    void (*dropconnect_dx)(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *w, void *dx);
    void (*dropconnect_dw)(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *x, void *dw);
} fd_api;

#define FD_CAPSULE "fastdrop._core._C_API"

#ifdef Py_PYTHON_H
/* The table of the installed fastdrop, or NULL with a Python exception set. Needs the GIL. */
static inline const fd_api *fd_import(void) {
    const fd_api *api = (const fd_api *)PyCapsule_Import(FD_CAPSULE, 0);
    if (api != NULL && api->abi < FD_ABI) {
        PyErr_Format(PyExc_ImportError, "compiled against fastdrop C API %d, but the installed fastdrop has %d", FD_ABI,
                     api->abi);
        return NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
