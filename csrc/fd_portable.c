/* Every kernel in plain C11, for any little-endian machine: one block of the law at a time, one element at a time. */
#include "fd_impl.h"
#include "fd_philox.h"
#include "fd_scalar.h"

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

#include "fd_planes.h"

/* Eight bits become eight bytes: the multiply puts copy k of the byte at bits 8k.., the mask keeps bit k of copy k, and
 * the addition carries any set bit to the byte's top. */
void fd_bools_portable(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    unsigned char *out = y;
    size_t i = 0;
    (void)x, (void)scale;
    for (; i + 8 <= n; i += 8) {
        uint64_t spread = (fd_bits57(bits, off + i) & 0xFF) * 0x0101010101010101u & 0x8040201008040201u;
        spread = (spread + 0x00406070787C7E7Fu) >> 7 & 0x0101010101010101u;
        memcpy(out + i, &spread, 8);
    }
    for (; i < n; i++) out[i] = fd_bits57(bits, off + i) & 1;
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    scalar_f32(bits, off, 0, n, x, y, (float)scale);
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    scalar_f64(bits, off, 0, n, x, y, scale);
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    scalar_f16(bits, off, 0, n, x, y, (float)scale);
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    scalar_bf16(bits, off, 0, n, x, y, (float)scale);
}

const fd_kernels fd_kernels_portable = {
    "portable",
    blocks,
    fd_bools_portable,
    {[FD_F32] = apply_f32, [FD_F64] = apply_f64, [FD_F16] = apply_f16, [FD_BF16] = apply_bf16},
    {NULL},
    NULL,
};
