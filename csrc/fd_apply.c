/* A view, applied: the walk over mask, x and y together.
 *
 * The axes of the three are permuted so that y is walked in memory order, merged where they are one axis in all three,
 * and then one of four plans serves the innermost of them. Whatever the plan, a kernel gets packed bits and a run:
 *
 *   RUNS      the mask runs along the inner axis (m = 1), which is long: whole blocks straight from the law. An axis
 *             just outside along which the mask stands still (channels last, locked dropout) reuses each chunk's bits.
 *   CONSTANT  the mask stands still along the inner axis (channels first): each row is scaled or zeroed as a whole.
 *   TILES     the mask leaps along the inner axis and runs along another (a transposed array): square tiles of bits are
 *             made along the mask and turned.
 *   ROWS      everything else, notably short rows: bits are put together in C order, as far as x and y are
 *             contiguous. Short rows along which the mask stands still (channels last) are put together once. */
#include "fd_view.h"

#define CHUNK 16384    /* bits made at once by RUNS: 2 KiB, a guest in L1 */
#define ROW_CHUNK 2048 /* elements put together at once by ROWS */
#define LONG_ROW 512   /* from here a row is worth a kernel call of its own */
#define TILE_I 128     /* a tile: along the inner axis, */
#define TILE_A 1024    /* along the axis where the mask runs */
#define PACK 512       /* elements gathered at once when x or y is not contiguous */

#define LINE_WORDS (FD_LINE / 8)

typedef struct fd_job fd_job;

struct fd_job {
    const fd_kernels *kernels;
    fd_law law;
    uint64_t start;
    fd_run_fn *run, *plain, *stream; /* what is run on y, and what it is chosen from; no `stream`: NULL */
    fd_args args;
    int sparing; /* a dropped row is +0 whatever it was: it need not be read */
    const char *x, *z;
    char *y;
    int64_t x_item, y_item, z_item; /* no z: it stands still, wherever it points, and z_item is 0 */
    int64_t whole;                  /* bytes of the output that this is a part of; 0: it is all of it */
    int nd;
    fd_axis axes[FD_MAX_NDIM];
    /* Units of the parallel loop: a walk over the first `outer` axes, times `chunks` of what is inside them. */
    int outer;
    int64_t chunks;
    int a_axis;     /* TILES: the axis along which the mask runs */
    int64_t inner;  /* ROWS: elements inside the outer axes, */
    int64_t chunk;  /* taken so many at once, */
    int64_t period; /* and bits and words after which the mask repeats itself there, or 0 */
    void (*plan)(const fd_job *j, int64_t begin, int64_t end);
};

static int streams(const fd_job *j) { return j->stream != NULL && j->run == j->stream; }

/* ---- a run of elements, contiguous or not ---- */

/* What stands at one place of the three arrays, and the steps from there along a run. */
typedef struct {
    const char *x, *z;
    char *y;
} place;

static place at(const fd_job *j, const fd_walk *w) { return (place){j->x + w->x, j->z + w->z, j->y + w->y}; }

static place further(place p, int64_t n, const fd_axis *a) {
    return (place){p.x + n * a->x, p.z + n * a->z, p.y + n * a->y};
}

static int lie_together(const fd_job *j, const fd_axis *a) {
    return a->x == j->x_item && a->y == j->y_item && a->z == j->z_item;
}

static void run_together(const fd_job *j, fd_run_fn *fn, const uint64_t *bits, size_t off, int64_t n, place p) {
    if (j->z_item) {
        fd_args args = j->args;
        args.z = p.z;
        fn(bits, off, (size_t)n, p.x, p.y, &args);
    } else {
        fn(bits, off, (size_t)n, p.x, p.y, &j->args);
    }
}

/* n elements from p on, along an axis. */
static void run(const fd_job *j, const uint64_t *bits, size_t off, int64_t n, place p, const fd_axis *a) {
    if (n == 1 || lie_together(j, a)) {
        run_together(j, j->run, bits, off, n, p);
        return;
    }
    /* What has gaps goes through buffers; what stands still is put there once. */
    _Alignas(64) char in[PACK * 8], out[PACK * 8], second[PACK * 8];
    const int x_lies = a->x == j->x_item, z_lies = a->z == j->z_item, y_lies = a->y == j->y_item;
    for (int64_t i = 0; i < n; i += PACK, p = further(p, PACK, a)) {
        const int64_t k = n - i < PACK ? n - i : PACK;
        if (!x_lies && (i == 0 || a->x)) fd_copy_strided(in, j->x_item, p.x, a->x, j->x_item, k);
        if (!z_lies && (i == 0 || a->z)) fd_copy_strided(second, j->z_item, p.z, a->z, j->z_item, k);
        const place here = {x_lies ? p.x : in, z_lies ? p.z : second, y_lies ? p.y : out};
        run_together(j, j->plain, bits, off + (size_t)i, k, here); /* `out` is read again at once */
        if (!y_lies) fd_copy_strided(p.y, a->y, out, j->y_item, j->y_item, k);
    }
}

