/* DropConnect on a tile, stated once over a few words for vectors of FD_REAL, which each instruction set defines before it
 * includes this for float and for double:
 *
 *   reals_f32, LANES_f32                 a vector, and how many it holds: 4, 8 or 16
 *   none_f32()  all_f32(a)               zeros; a in every lane
 *   load_f32(p)  load_some_f32(p, n)     the latter reads n < LANES numbers, and zeros stand for the others
 *   store_f32(p, v)  store_some_f32(p, n, v)
 *   madd_f32(a, b, c)                    a * b + c
 *   kept_madd_f32(bits, i, a, b, c)      the same in lanes whose bit is set, c in the others whatever a and b are; lane k
 *                                        has bit i + k of `bits`, and i is a multiple of LANES
 *   lanes_sum_f32(v)                     the sum of the lanes
 *   FD_CONNECT_ROWS, FD_CONNECT_COLUMNS  of a block whose sums stay in registers
 *
 * Every sum has one order, which depends on nothing but the instruction set: that of its lane. */
#define FD_WIDTH ((size_t)FD_NAME(LANES))

/* Outputs o .. of examples e .. : inputs are multiplied vector by vector, and lanes added up at the end. */
static FD_INLINE void FD_NAME(dot_step)(const fd_tile *t, const unsigned char *const *bits, const FD_REAL *x,
                                        const FD_REAL *w, size_t i, size_t some, size_t ne, size_t no,
                                        FD_NAME(reals) sums[FD_CONNECT_ROWS][FD_CONNECT_COLUMNS]) {
    FD_NAME(reals) xs[FD_CONNECT_ROWS];
#pragma GCC unroll 8
    for (size_t r = 0; r < ne; r++)
        xs[r] = some ? FD_NAME(load_some)(x + r * t->x_step + i, some) : FD_NAME(load)(x + r * t->x_step + i);
#pragma GCC unroll 8
    for (size_t c = 0; c < no; c++) {
        const FD_REAL *from = w + c * t->w_step + i;
        const FD_NAME(reals) ws = some ? FD_NAME(load_some)(from, some) : FD_NAME(load)(from);
#pragma GCC unroll 8
        for (size_t r = 0; r < ne; r++)
            sums[r][c] = FD_NAME(kept_madd)(bits[r] + c * t->pitch, i, xs[r], ws, sums[r][c]);
    }
}

static FD_INLINE void FD_NAME(dot_block)(const fd_tile *t, size_t e, size_t o, size_t ne, size_t no) {
    const FD_REAL *x = (const FD_REAL *)t->x + e * t->x_step, *w = (const FD_REAL *)t->w + o * t->w_step;
    FD_REAL *y = (FD_REAL *)t->out + e * t->out_step + o;
    const unsigned char *bits[FD_CONNECT_ROWS];
    FD_NAME(reals) sums[FD_CONNECT_ROWS][FD_CONNECT_COLUMNS];
    const size_t some = t->inputs % FD_WIDTH, n = t->inputs - some;
    for (size_t r = 0; r < ne; r++) bits[r] = t->bits[e + r] + o * t->pitch;
#pragma GCC unroll 8
    for (size_t r = 0; r < ne; r++)
#pragma GCC unroll 8
        for (size_t c = 0; c < no; c++) sums[r][c] = FD_NAME(none)();
    for (size_t i = 0; i < n; i += FD_WIDTH) FD_NAME(dot_step)(t, bits, x, w, i, 0, ne, no, sums);
    if (some) FD_NAME(dot_step)(t, bits, x, w, n, some, ne, no, sums);
#pragma GCC unroll 8
    for (size_t r = 0; r < ne; r++)
#pragma GCC unroll 8
        for (size_t c = 0; c < no; c++) y[r * t->out_step + c] += (FD_REAL)t->scale * FD_NAME(lanes_sum)(sums[r][c]);
}

static void FD_NAME(connect)(const fd_tile *t) {
    size_t e = 0, o;
    for (; e + FD_CONNECT_ROWS <= t->examples; e += FD_CONNECT_ROWS) {
        for (o = 0; o + FD_CONNECT_COLUMNS <= t->outputs; o += FD_CONNECT_COLUMNS)
            FD_NAME(dot_block)(t, e, o, FD_CONNECT_ROWS, FD_CONNECT_COLUMNS);
        for (; o < t->outputs; o++) FD_NAME(dot_block)(t, e, o, FD_CONNECT_ROWS, 1);
    }
    for (; e < t->examples; e++) {
        for (o = 0; o + FD_CONNECT_COLUMNS <= t->outputs; o += FD_CONNECT_COLUMNS)
            FD_NAME(dot_block)(t, e, o, 1, FD_CONNECT_COLUMNS);
        for (; o < t->outputs; o++) FD_NAME(dot_block)(t, e, o, 1, 1);
    }
}

