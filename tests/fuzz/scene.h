/* Bytes -> a call: a view, a law, and arrays of any layout on heap blocks of exactly their size. */
#ifndef SCENE_H
#define SCENE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fd_impl.h"
#include "model.h"

#ifndef FUZZ_MOST
#define FUZZ_MOST 40000 /* elements of a call */
#endif
#define AXES 6

#define CHECK(ok, ...)                                                            \
    do {                                                                          \
        if (!(ok)) {                                                              \
            fprintf(stderr, "FINDING %s:%d [%s] ", __FILE__, __LINE__, fd_isa()); \
            fprintf(stderr, __VA_ARGS__);                                         \
            fputc('\n', stderr);                                                  \
            abort();                                                              \
        }                                                                         \
    } while (0)

/* What is left of the input; past its end there are zeros. */
typedef struct {
    const uint8_t *at, *end;
    uint64_t state; /* of the values' generator */
} input;

static inline unsigned take(input *in) { return in->at < in->end ? *in->at++ : 0; }
static inline unsigned take2(input *in) {
    const unsigned low = take(in);
    return low | take(in) << 8;
}
static inline uint64_t take8(input *in) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)take(in) << 8 * i;
    return v;
}

typedef struct {
    fd_view view;
    fd_dtype dtype;
    int nd;
    int64_t n, shape[AXES], m[AXES];
} scene;

typedef struct {
    char *memory, *first; /* of the block; of element 0 */
    size_t bytes;
    int64_t strides[AXES];
} array;

/* Place of the i-th element, in C order. */
static inline int64_t place(const scene *s, const int64_t *strides, int64_t i) {
    int64_t at = 0;
    for (int a = s->nd - 1; a >= 0; a--) {
        at = (int64_t)((uint64_t)at + (uint64_t)(i % s->shape[a]) * (uint64_t)strides[a]);
        i /= s->shape[a];
    }
    return at;
}

static inline int kept(const scene *s, const fd_law *law, int64_t i) {
    return model_keep(law, s->view.start + (uint64_t)place(s, s->m, i));
}

/* An axis of the elements that are left. */
static inline int64_t take_extent(input *in, int64_t left) {
    const unsigned how = take(in);
    const int64_t n = how == 255 ? 0 : how < 128 ? 1 + how % 16 : how < 192 ? how : take2(in);
    return n > left ? left : n;
}

static inline fd_law take_law(input *in) {
    fd_law law = {take8(in), take8(in), 0};
    const unsigned how = take(in), planes = 1 + how / 8;
    switch (how % 8) {
    case 0: law.q = 0; break;
    case 1: law.q = FD_KEEP_ALL; break;
    case 2: law.q = fd_threshold((double)take(in) / 255); break;
    case 3: law.q = FD_KEEP_ALL - 1 - take(in); break;
    case 4: law.q = 1 + take(in); break;
    default: law.q = (take8(in) >> (64 - planes) | 1) << (32 - planes); break;
    }
    return law;
}

static inline uint64_t magnitude(int64_t v) { return v < 0 ? 0 - (uint64_t)v : (uint64_t)v; }

/* Strides of the view, and a start that keeps all of its bits from 0 to 2^63 - 1. */
static inline void take_view(input *in, scene *s) {
    int64_t step = 1;
    s->n = 1;
    for (int a = s->nd - 1; a >= 0; a--) {
        const unsigned how = take(in);
        const int64_t own = step;
        step *= s->shape[a] ? s->shape[a] : 1;
        s->n *= s->shape[a];
        switch (how % 8) {
        case 3: s->m[a] = 0; break;
        case 4: s->m[a] = -own; break;
        case 5: s->m[a] = (int8_t)take(in); break;
        case 6: s->m[a] = (int16_t)take2(in); break;
        case 7: s->m[a] = (int64_t)take8(in) >> how / 8; break;
        default: s->m[a] = own;
        }
    }
    uint64_t before, after; /* bits used below and above the first element's */
    for (;;) {
        __int128 low = 0, high = 0;
        int widest = 0;
        for (int a = 0; a < s->nd; a++) {
            const __int128 reach = (__int128)s->m[a] * (s->shape[a] - (s->n > 0));
            *(reach < 0 ? &low : &high) += reach;
            if (s->n > 0 && magnitude(s->m[a]) * (uint64_t)(s->shape[a] > 1) > magnitude(s->m[widest])) widest = a;
        }
        before = (uint64_t)-low, after = (uint64_t)high;
        if (s->n == 0 || high - low <= INT64_MAX) break;
        s->m[widest] /= 3;
    }
    const uint64_t room = s->n == 0 ? UINT64_MAX : (uint64_t)INT64_MAX - before - after;
    const unsigned how = take(in);
    uint64_t from = how % 4 == 0 ? 0 : how % 4 == 1 ? take2(in) : how % 4 == 2 ? room - take2(in) : take8(in);
    if (from > room) from = room ? from % room : 0;
    s->view.start = s->n == 0 ? from : before + from;
    s->view.ndim = s->nd, s->view.shape = s->shape, s->view.strides = s->m;
}

