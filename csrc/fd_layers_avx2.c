/* The layers' passes as AVX2 vectors. */
#include "fd_impl.h"

#ifdef FD_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>

typedef __m256 vecf;
#define F_LANES 8
#define F_VECTORS 2 /* 12 of 16 registers are sums */
static inline vecf f_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void f_store(float *p, vecf a) { _mm256_storeu_ps(p, a); }
static inline vecf f_set1(float a) { return _mm256_set1_ps(a); }
static inline vecf f_fma(vecf a, vecf b, vecf c) { return _mm256_fmadd_ps(a, b, c); }

#include "fd_layers_isa.h"

#include "fd_conv_tile.h"

const fd_layer_kernels fd_layers_avx2 = FD_LAYER_TABLE(&conv_kernels);

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int fd_layers_avx2_is_for_x86; /* ISO C wants something in a translation unit */
#endif
