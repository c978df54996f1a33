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

/* exp(x), within 1.1e-7 relative where it is a normal number. With n = round(x / ln 2) and r = x - n ln 2, exp(x) is
 * 2^n exp(r); 2^n is multiplied on in two halves, so that the result may be subnormal or overflow to Inf. */
static inline float exp_f32(float x) {
    const float shifter = 12582912.0f; /* 1.5 * 2^23: a sum with it is rounded to an integer, in its lowest bits */
    float t = x > 89.0f ? 89.0f : x;   /* a NaN is neither, and stays */
    t = t < -104.0f ? -104.0f : t;
    const float sum = t * 1.44269504f + shifter;
    const int32_t n = (int32_t)(bits_of_f32(sum) - bits_of_f32(shifter));
    const float whole = sum - shifter;
    const float r = (t - whole * 0.693359375f) - whole * -2.12194440e-4f; /* ln 2 in two parts, the first of 9 bits */
    float p = 1.381482736e-03f;
    p = p * r + 8.368708530e-03f;
    p = p * r + 4.166838314e-02f;
    p = p * r + 1.666652072e-01f;
    p = p * r + 4.999999347e-01f;
    p = p * (r * r) + r + 1.0f;
    const int32_t half = n >> 1;
    return p * f32_of_bits((uint32_t)(half + 127) << 23) * f32_of_bits((uint32_t)(n - half + 127) << 23);
}

/* The normal distribution function Phi(x) and exp(-x^2/2), which it is made with. In the lower tail
 * Phi(x) = erfcx(a) exp(-a^2) / 2 with a = |x| / sqrt(2), where erfcx, a smooth decline, is a polynomial of
 * 1 / (1 + 0.4 a) within 4e-8. Phi is within 1.5e-7 relative for x > -2, and 1e-6 down to -10. */
typedef struct {
    float phi, bell;
} normal_f32;

static inline normal_f32 normal_distribution_f32(float x) {
    const float size = f32_of_bits(bits_of_f32(x) & 0x7FFFFFFFu);
    const float bell = exp_f32(-0.5f * (x * x));
    const float u = 1.0f / (1.0f + 0.28284271f * size);
    float p = 3.027219817e-02f;
    p = p * u - 8.312697380e-02f;
    p = p * u - 4.444355743e-02f;
    p = p * u + 2.507717897e-01f;
    p = p * u - 4.832419268e-02f;
    p = p * u + 2.580875547e-01f;
    p = p * u + 1.809509312e-01f;
    p = p * u + 2.306223180e-01f;
    p = p * u + 2.251677919e-01f;
    p = p * u + 2.217343238e-05f;
    const float tail = 0.5f * p * bell;
    return (normal_f32){x < 0.0f ? tail : 1.0f - tail, bell};
}

static inline float sigmoid_f32(float x) { return 1.0f / (1.0f + exp_f32(-x)); }

/* The same on float64, by the C library. */
typedef struct {
    double phi, bell;
} normal_f64;

static inline normal_f64 normal_distribution_f64(double x) {
    return (normal_f64){0.5 * erfc(-x * 0.70710678118654752440), exp(-0.5 * (x * x))};
}

static inline double sigmoid_f64(double x) { return 1.0 / (1.0 + exp(-x)); }

#endif
