/* Blocks dropped around seeds. test_kernels.c runs this on every instruction
 * set. */
#include "check.h"

/* Blocks over random axes of arrays that end at a guard page, with gaps and without, against a loop over seeds; now and
 * then of seeds that lie as elements do, of many maps to a chunk and of many chunks to a map. */
void test_drop_blocks(void) {
    enum { MOST = 50000 };
    static const int64_t dims[] = {1, 2, 3, 7, 64, 130, 600};
    static char *x_end, *y_end, want[MOST * 8];
    static unsigned char places[MOST], kept[MOST];
    if (x_end == NULL) x_end = guarded_end(MOST * 16), y_end = guarded_end(MOST * 16);
    for (int trial = 0; trial < 200; trial++) {
        const fd_dtype d = (fd_dtype)random_below(FD_NDTYPES);
        const int64_t item = items[d], gap = trial % 7 ? 1 : 2;
        int64_t shape[4], room[4], m[4], steps[4], n = 1, seeds = 1, m_step = 1;
        const int nd = (int)random_below(5), as_elements = trial % 3 != 0;
        for (int i = 0; i < nd; i++) {
            do shape[i] = dims[random_below(7)];
            while (n * shape[i] > MOST);
            n *= shape[i];
            room[i] = shape[i] - random_below(shape[i] < 40 ? shape[i] : trial % 5 ? 9 : 40);
            seeds *= room[i];
        }
        for (int64_t i = nd - 1, step = gap * item; i >= 0; step *= shape[i--]) {
            m[i] = m_step, steps[i] = step;
            m_step *= as_elements ? shape[i] : room[i];
        }
        if (nd > 0 && trial % 5 == 4) m[0] = trial % 2 ? 3 * m_step : 0; /* some of the channels, or all alike */
        const double p = 2.0 / (double)(n / seeds + 2);
        const fd_view mask = {{random_u64(), random_u64(), fd_threshold(p)}, (uint64_t)random_below(300), nd, room, m};
        fd_mask_bools(&mask, places);
        memset(kept, 1, (size_t)n);
        for (int64_t i = 0; i < seeds; i++) {
            int64_t rest = i, first[4], step = 1, at = 0, over = 1;
            for (int a = nd - 1; a >= 0; step *= shape[a--]) {
                first[a] = rest % room[a], rest /= room[a];
                at += first[a] * step, over *= shape[a] - room[a] + 1;
            }
            for (int64_t k = 0; !places[i] && k < over; k++) {
                int64_t inside = k, to = at;
                step = 1;
                for (int a = nd - 1; a >= 0; step *= shape[a--]) {
                    to += inside % (shape[a] - room[a] + 1) * step, inside /= shape[a] - room[a] + 1;
                }
                kept[to] = 0;
            }
        }
        char *x = x_end - n * gap * item + (gap - 1) * item, *y = y_end - n * gap * item + (gap - 1) * item;
        random_values(d, x, (size_t)((x_end - x) / item));
        for (int64_t i = 0; i < n; i++) scale_one(d, x + i * gap * item, want + i * item, kept[i], 1.25);
        if (trial % 4 == 0) memcpy(y, x, (size_t)(x_end - x)); /* in place */
        fd_set_stream_bytes(trial % 2);
        const int failed = fd_block_apply(&mask, shape, d, 1.25, trial % 4 ? x : y, steps, y, steps);
        fd_set_stream_bytes(0);
        CHECK(failed == 0, "trial %d failed", trial);
        for (int64_t i = 0; i < n; i++)
            CHECK(memcmp(y + i * gap * item, want + i * item, (size_t)item) == 0, "trial %d element %d", trial, (int)i);
        memset(y_end - n, 0xCD, (size_t)n);
        CHECK(fd_block_bools(&mask, shape, y_end - n) == 0, "trial %d bools failed", trial);
        CHECK(memcmp(y_end - n, kept, (size_t)n) == 0, "trial %d bools", trial);
    }
}
