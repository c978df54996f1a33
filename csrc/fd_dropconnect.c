/* DropConnect with a mask for each example: B * O * I bits, each used once and none kept.
 *
 * The bits of a tile (some examples, some outputs, all or many of their inputs) are made, and the instruction set's
 * kernel runs over the tile, with sums in registers. Tiles follow each other so that what they share stays in the
 * caches; example by example, w would come from memory B times.
 *
 * Scratch is on the stack: 42 KiB per thread, whatever B, O and I are. Most of it are the TILE bits of a tile. */
#include "fd_view.h"

#define TILE 262144 /* bits of a tile */
/* Its examples: as few as a block of the kernels has leave room for more outputs, hence for longer runs of bits. Where
 * examples are added up, sums are loaded and stored once a tile, and more of them pay, while there is room for four outputs. */
#define FEW 4
#define MANY 16
#define LONG_ROW 8064 /* inputs of a tile: 64 blocks, wherever in a block they start */
#define AREA_WORDS(examples) FD_BITS_BUFFER(TILE / (examples) + FD_BLOCK_BITS)

typedef struct {
    const fd_kernels *kernels;
    fd_tile_fn *run;
    fd_view mask;
    uint64_t steps[3]; /* the mask's, modulo 2^64 */
    fd_axis axes[3];
    int nd;
    int together;                      /* an example's rows are bits one behind the other */
    int direct;                        /* and each starts at a byte, or else they are moved to a word */
    int64_t examples, outputs, inputs; /* of all */
    int64_t tile_examples, tile_outputs, tile_inputs;
    int64_t per; /* examples of a unit */
    int64_t item;
    double scale;
    const char *x, *w, *dy; /* the one of them that is made is NULL */
    char *out;
} connect_job;

typedef struct {
    fd_window window;
    _Alignas(FD_LINE) uint64_t words[MANY * AREA_WORDS(MANY)];
    _Alignas(FD_LINE) uint64_t raw[AREA_WORDS(FEW)]; /* of an example, before rows are aligned */
    const unsigned char *first[MANY];
} tile_bits;

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/* Bits from bit `off` of `in` on, n words of them. */
static void align_bits(const uint64_t *in, size_t off, size_t n, uint64_t *out) {
    const size_t shift = off % 64;
    in += off / 64;
    for (size_t k = 0; k < n; k++) out[k] = in[k] >> shift | in[k + 1] << 1 << (63 - shift);
}

/* Blocks that hold bits bit .. bit+n-1; returns where the first one is. */
static size_t make_blocks(const connect_job *j, uint64_t bit, int64_t n, uint64_t *out) {
    const size_t off = (size_t)(bit % FD_BLOCK_BITS);
    fd_any_blocks(j->kernels, &j->mask.law, bit / FD_BLOCK_BITS, (off + (size_t)n + FD_BLOCK_BITS - 1) / FD_BLOCK_BITS,
                  out, NULL);
    return off;
}

static size_t row_words(int64_t inputs) { return (size_t)fd_ceil_div(inputs, 64); }

/* Bits of the tile's example e, whose first one is `bit`. */
static void make_example(const connect_job *j, tile_bits *b, fd_tile *t, size_t e, uint64_t bit) {
    const int64_t inputs = (int64_t)t->inputs, outputs = (int64_t)t->outputs;
    const size_t words = row_words(inputs);
    uint64_t *to = b->words + e * (size_t)AREA_WORDS(j->tile_examples);
    b->first[e] = (const unsigned char *)to;
    if (j->direct) {
        b->first[e] += make_blocks(j, bit, outputs * inputs, to) / 8;
        return;
    }
    size_t off = j->together && inputs == j->inputs ? make_blocks(j, bit, outputs * inputs, b->raw) : 0;
    for (int64_t o = 0; o < outputs; o++, to += words) {
        const uint64_t row = bit + (uint64_t)o * j->steps[1];
        if (!j->together) {
            fd_row_bits(&b->window, row, (int64_t)j->steps[2], inputs, b->raw);
            memcpy(to, b->raw, words * sizeof *to);
            continue;
        }
        if (inputs < j->inputs) off = make_blocks(j, row, inputs, b->raw);
        align_bits(b->raw, off, words, to);
        off += (size_t)inputs;
    }
}

