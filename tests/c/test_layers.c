/* The layers' passes from C, on every instruction set this machine runs: buffers of exactly the size they need, for the
 * sanitizers to watch, and small integers, whose sums are exact in any order. */
#include "check.h"
#include "fd_layers.h"

static float *integers(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x + 1);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(random_below(7) - 3);
    return x;
}

static float *poisoned(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x + 1);
    for (int64_t i = 0; i < n; i++) x[i] = 1e30f;
    return x;
}

/* The pixel that tap (i, j) of window (a, b) sees, or 0. */
static float seen(const fd_conv *s, const float *x, int64_t k, int64_t a, int64_t b, int64_t i, int64_t j, int64_t c) {
    const int64_t row = a * s->sh - s->ph + i * s->dh, column = b * s->sw - s->pw + j * s->dw;
    if (row < 0 || row >= s->h || column < 0 || column >= s->w) return 0;
    return x[((k * s->h + row) * s->w + column) * s->c + c];
}

static void check_convolution(const fd_conv *s) {
    const int64_t area = s->kh * s->kw, results = s->n * s->oh * s->ow * s->o;
    float *x = integers(s->n * s->h * s->w * s->c), *w = integers(s->o * s->c * area), *bias = integers(s->o);
    float *dy = integers(results), *y = poisoned(results), *dw = poisoned(s->o * s->c * area), *db = poisoned(s->o);
    float *packed = poisoned(fd_conv_packed(s)), *room = poisoned(fd_conv_slabs(s) * fd_conv_room(s));
    float *sums = poisoned(fd_conv_slabs(s) * fd_conv_weights_room(s));
    fd_conv_pack(s, w, 0, packed);
    fd_conv_forward(s, x, packed, bias, y, room);
    fd_conv_weights(s, x, dy, dw, db, sums);
    float *by_hand = calloc((size_t)(s->o * s->c * area), sizeof *by_hand);
    for (int64_t at = 0; at < results; at++) {
        const int64_t o = at % s->o, b = at / s->o % s->ow, a = at / s->o / s->ow % s->oh,
                      k = at / s->o / s->ow / s->oh;
        float want = bias[o];
        for (int64_t c = 0; c < s->c; c++)
            for (int64_t t = 0; t < area; t++) {
                const float pixel = seen(s, x, k, a, b, t / s->kw, t % s->kw, c);
                want += pixel * w[(o * s->c + c) * area + t];
                by_hand[(o * s->c + c) * area + t] += pixel * dy[at];
            }
        CHECK(y[at] == want, "convolution: %g for %g", (double)y[at], (double)want);
    }
    CHECK(memcmp(dw, by_hand, (size_t)(s->o * s->c * area) * sizeof *dw) == 0, "gradient of the weights");
    for (int64_t o = 0; o < s->o; o++) {
        float want = 0;
        for (int64_t at = o; at < results; at += s->o) want += dy[at];
        CHECK(db[o] == want, "gradient of the bias: %g for %g", (double)db[o], (double)want);
    }
    free(x), free(w), free(bias), free(dy), free(y), free(dw), free(db), free(packed), free(room), free(sums);
    free(by_hand);
}

static void test_convolutions(void) {
    if (fd_conv_kernels_in_use() == NULL) return;
    for (int trial = 0; trial < 60; trial++) {
        fd_conv s = {.kernels = fd_conv_kernels_in_use(),
                     .n = 1 + random_below(trial == 0 ? 70 : 3),
                     .h = 1 + random_below(7),
                     .w = 1 + random_below(7),
                     .c = 1 + random_below(9),
                     .o = 1 + random_below(140),
                     .kh = 1 + random_below(3),
                     .kw = 1 + random_below(3),
                     .sh = 1 + random_below(2),
                     .sw = 1 + random_below(2),
                     .ph = random_below(3),
                     .pw = random_below(3),
                     .dh = 1 + random_below(2),
                     .dw = 1 + random_below(2)};
        const int64_t down = s.h + 2 * s.ph - s.dh * (s.kh - 1) - 1, right = s.w + 2 * s.pw - s.dw * (s.kw - 1) - 1;
        if (down < 0 || right < 0) continue;
        s.oh = down / s.sh + 1, s.ow = right / s.sw + 1;
        check_convolution(&s);
    }
}

