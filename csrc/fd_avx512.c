/* AVX-512 (F, BW, VL, DQ): eight blocks of the law at a time; a lane mask is 16 (or 8) of its bits as they lie. */
#include "fd_impl.h"

#ifdef FD_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c,bmi2"))), \
                             apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,f16c,bmi2")
#endif
#include <immintrin.h>

#include "fd_philox.h"

typedef __m512i vec;
#define LANES 8
#define CHAINS 4

static inline vec v_set1(uint64_t a) { return _mm512_set1_epi64((long long)a); }
static inline vec v_iota(uint64_t b) { return _mm512_add_epi64(v_set1(b), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)); }
static inline vec v_load(const uint64_t *p) { return _mm512_loadu_si512(p); }
static inline void v_store(uint64_t *p, vec a) { _mm512_storeu_si512(p, a); }
static inline vec v_add(vec a, vec b) { return _mm512_add_epi64(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_epu32(a, b); }
static inline vec v_shr32(vec a) { return _mm512_srli_epi64(a, 32); }
static inline vec v_xor(vec a, vec b) { return _mm512_xor_si512(a, b); }
static inline vec v_xor3(vec a, vec b, vec c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
static inline vec v_and(vec a, vec b) { return _mm512_and_si512(a, b); }
static inline vec v_andnot(vec a, vec b) { return _mm512_andnot_si512(a, b); }
static inline vec v_or(vec a, vec b) { return _mm512_or_si512(a, b); }
static inline vec v_not(vec a) { return _mm512_ternarylogic_epi64(a, a, a, 0x55); }
static inline unsigned v_nonzero(vec a) { return _mm512_test_epi64_mask(a, a); }
static inline vec v_compress(vec a, unsigned lanes) { return _mm512_maskz_compress_epi64((__mmask8)lanes, a); }
static inline vec v_pack(vec lo, vec hi) {
    /* Odd 32-bit lanes of lo are replaced by the even lanes of hi. */
    return _mm512_mask_shuffle_epi32(lo, 0xAAAA, hi, (_MM_PERM_ENUM)0xA0);
}
static inline void v_zip(uint64_t *out, vec a, vec b) {
    const vec first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
              second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(a, first, b));
    _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi64(a, second, b));
}

#include "fd_planes.h"

static inline __mmask16 lanes16(size_t n) { return (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1); }

/* Masked stores are for the tails alone: some cores (Zen) take many times as long over one as over a plain store. */

static void bools(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    unsigned char *out = y;
    size_t i = 0;
    (void)x, (void)scale;
    for (; i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_maskz_set1_epi8((__mmask32)fd_bits57(bits, off + i), 1));
    const __mmask32 here = (1u << (n - i)) - 1;
    if (here) _mm256_mask_storeu_epi8(out + i, here, _mm256_maskz_set1_epi8((__mmask32)fd_bits57(bits, off + i), 1));
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const float *in = x;
    float *out = y;
    const __m512 s = _mm512_set1_ps((float)scale);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const uint64_t m = fd_bits57(bits, off + i), m2 = fd_bits57(bits, off + i + 32);
        const __m512 v0 = _mm512_loadu_ps(in + i), v1 = _mm512_loadu_ps(in + i + 16);
        const __m512 v2 = _mm512_loadu_ps(in + i + 32), v3 = _mm512_loadu_ps(in + i + 48);
        _mm512_storeu_ps(out + i, _mm512_maskz_mul_ps((__mmask16)m, v0, s));
        _mm512_storeu_ps(out + i + 16, _mm512_maskz_mul_ps((__mmask16)(m >> 16), v1, s));
        _mm512_storeu_ps(out + i + 32, _mm512_maskz_mul_ps((__mmask16)m2, v2, s));
        _mm512_storeu_ps(out + i + 48, _mm512_maskz_mul_ps((__mmask16)(m2 >> 16), v3, s));
    }
    for (; i < n; i += 16) {
        const __mmask16 here = lanes16(n - i), keep_m16 = (__mmask16)fd_bits57(bits, off + i);
        const __m512 v = _mm512_maskz_loadu_ps(here, in + i);
        _mm512_mask_storeu_ps(out + i, here, _mm512_maskz_mul_ps(keep_m16, v, s));
    }
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const double *in = x;
    double *out = y;
    const __m512d s = _mm512_set1_pd(scale);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        const __m512d v0 = _mm512_loadu_pd(in + i), v1 = _mm512_loadu_pd(in + i + 8);
        const __m512d v2 = _mm512_loadu_pd(in + i + 16), v3 = _mm512_loadu_pd(in + i + 24);
        _mm512_storeu_pd(out + i, _mm512_maskz_mul_pd((__mmask8)m, v0, s));
        _mm512_storeu_pd(out + i + 8, _mm512_maskz_mul_pd((__mmask8)(m >> 8), v1, s));
        _mm512_storeu_pd(out + i + 16, _mm512_maskz_mul_pd((__mmask8)(m >> 16), v2, s));
        _mm512_storeu_pd(out + i + 24, _mm512_maskz_mul_pd((__mmask8)(m >> 24), v3, s));
    }
    for (; i < n; i += 8) {
        const __mmask8 here = (__mmask8)lanes16(n - i), keep_m8 = (__mmask8)fd_bits57(bits, off + i);
        const __m512d v = _mm512_maskz_loadu_pd(here, in + i);
        _mm512_mask_storeu_pd(out + i, here, _mm512_maskz_mul_pd(keep_m8, v, s));
    }
}

