/* DropBlock: a dropped bit of a mask, the seed, drops a whole block.
 *
 * Elements are counted in C order, and so are the bits of a chunk of them. A seed's bit stands where its block starts, and
 * the block's other elements are reached by shifts of the whole chunk: by 1, 2, 4, ... steps of one axis, then of the
 * next. No block starts in the last extent-1 places of an axis, and so no shift leaves its row or its map: any number of
 * axes and of maps is one loop over words.
 *
 * Where the seeds' view has the strides of x's own C order, as it has when it is cut from a mask of x's shape, the law's
 * bits lie as x does, and those where no block may start are closed. They are made while the chunk before is applied
 * (fd_errand). A chunk that starts inside a map takes along the seeds before it that still reach it. Of a view that lies
 * so only inside its outer axes (some of the channels), each such part is taken by itself. */
#include <stdatomic.h>
#include <stdlib.h>

#include "fd_view.h"

#define CHUNK 32768   /* elements at once, where blocks are small: 4 KiB of bits; half as many were 4 % slower */
#define REACHES 16    /* and where they are large, so often what a chunk needs from before it */
#define SMALL_PART 32 /* below, rows of a view are put together instead */
#define PACK 512      /* elements gathered at once when x or y is not contiguous */

/* Blocks along an axis of n: elements, and how far apart they are. */
typedef struct {
    int64_t n, extent, step;
} spread;

typedef struct {
    const fd_kernels *kernels;
    fd_law law;
    uint64_t start;
    int nd, outer,
        nspreads; /* axes; those outside a row of seeds; those along which blocks have more than one element */
    int as_elements, nparts;    /* whether the seeds' bits lie as elements do, and the axes outside of where they do */
    fd_axis axes[FD_MAX_NDIM];  /* of x and y, merged; m counts elements */
    fd_axis seeds[FD_MAX_NDIM]; /* of x, not merged; m counts bits of the law */
    int64_t room[FD_MAX_NDIM];  /* places along them where a block may start */
    spread spreads[FD_MAX_NDIM];
    int64_t reach;             /* elements from a block's first to its last */
    int64_t part;              /* elements inside the axes of parts, */
    int64_t stretch;           /* of the maps whose bits are made together, */
    int64_t chunk;             /* and at once */
    int64_t stretches, chunks; /* of a part; of a stretch */
    uint64_t *closed;          /* a stretch's places where no block may start */
    size_t words;              /* of a buffer for a chunk's bits */
    fd_run_fn *run, *plain;
    int streams;
    fd_args args;
    const char *x;
    char *y;
    int64_t item;
    atomic_int failed;
} fd_job;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- where no block may start ---- */

static void set_bits(uint64_t *bits, int64_t at, int64_t n) {
    for (int64_t k; n > 0; n -= k, at += k) {
        k = least(64 - at % 64, n);
        bits[at / 64] |= ~(uint64_t)0 >> (64 - k) << at % 64;
    }
}

static size_t words_of(int64_t bits) { return (size_t)(bits + 63) / 64; }

/* `map` elements are all that one block may share; a stretch has several such maps, or one. */
static uint64_t *closed_places(const fd_job *j, int64_t map) {
    uint64_t *bits = calloc(words_of(j->stretch) + 1, sizeof *bits);
    if (bits == NULL) return NULL;
    for (int k = 0; k < j->nspreads; k++) {
        const spread b = j->spreads[k];
        const int64_t n = (b.extent - 1) * b.step;
        for (int64_t end = b.n * b.step; end <= map; end += b.n * b.step) set_bits(bits, end - n, n);
    }
    for (int64_t made = map; made < j->stretch; made *= 2) {
        const int64_t n = least(made, j->stretch - made);
        uint64_t *const to = bits + made / 64;
        for (size_t i = words_of(n); i-- > 0;) { /* downwards: the last word read is the first one written */
            const uint64_t word = bits[i];
            to[i] |= word << made % 64;
            if (made % 64) to[i + 1] |= word >> (64 - made % 64);
        }
    }
    return bits;
}

