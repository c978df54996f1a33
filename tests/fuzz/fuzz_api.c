/* A fuzz target over the public C API: bytes become a call (scene.h), the call's output is compared with a scalar model
 * (model.h), and every byte between, before and behind the output's elements has to be as it was. The arrays lie on heap
 * blocks of exactly their size, where AddressSanitizer sees a byte too many read or written.
 *
 * With libFuzzer by `make fuzz`; with driver.c, which runs files, where a compiler has none. */
#include "scene.h"

/* ---- results ---- */

/* What an elementwise operation has to give. Elements that only come near the model's number are taken over from the
 * output, so that one comparison of the whole block is left. */
typedef struct {
    const scene *s;
    fd_dtype dtype;
    array want, x, z; /* copies made before the call, which may work in place */
} expectation;

static double at(const expectation *e, const array *a, int64_t i) {
    return model_get(e->dtype, a->first + place(e->s, a->strides, i));
}

static void expect(expectation *e, const array *y, int64_t i, double want, int exact, double size) {
    const int64_t to = place(e->s, y->strides, i);
    const int ok = exact ? model_same(e->dtype, y->first + to, want) : model_near(e->dtype, y->first + to, want, size);
    CHECK(ok, "element %lld is %.9g instead of %.9g", (long long)i, model_get(e->dtype, y->first + to), want);
    memcpy(e->want.first + to, y->first + to, (size_t)model_item(e->dtype));
}

static void expect_no_more(expectation *e, const array *y) {
    CHECK(memcmp(e->want.memory, y->memory, y->bytes) == 0, "bytes beside the output's elements were written");
    free(e->want.memory);
}

static double take_scale(input *in, double p) {
    static const double scales[] = {1, 0, -1.5, 0x1p-30, 1e30, NAN};
    const unsigned how = take(in);
    return how % 16 < 6 ? scales[how % 16] : p < 1 ? 1 / (1 - p) : 1;
}

static double dropped_share(const fd_law *law) { return 1 - (double)law->q * 0x1p-32; }

/* ---- elementwise calls ---- */

static void call_apply(input *in, const scene *s) {
    const double scale = take_scale(in, dropped_share(&s->view.law));
    const unsigned in_place = take(in) % 4 == 0;
    array y = take_array(in, s, model_item(s->dtype), 0), x = in_place ? y : take_array(in, s, model_item(s->dtype), 1);
    fill(in, s, s->dtype, &x, 1);
    expectation e = {s, s->dtype, copy_of(&y), copy_of(&x), {0}};
    fd_mask_apply(&s->view, s->dtype, scale, x.first, x.strides, y.first, y.strides);
    for (int64_t i = 0; i < s->n; i++)
        expect(&e, &y, i, model_apply(s->dtype, kept(s, &s->view.law, i), at(&e, &e.x, i), scale), 1, 0);
    expect_no_more(&e, &y);
    free(e.x.memory), free(y.memory);
    if (!in_place) free(x.memory);
}

static void call_fused(input *in, const scene *s) {
    fd_op op = {(fd_opcode)(take(in) % FD_NOPS), (fd_activation)(take(in) % (FD_SILU + 1)), 0, 0, 0};
    op.scale = take_scale(in, dropped_share(&s->view.law)), op.shift = take_scale(in, 0),
    op.dropped = take_scale(in, 0);
    const int special = op.activation <= FD_RELU, maybe = op.code == FD_ACT && take(in) % 2;
    const int has_z = maybe || (op.code != FD_ACT && op.code != FD_AFFINE);
    const unsigned in_place = take(in) % 6; /* 0: y is x, 1: z, 2: both, as far as there is one */
    const int64_t item = model_item(s->dtype);
    array y = take_array(in, s, item, 0);
    array x = in_place == 0 || in_place == 2 ? y : take_array(in, s, item, 1), z = y;
    const int own_z = has_z && in_place != 1 && in_place != 2;
    if (own_z) z = take_array(in, s, item, 1);
    fill(in, s, s->dtype, &x, special);
    if (has_z) fill(in, s, s->dtype, &z, special);
    if (!special && !isfinite(op.scale)) op.scale = 1;
    expectation e = {s, s->dtype, copy_of(&y), copy_of(&x), copy_of(&z)};
    fd_mask_fused(&s->view, s->dtype, &op, x.first, x.strides, has_z ? z.first : NULL, has_z ? z.strides : NULL,
                  y.first, y.strides);
    for (int64_t i = 0; i < s->n; i++) {
        int exact;
        const double a = at(&e, &e.x, i), b = has_z ? at(&e, &e.z, i) : 0;
        const double want = model_fused(s->dtype, &op, kept(s, &s->view.law, i), a, b, has_z, &exact);
        expect(&e, &y, i, want, exact, (fabs(a) + fabs(b)) * fabs(op.scale));
    }
    expect_no_more(&e, &y);
    if (x.memory != y.memory) free(x.memory);
    if (own_z) free(z.memory);
    free(e.x.memory), free(e.z.memory), free(y.memory);
}

