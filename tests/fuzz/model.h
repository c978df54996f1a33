/* What every operation of fastdrop.h has to give, element by element: the law one bit at a time, and values in plain
 * scalar code, with no line of csrc/ but its scalar Philox, which known answers check. */
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "fastdrop.h"

int model_keep(const fd_law *law, uint64_t e);
double model_normal(const fd_law *law, uint64_t e); /* in double: the float32 recipe comes within 6e-7 of it */

int64_t model_item(fd_dtype dtype);
/* Numbers of a dtype in memory, as double and back, rounded to nearest even. */
double model_get(fd_dtype dtype, const void *p);
void model_put(fd_dtype dtype, void *p, double v);

/* Whether what lies at p is `want`, which a dtype holds: the same bits, or both a NaN. */
int model_same(fd_dtype dtype, const void *p, double want);
/* Whether it is near `want`, beside which numbers of `size` were computed with: some rounding errors of the dtype. */
int model_near(fd_dtype dtype, const void *p, double want, double size);

double model_apply(fd_dtype dtype, int keep, double x, double scale);
/* *exact says whether nothing but IEEE's own operations is in it, so that the bits have to agree. */
double model_fused(fd_dtype dtype, const fd_op *op, int keep, double x, double z, int has_z, int *exact);
double model_noise(fd_dtype dtype, fd_noise_kind kind, float normal, double x, double sigma);

#endif
