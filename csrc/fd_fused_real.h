/* Included by fd_fused.h for each FD_REAL, with FD_WORD, the unsigned integer of its size, and FD_NAME. */

typedef FD_REAL FD_NAME(anywhere) FD_ANYWHERE;

/* A run's keep bits as all ones or zeros per element; up to 31 more are written. */
static inline void FD_NAME(spread)(FD_WORD *keep, const uint64_t *bits, size_t off, size_t n) {
    for (size_t i = 0; i < n; i += 32) {
        const uint32_t w = (uint32_t)fd_bits57(bits, off + i);
        for (uint32_t k = 0; k < 32; k++) keep[i + k] = (FD_WORD)0 - (w >> k & 1);
    }
}

static void FD_NAME(affine)(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const FD_REAL scale = (FD_REAL)args->scale, shift = (FD_REAL)args->shift, dropped = (FD_REAL)args->dropped;
    const FD_NAME(anywhere) *in = x;
    FD_NAME(anywhere) *out = y;
    FD_WORD keep[FD_PIECE];
    for (size_t i = 0; i < n; i += FD_PIECE, in += FD_PIECE, out += FD_PIECE) {
        const size_t m = n - i < FD_PIECE ? n - i : FD_PIECE;
        FD_NAME(spread)(keep, bits, off + i, m);
        FD_ELEMENTWISE
        for (size_t k = 0; k < m; k++) {
            const FD_REAL v = in[k] * scale + shift;
            out[k] = FD_NAME(pick)(keep[k], v, dropped);
        }
    }
}

static void FD_NAME(where)(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const FD_NAME(anywhere) *in = x, *other = args->z;
    FD_NAME(anywhere) *out = y;
    FD_WORD keep[FD_PIECE];
    for (size_t i = 0; i < n; i += FD_PIECE, in += FD_PIECE, other += FD_PIECE, out += FD_PIECE) {
        const size_t m = n - i < FD_PIECE ? n - i : FD_PIECE;
        FD_NAME(spread)(keep, bits, off + i, m);
        FD_ELEMENTWISE
        for (size_t k = 0; k < m; k++) {
            const FD_REAL a = in[k], b = other[k];
            out[k] = FD_NAME(pick)(keep[k], a, b);
        }
    }
}

static void FD_NAME(add)(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const FD_REAL scale = (FD_REAL)args->scale;
    const FD_NAME(anywhere) *in = x, *other = args->z;
    FD_NAME(anywhere) *out = y;
    FD_WORD keep[FD_PIECE];
    for (size_t i = 0; i < n; i += FD_PIECE, in += FD_PIECE, other += FD_PIECE, out += FD_PIECE) {
        const size_t m = n - i < FD_PIECE ? n - i : FD_PIECE;
        FD_NAME(spread)(keep, bits, off + i, m);
        FD_ELEMENTWISE
        for (size_t k = 0; k < m; k++) {
            const FD_REAL v = in[k] * scale;
            out[k] = FD_NAME(pick)(keep[k], v, 0) + other[k];
        }
    }
}

/* ---- activations, and their slopes ---- */

typedef FD_REAL FD_NAME(function)(FD_REAL t);

static inline FD_REAL FD_NAME(identity)(FD_REAL t) { return t; }
static inline FD_REAL FD_NAME(relu)(FD_REAL t) { return FD_NAME(if)(t < 0, 0, t); } /* a NaN stays */

/* What a Phi(-a) lacks to max(t, 0), a = |t|: no cancellation, and 0 at minus infinity. */
static inline FD_REAL FD_NAME(gelu)(FD_REAL t) {
    const FD_NAME(normal_tail) d = FD_NAME(tail_of)(t);
    const FD_REAL left = d.a * d.share * d.bell;
    return FD_NAME(relu)(t) - left;
}

/* Where sigmoid(t) is 0 for what is smaller: there 0 * -Inf would be NaN. */
static inline FD_REAL FD_NAME(from_low)(FD_REAL t) { return FD_NAME(if)(t < -FD_FAR, -FD_FAR, t); }
static inline FD_REAL FD_NAME(within)(FD_REAL t) { return FD_NAME(if)(t > FD_FAR, FD_FAR, FD_NAME(from_low)(t)); }

static inline FD_REAL FD_NAME(silu)(FD_REAL t) { return FD_NAME(from_low)(t) * FD_NAME(sigmoid)(t); }

/* (1 + tanh(u)) / 2 is the sigmoid of 2u, with 2u = 2 sqrt(2 / pi) (t + 0.044715 t^3). */
static inline FD_REAL FD_NAME(gelu_tanh)(FD_REAL t) {
    const FD_REAL u = (FD_REAL)1.5957691216057308 * t * (1 + (FD_REAL)0.044715 * (t * t));
    return FD_NAME(from_low)(t) * FD_NAME(sigmoid)(u);
}

