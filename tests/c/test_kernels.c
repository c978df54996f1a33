/* Every kernel of every instruction set this machine runs, from C: known answers, agreement with a law written out one
 * bit at a time, poisoned surroundings, strided jobs against a plain loop. Run under the sanitizers by `make test-c`,
 * and for NEON under an emulator by `make test-neon`. */
#include "check.h"

#include <fenv.h>
#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "fd_philox.h"

int failures;
const char *isa;
uint64_t random_state = 88172645463325252u;
const char *vectors = "tests/vectors";

/* The law, element by element: the sum of all 32 planes, compared with q. */
int keep(const fd_law *law, uint64_t e) {
    const uint64_t b = e / FD_BLOCK_BITS;
    const uint32_t lane = (uint32_t)(e % FD_BLOCK_BITS), key[2] = {(uint32_t)law->key, (uint32_t)(law->key >> 32)};
    uint64_t u = 0;
    for (uint32_t j = 0; j < 32; j++) {
        const uint32_t counter[4] = {(uint32_t)b, (uint32_t)(b >> 32) | j << 24, (uint32_t)law->call,
                                     (uint32_t)(law->call >> 32)};
        uint32_t words[4];
        fd_philox4x32(counter, key, words);
        u = u << 1 | (words[lane / 32] >> lane % 32 & 1);
    }
    return u < law->q;
}

static int bit_of(const unsigned char *packed, uint64_t i) { return packed[i / 8] >> i % 8 & 1; }

static void test_bits(void) {
    static const double ps[] = {0.5, 0.25, 0.75, 0.1, 0.3, 0.9, 1.0 / 3, 0x1p-20, 0x1p-32, 0, 1};
    static const uint64_t sizes[] = {0, 1, 7, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 5000};
    static const uint64_t starts[] = {0, 1, 127, 128, (1ull << 32) * 128 - 77, (1ull << 40) + 5, (1ull << 63) - 5000};
    enum { MOST = 5000 };
    static unsigned char want[MOST], room[MOST + 32];
    for (size_t a = 0; a < sizeof ps / sizeof *ps; a++)
        for (size_t b = 0; b < sizeof starts / sizeof *starts; b++) {
            const fd_law law = {random_u64(), random_u64(), fd_threshold(ps[a])};
            for (uint64_t i = 0; i < MOST; i++) want[i] = (unsigned char)keep(&law, starts[b] + i);
            for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
                const uint64_t n = sizes[c], bytes = (n + 7) / 8;
                memset(room, 0xCD, sizeof room);
                fd_bits(&law, starts[b], n, room + 16);
                for (uint64_t i = 0; i < bytes * 8; i++)
                    CHECK(bit_of(room + 16, i) == (i < n ? want[i] : 0), "p=%g start=%llu n=%llu bit %llu", ps[a],
                          (unsigned long long)starts[b], (unsigned long long)n, (unsigned long long)i);
                for (int i = 0; i < 16; i++)
                    CHECK(room[i] == 0xCD && room[16 + bytes + (uint64_t)i] == 0xCD, "overrun");
            }
        }
}

/* Many blocks at once against one at a time, for every number of planes, and where the block's high half changes. */
static void test_blocks(void) {
    enum { MOST = 400 };
    static const size_t counts[] = {1, 2, 7, 8, 9, 31, 33, 127, 128, 129, 130, 255, 257, MOST};
    static const uint64_t starts[] = {0, 12345, (1ull << 32) - 200, (1ull << 56) - MOST};
    static uint64_t got[MOST * FD_BLOCK_WORDS + 2], want[FD_BLOCK_WORDS];
    for (unsigned planes = 1; planes <= 32; planes++)
        for (size_t a = 0; a < sizeof starts / sizeof *starts; a++)
            for (size_t b = 0; b < sizeof counts / sizeof *counts; b++) {
                const uint64_t q = ((random_u64() >> 32 | 1) << (32 - planes)) & 0xFFFFFFFFu;
                const fd_law law = {random_u64(), random_u64(), q};
                memset(got, 0xCD, sizeof got);
                fd_kernels_in_use()->blocks(&law, starts[a], counts[b], got, NULL);
                for (size_t i = 0; i < counts[b]; i++) {
                    fd_one_block(&law, starts[a] + i, want);
                    CHECK(memcmp(want, got + i * FD_BLOCK_WORDS, sizeof want) == 0,
                          "%u planes, block %zu of %zu from %llu", planes, i, counts[b], (unsigned long long)starts[a]);
                }
                CHECK(got[counts[b] * FD_BLOCK_WORDS] == 0xCDCDCDCDCDCDCDCDu, "overrun");
            }
}

