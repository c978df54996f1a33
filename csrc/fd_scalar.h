/* One element at a time, for every dtype: the portable kernels, and the tails of the vector kernels that have no lane
 * masks. Each gives the very bits that the vector form gives.
 *
 * Elements are read and written through memcpy, so no alignment is assumed and no aliasing rule is broken. Dropped
 * elements are selected away, not multiplied: Inf and NaN become +0. */
#ifndef FD_SCALAR_H
#define FD_SCALAR_H

#include "fd_impl.h"

static inline float f32_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t bits_of_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float f32_of_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7FFFu) << 13;
    if (rest >= 0x7C00u << 13) /* Inf; NaN, made quiet as the hardware does */
        return f32_of_bits(sign | 0x7F800000u | rest | (rest > 0x7C00u << 13 ? 0x400000u : 0));
    if (rest >= 0x0400u << 13) return f32_of_bits(sign | (rest + (112u << 23)));
    /* Subnormal: below 2^-14 the value is a plain integer times 2^-24, exact in float32. */
    const float magnitude = (float)(h & 0x7FFFu) * 0x1p-24f;
    return f32_of_bits(sign | bits_of_f32(magnitude));
}

/* To nearest, ties to even. */
static inline uint16_t f16_of_f32(float f) {
    const uint32_t u = bits_of_f32(f), sign = u >> 16 & 0x8000u, mag = u & 0x7FFFFFFFu;
    if (mag > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | (mag >> 13 & 0x3FFu));
    if (mag >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); /* 65520 and above round to Inf */
    if (mag < 0x38800000u) {
        /* Subnormal: adding 0.5 puts the units of 2^-24 in the last bit of the sum, rounded by the addition itself. */
        return (uint16_t)(sign | (bits_of_f32(f32_of_bits(mag) + 0.5f) - 0x3F000000u));
    }
    return (uint16_t)(sign | ((mag - (112u << 23) + 0xFFFu + (mag >> 13 & 1u)) >> 13));
}

static inline uint16_t bf16_of_f32(float f) {
    const uint32_t u = bits_of_f32(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

static inline uint16_t u16_at(const void *x, size_t i) {
    uint16_t v;
    memcpy(&v, (const char *)x + 2 * i, 2);
    return v;
}

static inline void put_u16(void *y, size_t i, uint16_t v) { memcpy((char *)y + 2 * i, &v, 2); }

static inline uint16_t scale_f16(uint16_t h, float s) { return f16_of_f32(f32_of_f16(h) * s); }

static inline uint16_t scale_bf16(uint16_t h, float s) { return bf16_of_f32(f32_of_bits((uint32_t)h << 16) * s); }

/* Elements i .. n-1 of a run. Selection is an `and` with all ones or zeros: a branch on random bits would be
 * mispredicted every other time. */
static inline uint64_t all_ones_if_kept(const uint64_t *bits, size_t at) {
    return (uint64_t)0 - (fd_bits57(bits, at) & 1);
}

static inline void scalar_f32(const uint64_t *bits, size_t off, size_t i, size_t n, const char *x, char *y, float s) {
    for (; i < n; i++) {
        float v;
        memcpy(&v, x + 4 * i, 4);
        const uint32_t u = bits_of_f32(v * s) & (uint32_t)all_ones_if_kept(bits, off + i);
        memcpy(y + 4 * i, &u, 4);
    }
}

static inline void scalar_f64(const uint64_t *bits, size_t off, size_t i, size_t n, const char *x, char *y, double s) {
    for (; i < n; i++) {
        double v;
        uint64_t u;
        memcpy(&v, x + 8 * i, 8);
        v *= s;
        memcpy(&u, &v, 8);
        u &= all_ones_if_kept(bits, off + i);
        memcpy(y + 8 * i, &u, 8);
    }
}

static inline void scalar_f16(const uint64_t *bits, size_t off, size_t i, size_t n, const char *x, char *y, float s) {
    for (; i < n; i++) {
        uint16_t v;
        memcpy(&v, x + 2 * i, 2);
        v = (uint16_t)(scale_f16(v, s) & all_ones_if_kept(bits, off + i));
        memcpy(y + 2 * i, &v, 2);
    }
}

static inline void scalar_bf16(const uint64_t *bits, size_t off, size_t i, size_t n, const char *x, char *y, float s) {
    for (; i < n; i++) {
        uint16_t v;
        memcpy(&v, x + 2 * i, 2);
        v = (uint16_t)(scale_bf16(v, s) & all_ones_if_kept(bits, off + i));
        memcpy(y + 2 * i, &v, 2);
    }
}

#endif
