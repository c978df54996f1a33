/* The law's normals and what is done with them, stated once over the vocabulary of fd_planes.h (include that before) and
 *
 *   v_sqrts(float *, n)             square roots in place, n a multiple of 64
 *
 * THE RECIPE. A pair of words, one for the radius and one for the angle, becomes two normals (Box and Muller 1958). Their
 * value is defined by the float operations below, each rounded to nearest, in this order, none fused: +, -, * and the
 * square root are the same on every IEEE machine, so the normals are, to the last bit. fastdrop/reference.py says it
 * again.
 *
 *   r      = sqrt(-2 log u), u = (word + 1/2) / 2^32.  m = min(word, ~word) and f = m + 1/2 keep the distance to the
 *            nearer end of (0, 1), so that both tails of log are good to a float's last bits: |z| reaches 6.76, and r
 *            comes as close to 0 as u to 1.  u = 2^e (1 + s) with 1 + s between sqrt(1/2) and sqrt(2), s exact, and
 *            log(1 + s) = s + s^2 (s P(s) - 1/2).
 *   angle  = 2 pi (word + 1/2) / 2^32 = quarter * pi/2 + 2 pi y, |y| <= 1/8, y from the word's integer;
 *            sin(2 pi y) = y S(y^2), cos(2 pi y) = 1 + y^2 C(y^2), turned by the quarter.
 *
 * P, S and C are minimax fits (tests/vectors/fit_normals.py makes them again): relative errors of log, sin and cos are
 * 6e-9, 3e-8 and 4e-10 before rounding. With it a normal is within 5 units in the last place of the exact function of its
 * two words (tests/test_gaussian.py).
 *
 * Everything after the words is plain loops without branches, which compilers turn into vectors of the instruction set
 * that is in force. gcc in ISO mode (-std=c11) fuses nothing; clang has to be told. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#include "fd_scalar.h"

#define PLANES 32   /* a block's normals are planes 32 .. 63: word k of them all is elements 32k .. 32k + 31 */
#define PAIRS 64    /* lanes l and l + 64 */
#define AT_A_TIME 8 /* blocks between words and normals: their words stay in L1, and constants in registers */

/* What rounds 2 and 3 make of the planes alone, LANES of them to a vector. Here a block is the scalar, where the masks'
 * `plane_words` are: the first rounds are shared the other way round. */
typedef struct {
    vec hi[PLANES / LANES], lo[PLANES / LANES];
} plane_vectors;

static inline void make_plane_vectors(plane_vectors *p, const schedule *s) {
    for (unsigned i = 0; i < PLANES / LANES; i++) {
        const vec j = v_mul(v_iota(32 + i * LANES), v_set1(1 << 24));
        p->lo[i] = v_mul(v_xor(j, v_set1(s->c0)), v_set1(FD_PHILOX_M0));
        p->hi[i] = v_xor(v_shr32(p->lo[i]), v_set1(s->k1[1]));
    }
}

/* Lane i of `words` gets words 0 and 1 of plane 32 + i, lane PLANES + i words 2 and 3. */
static inline void block_words(const schedule *s, const plane_vectors *p, uint64_t block, uint64_t words[2 * PLANES]) {
    const uint64_t c3_1 = (block & 0xFFFFFFFFu) * FD_PHILOX_M0;
    const uint64_t p1 = (c3_1 >> 32 ^ s->c2) * FD_PHILOX_M1;
    const uint64_t c3_3 = ((p1 >> 32 ^ s->c1) & 0xFFFFFFFFu) * FD_PHILOX_M0;
    const vec c3_1_v = v_set1(c3_1), c0_3 = v_set1(p1 ^ s->k0[2]), c2_3 = v_set1(c3_3 >> 32 ^ s->k1[2]);
    for (unsigned first = 0; first < PLANES / LANES; first += CHAINS) {
        vec c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS], a[CHAINS], b[CHAINS];
#pragma GCC unroll 8
        for (unsigned i = 0; i < CHAINS; i++) {
            c1[i] = v_mul(v_xor(c3_1_v, p->hi[first + i]), v_set1(FD_PHILOX_M1));
            c0[i] = v_xor(v_shr32(c1[i]), c0_3);
            c2[i] = v_xor(c2_3, p->lo[first + i]);
            c3[i] = v_set1(c3_3);
        }
        late_rounds(s, c0, c1, c2, c3, a, b);
        for (unsigned i = 0; i < CHAINS; i++) {
            v_store(words + (first + i) * LANES, a[i]);
            v_store(words + PLANES + (first + i) * LANES, b[i]);
        }
    }
}