static void call_many(input *in, const scene *s) {
    const int64_t count = take(in) % 4, item = model_item(s->dtype);
    const double scale = take_scale(in, dropped_share(&s->view.law));
    fd_law laws[3];
    for (int t = 0; t < 3; t++) laws[t] = s->view.law, laws[t].key = take8(in), laws[t].call = take8(in);
    array one = take_array(in, s, item, 0), x = take_array(in, s, item, 1), all = one;
    const int64_t y_step = (int64_t)one.bytes + take(in) % 20;
    all.bytes = (size_t)(count ? (count - 1) * y_step + (int64_t)one.bytes : 0);
    all.memory = malloc(all.bytes ? all.bytes : 1);
    if (all.memory == NULL) abort();
    memset(all.memory, 0xCD, all.bytes);
    all.first = all.memory + (one.first - one.memory);
    fill(in, s, s->dtype, &x, 1);
    expectation e = {s, s->dtype, copy_of(&all), x, {0}};
    fd_masks_apply(&s->view, count, laws, s->dtype, scale, x.first, x.strides, all.first, all.strides, y_step);
    char *const first = all.first, *const wanted = e.want.first;
    for (int64_t t = 0; t < count && s->n; t++) {
        all.first = first + t * y_step, e.want.first = wanted + t * y_step;
        for (int64_t i = 0; i < s->n; i++)
            expect(&e, &all, i, model_apply(s->dtype, kept(s, &laws[t], i), at(&e, &x, i), scale), 1, 0);
    }
    expect_no_more(&e, &all);
    free(one.memory), free(x.memory), free(all.memory);
}

static void check_normals(const scene *s, const float *z) {
    for (int64_t i = 0; i < s->n; i++) {
        const double want = model_normal(&s->view.law, s->view.start + (uint64_t)place(s, s->m, i));
        CHECK(fabs((double)z[i] - want) <= 6e-7 * fabs(want) + 1e-13, "normal %lld is %.9g instead of %.9g",
              (long long)i, (double)z[i], want);
    }
}

static void call_noise(input *in, const scene *s) {
    const fd_noise_kind kind = (fd_noise_kind)(take(in) % 2);
    const double sigma = take_scale(in, 0.3);
    const unsigned in_place = take(in) % 4 == 0;
    array y = take_array(in, s, model_item(s->dtype), 0), x = in_place ? y : take_array(in, s, model_item(s->dtype), 1);
    float *z = malloc((size_t)s->n * sizeof *z + !s->n);
    if (z == NULL) abort();
    fill(in, s, s->dtype, &x, 1);
    expectation e = {s, s->dtype, copy_of(&y), copy_of(&x), {0}};
    fd_normals(&s->view, z);
    check_normals(s, z);
    fd_noise_apply(&s->view, s->dtype, kind, sigma, x.first, x.strides, y.first, y.strides);
    for (int64_t i = 0; i < s->n; i++)
        expect(&e, &y, i, model_noise(s->dtype, kind, z[i], at(&e, &e.x, i), sigma), 1, 0);
    expect_no_more(&e, &y);
    free(e.x.memory), free(y.memory), free(z);
    if (!in_place) free(x.memory);
}

/* ---- bits ---- */

