/* The mask law's planes, stated once over a small vocabulary that each instruction set defines before including this:
 *
 *   vec                 LANES 64-bit lanes, one block of the law per lane
 *   CHAINS              independent Philox chains kept in flight; a chain is a string of dependent multiplies, about
 *                       seven times as long as its throughput, and more chains than registers hold would spill
 *   v_set1(u64)  v_iota(u64 b): b, b+1, ...     v_load(const u64 *)  v_store(u64 *, a)
 *   v_mul(a, b): low 32 bits times low 32 bits     v_shr32(a)
 *   v_add(a, b)  v_xor(a, b)  v_xor3(a, b, c)  v_and(a, b)  v_andnot(a, b): ~a & b  v_or(a, b)  v_not(a)
 *   v_last(p, c, k): p's halves swapped, the low 32 bits of c and k xored into the lower one: a round's end, packed
 *   v_nonzero(a): bit i says that lane i has a bit set     v_compress(a, bits): those lanes, moved to the front
 *   v_zip(u64 *out, a, b): stores a0 b0 a1 b1 ...: the law's words of LANES blocks
 *
 * Only the low half of a Philox word is ever used by v_mul and v_last, so the halves above are left as they fall: the
 * product's low word needs no masking, and a round is two multiplies, two shifts and two three-way xors.
 *
 * Two things make it cheaper than blocks times planes times ten rounds:
 *
 * - The first rounds are shared. Within a call only the block's low half differs from lane to lane and only j from plane
 *   to plane, and they sit in different words of the counter: by the third round they have met in one product alone.
 *   What depends on the block is a `head`, made once for all planes; what depends on the plane is a scalar.
 * - Lanes that are decided wait for nobody. After WIDE planes one element in 2^WIDE is undecided, and with it some 40 %
 *   of the blocks; only those go on, moved together so that every lane works. */

#define WIDE 8      /* planes for every block before the first look at what is decided; a multiple of CHAINS */
#define AT_ONCE 128 /* blocks between two looks; a multiple of CHAINS * LANES */

typedef struct {
    uint64_t hi, lo; /* plane j's part of rounds 2 and 3 */
} plane_words;

typedef struct {
    uint64_t k0[FD_PHILOX_ROUNDS], k1[FD_PHILOX_ROUNDS];
    uint64_t c0, c1, c2; /* what round 1 makes of the call and the block's high half */
    uint64_t q;
    fd_errand *meanwhile; /* or NULL */
    size_t piece;         /* of it, after CHAINS planes */
    plane_words planes[32];
} schedule;

/* For blocks that share the high half `block_hi`. */
static inline void make_schedule(schedule *s, const fd_law *law, uint64_t block_hi) {
    for (uint32_t r = 0; r < FD_PHILOX_ROUNDS; r++) {
        s->k0[r] = (uint32_t)((uint32_t)law->key + r * FD_PHILOX_W0);
        s->k1[r] = (uint32_t)((uint32_t)(law->key >> 32) + r * FD_PHILOX_W1);
    }
    const uint64_t p1 = (law->call & 0xFFFFFFFFu) * FD_PHILOX_M1;
    s->c0 = p1 >> 32 ^ block_hi ^ s->k0[0];
    s->c1 = (p1 & 0xFFFFFFFFu) ^ s->k0[1];
    s->c2 = law->call >> 32 ^ s->k1[0];
    s->q = law->q;
}

static inline void make_planes(schedule *s, unsigned first, unsigned end) {
    for (unsigned j = first; j < end; j++) {
        const uint64_t p0 = (s->c0 ^ (uint64_t)j << 24) * FD_PHILOX_M0;
        s->planes[j] = (plane_words){p0 >> 32 ^ s->k1[1], p0 & 0xFFFFFFFFu};
    }
}

/* What rounds 1 to 3 make of the blocks alone, round keys mixed in. */
typedef struct {
    vec c3_1, c0_3, c2_3, c3_3;
} head;

static inline head make_head(const schedule *s, vec block) {
    const vec m0 = v_set1(FD_PHILOX_M0), m1 = v_set1(FD_PHILOX_M1);
    head h;
    h.c3_1 = v_mul(block, m0);
    const vec p1 = v_mul(v_xor(v_shr32(h.c3_1), v_set1(s->c2)), m1);
    h.c0_3 = v_xor(p1, v_set1(s->k0[2]));
    h.c3_3 = v_mul(v_xor(v_shr32(p1), v_set1(s->c1)), m0);
    h.c2_3 = v_xor(v_shr32(h.c3_3), v_set1(s->k1[2]));
    return h;
}

