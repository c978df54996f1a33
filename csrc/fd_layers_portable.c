/* The layers' passes in plain C11. */
#include "fd_layers_isa.h"

const fd_layer_kernels fd_layers_portable = FD_LAYER_TABLE(NULL);
