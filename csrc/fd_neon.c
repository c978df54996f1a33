/* NEON, which every 64-bit Arm has: two blocks of the law at a time. */
#include "fd_impl.h"

#ifdef FD_NEON
#include <arm_neon.h>

#include "fd_fused.h"
#include "fd_philox.h"

typedef uint64x2_t vec;
#define LANES 2
#define CHAINS 4

static inline vec v_set1(uint64_t a) { return vdupq_n_u64(a); }
static inline vec v_iota(uint64_t b) { return vcombine_u64(vcreate_u64(b), vcreate_u64(b + 1)); }
static inline vec v_load(const uint64_t *p) { return vld1q_u64(p); }
static inline void v_store(uint64_t *p, vec a) { vst1q_u64(p, a); }
static inline vec v_add(vec a, vec b) { return vaddq_u64(a, b); }
static inline vec v_mul(vec a, vec b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
static inline vec v_shr32(vec a) { return vshrq_n_u64(a, 32); }
static inline vec v_xor(vec a, vec b) { return veorq_u64(a, b); }
static inline vec v_xor3(vec a, vec b, vec c) { return veorq_u64(veorq_u64(b, c), a); }
static inline vec v_and(vec a, vec b) { return vandq_u64(a, b); }
static inline vec v_andnot(vec a, vec b) { return vbicq_u64(b, a); }
static inline vec v_or(vec a, vec b) { return vorrq_u64(a, b); }
static inline vec v_not(vec a) { return veorq_u64(a, vdupq_n_u64(~(uint64_t)0)); }
static inline unsigned v_nonzero(vec a) {
    return (vgetq_lane_u64(a, 0) != 0) | (unsigned)(vgetq_lane_u64(a, 1) != 0) << 1;
}
static inline vec v_compress(vec a, unsigned lanes) { return lanes == 2 ? vdupq_laneq_u64(a, 1) : a; }
static inline vec v_last(vec p, vec c, vec k) {
    const uint64x2_t low = vshrq_n_u64(vshlq_n_u64(veorq_u64(c, k), 32), 32);
    return veorq_u64(vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(p))), low);
}
static inline void v_zip(uint64_t *out, vec a, vec b) {
    vst1q_u64(out, vzip1q_u64(a, b));
    vst1q_u64(out + 2, vzip2q_u64(a, b));
}
static inline void v_sqrts(float *v, size_t n) {
    for (size_t i = 0; i < n; i += 4) vst1q_f32(v + i, vsqrtq_f32(vld1q_f32(v + i)));
}

#include "fd_planes.h"
#include "fd_normal.h"

/* Loads and stores go through bytes: no alignment is assumed. */
static inline uint32x4_t load_u32x4(const char *p) { return vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)p)); }
static inline void store_u32x4(char *p, uint32x4_t v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_u32(v)); }
static inline uint16x4_t load_u16x4(const char *p) { return vreinterpret_u16_u8(vld1_u8((const uint8_t *)p)); }
static inline void store_u16x4(char *p, uint16x4_t v) { vst1_u8((uint8_t *)p, vreinterpret_u8_u16(v)); }

/* Bits 0..3 as four 32-bit lanes of all ones or zeros. */
static inline uint32x4_t keep_u32x4(uint64_t m) {
    const uint32_t lane[4] = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32((uint32_t)m), vld1q_u32(lane));
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const char *in = x;
    char *out = y;
    const float32x4_t s = vdupq_n_f32((float)args->scale);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 16; k += 4) {
            const float32x4_t v = vmulq_f32(vreinterpretq_f32_u32(load_u32x4(in + 4 * (i + k))), s);
            store_u32x4(out + 4 * (i + k), vandq_u32(keep_u32x4(m >> k), vreinterpretq_u32_f32(v)));
        }
    }
    scalar_f32(bits, off, i, n, x, y, (float)args->scale);
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const char *in = x;
    char *out = y;
    const float64x2_t s = vdupq_n_f64(args->scale);
    const uint64_t lane[2] = {1, 2};
    const uint64x2_t lanes = vld1q_u64(lane);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 8; k += 2) {
            const uint64x2_t keep_m64x2 = vtstq_u64(vdupq_n_u64(m >> k), lanes);
            const float64x2_t v = vreinterpretq_f64_u32(load_u32x4(in + 8 * (i + k)));
            const uint64x2_t scaled = vreinterpretq_u64_f64(vmulq_f64(v, s));
            store_u32x4(out + 8 * (i + k), vreinterpretq_u32_u64(vandq_u64(keep_m64x2, scaled)));
        }
    }
    scalar_f64(bits, off, i, n, x, y, args->scale);
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const char *in = x;
    char *out = y;
    const float32x4_t s = vdupq_n_f32((float)args->scale);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16x4_t keep_m16x4 = vmovn_u32(keep_u32x4(fd_bits57(bits, off + i)));
        const float32x4_t f = vcvt_f32_f16(vreinterpret_f16_u16(load_u16x4(in + 2 * i)));
        const uint16x4_t h = vreinterpret_u16_f16(vcvt_f16_f32(vmulq_f32(f, s)));
        store_u16x4(out + 2 * i, vand_u16(keep_m16x4, h));
    }
    scalar_f16(bits, off, i, n, x, y, (float)args->scale);
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const char *in = x;
    char *out = y;
    const float32x4_t s = vdupq_n_f32((float)args->scale);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const uint16x4_t keep_m16x4 = vmovn_u32(keep_u32x4(fd_bits57(bits, off + i)));
        const float32x4_t f = vmulq_f32(vreinterpretq_f32_u32(vshll_n_u16(load_u16x4(in + 2 * i), 16)), s);
        const uint32x4_t u = vreinterpretq_u32_f32(f), top = vshrq_n_u32(u, 16);
        const uint32x4_t bias = vaddq_u32(vandq_u32(top, vdupq_n_u32(1)), vdupq_n_u32(0x7FFF));
        const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(u, bias), 16);
        const uint32x4_t number = vceqq_f32(f, f), quiet = vorrq_u32(top, vdupq_n_u32(0x40));
        store_u16x4(out + 2 * i, vand_u16(keep_m16x4, vmovn_u32(vbslq_u32(number, rounded, quiet))));
    }
    scalar_bf16(bits, off, i, n, x, y, (float)args->scale);
}

/* ---- for the fused operations ---- */

static void widen_f16(const void *x, float *out, size_t n) {
    const char *in = x;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(load_u16x4(in + 2 * i))));
    for (; i < n; i++) out[i] = f32_of_f16(u16_at(x, i));
}

static void narrow_f16(const float *x, void *out, size_t n) {
    char *to = out;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) store_u16x4(to + 2 * i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    for (; i < n; i++) put_u16(out, i, f16_of_f32(x[i]));
}

#include "fd_connect_plain.h"

const fd_kernels fd_kernels_neon = {
    "neon",
    1 << 16, /* not measured: no such machine here */
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
    &fd_layers_neon,
};
#else
typedef int fd_neon_is_for_arm; /* ISO C wants something in a translation unit */
#endif
