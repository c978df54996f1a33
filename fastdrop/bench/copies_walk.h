/* The two streaming walks, once. Included per instruction set with TARGET, WALK, WALK4 and LINE(y, x) defined: LINE copies
 * one cache line to an aligned y by streaming stores. Both take a multiple of a line, and return what they have done. */
TARGET static size_t WALK(char *y, const char *x, size_t n) {
    size_t i = 0;
    for (; i + 4 * LINE_BYTES <= n; i += 4 * LINE_BYTES) {
        for (size_t k = 0; k < 4; k++) __builtin_prefetch(x + i + AHEAD + k * LINE_BYTES);
        for (size_t k = 0; k < 4; k++) LINE(y + i + k * LINE_BYTES, x + i + k * LINE_BYTES);
    }
    for (; i < n; i += LINE_BYTES) LINE(y + i, x + i);
    return i;
}

/* As glibc's memcpy does far above the cache: four pages side by side, so that four of the machine's prefetchers and
 * four open rows of memory are at work. */
TARGET static size_t WALK4(char *y, const char *x, size_t n) {
    size_t i = 0;
    for (; i + 4 * PAGE_BYTES <= n; i += 4 * PAGE_BYTES)
        for (size_t j = 0; j < PAGE_BYTES; j += 2 * LINE_BYTES)
            for (size_t page = 0; page < 4; page++) {
                const size_t at = i + page * PAGE_BYTES + j;
                __builtin_prefetch(x + at + 4 * LINE_BYTES);
                __builtin_prefetch(x + at + 5 * LINE_BYTES);
                LINE(y + at, x + at);
                LINE(y + at + LINE_BYTES, x + at + LINE_BYTES);
            }
    return i + WALK(y + i, x + i, n - i);
}

#undef TARGET
#undef WALK
#undef WALK4
#undef LINE