static void call_bits(input *in, const scene *s) {
    const int which = (int)(take(in) % 3);
    const int64_t bytes = which == 2 ? s->n : (s->n + 7) / 8;
    unsigned char *out = malloc((size_t)bytes + !bytes);
    if (out == NULL) abort();
    memset(out, 0xCD, (size_t)bytes);
    scene flat = *s;
    if (which == 0) { /* a plain range of the sequence */
        flat.nd = 1, flat.shape[0] = s->n, flat.m[0] = 1;
        if (flat.view.start > (uint64_t)INT64_MAX - (uint64_t)s->n)
            flat.view.start = (uint64_t)INT64_MAX - (uint64_t)s->n;
        fd_bits(&s->view.law, flat.view.start, (uint64_t)s->n, out);
    }
    if (which == 1) fd_mask_pack(&s->view, out);
    if (which == 2) fd_mask_bools(&s->view, out);
    for (int64_t i = 0; i < (which == 2 ? bytes : bytes * 8); i++) {
        const int got = which == 2 ? out[i] : out[i / 8] >> i % 8 & 1, want = i < s->n && kept(&flat, &s->view.law, i);
        CHECK(got == want, "bit %lld of %lld", (long long)i, (long long)s->n);
    }
    free(out);
}

/* ---- blocks ---- */

/* Whatever is dropped drops what follows it along an axis of n, `extent` elements with itself. */
static void spread(unsigned char *keep, int64_t all, int64_t n, int64_t step, int64_t extent) {
    for (int64_t line = 0; line < all / n; line++) {
        unsigned char *at = keep + line / step * step * n + line % step;
        int64_t left = 0;
        for (int64_t i = 0; i < n; i++, at += step, left--) {
            if (!*at) left = extent;
            *at = left <= 0;
        }
    }
}

static void call_block(input *in, const scene *seeds, const int64_t *shape) {
    scene s = *seeds;
    s.n = 1;
    for (int a = 0; a < s.nd; a++) s.shape[a] = shape[a], s.n *= shape[a];
    const double scale = take_scale(in, 0.1);
    const unsigned in_place = take(in) % 4 == 0;
    array y = take_array(in, &s, model_item(s.dtype), 0), x = in_place ? y : take_array(in, &s, model_item(s.dtype), 1);
    unsigned char *keep = malloc((size_t)s.n + !s.n), *bools = malloc((size_t)s.n + !s.n);
    if (keep == NULL || bools == NULL) abort();
    memset(keep, 1, (size_t)s.n);
    for (int64_t i = 0; i < seeds->n; i++) {
        int64_t rest = i, to = 0, step = 1;
        for (int a = s.nd - 1; a >= 0; rest /= seeds->shape[a], step *= shape[a--]) to += rest % seeds->shape[a] * step;
        keep[to] = (unsigned char)kept(seeds, &seeds->view.law, i);
    }
    for (int64_t a = s.nd - 1, step = 1; a >= 0 && s.n; step *= shape[a--])
        spread(keep, s.n, shape[a], step, shape[a] - seeds->shape[a] + 1);
    fill(in, &s, s.dtype, &x, 1);
    expectation e = {&s, s.dtype, copy_of(&y), copy_of(&x), {0}};
    CHECK(fd_block_bools(&seeds->view, shape, bools) == 0, "no memory");
    CHECK(memcmp(bools, keep, (size_t)s.n) == 0, "blocks");
    CHECK(fd_block_apply(&seeds->view, shape, s.dtype, scale, x.first, x.strides, y.first, y.strides) == 0,
          "no memory");
    for (int64_t i = 0; i < s.n; i++) expect(&e, &y, i, model_apply(s.dtype, keep[i], at(&e, &e.x, i), scale), 1, 0);
    expect_no_more(&e, &y);
    free(e.x.memory), free(y.memory), free(keep), free(bools);
    if (!in_place) free(x.memory);
}

/* ---- softmax ---- */

/* P of a row in double, from x; `direct`: x is P itself. */
static void probabilities(const expectation *e, int64_t first, int64_t n, int direct, double *p) {
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        p[i] = at(e, &e->x, first + i);
        if (p[i] > max) max = p[i];
    }
    if (direct) return;
    for (int64_t i = 0; i < n; i++) sum += p[i] = exp(p[i] - (max == -INFINITY ? 0 : max));
    for (int64_t i = 0; i < n; i++) p[i] = sum == 0 ? 0 : p[i] / sum;
}

