/* Fused operations whose runs are not plain float32 or float64 in memory: half types are widened, computed in float32 and
 * rounded once; large outputs go past the caches. Either way piece by piece, through buffers in L1. */
#include "fd_impl.h"

#define PIECE 512

static size_t item(const fd_args *args) { return (size_t)fd_item(args->dtype); }

/* What lies beside n elements of y. */
static void repeat(const fd_args *args, const void *y, size_t n, char *out) {
    const size_t size = item(args);
    size_t at = (size_t)((const char *)y - (const char *)args->origin) / size % args->z_period;
    for (size_t m; n; n -= m, out += m * size, at = 0) {
        m = args->z_period - at < n ? args->z_period - at : n;
        memcpy(out, (const char *)args->z + at * size, m * size);
    }
}

/* Element i on of a run over y of up to PIECE elements, written to `out`. */
static void one_piece(const uint64_t *bits, size_t off, size_t i, size_t n, const void *x, const void *y, void *out,
                      const fd_args *args) {
    _Alignas(FD_LINE) char beside[PIECE * 8];
    _Alignas(FD_LINE) float wide_x[PIECE], wide_z[PIECE];
    const size_t size = item(args);
    const char *in = (const char *)x + i * size;
    fd_args here = *args;
    if (args->z_period)
        repeat(args, (const char *)y + i * size, n, beside), here.z = beside;
    else if (args->z != NULL)
        here.z = (const char *)args->z + i * size;
    if (args->kernels->widen[args->dtype] == NULL) {
        args->op(bits, off + i, n, in, out, &here);
        return;
    }
    args->kernels->widen[args->dtype](in, wide_x, n);
    if (here.z != NULL) args->kernels->widen[args->dtype](here.z, wide_z, n), here.z = wide_z;
    args->op(bits, off + i, n, wide_x, wide_x, &here);
    args->kernels->narrow[args->dtype](wide_x, out, n);
}

static void pieces(const uint64_t *bits, size_t off, size_t i, size_t end, const void *x, void *y,
                   const fd_args *args) {
    for (; i < end; i += PIECE)
        one_piece(bits, off, i, end - i < PIECE ? end - i : PIECE, x, y, (char *)y + i * item(args), args);
}

void fd_piped(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    pieces(bits, off, 0, n, x, y, args);
}

void fd_piped_stream(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    _Alignas(FD_LINE) char out[PIECE * 8];
    const size_t size = item(args), line = FD_LINE / size, lead = fd_before_line(y, size, n);
    pieces(bits, off, 0, lead, x, y, args);
    size_t i = lead;
    for (size_t m; (m = n - i < PIECE ? (n - i) / line * line : PIECE) > 0; i += m) {
        fd_prefetch((const char *)x + i * size + FD_AHEAD, m * size);
        if (args->z != NULL && !args->z_period) fd_prefetch((const char *)args->z + i * size + FD_AHEAD, m * size);
        one_piece(bits, off, i, m, x, y, out, args);
        args->kernels->put(out, (char *)y + i * size, m * size);
    }
    pieces(bits, off, i, n, x, y, args);
}
