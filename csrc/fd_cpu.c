/* What this machine can run, and hold. On x86 a register file counts only if the operating system saves it too: CPUID
 * says what the core has, XCR0 what the system switches (bits 1-2: SSE and AVX; bits 5-7: AVX-512 masks and upper
 * halves). */
#include <stdatomic.h>

#include "fd_impl.h"

#ifdef FD_X86
#ifdef _MSC_VER
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, (int)sub); }
static uint64_t xcr0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {
    if (!__get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3])) memset(r, 0, 4 * sizeof *r);
}
static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}
#endif

static int has(uint64_t states, uint32_t leaf1_ecx, uint32_t leaf7_ebx) {
    uint32_t r1[4], r7[4];
    cpuid(1, 0, r1);
    cpuid(7, 0, r7);
    if (!(r1[2] & 1u << 27)) return 0; /* OSXSAVE: xgetbv exists */
    return (xcr0() & states) == states && (r1[2] & leaf1_ecx) == leaf1_ecx && (r7[1] & leaf7_ebx) == leaf7_ebx;
}

/* Leaf 1 ECX: FMA 12, AVX 28, F16C 29. Leaf 7 EBX: AVX2 5, BMI2 8; AVX-512 F 16, DQ 17, BW 30, VL 31. */
#define LEAF1 (1u << 12 | 1u << 28 | 1u << 29)
#define LEAF7_AVX2 (1u << 5 | 1u << 8)
#define LEAF7_AVX512 (LEAF7_AVX2 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31)

int fd_cpu_has_avx2(void) { return has(0x6, LEAF1, LEAF7_AVX2); }

int fd_cpu_has_avx512(void) { return has(0xE6, LEAF1, LEAF7_AVX512); }
#endif

/* Bytes of the last cache, or 0: the "deterministic cache parameters", leaf 4 of Intel's and 0x8000001D of AMD's.
 * (glibc's sysconf answered 384 MiB for 32 on an AMD machine.) */
static int64_t last_cache(void) {
#ifdef FD_X86
    const uint32_t leaves[2] = {4, 0x8000001Du};
    int64_t largest = 0;
    for (int k = 0; k < 2; k++) {
        uint32_t r[4];
        cpuid(leaves[k] & 0x80000000u, 0, r); /* the highest leaf of its kind */
        if (r[0] < leaves[k]) continue;
        for (uint32_t i = 0; i < 8; i++) {
            cpuid(leaves[k], i, r);
            if ((r[0] & 31) == 0) break; /* no more caches */
            const int64_t line = (r[1] & 0xFFF) + 1, parts = (r[1] >> 12 & 0x3FF) + 1, ways = (r[1] >> 22) + 1;
            const int64_t size = line * parts * ways * ((int64_t)r[2] + 1);
            if (size > largest) largest = size;
        }
    }
    return largest;
#else
    return 0;
#endif
}

/* Streaming wins once input and output no longer fit the last cache beside whatever else is in it: measured, above 3/8 of
 * it for the output (bench/NOTES.md). Where the machine does not tell its size, 32 MiB is taken. */
static _Atomic int64_t stream_bytes; /* 0: not asked for yet */

int64_t fd_stream_bytes(void) {
    int64_t bytes = atomic_load(&stream_bytes);
    if (bytes == 0) {
        const int64_t cache = last_cache();
        bytes = (cache >= (int64_t)1 << 20 ? cache : (int64_t)32 << 20) / 8 * 3;
        atomic_store(&stream_bytes, bytes);
    }
    return bytes;
}

void fd_set_stream_bytes(int64_t bytes) { atomic_store(&stream_bytes, bytes); }