/* ---- RUNS ---- */

static void do_runs(const fd_job *j, int64_t begin, int64_t end) {
    const fd_axis row = j->axes[j->nd - 1];
    /* The axis between the outer ones and the row, if there is one, reuses bits. */
    const fd_axis repeat = j->outer < j->nd - 1 ? j->axes[j->outer] : (fd_axis){1, 0, 0, 0, 0};
    /* A chunk is applied while the next one's bits are made. Where y's lines and the chunks do not meet, the elements
     * on a line that two chunks share wait for the second: their bits, part of a block, move in front of its own. */
    _Alignas(FD_LINE) uint64_t buffers[2][LINE_WORDS + CHUNK / 64 + LINE_WORDS];
    int turn = 0;
    int64_t held = 0;
    fd_errand last = {.run = j->run, .item = (size_t)j->y_item, .args = j->args, .warm = streams(j) ? 0 : FD_WARM};
    const int contiguous = lie_together(j, &row) && repeat.n == 1;
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->outer, begin / j->chunks);
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        /* Chunks start at multiples of a block in the mask, so that no two make the same one. */
        const uint64_t bit = j->start + (uint64_t)walk.m;
        const int64_t skew = (int64_t)(bit % FD_BLOCK_BITS);
        const int64_t from = c ? c * CHUNK - skew : 0, to = (c + 1) * CHUNK - skew;
        const int64_t n = (to < row.n ? to : row.n) - from;
        if (n > 0) {
            const uint64_t first = (bit + (uint64_t)from) / FD_BLOCK_BITS;
            const size_t off = (size_t)((bit + (uint64_t)from) % FD_BLOCK_BITS);
            const size_t blocks = (off + (size_t)n + FD_BLOCK_BITS - 1) / FD_BLOCK_BITS;
            uint64_t *bits = buffers[turn] + LINE_WORDS;
            place p = further(at(j, &walk), from, &row);
            fd_any_blocks(j->kernels, &j->law, first, blocks, bits, &last);
            if (contiguous) {
                if (held)
                    memcpy(bits - FD_BLOCK_WORDS, buffers[!turn] + LINE_WORDS + CHUNK / 64 - FD_BLOCK_WORDS,
                           8 * FD_BLOCK_WORDS);
                if (last.n) fd_advance(&last, last.n);
                last.bits = bits - FD_BLOCK_WORDS, last.off = FD_BLOCK_BITS + off - (size_t)held;
                const place first_held = further(p, -held, &row);
                last.x = first_held.x, last.y = first_held.y;
                if (j->z_item) last.args.z = first_held.z;
                last.n = (size_t)(n + held);
                held = to < row.n && begin + 1 < end ? (int64_t)fd_past_line(p.y + n * row.y, last.item) : 0;
                last.n -= (size_t)held;
                turn = !turn;
            } else {
                for (int64_t r = 0; r < repeat.n; r++, p = further(p, 1, &repeat)) run(j, bits, off, n, p, &row);
            }
        }
        if (++c == j->chunks) c = 0, fd_walk_next(&walk);
    }
    if (last.n) fd_advance(&last, last.n);
}

/* ---- CONSTANT ---- */

static void do_constant(const fd_job *j, int64_t begin, int64_t end) {
    const fd_axis row = j->axes[j->nd - 1];
    uint64_t bits[FD_BITS_BUFFER(CHUNK)];
    fd_window window;
    fd_window_init(&window, j->kernels, &j->law, j->axes, j->nd - 1);
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->outer, begin / j->chunks);
    int filled_with = -1;
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        const int keep = fd_window_bits(&window, j->start + (uint64_t)walk.m, 1) & 1;
        const int64_t from = c * CHUNK, n = row.n - from < CHUNK ? row.n - from : CHUNK;
        const place p = further(at(j, &walk), from, &row);
        if (!keep && j->sparing && row.y == j->y_item) {
            if (streams(j))
                j->kernels->stream_zeros(p.x, p.y, (size_t)(n * j->y_item));
            else
                memset(p.y, 0, (size_t)(n * j->y_item));
        } else {
            if (filled_with != keep) memset(bits, keep ? 0xFF : 0, sizeof bits), filled_with = keep;
            run(j, bits, 0, n, p, &row);
        }
        if (++c == j->chunks) c = 0, fd_walk_next(&walk);
    }
}

