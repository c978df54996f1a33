/* The passes of fd_layers.h over FD_REAL, stated once: fd_layers_isa.h includes this for float32 and for float64. The loops
 * have no branch and no order among their elements, so that each instruction set makes its vectors of them. */

static void FD_NAME(relu)(size_t n, const void *x, void *y, uint8_t *taken) {
    const FD_REAL *in = x;
    FD_REAL *out = y;
    if (taken == NULL) {
        FD_ELEMENTWISE
        for (size_t i = 0; i < n; i++) out[i] = in[i] < 0 ? 0 : in[i];
        return;
    }
    FD_ELEMENTWISE
    for (size_t i = 0; i < n; i++) {
        const FD_REAL v = in[i];
        out[i] = v < 0 ? 0 : v;
        taken[i] = v > 0 ? 0xFF : 0;
    }
}

static void FD_NAME(relu_grad)(size_t n, const void *dy, const uint8_t *taken, void *dx) {
    const FD_REAL *in = dy;
    FD_REAL *out = dx;
    FD_ELEMENTWISE
    for (size_t i = 0; i < n; i++) {
        const FD_REAL v = in[i];
        out[i] = taken[i] ? v : 0;
    }
}

/* The gradient with what decay adds to it. */
static FD_INLINE FD_REAL FD_NAME(decayed)(int decays, FD_REAL gradient, FD_REAL decay, FD_REAL value) {
    return decays ? gradient + decay * value : gradient;
}

/* `decays` and `tops` are constants wherever this is inlined: a loop with no branch for each. */
static FD_INLINE void FD_NAME(adam_with)(int decays, int tops, size_t n, const fd_adam_step *step,
                                         const FD_REAL *gradient, FD_REAL *value, FD_REAL *mean, FD_REAL *square,
                                         FD_REAL *most) {
    const FD_REAL beta1 = (FD_REAL)step->beta1, new1 = (FD_REAL)(1 - step->beta1);
    const FD_REAL beta2 = (FD_REAL)step->beta2, new2 = (FD_REAL)(1 - step->beta2);
    const FD_REAL eps = (FD_REAL)step->eps, decay = (FD_REAL)step->decay;
    const FD_REAL rate = (FD_REAL)step->rate, root = (FD_REAL)step->root;
    FD_ELEMENTWISE
    for (size_t i = 0; i < n; i++) {
        const FD_REAL d = FD_NAME(decayed)(decays, gradient[i], decay, value[i]);
        const FD_REAL a = mean[i] * beta1 + d * new1;
        FD_REAL b = square[i] * beta2 + d * d * new2;
        mean[i] = a;
        square[i] = b;
        if (tops) {
            const FD_REAL before = most[i];
            b = ((b > before) | (b != b)) ? b : before;
            most[i] = b;
        }
        value[i] -= a / (FD_SQRT(b) / root + eps) * rate;
    }
}

static void FD_NAME(adam)(size_t n, const fd_adam_step *step, const void *g, void *p, void *m, void *v, void *largest) {
    if (largest != NULL)
        step->decay != 0 ? FD_NAME(adam_with)(1, 1, n, step, g, p, m, v, largest)
                         : FD_NAME(adam_with)(0, 1, n, step, g, p, m, v, largest);
    else
        step->decay != 0 ? FD_NAME(adam_with)(1, 0, n, step, g, p, m, v, largest)
                         : FD_NAME(adam_with)(0, 0, n, step, g, p, m, v, largest);
}

static FD_INLINE void FD_NAME(sgd_with)(int decays, int nesterov, size_t n, const fd_sgd_step *step,
                                        const FD_REAL *gradient, FD_REAL *value, FD_REAL *speed) {
    const FD_REAL rate = (FD_REAL)step->rate, momentum = (FD_REAL)step->momentum, decay = (FD_REAL)step->decay;
    const FD_REAL fresh = (FD_REAL)(1 - step->dampening);
    if (speed == NULL) {
        FD_ELEMENTWISE
        for (size_t i = 0; i < n; i++) value[i] -= rate * FD_NAME(decayed)(decays, gradient[i], decay, value[i]);
        return;
    }
    FD_ELEMENTWISE
    for (size_t i = 0; i < n; i++) {
        const FD_REAL d = FD_NAME(decayed)(decays, gradient[i], decay, value[i]), s = speed[i] * momentum + d * fresh;
        speed[i] = s;
        value[i] -= rate * (nesterov ? d + momentum * s : s);
    }
}