/* One tile: examples e .., outputs o .., inputs i ... */
static void run_tile(const connect_job *j, tile_bits *b, int64_t e, int64_t o, int64_t i) {
    const int64_t examples = min(j->tile_examples, j->examples - e), outputs = min(j->tile_outputs, j->outputs - o);
    const int64_t inputs = min(j->tile_inputs, j->inputs - i);
    const int64_t x = (e * j->inputs + i) * j->item, w = (o * j->inputs + i) * j->item,
                  y = (e * j->outputs + o) * j->item;
    fd_tile t = {.examples = (size_t)examples,
                 .outputs = (size_t)outputs,
                 .inputs = (size_t)inputs,
                 .bits = b->first,
                 .x_step = (size_t)j->inputs,
                 .w_step = (size_t)j->inputs,
                 .dy_step = (size_t)j->outputs,
                 .scale = j->scale};
    t.pitch = j->direct ? (size_t)inputs / 8 : row_words(inputs) * 8;
    if (j->x != NULL) t.x = j->x + x;
    if (j->w != NULL) t.w = j->w + w;
    if (j->dy != NULL) t.dy = j->dy + y;
    t.out = j->out + (j->dy == NULL ? y : j->x == NULL ? x : w);
    t.out_step = (size_t)(j->dy == NULL ? j->outputs : j->inputs);
    for (int64_t k = 0; k < examples; k++)
        make_example(
            j, b, &t, (size_t)k,
            j->mask.start + (uint64_t)(e + k) * j->steps[0] + (uint64_t)o * j->steps[1] + (uint64_t)i * j->steps[2]);
    j->run(&t);
}

static void prepare(const connect_job *j, tile_bits *b) {
    fd_window_init(&b->window, j->kernels, &j->mask.law, j->axes, j->nd);
}

/* Units of y: the examples of a tile, for one range of outputs after the other, so that w's part is read once. */
static void some_y(void *job, int64_t begin, int64_t end) {
    const connect_job *j = job;
    const int64_t groups = fd_ceil_div(j->examples, j->tile_examples);
    tile_bits b;
    prepare(j, &b);
    for (; begin < end; begin++) {
        const int64_t e = begin % groups * j->tile_examples, o = begin / groups * j->tile_outputs;
        for (int64_t k = e; k < min(e + j->tile_examples, j->examples); k++)
            memset(j->out + (k * j->outputs + o) * j->item, 0,
                   (size_t)(min(j->tile_outputs, j->outputs - o) * j->item));
        for (int64_t i = 0; i < j->inputs; i += j->tile_inputs) run_tile(j, &b, e, o, i);
    }
}

/* Units of dx: `per` examples. */
static void some_dx(void *job, int64_t begin, int64_t end) {
    const connect_job *j = job;
    const int64_t first = begin * j->per, last = min(end * j->per, j->examples);
    tile_bits b;
    prepare(j, &b);
    memset(j->out + first * j->inputs * j->item, 0, (size_t)((last - first) * j->inputs * j->item));
    for (int64_t o = 0; o < j->outputs; o += j->tile_outputs)
        for (int64_t e = first; e < last && !fd_told_to_stop(); e += j->tile_examples)
            for (int64_t i = 0; i < j->inputs; i += j->tile_inputs) run_tile(j, &b, e, o, i);
}

/* Units of dw: the outputs of a tile. */
static void some_dw(void *job, int64_t begin, int64_t end) {
    const connect_job *j = job;
    tile_bits b;
    prepare(j, &b);
    for (; begin < end; begin++) {
        const int64_t o = begin * j->tile_outputs, outputs = min(j->tile_outputs, j->outputs - o);
        memset(j->out + o * j->inputs * j->item, 0, (size_t)(outputs * j->inputs * j->item));
        for (int64_t e = 0; e < j->examples && !fd_told_to_stop(); e += j->tile_examples)
            for (int64_t i = 0; i < j->inputs; i += j->tile_inputs) run_tile(j, &b, e, o, i);
    }
}

