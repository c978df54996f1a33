/* Private to csrc/: the table of kernels that every instruction set fills, and what they share. */
#ifndef FD_IMPL_H
#define FD_IMPL_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "fastdrop.h"

#if FLT_EVAL_METHOD != 0 /* s390x in ISO mode: normals and activations would be rounded later, and have other bits */
#error "fastdrop needs float arithmetic that rounds to float: compile with -fexcess-precision=fast"
#endif

/* Bytes lie the other way round in a word. Packed bits are words wherever they are computed with, and bytes where a caller
 * gets them; the few places that see both look at this. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define FD_BIG_ENDIAN 1
#else
#define FD_BIG_ENDIAN 0
#endif

/* Packed bits are uint64 words, element e of a buffer at bit e % 64 of word e / 64: a block of the law is two words,
 * word0 | word1 << 32 and word2 | word3 << 32. Kernels may read, never use, up to 8 bytes past the last bit they need:
 * buffers of bits carry one word of padding. They start on a cache line where it matters: bits stored by the vector are
 * loaded by the word soon after, and a store that crosses a line cannot be forwarded. */
#define FD_BLOCK_WORDS (FD_BLOCK_BITS / 64)
#define FD_BITS_BUFFER(nbits) ((nbits) / 64 + 1)

#define FD_LINE 64 /* bytes of a cache line */

/* Loops that each instruction set's file includes: FD_ELEMENTWISE says that no element depends on another. */
#if defined(__clang__)
#define FD_INLINE inline __attribute__((always_inline))
#define FD_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FD_INLINE inline __attribute__((always_inline))
#define FD_ELEMENTWISE _Pragma("GCC ivdep")
#else
#define FD_INLINE inline
#define FD_ELEMENTWISE
#endif

/* What a run needs besides its elements. */
typedef struct fd_args fd_args;

/* What is done to a run of n elements that lie one behind the other, with keep bits off .. off+n-1 of `bits`. y may be
 * x, and so may args->z. None needs to be aligned. */
typedef void fd_run_fn(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args);

typedef struct fd_kernels fd_kernels;
typedef struct fd_layer_kernels fd_layer_kernels; /* fd_layers.h */

struct fd_args {
    double scale, shift, dropped; /* as in fd_op */
    fd_activation activation;
    const void *z; /* the second input, which lies as x does; NULL where there is none */
    /* For fd_piped, which does `op`, a run over float32 or float64, on elements of `dtype`. With a z_period, z holds so
     * many elements, and they repeat themselves from where y is `origin`. */
    size_t z_period;
    const void *origin;
    const fd_kernels *kernels;
    fd_run_fn *op;
    fd_dtype dtype;
};

/* A run still to be done, piece by piece, by whoever has time: making bits keeps the multipliers busy and the memory
 * idle, a run the other way round, and a core does both at once where their instructions are mixed. */
typedef struct {
    fd_run_fn *run;
    const uint64_t *bits;
    size_t off, n;
    const char *x;
    char *y;
    size_t item;
    fd_args args;
    size_t warm; /* bytes of x to ask for before a piece; 0 where the run looks ahead by itself */
} fd_errand;

/* What a level 2 cache gives in the time of one group of planes: 8 % of a whole call in cache. Twice as much, or y's lines
 * too, did worse. */
#define FD_WARM 1024

/* Elements between the start of a line and p. */
static inline size_t fd_past_line(const void *p, size_t item) { return (uintptr_t)p % FD_LINE / item; }

/* About n elements more. Pieces end where a cache line of y does, so that only the run's own ends are ragged. */
static inline void fd_advance(fd_errand *e, size_t n) {
    if (n < e->n)
        n -= fd_past_line(e->y + n * e->item, e->item);
    else
        n = e->n;
    e->run(e->bits, e->off, n, e->x, e->y, &e->args);
    e->off += n, e->n -= n, e->x += n * e->item, e->y += n * e->item;
    if (e->args.z != NULL && !e->args.z_period) e->args.z = (const char *)e->args.z + n * e->item;
}

/* Asks for lines that will be read. */
static inline void fd_prefetch(const void *p, size_t bytes) {
#if defined(__GNUC__)
    for (size_t k = 0; k < bytes; k += FD_LINE) __builtin_prefetch((const char *)p + k);
#else
    (void)p, (void)bytes;
#endif
}

/* Those of x that the next piece starts with, while there is something else to do. */
static inline void fd_warm(const fd_errand *e) { fd_prefetch(e->x, e->warm); }

/* Streaming asks for x this many bytes early, well past the page where the hardware's own prefetcher stops: what is under
 * way must last while bits are made (bench/NOTES.md). */
