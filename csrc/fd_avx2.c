/* AVX2 (with F16C): four blocks of the law at a time; bits become lane masks by broadcast, and, compare. */
#include "fd_impl.h"

#ifdef FD_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,bmi2"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,f16c,bmi2")
#endif
#include <immintrin.h>

#include "fd_philox.h"
#include "fd_scalar.h"

typedef __m256i vec;
#define LANES 4
#define CHAINS 2

static inline vec v_set1(uint64_t a) { return _mm256_set1_epi64x((long long)a); }
static inline vec v_iota(uint64_t b) { return _mm256_add_epi64(v_set1(b), _mm256_setr_epi64x(0, 1, 2, 3)); }
static inline vec v_load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void v_store(uint64_t *p, vec a) { _mm256_storeu_si256((__m256i *)p, a); }
static inline vec v_add(vec a, vec b) { return _mm256_add_epi64(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_epu32(a, b); }
static inline vec v_shr32(vec a) { return _mm256_srli_epi64(a, 32); }
static inline vec v_xor(vec a, vec b) { return _mm256_xor_si256(a, b); }
static inline vec v_xor3(vec a, vec b, vec c) { return _mm256_xor_si256(_mm256_xor_si256(b, c), a); }
static inline vec v_and(vec a, vec b) { return _mm256_and_si256(a, b); }
static inline vec v_andnot(vec a, vec b) { return _mm256_andnot_si256(a, b); }
static inline vec v_or(vec a, vec b) { return _mm256_or_si256(a, b); }
static inline vec v_not(vec a) { return _mm256_xor_si256(a, _mm256_set1_epi64x(-1)); }
static inline unsigned v_nonzero(vec a) {
    const __m256i zero = _mm256_cmpeq_epi64(a, _mm256_setzero_si256());
    return 15 ^ (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(zero));
}
static inline vec v_compress(vec a, unsigned lanes) {
    /* For each set of lanes the 32-bit lanes they are made of, one per nibble, lowest first. */
    static const uint32_t from[16] = {0,          0x10,       0x32,         0x3210,     0x54,       0x5410,
                                      0x5432,     0x543210,   0x76,         0x7610,     0x7632,     0x763210,
                                      0x7654,     0x765410,   0x765432,     0x76543210};
    const __m256i nibble = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    return _mm256_permutevar8x32_epi32(a, _mm256_srlv_epi32(_mm256_set1_epi32((int)from[lanes]), nibble));
}
static inline vec v_last(vec p, vec c, vec k) {
    const __m256i low = _mm256_blend_epi32(_mm256_xor_si256(c, k), _mm256_setzero_si256(), 0xAA);
    return _mm256_xor_si256(_mm256_shuffle_epi32(p, 0xB1), low);
}
static inline void v_zip(uint64_t *out, vec a, vec b) {
    /* unpack works inside 128-bit halves: lo = a0 b0 a2 b2, hi = a1 b1 a3 b3 */
    const vec lo = _mm256_unpacklo_epi64(a, b), hi = _mm256_unpackhi_epi64(a, b);
    _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(lo, hi, 0x20));
    _mm256_storeu_si256((__m256i *)(out + 4), _mm256_permute2x128_si256(lo, hi, 0x31));
}

#include "fd_planes.h"

/* Bits 0..7 as eight 32-bit lanes of all ones or zeros; bits 0..3 as four 64-bit lanes; bits 0..7 as eight 16-bit. */
static inline __m256 keep_f32x8(uint64_t m) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)m), lane), lane));
}

static inline __m256d keep_f64x4(uint64_t m) {
    const __m256i lane = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)m), lane), lane));
}

static inline __m128i keep_u16x8(uint64_t m) {
    const __m128i lane = _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16((short)m), lane), lane);
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const float *in = x;
    float *out = y;
    const __m256 s = _mm256_set1_ps((float)scale);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 32; k += 8) {
            const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(in + i + k), s);
            _mm256_storeu_ps(out + i + k, _mm256_and_ps(keep_f32x8(m >> k), v));
        }
    }
    scalar_f32(bits, off, i, n, x, y, (float)scale);
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const double *in = x;
    double *out = y;
    const __m256d s = _mm256_set1_pd(scale);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 16; k += 4) {
            const __m256d v = _mm256_mul_pd(_mm256_loadu_pd(in + i + k), s);
            _mm256_storeu_pd(out + i + k, _mm256_and_pd(keep_f64x4(m >> k), v));
        }
    }
    scalar_f64(bits, off, i, n, x, y, scale);
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const uint16_t *in = x;
    uint16_t *out = y;
    const __m256 s = _mm256_set1_ps((float)scale);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 f = _mm256_mul_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))), s);
        const __m128i h = _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(out + i), _mm_and_si128(keep_u16x8(fd_bits57(bits, off + i)), h));
    }
    scalar_f16(bits, off, i, n, x, y, (float)scale);
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const uint16_t *in = x;
    uint16_t *out = y;
    const __m256 s = _mm256_set1_ps((float)scale);
    const __m256i one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7FFF), quiet = _mm256_set1_epi32(0x40);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(in + i))), 16);
        const __m256 f = _mm256_mul_ps(_mm256_castsi256_ps(wide), s);
        const __m256i u = _mm256_castps_si256(f), top = _mm256_srli_epi32(u, 16);
        const __m256i bias = _mm256_add_epi32(_mm256_and_si256(top, one), half);
        const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, bias), 16);
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(f, f, _CMP_UNORD_Q));
        const __m256i r = _mm256_blendv_epi8(rounded, _mm256_or_si256(top, quiet), nan);
        /* Every lane is below 2^16, so the saturating pack keeps it; lanes 0..3 and 4..7 meet in the low half. */
        const __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
        _mm_storeu_si128((__m128i *)(out + i), _mm_and_si128(keep_u16x8(fd_bits57(bits, off + i)), h));
    }
    scalar_bf16(bits, off, i, n, x, y, (float)scale);
}

const fd_kernels fd_kernels_avx2 = {
    "avx2",
    blocks,
    fd_bools_portable,
    {[FD_F32] = apply_f32, [FD_F64] = apply_f64, [FD_F16] = apply_f16, [FD_BF16] = apply_bf16},
    {NULL},
    NULL,
};

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int fd_avx2_is_for_x86; /* ISO C wants something in a translation unit */
#endif