/* What the three have in common; x, w or dy is NULL. */
static connect_job plan(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const void *w, const void *dy,
                        void *out) {
    const int64_t *n = mask->shape, *m = mask->strides;
    connect_job j = {.kernels = fd_kernels_in_use(), .mask = *mask, .scale = scale, .x = x, .w = w, .dy = dy};
    const fd_connect_fns *fns = &j.kernels->connect[dtype == FD_F64];
    j.run = dy == NULL ? fns->y : x == NULL ? fns->dx : fns->dw;
    j.item = fd_item(dtype), j.out = out;
    j.examples = n[0], j.outputs = n[1], j.inputs = n[2];
    for (int k = 0; k < 3; k++) j.steps[k] = (uint64_t)m[k], j.axes[k] = (fd_axis){n[k], m[k], 0, 0, 0};
    j.tile_examples = j.run == fns->dw && 4 * j.inputs <= TILE / MANY ? MANY : FEW;
    j.tile_inputs = j.inputs < 1 ? 1 : min(j.inputs, LONG_ROW);
    if (j.examples == 0 || j.outputs == 0 || j.inputs == 0) return j;
    j.nd = fd_merge_axes(j.axes, 3);
    if (j.inputs == 1) j.steps[2] = 1;
    if (j.outputs == 1) j.steps[1] = (uint64_t)j.inputs;
    j.together = j.steps[2] == 1 && j.steps[1] == (uint64_t)j.inputs;
    j.direct = !FD_BIG_ENDIAN && j.together && j.inputs == j.tile_inputs && j.inputs % 8 == 0 && mask->start % 8 == 0 &&
               (j.examples == 1 || j.steps[0] % 8 == 0);
    j.tile_outputs = TILE / j.tile_examples / (j.direct ? j.inputs : (int64_t)row_words(j.tile_inputs) * 64);
    if (j.tile_outputs > 4) j.tile_outputs -= j.tile_outputs % 4;
    return j;
}

/* Where nothing is added up, what is made is zeros. */
static int nothing(const connect_job *j, int64_t elements) {
    if (j->tile_outputs > 0) return 0;
    if (elements > 0) memset(j->out, 0, (size_t)(elements * j->item));
    return 1;
}

void fd_dropconnect(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const void *w, void *y) {
    connect_job j = plan(mask, dtype, scale, x, w, NULL, y);
    if (nothing(&j, j.examples * j.outputs)) return;
    fd_parallel_for(some_y, &j, fd_ceil_div(j.examples, j.tile_examples) * fd_ceil_div(j.outputs, j.tile_outputs),
                    j.tile_examples * j.tile_outputs * j.inputs);
}

void fd_dropconnect_dx(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *w, void *dx) {
    connect_job j = plan(mask, dtype, scale, NULL, w, dy, dx);
    if (nothing(&j, j.examples * j.inputs)) return;
    /* Several tiles' examples, where there are as many, share a read of w. */
    j.per = fd_ceil_div(j.examples, 4 * fd_get_num_threads() * j.tile_examples) * j.tile_examples;
    fd_parallel_for(some_dx, &j, fd_ceil_div(j.examples, j.per), j.per * j.outputs * j.inputs);
}

void fd_dropconnect_dw(const fd_view *mask, fd_dtype dtype, double scale, const void *dy, const void *x, void *dw) {
    connect_job j = plan(mask, dtype, scale, x, NULL, dy, dw);
    if (nothing(&j, j.outputs * j.inputs)) return;
    const int64_t share = fd_ceil_div(j.outputs, 4 * 2 * fd_get_num_threads()) * 4;
    j.tile_outputs = min(j.tile_outputs, share);
    fd_parallel_for(some_dw, &j, fd_ceil_div(j.outputs, j.tile_outputs), j.examples * j.tile_outputs * j.inputs);
}