/* Both gradients add up rows of numbers, each times one of dy's: those of w over the outputs, into dx; those of x over
 * the examples, into dw. Here row .. row+nr-1 of what is made, nv vectors from input i on; `some` numbers of a last one. */
static FD_INLINE void FD_NAME(grad_block)(const fd_tile *t, int of_w, size_t row, size_t i, size_t nr, size_t nv,
                                          size_t some) {
    const FD_REAL *from = of_w ? t->x : t->w, *dy = t->dy;
    FD_REAL *out = (FD_REAL *)t->out + row * t->out_step + i;
    const size_t count = of_w ? t->examples : t->outputs, step = of_w ? t->x_step : t->w_step;
    FD_NAME(reals) sums[FD_CONNECT_ROWS][FD_CONNECT_COLUMNS];
    from += i;
#pragma GCC unroll 8
    for (size_t r = 0; r < nr; r++)
#pragma GCC unroll 8
        for (size_t v = 0; v < nv; v++) sums[r][v] = FD_NAME(none)();
    for (size_t k = 0; k < count; k++, from += step) {
        FD_NAME(reals) in[FD_CONNECT_COLUMNS];
#pragma GCC unroll 8
        for (size_t v = 0; v < nv; v++)
            in[v] = some ? FD_NAME(load_some)(from, some) : FD_NAME(load)(from + v * FD_WIDTH);
#pragma GCC unroll 8
        for (size_t r = 0; r < nr; r++) {
            const size_t e = of_w ? k : row + r, o = of_w ? row + r : k;
            const FD_NAME(reals) g = FD_NAME(all)(dy[e * t->dy_step + o]);
            const unsigned char *bits = t->bits[e] + o * t->pitch;
#pragma GCC unroll 8
            for (size_t v = 0; v < nv; v++)
                sums[r][v] = FD_NAME(kept_madd)(bits, i + v * FD_WIDTH, g, in[v], sums[r][v]);
        }
    }
    const FD_NAME(reals) scale = FD_NAME(all)((FD_REAL)t->scale);
#pragma GCC unroll 8
    for (size_t r = 0; r < nr; r++)
#pragma GCC unroll 8
        for (size_t v = 0; v < nv; v++) {
            FD_REAL *to = out + r * t->out_step + v * FD_WIDTH;
            if (some)
                FD_NAME(store_some)(to, some, FD_NAME(madd)(sums[r][v], scale, FD_NAME(load_some)(to, some)));
            else
                FD_NAME(store)(to, FD_NAME(madd)(sums[r][v], scale, FD_NAME(load)(to)));
        }
}

static FD_INLINE void FD_NAME(grad_columns)(const fd_tile *t, int of_w, size_t i, size_t nv, size_t some) {
    const size_t rows = of_w ? t->outputs : t->examples;
    size_t row = 0;
    for (; row + FD_CONNECT_ROWS <= rows; row += FD_CONNECT_ROWS)
        FD_NAME(grad_block)(t, of_w, row, i, FD_CONNECT_ROWS, nv, some);
    for (; row < rows; row++) FD_NAME(grad_block)(t, of_w, row, i, 1, nv, some);
}

static FD_INLINE void FD_NAME(grad)(const fd_tile *t, int of_w) {
    const size_t some = t->inputs % FD_WIDTH, n = t->inputs - some, wide = FD_CONNECT_COLUMNS * FD_WIDTH;
    size_t i = 0;
    for (; i + wide <= n; i += wide) FD_NAME(grad_columns)(t, of_w, i, FD_CONNECT_COLUMNS, 0);
    for (; i + 2 * FD_WIDTH <= n; i += 2 * FD_WIDTH) FD_NAME(grad_columns)(t, of_w, i, 2, 0);
    for (; i < n; i += FD_WIDTH) FD_NAME(grad_columns)(t, of_w, i, 1, 0);
    if (some) FD_NAME(grad_columns)(t, of_w, n, 1, some);
}

static void FD_NAME(connect_dx)(const fd_tile *t) { FD_NAME(grad)(t, 0); }
static void FD_NAME(connect_dw)(const fd_tile *t) { FD_NAME(grad)(t, 1); }

#undef FD_WIDTH
