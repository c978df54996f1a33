#include "model.h"

#include <math.h>
#include <string.h>

#include "fd_philox.h"

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* ---- the law ---- */

typedef struct {
    uint64_t key, call, block;
    int made; /* planes 0 .. made-1 */
    uint32_t words[32][4];
} planes;

static void make_plane(const fd_law *law, uint64_t block, uint32_t j, uint32_t words[4]) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) | j << 24, (uint32_t)law->call,
                                 (uint32_t)(law->call >> 32)};
    const uint32_t key[2] = {(uint32_t)law->key, (uint32_t)(law->key >> 32)};
    fd_philox4x32(counter, key, words);
}

/* Neighbours share a block: a few are kept, whichever law and block they are of. */
static planes *planes_of(const fd_law *law, uint64_t block, int count) {
    static planes kept[64];
    planes *p = &kept[(block ^ law->call * 5 ^ law->key * 11) % 64];
    if (p->key != law->key || p->call != law->call || p->block != block) {
        p->key = law->key, p->call = law->call, p->block = block;
        p->made = 0;
    }
    for (; p->made < count; p->made++) make_plane(law, block, (uint32_t)p->made, p->words[p->made]);
    return p;
}

/* The first plane where U and q differ says which is the smaller; where none does, U is not below q. */
int model_keep(const fd_law *law, uint64_t e) {
    const unsigned lane = (unsigned)(e % 128);
    if (law->q >> 32) return 1;
    for (int j = 0; j < 32; j++) {
        const planes *p = planes_of(law, e / 128, j + 1);
        const unsigned u = p->words[j][lane / 32] >> lane % 32 & 1, q = (unsigned)(law->q >> (31 - j) & 1);
        if (u != q) return u < q;
    }
    return 0;
}

static double uniform(const fd_law *law, uint64_t e) {
    const unsigned lane = (unsigned)(e % 128);
    uint32_t words[4];
    make_plane(law, e / 128, 32 + lane % 32, words);
    return ((double)words[lane / 32] + 0.5) * 0x1p-32;
}

double model_normal(const fd_law *law, uint64_t e) {
    const double pi = 3.14159265358979323846;
    const int upper = e % 128 >= 64;
    const uint64_t low = upper ? e - 64 : e;
    const double u = uniform(law, low), angle = 2 * pi * uniform(law, low + 64);
    return sqrt(-2 * (u < 0.5 ? log(u) : log1p(u - 1))) * (upper ? sin(angle) : cos(angle));
}

/* ---- numbers ---- */

int64_t model_item(fd_dtype dtype) { return dtype == FD_F64 ? 8 : dtype == FD_F32 ? 4 : 2; }

/* Bits of fraction and the least exponent of a half type. */
static int fraction(fd_dtype dtype) { return dtype == FD_F16 ? 10 : 7; }
static int least(fd_dtype dtype) { return dtype == FD_F16 ? -14 : -126; }

static double value_of(fd_dtype dtype, unsigned h) {
    const int bits = fraction(dtype), top = (1 << (15 - bits)) - 1, exponent = (int)h >> bits & top;
    const int rest = (int)h & ((1 << bits) - 1);
    double v;
    if (exponent == top)
        v = rest ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexp(rest, least(dtype) - bits);
    else
        v = ldexp(rest + (1 << bits), exponent - 1 + least(dtype) - bits);
    return copysign(v, h >> 15 ? -1.0 : 1.0);
}

double model_get(fd_dtype dtype, const void *p) {
    static double values[2][1 << 16]; /* once each: they are asked for all the time */
    static int made;
    uint16_t h;
    float f;
    double v;
    if (dtype == FD_F64) return memcpy(&v, p, 8), v;
    if (dtype == FD_F32) return memcpy(&f, p, 4), f;
    for (; made < 1 << 16; made++) {
        values[0][made] = value_of(FD_F16, (unsigned)made);
        values[1][made] = value_of(FD_BF16, (unsigned)made);
    }
    return memcpy(&h, p, 2), values[dtype == FD_BF16][h];
}

/* A half type's bits: a number is a multiple of the last place that its exponent has, and rounded to one. */
static uint16_t half_of(fd_dtype dtype, double v) {
    const int bits = fraction(dtype), top = (1 << (15 - bits)) - 1;
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    int exponent;
    if (isnan(v)) return (uint16_t)(sign | top << bits | 1 << (bits - 1));
    if (isinf(v)) return (uint16_t)(sign | top << bits);
    frexp(v, &exponent);
    if (exponent - 1 < least(dtype) || v == 0) exponent = least(dtype) + 1;
    const double places = nearbyint(ldexp(fabs(v), bits + 1 - exponent)); /* up to 2^(bits+1): then it carries */
    /* Subnormals have the exponent field of 0 without the leading 1, which adds itself in the others. */
    const int64_t u = ((int64_t)(exponent - 1 - least(dtype)) << bits) + (int64_t)places;
    return (uint16_t)(sign | (u > (int64_t)top << bits ? top << bits : (int)u));
}

