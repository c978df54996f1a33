/* The mask law's planes, stated once over a small vocabulary that each instruction set defines before including this:
 *
 *   vec                 LANES 64-bit lanes, one block of the law per lane
 *   CHAINS              independent Philox chains kept in flight; a chain is a string of dependent multiplies, about
 *                       seven times as long as its throughput, and more chains than registers hold would spill
 *   v_set1(u64)  v_iota(u64 b): b, b+1, ...     v_mul(a, b): low 32 bits times low 32 bits     v_shr32(a)
 *   v_xor3(a, b, c)  v_and(a, b)  v_andnot(a, b): ~a & b  v_or(a, b)  v_not(a)  v_zero(a): no bit set in any lane
 *   v_pack(lo, hi): low 32 bits of hi above low 32 bits of lo
 *   v_store(u64 *out, a, b): a0 b0 a1 b1 ...: the law's words of LANES blocks
 *
 * Only the low half of a Philox word is ever used by v_mul and v_pack, so the halves above are left as they fall: the
 * product's low word needs no masking, and a round is two multiplies, two shifts and two three-way xors. */

typedef struct {
    vec k0[FD_PHILOX_ROUNDS], k1[FD_PHILOX_ROUNDS], call_lo, call_hi;
} schedule;

static inline schedule make_schedule(const fd_law *law) {
    schedule s;
    for (uint32_t r = 0; r < FD_PHILOX_ROUNDS; r++) {
        s.k0[r] = v_set1((uint32_t)law->key + r * FD_PHILOX_W0);
        s.k1[r] = v_set1((uint32_t)(law->key >> 32) + r * FD_PHILOX_W1);
    }
    s.call_lo = v_set1(law->call & 0xFFFFFFFFu);
    s.call_hi = v_set1(law->call >> 32);
    return s;
}

/* In: c0, c1 of each chain. Out: the blocks' bits, words 0 and 1 in a, words 2 and 3 in b. */
static inline void philox_chains(const schedule *s, const vec c0_in[CHAINS], const vec c1_in[CHAINS], vec a[CHAINS],
                                 vec b[CHAINS]) {
    const vec m0 = v_set1(FD_PHILOX_M0), m1 = v_set1(FD_PHILOX_M1);
    vec c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS];
    for (int i = 0; i < CHAINS; i++) c0[i] = c0_in[i], c1[i] = c1_in[i], c2[i] = s->call_lo, c3[i] = s->call_hi;
#pragma GCC unroll 10
    for (int r = 0; r < FD_PHILOX_ROUNDS; r++) {
#pragma GCC unroll 8
        for (int i = 0; i < CHAINS; i++) {
            vec p0 = v_mul(c0[i], m0), p1 = v_mul(c2[i], m1);
            c0[i] = v_xor3(v_shr32(p1), c1[i], s->k0[r]);
            c2[i] = v_xor3(v_shr32(p0), c3[i], s->k1[r]);
            c1[i] = p1;
            c3[i] = p0;
        }
    }
    for (int i = 0; i < CHAINS; i++) a[i] = v_pack(c0[i], c1[i]), b[i] = v_pack(c2[i], c3[i]);
}

typedef struct {
    vec undecided, kept;
} verdict;

/* One plane of U < q, most significant first: lanes still equal to q's prefix are undecided. Where q has a 1 and U a 0,
 * U is smaller; where they agree, the lane stays undecided; where q has a 0 and U a 1, U is greater. */
static inline void decide(verdict *v, vec r, int q_bit) {
    if (q_bit) {
        v->kept = v_or(v->kept, v_andnot(r, v->undecided));
        v->undecided = v_and(v->undecided, r);
    } else {
        v->undecided = v_andnot(r, v->undecided);
    }
}

/* LANES blocks, CHAINS planes at a time, until no lane is undecided. Planes past the last one that matters are
 * harmless: q's bits are 0 there. */
static inline void deep_blocks(const schedule *s, uint64_t q, unsigned planes, uint64_t block, uint64_t *out) {
    const vec c0_block = v_iota(block), c1_block = v_shr32(c0_block), ones = v_not(v_set1(0));
    verdict lo = {ones, v_set1(0)}, hi = {ones, v_set1(0)};
    for (unsigned j = 0; j < planes; j += CHAINS) {
        vec c0[CHAINS], c1[CHAINS], a[CHAINS], b[CHAINS];
        for (unsigned i = 0; i < CHAINS; i++) c0[i] = c0_block, c1[i] = v_or(c1_block, v_set1((uint64_t)(j + i) << 24));
        philox_chains(s, c0, c1, a, b);
        for (unsigned i = 0; i < CHAINS; i++) {
            int q_bit = j + i < 32 && (q >> (31 - j - i) & 1);
            decide(&lo, a[i], q_bit);
            decide(&hi, b[i], q_bit);
        }
        if (v_zero(v_or(lo.undecided, hi.undecided))) break;
    }
    v_store(out, lo.kept, hi.kept);
}

/* CHAINS * LANES blocks where one or two planes decide everything (p = 1/2, 1/4, 3/4): chains run over blocks. */
static inline void shallow_blocks(const schedule *s, uint64_t q, unsigned planes, uint64_t block, uint64_t *out) {
    const vec ones = v_not(v_set1(0));
    vec c0[CHAINS], c1[CHAINS], a[CHAINS], b[CHAINS];
    verdict lo[CHAINS], hi[CHAINS];
    for (unsigned i = 0; i < CHAINS; i++) {
        c0[i] = v_iota(block + i * LANES);
        lo[i] = hi[i] = (verdict){ones, v_set1(0)};
    }
    for (unsigned j = 0; j < planes; j++) {
        for (unsigned i = 0; i < CHAINS; i++) c1[i] = v_or(v_shr32(c0[i]), v_set1((uint64_t)j << 24));
        philox_chains(s, c0, c1, a, b);
        for (unsigned i = 0; i < CHAINS; i++) {
            decide(&lo[i], a[i], q >> (31 - j) & 1);
            decide(&hi[i], b[i], q >> (31 - j) & 1);
        }
    }
    for (unsigned i = 0; i < CHAINS; i++) v_store(out + i * LANES * FD_BLOCK_WORDS, lo[i].kept, hi[i].kept);
}

/* The kernel of this instruction set. */
static void blocks(const fd_law *law, uint64_t block, size_t nblocks, uint64_t *out) {
    const schedule s = make_schedule(law);
    const unsigned planes = fd_plane_count(law->q);
    const size_t group = planes <= 2 ? CHAINS * LANES : LANES;
    uint64_t tail[CHAINS * LANES * FD_BLOCK_WORDS];
    while (nblocks) {
        const size_t n = nblocks < group ? nblocks : group;
        uint64_t *to = n < group ? tail : out;
        if (planes <= 2)
            shallow_blocks(&s, law->q, planes, block, to);
        else
            deep_blocks(&s, law->q, planes, block, to);
        if (to == tail) memcpy(out, tail, n * FD_BLOCK_WORDS * sizeof *out);
        out += n * FD_BLOCK_WORDS, block += n, nblocks -= n;
    }
}
