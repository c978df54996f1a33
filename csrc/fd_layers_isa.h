/* An instruction set's table of fd_layers.h, made under the target of the file that includes this. */
#include <math.h>

#include "fd_impl.h"
#include "fd_layers.h"

#define FD_REAL float
#define FD_SQRT sqrtf
#define FD_NAME(name) name##_f32
#include "fd_layers_real.h"
#undef FD_REAL
#undef FD_SQRT
#undef FD_NAME

#define FD_REAL double
#define FD_SQRT sqrt
#define FD_NAME(name) name##_f64
#include "fd_layers_real.h"
#undef FD_REAL
#undef FD_SQRT
#undef FD_NAME

#define FD_LAYER_TABLE(conv)            \
    {                                   \
        {relu_f32, relu_f64},           \
        {relu_grad_f32, relu_grad_f64}, \
        {adam_f32, adam_f64},           \
        {sgd_f32, sgd_f64},             \
        {pool_f32, pool_f64},           \
        {pool_grad_f32, pool_grad_f64}, \
        conv,                           \
    }