/* ---- ROWS ---- */

/* The first n bits of what is inside the outer axes. Where that repeats itself, a stretch of whole words is made and the
 * rest copied from it. */
static void row_bits(const fd_job *j, fd_window *window, uint64_t start, int64_t from, int64_t n, uint64_t *bits) {
    const int64_t make = j->period && j->period < n ? j->period : n;
    fd_view_bits(window, start, j->axes + j->outer, j->nd - j->outer, from, make, bits);
    for (int64_t made = make; made < n; made *= 2)
        memcpy(bits + made / 64, bits, (size_t)((n - made < made ? n - made : made) + 63) / 64 * sizeof *bits);
}

static void do_rows(const fd_job *j, int64_t begin, int64_t end) {
    const fd_axis last = j->axes[j->nd - 1];
    _Alignas(FD_LINE) uint64_t bits[FD_BITS_BUFFER(CHUNK) + 1];
    fd_window window;
    fd_window_init(&window, j->kernels, &j->law, j->axes, j->nd);
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->outer, begin / j->chunks);
    int fresh = 1;
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        const int64_t from = c * j->chunk, n = j->inner - from < j->chunk ? j->inner - from : j->chunk;
        const uint64_t start = j->start + (uint64_t)walk.m;
        if (!j->period)
            row_bits(j, &window, start, from, n, bits);
        else if (fresh)
            row_bits(j, &window, start, 0, j->chunk < j->inner ? j->chunk : j->inner, bits);
        run(j, bits, 0, n, further(at(j, &walk), from, &last), &last);
        fresh = ++c == j->chunks;
        if (fresh) c = 0, fd_walk_next(&walk);
    }
}

/* ---- TILES ---- */

/* Bit c of word r becomes bit r of word c: halves of ever smaller squares change places (Warren, Hacker's Delight). */
static void transpose64(uint64_t a[64]) {
    uint64_t mask = 0x00000000FFFFFFFFu;
    for (unsigned w = 32; w; w >>= 1, mask ^= mask << w)
        for (unsigned r = 0; r < 64; r = ((r | w) + 1) & ~w) {
            const uint64_t t = ((a[r] >> w) ^ a[r | w]) & mask;
            a[r] ^= t << w, a[r | w] ^= t;
        }
}

static void do_tiles(const fd_job *j, int64_t begin, int64_t end) {
    const fd_axis i_axis = j->axes[j->nd - 1], a_axis = j->axes[j->a_axis];
    const int64_t i_tiles = (i_axis.n + TILE_I - 1) / TILE_I;
    uint64_t along[TILE_I][TILE_A / 64], turned[TILE_A][FD_BITS_BUFFER(TILE_I)], square[64];
    fd_window window;
    fd_axis strip = a_axis; /* what one row of a tile asks for */
    if (strip.n > TILE_A) strip.n = TILE_A;
    fd_window_init(&window, j->kernels, &j->law, &strip, 1);
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->outer, begin / j->chunks);
    for (int64_t c = begin % j->chunks; begin < end; begin++) {
        const int64_t i0 = c % i_tiles * TILE_I, a0 = c / i_tiles * TILE_A;
        const int64_t ni = i_axis.n - i0 < TILE_I ? i_axis.n - i0 : TILE_I;
        const int64_t na = a_axis.n - a0 < TILE_A ? a_axis.n - a0 : TILE_A;
        const uint64_t bit = j->start + (uint64_t)(walk.m + i0 * i_axis.m + a0 * a_axis.m);
        for (int64_t i = 0; i < ni; i++) fd_row_bits(&window, bit + (uint64_t)(i * i_axis.m), a_axis.m, na, along[i]);
        for (int64_t a = 0; a < na; a += 64)
            for (int64_t i = 0; i < ni; i += 64) {
                for (int64_t k = 0; k < 64; k++) square[k] = i + k < ni ? along[i + k][a / 64] : 0;
                transpose64(square);
                for (int64_t k = 0; k < 64; k++) turned[a + k][i / 64] = square[k];
            }
        place p = further(further(at(j, &walk), i0, &i_axis), a0, &a_axis);
        for (int64_t a = 0; a < na; a++, p = further(p, 1, &a_axis)) run(j, turned[a], 0, ni, p, &i_axis);
        if (++c == j->chunks) c = 0, fd_walk_next(&walk);
    }
}

/* ---- the plan ---- */

/* The least multiple of n bits that is a number of words. */
static int64_t whole_words(int64_t n) {
    int64_t bits = n;
    while (bits % 64) bits *= 2;
    return bits;
}