static inline FD_REAL FD_NAME(one)(FD_REAL t) { return (void)t, (FD_REAL)1; }
static inline FD_REAL FD_NAME(relu_slope)(FD_REAL t) { return FD_NAME(if)(t > 0, 1, 0); }

static inline FD_REAL FD_NAME(gelu_slope)(FD_REAL t) {
    const FD_NAME(normal_tail) d = FD_NAME(tail_of)(t);
    const FD_REAL left = d.share * d.bell - (FD_REAL)0.39894228040143268 * d.a * d.bell;
    return FD_NAME(if)(t < 0, 0, 1) + FD_NAME(if)(t < 0, left, -left);
}

static inline FD_REAL FD_NAME(gelu_tanh_slope)(FD_REAL t) {
    const FD_REAL v = FD_NAME(within)(t), square = v * v, k = (FD_REAL)1.5957691216057308;
    const FD_REAL s = FD_NAME(sigmoid)(k * v * (1 + (FD_REAL)0.044715 * square));
    return s + v * s * (1 - s) * (k * (1 + (FD_REAL)0.134145 * square));
}

static inline FD_REAL FD_NAME(silu_slope)(FD_REAL t) {
    const FD_REAL v = FD_NAME(within)(t), s = FD_NAME(sigmoid)(v);
    return s + v * s * (1 - s);
}

/* One loop for each activation: the function is a constant wherever this is inlined. */
static FD_INLINE void FD_NAME(act_with)(FD_NAME(function) * function, const uint64_t *bits, size_t off, size_t n,
                                        const void *x, void *y, const fd_args *args) {
    const FD_REAL scale = (FD_REAL)args->scale;
    const FD_NAME(anywhere) *in = x, *bias = args->z;
    FD_NAME(anywhere) *out = y;
    FD_WORD keep[FD_PIECE];
    for (size_t i = 0; i < n; i += FD_PIECE, in += FD_PIECE, out += FD_PIECE) {
        const size_t m = n - i < FD_PIECE ? n - i : FD_PIECE;
        FD_NAME(spread)(keep, bits, off + i, m);
        if (bias == NULL) {
            FD_ELEMENTWISE
            for (size_t k = 0; k < m; k++) {
                const FD_REAL v = function(in[k]) * scale;
                out[k] = FD_NAME(pick)(keep[k], v, 0);
            }
        } else {
            FD_ELEMENTWISE
            for (size_t k = 0; k < m; k++) {
                const FD_REAL v = function(in[k] + bias[i + k]) * scale;
                out[k] = FD_NAME(pick)(keep[k], v, 0);
            }
        }
    }
}

static void FD_NAME(act)(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    switch (args->activation) {
    case FD_IDENTITY: FD_NAME(act_with)(FD_NAME(identity), bits, off, n, x, y, args); break;
    case FD_RELU: FD_NAME(act_with)(FD_NAME(relu), bits, off, n, x, y, args); break;
    case FD_GELU: FD_NAME(act_with)(FD_NAME(gelu), bits, off, n, x, y, args); break;
    case FD_GELU_TANH: FD_NAME(act_with)(FD_NAME(gelu_tanh), bits, off, n, x, y, args); break;
    case FD_SILU: FD_NAME(act_with)(FD_NAME(silu), bits, off, n, x, y, args); break;
    }
}

static FD_INLINE void FD_NAME(grad_with)(FD_NAME(function) * slope, const uint64_t *bits, size_t off, size_t n,
                                         const void *x, void *y, const fd_args *args) {
    const FD_REAL scale = (FD_REAL)args->scale;
    const FD_NAME(anywhere) *in = x, *taken = args->z;
    FD_NAME(anywhere) *out = y;
    FD_WORD keep[FD_PIECE];
    for (size_t i = 0; i < n; i += FD_PIECE, in += FD_PIECE, taken += FD_PIECE, out += FD_PIECE) {
        const size_t m = n - i < FD_PIECE ? n - i : FD_PIECE;
        FD_NAME(spread)(keep, bits, off + i, m);
        FD_ELEMENTWISE
        for (size_t k = 0; k < m; k++) {
            const FD_REAL v = in[k] * scale * slope(taken[k]);
            out[k] = FD_NAME(pick)(keep[k], v, 0);
        }
    }
}

static void FD_NAME(act_grad)(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    switch (args->activation) {
    case FD_IDENTITY: FD_NAME(grad_with)(FD_NAME(one), bits, off, n, x, y, args); break;
    case FD_RELU: FD_NAME(grad_with)(FD_NAME(relu_slope), bits, off, n, x, y, args); break;
    case FD_GELU: FD_NAME(grad_with)(FD_NAME(gelu_slope), bits, off, n, x, y, args); break;
    case FD_GELU_TANH: FD_NAME(grad_with)(FD_NAME(gelu_tanh_slope), bits, off, n, x, y, args); break;
    case FD_SILU: FD_NAME(grad_with)(FD_NAME(silu_slope), bits, off, n, x, y, args); break;
    }
}