static void call_softmax(input *in, const scene *s) {
    const unsigned how = take(in);
    const double scale = 1 / (1 - 0.01 * (double)(take(in) % 90));
    const int64_t item = model_item(s->dtype), n = s->shape[s->nd - 1], real = s->dtype == FD_F64 ? 8 : 4;
    const int64_t rows = n ? s->n / n : 0;
    const int special = how & 1, saved = how >> 1 & 1 || special, in_place = how >> 2 & 1, direct = !saved;
    array y = take_array(in, s, item, 0), x = in_place ? y : take_array(in, s, item, 1);
    char *state = malloc((size_t)(rows * 2 * real) + !rows);
    double *p = malloc((size_t)n * sizeof *p + !n);
    if (state == NULL || p == NULL) abort();
    fill(in, s, s->dtype, &x, special);
    expectation e = {s, s->dtype, copy_of(&y), copy_of(&x), {0}};
    fd_softmax_dropout(&s->view, s->dtype, scale, x.first, x.strides, y.first, y.strides, saved ? state : NULL);
    for (int64_t r = 0; r < rows; r++) {
        probabilities(&e, r * n, n, 0, p);
        for (int64_t i = 0; i < n; i++) {
            const int keep = kept(s, &s->view.law, r * n + i);
            expect(&e, &y, r * n + i, keep ? p[i] * scale : 0, !keep, 0);
        }
    }
    expect_no_more(&e, &y);
    if (!special) {
        array dx = take_array(in, s, item, 0);
        const unsigned where = take(in) % 3; /* dx: memory of its own, x's or dy's */
        array taken = where == 1 ? dx : take_array(in, s, item, 1), dy = where == 2 ? dx : take_array(in, s, item, 1);
        fill(in, s, s->dtype, &dy, 0);
        for (int64_t i = 0; i < s->n; i++) { /* x again: the same values under another layout */
            const double v = direct ? take_value(in, 0) : at(&e, &e.x, i);
            model_put(s->dtype, taken.first + place(s, taken.strides, i), v);
        }
        if (!direct) /* where elements of `taken` are one, the last one stays */
            fd_softmax_dropout(&s->view, s->dtype, scale, taken.first, taken.strides, y.first, y.strides, state);
        expectation g = {s, s->dtype, copy_of(&dx), copy_of(&taken), copy_of(&dy)};
        fd_softmax_dropout_grad(&s->view, s->dtype, scale, taken.first, taken.strides, direct ? NULL : state, dy.first,
                                dy.strides, dx.first, dx.strides);
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            probabilities(&g, r * n, n, direct, p);
            for (int64_t i = 0; i < n; i++) {
                if (!kept(s, &s->view.law, r * n + i)) continue;
                const double v = at(&g, &g.z, r * n + i) * scale;
                sum += p[i] * v, size += fabs(p[i] * v);
            }
            for (int64_t i = 0; i < n; i++) {
                const double v = kept(s, &s->view.law, r * n + i) ? at(&g, &g.z, r * n + i) * scale : 0;
                expect(&g, &dx, r * n + i, p[i] * (v - sum), 0, 4 * fabs(p[i]) * (fabs(v) + size));
            }
        }
        expect_no_more(&g, &dx);
        free(g.x.memory), free(g.z.memory), free(dx.memory);
        if (where != 1) free(taken.memory);
        if (where != 2) free(dy.memory);
    }
    free(e.x.memory), free(y.memory), free(state), free(p);
    if (!in_place) free(x.memory);
}

/* ---- DropConnect ---- */

static char *numbers(input *in, fd_dtype dtype, int64_t n) {
    const int64_t item = model_item(dtype);
    char *a = malloc((size_t)(n * item) + !n);
    if (a == NULL) abort();
    for (int64_t i = 0; i < n; i++) model_put(dtype, a + i * item, take_value(in, 0));
    return a;
}

