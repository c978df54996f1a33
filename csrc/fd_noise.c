/* A view over the law's normals, applied.
 *
 * A normal costs as much as eight elements of a mask, so the walk serves the normals. Axes along which the noise runs
 * backwards are turned round; then one of two plans:
 *
 *   ROWS    along y as it lies: a row's normals come through a window of blocks, a chunk at a time.
 *   TILES   the noise leaps from block to block along y's inner axis and runs along another (a transposed array): strips
 *           of normals are made along the noise, and turned.
 *
 * Elements go through a buffer, contiguous or not, where the kernel works in place. */
#include "fd_view.h"

#define CHUNK 2048 /* elements at once: 16 blocks, whose normals are 8 KiB */
#define AS_LONG 8  /* how many times as long as an element of a mask one of noise takes */
#define LEAP 32    /* the step from which a row's normals come from a block each, or nearly so */
#define BLOCKS (CHUNK / FD_BLOCK_BITS)

#define TILE_I 32  /* a tile: along the inner axis, */
#define TILE_A 256 /* and along the axis where the noise runs */

typedef struct {
    const fd_kernels *kernels;
    fd_law law;
    uint64_t start;
    fd_noise_fn *noise; /* NULL: y is the normals themselves, float32, and there is no x */
    fd_dtype dtype;
    fd_noise_kind kind;
    double sigma;
    const char *x;
    char *y;
    int64_t item;
    int nd;
    fd_axis axes[FD_MAX_NDIM];
    int64_t chunks; /* of a row, or tiles */
} fd_noise_job;

/* The normals of a few blocks. Views with short rows ask for each block many times. */
typedef struct {
    const fd_noise_job *job;
    uint64_t first, end, ahead;
    _Alignas(FD_LINE) float z[BLOCKS * FD_BLOCK_BITS];
} window;

static void open_window(window *w, const fd_noise_job *j, uint64_t ahead) {
    w->job = j, w->first = w->end = 0;
    w->ahead = ahead < BLOCKS ? ahead : BLOCKS;
}

/* Normals e .. e+n-1, which lie in BLOCKS blocks at most. */
static const float *window_normals(window *w, uint64_t e, uint64_t n) {
    const uint64_t first = e / FD_BLOCK_BITS, end = (e + n - 1) / FD_BLOCK_BITS + 1;
    if (first < w->first || end > w->end) {
        w->first = first;
        w->end = end - first > w->ahead ? end : first + w->ahead;
        w->job->kernels->normals(&w->job->law, first, (size_t)(w->end - first), w->z);
    }
    return w->z + (e - w->first * FD_BLOCK_BITS);
}

/* Normals e, e + step, ..., n of them; `room` is for those that do not lie one behind the other. */
static const float *row_normals(window *w, uint64_t e, int64_t step, int64_t n, float room[CHUNK]) {
    if (step == 1) return window_normals(w, e, (uint64_t)n);
    if (step == 0) {
        const float z = *window_normals(w, e, 1);
        for (int64_t i = 0; i < n; i++) room[i] = z;
    } else {
        for (int64_t i = 0; i < n; i++, e += (uint64_t)step) room[i] = *window_normals(w, e, 1);
    }
    return room;
}

static void apply_chunk(const fd_noise_job *j, const float *z, int64_t n, const char *x, int64_t x_step, char *y,
                        int64_t y_step) {
    _Alignas(FD_LINE) char v[CHUNK * 8];
    _Alignas(FD_LINE) float wide[CHUNK];
    if (j->noise == NULL) {
        fd_copy_strided(y, y_step, (const char *)z, j->item, j->item, n);
        return;
    }
    fd_copy_strided(v, j->item, x, x_step, j->item, n);
    if (j->kernels->widen[j->dtype] != NULL) {
        j->kernels->widen[j->dtype](v, wide, (size_t)n);
        j->noise(j->kind, (size_t)n, z, wide, j->sigma);
        j->kernels->narrow[j->dtype](wide, v, (size_t)n);
    } else {
        j->noise(j->kind, (size_t)n, z, v, j->sigma);
    }
    fd_copy_strided(y, y_step, v, j->item, j->item, n);
}

static void some_chunks(void *job, int64_t begin, int64_t end) {
    const fd_noise_job *j = job;
    const fd_axis row = j->axes[j->nd - 1];
    _Alignas(FD_LINE) float room[CHUNK];
    window w;
    open_window(&w, j, fd_blocks_ahead(j->axes, j->nd));
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->nd - 1, begin / j->chunks);
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        /* Where the noise runs along the row, chunks start at multiples of a block, so that no two make the same one. */
        const uint64_t e = j->start + (uint64_t)walk.m;
        const int64_t skew = row.m == 1 ? (int64_t)(e % FD_BLOCK_BITS) : 0;
        const int64_t from = c ? c * CHUNK - skew : 0, to = (c + 1) * CHUNK - skew;
        const int64_t n = (to < row.n ? to : row.n) - from;
        if (n > 0) {
            const float *z = row_normals(&w, e + (uint64_t)(from * row.m), row.m, n, room);
            apply_chunk(j, z, n, j->x + walk.x + from * row.x, row.x, j->y + walk.y + from * row.y, row.y);
        }
        if (++c == j->chunks) c = 0, fd_walk_next(&walk);
    }
}