static void test_runs(void) {
    enum { MOST = 700 };
    static uint64_t bits[FD_BITS_BUFFER(MOST + 64) + 1];
    static char x[MOST * 8 + 16], room[MOST * 8 + 96], one[8];
    for (int d = 0; d < FD_NDTYPES; d++)
        for (int trial = 0; trial < 300; trial++) {
            const size_t n = (size_t)random_below(MOST), off = (size_t)random_below(64), item = (size_t)items[d];
            const size_t shift = (size_t)random_below(16);
            for (size_t i = 0; i < sizeof bits / 8; i++) bits[i] = random_u64();
            random_values((fd_dtype)d, x, n);
            memset(room, 0xCD, sizeof room);
            char *y = room + 32 + shift;
            fd_run_fn *stream = fd_kernels_in_use()->stream[d];
            const fd_args args = {.scale = 1.0 / 0.7};
            if (stream != NULL && trial % 2)
                stream(bits, off, n, x, y, &args);
            else
                fd_kernels_in_use()->apply[d](bits, off, n, x, y, &args);
            for (size_t i = 0; i < n; i++) {
                scale_one((fd_dtype)d, x + i * item, one, (int)(bits[(off + i) / 64] >> (off + i) % 64 & 1), 1.0 / 0.7);
                CHECK(memcmp(one, y + i * item, item) == 0, "dtype %d n=%zu off=%zu element %zu", d, n, off, i);
            }
            for (size_t i = 0; i < 32; i++)
                CHECK(room[i + shift] == (char)0xCD && y[n * item + i] == (char)0xCD, "dtype %d overrun", d);
            unsigned char bools[MOST + 8];
            memset(bools, 0xCD, sizeof bools);
            fd_kernels_in_use()->bools(bits, off, n, NULL, bools, NULL);
            for (size_t i = 0; i < n; i++)
                CHECK(bools[i] == (bits[(off + i) / 64] >> (off + i) % 64 & 1), "bools n=%zu off=%zu %zu", n, off, i);
            CHECK(bools[n] == 0xCD, "bools overrun");
        }
}

/* Runs of several chunks, each applied while the next one's bits are made, at every alignment of y's lines, with plain
 * and with streaming stores; and channels first and last, whose bits are reused. */
static void test_chunks(void) {
    enum { MOST = 70000 };
    static char x[MOST * 8], room[MOST * 8 + 192], want[MOST * 8];
    static unsigned char kept[MOST];
    static const double ps[] = {0.5, 0.25, 0.1, 1.0 / 32};
    for (int trial = 0; trial < 96; trial++) {
        const fd_dtype d = (fd_dtype)(trial % FD_NDTYPES);
        const int64_t item = items[d], shift = random_below(trial % 5 ? 64 / item : 64) * (trial % 5 ? item : 1);
        const int64_t channels = 1 + random_below(trial % 7 ? 70 : 700), n = random_below(MOST) / channels * channels;
        const int64_t flat[1] = {n}, one[1] = {1}, steps[1] = {item};
        const int64_t last[2] = {n / channels, channels}, still_out[2] = {0, 1}, still_in[2] = {1, 0};
        const int64_t steps2[2] = {channels * item, item};
        const int64_t *m = trial / 4 % 3 == 0 ? one : trial / 4 % 3 == 1 ? still_out : still_in;
        const fd_law law = {random_u64(), random_u64(), fd_threshold(ps[trial / 4 % 4])};
        const fd_view mask = {law, (uint64_t)random_below(300), m == one ? 1 : 2, m == one ? flat : last, m};
        char *y = room + 64 + shift;
        random_values(d, x, (size_t)n);
        memset(room, 0xCD, sizeof room);
        fd_mask_bools(&mask, kept);
        for (int64_t i = 0; i < n; i++) scale_one(d, x + i * item, want + i * item, kept[i], 1.25);
        for (int64_t i = 0; i < n; i += 997) {
            const int64_t bit = m == one ? i : m == still_out ? i % channels : i / channels;
            CHECK(kept[i] == keep(&law, mask.start + (uint64_t)bit), "trial %d bool %lld", trial, (long long)i);
        }
        fd_set_stream_bytes(trial / 48 ? 1 : 0);
        fd_mask_apply(&mask, d, 1.25, x, m == one ? steps : steps2, y, m == one ? steps : steps2);
        fd_set_stream_bytes(0);
        CHECK(memcmp(y, want, (size_t)(n * item)) == 0, "trial %d n=%lld values", trial, (long long)n);
        for (int i = 1; i <= 64; i++)
            CHECK(y[-i] == (char)0xCD && y[n * item + i - 1] == (char)0xCD, "trial %d overrun", trial);
    }
}

