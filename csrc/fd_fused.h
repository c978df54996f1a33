/* The fused operations (fd_opcode), stated once: each instruction set includes this under its own target, and the loops,
 * which have no branch and no order among their elements, become its vectors. */
#ifndef FD_FUSED_H
#define FD_FUSED_H

#include "fd_math.h"

#define FD_PIECE 256 /* elements at a time: a few buffers of them stay in L1 */

/* Elements may lie anywhere, and y may be x or z. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* float64's functions are libm's, and no loop of theirs vectorises */
#endif
#ifdef __GNUC__
#define FD_ANYWHERE __attribute__((aligned(1), may_alias))
#else
#define FD_ANYWHERE
#endif

#define FD_REAL float
#define FD_WORD uint32_t
#define FD_FAR 110.0f
#define FD_NAME(name) name##_f32
#include "fd_fused_real.h"
#include "fd_softmax_real.h"
#undef FD_REAL
#undef FD_WORD
#undef FD_FAR
#undef FD_NAME

#define FD_REAL double
#define FD_WORD uint64_t
#define FD_FAR 800.0
#define FD_NAME(name) name##_f64
#include "fd_fused_real.h"
#include "fd_softmax_real.h"
#undef FD_REAL
#undef FD_WORD
#undef FD_FAR
#undef FD_NAME

static void widen_bf16(const void *x, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = f32_of_bits((uint32_t)u16_at(x, i) << 16);
}

static void narrow_bf16(const float *x, void *out, size_t n) {
    for (size_t i = 0; i < n; i++) put_u16(out, i, bf16_of_f32(x[i]));
}

#define FD_FUSED_TABLE                                \
    {                                                 \
        [FD_AFFINE] = {affine_f32, affine_f64},       \
        [FD_WHERE] = {where_f32, where_f64},          \
        [FD_ADD] = {add_f32, add_f64},                \
        [FD_ACT] = {act_f32, act_f64},                \
        [FD_ACT_GRAD] = {act_grad_f32, act_grad_f64}, \
    }

#define FD_SOFTMAX_TABLE                                                             \
    {                                                                                \
        {row_max_f32, row_exps_f32, row_dots_f32, row_products_f32, row_slopes_f32}, \
        {row_max_f64, row_exps_f64, row_dots_f64, row_products_f64, row_slopes_f64}, \
    }

#define FD_CONNECT_TABLE                               \
    {                                                  \
        {connect_f32, connect_dx_f32, connect_dw_f32}, \
        {connect_f64, connect_dx_f64, connect_dw_f64}, \
    }

#endif
