/* Keep bits of strided views, as packed runs. */
#ifndef FD_VIEW_H
#define FD_VIEW_H

#include "fd_impl.h"

/* One axis of an elementwise job: extent, and the step along it in the mask (bits), in x, in y and in the second input
 * (bytes). */
typedef struct {
    int64_t n, m, x, y, z;
} fd_axis;

static inline int64_t fd_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t fd_magnitude(int64_t a) { return a < 0 ? -a : a; }

/* n elements of `item` bytes from one spacing to another; steps in bytes. */
static inline void fd_copy_strided(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t item,
                                   int64_t n) {
    if (to_step == item && from_step == item) {
        memcpy(to, from, (size_t)(n * item));
        return;
    }
    if (to_step == item && from_step == 0 &&
        n > 0) { /* one element many times: what is there is copied, ever more of it */
        memcpy(to, from, (size_t)item);
        for (int64_t done = 1; done < n; done *= 2)
            memcpy(to + done * item, to, (size_t)((n - done < done ? n - done : done) * item));
        return;
    }
    for (int64_t i = 0; i < n; i++, to += to_step, from += from_step) {
        switch (item) {
        case 2: memcpy(to, from, 2); break;
        case 4: memcpy(to, from, 4); break;
        default: memcpy(to, from, (size_t)item);
        }
    }
}

/* Drop axes of extent 1 and merge neighbours that are one axis everywhere. Returns how many are left. */
int fd_merge_axes(fd_axis *axes, int nd);

/* Position in a C-order walk over axes, with the offsets it stands at; the axes are borrowed. */
typedef struct {
    const fd_axis *axes;
    int nd;
    int64_t index[FD_MAX_NDIM];
    int64_t m, x, y, z;
} fd_walk;

void fd_walk_to(fd_walk *w, const fd_axis *axes, int nd, int64_t position);
void fd_walk_next(fd_walk *w);

/* Blocks of the law that were made and are likely to be asked for again. */
#define FD_WINDOW_BLOCKS 32

/* How many are worth making at once in a view, 1 .. FD_WINDOW_BLOCKS. */
uint64_t fd_blocks_ahead(const fd_axis *axes, int nd);

typedef struct {
    const fd_kernels *kernels;
    const fd_law *law;
    uint64_t first, end; /* blocks held: first .. end-1 */
    uint64_t ahead;      /* fd_blocks_ahead of the view */
    int backward;        /* the view runs towards lower bits */
    _Alignas(FD_LINE) uint64_t words[FD_BITS_BUFFER(FD_WINDOW_BLOCKS * FD_BLOCK_BITS)];
} fd_window;

void fd_window_init(fd_window *w, const fd_kernels *kernels, const fd_law *law, const fd_axis *axes, int nd);

/* Bits bit .. bit+n-1, n <= 57, in the low bits; higher bits are noise. */
uint64_t fd_window_bits(fd_window *w, uint64_t bit, unsigned n);

/* Bits start, start + step, ..., n of them, packed from out's bit 0 on; a word past the last may be written. */
void fd_row_bits(fd_window *w, uint64_t start, int64_t step, int64_t n, uint64_t *out);

/* Elements first .. first+n-1, in C order, of the view (start, axes), packed in the same way. */
void fd_view_bits(fd_window *w, uint64_t start, const fd_axis *axes, int nd, int64_t first, int64_t n, uint64_t *out);

/* `fd_mask_apply` on a part of an output of `whole` bytes, which decide how it is stored. */
void fd_apply_part(const fd_view *mask, fd_dtype dtype, double scale, const void *x, const int64_t *x_strides, void *y,
                   const int64_t *y_strides, int64_t whole);

#endif
