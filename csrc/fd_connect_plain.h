/* The words of fd_connect.h in plain C, for instruction sets that have none of their own. Four lanes: what the compiler puts
 * into one vector of 16 bytes. */
#define FD_CONNECT_ROWS 2
#define FD_CONNECT_COLUMNS 2
enum { LANES_f32 = 4, LANES_f64 = 4 };

#define FD_REAL float
#define FD_WORD uint32_t
#define FD_NAME(name) name##_f32
#include "fd_connect_plain_real.h"
#include "fd_connect.h"
#undef FD_REAL
#undef FD_WORD
#undef FD_NAME

#define FD_REAL double
#define FD_WORD uint64_t
#define FD_NAME(name) name##_f64
#include "fd_connect_plain_real.h"
#include "fd_connect.h"
#undef FD_REAL
#undef FD_WORD
#undef FD_NAME
