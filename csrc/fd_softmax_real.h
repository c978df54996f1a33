/* Included by fd_fused.h for each FD_REAL, with FD_NAME: the rows of softmax (fd_softmax_fns). A sum has to be the same on
 * every instruction set, so its order is stated here: FD_LANES of them side by side, and halves added until one is left. */
#ifndef FD_LANES
#define FD_LANES 32    /* a multiple of every vector's */
#define FD_SUMMED 1024 /* elements whose sum is made in FD_REAL */
#endif

/* Steps of the trees. Unrolled, they would be taken apart into single elements. */
static FD_INLINE void FD_NAME(fold_sums)(FD_REAL *sums, size_t half) {
#pragma GCC unroll 1
    for (size_t k = 0; k < half; k++) sums[k] += sums[k + half];
}

static FD_INLINE void FD_NAME(fold_most)(FD_REAL *most, size_t half) {
#pragma GCC unroll 1
    for (size_t k = 0; k < half; k++) most[k] = most[k + half] > most[k] ? most[k + half] : most[k];
}

static double FD_NAME(row_max)(const void *x, size_t n) {
    const FD_NAME(anywhere) *in = x;
    FD_REAL most[FD_LANES];
    for (size_t k = 0; k < FD_LANES; k++) most[k] = -(FD_REAL)INFINITY;
    size_t i = 0;
    for (; i + FD_LANES <= n; i += FD_LANES)
        for (size_t k = 0; k < FD_LANES; k++) most[k] = in[i + k] > most[k] ? in[i + k] : most[k];
    for (size_t k = 0; i + k < n; k++) most[k] = in[i + k] > most[k] ? in[i + k] : most[k];
    FD_NAME(fold_most)(most, 16), FD_NAME(fold_most)(most, 8), FD_NAME(fold_most)(most, 4);
    FD_NAME(fold_most)(most, 2);
    return most[1] > most[0] ? most[1] : most[0];
}

/* One group of lanes: e = exp(x - max), and sums of e, or of e * g. */
static FD_INLINE void FD_NAME(exp_group)(const FD_NAME(anywhere) * in, FD_REAL max, FD_NAME(anywhere) * e,
                                         const FD_NAME(anywhere) * g, FD_REAL sums[FD_LANES]) {
    FD_REAL v[FD_LANES];
    for (size_t k = 0; k < FD_LANES; k++) v[k] = FD_NAME(exp_below_0)(in[k] - max);
    for (size_t k = 0; k < FD_LANES; k++) sums[k] += g == NULL ? v[k] : v[k] * g[k];
    for (size_t k = 0; k < FD_LANES; k++) e[k] = v[k];
}

/* Of a piece. Lanes past its end hold the exponential of -Inf, which adds nothing. */
static FD_INLINE void FD_NAME(exp_piece)(const FD_NAME(anywhere) * in, size_t n, FD_REAL max, FD_NAME(anywhere) * e,
                                         const FD_NAME(anywhere) * g, FD_REAL sums[FD_LANES]) {
    size_t i = 0;
    for (; i + FD_LANES <= n; i += FD_LANES) FD_NAME(exp_group)(in + i, max, e + i, g == NULL ? NULL : g + i, sums);
    if (i == n) return;
    FD_REAL last[FD_LANES], last_g[FD_LANES] = {0};
    for (size_t k = 0; k < FD_LANES; k++) last[k] = -(FD_REAL)INFINITY;
    memcpy(last, in + i, (n - i) * sizeof *last);
    if (g != NULL) memcpy(last_g, g + i, (n - i) * sizeof *last);
    FD_NAME(exp_group)(last, max, last, g == NULL ? NULL : last_g, sums);
    memcpy(e + i, last, (n - i) * sizeof *last);
}

static FD_INLINE FD_REAL FD_NAME(total)(FD_REAL sums[FD_LANES]) {
    FD_NAME(fold_sums)(sums, 16), FD_NAME(fold_sums)(sums, 8), FD_NAME(fold_sums)(sums, 4);
    FD_NAME(fold_sums)(sums, 2);
    return sums[0] + sums[1];
}

static double FD_NAME(row_exps)(const void *x, size_t n, double max, void *exps) {
    const FD_NAME(anywhere) *in = x;
    FD_NAME(anywhere) *e = exps;
    double sum = 0;
    for (size_t i = 0; i < n; i += FD_SUMMED) {
        FD_REAL sums[FD_LANES] = {0};
        FD_NAME(exp_piece)(in + i, n - i < FD_SUMMED ? n - i : FD_SUMMED, (FD_REAL)max, e + i, NULL, sums);
        sum += FD_NAME(total)(sums);
    }
    return sum;
}

static double FD_NAME(row_dots)(const void *x, size_t n, double max, void *exps, const void *slopes) {
    const FD_NAME(anywhere) *in = x, *g = slopes;
    FD_NAME(anywhere) *e = exps;
    double sum = 0;
    for (size_t i = 0; i < n; i += FD_SUMMED) {
        FD_REAL sums[FD_LANES] = {0};
        FD_NAME(exp_piece)(in + i, n - i < FD_SUMMED ? n - i : FD_SUMMED, (FD_REAL)max, e + i, g + i, sums);
        sum += FD_NAME(total)(sums);
    }
    return sum;
}

static double FD_NAME(row_products)(const void *p, size_t n, const void *slopes) {
    const FD_NAME(anywhere) *a = p, *g = slopes;
    double sum = 0;
    for (size_t i = 0; i < n; i += FD_SUMMED) {
        const size_t m = n - i < FD_SUMMED ? n - i : FD_SUMMED;
        FD_REAL sums[FD_LANES] = {0};
        size_t k = 0;
        for (; k + FD_LANES <= m; k += FD_LANES)
            for (size_t lane = 0; lane < FD_LANES; lane++) sums[lane] += a[i + k + lane] * g[i + k + lane];
        for (size_t lane = 0; k + lane < m; lane++) sums[lane] += a[i + k + lane] * g[i + k + lane];
        sum += FD_NAME(total)(sums);
    }
    return sum;
}

static void FD_NAME(row_slopes)(const void *e, const void *g, size_t n, double scale, double mean, void *dx) {
    const FD_NAME(anywhere) *exps = e, *taken = g;
    FD_NAME(anywhere) *out = dx;
    const FD_REAL s = (FD_REAL)scale, d = (FD_REAL)mean;
    FD_ELEMENTWISE
    for (size_t k = 0; k < n; k++) out[k] = exps[k] * s * (taken[k] - d);
}
