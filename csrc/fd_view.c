/* Strided mask views -> packed runs of bits, for any view: broadcast, sliced, transposed, reversed.
 *
 * A view is walked row by row (a row is its last axis) and each row's bits are appended to the output. Philox blocks
 * come through a small window, since neighbouring rows often share blocks (short rows) or repeat them (broadcast). */
#include "fd_view.h"

/* Offsets one step past an axis are made on the way, and may leave int64 in a view of huge strides: they are computed
 * modulo 2^64, where they come back right. */
static int64_t times(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
static int64_t plus(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

int fd_merge_axes(fd_axis *axes, int nd) {
    int kept = 0;
    for (int i = 0; i < nd; i++) {
        if (axes[i].n == 1) continue;
        fd_axis *outer = kept ? &axes[kept - 1] : NULL;
        const fd_axis a = axes[i];
        if (outer && outer->m == times(a.m, a.n) && outer->x == times(a.x, a.n) && outer->y == times(a.y, a.n) &&
            outer->z == times(a.z, a.n)) {
            const int64_t n = outer->n * a.n;
            *outer = a;
            outer->n = n;
        } else {
            axes[kept++] = a;
        }
    }
    return kept;
}

void fd_walk_to(fd_walk *w, const fd_axis *axes, int nd, int64_t position) {
    w->axes = axes, w->nd = nd, w->m = w->x = w->y = w->z = 0;
    for (int i = nd - 1; i >= 0; i--) {
        const int64_t at = position % axes[i].n;
        position /= axes[i].n;
        w->index[i] = at;
        w->m = plus(w->m, times(at, axes[i].m));
        w->x += at * axes[i].x, w->y += at * axes[i].y, w->z += at * axes[i].z;
    }
}

void fd_walk_next(fd_walk *w) {
    for (int i = w->nd - 1; i >= 0; i--) {
        const fd_axis *a = &w->axes[i];
        w->m = plus(w->m, a->m), w->x = plus(w->x, a->x), w->y = plus(w->y, a->y), w->z = plus(w->z, a->z);
        if (++w->index[i] < a->n) return;
        w->index[i] = 0;
        w->m = plus(w->m, times(-a->n, a->m));
        w->x = plus(w->x, times(-a->n, a->x));
        w->y = plus(w->y, times(-a->n, a->y));
        w->z = plus(w->z, times(-a->n, a->z));
    }
}

uint64_t fd_blocks_ahead(const fd_axis *axes, int nd) {
    const int64_t limit = FD_WINDOW_BLOCKS * FD_BLOCK_BITS;
    int64_t span = 1; /* bits over which the inner axes touch nearly every block */
    for (int i = nd - 1; i >= 0; i--) {
        const int64_t step = axes[i].m < 0 ? -axes[i].m : axes[i].m;
        if (step == 0) continue;
        if (step > span + 2 * FD_BLOCK_BITS) break;
        if (axes[i].n > limit / step || (span += step * (axes[i].n - 1)) >= limit) {
            span = limit;
            break;
        }
    }
    const uint64_t blocks = (uint64_t)span / FD_BLOCK_BITS + (span > 1);
    return blocks < 1 ? 1 : blocks > FD_WINDOW_BLOCKS ? FD_WINDOW_BLOCKS : blocks;
}

void fd_window_init(fd_window *w, const fd_kernels *kernels, const fd_law *law, const fd_axis *axes, int nd) {
    w->kernels = kernels, w->law = law, w->first = w->end = 0, w->backward = 0;
    w->ahead = fd_blocks_ahead(axes, nd);
    while (nd > 0 && axes[nd - 1].m == 0) nd--;
    if (nd > 0) w->backward = axes[nd - 1].m < 0;
}

uint64_t fd_window_bits(fd_window *w, uint64_t bit, unsigned n) {
    const uint64_t first = bit / FD_BLOCK_BITS, end = (bit + n - 1) / FD_BLOCK_BITS + 1;
    if (first < w->first || end > w->end) {
        const uint64_t need = end - first, count = need > w->ahead ? need : w->ahead;
        w->first = !w->backward ? first : end > count ? end - count : 0;
        w->end = w->first + count;
        fd_any_blocks(w->kernels, w->law, w->first, (size_t)count, w->words, NULL);
    }
    return fd_bits57(w->words, (size_t)(bit - w->first * FD_BLOCK_BITS));
}

/* Appends to a bit buffer; `word` holds the `fill` bits that are not yet a whole word. */
typedef struct {
    uint64_t *out, word;
    unsigned fill;
} writer;

/* n <= 64, and no bit of v is set above them. */
static inline void put(writer *w, uint64_t v, unsigned n) {
    w->word |= v << w->fill;
    w->fill += n;
    if (w->fill < 64) return;
    *w->out++ = w->word;
    w->fill -= 64;
    w->word = w->fill ? v >> (n - w->fill) : 0;
}

static inline uint64_t low_bits(uint64_t v, unsigned n) { return n < 64 ? v & (((uint64_t)1 << n) - 1) : v; }

static void put_row(fd_window *window, writer *w, uint64_t start, int64_t step, int64_t n) {
    if (step == 0) {
        const uint64_t fill = fd_window_bits(window, start, 1) & 1 ? ~(uint64_t)0 : 0;
        for (; n > 0; n -= 64) put(w, low_bits(fill, n < 64 ? (unsigned)n : 64), n < 64 ? (unsigned)n : 64);
        return;
    }
    if (step != 1) {
        while (n > 0) {
            const unsigned k = n < 64 ? (unsigned)n : 64;
            uint64_t v = 0;
            for (unsigned i = 0; i < k; i++, start += (uint64_t)step) v |= (fd_window_bits(window, start, 1) & 1) << i;
            put(w, v, k);
            n -= k;
        }
        return;
    }
    if (w->fill == 0 && start % FD_BLOCK_BITS == 0 && n >= FD_WINDOW_BLOCKS * FD_BLOCK_BITS) {
        const int64_t blocks = n / FD_BLOCK_BITS;
        fd_any_blocks(window->kernels, window->law, start / FD_BLOCK_BITS, (size_t)blocks, w->out, NULL);
        w->out += blocks * FD_BLOCK_WORDS;
        start += (uint64_t)blocks * FD_BLOCK_BITS, n -= blocks * FD_BLOCK_BITS;
    }
    for (unsigned k; n > 0; n -= k, start += k) {
        k = n < 57 ? (unsigned)n : 57;
        put(w, low_bits(fd_window_bits(window, start, k), k), k);
    }
}

/* Rows along which the mask stands still, each with the next bit (channels first, small feature maps). */
static void put_still_rows(fd_window *window, writer *w, uint64_t start, int64_t rows, int64_t n) {
    for (unsigned k; rows > 0; rows -= k, start += k) {
        k = rows < 57 ? (unsigned)rows : 57;
        uint64_t keep = fd_window_bits(window, start, k);
        for (unsigned i = 0; i < k; i++, keep >>= 1) {
            const uint64_t fill = 0 - (keep & 1);
            int64_t left = n;
            for (; left > 64; left -= 64) put(w, fill, 64);
            put(w, low_bits(fill, (unsigned)left), (unsigned)left);
        }
    }
}

static void flush(writer *w) {
    if (w->fill) *w->out = w->word;
}

void fd_row_bits(fd_window *window, uint64_t start, int64_t step, int64_t n, uint64_t *out) {
    writer w = {out, 0, 0};
    put_row(window, &w, start, step, n);
    flush(&w);
}

void fd_view_bits(fd_window *window, uint64_t start, const fd_axis *axes, int nd, int64_t first, int64_t n,
                  uint64_t *out) {
    static const fd_axis point = {1, 0, 0, 0, 0};
    writer w = {out, 0, 0};
    if (nd == 0) axes = &point, nd = 1;
    const fd_axis row = axes[nd - 1];
    fd_walk walk;
    int64_t position = first / row.n;
    fd_walk_to(&walk, axes, nd - 1, position);
    for (int64_t at = first % row.n; n > 0; at = 0, fd_walk_next(&walk), position++) {
        if (at == 0 && row.m == 0 && nd > 1 && axes[nd - 2].m == 1 && n >= row.n) {
            const int64_t left = axes[nd - 2].n - walk.index[nd - 2], rows = n / row.n < left ? n / row.n : left;
            put_still_rows(window, &w, start + (uint64_t)walk.m, rows, row.n);
            n -= rows * row.n;
            position += rows - 1;
            fd_walk_to(&walk, axes, nd - 1, position);
            continue;
        }
        const int64_t k = row.n - at < n ? row.n - at : n;
        put_row(window, &w, start + (uint64_t)(walk.m + at * row.m), row.m, k);
        n -= k;
    }
    flush(&w);
}
