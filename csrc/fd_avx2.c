/* AVX2 (with F16C): four blocks of the law at a time; bits become lane masks by broadcast, and, compare. */
#include "fd_impl.h"

#ifdef FD_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c,bmi2"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,f16c,bmi2")
#endif
#include <immintrin.h>

#include "fd_fused.h"
#include "fd_philox.h"

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
    static const uint32_t from[16] = {0,    0x10,   0x32,   0x3210,   0x54,   0x5410,   0x5432,   0x543210,
                                      0x76, 0x7610, 0x7632, 0x763210, 0x7654, 0x765410, 0x765432, 0x76543210};
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
static inline void v_sqrts(float *v, size_t n) {
    for (size_t i = 0; i < n; i += 8) _mm256_storeu_ps(v + i, _mm256_sqrt_ps(_mm256_loadu_ps(v + i)));
}

#include "fd_planes.h"
#include "fd_normal.h"

/* Bits 0..7 as eight 32-bit lanes of all ones or zeros; bits 0..3 as four 64-bit lanes; bits 0..15 as sixteen
 * 16-bit ones. */
static inline __m256 keep_f32x8(uint64_t m) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)m), lane), lane));
}

static inline __m256d keep_f64x4(uint64_t m) {
    const __m256i lane = _mm256_setr_epi64x(1, 2, 4, 8);
    return _mm256_castsi256_pd(_mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x((long long)m), lane), lane));
}

static inline __m256i keep_u16x16(uint64_t m) {
    const __m256i lane =
        _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, -32768);
    return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16((short)m), lane), lane);
}

/* As in the AVX-512 kernels: x is asked for well ahead, and y goes out two lines at a time. */
static inline void ahead(const void *x) { _mm_prefetch((const char *)x + FD_AHEAD, _MM_HINT_T0); }

static void fence(void) { _mm_sfence(); }

static void stream_zeros(const void *x, void *y, size_t bytes) {
    const char *in = x;
    char *out = y;
    size_t i = fd_before_line(y, 1, bytes);
    memset(out, 0, i);
    for (; i + 128 <= bytes; i += 128) {
        ahead(in + i), ahead(in + i + 64);
        for (size_t k = i; k < i + 128; k += 32) _mm256_stream_si256((__m256i *)(out + k), _mm256_setzero_si256());
    }
    memset(out + i, 0, bytes - i);
}

/* ---- float32 and float64 ---- */

static inline __m256 dropped_f32(uint64_t m, const float *in, __m256 s) {
    return _mm256_and_ps(keep_f32x8(m), _mm256_mul_ps(_mm256_loadu_ps(in), s));
}

static inline __m256d dropped_f64(uint64_t m, const double *in, __m256d s) {
    return _mm256_and_pd(keep_f64x4(m), _mm256_mul_pd(_mm256_loadu_pd(in), s));
}

static void apply_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const float *in = x;
    float *out = y;
    const __m256 s = _mm256_set1_ps((float)args->scale);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 32; k += 8) _mm256_storeu_ps(out + i + k, dropped_f32(m >> k, in + i + k, s));
    }
    scalar_f32(bits, off, i, n, x, y, (float)args->scale);
}

static void stream_f32(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const float *in = x;
    float *out = y;
    const __m256 s = _mm256_set1_ps((float)args->scale);
    size_t i = fd_before_line(y, sizeof *out, n);
    apply_f32(bits, off, i, x, y, args);
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        ahead(in + i), ahead(in + i + 16);
        for (unsigned k = 0; k < 32; k += 8) _mm256_stream_ps(out + i + k, dropped_f32(m >> k, in + i + k, s));
    }
    apply_f32(bits, off + i, n - i, in + i, out + i, args);
}

static void apply_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const double *in = x;
    double *out = y;
    const __m256d s = _mm256_set1_pd(args->scale);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint64_t m = fd_bits57(bits, off + i);
        for (unsigned k = 0; k < 16; k += 4) _mm256_storeu_pd(out + i + k, dropped_f64(m >> k, in + i + k, s));
    }
    scalar_f64(bits, off, i, n, x, y, args->scale);
}

