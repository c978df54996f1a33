/* Every kernel in plain C11, for any machine: one block of the law at a time, one element at a time. */
#include <math.h>

#include "fd_fused.h"
#include "fd_philox.h"

typedef uint64_t vec;
#define LANES 1
#define CHAINS 2

static inline vec v_set1(uint64_t a) { return a; }
static inline vec v_iota(uint64_t b) { return b; }
static inline vec v_load(const uint64_t *p) { return *p; }
static inline void v_store(uint64_t *p, vec a) { *p = a; }
static inline vec v_add(vec a, vec b) { return a + b; }
static inline vec v_mul(vec a, vec b) { return (uint64_t)(uint32_t)a * (uint32_t)b; }
static inline vec v_shr32(vec a) { return a >> 32; }
static inline vec v_xor(vec a, vec b) { return a ^ b; }
static inline vec v_xor3(vec a, vec b, vec c) { return a ^ b ^ c; }
static inline vec v_and(vec a, vec b) { return a & b; }
static inline vec v_andnot(vec a, vec b) { return ~a & b; }
static inline vec v_or(vec a, vec b) { return a | b; }
static inline vec v_not(vec a) { return ~a; }
static inline unsigned v_nonzero(vec a) { return a != 0; }
static inline vec v_compress(vec a, unsigned lanes) { return (void)lanes, a; }
static inline vec v_last(vec p, vec c, vec k) { return (p >> 32 | p << 32) ^ ((c ^ k) & 0xFFFFFFFFu); }
static inline void v_zip(uint64_t *out, vec a, vec b) { out[0] = a, out[1] = b; }
static inline void v_sqrts(float *v, size_t n) {
    for (size_t i = 0; i < n; i++) v[i] = sqrtf(v[i]);
}

#include "fd_planes.h"
#include "fd_normal.h"

/* Words of plane j, as the block's bits. */
static inline void one_plane(const fd_law *law, uint64_t block, uint32_t j, uint64_t bits[2]) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) | j << 24, (uint32_t)law->call,
                                 (uint32_t)(law->call >> 32)};
    const uint32_t key[2] = {(uint32_t)law->key, (uint32_t)(law->key >> 32)};
    uint32_t word[4];
    fd_philox4x32(counter, key, word);
    bits[0] = word[0] | (uint64_t)word[1] << 32, bits[1] = word[2] | (uint64_t)word[3] << 32;
}

void fd_one_block(const fd_law *law, uint64_t block, uint64_t *out) {
    verdict lo = {~(uint64_t)0, 0}, hi = lo;
    const uint32_t planes = fd_plane_count(law->q);
    for (uint32_t j = 0; j < planes && (lo.undecided | hi.undecided); j += 2) {
        uint64_t even[2], odd[2] = {0, 0}; /* two at a time: one alone is a string of waits */
        one_plane(law, block, j, even);
        if (j + 1 < planes) one_plane(law, block, j + 1, odd);
        const int q_even = law->q >> (31 - j) & 1, q_odd = j + 1 < planes && (law->q >> (30 - j) & 1);
        decide(&lo, even[0], q_even), decide(&lo, odd[0], q_odd);
        decide(&hi, even[1], q_even), decide(&hi, odd[1], q_odd);
    }
    out[0] = lo.kept, out[1] = hi.kept;
}

/* Eight bits become eight bytes: the multiply puts copy k of the byte at bits 8k.., the mask keeps bit k of copy k, and
 * the addition carries any set bit to the byte's top. */
void fd_bools_portable(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    unsigned char *out = y;
    size_t i = 0;
    (void)x, (void)args;
    for (; i + 8 <= n; i += 8) {
        uint64_t spread = (fd_bits57(bits, off + i) & 0xFF) * 0x0101010101010101u & 0x8040201008040201u;
        spread = (spread + 0x00406070787C7E7Fu) >> 7 & 0x0101010101010101u;
        fd_put_bytes(out + i, &spread, 8);
    }
    for (; i < n; i++) out[i] = fd_bits57(bits, off + i) & 1;
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    scalar_f32(bits, off, 0, n, x, y, (float)args->scale);
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    scalar_f64(bits, off, 0, n, x, y, args->scale);
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    scalar_f16(bits, off, 0, n, x, y, (float)args->scale);
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    scalar_bf16(bits, off, 0, n, x, y, (float)args->scale);
}

static void widen_f16(const void *x, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = f32_of_f16(u16_at(x, i));
}

static void narrow_f16(const float *x, void *out, size_t n) {
    for (size_t i = 0; i < n; i++) put_u16(out, i, f16_of_f32(x[i]));
}

#include "fd_connect_plain.h"

const fd_kernels fd_kernels_portable = {
    "portable",
    1 << 15,
    blocks,
    fd_bools_portable,
    {[FD_F32] = apply_f32, [FD_F64] = apply_f64, [FD_F16] = apply_f16, [FD_BF16] = apply_bf16},
    {NULL},
    NULL,
    NULL,
    FD_FUSED_TABLE,
    {[FD_F16] = widen_f16, [FD_BF16] = widen_bf16},
    {[FD_F16] = narrow_f16, [FD_BF16] = narrow_bf16},
    NULL,
    normals,
    {noise_f32, noise_f64},
    FD_SOFTMAX_TABLE,
    FD_CONNECT_TABLE,
    &fd_layers_portable,
};