/* -2 log((word + 1/2) / 2^32). Both ways of finding e and s are gone, and one is taken. */
static inline float minus_2_log(uint32_t word) {
    const uint32_t upper = 0u - (word >> 31); /* all ones where u > 1/2 */
    const float f = (float)(int32_t)(word ^ upper) + 0.5f;
    /* u = f / 2^32: e is f's exponent, counted from sqrt(1/2). */
    const uint32_t bits = bits_of_f32(f), biased = (bits + (0x3F800000u - 0x3F3504F3u)) >> 23;
    const float s_low = f32_of_bits(bits - (biased << 23) + 0x3F800000u) - 1.0f;
    const float e_low = (float)((int32_t)biased - 127 - 32);
    /* u = 1 - v: e is 0, or -1 from v = 1 - sqrt(1/2) on. */
    const float v = f * 0x1p-32f, s_near = 0.0f - v, s_far = 1.0f - 2.0f * v;
    const uint32_t far = 0u - (uint32_t)(v > 0x1.2bec34p-2f);
    const uint32_t s_high = (bits_of_f32(s_far) & far) | (bits_of_f32(s_near) & ~far);
    const uint32_t e_high = bits_of_f32(-1.0f) & far;

    const float s = f32_of_bits((s_high & upper) | (bits_of_f32(s_low) & ~upper));
    const float e = f32_of_bits((e_high & upper) | (bits_of_f32(e_low) & ~upper));
    float p = -0x1.38c9dep-4f;
    p = p * s + 0x1.055ec6p-3f;
    p = p * s - 0x1.0d8242p-3f;
    p = p * s + 0x1.22d92ep-3f;
    p = p * s - 0x1.54728ap-3f;
    p = p * s + 0x1.99a01cp-3f;
    p = p * s - 0x1.000226p-2f;
    p = p * s + 0x1.555554p-2f;
    p = s * p - 0.5f;
    p = s * s * p;
    p = p + e * -0x1.bd0106p-13f; /* log 2 in two pieces, the upper one exact in every product with e */
    p = s + p;
    p = p + e * 0x1.63p-1f;
    return -2.0f * p;
}

/* cos and sin of 2 pi (word + 1/2) / 2^32. */
static inline void cos_sin(uint32_t word, float *cosine, float *sine) {
    const uint32_t turned = word + (1u << 29), quarter = turned >> 30;
    const int32_t rest = (int32_t)(turned & 0x3FFFFFFFu) - (1 << 29);
    const float y = ((float)rest + 0.5f) * 0x1p-32f, yy = y * y;
    float s = -0x1.33198ep+6f;
    s = s * yy + 0x1.4680a4p+6f;
    s = s * yy - 0x1.4abc24p+5f;
    s = s * yy + 0x1.921fb6p+2f;
    s = y * s;
    float c = 0x1.d4f632p+5f;
    c = c * yy - 0x1.55b2b4p+6f;
    c = c * yy + 0x1.03c1b0p+6f;
    c = c * yy - 0x1.3bd3ccp+4f;
    c = yy * c + 1.0f;
    const uint32_t swap = (bits_of_f32(s) ^ bits_of_f32(c)) & (0u - (quarter & 1));
    *cosine = f32_of_bits(bits_of_f32(c) ^ swap ^ ((quarter + 1) & 2) << 30);
    *sine = f32_of_bits(bits_of_f32(s) ^ swap ^ (quarter & 2) << 30);
}

static inline void box_muller(size_t nblocks, const uint32_t *radius_words, const uint32_t *angle_words, float *out) {
    float radius[AT_A_TIME * PAIRS];
    for (size_t i = 0; i < nblocks * PAIRS; i++) radius[i] = minus_2_log(radius_words[i]);
    v_sqrts(radius, nblocks * PAIRS);
    for (size_t b = 0; b < nblocks; b++)
        for (size_t i = 0; i < PAIRS; i++) {
            float cosine, sine;
            cos_sin(angle_words[b * PAIRS + i], &cosine, &sine);
            out[b * FD_BLOCK_BITS + i] = radius[b * PAIRS + i] * cosine;
            out[b * FD_BLOCK_BITS + PAIRS + i] = radius[b * PAIRS + i] * sine;
        }
}

/* The kernel of this instruction set. */
static void normals(const fd_law *law, uint64_t block, size_t nblocks, float *out) {
    _Alignas(FD_LINE) uint64_t words[2 * PLANES];
    _Alignas(FD_LINE) uint32_t radius[AT_A_TIME * PAIRS], angle[AT_A_TIME * PAIRS];
    schedule s;
    plane_vectors planes;
    while (nblocks) {
        make_schedule(&s, law, block >> 32);
        make_plane_vectors(&planes, &s);
        const uint64_t left = ((uint64_t)1 << 32) - (block & 0xFFFFFFFFu); /* blocks with the same high half */
        size_t same = nblocks < left ? nblocks : (size_t)left;
        nblocks -= same;
        while (same) {
            const size_t n = same < AT_A_TIME ? same : AT_A_TIME;
            for (size_t b = 0; b < n; b++) {
                block_words(&s, &planes, block + b, words);
                for (size_t i = 0; i < PLANES; i++) {
                    radius[b * PAIRS + i] = (uint32_t)words[i];
                    radius[b * PAIRS + PLANES + i] = (uint32_t)(words[i] >> 32);
                    angle[b * PAIRS + i] = (uint32_t)words[PLANES + i];
                    angle[b * PAIRS + PLANES + i] = (uint32_t)(words[PLANES + i] >> 32);
                }
            }
            box_muller(n, radius, angle, out);
            out += n * FD_BLOCK_BITS, block += n, same -= n;
        }
    }
}

/* ---- what is done with them ---- */

static void noise_f32(fd_noise_kind kind, size_t n, const float *restrict z, void *values, double sigma) {
    float *restrict v = values;
    const float s = (float)sigma;
    if (kind == FD_NOISE_TIMES)
        for (size_t i = 0; i < n; i++) v[i] = v[i] * (1.0f + s * z[i]);
    else
        for (size_t i = 0; i < n; i++) v[i] = v[i] + s * z[i];
}

static void noise_f64(fd_noise_kind kind, size_t n, const float *restrict z, void *values, double sigma) {
    double *restrict v = values;
    if (kind == FD_NOISE_TIMES)
        for (size_t i = 0; i < n; i++) v[i] = v[i] * (1.0 + sigma * (double)z[i]);
    else
        for (size_t i = 0; i < n; i++) v[i] = v[i] + sigma * (double)z[i];
}
