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

#include "fd_fused.h"
#include "fd_philox.h"
#include "fd_scalar.h"

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
static inline vec v_last(vec p, vec c, vec k) {
    return _mm512_mask_ternarylogic_epi32(_mm512_shuffle_epi32(p, (_MM_PERM_ENUM)0xB1), 0x5555, c, k, 0x96);
}
static inline void v_zip(uint64_t *out, vec a, vec b) {
    const vec first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
              second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(a, first, b));
    _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi64(a, second, b));
}
static inline void v_sqrts(float *v, size_t n) {
    for (size_t i = 0; i < n; i += 16) _mm512_storeu_ps(v + i, _mm512_sqrt_ps(_mm512_loadu_ps(v + i)));
}

#include "fd_planes.h"
#include "fd_normal.h"

/* Lane masks: bits that lie in memory from byte `at` on are compared, all lanes at once, with the lane's own bit. `lane`
 * knows where in the byte the run starts, so that no bit is ever shifted; every piece of 8 or 16 elements starts at the
 * same bit of a byte as the run. A broadcast load and a test, where a shift and a move from an integer register to a
 * mask register took nearly twice as long in L1. */
static inline __m512i lanes_u32x16(size_t off) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_add_epi32(lane, _mm512_set1_epi32((int)(off & 7))));
}

static inline __mmask16 keep16(const char *at, __m512i lanes) {
    int32_t w;
    memcpy(&w, at, sizeof w);
    return _mm512_test_epi32_mask(lanes, _mm512_set1_epi32(w));
}

static inline __m512i lanes_u64x8(size_t off) {
    return _mm512_cvtepu32_epi64(_mm512_castsi512_si256(lanes_u32x16(off)));
}

static inline __mmask8 keep8(const char *at, __m512i lanes) {
    int64_t w;
    memcpy(&w, at, sizeof w);
    return _mm512_test_epi64_mask(lanes, _mm512_set1_epi64(w));
}

/* The first n of 16 lanes. Masked stores are for the tails alone: some cores (Zen) take many times as long over one as
 * over a plain store. */
static inline __mmask16 first16(size_t n) { return (__mmask16)(n >= 16 ? 0xFFFF : (1u << n) - 1); }

static void bools(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    unsigned char *out = y;
    size_t i = 0;
    (void)x, (void)args;
    for (; i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_maskz_set1_epi8((__mmask32)fd_bits57(bits, off + i), 1));
    const __mmask32 here = (1u << (n - i)) - 1;
    if (here) _mm256_mask_storeu_epi8(out + i, here, _mm256_maskz_set1_epi8((__mmask32)fd_bits57(bits, off + i), 1));
}

/* Streaming asks for x and stores y two lines at a time: with one or four it took 15 % longer or more. */
static inline void ahead(const void *x) { _mm_prefetch((const char *)x + FD_AHEAD, _MM_HINT_T0); }

static void fence(void) { _mm_sfence(); }

static void stream_zeros(const void *x, void *y, size_t bytes) {
    const char *in = x;
    char *out = y;
    size_t i = fd_before_line(y, 1, bytes);
    memset(out, 0, i);
    for (; i + 128 <= bytes; i += 128) {
        ahead(in + i), ahead(in + i + 64);
        _mm512_stream_si512((void *)(out + i), _mm512_setzero_si512());
        _mm512_stream_si512((void *)(out + i + 64), _mm512_setzero_si512());
    }
    memset(out + i, 0, bytes - i);
}

/* ---- float32 ---- */

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const float *in = x;
    float *out = y;
    const __m512 s = _mm512_set1_ps((float)args->scale);
    const __m512i lanes = lanes_u32x16(off);
    const char *at = (const char *)bits + off / 8;
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (size_t k = i; k < i + 64; k += 16)
            _mm512_storeu_ps(out + k, _mm512_maskz_mul_ps(keep16(at + k / 8, lanes), _mm512_loadu_ps(in + k), s));
    for (; i < n; i += 16) {
        const __mmask16 here = first16(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(here, in + i);
        _mm512_mask_storeu_ps(out + i, here, _mm512_maskz_mul_ps(keep16(at + i / 8, lanes), v, s));
    }
}