/* ---- arrays ---- */

static inline uint64_t random_u64(input *in) { /* xorshift64 (Marsaglia 2003) */
    in->state ^= in->state << 13, in->state ^= in->state >> 7, in->state ^= in->state << 17;
    return in->state;
}

/* Of moderate size; with `special`, now and then one of those that arithmetic treats apart. */
static inline double take_value(input *in, int special) {
    static const double specials[] = {0,      -0.0,  INFINITY, -INFINITY,    NAN,    1e-40,
                                      5e-324, -6e-8, 65519,    3.4028235e38, -1e308, 1.0 / 3};
    const uint64_t u = random_u64(in);
    if (special && u % 8 == 0) return specials[u / 8 % (sizeof specials / sizeof *specials)];
    return (double)(int64_t)u * 0x1p-60;
}

/* A layout for elements of `item` bytes: the axes in some order, some of them backwards or with gaps of any number of bytes,
 * and, where `still` allows it, some along which it stands still. The block ends with the last byte of an element; in
 * front of the first one there may be a few bytes, so that nothing needs to be aligned. */
static inline array take_array(input *in, const scene *s, int64_t item, int still) {
    array a = {.bytes = 0};
    int order[AXES];
    int64_t reach = item, first = 0;
    const unsigned plain = take(in), shift = plain & 1 ? 0 : take(in) % 9;
    for (int i = 0; i < s->nd; i++) order[i] = i;
    for (int i = s->nd - 1; i > 0 && plain & 2; i--) {
        const int k = (int)(take(in) % (unsigned)(i + 1)), swap = order[i];
        order[i] = order[k], order[k] = swap;
    }
    for (int i = s->nd - 1; i >= 0; i--) {
        const int axis = order[i];
        const unsigned how = plain & 4 ? take(in) : 0;
        int64_t step = reach;
        if (how % 8 == 1 && reach * s->n < 1 << 20) step += reach;
        if (how % 8 == 2) step += how / 8 % 8;
        if (how % 8 == 3 && still) step = 0;
        if (step) reach = step * (s->shape[axis] - (s->shape[axis] > 0)) + reach;
        if (how & 128) first += step * (s->shape[axis] - (s->shape[axis] > 0)), step = -step;
        a.strides[axis] = step;
    }
    a.bytes = s->n ? (size_t)reach + shift : 0;
    a.memory = malloc(a.bytes ? a.bytes : 1);
    if (a.memory == NULL) abort();
    a.first = s->n ? a.memory + shift + first : a.memory + 1; /* of none: it must not be looked at */
    memset(a.memory, 0xCD, a.bytes);
    return a;
}

static inline void fill(input *in, const scene *s, fd_dtype dtype, array *a, int special) {
    for (int64_t i = 0; i < s->n; i++) model_put(dtype, a->first + place(s, a->strides, i), take_value(in, special));
}

static inline array copy_of(const array *a) {
    array b = *a;
    b.memory = malloc(a->bytes ? a->bytes : 1);
    if (b.memory == NULL) abort();
    memcpy(b.memory, a->memory, a->bytes);
    b.first = b.memory + (a->first - a->memory);
    return b;
}

#endif
