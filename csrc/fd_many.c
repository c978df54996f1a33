/* Many masks of one view, applied in one read of x (Monte-Carlo dropout).
 *
 * x is walked in pieces that stay in the level 2 cache; all outputs of a piece come before the next one. A piece is a
 * slice of the view, so whatever `fd_mask_apply` does for a layout it does for the slice. */
#include "fd_view.h"

/* Bytes of x in a piece. Long enough that a slice's first bits and last stores, which overlap with nothing, are few; and
 * short enough that x is still there for the next output (bench/NOTES.md). */
#define PIECE (512 << 10)

typedef struct {
    fd_view part; /* the axes from `split` on; law and start are those of a slice */
    const fd_law *laws;
    int64_t count;
    fd_dtype dtype;
    double scale;
    const char *x;
    char *y;
    int64_t y_step, bytes;
    int nd, split; /* an index of the axes before `split`, and a range of that axis, make a piece */
    fd_axis axes[FD_MAX_NDIM];
    int64_t range, ranges;
    int64_t shape[FD_MAX_NDIM], m[FD_MAX_NDIM], x_strides[FD_MAX_NDIM], y_strides[FD_MAX_NDIM];
} fd_many_job;

/* A unit is one output of one piece; those of a piece follow each other. */
static void some_outputs(void *job, int64_t begin, int64_t end) {
    const fd_many_job *j = job;
    const fd_axis axis = j->axes[j->split];
    fd_walk walk;
    for (; begin < end; begin++) {
        const int64_t piece = begin / j->count, t = begin % j->count, from = piece % j->ranges * j->range;
        fd_walk_to(&walk, j->axes, j->split, piece / j->ranges);
        int64_t shape[FD_MAX_NDIM];
        memcpy(shape, j->shape, sizeof shape);
        shape[0] = axis.n - from < j->range ? axis.n - from : j->range;
        fd_view part = j->part;
        part.law = j->laws[t];
        part.start += (uint64_t)(walk.m + from * axis.m);
        part.shape = shape;
        fd_apply_part(&part, j->dtype, j->scale, j->x + walk.x + from * axis.x, j->x_strides,
                      j->y + t * j->y_step + walk.y + from * axis.y, j->y_strides, j->bytes);
    }
}

void fd_masks_apply(const fd_view *mask, int64_t count, const fd_law *laws, fd_dtype dtype, double scale, const void *x,
                    const int64_t *x_strides, void *y, const int64_t *y_strides, int64_t y_step) {
    fd_many_job j = {.part = *mask, .laws = laws, .count = count, .dtype = dtype, .scale = scale};
    j.x = x, j.y = y, j.y_step = y_step;
    int64_t n = 1;
    for (int i = 0; i < mask->ndim; i++) {
        const fd_axis a = {mask->shape[i], mask->strides[i], x_strides[i], y_strides[i], 0};
        n *= a.n;
        int k = i; /* the longest steps in y outermost */
        for (; k > 0 && fd_magnitude(j.axes[k - 1].y) < fd_magnitude(a.y); k--) j.axes[k] = j.axes[k - 1];
        j.axes[k] = a;
    }
    if (n == 0 || count == 0) return;
    j.bytes = n * count * fd_item(dtype);
    j.nd = fd_merge_axes(j.axes, mask->ndim);
    if (j.nd == 0) j.axes[0] = (fd_axis){1, 0, 0, 0, 0}, j.nd = 1;
    /* The axes inside `split` fit into a piece; together with it they need not. */
    const int64_t most = PIECE / fd_item(dtype);
    int64_t inner = 1;
    for (j.split = j.nd - 1; j.split > 0 && inner * j.axes[j.split].n <= most; j.split--) inner *= j.axes[j.split].n;
    const fd_axis axis = j.axes[j.split];
    j.range = most / inner < axis.n ? most / inner : axis.n;
    j.ranges = (axis.n + j.range - 1) / j.range;
    for (int i = j.split; i < j.nd; i++) {
        const int k = i - j.split;
        const fd_axis a = j.axes[i];
        j.shape[k] = a.n, j.m[k] = a.m, j.x_strides[k] = a.x, j.y_strides[k] = a.y;
    }
    j.part.ndim = j.nd - j.split;
    j.part.strides = j.m;
    const int64_t pieces = n / (inner * axis.n) * j.ranges;
    fd_parallel_for(some_outputs, &j, pieces * count, n / pieces);
}
