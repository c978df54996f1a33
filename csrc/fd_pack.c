/* Keep bits as packed bytes: of a range of the sequence, or of a view in C order. */
#include <math.h>

#include "fd_view.h"

#define UNIT 65536 /* bits of output a unit of the parallel loop fills: 8 KiB */

typedef struct {
    const fd_kernels *kernels;
    fd_law law;
    uint64_t start;
    int nd;
    fd_axis axes[FD_MAX_NDIM];
    int64_t n;
    char *out;
} fd_pack_job;

static void do_pack(void *arg, int64_t begin, int64_t end) {
    const fd_pack_job *j = arg;
    _Alignas(FD_LINE) uint64_t bits[UNIT / 64 / 8 + 1];
    fd_window window;
    fd_window_init(&window, j->kernels, &j->law, j->axes, j->nd);
    const int64_t step = UNIT / 8;
    for (int64_t at = begin * UNIT, stop = end * UNIT < j->n ? end * UNIT : j->n; at < stop; at += step) {
        const int64_t n = stop - at < step ? stop - at : step;
        fd_view_bits(&window, j->start, j->axes, j->nd, at, n, bits);
        fd_put_bytes(j->out + at / 8, bits, (size_t)(n + 7) / 8);
    }
}

void fd_mask_pack(const fd_view *mask, void *out) {
    fd_pack_job j = {.kernels = fd_kernels_in_use(), .law = mask->law, .start = mask->start, .n = 1, .out = out};
    for (int i = 0; i < mask->ndim; i++) {
        j.axes[i] = (fd_axis){mask->shape[i], mask->strides[i], 0, 0, 0};
        j.n *= mask->shape[i];
    }
    if (j.n == 0) return;
    j.nd = fd_merge_axes(j.axes, mask->ndim);
    fd_parallel_for(do_pack, &j, (j.n + UNIT - 1) / UNIT, j.n < UNIT ? j.n : UNIT);
}

void fd_bits(const fd_law *law, uint64_t start, uint64_t n, void *out) {
    const int64_t shape = (int64_t)n, stride = 1;
    const fd_view mask = {*law, start, 1, &shape, &stride};
    fd_mask_pack(&mask, out);
}

uint64_t fd_threshold(double p) { return (uint64_t)nearbyint((1.0 - p) * 4294967296.0); }
