/* Direct convolution: the walk over images, positions and panels around the tiles of an instruction set. */
#include "fd_conv.h"

#include "fd_layers.h"

#define MOST_SLABS 32
#define BLOCK (16 * FD_TILE) /* positions whose windows stay in L1 while the panels go by */

const fd_conv_kernels *fd_conv_kernels_in_use(void) { return fd_kernels_in_use()->layers->conv; }

static int64_t lanes_of(const fd_conv *s) { return s->kernels->lanes; }
static int64_t columns_of(const fd_conv *s) { return s->kernels->lanes * s->kernels->vectors; }
static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t images_per_slab(const fd_conv *s) { return (s->n + MOST_SLABS - 1) / MOST_SLABS; }
static int64_t depth(const fd_conv *s) { return s->kh * s->kw * s->c; }
static int64_t wide(const fd_conv *s) { return round_up(s->o, lanes_of(s)); }
static int padded(const fd_conv *s) { return s->ph > 0 || s->pw > 0; }
static int64_t padded_size(const fd_conv *s) { return padded(s) ? (s->h + 2 * s->ph) * (s->w + 2 * s->pw) * s->c : 0; }

int64_t fd_conv_slabs(const fd_conv *s) { return s->n == 0 ? 0 : (s->n - 1) / images_per_slab(s) + 1; }
int64_t fd_conv_packed(const fd_conv *s) { return depth(s) * wide(s); }
int64_t fd_conv_panel(const fd_conv *s) { return depth(s) * (wide(s) < columns_of(s) ? wide(s) : columns_of(s)); }

/* A padded image, the bias in whole vectors, and a tile of results on their way. */
int64_t fd_conv_room(const fd_conv *s) { return padded_size(s) + wide(s) + FD_TILE * columns_of(s); }

/* A padded image, gradients in whole vectors, and the slab's sums. */
int64_t fd_conv_weights_room(const fd_conv *s) {
    return padded_size(s) + (wide(s) != s->o ? s->oh * s->ow * wide(s) : 0) + (depth(s) + FD_TILE + 1) * wide(s);
}

/* Where image k lies, with its padding: in place if it has none, else in `room`, whose margins are 0. */
static const float *image(const fd_conv *s, const float *x, int64_t k, float *room) {
    const float *from = x + k * s->h * s->w * s->c;
    if (!padded(s)) return from;
    const int64_t width = (s->w + 2 * s->pw) * s->c, row = s->w * s->c;
    for (int64_t i = 0; i < s->h; i++)
        memcpy(room + (i + s->ph) * width + s->pw * s->c, from + i * row, (size_t)row * sizeof *room);
    return room;
}

static int64_t row_length(const fd_conv *s) { return (s->w + 2 * s->pw) * s->c; }

/* Taps that lie in one run: a whole row of the window, or where it has gaps one place. */
static int64_t run_length(const fd_conv *s) { return s->dw == 1 ? s->kw * s->c : s->c; }
static int64_t runs_per_row(const fd_conv *s) { return s->dw == 1 ? 1 : s->kw; }

void fd_conv_pack(const fd_conv *s, const float *weight, int turned, float *packed) {
    const int64_t columns = columns_of(s), lanes = lanes_of(s), area = s->kh * s->kw;
    for (int64_t first = 0; first < s->o; first += columns) {
        const int64_t left = s->o - first, count = left < columns ? left : columns, width = round_up(count, lanes);
        for (int64_t i = 0; i < s->kh; i++)
            for (int64_t j = 0; j < s->kw; j++)
                for (int64_t c = 0; c < s->c; c++, packed += width) {
                    const int64_t tap = turned ? area - 1 - (i * s->kw + j) : i * s->kw + j;
                    for (int64_t o = 0; o < count; o++)
                        packed[o] = weight[(turned ? c * s->o + first + o : (first + o) * s->c + c) * area + tap];
                    for (int64_t o = count; o < width; o++) packed[o] = 0;
                }
    }
}

/* ---- forward ---- */

typedef struct {
    const fd_conv *shape;
    const float *x, *packed, *bias;
    const float *dy;
    float *y, *room;
} convolution;

