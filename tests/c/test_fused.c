/* What is more than a mask applied: fused operations, and many masks at once. test_kernels.c runs this on every instruction
 * set. */
#include "check.h"

/* Fused operations over random shapes, seconds that stand still and outputs beyond the caches: every element as a call of
 * its own on the portable kernels gives it. */
void test_fused(void) {
    enum { MOST = 3000, ACTIVATIONS = FD_SILU + 1 };
    static char x[MOST * 8], z[MOST * 8], room[MOST * 8 + 192];
    const char *own = fd_isa();
    for (int trial = 0; trial < 400; trial++) {
        const fd_dtype d = (fd_dtype)random_below(FD_NDTYPES);
        const int64_t item = items[d], rows = 1 + random_below(trial % 3 ? 4 : 60), cols = random_below(MOST) / rows;
        const int64_t shape[2] = {rows, cols}, steps[2] = {cols * item, item}, bias[2] = {0, item},
                      still[2] = {item, 0};
        const int64_t m[3][2] = {{cols, 1}, {0, 1}, {1, 0}}, unit[1] = {1};
        const int64_t *zs = trial % 4 == 0 ? bias : trial % 4 == 1 ? still : steps;
        fd_op op = {.code = (fd_opcode)(trial % FD_NOPS), .scale = 1.0 / 0.7, .shift = 0.25, .dropped = -1.5};
        op.activation = (fd_activation)random_below(ACTIVATIONS);
        const int no_z = op.code == FD_AFFINE || (op.code == FD_ACT && trial % 2);
        const fd_view mask = {
            {7, (uint64_t)trial, fd_threshold(0.3)}, (uint64_t)random_below(300), 2, shape, m[trial % 7 % 3]};
        char *y = room + 64 + random_below(64 / item) * item, one[8];
        random_values(d, x, (size_t)(rows * cols)), random_values(d, z, (size_t)(rows * cols));
        memset(room, 0xCD, sizeof room);
        if (trial % 5 == 0) memcpy(y, x, (size_t)(rows * cols * item)); /* in place */
        fd_set_stream_bytes(trial % 2 ? 1 : 0);
        fd_mask_fused(&mask, d, &op, trial % 5 ? x : y, steps, no_z ? NULL : z, no_z ? NULL : zs, y, steps);
        fd_set_stream_bytes(0);
        fd_set_isa("portable");
        for (int64_t i = 0; i < rows * cols; i += trial % 10 ? 7 : 1) {
            const int64_t r = i / cols, c = i % cols;
            const fd_view single = {mask.law, mask.start + (uint64_t)(r * mask.strides[0] + c * mask.strides[1]), 1,
                                    unit, unit};
            fd_mask_fused(&single, d, &op, x + i * item, &item, no_z ? NULL : z + r * zs[0] + c * zs[1],
                          no_z ? NULL : &item, one, &item);
            CHECK(memcmp(one, y + i * item, (size_t)item) == 0, "trial %d op %d act %d dtype %d element %d", trial,
                  (int)op.code, (int)op.activation, (int)d, (int)i);
        }
        fd_set_isa(own);
        for (int64_t i = 1; i <= 64; i++)
            CHECK(y[-i] == (char)0xCD && y[rows * cols * item + i - 1] == (char)0xCD, "trial %d overrun", trial);
    }
}

/* Several masks at once against one at a time: inputs of less than a piece and of several, flat, as rows, turned, and
 * under masks that stand still; outputs of any distance, which end at a guard page; plain and streaming stores. */
void test_many(void) {
    enum { MOST = 300000, COUNT = 3 };
    static char *x_end, *y_end, want[MOST * 8];
    if (x_end == NULL) x_end = guarded_end(MOST * 8), y_end = guarded_end(MOST * 8 * COUNT + 512);
    for (int trial = 0; trial < 48; trial++) {
        const fd_dtype d = (fd_dtype)(trial % FD_NDTYPES);
        const int64_t item = items[d], count = random_below(COUNT + 1);
        const int64_t n1 = 1 + random_below(trial % 3 ? 700 : 3), n0 = random_below((trial % 5 ? 3000 : MOST) / n1);
        const int64_t shape[2] = {n0, n1}, rows[2] = {n1 * item, item}, turned[2] = {item, n0 * item};
        const int64_t m[4][2] = {{n1, 1}, {1, 0}, {0, 1}, {1, n0}};
        const int64_t gap = random_below(3) * (trial % 2 ? 1 : 64 / item) * item, y_step = n0 * n1 * item + gap;
        const int64_t *xs = trial % 7 ? rows : turned, *ys = trial % 11 ? rows : turned;
        fd_law laws[COUNT];
        for (int t = 0; t < COUNT; t++) laws[t] = (fd_law){random_u64(), random_u64(), fd_threshold(0.3)};
        fd_view mask = {laws[0], (uint64_t)random_below(300), 2, shape, m[trial / 4 % 4]};
        char *x = x_end - n0 * n1 * item, *y = y_end - (count ? (count - 1) * y_step + n0 * n1 * item : 0);
        random_values(d, x, (size_t)(n0 * n1));
        memset(y - 64, 0xCD, (size_t)(y_end - y) + 64);
        fd_set_stream_bytes(trial / 24 ? 1 : 0);
        fd_masks_apply(&mask, count, laws, d, 1.25, x, xs, y, ys, y_step);
        fd_set_stream_bytes(0);
        for (int i = 1; i <= 64; i++) CHECK(y[-i] == (char)0xCD, "trial %d overrun", trial);
        for (int64_t t = 0; t < count; t++, y += y_step) {
            mask.law = laws[t];
            fd_mask_apply(&mask, d, 1.25, x, xs, want, ys);
            CHECK(memcmp(y, want, (size_t)(n0 * n1 * item)) == 0, "trial %d output %d", trial, (int)t);
            for (int64_t i = 0; i < gap && t + 1 < count; i++)
                CHECK(y[n0 * n1 * item + i] == (char)0xCD, "trial %d overrun between", trial);
        }
    }
}
