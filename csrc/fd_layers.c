/* The layers' passes, split over the threads: elements, or images, of which no two share a result. */
#include "fd_layers.h"

static const fd_layer_kernels *layers(void) { return fd_kernels_in_use()->layers; }

static size_t item(fd_dtype dtype) { return dtype == FD_F64 ? 8 : 4; }

#define GROUP 1024 /* elements, so that threads meet at the ends of cache lines */
#define GROUPS(n) (((n) + GROUP - 1) / GROUP)

/* An elementwise pass: up to five arrays that move together. */
typedef struct {
    fd_dtype dtype;
    int64_t n;
    const void *in;
    void *out[4];
    const uint8_t *taken;
    uint8_t *taking;
    const void *step;
} pass;

static void *at(void *p, const pass *job, int64_t i) {
    return p == NULL ? NULL : (char *)p + (size_t)i * item(job->dtype);
}

/* Elements of groups begin .. end-1: the first one, and how many. */
static size_t elements(const pass *job, int64_t begin, int64_t end, int64_t *first, const void **in) {
    *first = begin * GROUP;
    *in = (const char *)job->in + (size_t)*first * item(job->dtype);
    return (size_t)((end * GROUP < job->n ? end * GROUP : job->n) - *first);
}

static void relu_range(void *job, int64_t begin, int64_t end) {
    const pass *p = job;
    const void *in;
    int64_t i;
    const size_t n = elements(p, begin, end, &i, &in);
    layers()->relu[p->dtype == FD_F64](n, in, at(p->out[0], p, i), p->taking == NULL ? NULL : p->taking + i);
}

void fd_relu(fd_dtype dtype, int64_t n, const void *x, void *y, uint8_t *taken) {
    pass job = {.dtype = dtype, .n = n, .in = x, .out = {y}, .taking = taken};
    fd_parallel_for(relu_range, &job, GROUPS(n), GROUP);
}

static void relu_grad_range(void *job, int64_t begin, int64_t end) {
    const pass *p = job;
    const void *in;
    int64_t i;
    const size_t n = elements(p, begin, end, &i, &in);
    layers()->relu_grad[p->dtype == FD_F64](n, in, p->taken + i, at(p->out[0], p, i));
}

void fd_relu_grad(fd_dtype dtype, int64_t n, const void *dy, const uint8_t *taken, void *dx) {
    pass job = {.dtype = dtype, .n = n, .in = dy, .out = {dx}, .taken = taken};
    fd_parallel_for(relu_grad_range, &job, GROUPS(n), GROUP);
}

static void adam_range(void *job, int64_t begin, int64_t end) {
    const pass *p = job;
    const void *in;
    int64_t i;
    const size_t n = elements(p, begin, end, &i, &in);
    layers()->adam[p->dtype == FD_F64](n, p->step, in, at(p->out[0], p, i), at(p->out[1], p, i), at(p->out[2], p, i),
                                       at(p->out[3], p, i));
}

void fd_adam(fd_dtype dtype, int64_t n, const fd_adam_step *step, const void *g, void *p, void *m, void *v,
             void *largest) {
    pass job = {.dtype = dtype, .n = n, .in = g, .out = {p, m, v, largest}, .step = step};
    fd_parallel_for(adam_range, &job, GROUPS(n), 4 * GROUP);
}

static void sgd_range(void *job, int64_t begin, int64_t end) {
    const pass *p = job;
    const void *in;
    int64_t i;
    const size_t n = elements(p, begin, end, &i, &in);
    layers()->sgd[p->dtype == FD_F64](n, p->step, in, at(p->out[0], p, i), at(p->out[1], p, i));
}

void fd_sgd(fd_dtype dtype, int64_t n, const fd_sgd_step *step, const void *g, void *p, void *velocity) {
    pass job = {.dtype = dtype, .n = n, .in = g, .out = {p, velocity}, .step = step};
    fd_parallel_for(sgd_range, &job, GROUPS(n), 2 * GROUP);
}

typedef struct {
    fd_dtype dtype;
    const fd_windows *shape;
    const char *large, *small;
    char *to;
    const uint16_t *winner;
    uint16_t *winning;
} pooling;

static void pool_range(void *job, int64_t begin, int64_t end) {
    const pooling *p = job;
    const fd_windows *s = p->shape;
    const int64_t image = s->h * s->w * s->c, result = s->oh * s->ow * s->c;
    for (int64_t k = begin; k < end; k++)
        layers()->pool[p->dtype == FD_F64](s, p->large + (size_t)(k * image) * item(p->dtype),
                                           p->to + (size_t)(k * result) * item(p->dtype),
                                           p->winning == NULL ? NULL : p->winning + k * result);
}

void fd_max_pool(fd_dtype dtype, const fd_windows *shape, const void *x, void *y, uint16_t *winner) {
    pooling job = {.dtype = dtype, .shape = shape, .large = x, .to = y, .winning = winner};
    fd_parallel_for(pool_range, &job, shape->n, shape->oh * shape->ow * shape->kh * shape->kw * shape->c);
}

static void pool_grad_range(void *job, int64_t begin, int64_t end) {
    const pooling *p = job;
    const fd_windows *s = p->shape;
    const int64_t image = s->h * s->w * s->c, result = s->oh * s->ow * s->c;
    for (int64_t k = begin; k < end; k++)
        layers()->pool_grad[p->dtype == FD_F64](s, p->small + (size_t)(k * result) * item(p->dtype),
                                                p->winner + k * result, p->to + (size_t)(k * image) * item(p->dtype));
}

void fd_max_pool_grad(fd_dtype dtype, const fd_windows *shape, const void *dy, const uint16_t *winner, void *dx) {
    pooling job = {.dtype = dtype, .shape = shape, .small = dy, .winner = winner, .to = dx};
    fd_parallel_for(pool_grad_range, &job, shape->n, shape->oh * shape->ow * shape->kh * shape->kw * shape->c);
}