static void stream_f64(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const double *in = x;
    double *out = y;
    const __m256d s = _mm256_set1_pd(args->scale);
    size_t i = fd_before_line(y, sizeof *out, n);
    apply_f64(bits, off, i, x, y, args);
    for (; i + 16 <= n; i += 16) {
        const uint64_t m = fd_bits57(bits, off + i);
        ahead(in + i), ahead(in + i + 8);
        for (unsigned k = 0; k < 16; k += 4) _mm256_stream_pd(out + i + k, dropped_f64(m >> k, in + i + k, s));
    }
    apply_f64(bits, off + i, n - i, in + i, out + i, args);
}

/* ---- float16 and bfloat16: 16 elements are widened, scaled and rounded once; the two differ in how ---- */

typedef __m256i scale_fn(__m256i v, __m256 s);

static inline __m256i scaled_f16(__m256i v, __m256 s) {
    const __m256 f0 = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(v)), s);
    const __m256 f1 = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)), s);
    const __m128i h0 = _mm256_cvtps_ph(f0, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i h1 = _mm256_cvtps_ph(f1, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(h0), h1, 1);
}

/* To the nearest bfloat16, ties to even, in the upper half. A NaN stays as it is: it comes from a bfloat16, made quiet by
 * the multiplication, so its lower half is 0 and nothing carries. */
static inline __m256i rounded_bf16(__m256 f) {
    const __m256i u = _mm256_castps_si256(f), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
}

/* Elements are taken as they lie, two to a 32-bit lane: the odd ones are float32 but for the lower half, the even ones a
 * shift away. No lane changes places. */
static inline __m256i scaled_bf16(__m256i v, __m256 s) {
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000);
    const __m256i even = rounded_bf16(_mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)), s));
    const __m256i odd = rounded_bf16(_mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(v, upper)), s));
    return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA);
}

static inline __m256i dropped_half(scale_fn *scaled, uint64_t m, const uint16_t *in, __m256 s) {
    return _mm256_and_si256(keep_u16x16(m), scaled(_mm256_loadu_si256((const __m256i *)in), s));
}

static inline size_t apply_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t n, const uint16_t *in,
                                uint16_t *out, __m256 s) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(out + i), dropped_half(scaled, fd_bits57(bits, off + i), in + i, s));
    return i;
}

static inline size_t stream_half(scale_fn *scaled, const uint64_t *bits, size_t off, size_t first, size_t n,
                                 const uint16_t *in, uint16_t *out, __m256 s) {
    size_t i = first;
    for (; i + 32 <= n; i += 32) {
        const uint64_t m = fd_bits57(bits, off + i);
        ahead(in + i);
        _mm256_stream_si256((__m256i *)(out + i), dropped_half(scaled, m, in + i, s));
        _mm256_stream_si256((__m256i *)(out + i + 16), dropped_half(scaled, m >> 16, in + i + 16, s));
    }
    return i;
}

static void apply_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t i = apply_half(scaled_f16, bits, off, n, x, y, _mm256_set1_ps((float)args->scale));
    scalar_f16(bits, off, i, n, x, y, (float)args->scale);
}

static void stream_f16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t lead = fd_before_line(y, sizeof(uint16_t), n);
    apply_f16(bits, off, lead, x, y, args);
    const size_t i = stream_half(scaled_f16, bits, off, lead, n, x, y, _mm256_set1_ps((float)args->scale));
    apply_f16(bits, off + i, n - i, (const uint16_t *)x + i, (uint16_t *)y + i, args);
}

static void apply_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t i = apply_half(scaled_bf16, bits, off, n, x, y, _mm256_set1_ps((float)args->scale));
    scalar_bf16(bits, off, i, n, x, y, (float)args->scale);
}