/* Axis k moves to position `to`, those between shift inwards. */
static void move_axis(fd_axis *axes, int k, int to) {
    const fd_axis a = axes[k];
    for (; k > to; k--) axes[k] = axes[k - 1];
    for (; k < to; k++) axes[k] = axes[k + 1];
    axes[to] = a;
}

static int64_t count(const fd_axis *axes, int nd) {
    int64_t n = 1;
    for (int i = 0; i < nd; i++) n *= axes[i].n;
    return n;
}

/* Walk y upwards in memory, outermost axis first. */
static void order_axes(fd_job *j) {
    for (int i = 0; i < j->nd; i++) {
        fd_axis *a = &j->axes[i];
        if (a->y >= 0) continue;
        j->start += (uint64_t)((a->n - 1) * a->m);
        j->x += (a->n - 1) * a->x, j->y += (a->n - 1) * a->y, j->z += (a->n - 1) * a->z;
        a->m = -a->m, a->x = -a->x, a->y = -a->y, a->z = -a->z;
    }
    for (int i = 1; i < j->nd; i++)
        for (int k = i; k > 0 && j->axes[k - 1].y < j->axes[k].y; k--) move_axis(j->axes, k, k - 1);
}

static void some_units(void *job, int64_t begin, int64_t end) {
    const fd_job *j = job;
    j->plan(j, begin, end);
    if (streams(j)) j->kernels->fence();
}

static void in_parallel(fd_job *j, void (*plan)(const fd_job *j, int64_t begin, int64_t end), int64_t n, int64_t cost) {
    j->plan = plan;
    fd_parallel_for(some_units, j, n, cost);
}

static void execute(fd_job *j, const fd_view *mask) {
    for (int i = 0; i < j->nd; i++)
        if (j->axes[i].n == 0) return;
    j->law = mask->law;
    j->start = mask->start;
    if (mask->law.q == 0 || mask->law.q >= FD_KEEP_ALL) /* one constant bit, wherever one looks */
        for (int i = 0; i < j->nd; i++) j->axes[i].m = 0;
    order_axes(j);
    j->nd = fd_merge_axes(j->axes, j->nd);
    j->run = j->plain;
    const int64_t bytes = j->whole ? j->whole : count(j->axes, j->nd) * j->y_item;
    if (j->stream != NULL && j->x != j->y && bytes > fd_stream_bytes()) j->run = j->stream;
    if (j->nd == 0) j->axes[0] = (fd_axis){1, 0, j->x_item, j->y_item, j->z_item}, j->nd = 1;

    const int inner = j->nd - 1;
    const fd_axis last = j->axes[inner];
    if (last.m == 1 && last.n >= LONG_ROW) {
        j->outer = inner;
        if (inner > 0 && j->axes[inner - 1].m == 0) j->outer = inner - 1;
        j->chunks = fd_ceil_div(last.n + FD_BLOCK_BITS - 1, CHUNK);
        const int64_t repeats = j->outer < inner ? j->axes[inner - 1].n : 1;
        in_parallel(j, do_runs, count(j->axes, j->outer) * j->chunks, fd_ceil_div(last.n, j->chunks) * repeats);
    } else if (last.m == 0 && last.n >= LONG_ROW / 4) {
        j->outer = inner;
        j->chunks = fd_ceil_div(last.n, CHUNK);
        in_parallel(j, do_constant, count(j->axes, j->outer) * j->chunks, fd_ceil_div(last.n, j->chunks));
    } else {
        int a = inner; /* the axis with the shortest step in the mask */
        for (int i = 0; i < inner; i++)
            if (j->axes[i].m && fd_magnitude(j->axes[i].m) < fd_magnitude(j->axes[a].m)) a = i;
        if (a < inner && fd_magnitude(last.m) >= FD_BLOCK_BITS / 2 && last.n > 1) {
            move_axis(j->axes, a, inner - 1);
            j->a_axis = j->outer = inner - 1;
            const int64_t na = j->axes[inner - 1].n;
            j->chunks = fd_ceil_div(last.n, TILE_I) * fd_ceil_div(na, TILE_A);
            in_parallel(j, do_tiles, count(j->axes, j->outer) * j->chunks, fd_ceil_div(last.n * na, j->chunks));
        } else {
            j->outer = inner;
            while (j->outer > 0 && lie_together(j, &last)) {
                const fd_axis *o = &j->axes[j->outer - 1], *i = &j->axes[j->outer];
                if (o->x != i->x * i->n || o->y != i->y * i->n || o->z != i->z * i->n) break;
                j->outer--;
                if (o->m == 0 && count(j->axes + j->outer, j->nd - j->outer) >= ROW_CHUNK) break;
            }
            j->inner = count(j->axes + j->outer, j->nd - j->outer);
            j->chunk = ROW_CHUNK;
            if (j->outer < inner && j->axes[j->outer].m == 0) {
                const int64_t period = whole_words(j->inner / j->axes[j->outer].n);
                if (period <= CHUNK) j->period = period, j->chunk = CHUNK / period * period;
            }
            j->chunks = fd_ceil_div(j->inner, j->chunk);
            in_parallel(j, do_rows, count(j->axes, j->outer) * j->chunks, fd_ceil_div(j->inner, j->chunks));
        }
    }
}

