/* Calls that are watched: told to stop they leave the rest of their output, in one thread and in many; told to go on they
 * end as any other. */
#include "check.h"

/* Each bit has a block to itself, so that the whole takes seconds; bytes of its output. */
#define BITS ((int64_t)1 << 27)
#define BYTES ((size_t)BITS / 8)

static int asked, stop_at;
static uint64_t within;

static void pack_all(unsigned char *out, uint64_t key, int64_t n) {
    const int64_t stride = 1000;
    const fd_view mask = {{key, 2, fd_threshold(0.1)}, 0, 1, &n, &stride};
    fd_mask_pack(&mask, out);
}

/* Calls the library itself, as a handler of a signal may. */
static int poll_and_work(void) {
    unsigned char out[16];
    pack_all(out, 3, 128);
    memcpy(&within, out, sizeof within);
    return ++asked == stop_at;
}

static void stopped(unsigned char *out) {
    memset(out, 0, BYTES);
    asked = 0, stop_at = 2;
    fd_watch(poll_and_work);
    pack_all(out, 1, BITS);
    CHECK(fd_unwatch() == 1, "not told");
    CHECK(asked == 2, "asked %d times", asked);
    size_t last = BYTES;
    while (last > 0 && out[last - 1] == 0) last--;
    CHECK(last > 0 && last < BYTES, "stopped at byte %zu", last);
}

void test_watch(void) {
    unsigned char *out = malloc(BYTES), want[16];
    uint64_t first;
    pack_all(want, 3, 128);
    memcpy(&first, want, sizeof first);
    const int threads = fd_get_num_threads();
    for (int n = 1; n <= 4; n += 3) {
        fd_set_num_threads(n);
        stopped(out);
        CHECK(within == first, "a call within the poll");

        static unsigned char whole[1 << 18], watched[1 << 18]; /* 2^21 bits: a tenth of a second, and more */
        pack_all(whole, 1, 1 << 21);
        stop_at = -1;
        fd_watch(poll_and_work);
        pack_all(watched, 1, 1 << 21);
        CHECK(fd_unwatch() == 0, "told though the poll said to go on");
        CHECK(memcmp(whole, watched, sizeof whole) == 0, "a watched call has other bits");
    }
    fd_set_num_threads(threads);
    free(out);
}
