/* Softmax and dropout in one pass, and their gradient, row by row: memory is visited once. A row, widened where it is of a
 * half type, is held in L1 while its maximum, its exponentials and their sum are found. A longer one is taken in pieces,
 * several times over: its exponentials are made again rather than kept. */
#include <math.h>

#include "fd_view.h"

#define HELD 32768    /* bytes of a row that are held: two buffers of them, on whatever stack a thread has */
#define CHUNK 16384   /* bits made at once, for as many rows as they last */
#define PIECE 512     /* elements widened, gathered or narrowed at once */
#define GROUP 8       /* short rows taken together, */
#define GROUPED 8192  /* in no more bytes than leave L1 room for x and y */
#define STREAMED 4096 /* bytes of a row from which it pays to store it past the caches */
#define COST 4        /* of an element, in those that dropout alone does meanwhile */

typedef struct {
    const fd_kernels *kernels;
    const fd_softmax_fns *fns;
    fd_law law;
    uint64_t start;
    int one_run; /* the mask's elements, in C order, are bits one behind the other */
    int m_nd;
    fd_axis m_axes[FD_MAX_NDIM];
    fd_dtype dtype;
    double scale;
    fd_run_fn *run, *last_run; /* drops, and scales; the same past the caches where y goes there */
    int64_t item, real;        /* bytes of an element, and of what is computed with */
    int64_t n, held;           /* elements of a row, and of what is held */
    int64_t per, group;        /* rows of a unit, whose bits are made at once, and of a group */
    int64_t count;             /* rows */
    const char *x, *dy;        /* dy NULL: forward */
    char *y;                   /* or dx */
    char *rows;
    int64_t x_step, dy_step, y_step; /* from element to element of a row */
    int nd;
    fd_axis axes[FD_MAX_NDIM]; /* of the rows; z is dy's */
    int large, stream;         /* larger than the caches; stored past them */
} softmax_job;

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- runs of elements, as they lie and as they are computed with ---- */

/* n elements from p on as float32 or float64: where they are, or in `room`. */
static const char *loaded(const softmax_job *j, const char *p, int64_t step, int64_t n, char *room) {
    const int plain = step == j->item || n == 1;
    if (j->item == j->real) {
        if (plain) return p;
        fd_copy_strided(room, j->real, p, step, j->item, n);
        return room;
    }
    char raw[PIECE * 2];
    for (int64_t i = 0; i < n; i += PIECE) {
        const int64_t k = min(n - i, PIECE);
        if (!plain) fd_copy_strided(raw, j->item, p + i * step, step, j->item, k);
        j->kernels->widen[j->dtype](plain ? p + i * step : raw, (float *)(void *)room + i, (size_t)k);
    }
    return room;
}

/* Bytes to y, past the caches but for its ends. */
static void put_lines(const softmax_job *j, const char *from, char *y, int64_t bytes) {
    const size_t n = (size_t)bytes, lead = fd_before_line(y, 1, n), whole = (n - lead) / FD_LINE * FD_LINE;
    memcpy(y, from, lead);
    j->kernels->put(from + lead, y + lead, whole);
    memcpy(y + lead + whole, from + lead + whole, n - lead - whole);
}

/* n elements that were computed, to y; those of half types and those that go past the caches lie in `room`. */
static void stored(const softmax_job *j, char *room, char *y, int64_t n) {
    _Alignas(FD_LINE) char raw[PIECE * 2];
    if (j->item == j->real && j->stream) {
        put_lines(j, room, y, n * j->item);
        return;
    }
    if (j->item == j->real) {
        fd_copy_strided(y, j->y_step, room, j->real, j->item, n);
        return;
    }
    for (int64_t i = 0; i < n; i += PIECE, y += PIECE * j->y_step) {
        const int64_t k = min(n - i, PIECE);
        const int plain = j->y_step == j->item || n == 1;
        j->kernels->narrow[j->dtype]((const float *)(void *)room + i, plain && !j->stream ? y : raw, (size_t)k);
        if (j->stream)
            put_lines(j, raw, y, k * j->item);
        else if (!plain)
            fd_copy_strided(y, j->y_step, raw, j->item, j->item, k);
    }
}

/* Where n elements of y are computed: in y itself, or in `room`. */
static char *target(const softmax_job *j, char *y, int64_t n, char *room) {
    return j->item == j->real && !j->stream && (j->y_step == j->item || n == 1) ? y : room;
}