static void stream_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t lead = fd_before_line(y, sizeof(float), n);
    apply_f32(bits, off, lead, x, y, args);
    off += lead, n -= lead;
    const float *in = (const float *)x + lead;
    float *out = (float *)y + lead;
    const __m512 s = _mm512_set1_ps((float)args->scale);
    const __m512i lanes = lanes_u32x16(off);
    const char *at = (const char *)bits + off / 8;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        ahead(in + i), ahead(in + i + 16);
        const __m512 v0 = _mm512_loadu_ps(in + i), v1 = _mm512_loadu_ps(in + i + 16);
        _mm512_stream_ps(out + i, _mm512_maskz_mul_ps(keep16(at + i / 8, lanes), v0, s));
        _mm512_stream_ps(out + i + 16, _mm512_maskz_mul_ps(keep16(at + i / 8 + 2, lanes), v1, s));
    }
    for (; i + 16 <= n; i += 16)
        _mm512_stream_ps(out + i, _mm512_maskz_mul_ps(keep16(at + i / 8, lanes), _mm512_loadu_ps(in + i), s));
    apply_f32(bits, off + i, n - i, in + i, out + i, args);
}

/* ---- float64 ---- */

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const double *in = x;
    double *out = y;
    const __m512d s = _mm512_set1_pd(args->scale);
    const __m512i lanes = lanes_u64x8(off);
    const char *at = (const char *)bits + off / 8;
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = i; k < i + 32; k += 8)
            _mm512_storeu_pd(out + k, _mm512_maskz_mul_pd(keep8(at + k / 8, lanes), _mm512_loadu_pd(in + k), s));
    for (; i < n; i += 8) {
        const __mmask8 here = (__mmask8)first16(n - i);
        const __m512d v = _mm512_maskz_loadu_pd(here, in + i);
        _mm512_mask_storeu_pd(out + i, here, _mm512_maskz_mul_pd(keep8(at + i / 8, lanes), v, s));
    }
}

static void stream_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t lead = fd_before_line(y, sizeof(double), n);
    apply_f64(bits, off, lead, x, y, args);
    off += lead, n -= lead;
    const double *in = (const double *)x + lead;
    double *out = (double *)y + lead;
    const __m512d s = _mm512_set1_pd(args->scale);
    const __m512i lanes = lanes_u64x8(off);
    const char *at = (const char *)bits + off / 8;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        ahead(in + i), ahead(in + i + 8);
        const __m512d v0 = _mm512_loadu_pd(in + i), v1 = _mm512_loadu_pd(in + i + 8);
        _mm512_stream_pd(out + i, _mm512_maskz_mul_pd(keep8(at + i / 8, lanes), v0, s));
        _mm512_stream_pd(out + i + 8, _mm512_maskz_mul_pd(keep8(at + i / 8 + 1, lanes), v1, s));
    }
    for (; i + 8 <= n; i += 8)
        _mm512_stream_pd(out + i, _mm512_maskz_mul_pd(keep8(at + i / 8, lanes), _mm512_loadu_pd(in + i), s));
    apply_f64(bits, off + i, n - i, in + i, out + i, args);
}

#define TO_NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

/* ---- float16 and bfloat16: 32 elements are widened, scaled and rounded once, and zeroed as a whole ---- */

typedef __m512i scale_fn(__m512i v, __m512 s);

static inline __m512i scaled_f16(__m512i v, __m512 s) {
    const __m512 f0 = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(v)), s);
    const __m512 f1 = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1)), s);
    const __m256i h0 = _mm512_cvtps_ph(f0, TO_NEAREST);
    const __m256i h1 = _mm512_cvtps_ph(f1, TO_NEAREST);
    return _mm512_inserti64x4(_mm512_castsi256_si512(h0), h1, 1);
}