/* A scale that is NaN, with every bit set below the exponent: what is kept is NaN, the same one for all numbers. */
static void test_nan_scale(void) {
    enum { N = 100 };
    static char x[N * 8], y[N * 8], plain[8];
    const fd_law law = {random_u64(), random_u64(), FD_KEEP_ALL};
    const int64_t n = N, step = 1;
    const fd_view mask = {law, 0, 1, &n, &step};
    const uint64_t all = ~(uint64_t)0 >> 1, usual = (uint64_t)0x7FF8 << 48;
    double scale, nan;
    memcpy(&scale, &all, 8), memcpy(&nan, &usual, 8);
    for (int d = 0; d < FD_NDTYPES; d++)
        for (int stream = 0; stream < 2; stream++) {
            const int64_t item = items[d];
            random_values((fd_dtype)d, x, N);
            fd_set_stream_bytes(stream);
            fd_mask_apply(&mask, (fd_dtype)d, scale, x, &item, y, &item);
            fd_set_stream_bytes(0);
            scale_one((fd_dtype)d, x, plain, 1, nan);
            for (int64_t i = 0; i < N; i++)
                CHECK(memcmp(y + i * item, plain, (size_t)item) == 0, "dtype %d element %d", d, (int)i);
        }
}

/* The caller's rounding mode holds for every thread's share. */
static void test_rounding_mode(void) {
#ifdef FE_UPWARD
    enum { N = 1 << 19 };
    static float x[N], one[N], many[N];
    const fd_law law = {random_u64(), random_u64(), FD_KEEP_ALL};
    const int64_t n = N, step = 1, item = 4;
    const fd_view mask = {law, 0, 1, &n, &step};
    const int threads = fd_get_num_threads();
    random_values(FD_F32, (char *)x, N);
    fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, many, &item); /* the workers start, and round as usual */
    fesetround(FE_UPWARD);
    for (int trial = 0; trial < 3; trial++) {
        fd_set_num_threads(threads);
        fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, many, &item);
        fd_set_num_threads(1);
        fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, one, &item);
        CHECK(memcmp(one, many, sizeof one) == 0, "%d threads", threads);
    }
    fesetround(FE_TONEAREST);
    fd_set_num_threads(threads);
#endif
}

#if !defined(_WIN32)
/* Somebody else's threads: what fastdrop is lent does all of the work, under the caller's rounding, and keeps its own. */
enum { TEAM = 3 };
static int team_calls, rounding_after[TEAM];

typedef struct {
    void (*fn)(void *);
    void *data;
    int *rounding;
} member;

static void *run_member(void *argument) {
    const member *m = argument;
    fesetround(FE_DOWNWARD);
    m->fn(m->data);
    *m->rounding = fegetround();
    return NULL;
}

static void run_team(void (*fn)(void *), void *data, unsigned threads, unsigned flags) {
    pthread_t others[TEAM];
    member members[TEAM];
    (void)flags;
    team_calls++;
    CHECK(threads > 1 && threads <= TEAM, "%d threads", (int)threads);
    for (unsigned i = 0; i < threads; i++) {
        members[i] = (member){fn, data, &rounding_after[i]};
        pthread_create(&others[i], NULL, run_member, &members[i]);
    }
    for (unsigned i = 0; i < threads; i++) pthread_join(others[i], NULL);
}

