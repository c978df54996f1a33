/* Softmax and dropout in one pass. test_kernels.c runs this on every instruction
 * set. */
#include "check.h"

#include <math.h>

/* Rows whose ends are guard pages, of every length that lanes, pieces and what is held make special, in place and not, with
 * and without gaps, beyond the caches too: backward and forward give the bits of the portable kernels, and what a plain
 * loop over float64 makes of float32. */
void test_softmax(void) {
    enum { MOST = 20000 };
    static const int64_t lengths[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 100, 512, 1023, 1025, 4097, 8192, 8193, MOST};
    static char *ends[5], want[3][MOST * 8 * 2], direct[MOST * 8 * 2];
    const char *own = fd_isa();
    for (int i = 0; i < 5; i++)
        if (ends[i] == NULL) ends[i] = guarded_end(MOST * 8 * 2);
    for (int trial = 0; trial < 8 * (int)(sizeof lengths / sizeof *lengths); trial++) {
        const fd_dtype d = (fd_dtype)(trial % FD_NDTYPES);
        const int64_t n = lengths[trial / 8], rows = n > 300 ? 2 : 7, gap = trial % 8 >= FD_NDTYPES && n < 9000 ? 2 : 1;
        const int64_t item = items[d] * gap, room = (n ? rows * n * item : 0), real = d == FD_F64 ? 8 : 4;
        const int64_t shape[2] = {rows, n}, steps[2] = {n * item, item}, together[2] = {n, 1}, turned[2] = {1, rows};
        const fd_view mask = {{7, (uint64_t)trial, fd_threshold(0.3)}, 11, 2, shape, trial % 3 ? together : turned};
        char *x, *dy, *y, *dx, *state = ends[4] - rows * 2 * real;
        if (gap == 2 && rows * n > MOST) continue;
        x = ends[0] - room, dy = ends[1] - room, y = ends[2] - room, dx = ends[3] - room;
        for (int turn = 0; turn < 2; turn++) {
            fd_set_isa(turn ? own : "portable");
            random_state = 88172645463325252u + (uint64_t)trial;
            random_values(d, x, (size_t)(room / items[d])), random_values(d, dy, (size_t)(room / items[d]));
            memset(y, 0xCD, (size_t)room), memset(dx, 0xCD, (size_t)room);
            fd_set_stream_bytes(trial % 5 == 0 && turn ? 1 : 0);
            fd_softmax_dropout(&mask, d, 1.25, x, steps, y, steps, state);
            fd_softmax_dropout_grad(&mask, d, 1.25, x, steps, state, dy, steps, dx, steps);
            memset(direct, 0xCD, (size_t)room);
            fd_softmax_dropout_grad(&mask, d, 1.25, x, steps, NULL, dy, steps, direct, steps);
            if (turn == 0) {
                memcpy(want[2], direct, (size_t)room);
                memcpy(want[0], y, (size_t)room), memcpy(want[1], dx, (size_t)room);
                continue;
            }
            CHECK(memcmp(want[0], y, (size_t)room) == 0, "dtype %d n=%lld", (int)d, (long long)n);
            CHECK(memcmp(want[2], direct, (size_t)room) == 0, "dtype %d n=%lld, of P", (int)d, (long long)n);
            CHECK(memcmp(want[1], dx, (size_t)room) == 0, "dtype %d n=%lld, backward", (int)d, (long long)n);
            fd_softmax_dropout_grad(&mask, d, 1.25, x, steps, state, dy, steps, dy, steps);
            fd_softmax_dropout(&mask, d, 1.25, x, steps, x, steps, NULL);
            for (int64_t i = 0; i < rows * n; i++) {
                CHECK(memcmp(x + i * item, y + i * item, (size_t)items[d]) == 0, "n=%lld in place", (long long)n);
                CHECK(memcmp(dy + i * item, dx + i * item, (size_t)items[d]) == 0, "n=%lld dy", (long long)n);
            }
            fd_set_stream_bytes(0);
        }
        if (d != FD_F32) continue;
        random_state = 88172645463325252u + (uint64_t)trial;
        random_values(d, x, (size_t)(room / items[d]));
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0;
            float v, got;
            for (int64_t i = 0; i < n; i++) memcpy(&v, x + r * steps[0] + i * item, 4), sum += exp(v);
            for (int64_t i = 0; i < n; i++) {
                memcpy(&v, x + r * steps[0] + i * item, 4), memcpy(&got, y + r * steps[0] + i * item, 4);
                const int kept = keep(&mask.law, 11 + (uint64_t)(r * mask.strides[0] + i * mask.strides[1]));
                const double value = kept ? exp(v) / sum * 1.25 : 0;
                CHECK(fabs(got - value) <= 3e-6 * value, "n=%lld element %lld", (long long)n, (long long)i);
            }
        }
    }
}