/* ---- from seeds to keep bits ---- */

/* Bits from `off` on, and ones where no block may start. */
static void open_seeds(const uint64_t *restrict seeds, size_t off, const uint64_t *restrict closed,
                       uint64_t *restrict out, size_t words) {
    const unsigned r = off % 64;
    seeds += off / 64;
    for (size_t i = 0; i < words; i++) out[i] = (seeds[i] >> r | seeds[i + 1] << 1 << (63 - r)) | closed[i];
}

/* The same from any view, row by row. */
static void view_seeds(const fd_job *j, fd_window *window, int64_t base, int64_t end, uint64_t *row, uint64_t *out) {
    const fd_axis last = j->seeds[j->outer];
    const int64_t room = j->room[j->outer];
    fd_walk walk;
    fd_walk_to(&walk, j->seeds, j->outer, base / last.n);
    memset(out, 0xFF, words_of(end - base) * sizeof *out);
    for (int64_t at = base, i = base % last.n; at < end; at += last.n - i, i = 0, fd_walk_next(&walk)) {
        const int64_t n = least(room - i, end - at);
        int inside = n > 0;
        for (int k = 0; k < j->outer; k++) inside &= walk.index[k] < j->room[k];
        if (!inside) continue;
        fd_row_bits(window, j->start + (uint64_t)walk.m + (uint64_t)i * (uint64_t)last.m, last.m, n, row);
        for (int64_t done = 0, k; done < n; done += k) {
            k = least(n - done, 57);
            const uint64_t dropped = ~fd_bits57(row, (size_t)done) & (((uint64_t)1 << k) - 1);
            const int64_t bit = at - base + done;
            out[bit / 64] &= ~(dropped << bit % 64);
            if (bit % 64 + k > 64) out[bit / 64 + 1] &= ~(dropped >> (64 - bit % 64));
        }
    }
}

/* out[i] = in[i] and in[i - shift], of bits; before the first there are ones. */
static void and_shifted(const uint64_t *restrict in, uint64_t *restrict out, size_t words, size_t shift) {
    const size_t k = shift / 64 < words ? shift / 64 : words;
    const unsigned left = shift % 64, right = 64 - left;
    memcpy(out, in, k * sizeof *in);
    if (left == 0) {
        for (size_t i = k; i < words; i++) out[i] = in[i] & in[i - k];
    } else if (k < words) {
        out[k] = in[k] & (in[0] << left | ~(uint64_t)0 >> right);
        for (size_t i = k + 1; i < words; i++) out[i] = in[i] & (in[i - k] << left | in[i - k - 1] >> right);
    }
}

/* Buffers of one thread: seeds, two whose turns change, and what the errand still reads. */
typedef struct {
    uint64_t *seeds, *bits, *spare, *held;
} scratch;

static void swap(uint64_t **a, uint64_t **b) {
    uint64_t *const c = *a;
    *a = *b, *b = c;
}

/* Keep bits of elements base .. end-1 of the stretch that starts at `map`, in s->bits. */
static void make_bits(const fd_job *j, scratch *s, fd_window *window, int64_t map, int64_t base, int64_t end,
                      fd_errand *meanwhile) {
    const size_t words = words_of(end - base);
    if (j->as_elements) {
        fd_walk walk;
        fd_walk_to(&walk, j->seeds, j->nparts, base / j->part);
        const uint64_t bit = j->start + (uint64_t)walk.m + (uint64_t)(base % j->part);
        const size_t off = (size_t)(bit % FD_BLOCK_BITS);
        const size_t blocks = (off + (size_t)(end - base) + FD_BLOCK_BITS - 1) / FD_BLOCK_BITS;
        fd_any_blocks(j->kernels, &j->law, bit / FD_BLOCK_BITS, blocks, s->seeds, meanwhile);
        if (meanwhile->n) fd_advance(meanwhile, meanwhile->n);
        open_seeds(s->seeds, off, j->closed + (base - map) / 64, s->bits, words);
    } else {
        if (meanwhile->n) fd_advance(meanwhile, meanwhile->n);
        view_seeds(j, window, base, end, s->seeds, s->bits);
    }
    for (int k = 0; k < j->nspreads; k++) {
        const spread b = j->spreads[k];
        for (int64_t done = 1, more; done < b.extent; done += more) {
            more = least(done, b.extent - done);
            and_shifted(s->bits, s->spare, words, (size_t)(more * b.step));
            swap(&s->bits, &s->spare);
        }
    }
}