/* Asks for a row's worth of lines FD_AHEAD bytes later: memory would be idle while exponentials are computed. */
static void ahead(const softmax_job *j, const char *p) { fd_prefetch(p + FD_AHEAD, (size_t)(j->n * j->item)); }

/* ---- keep bits ---- */

typedef struct {
    fd_window window;
    _Alignas(FD_LINE) uint64_t words[FD_BITS_BUFFER(CHUNK + FD_BLOCK_BITS)];
} keep_bits;

/* Those of elements first .. first+n-1, in C order. Returns where in `words` the first one is. */
static size_t make_bits(const softmax_job *j, keep_bits *bits, int64_t first, int64_t n) {
    if (!j->one_run) {
        fd_view_bits(&bits->window, j->start, j->m_axes, j->m_nd, first, n, bits->words);
        return 0;
    }
    const uint64_t bit = j->start + (uint64_t)first;
    const size_t off = (size_t)(bit % FD_BLOCK_BITS);
    fd_any_blocks(j->kernels, &j->law, bit / FD_BLOCK_BITS, (off + (size_t)n + FD_BLOCK_BITS - 1) / FD_BLOCK_BITS,
                  bits->words, NULL);
    return off;
}

static void drop(fd_run_fn *run, const uint64_t *bits, size_t off, int64_t n, const char *x, char *y, double scale) {
    const fd_args args = {.scale = scale};
    run(bits, off, (size_t)n, x, y, &args);
}

/* ---- rows ---- */

typedef struct {
    double max, inverse;
} row_state;

static row_state get_row(const softmax_job *j, int64_t row) {
    row_state s;
    if (j->real == 8) {
        memcpy(&s, j->rows + row * 16, 16);
    } else {
        float two[2];
        memcpy(two, j->rows + row * 8, 8);
        s = (row_state){two[0], two[1]};
    }
    return s;
}

static void set_row(const softmax_job *j, int64_t row, row_state s) {
    if (j->real == 8) {
        memcpy(j->rows + row * 16, &s, 16);
    } else {
        const float two[2] = {(float)s.max, (float)s.inverse};
        memcpy(j->rows + row * 8, two, 8);
    }
}

static row_state new_row(const softmax_job *j, int64_t row, double max, double sum) {
    const row_state s = {max, sum == 0 ? 0 : 1 / sum};
    if (j->rows != NULL) set_row(j, row, s);
    return s;
}

static double finite(double max) { return max == -INFINITY ? 0 : max; } /* a row of -Inf: exponentials of 0, or NaN */

/* The last step forward: what is in e is scaled, dropped and put into y. */
static void finish(const softmax_job *j, const uint64_t *bits, size_t off, int64_t n, char *e, char *y, row_state s) {
    char *out = j->stream && j->item == j->real ? y : target(j, y, n, e);
    drop(out == y ? j->last_run : j->run, bits, off, n, e, out, s.inverse * j->scale);
    if (out == e) stored(j, e, y, n);
}

/* The last step backward: e holds the exponentials, or p the probabilities themselves. */
static void finish_grad(const softmax_job *j, const char *p, const char *g, int64_t n, char *e, char *dx, double scale,
                        double mean) {
    char *out = target(j, dx, n, e);
    j->fns->slopes(p, g, (size_t)n, scale, mean, out);
    if (out == e) stored(j, e, dx, n);
}

/* Rows of a group are taken step by step together: each step of a row waits for the one before, and those of other rows
 * run meanwhile, which saves a fifth of the time of rows of 128. */
static void forward_group(const softmax_job *j, keep_bits *bits, size_t off, int64_t row, int64_t count,
                          fd_walk *walk) {
    _Alignas(FD_LINE) char e[HELD];
    const int64_t n = j->n, bytes = n * j->real;
    const char *in[GROUP];
    char *y[GROUP];
    double max[GROUP];
    row_state s[GROUP];
    for (int64_t r = 0; r < count; r++, fd_walk_next(walk)) {
        if (j->large) ahead(j, j->x + walk->x);
        y[r] = j->y + walk->y;
        in[r] = loaded(j, j->x + walk->x, j->x_step, n, e + r * bytes);
        max[r] = finite(j->fns->max(in[r], (size_t)n));
    }
    for (int64_t r = 0; r < count; r++)
        s[r] = new_row(j, row + r, max[r], j->fns->exps(in[r], (size_t)n, max[r], e + r * bytes));
    for (int64_t r = 0; r < count; r++) finish(j, bits->words, off + (size_t)(r * n), n, e + r * bytes, y[r], s[r]);
}