static void some_tiles(void *job, int64_t begin, int64_t end) {
    const fd_noise_job *j = job;
    const fd_axis row = j->axes[j->nd - 1], along = j->axes[j->nd - 2];
    const int64_t across = (row.n + TILE_I - 1) / TILE_I;
    _Alignas(FD_LINE) float room[CHUNK], tile[TILE_A][TILE_I];
    window w;
    open_window(&w, j, 1);
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->nd - 2, begin / j->chunks);
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        const int64_t i0 = c % across * TILE_I, k = c / across;
        const uint64_t e = j->start + (uint64_t)(walk.m + i0 * row.m);
        const int64_t skew = along.m == 1 ? (int64_t)(e % FD_BLOCK_BITS) : 0; /* as a chunk's */
        const int64_t a0 = k ? k * TILE_A - skew : 0, to = (k + 1) * TILE_A - skew;
        const int64_t ni = row.n - i0 < TILE_I ? row.n - i0 : TILE_I, na = (to < along.n ? to : along.n) - a0;
        for (int64_t i = 0; na > 0 && i < ni; i++) {
            const float *z = row_normals(&w, e + (uint64_t)(i * row.m + a0 * along.m), along.m, na, room);
            for (int64_t a = 0; a < na; a++) tile[a][i] = z[a];
        }
        const char *x = j->x + walk.x + i0 * row.x + a0 * along.x;
        char *y = j->y + walk.y + i0 * row.y + a0 * along.y;
        for (int64_t a = 0; a < na; a++, x += along.x, y += along.y) apply_chunk(j, tile[a], ni, x, row.x, y, row.y);
        if (++c == j->chunks) c = 0, fd_walk_next(&walk);
    }
}

/* The noise runs forwards along every axis, and y is walked as it lies. */
static void order_axes(fd_noise_job *j) {
    for (int i = 0; i < j->nd; i++) {
        fd_axis *a = &j->axes[i];
        if (a->m >= 0) continue;
        j->start += (uint64_t)a->m * (uint64_t)(a->n - 1);
        j->x += (a->n - 1) * a->x, j->y += (a->n - 1) * a->y;
        a->m = -a->m, a->x = -a->x, a->y = -a->y;
    }
    for (int i = 1; i < j->nd; i++)
        for (int k = i; k > 0 && fd_magnitude(j->axes[k - 1].y) < fd_magnitude(j->axes[k].y); k--) {
            const fd_axis a = j->axes[k];
            j->axes[k] = j->axes[k - 1], j->axes[k - 1] = a;
        }
    j->nd = fd_merge_axes(j->axes, j->nd);
    if (j->nd == 0) j->axes[0] = (fd_axis){1, 1, j->item, j->item, 0}, j->nd = 1;
}

/* Makes the axis along which the noise takes its shortest steps the last but one. 0: it is the last, or leaps too. */
static int move_finest(fd_axis *axes, int nd) {
    int finest = nd - 1;
    for (int i = 0; i < nd; i++)
        if (axes[i].m && axes[i].m < axes[finest].m) finest = i;
    if (axes[nd - 1].m < LEAP || axes[finest].m >= LEAP) return 0;
    for (; finest < nd - 2; finest++) {
        const fd_axis a = axes[finest];
        axes[finest] = axes[finest + 1], axes[finest + 1] = a;
    }
    return 1;
}

static void execute(fd_noise_job *j, const fd_view *noise) {
    for (int i = 0; i < j->nd; i++)
        if (j->axes[i].n == 0) return;
    j->law = noise->law;
    j->start = noise->start;
    order_axes(j);
    const int tiles = move_finest(j->axes, j->nd), outer = j->nd - 1 - tiles;
    const int64_t row = j->axes[j->nd - 1].n, along = tiles ? j->axes[outer].n : row, most = tiles ? TILE_A : CHUNK;
    int64_t rows = 1;
    for (int i = 0; i < outer; i++) rows *= j->axes[i].n;
    j->chunks = fd_ceil_div(along + FD_BLOCK_BITS - 1, most); /* one more where the first is cut short */
    const int64_t across = tiles ? fd_ceil_div(row, TILE_I) : 1, elements = tiles ? along * row : row;
    j->chunks *= across;
    fd_parallel_for(tiles ? some_tiles : some_chunks, j, rows * j->chunks, fd_ceil_div(elements, j->chunks) * AS_LONG);
}

void fd_noise_apply(const fd_view *noise, fd_dtype dtype, fd_noise_kind kind, double sigma, const void *x,
                    const int64_t *x_strides, void *y, const int64_t *y_strides) {
    fd_noise_job j = {.kind = kind, .sigma = sigma, .x = x, .y = y, .item = fd_item(dtype), .nd = noise->ndim};
    j.kernels = fd_kernels_in_use();
    j.noise = j.kernels->noise[dtype == FD_F64];
    j.dtype = dtype;
    for (int i = 0; i < j.nd; i++)
        j.axes[i] = (fd_axis){noise->shape[i], noise->strides[i], x_strides[i], y_strides[i], 0};
    execute(&j, noise);
}

void fd_normals(const fd_view *noise, float *out) {
    fd_noise_job j = {.x = (const char *)out, .y = (char *)out, .item = sizeof *out, .nd = noise->ndim};
    int64_t step = sizeof *out;
    j.kernels = fd_kernels_in_use();
    for (int i = j.nd - 1; i >= 0; step *= noise->shape[i--])
        j.axes[i] = (fd_axis){noise->shape[i], noise->strides[i], step, step, 0};
    execute(&j, noise);
}