static void test_team(void) {
    enum { N = 1 << 19 };
    static float x[N], one[N], many[N];
    const fd_law law = {random_u64(), random_u64(), FD_KEEP_ALL / 3};
    const int64_t n = N, step = 1, item = 4;
    const fd_view mask = {law, 0, 1, &n, &step};
    const int threads = fd_get_num_threads();
    random_values(FD_F32, (char *)x, N);
    fd_set_team(run_team);
    fd_set_num_threads(1);
    fesetround(FE_UPWARD);
    fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, one, &item); /* asks for nobody */
    fd_ask_threads(1);
    fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, one, &item);
    CHECK(team_calls == 0, "%d calls", team_calls);
    memset(many, 255, sizeof many);
    fd_ask_threads(TEAM);
    fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, many, &item);
    fesetround(FE_TONEAREST);
    CHECK(team_calls == 1 && memcmp(one, many, sizeof one) == 0, "%d calls", team_calls);
    for (int i = 0; i < TEAM; i++) CHECK(rounding_after[i] == FE_DOWNWARD, "thread %d: %d", i, rounding_after[i]);
    fd_set_team(NULL); /* our own again, as many as were asked for */
    memset(many, 255, sizeof many);
    fd_mask_apply(&mask, FD_F32, 1.0 / 0.7, x, &item, many, &item);
    CHECK(team_calls == 1, "%d calls", team_calls);
    fd_ask_threads(0);
    fd_set_num_threads(threads);
    team_calls = 0;
}
#endif

/* Strides so large that a step past the end of an axis leaves int64: nothing overflows, and the bits are right. */
static void test_huge_strides(void) {
    static const int64_t shape[3] = {2, 2, 2}, m[3] = {0, (int64_t)1 << 62, ((int64_t)1 << 62) - 1};
    const fd_view mask = {{random_u64(), random_u64(), fd_threshold(0.3)}, 0, 3, shape, m};
    unsigned char bools[8];
    fd_mask_bools(&mask, bools);
    for (int64_t i = 0; i < 8; i++)
        CHECK(bools[i] == keep(&mask.law, (uint64_t)((i >> 1 & 1) * m[1] + (i & 1) * m[2])), "element %d", (int)i);
    const int64_t blocks[3] = {5, 6, 300};
    unsigned char kept[5 * 6 * 300];
    CHECK(fd_block_bools(&mask, blocks, kept) == 0, "blocks");
    CHECK(kept[0] == bools[0] && kept[5 * 6 * 300 - 1] == bools[7], "blocks' corners");
}

/* Inputs and outputs that end at a guard page, or begin at one, through the public call: no kernel reads or writes outside
 * of its n elements. Plain and streaming stores, forwards and backwards. */
static void test_guard_pages(void) {
    enum { MOST = 17000 };
    static char *x_end, *y_end, *x_begin, *y_begin;
    static const int64_t chunks[] = {2047, 2048, 2049, 16255, 16383, 16384, 16385, MOST};
    const fd_law law = {random_u64(), random_u64(), fd_threshold(0.4)};
    if (x_end == NULL) x_end = guarded_end(MOST * 8), y_end = guarded_end(MOST * 8);
    if (x_begin == NULL) x_begin = guarded_begin(MOST * 8), y_begin = guarded_begin(MOST * 8);
    for (int turn = 0; turn < 4 * FD_NDTYPES; turn++)
        for (int64_t k = 0; k < 308; k++) {
            const fd_dtype d = (fd_dtype)(turn % FD_NDTYPES);
            const int front = turn / FD_NDTYPES % 2;
            const int64_t n = k < 300 ? k : chunks[k - 300], item = items[d], step = 1, back = -item;
            char *x = front ? x_begin : x_end - n * item, *y = front ? y_begin : y_end - n * item;
            const fd_view mask = {law, 13, 1, &n, &step};
            random_values(d, x, (size_t)n);
            fd_set_stream_bytes(turn / FD_NDTYPES / 2);
            fd_mask_apply(&mask, d, 1.5, x, &item, y, &item);
            if (n) fd_mask_apply(&mask, d, 1.5, x + (n - 1) * item, &back, y + (n - 1) * item, &back);
            const fd_op op = {.code = (fd_opcode)(n % FD_NOPS), .activation = FD_RELU, .scale = 1.5};
            fd_mask_fused(&mask, d, &op, x, &item, x, &item, y, &item);
            fd_noise_apply(&mask, d, FD_NOISE_PLUS, 0.1, x, &item, y, &item);
            fd_set_stream_bytes(0);
            fd_mask_bools(&mask, front ? y : y_end - n);
            fd_mask_pack(&mask, front ? y : y_end - (n + 7) / 8);
        }
}

