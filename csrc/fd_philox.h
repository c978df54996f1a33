/* Scalar Philox4x32-10: the reference the vector forms are tested against.
 *
 * Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). One round multiplies words 0
 * and 2 by a constant each and mixes the halves of the products with the other two words and the round key; the key
 * grows by the golden ratio and sqrt(3)-1 (as 32-bit fractions) from round to round. */
#ifndef FD_PHILOX_H
#define FD_PHILOX_H

#include <stdint.h>

#define FD_PHILOX_M0 0xD2511F53u
#define FD_PHILOX_M1 0xCD9E8D57u
#define FD_PHILOX_W0 0x9E3779B9u
#define FD_PHILOX_W1 0xBB67AE85u
#define FD_PHILOX_ROUNDS 10

static inline void fd_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int r = 0; r < FD_PHILOX_ROUNDS; r++, k0 += FD_PHILOX_W0, k1 += FD_PHILOX_W1) {
        uint64_t p0 = (uint64_t)c0 * FD_PHILOX_M0, p1 = (uint64_t)c2 * FD_PHILOX_M1;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

#endif