/* Rows of the window, from *first to before *last, that see more than padding from output rows `top` to `bottom`. */
static void useful_rows(const fd_conv *s, int64_t top, int64_t bottom, int64_t *first, int64_t *last) {
    *first = 0, *last = s->kh;
    while (*first < *last && bottom * s->sh + *first * s->dh < s->ph) ++*first;
    while (*first < *last && top * s->sh + (*last - 1) * s->dh >= s->ph + s->h) --*last;
}

/* Up to FD_TILE positions from `at` on, all panels' columns `first` .. of `count`. Rows beyond the last position repeat it
 * and are written to `spill`, and so are columns that end inside a vector. */
static void one_tile(const fd_conv *s, const float *from, const int64_t *offset, int64_t at, int64_t rows,
                     const float *b, const float *bias, int64_t first, int64_t count, float *y, float *spill) {
    const fd_conv_kernels *k = s->kernels;
    const int64_t width = round_up(count, k->lanes), per_row = runs_per_row(s), length = run_length(s);
    const float *x[FD_TILE];
    float *to[FD_TILE];
    for (int64_t r = 0; r < FD_TILE; r++) {
        const int64_t position = at + (r < rows ? r : rows - 1), i = position / s->ow, j = position % s->ow;
        x[r] = from + i * s->sh * row_length(s) + j * s->sw * s->c;
        to[r] = r < rows && width == count ? y + position * s->o + first : spill + r * width;
    }
    int64_t top, end;
    useful_rows(s, at / s->ow, (at + rows - 1) / s->ow, &top, &end);
    k->tile[width / k->lanes - 1](x, offset + top * per_row, (end - top) * per_row, length,
                                  b + top * per_row * length * width, bias, to);
    if (width != count)
        for (int64_t r = 0; r < rows; r++)
            memcpy(y + (at + r) * s->o + first, spill + r * width, (size_t)count * sizeof *y);
}

static void forward_image(const fd_conv *s, const float *from, const convolution *job, const float *bias,
                          const int64_t *offset, float *spill, float *y) {
    const int64_t positions = s->oh * s->ow, columns = columns_of(s), lanes = lanes_of(s);
    for (int64_t block = 0; block < positions; block += BLOCK) {
        const int64_t end = block + BLOCK < positions ? block + BLOCK : positions;
        const float *b = job->packed;
        for (int64_t first = 0; first < s->o; first += columns) {
            const int64_t count = s->o - first < columns ? s->o - first : columns;
            for (int64_t at = block; at < end; at += FD_TILE)
                one_tile(s, from, offset, at, end - at < FD_TILE ? end - at : FD_TILE, b, bias + first, first, count, y,
                         spill);
            b += depth(s) * round_up(count, lanes);
        }
    }
}

static void forward_slabs(void *data, int64_t begin, int64_t end) {
    const convolution *job = data;
    const fd_conv *s = job->shape;
    const int64_t each = images_per_slab(s), runs = s->kh * runs_per_row(s);
    for (int64_t slab = begin; slab < end; slab++) {
        float *room = job->room + slab * fd_conv_room(s), *bias = room + padded_size(s);
        float *spill = bias + wide(s);
        int64_t offset[FD_CONV_RUNS];
        memset(room, 0, (size_t)(padded_size(s) + wide(s)) * sizeof *room);
        if (job->bias != NULL) memcpy(bias, job->bias, (size_t)s->o * sizeof *bias);
        for (int64_t r = 0; r < runs; r++)
            offset[r] = r / runs_per_row(s) * s->dh * row_length(s) + r % runs_per_row(s) * s->dw * s->c;
        for (int64_t k = slab * each; k < (slab + 1) * each && k < s->n; k++)
            forward_image(s, image(s, job->x, k, room), job, bias, offset, spill, job->y + k * s->oh * s->ow * s->o);
    }
}

static int64_t cost(const fd_conv *s) { return images_per_slab(s) * s->oh * s->ow * depth(s) * s->o / 32 + 1; }