/* Random shapes, permutations, steps and broadcasts, against a loop over the elements. */
static void test_views(void) {
    static const int64_t dims[] = {1, 2, 3, 7, 64, 130, 600};
    for (int trial = 0; trial < 150; trial++) {
        const fd_dtype d = (fd_dtype)random_below(FD_NDTYPES);
        const int64_t item = items[d];
        int64_t shape[4], m[4], xs[4], ys[4], n = 1, m_step = 1, x_room = item, y_room = item;
        int nd = (int)random_below(4) + 1, order[4] = {0, 1, 2, 3};
        for (int i = 0; i < nd; i++) {
            do shape[i] = dims[random_below(7)];
            while (n * shape[i] > 60000);
            n *= shape[i];
        }
        uint64_t start = (uint64_t)random_below(300);
        int64_t x_at = 0, y_at = 0;
        for (int axes = 0; axes < 3; axes++) { /* an order and steps of its own for the mask, x and y */
            for (int i = nd - 1; i > 0; i--) {
                const int k = (int)random_below(i + 1), swap = order[i];
                order[i] = order[k], order[k] = swap;
            }
            for (int i = nd - 1; i >= 0; i--) {
                const int a = order[i];
                const int64_t gap = random_below(4) ? 1 : 2, sign = random_below(5) ? 1 : -1;
                int64_t *room = axes == 0 ? &m_step : axes == 1 ? &x_room : &y_room;
                int64_t *stride = axes == 0 ? m : axes == 1 ? xs : ys;
                const int still = axes == 0 && random_below(4) == 0;
                stride[a] = still ? 0 : *room * gap * sign;
                const int64_t back = sign < 0 && !still ? (shape[a] - 1) * *room * gap : 0;
                if (axes == 0)
                    start += (uint64_t)back;
                else
                    *(axes == 1 ? &x_at : &y_at) += back;
                if (!still) *room *= gap * shape[a];
            }
        }
        char *x = malloc((size_t)x_room), *y = malloc((size_t)y_room), *want = malloc((size_t)y_room);
        unsigned char *bools = malloc((size_t)n), *packed = malloc((size_t)(n + 7) / 8);
        random_values(d, x, (size_t)(x_room / item));
        memset(y, 0xCD, (size_t)y_room), memset(want, 0xCD, (size_t)y_room);
        const fd_view mask = {{random_u64(), random_u64(), fd_threshold(0.3)}, start, nd, shape, m};
        fd_mask_bools(&mask, bools);
        fd_mask_pack(&mask, packed);
        fd_mask_apply(&mask, d, 1.25, x + x_at, xs, y + y_at, ys);
        for (int64_t i = 0; i < n; i++) {
            int64_t rest = i, bit = (int64_t)start, xo = x_at, yo = y_at;
            for (int a = nd - 1; a >= 0; a--) {
                const int64_t k = rest % shape[a];
                rest /= shape[a], bit += k * m[a], xo += k * xs[a], yo += k * ys[a];
            }
            const int kept = trial % 10 == 0 ? keep(&mask.law, (uint64_t)bit) : bools[i];
            CHECK(bools[i] == kept, "trial %d bool %lld", trial, (long long)i);
            CHECK(bit_of(packed, (uint64_t)i) == kept, "trial %d packed %lld", trial, (long long)i);
            scale_one(d, x + xo, want + yo, kept, 1.25);
        }
        CHECK(memcmp(y, want, (size_t)y_room) == 0, "trial %d values", trial);
        free(x), free(y), free(want), free(bools), free(packed);
    }
}

int main(int argc, char **argv) {
    int usable;
    if (argc > 1) vectors = argv[1];
    for (int k = 0; (isa = fd_isa_name(k, &usable)) != NULL; k++) {
        if (!usable) {
            printf("skipped %s: not on this machine\n", isa);
            continue;
        }
        fd_set_isa(isa);
        CHECK(strcmp(fd_isa(), isa) == 0, "forced %s, but %s runs", isa, fd_isa());
        for (int threads = 1; threads <= 3; threads += 2) {
            fd_set_num_threads(threads);
            random_state = 88172645463325252u;
            test_known();
            test_bits();
            test_blocks();
            test_chunks();
            test_fused();
            test_nan_scale();
            test_rounding_mode();
#if !defined(_WIN32)
            test_team();
#endif
            test_runs();
            test_views();
            test_guard_pages();
            test_many();
            test_drop_blocks();
            test_dropconnect();
            test_huge_strides();
            test_layers();
            test_noise();
            test_softmax();
        }
        printf("ran %s\n", isa);
    }
    isa = "any";
    test_watch();
    CHECK(fd_set_isa("sse9") == -1, "an unknown name is refused");
    printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
    return failures != 0;
}