#define FD_AHEAD 16384

/* Keep bits of blocks block .. block+nblocks-1, exactly 2*nblocks words, 0 < q < 2^32; and, where `meanwhile` is not NULL,
 * some of that run or all of it. */
typedef void fd_blocks_fn(const fd_law *law, uint64_t block, size_t nblocks, uint64_t *out, fd_errand *meanwhile);

/* Normals of blocks block .. block+nblocks-1: 128 floats each. */
typedef void fd_normals_fn(const fd_law *law, uint64_t block, size_t nblocks, float *out);

/* n elements of float32 or float64, aligned and in place: v * (1 + sigma * z) or v + sigma * z. */
typedef void fd_noise_fn(fd_noise_kind kind, size_t n, const float *z, void *v, double sigma);

/* What softmax does to a row of n float32 or float64, or to a part of one. Numbers are passed as float64, which holds
 * both. Sums are float64 over pieces of the row, and each piece's is made by lanes and added up in one order. */
typedef struct {
    double (*max)(const void *x, size_t n);                       /* -Inf of none; a NaN is passed over */
    double (*exps)(const void *x, size_t n, double max, void *e); /* e = exp(x - max), and its sum; e may be x */
    double (*dots)(const void *x, size_t n, double max, void *e, const void *g); /* the same, but the sum of e * g */
    double (*products)(const void *e, size_t n, const void *g);                  /* the sum of e * g alone */
    void (*slopes)(const void *e, const void *g, size_t n, double scale, double mean,
                   void *dx); /* e scale (g - mean) */
} fd_softmax_fns;

/* DropConnect on a tile of examples, outputs and inputs: numbers aligned, rows `step` numbers apart. The keep bits of example
 * e's output o, one per input, start at the first bit of bits[e] + o * pitch (bytes). Each adds scale times its sums to
 * `out`, which is where the tile starts in y, dx or dw. */
typedef struct {
    size_t examples, outputs, inputs;
    const unsigned char *const *bits;
    size_t pitch;
    const void *x, *w, *dy;
    size_t x_step, w_step, dy_step, out_step;
    void *out;
    double scale;
} fd_tile;

typedef void fd_tile_fn(const fd_tile *tile);

typedef struct {
    fd_tile_fn *y, *dx, *dw;
} fd_connect_fns;

struct fd_kernels {
    const char *name;
    int64_t worth_waking; /* elements from which a second thread pays: 20 to 25 microseconds' work (bench/NOTES.md) */
    fd_blocks_fn *blocks;
    fd_run_fn *bools; /* y[i] = bit, one byte each; x and args unused */
    fd_run_fn *apply[FD_NDTYPES];
    /* The same for outputs that no cache will hold: stores go past the caches, and spare reading the lines they
     * replace. NULL where an instruction set has none. `fence` orders them before whatever the thread stores next. */
    fd_run_fn *stream[FD_NDTYPES];
    void (*stream_zeros)(const void *x, void *y, size_t bytes); /* x is looked ahead in: the next row may be kept */
    void (*fence)(void);
    /* The operations that do more than scale, on float32 and float64 (fd_fused.h); half types are widened for them. */
    fd_run_fn *fused[FD_NOPS][2];
    void (*widen[FD_NDTYPES])(const void *x, float *out, size_t n);
    void (*narrow[FD_NDTYPES])(const float *x, void *out, size_t n);
    void (*put)(const void *from, void *y, size_t bytes); /* whole lines, past the caches; NULL where there is no way */
    fd_normals_fn *normals;
    fd_noise_fn *noise[2]; /* on float32 and float64, as `fused` */
    fd_softmax_fns softmax[2];
    fd_connect_fns connect[2]; /* on float32 and float64 */
    const fd_layer_kernels *layers;
};

extern const fd_kernels fd_kernels_portable;
extern const fd_layer_kernels fd_layers_portable;
#if defined(__x86_64__) || defined(_M_X64)
#define FD_X86 1
extern const fd_kernels fd_kernels_avx2, fd_kernels_avx512;
extern const fd_layer_kernels fd_layers_avx2, fd_layers_avx512;
int fd_cpu_has_avx2(void);
int fd_cpu_has_avx512(void);
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define FD_NEON 1
extern const fd_kernels fd_kernels_neon;
extern const fd_layer_kernels fd_layers_neon;
#endif

/* Shared by the kernels that have no faster one of their own. */
void fd_one_block(const fd_law *law, uint64_t block, uint64_t *out);
void fd_bools_portable(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args);

