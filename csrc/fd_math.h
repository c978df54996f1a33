/* float32 functions for the fused kernels, as straight lines of IEEE operations: loops over them vectorise on every
 * instruction set, and give the same bits there, since no compiler may contract a product and a sum.
 *
 * The polynomials are our own minimax fits; the errors were measured against float64 over the range that is named. */
#ifndef FD_MATH_H
#define FD_MATH_H

#include <math.h>

#include "fd_scalar.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* gcc -std=c11 has it off, and warns about the pragma */
#endif

/* a where the condition holds (or `keep` is all ones), else b. Not by `?:`: gcc moves what only one side needs into a branch,
 * and on what has no masked instructions a loop with a branch stays a loop. */
static inline float pick_f32(uint32_t keep, float a, float b) {
    return f32_of_bits((bits_of_f32(a) & keep) | (bits_of_f32(b) & ~keep));
}

static inline double pick_f64(uint64_t keep, double a, double b) {
    uint64_t u, v;
    memcpy(&u, &a, sizeof u), memcpy(&v, &b, sizeof v);
    u = (u & keep) | (v & ~keep);
    memcpy(&a, &u, sizeof a);
    return a;
}

static inline float if_f32(int condition, float a, float b) { return pick_f32(0u - (uint32_t)condition, a, b); }
static inline double if_f64(int condition, double a, double b) {
    return pick_f64((uint64_t)0 - (uint64_t)condition, a, b);
}

/* exp(r) for |r| <= ln 2 / 2. */
static inline float exp_near_0_f32(float r) {
    float p = 1.381482736e-03f;
    p = p * r + 8.368708530e-03f;
    p = p * r + 4.166838314e-02f;
    p = p * r + 1.666652072e-01f;
    p = p * r + 4.999999347e-01f;
    return p * (r * r) + r + 1.0f;
}

/* exp(x), within 1.1e-7 relative where it is a normal number. With n = round(x / ln 2) and r = x - n ln 2, exp(x) is
 * 2^n exp(r); 2^n is multiplied on in two halves, so that the result may be subnormal or overflow to Inf. */
static inline float exp_f32(float x) {
    const float shifter = 12582912.0f;     /* 1.5 * 2^23: a sum with it is rounded to an integer, in its lowest bits */
    float t = if_f32(x > 89.0f, 89.0f, x); /* a NaN is neither, and stays */
    t = if_f32(t < -104.0f, -104.0f, t);
    const float sum = t * 1.44269504f + shifter;
    const int32_t n = (int32_t)(bits_of_f32(sum) - bits_of_f32(shifter));
    const float whole = sum - shifter;
    const float r = (t - whole * 0.693359375f) - whole * -2.12194440e-4f; /* ln 2 in two parts, the first of 9 bits */
    const float p = exp_near_0_f32(r);
    const int32_t half = n >> 1;
    return p * f32_of_bits((uint32_t)(half + 127) << 23) * f32_of_bits((uint32_t)(n - half + 127) << 23);
}

/* exp(x) for x <= 0, as good, and 0 where it is below 2^-125: one multiplication scales it then, by 2^n, whose exponent
 * n + 127 the shifter leaves in the lowest bits. What comes of a smaller x, -Inf too, is not looked at. */
static inline float exp_below_0_f32(float x) {
    const float shifter = 12582912.0f + 127.0f;
    const float sum = x * 1.44269504f + shifter, whole = sum - shifter;
    const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    const float e = exp_near_0_f32(r) * f32_of_bits(bits_of_f32(sum) << 23);
    const uint32_t worth =
        (uint32_t)(x < -86.64f) - 1; /* -125 ln 2; a NaN stays. No branch: the loop would not vectorise */
    return f32_of_bits(bits_of_f32(e) & worth);
}

/* The tail Phi(-a) of the normal distribution for a = |x|, and its density but for 1 / sqrt(2 pi), exp(-a^2 / 2). With
 * w = (a - 4) / (a + 4), Phi(-a) = exp(-a^2 / 2) P(w) / (a + 4); P is smooth on the whole half line, and here the polynomial
 * through its values in the Chebyshev nodes of w for a up to 14.5, where float32 ends: 1.3e-8 relative. To square a would
 * multiply its rounding by a^2: a shortened a is squared, exactly, and the rest is mended. Beyond a = 40 all is 0. */
typedef struct {
    float a, share, bell; /* Phi(-a) is share * bell, which underflows sooner than a * share * bell */
} normal_tail_f32;

static inline normal_tail_f32 tail_of_f32(float x) {
    float a = f32_of_bits(bits_of_f32(x) & 0x7FFFFFFFu);
    a = if_f32(a > 40.0f, 40.0f, a);
    const float u = 1.0f / (a + 4.0f), w = (a - 4.0f) * u;
    float p = -1.229831570e-04f;
    p = p * w + 1.948018511e-04f;
    p = p * w + 1.569313645e-03f;
    p = p * w - 3.523574056e-03f;
    p = p * w - 7.527212912e-03f;
    p = p * w + 6.040646975e-02f;
    p = p * w - 1.865230059e-01f;
    p = p * w + 3.871366798e-01f;
    p = p * w - 6.078966061e-01f;
    p = p * w + 7.552851385e-01f;
    const float shortened = f32_of_bits(bits_of_f32(a) & 0xFFFFF000u);
    const float rest = 0.5f * (shortened - a) * (shortened + a);
    return (normal_tail_f32){a, p * u, exp_f32(-0.5f * (shortened * shortened)) * exp_near_0_f32(rest)};
}

static inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

/* The same on float64, by the C library. a / sqrt(2) and a^2 / 2 are rounded before it sees them, which far out costs a^2
 * epsilons: what they lost is found by fused products, and mended. */
typedef struct {
    double a, share, bell;
} normal_tail_f64;

static inline normal_tail_f64 tail_of_f64(double x) {
    double a = fabs(x);
    a = a > 40.0 ? 40.0 : a;
    const double t = a * 0.70710678118654752440, square = t * t, half = 0.5 * a * a;
    const double square_rest = fma(t, t, -square), half_rest = fma(0.5 * a, a, -half);
    const double tail = 0.5 * erfc(t) * (1.0 - ((half - square) + (half_rest - square_rest)));
    const double bell = exp(-half) * (1.0 - half_rest);
    return (normal_tail_f64){a, bell > 0 ? tail / bell : 0, bell};
}

static inline double exp_below_0_f64(double x) { return exp(x); }

static inline double sigmoid_f64(double x) { return 1.0 / (1.0 + exp(-x)); }

#endif
