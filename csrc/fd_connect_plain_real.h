/* Included by fd_connect_plain.h for each FD_REAL, with FD_WORD, an integer of its size. */
typedef struct {
    FD_REAL lane[4];
} FD_NAME(reals);

static FD_INLINE FD_NAME(reals) FD_NAME(all)(FD_REAL a) { return (FD_NAME(reals)){{a, a, a, a}}; }
static FD_INLINE FD_NAME(reals) FD_NAME(none)(void) { return FD_NAME(all)(0); }
static FD_INLINE FD_NAME(reals) FD_NAME(load_some)(const FD_REAL *p, size_t n) {
    FD_NAME(reals) v = FD_NAME(none)();
    memcpy(&v, p, n * sizeof *p);
    return v;
}
static FD_INLINE FD_NAME(reals) FD_NAME(load)(const FD_REAL *p) {
    FD_NAME(reals) v;
    memcpy(&v, p, sizeof v);
    return v;
}
static FD_INLINE void FD_NAME(store_some)(FD_REAL *p, size_t n, FD_NAME(reals) v) { memcpy(p, &v, n * sizeof *p); }
static FD_INLINE void FD_NAME(store)(FD_REAL *p, FD_NAME(reals) v) { memcpy(p, &v, sizeof v); }

static FD_INLINE FD_NAME(reals) FD_NAME(madd)(FD_NAME(reals) a, FD_NAME(reals) b, FD_NAME(reals) c) {
    for (int k = 0; k < 4; k++) c.lane[k] += a.lane[k] * b.lane[k];
    return c;
}

static FD_INLINE FD_NAME(reals)
    FD_NAME(kept_madd)(const unsigned char *bits, size_t i, FD_NAME(reals) a, FD_NAME(reals) b, FD_NAME(reals) c) {
    const FD_WORD m = (FD_WORD)(bits[FD_BIG_ENDIAN ? i / 8 ^ 7 : i / 8] >> (i & 4));
    FD_WORD u[4];
    FD_REAL v[4];
    for (int k = 0; k < 4; k++) v[k] = a.lane[k] * b.lane[k];
    memcpy(u, v, sizeof u);
    for (int k = 0; k < 4; k++) u[k] &= (FD_WORD)0 - (m >> k & 1);
    memcpy(v, u, sizeof v);
    for (int k = 0; k < 4; k++) c.lane[k] += v[k];
    return c;
}

static FD_INLINE FD_REAL FD_NAME(lanes_sum)(FD_NAME(reals) v) {
    return (v.lane[0] + v.lane[2]) + (v.lane[1] + v.lane[3]);
}