static void stream_bf16(const uint64_t *bits, size_t off, size_t n, const void *x, void *y, const fd_args *args) {
    const size_t lead = fd_before_line(y, sizeof(uint16_t), n);
    apply_bf16(bits, off, lead, x, y, args);
    const size_t i = stream_half(scaled_bf16, bits, off, lead, n, x, y, _mm256_set1_ps((float)args->scale));
    apply_bf16(bits, off + i, n - i, (const uint16_t *)x + i, (uint16_t *)y + i, args);
}

/* ---- for the fused operations ---- */

static void widen_f16(const void *x, float *out, size_t n) {
    const uint16_t *in = x;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))));
    for (; i < n; i++) out[i] = f32_of_f16(u16_at(x, i));
}

static void narrow_f16(const float *x, void *out, size_t n) {
    uint16_t *to = out;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (; i < n; i++) put_u16(out, i, f16_of_f32(x[i]));
}

static void put(const void *from, void *y, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 32)
        _mm256_stream_si256((__m256i *)((char *)y + i), _mm256_loadu_si256((const __m256i *)((const char *)from + i)));
}

/* ---- DropConnect: no fused multiply-add, which is no part of AVX2, so that the product can be dropped ---- */

#define FD_CONNECT_ROWS 2
#define FD_CONNECT_COLUMNS 4
enum { LANES_f32 = 8, LANES_f64 = 4 };
typedef __m256 reals_f32;
typedef __m256d reals_f64;

static FD_INLINE __m256i first8(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static FD_INLINE __m256i first4(size_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
}

static FD_INLINE __m256 none_f32(void) { return _mm256_setzero_ps(); }
static FD_INLINE __m256 all_f32(float a) { return _mm256_set1_ps(a); }
static FD_INLINE __m256 load_f32(const float *p) { return _mm256_loadu_ps(p); }
static FD_INLINE __m256 load_some_f32(const float *p, size_t n) { return _mm256_maskload_ps(p, first8(n)); }
static FD_INLINE void store_f32(float *p, __m256 v) { _mm256_storeu_ps(p, v); }
static FD_INLINE void store_some_f32(float *p, size_t n, __m256 v) { _mm256_maskstore_ps(p, first8(n), v); }
static FD_INLINE __m256 madd_f32(__m256 a, __m256 b, __m256 c) { return _mm256_add_ps(_mm256_mul_ps(a, b), c); }
static FD_INLINE __m256 kept_madd_f32(const unsigned char *bits, size_t i, __m256 a, __m256 b, __m256 c) {
    return _mm256_add_ps(_mm256_and_ps(keep_f32x8(bits[i / 8]), _mm256_mul_ps(a, b)), c);
}
static FD_INLINE float lanes_sum_f32(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

static FD_INLINE __m256d none_f64(void) { return _mm256_setzero_pd(); }
static FD_INLINE __m256d all_f64(double a) { return _mm256_set1_pd(a); }
static FD_INLINE __m256d load_f64(const double *p) { return _mm256_loadu_pd(p); }
static FD_INLINE __m256d load_some_f64(const double *p, size_t n) { return _mm256_maskload_pd(p, first4(n)); }
static FD_INLINE void store_f64(double *p, __m256d v) { _mm256_storeu_pd(p, v); }
static FD_INLINE void store_some_f64(double *p, size_t n, __m256d v) { _mm256_maskstore_pd(p, first4(n), v); }
static FD_INLINE __m256d madd_f64(__m256d a, __m256d b, __m256d c) { return _mm256_add_pd(_mm256_mul_pd(a, b), c); }
static FD_INLINE __m256d kept_madd_f64(const unsigned char *bits, size_t i, __m256d a, __m256d b, __m256d c) {
    const unsigned m = (unsigned)bits[i / 8] >> (i & 4);
    return _mm256_add_pd(_mm256_and_pd(keep_f64x4(m), _mm256_mul_pd(a, b)), c);
}
static FD_INLINE double lanes_sum_f64(__m256d v) {
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

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

const fd_kernels fd_kernels_avx2 = {
    "avx2",
    1 << 17,
    blocks,
    fd_bools_portable,
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
    &fd_layers_avx2,
};

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int fd_avx2_is_for_x86; /* ISO C wants something in a translation unit */
#endif
