/* DropConnect, forward and both gradients. test_kernels.c runs this on every instruction set and with 1 and 3 threads. */
#include "check.h"

#include <math.h>

static double number(fd_dtype d, const char *p, int64_t i) {
    float f;
    double v;
    if (d == FD_F64) return memcpy(&v, p + 8 * i, 8), v;
    return memcpy(&f, p + 4 * i, 4), f;
}

typedef struct {
    fd_dtype d;
    int64_t n[3];
    unsigned char *kept;
    char *x, *w, *dy;
} layer;

/* Element (i, k) of y, dx or dw by a plain loop over the third index, in float64: a sum, and how large it could be. */
static double expected(const layer *l, int which, int64_t i, int64_t k, double *size) {
    const int64_t O = l->n[1], I = l->n[2], count = l->n[which == 0 ? 2 : which == 1 ? 1 : 0];
    double sum = 0;
    *size = 0;
    for (int64_t j = 0; j < count; j++) {
        const int64_t b = which == 2 ? j : i, o = which == 0 ? k : which == 1 ? j : i, in = which == 0 ? j : k;
        if (!l->kept[(b * O + o) * I + in]) continue;
        const double x = number(l->d, l->x, b * I + in), w = number(l->d, l->w, o * I + in),
                     g = number(l->d, l->dy, b * O + o);
        const double term = 1.25 * (which == 0 ? w * x : which == 1 ? w * g : g * x);
        sum += term, *size += fabs(term);
    }
    return sum;
}