static void test_pools(void) {
    for (int trial = 0; trial < 30; trial++) {
        fd_windows s = {.n = 2,
                        .h = 2 + random_below(6),
                        .w = 2 + random_below(6),
                        .c = 1 + random_below(40),
                        .kh = 2,
                        .kw = 2,
                        .sh = 1 + random_below(3),
                        .sw = 1 + random_below(3),
                        .dh = 1,
                        .dw = 1};
        s.oh = (s.h - 2) / s.sh + 1, s.ow = (s.w - 2) / s.sw + 1;
        const int64_t large = s.n * s.h * s.w * s.c, small = s.n * s.oh * s.ow * s.c;
        float *x = integers(large), *y = poisoned(small), *dx = poisoned(large), total = 0, sent = 0;
        uint16_t *winner = malloc((size_t)small * sizeof *winner);
        fd_max_pool(FD_F32, &s, x, y, winner);
        fd_max_pool_grad(FD_F32, &s, y, winner, dx);
        for (int64_t i = 0; i < small; i++) {
            const int64_t c = i % s.c, b = i / s.c % s.ow, a = i / s.c / s.ow % s.oh, k = i / s.c / s.ow / s.oh;
            float most = -4;
            int first = -1;
            for (int t = 0; t < 4; t++) {
                const float v = x[((k * s.h + a * s.sh + t / 2) * s.w + b * s.sw + t % 2) * s.c + c];
                if (v > most) most = v, first = t;
            }
            CHECK(y[i] == most && winner[i] == first, "pool: %g at %d", (double)y[i], winner[i]);
            total += y[i];
        }
        for (int64_t i = 0; i < large; i++) sent += dx[i];
        CHECK(total == sent, "gradients of the pool: %g for %g", (double)sent, (double)total);
        free(x), free(y), free(dx), free(winner);
    }
}

static void test_elementwise(void) {
    for (int64_t n = 0; n < 3000; n += n < 70 ? 1 : 977) {
        float *x = integers(n), *y = poisoned(n), *dx = poisoned(n), *p = integers(n), *m = integers(n),
              *v = integers(n);
        uint8_t *taken = malloc((size_t)n + 1);
        fd_relu(FD_F32, n, x, y, taken);
        fd_relu_grad(FD_F32, n, p, taken, dx);
        for (int64_t i = 0; i < n; i++) {
            CHECK(y[i] == (x[i] > 0 ? x[i] : 0) && dx[i] == (x[i] > 0 ? p[i] : 0), "relu");
            v[i] = v[i] * v[i];
        }
        float *speed = integers(n);
        for (int64_t i = 0; i < n; i++) y[i] = p[i] - 2 * (3 * speed[i] + x[i]);
        fd_sgd(FD_F32, n, &(fd_sgd_step){.rate = 2, .momentum = 3}, x, p, speed);
        CHECK(memcmp(p, y, (size_t)n * sizeof *p) == 0, "sgd");
        const fd_adam_step step = {.beta1 = 0.5, .beta2 = 0.75, .eps = 1, .rate = 1, .root = 1};
        fd_adam(FD_F32, n, &step, x, p, m, v, NULL);
        for (int64_t i = 0; i < n; i++) CHECK(p[i] == p[i] && v[i] >= 0, "adam");
        free(x), free(y), free(dx), free(p), free(m), free(v), free(taken), free(speed);
    }
}

void test_layers(void) {
    test_elementwise();
    test_pools();
    test_convolutions();
}
