/* Direct convolution of float32 images (N, H, W, C): what im2col and a matrix product compute, without the matrix. A tile of
 * the result stays in registers while the taps of its windows go by, read where they lie in the image.
 *
 * Weights are packed first: the columns of the matrix that meets the windows, in panels as wide as a tile. Work is split
 * into slabs of whole images, as many as `fd_conv_slabs` says whatever the number of threads is, and sums over images are
 * taken slab by slab in their order: results do not depend on the threads. */
#ifndef FD_CONV_H
#define FD_CONV_H

#include "fd_impl.h"

typedef struct fd_conv_kernels fd_conv_kernels;

/* NULL where the instruction set in use has none. */
const fd_conv_kernels *fd_conv_kernels_in_use(void);

#define FD_TILE 6        /* rows of a tile: positions, or weights' rows */
#define FD_CONV_RUNS 256 /* at most kh * kw */

typedef struct {
    const fd_conv_kernels *kernels;         /* of `fd_conv_kernels_in_use`: read once, for sizes and results to agree */
    int64_t n, h, w, c, o, oh, ow;          /* images, their sizes, channels in and out, positions of the window */
    int64_t kh, kw, sh, sw, ph, pw, dh, dw; /* kernel, stride, padding, dilation */
} fd_conv;

/* Floats of packed weights for one panel, the widest: what has to stay in a cache. */
int64_t fd_conv_panel(const fd_conv *shape);
int64_t fd_conv_slabs(const fd_conv *shape);
/* Floats of packed weights, of a slab's memory for `fd_conv_forward`, and of one for `fd_conv_weights`. */
int64_t fd_conv_packed(const fd_conv *shape);
int64_t fd_conv_room(const fd_conv *shape);
int64_t fd_conv_weights_room(const fd_conv *shape);

/* Packs contiguous (O, C, kh, kw) weights; `turned`: (C, O, kh, kw) ones, turned by half a turn, which take gradients of a
 * convolution of stride 1 back to its images. */
void fd_conv_pack(const fd_conv *shape, const float *weight, int turned, float *packed);

/* y (N, oh, ow, O) = x (N, H, W, C) * packed + bias; `bias` may be NULL. `room`: slabs * fd_conv_room floats. */
void fd_conv_forward(const fd_conv *shape, const float *x, const float *packed, const float *bias, float *y,
                     float *room);

/* The gradients of weights (O, C, kh, kw) and bias. `room`: slabs * fd_conv_weights_room floats. */
void fd_conv_weights(const fd_conv *shape, const float *x, const float *dy, float *dweight, float *dbias, float *room);

/* ---- what an instruction set fills in ---- */

/* A tile of results: y[r] .. += over runs of `length` floats that lie `offset[i]` from x[r], times rows of b. */
typedef void fd_conv_tile_fn(const float *const x[FD_TILE], const int64_t *offset, int64_t runs, int64_t length,
                             const float *b, const float *bias, float *const y[FD_TILE]);

/* A tile of weights' gradients: sum[r] += x[r] at each position, times that position's row of dy. */
typedef void fd_conv_grad_fn(const float *const x[FD_TILE], int64_t rows, int64_t columns, int64_t row_step,
                             int64_t column_step, const float *dy, int64_t dy_step, float *const sum[FD_TILE]);

#define FD_TILE_VECTORS 4 /* at most */

struct fd_conv_kernels {
    int lanes, vectors; /* floats of a vector; vectors of the widest tile */
    fd_conv_tile_fn *tile[FD_TILE_VECTORS];
    fd_conv_grad_fn *grad[FD_TILE_VECTORS];
};

#endif