/* 16 half-precision elements, widened, scaled and rounded once. */
static inline __m256i scaled_f16(__m256i v, __m512 s) {
    return _mm512_cvtps_ph(_mm512_mul_ps(_mm512_cvtph_ps(v), s), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __m256i scaled_bf16(__m256i v, __m512 s) {
    const __m512 f = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)), s);
    const __m512i u = _mm512_castps_si512(f), top = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(u, bias), 16);
    const __mmask16 nan_m16 = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan_m16, top, _mm512_set1_epi32(0x40)));
}

/* The half types differ in how 16 elements are scaled; the compiler puts the constant `scaled` inline. */
typedef __m256i scale_fn(__m256i v, __m512 s);

static inline void apply_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t n, const uint16_t *in,
                              uint16_t *out, __m512 s) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        const __m256i v0 = scaled(_mm256_loadu_si256((const __m256i *)(in + i)), s);
        const __m256i v1 = scaled(_mm256_loadu_si256((const __m256i *)(in + i + 16)), s);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_maskz_mov_epi16((__mmask16)m, v0));
        _mm256_storeu_si256((__m256i *)(out + i + 16), _mm256_maskz_mov_epi16((__mmask16)(m >> 16), v1));
    }
    for (; i < n; i += 16) {
        const __mmask16 here = lanes16(n - i), keep_m16 = (__mmask16)fd_bits57(bits, off + i);
        const __m256i v = scaled(_mm256_maskz_loadu_epi16(here, in + i), s);
        _mm256_mask_storeu_epi16(out + i, here, _mm256_maskz_mov_epi16(keep_m16, v));
    }
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    apply_half(scaled_f16, bits, off, n, x, y, _mm512_set1_ps((float)scale));
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    apply_half(scaled_bf16, bits, off, n, x, y, _mm512_set1_ps((float)scale));
}

/* ---- streaming: whole lines of y, the ragged ends by the kernels above ---- */

#define AHEAD 4096 /* bytes of x asked for early: a page, which is as far as the hardware looks by itself */

/* Elements before y's first 64-byte line; all of them where y's elements never meet one. */
static inline size_t before_line(const void *y, size_t item, size_t n) {
    const size_t past = (uintptr_t)y % 64, head = past ? (64 - past) / item : 0;
    return past % item || head > n ? n : head;
}

static void fence(void) { _mm_sfence(); }

static void stream_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const float *in = x;
    float *out = y;
    const __m512 s = _mm512_set1_ps((float)scale);
    size_t i = before_line(y, sizeof *out, n);
    apply_f32(bits, off, i, in, out, scale);
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        _mm_prefetch((const char *)(in + i) + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)(in + i + 16) + AHEAD, _MM_HINT_T0);
        const __m512 v0 = _mm512_loadu_ps(in + i), v1 = _mm512_loadu_ps(in + i + 16);
        _mm512_stream_ps(out + i, _mm512_maskz_mul_ps((__mmask16)m, v0, s));
        _mm512_stream_ps(out + i + 16, _mm512_maskz_mul_ps((__mmask16)(m >> 16), v1, s));
    }
    apply_f32(bits, off + i, n - i, in + i, out + i, scale);
}

static void stream_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    const double *in = x;
    double *out = y;
    const __m512d s = _mm512_set1_pd(scale);
    size_t i = before_line(y, sizeof *out, n);
    apply_f64(bits, off, i, in, out, scale);
    for (; i + 16 <= n; i += 16) {
        const uint64_t m = fd_bits57(bits, off + i);
        _mm_prefetch((const char *)(in + i) + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)(in + i + 8) + AHEAD, _MM_HINT_T0);
        const __m512d v0 = _mm512_loadu_pd(in + i), v1 = _mm512_loadu_pd(in + i + 8);
        _mm512_stream_pd(out + i, _mm512_maskz_mul_pd((__mmask8)m, v0, s));
        _mm512_stream_pd(out + i + 8, _mm512_maskz_mul_pd((__mmask8)(m >> 8), v1, s));
    }
    apply_f64(bits, off + i, n - i, in + i, out + i, scale);
}

static inline void stream_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t n, const uint16_t *in,
                               uint16_t *out, __m512 s) {
    size_t i = before_line(out, sizeof *out, n);
    apply_half(scaled, bits, off, i, in, out, s);
    for (; i + 32 <= n; i += 32) {
        _mm_prefetch((const char *)(in + i) + AHEAD, _MM_HINT_T0);
        const __m256i v0 = scaled(_mm256_loadu_si256((const __m256i *)(in + i)), s);
        const __m256i v1 = scaled(_mm256_loadu_si256((const __m256i *)(in + i + 16)), s);
        const __m512i line = _mm512_inserti64x4(_mm512_castsi256_si512(v0), v1, 1);
        const __mmask32 keep_m32 = (__mmask32)fd_bits57(bits, off + i);
        _mm512_stream_si512((void *)(out + i), _mm512_maskz_mov_epi16(keep_m32, line));
    }
    apply_half(scaled, bits, off + i, n - i, in + i, out + i, s);
}

static void stream_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    stream_half(scaled_f16, bits, off, n, x, y, _mm512_set1_ps((float)scale));
}

static void stream_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, double scale) {
    stream_half(scaled_bf16, bits, off, n, x, y, _mm512_set1_ps((float)scale));
}

const fd_kernels fd_kernels_avx512 = {
    "avx512",
    blocks,
    bools,
    {[FD_F32] = apply_f32, [FD_F64] = apply_f64, [FD_F16] = apply_f16, [FD_BF16] = apply_bf16},
    {[FD_F32] = stream_f32, [FD_F64] = stream_f64, [FD_F16] = stream_f16, [FD_BF16] = stream_bf16},
    fence,
};

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int fd_avx512_is_for_x86; /* ISO C wants something in a translation unit */
#endif