static void backward_group(const softmax_job *j, keep_bits *bits, size_t off, int64_t row, int64_t count,
                           fd_walk *walk) {
    _Alignas(FD_LINE) char e[HELD], g[HELD];
    const int64_t n = j->n, bytes = n * j->real;
    const char *p[GROUP];
    char *dx[GROUP];
    double sum[GROUP], inverse[GROUP];
    for (int64_t r = 0; r < count; r++, fd_walk_next(walk)) {
        char *here = g + r * bytes;
        if (j->large) ahead(j, j->x + walk->x), ahead(j, j->dy + walk->z);
        dx[r] = j->y + walk->y;
        p[r] = loaded(j, j->x + walk->x, j->x_step, n, e + r * bytes);
        drop(j->run, bits->words, off + (size_t)(r * n), n, loaded(j, j->dy + walk->z, j->dy_step, n, here), here,
             j->scale);
    }
    for (int64_t r = 0; r < count; r++) {
        if (j->rows == NULL) {
            inverse[r] = 1, sum[r] = j->fns->products(p[r], (size_t)n, g + r * bytes);
        } else {
            const row_state s = get_row(j, row + r);
            sum[r] = j->fns->dots(p[r], (size_t)n, s.max, e + r * bytes, g + r * bytes) * s.inverse;
            inverse[r] = s.inverse, p[r] = e + r * bytes;
        }
    }
    for (int64_t r = 0; r < count; r++)
        finish_grad(j, p[r], g + r * bytes, n, e + r * bytes, dx[r], inverse[r], sum[r]);
}

/* A row longer than what is held. */
static void forward_long(const softmax_job *j, keep_bits *bits, int64_t row, const char *x, char *y) {
    _Alignas(FD_LINE) char e[HELD];
    const int64_t n = j->n, held = j->held;
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n && !fd_told_to_stop(); i += held) {
        const int64_t k = min(n - i, held);
        const double most = j->fns->max(loaded(j, x + i * j->x_step, j->x_step, k, e), (size_t)k);
        if (most > max) max = most;
    }
    max = finite(max);
    for (int64_t i = 0; i < n && !fd_told_to_stop(); i += held) {
        const int64_t k = min(n - i, held);
        sum += j->fns->exps(loaded(j, x + i * j->x_step, j->x_step, k, e), (size_t)k, max, e);
    }
    const row_state s = new_row(j, row, max, sum);
    for (int64_t i = 0; i < n && !fd_told_to_stop(); i += held) {
        const int64_t k = min(n - i, held);
        j->fns->exps(loaded(j, x + i * j->x_step, j->x_step, k, e), (size_t)k, max, e);
        finish(j, bits->words, make_bits(j, bits, row * n + i, k), k, e, y + i * j->y_step, s);
    }
}

static void backward_long(const softmax_job *j, keep_bits *bits, int64_t row, const char *x, const char *dy, char *dx) {
    _Alignas(FD_LINE) char e[HELD], g[HELD];
    const int64_t n = j->n, held = j->held;
    const row_state s = j->rows == NULL ? (row_state){0, 1} : get_row(j, row);
    double sum = 0;
    for (int turn = 0; turn < 2; turn++)
        for (int64_t i = 0; i < n && !fd_told_to_stop(); i += held) {
            const int64_t k = min(n - i, held);
            const size_t off = make_bits(j, bits, row * n + i, k);
            const char *p = loaded(j, x + i * j->x_step, j->x_step, k, e);
            drop(j->run, bits->words, off, k, loaded(j, dy + i * j->dy_step, j->dy_step, k, g), g, j->scale);
            double dot;
            if (j->rows == NULL)
                dot = j->fns->products(p, (size_t)k, g);
            else
                dot = j->fns->dots(p, (size_t)k, s.max, e, g), p = e;
            if (turn == 0)
                sum += dot;
            else
                finish_grad(j, p, g, k, e, dx + i * j->y_step, s.inverse, sum * s.inverse);
        }
}

