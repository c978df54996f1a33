/* The limits that dropout is measured against: copies of memory, with memcpy and with streaming stores. */
#ifndef FASTDROP_COPIES_H
#define FASTDROP_COPIES_H

#include <stddef.h>

typedef enum { COPIES_MEMCPY, COPIES_STREAM, COPIES_STREAM4, COPIES_KINDS } copies_kind;

/* y = x, n bytes that do not overlap, on up to `threads` threads. The streaming kinds write past the caches: walking one
 * page, or four pages at once; where there are no such stores they are memcpy. */
void copies_copy(copies_kind kind, void *y, const void *x, size_t n, int threads);

/* The streaming stores in use: "avx512", "avx2", "sse2", or "none". */
const char *copies_stores(void);

/* Use others, for tests: 0, or -1 where this machine lacks them. Not while another thread copies. */
int copies_use_stores(const char *name);

/* Who compiled this. */
const char *copies_compiler(void);

#endif