void fd_conv_forward(const fd_conv *shape, const float *x, const float *packed, const float *bias, float *y,
                     float *room) {
    convolution job = {.shape = shape, .x = x, .packed = packed, .bias = bias, .y = y, .room = room};
    fd_parallel_for(forward_slabs, &job, fd_conv_slabs(shape), cost(shape));
}

/* ---- gradients of weights ---- */

/* Where row k of the packed weights reads, from a window's first tap. */
static int64_t tap(const fd_conv *s, int64_t k) {
    const int64_t place = k / s->c;
    return place / s->kw * s->dh * row_length(s) + place % s->kw * s->dw * s->c + k % s->c;
}

static void grad_image(const fd_conv *s, const float *from, const float *dy, float *sums, float *spill) {
    const fd_conv_kernels *k = s->kernels;
    const int64_t columns = columns_of(s), n = depth(s), all = wide(s);
    for (int64_t first = 0; first < s->o; first += columns) {
        const int64_t width = all - first < columns ? all - first : columns;
        for (int64_t row = 0; row < n; row += FD_TILE) {
            const float *x[FD_TILE];
            float *to[FD_TILE];
            for (int64_t r = 0; r < FD_TILE; r++) {
                x[r] = from + tap(s, row + r < n ? row + r : n - 1);
                to[r] = row + r < n ? sums + (row + r) * width : spill + r * width;
            }
            k->grad[width / k->lanes - 1](x, s->oh, s->ow, s->sh * row_length(s), s->sw * s->c, dy + first, all, to);
        }
        sums += n * width;
    }
}

/* dy of one image with rows of whole vectors. */
static const float *whole_rows(const fd_conv *s, const float *dy, float *room) {
    if (wide(s) == s->o) return dy;
    for (int64_t p = 0; p < s->oh * s->ow; p++) memcpy(room + p * wide(s), dy + p * s->o, (size_t)s->o * sizeof *dy);
    return room;
}

static void grad_slabs(void *data, int64_t begin, int64_t end) {
    const convolution *job = data;
    const fd_conv *s = job->shape;
    const int64_t each = images_per_slab(s), size = s->oh * s->ow * s->o;
    for (int64_t slab = begin; slab < end; slab++) {
        float *sums = job->room + slab * fd_conv_weights_room(s), *bias = sums + depth(s) * wide(s);
        float *spill = bias + wide(s), *rows = spill + FD_TILE * wide(s);
        float *room = rows + (wide(s) != s->o ? s->oh * s->ow * wide(s) : 0);
        memset(sums, 0, (size_t)fd_conv_weights_room(s) * sizeof *sums);
        for (int64_t k = slab * each; k < (slab + 1) * each && k < s->n; k++) {
            const float *dy = job->dy + k * size;
            for (int64_t p = 0; p < size; p += s->o)
                for (int64_t o = 0; o < s->o; o++) bias[o] += dy[p + o];
            grad_image(s, image(s, job->x, k, room), whole_rows(s, dy, rows), sums, spill);
        }
    }
}

void fd_conv_weights(const fd_conv *s, const float *x, const float *dy, float *dweight, float *dbias, float *room) {
    convolution job = {.shape = s, .x = x, .dy = dy, .room = room};
    const int64_t slabs = fd_conv_slabs(s), each = fd_conv_weights_room(s), n = depth(s), area = s->kh * s->kw;
    const int64_t columns = columns_of(s), lanes = lanes_of(s);
    fd_parallel_for(grad_slabs, &job, slabs, cost(s));
    for (int64_t slab = 1; slab < slabs; slab++)
        for (int64_t i = 0; i < (n + 1) * wide(s); i++) room[i] += room[slab * each + i];
    const float *sums = room;
    for (int64_t first = 0; first < s->o; first += columns) {
        const int64_t count = s->o - first < columns ? s->o - first : columns, width = round_up(count, lanes);
        for (int64_t k = 0; k < n; k++, sums += width)
            for (int64_t o = 0; o < count; o++) dweight[((first + o) * s->c + k % s->c) * area + k / s->c] = sums[o];
    }
    for (int64_t o = 0; o < s->o; o++) dbias[o] = sums[o];
}