/* args->op on runs of args->dtype, through buffers in L1 where it must be; the second one stores past the caches. */
void fd_piped(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args);
void fd_piped_stream(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args);

/* Bytes of an element. */
static inline int64_t fd_item(fd_dtype dtype) { return dtype == FD_F64 ? 8 : dtype == FD_F32 ? 4 : 2; }

/* The plain NaN: the kernels round a bfloat16's NaN as a number, payload and all. */
static inline double fd_plain_nan(double a) { return isnan(a) ? NAN : a; }

/* Bytes of output above which streaming wins, for this machine. */
int64_t fd_stream_bytes(void);
void fd_set_stream_bytes(int64_t bytes); /* for tests, which have no time for large outputs; 0 asks the machine again */

/* The table in use. A call reads it once and passes it on, so that a change from another thread cannot split it. */
const fd_kernels *fd_kernels_in_use(void);

/* Bits off .. off+56 of a buffer, in the low bits. */
static inline uint64_t fd_bits57(const uint64_t *bits, size_t off) {
#if FD_BIG_ENDIAN
    return bits[off / 64] >> off % 64 | bits[off / 64 + 1] << 1 << (63 - off % 64);
#else
    uint64_t w;
    memcpy(&w, (const char *)bits + (off >> 3), sizeof w);
    return w >> (off & 7);
#endif
}

/* Words of packed bits as bytes, the lowest bits first. */
static inline void fd_put_bytes(void *out, const uint64_t *words, size_t bytes) {
#if FD_BIG_ENDIAN
    for (size_t i = 0; i < bytes; i++) ((unsigned char *)out)[i] = (unsigned char)(words[i / 8] >> i % 8 * 8);
#else
    memcpy(out, words, bytes);
#endif
}

/* Bits set. No loop where there is an instruction: how often it runs is random, and a core would guess wrong. */
static inline unsigned fd_popcount(unsigned v) {
#if defined(__GNUC__)
    return (unsigned)__builtin_popcount(v);
#else
    unsigned n = 0;
    for (; v; v &= v - 1) n++;
    return n;
#endif
}

/* Planes that can matter: those below q's last set bit never change U < q. */
static inline unsigned fd_plane_count(uint64_t q) {
    unsigned n = 32;
    for (; !(q & 1); q >>= 1) n--;
    return n;
}

/* Keep bits of whole blocks for any q, the two extremes included. */
static inline void fd_any_blocks(const fd_kernels *k, const fd_law *law, uint64_t block, size_t nblocks, uint64_t *out,
                                 fd_errand *meanwhile) {
    if (law->q == 0 || law->q >= FD_KEEP_ALL)
        memset(out, law->q ? 0xFF : 0, nblocks * FD_BLOCK_WORDS * sizeof *out);
    else if (nblocks == 1) /* a vector of lanes for one block costs more than the block (sparse views) */
        fd_one_block(law, block, out);
    else
        k->blocks(law, block, nblocks, out, meanwhile);
}

/* Streaming takes whole lines of y and leaves the ragged ends to plain stores: elements before y's first line, or all of
 * them where y's elements never meet one. */
static inline size_t fd_before_line(const void *y, size_t item, size_t n) {
    const size_t past = (uintptr_t)y % FD_LINE, head = past ? (FD_LINE - past) / item : 0;
    return past % item || head > n ? n : head;
}

/* Work on units begin .. end-1; scratch lives on the stack of whoever runs it. */
typedef void fd_range_fn(void *job, int64_t begin, int64_t end);

/* Split units 0 .. n-1, each of about `cost` elements, over the threads. The split never shows in the results. */
void fd_parallel_for(fd_range_fn *fn, void *job, int64_t n, int64_t cost);

/* Another library's threads: fn(data) on each of `threads`, the caller's among them, and back when all are done. This is
 * GOMP_parallel, as it stands in OpenMP's libraries. NULL: ours again. A forked child has ours. */
typedef void fd_team_fn(void (*fn)(void *data), void *data, unsigned threads, unsigned flags);
void fd_set_team(fd_team_fn *run);

/* The calling thread's next calls run on n threads, of the team if there is one; 0: on fd_get_num_threads() of ours. */
void fd_ask_threads(int n);

/* From here to fd_unwatch, work of the calling thread that takes long asks `poll` ten times a second, on that thread, and
 * when it says other than 0 leaves the rest undone. fd_unwatch tells whether it did. */
typedef int fd_poll_fn(void);
void fd_watch(fd_poll_fn *poll);
int fd_unwatch(void);

/* For what is long within one unit of fd_parallel_for: whether to leave the rest of it. */
int fd_told_to_stop(void);

#endif