static fd_job make_job(const fd_view *mask, fd_dtype dtype, const void *x, const int64_t *x_strides, const void *z,
                       const int64_t *z_strides, void *y, const int64_t *y_strides) {
    fd_job j = {.x = x, .y = y, .z = z == NULL ? x : z, .nd = mask->ndim};
    j.kernels = fd_kernels_in_use();
    j.x_item = j.y_item = fd_item(dtype);
    j.z_item = z == NULL ? 0 : fd_item(dtype);
    for (int i = 0; i < j.nd; i++)
        j.axes[i] =
            (fd_axis){mask->shape[i], mask->strides[i], x_strides[i], y_strides[i], z == NULL ? 0 : z_strides[i]};
    return j;
}

void fd_apply_part(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides, void *y,
                   const int64_t *y_strides, int64_t whole) {
    fd_job j = make_job(mask, dtype, x, x_strides, NULL, NULL, y, y_strides);
    j.whole = whole;
    j.args.scale = fd_plain_nan(scale);
    j.sparing = 1;
    j.plain = j.kernels->apply[dtype];
    j.stream = j.kernels->stream[dtype];
    execute(&j, mask);
}

void fd_mask_apply(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides, void *y,
                   const int64_t *y_strides) {
    fd_apply_part(mask, dtype, scale, x, x_strides, y, y_strides, 0);
}

/* Elements after which a z that stands still along all but the last axis repeats itself, if x and y have no gaps that
 * would hide where an element stands in its row; or 0. Such a z (a bias) needs no axes of its own. */
static size_t repeats_after(const fd_job *j) {
    int64_t step = j->y_item, rows = 1;
    for (int i = j->nd - 1; i >= 0; step *= j->axes[i--].n) {
        const fd_axis *a = &j->axes[i];
        if (a->n != 1 && (a->x != step || a->y != step || a->z != (i == j->nd - 1 ? j->z_item : 0))) return 0;
        if (i < j->nd - 1) rows *= a->n;
    }
    return j->z_item && rows > 1 ? (size_t)j->axes[j->nd - 1].n : 0;
}

void fd_mask_fused(const fd_view *mask, fd_dtype dtype, const fd_op *op, const void *x, const int64_t *x_strides,
                   const void *z, const int64_t *z_strides, void *y, const int64_t *y_strides) {
    fd_job j = make_job(mask, dtype, x, x_strides, z, z_strides, y, y_strides);
    j.args.scale = fd_plain_nan(op->scale), j.args.shift = fd_plain_nan(op->shift),
    j.args.dropped = fd_plain_nan(op->dropped);
    j.args.activation = op->activation;
    j.sparing = op->code == FD_ACT || op->code == FD_ACT_GRAD;
    j.plain = j.args.op = j.kernels->fused[op->code][dtype == FD_F64];
    j.args.kernels = j.kernels, j.args.dtype = dtype;
    j.args.z_period = repeats_after(&j);
    if (j.args.z_period) {
        j.args.z = z, j.args.origin = y, j.z_item = 0;
        for (int i = 0; i < j.nd; i++) j.axes[i].z = 0;
    }
    if (j.args.z_period || (dtype != FD_F32 && dtype != FD_F64)) j.plain = fd_piped;
    if (j.kernels->put != NULL && j.y != j.z) j.stream = fd_piped_stream;
    execute(&j, mask);
}

void fd_mask_bools(const fd_view *mask, void *out) {
    fd_job j = {.x = out, .y = out, .z = out, .x_item = 1, .y_item = 1, .nd = mask->ndim};
    int64_t step = 1;
    j.kernels = fd_kernels_in_use();
    j.plain = j.kernels->bools;
    for (int i = j.nd - 1; i >= 0; step *= mask->shape[i--])
        j.axes[i] = (fd_axis){mask->shape[i], mask->strides[i], step, step, 0};
    execute(&j, mask);
}