static void call_dropconnect(input *in, const scene *s) {
    const fd_dtype d = s->dtype == FD_F64 ? FD_F64 : FD_F32;
    const int which = (int)(take(in) % 3);
    const int64_t B = s->shape[0], O = s->shape[1], I = s->shape[2], item = model_item(d);
    const int64_t lines = which == 2 ? O : B, columns = which == 0 ? O : I, count = which == 0 ? I : which == 1 ? O : B;
    char *x = numbers(in, d, B * I), *w = numbers(in, d, O * I), *dy = numbers(in, d, B * O);
    char *out = malloc((size_t)(lines * columns * item) + 1);
    if (out == NULL) abort();
    memset(out, 0xCD, (size_t)(lines * columns * item));
    if (which == 0) fd_dropconnect(&s->view, d, 1.25, x, w, out);
    if (which == 1) fd_dropconnect_dx(&s->view, d, 1.25, dy, w, out);
    if (which == 2) fd_dropconnect_dw(&s->view, d, 1.25, dy, x, out);
    for (int64_t at = 0; at < lines * columns; at++) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < count; k++) {
            const int64_t b = which == 2 ? k : at / columns, o = which == 0   ? at % columns
                                                                 : which == 1 ? k
                                                                              : at / columns;
            const int64_t i = which == 0 ? k : at % columns;
            if (!kept(s, &s->view.law, (b * O + o) * I + i)) continue;
            const double vx = model_get(d, x + (b * I + i) * item), vw = model_get(d, w + (o * I + i) * item);
            const double vy = model_get(d, dy + (b * O + o) * item);
            const double term = 1.25 * (which == 0 ? vw * vx : which == 1 ? vw * vy : vy * vx);
            sum += term, size += fabs(term);
        }
        CHECK(model_near(d, out + at * item, sum, 4 * size), "%d: element %lld is %.9g instead of %.9g", which,
              (long long)at, model_get(d, out + at * item), sum);
    }
    free(x), free(w), free(dy), free(out);
}

/* ---- a call ---- */

/* To ask a virtual machine's processor what it has takes as long as a call: it is asked once. */
static void take_isa(input *in) {
    static const char *names[8], *used;
    static unsigned n;
    int usable;
    for (int k = 0; used == NULL && fd_isa_name(k, &usable) != NULL; k++)
        if (usable) names[n++] = fd_isa_name(k, NULL);
    const char *const name = names[take(in) % n];
    if (name != used) CHECK(fd_set_isa(name) == 0, "an instruction set that is there is taken");
    used = name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, data + size, 88172645463325252u};
    scene s = {.n = 1};
    int64_t shape[AXES];
    take_isa(&in);
    static const int64_t shares[8] = {1, 1, 1, 3, 4, 1, 4, 4}; /* calls that take longer get fewer elements */
    const unsigned call = take(&in) % 8;
    fd_set_num_threads(1 + (int)(take(&in) % 4));
    fd_set_stream_bytes(take(&in) % 2 ? 1 : INT64_MAX);
    s.dtype = (fd_dtype)(take(&in) % FD_NDTYPES);
    s.view.law = take_law(&in);
    s.nd = call == 7 ? 3 : (int)(take(&in) % (AXES + 1));
    if (call == 6 && s.nd == 0) s.nd = 1;
    int64_t left = FUZZ_MOST / shares[call];
    for (int a = 0; a < s.nd; a++) {
        shape[a] = s.shape[a] = take_extent(&in, left);
        if (shape[a] > 1) left /= shape[a];
        if (call == 5 && shape[a] > 1) s.shape[a] -= take(&in) % shape[a];
    }
    take_view(&in, &s);
    in.state ^= take8(&in);
    if (in.state == 0) in.state = 1;
    switch (call) {
    case 0: call_bits(&in, &s); break;
    case 1: call_apply(&in, &s); break;
    case 2: call_fused(&in, &s); break;
    case 3: call_many(&in, &s); break;
    case 4: call_noise(&in, &s); break;
    case 5: call_block(&in, &s, shape); break;
    case 6: call_softmax(&in, &s); break;
    case 7: call_dropconnect(&in, &s); break;
    }
    return 0;
}