void model_put(fd_dtype dtype, void *p, double v) {
    const float f = (float)v;
    if (dtype == FD_F64) memcpy(p, &v, 8);
    if (dtype == FD_F32) memcpy(p, &f, 4);
    if (dtype == FD_F16 || dtype == FD_BF16) {
        const uint16_t h = half_of(dtype, v);
        memcpy(p, &h, 2);
    }
}

int model_same(fd_dtype dtype, const void *p, double want) {
    char bytes[8];
    if (isnan(want)) return isnan(model_get(dtype, p)) != 0;
    model_put(dtype, bytes, want);
    return memcmp(bytes, p, (size_t)model_item(dtype)) == 0;
}

int model_near(fd_dtype dtype, const void *p, double want, double size) {
    static const double part[] = {4e-6, 1e-13, 1.5e-3, 1.2e-2}, smallest[] = {1e-36, 1e-300, 1.3e-7, 1e-36};
    static const double largest[] = {3.4028235e38, 1.7976931348623157e308, 65504, 3.3895314e38};
    const double got = model_get(dtype, p), room = part[dtype] * (fabs(want) + size) + smallest[dtype];
    if (isnan(want)) return isnan(got) != 0;
    if (isinf(got)) return signbit(got) == signbit(want) && fabs(want) + room >= largest[dtype];
    return fabs(got - want) <= room || (isinf(want) && fabs(got) >= largest[dtype] * (1 - part[dtype]));
}

/* ---- operations ---- */

/* float32's and the half types' are made in float32. */
static double round_to(fd_dtype dtype, double v) { return dtype == FD_F64 ? v : (double)(float)v; }

double model_apply(fd_dtype dtype, int keep, double x, double scale) {
    return keep ? round_to(dtype, x * round_to(dtype, scale)) : 0.0;
}

static double gaussian(double t) { return 0.5 * erfc(-t * 0.70710678118654752440); }
static double sigmoid(double t) { return 1 / (1 + exp(-t)); }

/* An activation of t, or its slope there. */
static double activation(fd_activation which, int slope, double t) {
    const double k = 1.5957691216057308, u = k * t * (1 + 0.044715 * t * t), s = sigmoid(which == FD_SILU ? t : u);
    switch (which) {
    case FD_IDENTITY: return slope ? 1 : t;
    case FD_RELU: return slope ? t > 0 : t < 0 ? 0 : t;
    case FD_GELU: return slope ? gaussian(t) + t * exp(-t * t / 2) * 0.39894228040143268 : t * gaussian(t);
    case FD_GELU_TANH: return slope ? s + t * s * (1 - s) * k * (1 + 0.134145 * t * t) : t * s;
    case FD_SILU: return slope ? s + t * s * (1 - s) : t * s;
    }
    return 0;
}

double model_fused(fd_dtype dtype, const fd_op *op, int keep, double x, double z, int has_z, int *exact) {
    const double scale = round_to(dtype, op->scale), shift = round_to(dtype, op->shift);
    *exact = 1;
    switch (op->code) {
    case FD_AFFINE: return keep ? round_to(dtype, round_to(dtype, x * scale) + shift) : round_to(dtype, op->dropped);
    case FD_WHERE: return keep ? x : z;
    case FD_ADD: return round_to(dtype, (keep ? round_to(dtype, x * scale) : 0.0) + z);
    case FD_ACT:
        *exact = !keep || op->activation <= FD_RELU;
        if (!keep) return 0;
        return round_to(dtype,
                        round_to(dtype, activation(op->activation, 0, has_z ? round_to(dtype, x + z) : x)) * scale);
    case FD_ACT_GRAD:
        *exact = !keep || op->activation <= FD_RELU;
        if (!keep) return 0;
        return round_to(dtype, round_to(dtype, x * scale) * activation(op->activation, 1, z));
    }
    return 0;
}

double model_noise(fd_dtype dtype, fd_noise_kind kind, float normal, double x, double sigma) {
    const double part = round_to(dtype, round_to(dtype, sigma) * (double)normal);
    return round_to(dtype, kind == FD_NOISE_TIMES ? x * round_to(dtype, 1 + part) : x + part);
}
