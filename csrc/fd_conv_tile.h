/* The tiles of fd_conv.h, over a small vocabulary: vecf, F_LANES, F_VECTORS, f_load, f_store, f_set1, f_fma, f_zero. One
 * step is F_VECTORS loads, FD_TILE broadcasts and their FD_TILE * F_VECTORS products: all accumulators stay in registers. */
#include "fd_conv.h"

#define EACH_ROW(do) \
    do (0) do(1) do(2) do(3) do(4) do(5)
#define DECLARE(r) vecf a##r, b##r, c##r, d##r;
#define STEP(r)                                \
    {                                          \
        const vecf s = f_set1(FACTOR(r));      \
        a##r = f_fma(s, v0, a##r);             \
        if (nv > 1) b##r = f_fma(s, v1, b##r); \
        if (nv > 2) c##r = f_fma(s, v2, c##r); \
        if (nv > 3) d##r = f_fma(s, v3, d##r); \
    }
#define STORE(r)                                    \
    f_store(to[r], a##r);                           \
    if (nv > 1) f_store(to[r] + F_LANES, b##r);     \
    if (nv > 2) f_store(to[r] + 2 * F_LANES, c##r); \
    if (nv > 3) f_store(to[r] + 3 * F_LANES, d##r);

#define LOAD_STEP(from)                                         \
    const vecf v0 = f_load(from);                               \
    const vecf v1 = nv > 1 ? f_load((from) + F_LANES) : v0;     \
    const vecf v2 = nv > 2 ? f_load((from) + 2 * F_LANES) : v0; \
    const vecf v3 = nv > 3 ? f_load((from) + 3 * F_LANES) : v0;

static FD_INLINE void conv_tile(const int nv, const float *const x[FD_TILE], const int64_t *offset, int64_t runs,
                                int64_t length, const float *b, const float *bias, float *const to[FD_TILE]) {
    EACH_ROW(DECLARE) {
        LOAD_STEP(bias)
#define BEGIN(r) a##r = v0, b##r = v1, c##r = v2, d##r = v3;
        EACH_ROW(BEGIN)
#undef BEGIN
    }
    for (int64_t i = 0; i < runs; i++) {
        const float *x0 = x[0] + offset[i], *x1 = x[1] + offset[i], *x2 = x[2] + offset[i];
        const float *x3 = x[3] + offset[i], *x4 = x[4] + offset[i], *x5 = x[5] + offset[i];
        for (int64_t k = 0; k < length; k++, b += nv * F_LANES) {
            LOAD_STEP(b)
#define FACTOR(r) x##r[k]
            EACH_ROW(STEP)
#undef FACTOR
        }
    }
    EACH_ROW(STORE)
}

static FD_INLINE void conv_grad(const int nv, const float *const x[FD_TILE], int64_t rows, int64_t columns,
                                int64_t row_step, int64_t column_step, const float *dy, int64_t dy_step,
                                float *const to[FD_TILE]) {
    EACH_ROW(DECLARE)
#define BEGIN(r)                                        \
    a##r = f_load(to[r]);                               \
    b##r = nv > 1 ? f_load(to[r] + F_LANES) : a##r;     \
    c##r = nv > 2 ? f_load(to[r] + 2 * F_LANES) : a##r; \
    d##r = nv > 3 ? f_load(to[r] + 3 * F_LANES) : a##r;
    EACH_ROW(BEGIN)
#undef BEGIN
    for (int64_t i = 0; i < rows; i++) {
        const int64_t down = i * row_step;
        const float *x0 = x[0] + down, *x1 = x[1] + down, *x2 = x[2] + down;
        const float *x3 = x[3] + down, *x4 = x[4] + down, *x5 = x[5] + down;
        for (int64_t j = 0, at = 0; j < columns; j++, at += column_step, dy += dy_step) {
            LOAD_STEP(dy)
#define FACTOR(r) x##r[at]
            EACH_ROW(STEP)
#undef FACTOR
        }
    }
    EACH_ROW(STORE)
}

#define TILES(n)                                                                                                  \
    static void conv_tile_##n(const float *const x[FD_TILE], const int64_t *offset, int64_t runs, int64_t length, \
                              const float *b, const float *bias, float *const y[FD_TILE]) {                       \
        conv_tile(n, x, offset, runs, length, b, bias, y);                                                        \
    }                                                                                                             \
    static void conv_grad_##n(const float *const x[FD_TILE], int64_t rows, int64_t columns, int64_t row_step,     \
                              int64_t column_step, const float *dy, int64_t dy_step, float *const sum[FD_TILE]) { \
        conv_grad(n, x, rows, columns, row_step, column_step, dy, dy_step, sum);                                  \
    }
TILES(1)
TILES(2)
#if F_VECTORS > 2
TILES(3)
TILES(4)
#define F_TABLE(name) {name##_1, name##_2, name##_3, name##_4}
#else
#define F_TABLE(name) {name##_1, name##_2}
#endif

static const fd_conv_kernels conv_kernels = {F_LANES, F_VECTORS, F_TABLE(conv_tile), F_TABLE(conv_grad)};