/* Rounds 4 to the last of CHAINS chains that have three behind them. Out: words 0 and 1 in a, words 2 and 3 in b. */
static inline void late_rounds(const schedule *s, vec c0[CHAINS], vec c1[CHAINS], vec c2[CHAINS], vec c3[CHAINS],
                               vec a[CHAINS], vec b[CHAINS]) {
    const vec m0 = v_set1(FD_PHILOX_M0), m1 = v_set1(FD_PHILOX_M1);
#pragma GCC unroll 1
    for (int r = 3; r < FD_PHILOX_ROUNDS - 1; r++) {
        const vec k0 = v_set1(s->k0[r]), k1 = v_set1(s->k1[r]);
#pragma GCC unroll 8
        for (unsigned i = 0; i < CHAINS; i++) {
            const vec p0 = v_mul(c0[i], m0), p1 = v_mul(c2[i], m1);
            c0[i] = v_xor3(v_shr32(p1), c1[i], k0);
            c2[i] = v_xor3(v_shr32(p0), c3[i], k1);
            c1[i] = p1;
            c3[i] = p0;
        }
    }
    const vec k0 = v_set1(s->k0[FD_PHILOX_ROUNDS - 1]), k1 = v_set1(s->k1[FD_PHILOX_ROUNDS - 1]);
    for (int i = 0; i < CHAINS; i++) {
        a[i] = v_last(v_mul(c2[i], m1), c1[i], k0);
        b[i] = v_last(v_mul(c0[i], m0), c3[i], k1);
    }
}

/* CHAINS times LANES blocks of one plane each: chain i takes head i * head_step and plane j + i * plane_step. Out: the
 * blocks' bits, words 0 and 1 in a, words 2 and 3 in b. */
