/* The generator's call counter: handed out once each, to whatever thread asks. */
#ifndef FD_ATOMIC_H
#define FD_ATOMIC_H

#include <stdint.h>

#ifdef _MSC_VER
#include <intrin.h>
static inline int fd_replace_if(uint64_t *counter, uint64_t expected, uint64_t with) {
    return (uint64_t)_InterlockedCompareExchange64((volatile long long *)counter, (long long)with,
                                                   (long long)expected) == expected;
}
static inline uint64_t fd_counter_get(uint64_t *counter) {
    return (uint64_t)_InterlockedOr64((volatile long long *)counter, 0);
}
#else
static inline int fd_replace_if(uint64_t *counter, uint64_t expected, uint64_t with) {
    return __atomic_compare_exchange_n(counter, &expected, with, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
static inline uint64_t fd_counter_get(uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
#endif

/* Gives the counter's value and steps it; 0 when the last call has been given. */
static inline int fd_counter_take(uint64_t *counter, uint64_t *taken) {
    do {
        *taken = fd_counter_get(counter);
        if (*taken == UINT64_MAX) return 0;
    } while (!fd_replace_if(counter, *taken, *taken + 1));
    return 1;
}

#endif