static void some_rows(void *job, int64_t begin, int64_t end) {
    const softmax_job *j = job;
    keep_bits bits;
    fd_walk walk;
    fd_window_init(&bits.window, j->kernels, &j->law, j->m_axes, j->m_nd);
    fd_walk_to(&walk, j->axes, j->nd, begin * j->per);
    for (; begin < end; begin++) {
        const int64_t first = begin * j->per, rows = min(j->count - first, j->per);
        if (j->n > j->held) {
            if (j->dy == NULL)
                forward_long(j, &bits, first, j->x + walk.x, j->y + walk.y);
            else
                backward_long(j, &bits, first, j->x + walk.x, j->dy + walk.z, j->y + walk.y);
            fd_walk_next(&walk);
            continue;
        }
        const size_t off = make_bits(j, &bits, first * j->n, rows * j->n);
        for (int64_t r = 0; r < rows; r += j->group) {
            const int64_t count = min(rows - r, j->group);
            if (j->dy == NULL)
                forward_group(j, &bits, off + (size_t)(r * j->n), first + r, count, &walk);
            else
                backward_group(j, &bits, off + (size_t)(r * j->n), first + r, count, &walk);
        }
    }
    if (j->stream) j->kernels->fence();
}

static void execute(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                    const void *dy, const int64_t *dy_strides, void *y, const int64_t *y_strides, void *rows) {
    const int last = mask->ndim - 1;
    softmax_job j = {.law = mask->law,
                     .start = mask->start,
                     .dtype = dtype,
                     .scale = scale,
                     .x = x,
                     .dy = dy,
                     .y = y,
                     .rows = rows,
                     .item = fd_item(dtype),
                     .m_nd = mask->ndim,
                     .nd = last,
                     .count = 1};
    j.kernels = fd_kernels_in_use();
    j.fns = &j.kernels->softmax[dtype == FD_F64];
    j.real = dtype == FD_F64 ? 8 : 4;
    j.n = mask->shape[last];
    j.held = HELD / j.real;
    j.x_step = x_strides[last], j.y_step = y_strides[last], j.dy_step = dy == NULL ? 0 : dy_strides[last];
    for (int i = 0; i <= last; i++) j.m_axes[i] = (fd_axis){mask->shape[i], mask->strides[i], 0, 0, 0};
    for (int i = 0; i < last; i++) {
        j.axes[i] = (fd_axis){mask->shape[i], 0, x_strides[i], y_strides[i], dy == NULL ? 0 : dy_strides[i]};
        j.count *= mask->shape[i];
    }
    if (j.count == 0 || j.n == 0) return;
    j.nd = fd_merge_axes(j.axes, j.nd);
    j.m_nd = fd_merge_axes(j.m_axes, j.m_nd);
    j.one_run = j.m_nd == 0 || (j.m_nd == 1 && j.m_axes[0].m == 1) || j.law.q == 0 || j.law.q >= FD_KEEP_ALL;
    j.per = j.n <= j.held ? CHUNK / j.n : 1;
    j.group = min(GROUP, GROUPED / (j.n * j.real));
    if (j.group < 1) j.group = 1;
    j.large = j.count * j.n * j.item > fd_stream_bytes();
    j.stream = j.large && j.n * j.item >= STREAMED && j.kernels->put != NULL && y != x && y != dy && j.y_step == j.item;
    j.run = j.kernels->apply[dtype == FD_F64 ? FD_F64 : FD_F32];
    j.last_run = j.stream ? j.kernels->stream[dtype == FD_F64 ? FD_F64 : FD_F32] : j.run;
    fd_parallel_for(some_rows, &j, (j.count + j.per - 1) / j.per, j.per * j.n * COST);
}

void fd_softmax_dropout(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                        void *y, const int64_t *y_strides, void *rows) {
    execute(mask, dtype, scale, x, x_strides, NULL, NULL, y, y_strides, rows);
}

void fd_softmax_dropout_grad(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides,
                             const void *rows, const void *dy, const int64_t *dy_strides, void *dx,
                             const int64_t *dx_strides) {
    union { /* which backward reads only */
        const void *in;
        void *out;
    } seen = {.in = rows};
    execute(mask, dtype, scale, x, x_strides, dy, dy_strides, dx, dx_strides, seen.out);
}
