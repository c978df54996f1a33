/* Private to csrc/ and the compiled module: the passes over memory that a training step makes besides its matrix products,
 * and the direct convolution. Images are (N, H, W, C) in memory. Results never depend on the number of threads. */
#ifndef FD_LAYERS_H
#define FD_LAYERS_H

#include "fd_conv.h"

/* ---- elementwise: float32 (dtype FD_F32) or float64; arrays are contiguous, and outputs may be inputs ---- */

/* y = max(x, 0), where a NaN stays; taken[i] is 0xFF where x > 0 and 0 elsewhere, if not NULL. */
void fd_relu(fd_dtype dtype, int64_t n, const void *x, void *y, uint8_t *taken);

/* dx = dy where taken, and +0 elsewhere. */
void fd_relu_grad(fd_dtype dtype, int64_t n, const void *dy, const uint8_t *taken, void *dx);

typedef struct {
    double beta1, beta2, eps, decay; /* decay: added to the gradient as decay * p */
    double rate, root;               /* lr / (1 - beta1^t) and sqrt(1 - beta2^t) */
} fd_adam_step;

/* m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= rate m / (sqrt(v) / root + eps). With `largest`, which
 * may be NULL, the largest v so far takes v's place in the last. */
void fd_adam(fd_dtype dtype, int64_t n, const fd_adam_step *step, const void *g, void *p, void *m, void *v,
             void *largest);

typedef struct {
    double rate, momentum, dampening, decay;
    int nesterov;
} fd_sgd_step;

/* g += decay p; velocity = momentum velocity + (1 - dampening) g; p -= rate velocity, or p -= rate (g + momentum velocity)
 * with nesterov. A NULL velocity: p -= rate g. */
void fd_sgd(fd_dtype dtype, int64_t n, const fd_sgd_step *step, const void *g, void *p, void *velocity);

/* ---- max pooling ---- */

typedef struct {
    int64_t n, h, w, c, oh, ow;             /* images, their sizes, window positions */
    int64_t kh, kw, sh, sw, ph, pw, dh, dw; /* kernel (at most 65535 places), stride, padding, dilation */
} fd_windows;

/* The maxima of windows; a NaN is the largest of all. winner[i], if not NULL, is the place in the window, in row order, that
 * takes the gradient: the first of equal maxima, the last of NaNs. Every window holds a pixel. */
void fd_max_pool(fd_dtype dtype, const fd_windows *shape, const void *x, void *y, uint16_t *winner);

/* Adds each gradient to the pixel that won its window; the others are 0. */
void fd_max_pool_grad(fd_dtype dtype, const fd_windows *shape, const void *dy, const uint16_t *winner, void *dx);

/* ---- what an instruction set fills in ---- */

typedef void fd_pool_image_fn(const fd_windows *s, const void *x, void *y, uint16_t *winner);
typedef void fd_pool_image_grad_fn(const fd_windows *s, const void *dy, const uint16_t *winner, void *dx);

struct fd_layer_kernels {
    void (*relu[2])(size_t n, const void *x, void *y, uint8_t *taken);
    void (*relu_grad[2])(size_t n, const void *dy, const uint8_t *taken, void *dx);
    void (*adam[2])(size_t n, const fd_adam_step *step, const void *g, void *p, void *m, void *v, void *largest);
    void (*sgd[2])(size_t n, const fd_sgd_step *step, const void *g, void *p, void *velocity);
    fd_pool_image_fn *pool[2];
    fd_pool_image_grad_fn *pool_grad[2];
    const fd_conv_kernels *conv; /* NULL: a matrix product of the BLAS does better */
};

#endif
