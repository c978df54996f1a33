/* Normals and noise: agreement with the law written out in double, the very bits of the portable kernels, poisoned
 * surroundings, strided jobs against a plain loop. test_kernels.c runs this on every instruction set. */
#include "check.h"
#include "fd_philox.h"

#include <math.h>

static double uniform(const fd_law *law, uint64_t e) {
    const uint64_t b = e / FD_BLOCK_BITS, lane = e % FD_BLOCK_BITS;
    const uint32_t counter[4] = {(uint32_t)b, (uint32_t)(b >> 32) | (uint32_t)(32 + lane % 32) << 24,
                                 (uint32_t)law->call, (uint32_t)(law->call >> 32)};
    const uint32_t key[2] = {(uint32_t)law->key, (uint32_t)(law->key >> 32)};
    uint32_t words[4];
    fd_philox4x32(counter, key, words);
    return ((double)words[lane / 32] + 0.5) * 0x1p-32;
}

/* The law in double: what the recipe of floats comes near. */
static double normal(const fd_law *law, uint64_t e) {
    const double pi = 3.14159265358979323846;
    const int upper = e % FD_BLOCK_BITS >= 64;
    const uint64_t low = upper ? e - 64 : e;
    const double u = uniform(law, low), angle = 2 * pi * uniform(law, low + 64);
    return sqrt(-2 * (u < 0.5 ? log(u) : log1p(u - 1))) * (upper ? sin(angle) : cos(angle));
}

static void test_normals(void) {
    enum { MOST = 40 };
    static const size_t counts[] = {1, 2, 3, 7, 8, 9, 16, 17, MOST};
    static const uint64_t starts[] = {0, 12345, ((uint64_t)1 << 32) - 5, ((uint64_t)1 << 40) + 7,
                                      ((uint64_t)1 << 56) - MOST};
    static float got[MOST * FD_BLOCK_BITS + 16], want[MOST * FD_BLOCK_BITS];
    for (size_t a = 0; a < sizeof starts / sizeof *starts; a++) {
        const fd_law law = {random_u64(), random_u64(), 0};
        fd_kernels_portable.normals(&law, starts[a], MOST, want);
        for (uint64_t i = 0; i < MOST * FD_BLOCK_BITS; i++) {
            const double exact = normal(&law, starts[a] * FD_BLOCK_BITS + i);
            CHECK(fabs(want[i] - exact) <= 6e-7 * fabs(exact) + 1e-13, "block %llu normal %d: %.9g, not %.9g",
                  (unsigned long long)starts[a], (int)i, (double)want[i], exact);
        }
        for (size_t b = 0; b < sizeof counts / sizeof *counts; b++) {
            const size_t n = counts[b] * FD_BLOCK_BITS;
            memset(got, 0xCD, sizeof got);
            fd_kernels_in_use()->normals(&law, starts[a], counts[b], got);
            CHECK(memcmp(got, want, n * sizeof *got) == 0, "%zu blocks from %llu", counts[b],
                  (unsigned long long)starts[a]);
            for (size_t i = n; i < n + 16; i++) CHECK(bits_of_f32(got[i]) == 0xCDCDCDCDu, "overrun");
        }
    }
}

/* The bits that fastdrop/reference.py gives, on every processor: here a compiler shows that fuses operations. */
static void test_known_answer(void) {
    static float z[5000];
    const fd_law law = {42, 7, 0};
    const int64_t n = 5000, step = 1;
    const fd_view noise = {law, ((uint64_t)1 << 39) - 1000, 1, &n, &step};
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a, word by word */
    fd_normals(&noise, z);
    for (int i = 0; i < 5000; i++) hash = (hash ^ bits_of_f32(z[i])) * 0x100000001B3u;
    CHECK(hash == 0x991D963BEB35C258u, "hash %016llx", (unsigned long long)hash);
}