static inline void philox_chains(const schedule *s, const head *h, int head_step, unsigned j, unsigned plane_step,
                                 vec a[CHAINS], vec b[CHAINS]) {
    const vec m1 = v_set1(FD_PHILOX_M1);
    vec c0[CHAINS], c1[CHAINS], c2[CHAINS], c3[CHAINS];
#pragma GCC unroll 8
    for (unsigned i = 0; i < CHAINS; i++) {
        const head *own = h + i * (unsigned)head_step;
        const plane_words *w = s->planes + j + i * plane_step;
        c1[i] = v_mul(v_xor(own->c3_1, v_set1(w->hi)), m1);
        c0[i] = v_xor(v_shr32(c1[i]), own->c0_3);
        c2[i] = v_xor(own->c2_3, v_set1(w->lo));
        c3[i] = own->c3_3;
    }
    late_rounds(s, c0, c1, c2, c3, a, b);
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

/* Planes past the last one that matters are harmless: q's bits are 0 there. 32 is a multiple of CHAINS: none is made
 * past plane 31. */
static inline int q_bit(const schedule *s, unsigned j) { return s->q >> (31 - j) & 1; }

/* Blocks on their way: number, place in the output, and per half a word of lanes undecided. */
typedef struct {
    _Alignas(FD_LINE) uint64_t block[AT_ONCE + LANES], at[AT_ONCE + LANES], lo[AT_ONCE + LANES], hi[AT_ONCE + LANES];
    unsigned count;
} pending;

static inline void put_pending(pending *list, vec block, vec at, vec lo, vec hi, unsigned lanes) {
    const unsigned open = v_nonzero(v_or(lo, hi)) & lanes;
    v_store(list->block + list->count, v_compress(block, open));
    v_store(list->at + list->count, v_compress(at, open));
    v_store(list->lo + list->count, v_compress(lo, open));
    v_store(list->hi + list->count, v_compress(hi, open));
    list->count += fd_popcount(open);
}

static inline void before_planes(const schedule *s) {
    if (s->meanwhile != NULL && s->meanwhile->n) fd_warm(s->meanwhile);
}

static inline void after_planes(const schedule *s) {
    if (s->meanwhile != NULL && s->meanwhile->n) fd_advance(s->meanwhile, s->piece);
}

/* CHAINS planes from j on of LANES blocks. */
static inline void some_planes(const schedule *s, const head *h, unsigned j, verdict *lo, verdict *hi) {
    vec a[CHAINS], b[CHAINS];
    before_planes(s);
    philox_chains(s, h, 0, j, 1, a, b);
    for (unsigned i = 0; i < CHAINS; i++) {
        const int bit = q_bit(s, j + i);
        decide(lo, a[i], bit);
        decide(hi, b[i], bit);
    }
    after_planes(s);
}

/* The planes from WIDE on for what is still undecided, LANES such blocks at a time. The list shrinks in place: what is
 * written lies before what is still to be read. */
static void finish(schedule *s, unsigned planes, pending *list, uint64_t *out) {
    for (unsigned j = WIDE; list->count && j < planes; j += CHAINS) {
        const unsigned n = list->count;
        make_planes(s, j, j + CHAINS);
        list->count = 0;
        for (unsigned i = 0; i < n; i += LANES) {
            const unsigned lanes = n - i < LANES ? (1u << (n - i)) - 1 : ~0u;
            const vec block = v_load(list->block + i), at = v_load(list->at + i);
            const head h = make_head(s, block);
            verdict lo = {v_load(list->lo + i), v_set1(0)}, hi = {v_load(list->hi + i), v_set1(0)};
            _Alignas(FD_LINE) uint64_t place[LANES], more[2 * LANES];
            some_planes(s, &h, j, &lo, &hi);
            v_store(place, at);
            v_zip(more, lo.kept, hi.kept);
            for (unsigned k = 0; k < LANES && i + k < n; k++)
                out[place[k]] |= more[2 * k], out[place[k] + 1] |= more[2 * k + 1];
            put_pending(list, block, at, lo.undecided, hi.undecided, lanes);
        }
    }
}

/* LANES blocks, all planes up to WIDE. */
static inline void wide_blocks(const schedule *s, uint64_t block, unsigned planes, verdict *lo, verdict *hi) {
    const head h = make_head(s, v_iota(block));
    lo->undecided = hi->undecided = v_not(v_set1(0));
    lo->kept = hi->kept = v_set1(0);
    for (unsigned j = 0; j < WIDE && j < planes; j += CHAINS) some_planes(s, &h, j, lo, hi);
}

/* CHAINS * LANES blocks where one or two planes decide everything (p = 1/2, 1/4, 3/4): chains run over blocks. */
static inline void shallow_blocks(const schedule *s, unsigned planes, uint64_t block, uint64_t *out) {
    const vec ones = v_not(v_set1(0));
    vec a[CHAINS], b[CHAINS];
    head h[CHAINS];
    verdict lo[CHAINS], hi[CHAINS];
    for (unsigned i = 0; i < CHAINS; i++) {
        h[i] = make_head(s, v_iota(block + i * LANES));
        lo[i] = hi[i] = (verdict){ones, v_set1(0)};
    }
    for (unsigned j = 0; j < planes; j++) {
        before_planes(s);
        philox_chains(s, h, 1, j, 0, a, b);
        for (unsigned i = 0; i < CHAINS; i++) {
            decide(&lo[i], a[i], q_bit(s, j));
            decide(&hi[i], b[i], q_bit(s, j));
        }
        after_planes(s);
    }
    for (unsigned i = 0; i < CHAINS; i++) v_zip(out + i * LANES * FD_BLOCK_WORDS, lo[i].kept, hi[i].kept);
}

/* Up to AT_ONCE blocks that share their high half. Whole vectors are made, so `out` is a buffer of ours where n is no
 * multiple of them. */
static void some_blocks(schedule *s, unsigned planes, uint64_t block, unsigned n, uint64_t *out) {
    if (planes <= 2) {
        for (unsigned i = 0; i < n; i += CHAINS * LANES) shallow_blocks(s, planes, block + i, out + i * FD_BLOCK_WORDS);
        return;
    }
    pending list;
    list.count = 0;
    for (unsigned i = 0; i < n; i += LANES) {
        const unsigned lanes = n - i < LANES ? (1u << (n - i)) - 1 : ~0u;
        verdict lo, hi;
        wide_blocks(s, block + i, planes, &lo, &hi);
        v_zip(out + i * FD_BLOCK_WORDS, lo.kept, hi.kept);
        if (planes > WIDE) {
            const vec at = v_iota((uint64_t)i);
            put_pending(&list, v_iota(block + i), v_add(at, at), lo.undecided, hi.undecided, lanes);
        }
    }
    finish(s, planes, &list, out);
}

/* How much of an errand of n elements to do at a time, so that it lasts most of the time that the bits take: memory should
 * not be idle. Two fifths of the blocks are expected back after WIDE planes, some once more. Pieces as small as to last to
 * the very end did worse (bench/NOTES.md): what is left then is done at full speed. */
static size_t piece(size_t n, size_t nblocks, unsigned planes) {
    const size_t groups = (nblocks + LANES - 1) / LANES;
    size_t times = (nblocks + CHAINS * LANES - 1) / (CHAINS * LANES) * planes;
    if (planes > 2) times = groups * ((planes < WIDE ? planes : WIDE) + CHAINS - 1) / CHAINS;
    if (planes > WIDE) times += groups * 2 / 5 + 2;
    const size_t each = n / times + 1;
    return each + (0 - each) % 64;
}

/* The kernel of this instruction set. */
static void blocks(const fd_law *law, uint64_t block, size_t nblocks, uint64_t *out, fd_errand *errand) {
    const unsigned planes = fd_plane_count(law->q);
    const unsigned first = planes <= 2 ? planes : planes > WIDE ? WIDE : (planes + CHAINS - 1) / CHAINS * CHAINS;
    const size_t group = planes <= 2 ? CHAINS * LANES : LANES;
    _Alignas(FD_LINE) uint64_t tail[AT_ONCE * FD_BLOCK_WORDS];
    schedule s;
    s.meanwhile = errand;
    if (errand != NULL) s.piece = piece(errand->n, nblocks, planes);
    while (nblocks) {
        make_schedule(&s, law, block >> 32);
        make_planes(&s, 0, first);
        const uint64_t left = ((uint64_t)1 << 32) - (block & 0xFFFFFFFFu); /* blocks with the same high half */
        size_t same = nblocks < left ? nblocks : (size_t)left;
        nblocks -= same;
        while (same) {
            const size_t n = same < AT_ONCE ? same : AT_ONCE;
            uint64_t *to = n % group ? tail : out;
            some_blocks(&s, planes, block, (unsigned)n, to);
            if (to == tail) memcpy(out, tail, n * FD_BLOCK_WORDS * sizeof *out);
            out += n * FD_BLOCK_WORDS, block += n, same -= n;
        }
    }
}
