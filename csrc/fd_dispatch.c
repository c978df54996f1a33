/* Which kernels run: the widest that the machine has, chosen at first use, or the one that was forced. */
#include <stdatomic.h>

#include "fd_impl.h"

static int always(void) { return 1; }

/* From the narrowest to the widest. A name without kernels belongs to another processor. */
static const struct {
    const char *name;
    const fd_kernels *kernels;
    int (*usable)(void);
} isas[] = {
    {"portable", &fd_kernels_portable, always},
#ifdef FD_X86
    {"avx2", &fd_kernels_avx2, fd_cpu_has_avx2},
    {"avx512", &fd_kernels_avx512, fd_cpu_has_avx512},
#else
    {"avx2", NULL, NULL},
    {"avx512", NULL, NULL},
#endif
#ifdef FD_NEON
    {"neon", &fd_kernels_neon, always},
#else
    {"neon", NULL, NULL},
#endif
};
#define NISAS ((int)(sizeof isas / sizeof *isas))

static _Atomic(const fd_kernels *) in_use;

static int usable(int k) { return isas[k].kernels != NULL && isas[k].usable(); }

const fd_kernels *fd_kernels_in_use(void) {
    const fd_kernels *k = atomic_load(&in_use);
    if (k != NULL) return k;
    int widest = NISAS - 1;
    while (!usable(widest)) widest--;
    /* Unless somebody forced one in the meantime: then k is that. */
    return atomic_compare_exchange_strong(&in_use, &k, isas[widest].kernels) ? isas[widest].kernels : k;
}

const char *fd_isa(void) { return fd_kernels_in_use()->name; }

const char *fd_isa_name(int k, int *can_use) {
    if (k < 0 || k >= NISAS) return NULL;
    if (can_use != NULL) *can_use = usable(k);
    return isas[k].name;
}

int fd_set_isa(const char *name) {
    for (int k = 0; k < NISAS; k++) {
        if (strcmp(isas[k].name, name) != 0) continue;
        if (!usable(k)) return -2;
        atomic_store(&in_use, isas[k].kernels);
        return 0;
    }
    return -1;
}