/* What a kernel should make of one element. Volatile, so that no compiler flag fuses a product and a sum here. */
static void noise_one(fd_dtype dtype, fd_noise_kind kind, float z, double sigma, const char *x, char *y) {
    uint16_t h;
    if (dtype == FD_F64) {
        double v;
        memcpy(&v, x, 8);
        const volatile double part = sigma * (double)z, factor = 1 + part;
        v = kind == FD_NOISE_TIMES ? v * factor : v + part;
        memcpy(y, &v, 8);
        return;
    }
    float v;
    memcpy(&h, x, 2);
    if (dtype == FD_F32) memcpy(&v, x, 4);
    if (dtype == FD_F16) v = f32_of_f16(h);
    if (dtype == FD_BF16) v = f32_of_bits((uint32_t)h << 16);
    const volatile float part = (float)sigma * z, factor = 1 + part;
    v = kind == FD_NOISE_TIMES ? v * factor : v + part;
    h = dtype == FD_F16 ? f16_of_f32(v) : bf16_of_f32(v);
    if (dtype == FD_F32)
        memcpy(y, &v, 4);
    else
        memcpy(y, &h, 2);
}

/* Contiguous, at all sizes and starts, ending at guard pages, in place or not. */
static void test_runs(void) {
    static char *x_end, *y_end;
    static float z[9000];
    static char want[9000 * 8];
    static const int64_t sizes[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 2047, 2048, 2049, 4500, 9000};
    static const uint64_t starts[] = {0, 1, 64, 127, 128, ((uint64_t)1 << 39) - 1000, ((uint64_t)1 << 63) - 9000};
    const int64_t step = 1;
    if (x_end == NULL) x_end = guarded_end(9000 * 8), y_end = guarded_end(9000 * 8);
    for (int trial = 0; trial < 15 * 7; trial++) {
        const int64_t n = sizes[trial % 15];
        const fd_view noise = {{random_u64(), random_u64(), 0}, starts[trial / 15], 1, &n, &step};
        fd_normals(&noise, (float *)(void *)(y_end - 4 * n));
        memcpy(z, y_end - 4 * n, (size_t)n * 4);
        for (int64_t i = 0; i < n; i += 97) {
            const double exact = normal(&noise.law, noise.start + (uint64_t)i);
            CHECK(fabs(z[i] - exact) <= 6e-7 * fabs(exact) + 1e-13, "n=%d normal %d", (int)n, (int)i);
        }
        for (int d = 0; d < FD_NDTYPES; d++)
            for (int kind = 0; kind < 2; kind++) {
                const int64_t item = items[d];
                char *x = x_end - n * item, *y = (trial + d) % 3 ? y_end - n * item : x;
                random_values((fd_dtype)d, x, (size_t)n);
                for (int64_t i = 0; i < n; i++)
                    noise_one((fd_dtype)d, (fd_noise_kind)kind, z[i], 0.3, x + i * item, want + i * item);
                fd_noise_apply(&noise, (fd_dtype)d, (fd_noise_kind)kind, 0.3, x, &item, y, &item);
                CHECK(memcmp(y, want, (size_t)(n * item)) == 0, "dtype %d kind %d n=%d", d, kind, (int)n);
            }
    }
}