/* ---- and their use ---- */

static int contiguous(const fd_job *j) {
    const fd_axis *row = &j->axes[j->nd - 1];
    return j->nd == 1 && row->x == j->item && row->y == j->item;
}

/* n elements of a row, contiguous or not. */
static void run(const fd_job *j, const uint64_t *bits, size_t off, int64_t n, const char *x, char *y,
                const fd_axis *a) {
    if (n == 1 || (a->x == j->item && a->y == j->item)) {
        j->run(bits, off, (size_t)n, x, y, &j->args);
        return;
    }
    _Alignas(FD_LINE) char in[PACK * 8], out[PACK * 8];
    for (int64_t i = 0, k; i < n; i += k, x += k * a->x, y += k * a->y) {
        k = least(n - i, PACK);
        fd_copy_strided(in, j->item, x, a->x, j->item, k);
        j->plain(bits, off + (size_t)i, (size_t)k, in, out, &j->args);
        fd_copy_strided(y, a->y, out, j->item, j->item, k);
    }
}

/* Elements from .. end-1, whose bits start at `off`. */
static void run_rows(const fd_job *j, const uint64_t *bits, size_t off, int64_t from, int64_t end) {
    const fd_axis row = j->axes[j->nd - 1];
    fd_walk walk;
    fd_walk_to(&walk, j->axes, j->nd - 1, from / row.n);
    for (int64_t i = from % row.n, n; from < end; i = 0, from += n, off += (size_t)n, fd_walk_next(&walk)) {
        n = least(row.n - i, end - from);
        run(j, bits, off, n, j->x + walk.x + i * row.x, j->y + walk.y + i * row.y, &row);
    }
}

static void some_chunks(void *arg, int64_t begin, int64_t end) {
    fd_job *j = arg;
    uint64_t *const memory = malloc(4 * j->words * sizeof *memory + FD_LINE);
    if (memory == NULL) {
        atomic_store(&j->failed, 1);
        return;
    }
    uint64_t *const first = memory + (FD_LINE - (uintptr_t)memory % FD_LINE) / sizeof *memory;
    scratch s = {first, first + j->words, first + 2 * j->words, first + 3 * j->words};
    fd_window window;
    fd_window_init(&window, j->kernels, &j->law, j->seeds, j->outer + 1);
    fd_errand last = {.run = j->run, .item = (size_t)j->item, .args = j->args, .warm = j->streams ? 0 : FD_WARM};
    const int flat = contiguous(j);
    for (; begin < end; begin++) {
        const int64_t nth = begin / j->chunks, part = nth / j->stretches * j->part;
        const int64_t map = part + nth % j->stretches * j->stretch, from = map + begin % j->chunks * j->chunk;
        int64_t to = least(map + j->stretch, part + j->part);
        if (from >= to) continue;
        to = least(to, from + j->chunk);
        /* Words of bits and of closed places start together. */
        const int64_t base = from - map > j->reach ? map + (from - map - j->reach) / 64 * 64 : map;
        make_bits(j, &s, &window, map, base, to, &last);
        const size_t off = (size_t)(from - base);
        if (flat) {
            last.bits = s.bits, last.off = off, last.n = (size_t)(to - from);
            last.x = j->x + from * j->item, last.y = j->y + from * j->item;
            swap(&s.bits, &s.held);
        } else {
            run_rows(j, s.bits, off, from, to);
        }
    }
    if (last.n) fd_advance(&last, last.n);
    if (j->streams) j->kernels->fence();
    free(memory);
}

/* ---- the plan ---- */