static void FD_NAME(sgd)(size_t n, const fd_sgd_step *step, const void *g, void *p, void *velocity) {
    if (step->decay != 0)
        step->nesterov ? FD_NAME(sgd_with)(1, 1, n, step, g, p, velocity)
                       : FD_NAME(sgd_with)(1, 0, n, step, g, p, velocity);
    else
        step->nesterov ? FD_NAME(sgd_with)(0, 1, n, step, g, p, velocity)
                       : FD_NAME(sgd_with)(0, 0, n, step, g, p, velocity);
}

/* ---- max pooling of one image: the loops over channels are the inner ones ---- */

/* Where place k of the window at (oy, ox) lies, in elements from the image; negative in the padding. */
static inline int64_t FD_NAME(pixel)(const fd_windows *s, int64_t oy, int64_t ox, int64_t i, int64_t j) {
    const int64_t row = oy * s->sh - s->ph + i * s->dh, column = ox * s->sw - s->pw + j * s->dw;
    const int inside = row >= 0 && row < s->h && column >= 0 && column < s->w;
    return inside ? (row * s->w + column) * s->c : -1;
}

static FD_INLINE void FD_NAME(compare)(int64_t c, const FD_REAL *x, FD_REAL *y, uint16_t *winner, uint16_t place) {
    if (winner == NULL) {
        FD_ELEMENTWISE
        for (int64_t k = 0; k < c; k++) {
            const FD_REAL a = x[k], b = y[k];
            y[k] = ((a > b) | (a != a)) ? a : b;
        }
        return;
    }
    FD_ELEMENTWISE
    for (int64_t k = 0; k < c; k++) {
        const FD_REAL a = x[k], b = y[k];
        const int wins = (a > b) | (a != a);
        y[k] = wins ? a : b;
        winner[k] = wins ? place : winner[k];
    }
}

static void FD_NAME(pool)(const fd_windows *s, const void *x, void *y, uint16_t *winner) {
    const int64_t c = s->c;
    FD_REAL *out = y;
    for (int64_t oy = 0; oy < s->oh; oy++)
        for (int64_t ox = 0; ox < s->ow; ox++, out += c, winner = winner == NULL ? NULL : winner + c) {
            int first = 1;
            for (int64_t i = 0; i < s->kh; i++)
                for (int64_t j = 0; j < s->kw; j++) {
                    const int64_t at = FD_NAME(pixel)(s, oy, ox, i, j);
                    const uint16_t place = (uint16_t)(i * s->kw + j);
                    if (at < 0) continue;
                    const FD_REAL *in = (const FD_REAL *)x + at;
                    if (first) {
                        memcpy(out, in, (size_t)c * sizeof *out);
                        if (winner != NULL)
                            for (int64_t k = 0; k < c; k++) winner[k] = place;
                        first = 0;
                    } else
                        FD_NAME(compare)(c, in, out, winner, place);
                }
        }
}

static void FD_NAME(pool_grad)(const fd_windows *s, const void *dy, const uint16_t *winner, void *dx) {
    const int64_t c = s->c;
    const FD_REAL *in = dy;
    /* Windows apart that leave no pixel out write every pixel once; else there is something to add to. */
    const int apart = s->sh >= s->dh * (s->kh - 1) + 1 && s->sw >= s->dw * (s->kw - 1) + 1;
    const int whole = s->kh == s->sh && s->kw == s->sw && s->oh * s->sh == s->h && s->ow * s->sw == s->w &&
                      s->ph == 0 && s->pw == 0 && apart;
    if (!whole) memset(dx, 0, (size_t)(s->h * s->w * c) * sizeof(FD_REAL));
    for (int64_t oy = 0; oy < s->oh; oy++)
        for (int64_t ox = 0; ox < s->ow; ox++, in += c, winner += c)
            for (int64_t i = 0; i < s->kh; i++)
                for (int64_t j = 0; j < s->kw; j++) {
                    const int64_t at = FD_NAME(pixel)(s, oy, ox, i, j);
                    const uint16_t place = (uint16_t)(i * s->kw + j);
                    if (at < 0) continue;
                    FD_REAL *out = (FD_REAL *)dx + at;
                    if (apart) {
                        FD_ELEMENTWISE
                        for (int64_t k = 0; k < c; k++) {
                            const FD_REAL g = in[k];
                            out[k] = winner[k] == place ? g : 0;
                        }
                    } else {
                        FD_ELEMENTWISE
                        for (int64_t k = 0; k < c; k++) {
                            const FD_REAL g = in[k], before = out[k];
                            out[k] = winner[k] == place ? before + g : before;
                        }
                    }
                }
}