/* To the nearest bfloat16, ties to even, in the upper half. A NaN stays as it is: it comes from a bfloat16, made quiet by
 * the multiplication, so its lower half is 0 and nothing carries. */
static inline __m512i rounded_bf16(__m512 f) {
    const __m512i u = _mm512_castps_si512(f), up = _mm512_add_epi32(u, _mm512_set1_epi32(0x7FFF));
    const __mmask16 odd_m16 = _mm512_test_epi32_mask(u, _mm512_set1_epi32(0x10000));
    return _mm512_mask_add_epi32(up, odd_m16, up, _mm512_set1_epi32(1));
}

/* Elements are taken as they lie, two to a 32-bit lane: the odd ones are float32 but for the lower half, the even ones a
 * shift away. No lane changes places. */
static inline __m512i scaled_bf16(__m512i v, __m512 s) {
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    const __m512i even = rounded_bf16(_mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), s));
    const __m512i odd = rounded_bf16(_mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(v, upper)), s));
    return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(even, 16), odd);
}

static inline void apply_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t n, const uint16_t *in,
                              uint16_t *out, __m512 s) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __mmask32 keep_m32 = (__mmask32)fd_bits57(bits, off + i);
        _mm512_storeu_si512(out + i, _mm512_maskz_mov_epi16(keep_m32, scaled(_mm512_loadu_si512(in + i), s)));
    }
    const __mmask32 here = (1u << (n - i)) - 1;
    if (!here) return;
    const __mmask32 keep_m32 = (__mmask32)fd_bits57(bits, off + i);
    const __m512i v = scaled(_mm512_maskz_loadu_epi16(here, in + i), s);
    _mm512_mask_storeu_epi16(out + i, here, _mm512_maskz_mov_epi16(keep_m32, v));
}

static inline void stream_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t n, const uint16_t *in,
                               uint16_t *out, __m512 s) {
    size_t i = fd_before_line(out, sizeof *out, n);
    apply_half(scaled, bits, off, i, in, out, s);
    for (; i + 32 <= n; i += 32) {
        const __mmask32 keep_m32 = (__mmask32)fd_bits57(bits, off + i);
        ahead(in + i);
        const __m512i v = scaled(_mm512_loadu_si512(in + i), s);
        _mm512_stream_si512((void *)(out + i), _mm512_maskz_mov_epi16(keep_m32, v));
    }
    apply_half(scaled, bits, off + i, n - i, in + i, out + i, s);
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    apply_half(scaled_f16, bits, off, n, x, y, _mm512_set1_ps((float)args->scale));
}

static void stream_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    stream_half(scaled_f16, bits, off, n, x, y, _mm512_set1_ps((float)args->scale));
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    apply_half(scaled_bf16, bits, off, n, x, y, _mm512_set1_ps((float)args->scale));
}

static void stream_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    stream_half(scaled_bf16, bits, off, n, x, y, _mm512_set1_ps((float)args->scale));
}

/* ---- for the fused operations ---- */

static void widen_f16(const void *x, float *out, size_t n) {
    const uint16_t *in = x;
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 here = first16(n - i);
        _mm512_mask_storeu_ps(out + i, here, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(here, in + i)));
    }
}

static void narrow_f16(const float *x, void *out, size_t n) {
    uint16_t *to = out;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(x + i), TO_NEAREST));
    const __mmask16 here = first16(n - i);
    if (i < n) _mm256_mask_storeu_epi16(to + i, here, _mm512_cvtps_ph(_mm512_maskz_loadu_ps(here, x + i), TO_NEAREST));
}

static void put(const void *from, void *y, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64)
        _mm512_stream_si512((void *)((char *)y + i), _mm512_loadu_si512((const char *)from + i));
}

