/* What the files of C tests share: a check that counts, test data, guard pages. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS: this header comes first */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd_impl.h"
#include "fd_scalar.h"

extern int failures;
extern const char *isa;
extern uint64_t random_state;
extern const char *vectors; /* the folder */

#define CHECK(ok, ...)                                                 \
    do {                                                               \
        if (!(ok)) {                                                   \
            if (failures++ < 20) {                                     \
                printf("FAILED %s:%d [%s] ", __FILE__, __LINE__, isa); \
                printf(__VA_ARGS__);                                   \
                putchar('\n');                                         \
            }                                                          \
        }                                                              \
    } while (0)

static inline uint64_t random_u64(void) { /* xorshift64 (Marsaglia 2003): test data only */
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}

static inline int64_t random_below(int64_t n) { return (int64_t)(random_u64() % (uint64_t)n); }

static const int items[FD_NDTYPES] = {4, 8, 2, 2};

/* Random numbers of moderate size in any of the four formats: the exponent's top bits are kept out of the extremes. */
static inline void random_values(fd_dtype dtype, char *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const double v = (double)(int64_t)random_u64() * 0x1p-60;
        const float f = (float)v;
        const uint16_t h = dtype == FD_F16 ? f16_of_f32(f) : bf16_of_f32(f);
        if (dtype == FD_F64)
            memcpy(x + 8 * i, &v, 8);
        else if (dtype == FD_F32)
            memcpy(x + 4 * i, &f, 4);
        else
            memcpy(x + 2 * i, &h, 2);
    }
}

/* What a kernel should make of one element. */
static inline void scale_one(fd_dtype dtype, const char *x, char *y, int kept, double scale) {
    const uint64_t all[2] = {kept ? 1 : 0};
    switch (dtype) {
    case FD_F32: scalar_f32(all, 0, 0, 1, x, y, (float)scale); break;
    case FD_F64: scalar_f64(all, 0, 0, 1, x, y, scale); break;
    case FD_F16: scalar_f16(all, 0, 0, 1, x, y, (float)scale); break;
    case FD_BF16: scalar_bf16(all, 0, 0, 1, x, y, (float)scale); break;
    }
}

/* A room of `size` bytes between two pages that nobody may touch, one of which it meets exactly: the first byte after it, or
 * before it, is a segmentation fault. */
static inline char *guarded(size_t size, int behind) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page;
    char *p = mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) != 0 || mprotect(p + page + room, page, PROT_NONE) != 0) {
        perror("guard page");
        exit(2);
    }
    return behind ? p + page + room : p + page;
}

/* Its end, and its beginning. */
static inline char *guarded_end(size_t size) { return guarded(size, 1); }
static inline char *guarded_begin(size_t size) { return guarded(size, 0); }

/* The law, element by element (test_kernels.c). */
int keep(const fd_law *law, uint64_t e);

/* What the other files test, on the instruction set in use. */
void test_drop_blocks(void);
void test_dropconnect(void);
void test_fused(void);
void test_known(void);
void test_layers(void);
void test_many(void);
void test_noise(void);
void test_softmax(void);
void test_watch(void);

#endif
