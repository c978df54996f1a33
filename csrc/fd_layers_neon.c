/* The layers' passes as NEON vectors. */
#include "fd_impl.h"

#ifdef FD_NEON
#include <arm_neon.h>

typedef float32x4_t vecf;
#define F_LANES 4
#define F_VECTORS 4 /* 24 of 32 registers are sums */
static inline vecf f_load(const float *p) { return vld1q_f32(p); }
static inline void f_store(float *p, vecf a) { vst1q_f32(p, a); }
static inline vecf f_set1(float a) { return vdupq_n_f32(a); }
static inline vecf f_fma(vecf a, vecf b, vecf c) { return vfmaq_f32(c, a, b); }

#include "fd_layers_isa.h"

#include "fd_conv_tile.h"

const fd_layer_kernels fd_layers_neon = FD_LAYER_TABLE(&conv_kernels);
#else
typedef int fd_layers_neon_is_for_arm; /* ISO C wants something in a translation unit */
#endif