/* ---- DropConnect: rows of bits start at a byte, and lane masks are made from them as they lie ---- */

#define FD_CONNECT_ROWS 4
#define FD_CONNECT_COLUMNS 4
enum { LANES_f32 = 16, LANES_f64 = 8 };
typedef __m512 reals_f32;
typedef __m512d reals_f64;

static FD_INLINE __m512 none_f32(void) { return _mm512_setzero_ps(); }
static FD_INLINE __m512 all_f32(float a) { return _mm512_set1_ps(a); }
static FD_INLINE __m512 load_f32(const float *p) { return _mm512_loadu_ps(p); }
static FD_INLINE __m512 load_some_f32(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first16(n), p); }
static FD_INLINE void store_f32(float *p, __m512 v) { _mm512_storeu_ps(p, v); }
static FD_INLINE void store_some_f32(float *p, size_t n, __m512 v) { _mm512_mask_storeu_ps(p, first16(n), v); }
static FD_INLINE __m512 madd_f32(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
static FD_INLINE __m512 kept_madd_f32(const unsigned char *bits, size_t i, __m512 a, __m512 b, __m512 c) {
    return _mm512_mask3_fmadd_ps(a, b, c, keep16((const char *)bits + i / 8, lanes_u32x16(0)));
}
static FD_INLINE float lanes_sum_f32(__m512 v) { return _mm512_reduce_add_ps(v); }

static FD_INLINE __m512d none_f64(void) { return _mm512_setzero_pd(); }
static FD_INLINE __m512d all_f64(double a) { return _mm512_set1_pd(a); }
static FD_INLINE __m512d load_f64(const double *p) { return _mm512_loadu_pd(p); }
static FD_INLINE __m512d load_some_f64(const double *p, size_t n) {
    return _mm512_maskz_loadu_pd((__mmask8)first16(n), p);
}
static FD_INLINE void store_f64(double *p, __m512d v) { _mm512_storeu_pd(p, v); }
static FD_INLINE void store_some_f64(double *p, size_t n, __m512d v) {
    _mm512_mask_storeu_pd(p, (__mmask8)first16(n), v);
}
static FD_INLINE __m512d madd_f64(__m512d a, __m512d b, __m512d c) { return _mm512_fmadd_pd(a, b, c); }
static FD_INLINE __m512d kept_madd_f64(const unsigned char *bits, size_t i, __m512d a, __m512d b, __m512d c) {
    return _mm512_mask3_fmadd_pd(a, b, c, keep8((const char *)bits + i / 8, lanes_u64x8(0)));
}
static FD_INLINE double lanes_sum_f64(__m512d v) { return _mm512_reduce_add_pd(v); }

#define FD_REAL float
#define FD_NAME(name) name##_f32
#include "fd_connect.h"
#undef FD_REAL
#undef FD_NAME
#define FD_REAL double
#define FD_NAME(name) name##_f64
#include "fd_connect.h"
#undef FD_REAL
#undef FD_NAME

const fd_kernels fd_kernels_avx512 = {
    "avx512",
    1 << 18,
    blocks,
    bools,
    {[FD_F32] = apply_f32, [FD_F64] = apply_f64, [FD_F16] = apply_f16, [FD_BF16] = apply_bf16},
    {[FD_F32] = stream_f32, [FD_F64] = stream_f64, [FD_F16] = stream_f16, [FD_BF16] = stream_bf16},
    stream_zeros,
    fence,
    FD_FUSED_TABLE,
    {[FD_F16] = widen_f16, [FD_BF16] = widen_bf16},
    {[FD_F16] = narrow_f16, [FD_BF16] = narrow_bf16},
    put,
    normals,
    {noise_f32, noise_f64},
    FD_SOFTMAX_TABLE,
    FD_CONNECT_TABLE,
    &fd_layers_avx512,
};

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int fd_avx512_is_for_x86; /* ISO C wants something in a translation unit */
#endif