/* Random shapes, permutations, steps, unaligned memory and broadcasts, against a loop over the elements. */
static void test_views(void) {
    static const int64_t dims[] = {1, 2, 3, 7, 64, 130, 600};
    for (int trial = 0; trial < 120; trial++) {
        const fd_dtype d = (fd_dtype)random_below(FD_NDTYPES);
        const fd_noise_kind kind = (fd_noise_kind)random_below(2);
        const int64_t item = items[d];
        int64_t shape[4], steps[3][4], room[3] = {1, item, item}, at[3] = {random_below(300), 0, 0}, n = 1;
        int order[4] = {0, 1, 2, 3};
        const int nd = (int)random_below(4) + 1;
        for (int i = 0; i < nd; i++) {
            do shape[i] = dims[random_below(7)];
            while (n * shape[i] > 60000);
            n *= shape[i];
        }
        for (int of = 0; of < 3; of++) { /* an order and steps of its own for the noise, x and y */
            for (int i = nd - 1; i > 0; i--) {
                const int k = (int)random_below(i + 1), swap = order[i];
                order[i] = order[k], order[k] = swap;
            }
            for (int i = nd - 1; i >= 0; i--) {
                const int a = order[i];
                const int64_t gap = random_below(4) ? 1 : 2, sign = random_below(5) ? 1 : -1;
                const int still = of == 0 && random_below(4) == 0;
                steps[of][a] = still ? 0 : room[of] * gap * sign;
                if (steps[of][a] < 0) at[of] -= (shape[a] - 1) * steps[of][a];
                if (!still) room[of] *= gap * shape[a];
            }
        }
        const int64_t shift = random_below(2);
        char *x = malloc((size_t)(room[1] + shift)), *y = malloc((size_t)(room[2] + shift));
        char *want = malloc((size_t)room[2]);
        float *z = malloc((size_t)n * sizeof *z), *flat = malloc((size_t)(room[0] + 300) * sizeof *flat);
        random_values(d, x, (size_t)(room[1] / item));
        memmove(x + shift, x, (size_t)room[1]);
        memset(y, 0xCD, (size_t)(room[2] + shift)), memset(want, 0xCD, (size_t)room[2]);
        const fd_view noise = {{random_u64(), random_u64(), 0}, (uint64_t)at[0], nd, shape, steps[0]};
        const int64_t all = room[0] + 300, one = 1;
        const fd_view sequence = {noise.law, 0, 1, &all, &one};
        fd_normals(&sequence, flat);
        fd_normals(&noise, z);
        fd_noise_apply(&noise, d, kind, 0.7, x + shift + at[1], steps[1], y + shift + at[2], steps[2]);
        for (int64_t i = 0; i < n; i++) {
            int64_t rest = i, e = at[0], xo = at[1], yo = at[2];
            for (int a = nd - 1; a >= 0; a--) {
                const int64_t k = rest % shape[a];
                rest /= shape[a], e += k * steps[0][a], xo += k * steps[1][a], yo += k * steps[2][a];
            }
            CHECK(memcmp(&z[i], &flat[e], sizeof *z) == 0, "trial %d normal %d", trial, (int)i);
            noise_one(d, kind, flat[e], 0.7, x + shift + xo, want + yo);
        }
        CHECK(memcmp(y + shift, want, (size_t)room[2]) == 0, "trial %d values", trial);
        free(x), free(y), free(want), free(z), free(flat);
    }
}

/* Whoever computes an element: many rows and one long one, over all threads and over one. */
static void test_threads(void) {
    enum { N = 1 << 18 };
    static float one[N], many[N];
    static const int64_t shapes[3][2] = {{1, N}, {N / 64, 64}, {512, N / 512}},
                         steps[3][2] = {{N, 1}, {64, 1}, {1, 512}};
    const int threads = fd_get_num_threads();
    for (int k = 0; k < 3; k++) {
        const fd_view noise = {{random_u64(), random_u64(), 0}, 77, 2, shapes[k], steps[k]};
        fd_normals(&noise, many);
        fd_set_num_threads(1);
        fd_normals(&noise, one);
        fd_set_num_threads(threads);
        CHECK(memcmp(one, many, sizeof one) == 0, "view %d", k);
    }
}

/* Strides so large that a step past the end of an axis leaves int64. */
static void test_huge_strides(void) {
    static const int64_t shape[3] = {2, 2, 2}, m[3] = {0, (int64_t)1 << 62, -(((int64_t)1 << 62) - 1)};
    const fd_view noise = {{random_u64(), random_u64(), 0}, (uint64_t)1 << 62, 3, shape, m};
    float z[8];
    fd_normals(&noise, z);
    for (int64_t i = 0; i < 8; i++) {
        const double exact = normal(&noise.law, noise.start + (uint64_t)((i >> 1 & 1) * m[1] + (i & 1) * m[2]));
        CHECK(fabs(z[i] - exact) <= 6e-7 * fabs(exact), "element %d", (int)i);
    }
}

void test_noise(void) {
    test_known_answer();
    test_normals();
    test_runs();
    test_views();
    test_threads();
    test_huge_strides();
}