static void call(const layer *l, const fd_view *mask, int which, char *out) {
    if (which == 0) fd_dropconnect(mask, l->d, 1.25, l->x, l->w, out);
    if (which == 1) fd_dropconnect_dx(mask, l->d, 1.25, l->dy, l->w, out);
    if (which == 2) fd_dropconnect_dw(mask, l->d, 1.25, l->dy, l->x, out);
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* What bits a mask of layer l has, as fd_mask_bools says and the law confirms. */
static void decide_all(const layer *l, const fd_view *mask) {
    const int64_t *n = l->n, *m = mask->strides, all = n[0] * n[1] * n[2];
    fd_mask_bools(mask, l->kept);
    for (int64_t e = 0; e < all; e += all < 500 ? 1 : 301) {
        const int64_t bit = e / (n[1] * n[2]) * m[0] + e / n[2] % n[1] * m[1] + e % n[2] * m[2];
        CHECK(l->kept[e] == keep(&mask->law, mask->start + (uint64_t)bit), "bit %lld", (long long)e);
    }
}

/* Sizes around lanes, blocks and tiles, and none; starts inside a byte; masks that stand still, are turned or reversed;
 * inputs and outputs that end at a guard page. As a plain loop over float64 gives it, and the same bits with any number of threads. */
static void test_shapes(void) {
    enum { MOST = 140000 };
    static const int64_t shapes[][3] = {
        {1, 1, 1},    {0, 3, 4},    {3, 0, 4},    {3, 4, 0},     {2, 3, 7},    {3, 5, 8},    {9, 5, 9},
        {4, 4, 15},   {5, 6, 16},   {8, 9, 17},   {7, 1, 31},    {1, 7, 33},   {12, 4, 63},  {3, 130, 64},
        {2, 4, 65},   {17, 3, 127}, {8, 8, 128},  {5, 12, 129},  {33, 41, 8},  {3, 41, 800}, {2, 7, 801},
        {1, 6, 8063}, {2, 4, 8064}, {2, 5, 8065}, {1, 3, 16200}, {2, 5000, 3}, {200, 7, 1}};
    static char *ends[4], want[MOST * 8];
    static unsigned char kept[MOST];
    const int threads = fd_get_num_threads();
    for (int k = 0; k < 4; k++)
        if (ends[k] == NULL) ends[k] = guarded_end(MOST * 8);
    for (int trial = 0; trial < 6 * (int)(sizeof shapes / sizeof *shapes); trial++) {
        const int64_t *n = shapes[trial / 6], B = n[0], O = n[1], I = n[2], back = most(B * O * I - 1, 0);
        const fd_dtype d = trial / 6 % 3 == trial % 3 ? FD_F64 : FD_F32;
        const int64_t m[6][3] = {{O * I, I, 1}, {O * I, I, 1}, {0, I, 1}, {I, 0, 1}, {-O * I, -I, -1}, {1, B, O * B}};
        const double ps[] = {0.5, 0.1, 0.5, 0.25, 0.3, 0.7};
        fd_view mask = {{11, (uint64_t)trial, fd_threshold(ps[trial % 6])}, 0, 3, n, m[trial % 6]};
        mask.start = trial % 6 == 4 ? (uint64_t)back : (uint64_t)(trial % 6 ? random_below(300) : 8 * random_below(40));
        layer l = {
            d, {B, O, I}, kept, ends[0] - B * I * items[d], ends[1] - O * I * items[d], ends[2] - B * O * items[d]};
        random_values(d, l.x, (size_t)(B * I)), random_values(d, l.w, (size_t)(O * I));
        random_values(d, l.dy, (size_t)(B * O));
        decide_all(&l, &mask);
        for (int which = 0; which < 3; which++) {
            const int64_t rows = which == 2 ? O : B, columns = which == 0 ? O : I, bytes = rows * columns * items[d];
            char *out = ends[3] - bytes;
            memset(out - 64, 0xCD, (size_t)bytes + 64);
            call(&l, &mask, which, out);
            for (int64_t i = 1; i <= 64; i++) CHECK(out[-i] == (char)0xCD, "trial %d overrun", trial);
            fd_set_num_threads(1);
            call(&l, &mask, which, want);
            fd_set_num_threads(threads);
            CHECK(memcmp(want, out, (size_t)bytes) == 0, "trial %d, %d: threads show", trial, which);
            for (int64_t e = 0; e < rows * columns; e += rows * columns < 3000 ? 1 : 13) {
                double size, sum = expected(&l, which, e / columns, e % columns, &size);
                CHECK(fabs(number(d, out, e) - sum) <= (d == FD_F64 ? 1e-14 : 3e-6) * size,
                      "trial %d, %d: element %lld is %g instead of %g", trial, which, (long long)e, number(d, out, e),
                      sum);
            }
        }
    }
}

/* Enough work for several threads to take part: the bits of one. */
static void test_threads(void) {
    static const int64_t n[3] = {43, 150, 130}, m[3] = {150 * 130, 130, 1};
    static float x[43 * 130], w[150 * 130], dy[43 * 150], got[150 * 130], want[150 * 130];
    const fd_view mask = {{5, 6, fd_threshold(0.5)}, 3, 3, n, m};
    const layer l = {FD_F32, {43, 150, 130}, NULL, (char *)x, (char *)w, (char *)dy};
    const int64_t sizes[3] = {43 * 150, 43 * 130, 150 * 130};
    const int threads = fd_get_num_threads();
    random_values(FD_F32, l.x, 43 * 130), random_values(FD_F32, l.w, 150 * 130), random_values(FD_F32, l.dy, 43 * 150);
    for (int which = 0; which < 3; which++) {
        call(&l, &mask, which, (char *)got);
        fd_set_num_threads(1);
        call(&l, &mask, which, (char *)want);
        fd_set_num_threads(threads);
        CHECK(memcmp(got, want, (size_t)sizes[which] * 4) == 0, "%d: threads show", which);
    }
}

/* Weights of Inf and NaN in all dropped places (one example has a mask of its own), inputs of them where all is dropped. */
static void test_dropped(void) {
    enum { O = 9, I = 83 };
    static const int64_t n[3] = {1, O, I}, m[3] = {O * I, I, 1};
    static unsigned char kept[O * I];
    static float x[I], w[O * I], y[O], dx[I], zeros[O * I], dw[O * I];
    for (int trial = 0; trial < 4; trial++) {
        fd_view mask = {{8, (uint64_t)trial, fd_threshold(0.4)}, (uint64_t)trial * 5, 3, n, m};
        fd_mask_bools(&mask, kept);
        for (int i = 0; i < I; i++) x[i] = 1;
        for (int e = 0; e < O * I; e++) w[e] = kept[e] ? 1 : e % 2 ? NAN : INFINITY;
        fd_dropconnect(&mask, FD_F32, 1, x, w, y);
        for (int o = 0; o < O; o++) {
            int sum = 0;
            for (int i = 0; i < I; i++) sum += kept[o * I + i];
            CHECK(y[o] == (float)sum, "output %d is %g instead of %d", o, (double)y[o], sum);
        }
        for (int o = 0; o < O; o++) y[o] = 1;
        fd_dropconnect_dx(&mask, FD_F32, 1, y, w, dx);
        for (int i = 0; i < I; i++) {
            int sum = 0;
            for (int o = 0; o < O; o++) sum += kept[o * I + i];
            CHECK(dx[i] == (float)sum, "input %d is %g instead of %d", i, (double)dx[i], sum);
        }
        mask.law.q = 0;
        for (int i = 0; i < I; i++) x[i] = NAN;
        for (int o = 0; o < O; o++) y[o] = INFINITY;
        memset(dw, 0xCD, sizeof dw);
        fd_dropconnect_dw(&mask, FD_F32, 1, y, x, dw);
        CHECK(memcmp(dw, zeros, sizeof dw) == 0, "all is dropped");
    }
}

void test_dropconnect(void) {
    test_shapes();
    test_threads();
    test_dropped();
}
