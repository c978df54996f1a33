/* What this x86 machine can run. A register file counts only if the operating system saves it too: CPUID says what the
 * core has, XCR0 what the system switches (bits 1-2: SSE and AVX; bits 5-7: AVX-512 masks and upper halves). */
#include "fd_impl.h"

#ifdef FD_X86
#ifdef _MSC_VER
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, 0); }
static uint64_t xcr0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) {
    if (!__get_cpuid_count(leaf, 0, &r[0], &r[1], &r[2], &r[3])) memset(r, 0, 4 * sizeof *r);
}
static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}
#endif

static int has(uint64_t states, uint32_t leaf1_ecx, uint32_t leaf7_ebx) {
    uint32_t r1[4], r7[4];
    cpuid(1, r1);
    cpuid(7, r7);
    if (!(r1[2] & 1u << 27)) return 0; /* OSXSAVE: xgetbv exists */
    return (xcr0() & states) == states && (r1[2] & leaf1_ecx) == leaf1_ecx && (r7[1] & leaf7_ebx) == leaf7_ebx;
}

/* Leaf 1 ECX: AVX 28, F16C 29. Leaf 7 EBX: AVX2 5, BMI2 8; AVX-512 F 16, DQ 17, BW 30, VL 31. */
#define LEAF1 (1u << 28 | 1u << 29)
#define LEAF7_AVX2 (1u << 5 | 1u << 8)
#define LEAF7_AVX512 (LEAF7_AVX2 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31)

int fd_cpu_has_avx2(void) { return has(0x6, LEAF1, LEAF7_AVX2); }

int fd_cpu_has_avx512(void) { return has(0xE6, LEAF1, LEAF7_AVX512); }
#else
typedef int fd_cpu_is_for_x86; /* ISO C wants something in a translation unit */
#endif