static int execute(fd_job *j, const fd_view *seeds, const int64_t *shape, const int64_t *x_strides,
                   const int64_t *y_strides) {
    int64_t total = 1, map = 1;
    int inner = seeds->ndim; /* from this axis on seeds lie as elements do */
    j->law = seeds->law, j->start = seeds->start, j->part = 1;
    for (int k = seeds->ndim - 1; k >= 0; k--) {
        const int64_t extent = shape[k] - seeds->shape[k] + 1;
        j->axes[k] = (fd_axis){shape[k], total, x_strides[k], y_strides[k], 0};
        j->seeds[k] = (fd_axis){shape[k], seeds->strides[k], 0, 0, 0};
        j->room[k] = seeds->shape[k];
        if (extent > 1) {
            j->spreads[j->nspreads++] = (spread){shape[k], extent, total};
            j->reach += (extent - 1) * total;
            map = shape[k] * total;
        }
        if (inner == k + 1 && (seeds->shape[k] == 1 || seeds->strides[k] == total)) inner = k, j->part *= shape[k];
        total *= shape[k];
    }
    if (total == 0) return 0;
    j->as_elements = j->part >= map && j->part >= least(total, SMALL_PART), j->nparts = inner;
    if (!j->as_elements) j->part = total, j->nparts = 0;
    j->outer = seeds->ndim - 1;
    j->nd = fd_merge_axes(j->axes, seeds->ndim);
    if (j->nd == 0) j->axes[0] = (fd_axis){1, 0, j->item, j->item, 0}, j->nd = 1;
    if (seeds->ndim == 0) j->seeds[0] = j->axes[0], j->outer = 0;

    j->stretch = map < CHUNK ? CHUNK / map * map : map;
    if (j->stretch > j->part) j->stretch = j->part;
    j->stretches = fd_ceil_div(j->part, j->stretch);
    const int64_t most = REACHES * (j->reach < j->stretch / REACHES ? j->reach : j->stretch);
    j->chunks = fd_ceil_div(j->stretch, most > CHUNK ? most : CHUNK);
    j->chunk = fd_ceil_div(j->stretch, j->chunks);
    const int64_t longest = least(j->chunk + j->reach + 64, j->stretch);
    j->words = FD_BITS_BUFFER((size_t)longest + 2 * FD_BLOCK_BITS) + 1;
    j->words += FD_LINE / 8 - j->words % (FD_LINE / 8);
    if (j->as_elements) {
        j->closed = closed_places(j, map);
        if (j->closed == NULL) return -1;
    }
    fd_parallel_for(some_chunks, j, total / j->part * j->stretches * j->chunks, j->chunk);
    free(j->closed);
    return atomic_load(&j->failed) ? -1 : 0;
}

int fd_block_apply(const fd_view *seeds, const int64_t *shape, fd_dtype dtype, double scale, const void *x,
                   const int64_t *x_strides, void *y, const int64_t *y_strides) {
    fd_job j = {.kernels = fd_kernels_in_use(), .x = x, .y = y, .item = fd_item(dtype)};
    int64_t bytes = j.item;
    for (int k = 0; k < seeds->ndim; k++) bytes *= shape[k];
    j.args.scale = fd_plain_nan(scale);
    j.plain = j.run = j.kernels->apply[dtype];
    j.streams = j.kernels->stream[dtype] != NULL && x != y && bytes > fd_stream_bytes();
    if (j.streams) j.run = j.kernels->stream[dtype];
    return execute(&j, seeds, shape, x_strides, y_strides);
}

int fd_block_bools(const fd_view *seeds, const int64_t *shape, void *out) {
    fd_job j = {.kernels = fd_kernels_in_use(), .x = out, .y = out, .item = 1};
    int64_t strides[FD_MAX_NDIM], step = 1;
    j.plain = j.run = j.kernels->bools;
    for (int k = seeds->ndim - 1; k >= 0; step *= shape[k--]) strides[k] = step;
    return execute(&j, seeds, shape, strides, strides);
}
