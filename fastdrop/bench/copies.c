/* Copies as fast as the machine makes them. They share no code with csrc/: a floor has to stand by itself. */
#include "copies.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define COPIES_X86 1
#include <immintrin.h>
#endif

#if !defined(_WIN32)
#define COPIES_PTHREADS 1
#include <pthread.h>
#endif

#define LINE_BYTES ((size_t)64)
#define PAGE_BYTES ((size_t)4096)
#define AHEAD (4 * PAGE_BYTES) /* how far the single walk prefetches: 1 KiB took 14 % longer, 32 KiB 9 % */

typedef size_t walk_fn(char *y, const char *x, size_t n);

/* ---- streaming stores, per instruction set ---- */

#ifdef COPIES_X86
#define TARGET_AVX512 __attribute__((target("avx512f")))
#define TARGET_AVX2 __attribute__((target("avx2")))
#define TARGET_SSE2 __attribute__((target("sse2")))

TARGET_AVX512 static inline void line_avx512(char *y, const char *x) {
    _mm512_stream_si512((void *)y, _mm512_loadu_si512(x));
}

TARGET_AVX2 static inline void line_avx2(char *y, const char *x) {
    const __m256i v0 = _mm256_loadu_si256((const __m256i *)x), v1 = _mm256_loadu_si256((const __m256i *)x + 1);
    _mm256_stream_si256((__m256i *)y, v0);
    _mm256_stream_si256((__m256i *)y + 1, v1);
}

TARGET_SSE2 static inline void line_sse2(char *y, const char *x) {
    for (int k = 0; k < 4; k++) _mm_stream_si128((__m128i *)y + k, _mm_loadu_si128((const __m128i *)x + k));
}

#define TARGET TARGET_AVX512
#define WALK walk_avx512
#define WALK4 walk4_avx512
#define LINE line_avx512
#include "copies_walk.h"

#define TARGET TARGET_AVX2
#define WALK walk_avx2
#define WALK4 walk4_avx2
#define LINE line_avx2
#include "copies_walk.h"

#define TARGET TARGET_SSE2
#define WALK walk_sse2
#define WALK4 walk4_sse2
#define LINE line_sse2
#include "copies_walk.h"

static const struct {
    const char *name;
    walk_fn *walk, *walk4;
} stores[] = {{"sse2", walk_sse2, walk4_sse2}, {"avx2", walk_avx2, walk4_avx2}, {"avx512", walk_avx512, walk4_avx512}};

static int usable(int k) {
    __builtin_cpu_init();
    return k == 2   ? __builtin_cpu_supports("avx512f") != 0
           : k == 1 ? __builtin_cpu_supports("avx2") != 0
                    : __builtin_cpu_supports("sse2") != 0;
}

static atomic_int chosen = -2; /* index into stores; -1: none, -2: not looked yet, as the module does on import */

static int in_use(void) {
    if (chosen == -2) {
        int k = 2;
        while (k >= 0 && !usable(k)) k--;
        chosen = k;
    }
    return chosen;
}

const char *copies_stores(void) { return in_use() < 0 ? "none" : stores[in_use()].name; }

int copies_use_stores(const char *name) {
    for (int k = 0; k < 3; k++)
        if (strcmp(name, stores[k].name) == 0 && usable(k)) {
            chosen = k;
            return 0;
        }
    return -1;
}

static void copy(copies_kind kind, char *y, const char *x, size_t n) {
    const int k = in_use();
    if (kind == COPIES_MEMCPY || k < 0) {
        memcpy(y, x, n);
        return;
    }
    size_t head = (size_t)(-(uintptr_t)y & (LINE_BYTES - 1));
    if (head > n) head = n;
    memcpy(y, x, head);
    const size_t lines = (n - head) & ~(LINE_BYTES - 1);
    const size_t done = head + (kind == COPIES_STREAM ? stores[k].walk : stores[k].walk4)(y + head, x + head, lines);
    memcpy(y + done, x + done, n - done);
    _mm_sfence();
}
#else
const char *copies_stores(void) { return "none"; }

int copies_use_stores(const char *name) {
    (void)name;
    return -1;
}

static void copy(copies_kind kind, char *y, const char *x, size_t n) {
    (void)kind;
    memcpy(y, x, n);
}
#endif

/* ---- threads: workers that sleep between calls; parts are taken in order, so that a slow core delays nobody ---- */

#ifdef COPIES_PTHREADS
#define MAX_WORKERS 255
#define MIN_PART (16 * PAGE_BYTES)

static struct {
    pthread_mutex_t busy; /* held by the call that uses the workers */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, done;
    int workers, wanted, running;
    uint64_t round; /* grows with each call, so that no worker joins one twice */
    copies_kind kind;
    char *y;
    const char *x;
    size_t n, part, next;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* Takes the lock held, and gives it back held. */
static void take_parts(void) {
    while (pool.next < pool.n) {
        const size_t begin = pool.next, n = pool.n - begin < pool.part ? pool.n - begin : pool.part;
        pool.next += n;
        pthread_mutex_unlock(&pool.lock);
        copy(pool.kind, pool.y + begin, pool.x + begin, n);
        pthread_mutex_lock(&pool.lock);
    }
}

static void *worker(void *unused) {
    uint64_t seen = 0;
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.wanted == 0 || pool.round == seen) pthread_cond_wait(&pool.work, &pool.lock);
        seen = pool.round;
        pool.wanted--;
        pool.running++;
        take_parts();
        if (--pool.running == 0) pthread_cond_signal(&pool.done);
    }
    return NULL;
}

static void start_workers(int count) {
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) return;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (pthread_t thread; pool.workers < count && pool.workers < MAX_WORKERS; pool.workers++)
        if (pthread_create(&thread, &attr, worker, NULL) != 0) break;
    pthread_attr_destroy(&attr);
}

void copies_copy(copies_kind kind, void *y, const void *x, size_t n, int threads) {
    if (threads < 2 || n < 2 * MIN_PART || pthread_mutex_trylock(&pool.busy) != 0) {
        copy(kind, y, x, n);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    start_workers(threads - 1);
    pool.kind = kind, pool.y = y, pool.x = x, pool.n = n, pool.next = 0;
    pool.part = (n / ((size_t)threads * 8) + PAGE_BYTES) & ~(PAGE_BYTES - 1);
    if (pool.part < MIN_PART) pool.part = MIN_PART;
    pool.wanted = threads - 1 < pool.workers ? threads - 1 : pool.workers;
    pool.round++;
    pthread_cond_broadcast(&pool.work);
    take_parts();
    pool.wanted = 0; /* whoever has not woken by now would find nothing left */
    while (pool.running > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
}
#else
void copies_copy(copies_kind kind, void *y, const void *x, size_t n, int threads) {
    (void)threads;
    copy(kind, y, x, n);
}
#endif

#define TEXT(x) TEXT_(x)
#define TEXT_(x) #x

const char *copies_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " TEXT(__GNUC__) "." TEXT(__GNUC_MINOR__) "." TEXT(__GNUC_PATCHLEVEL__);
#elif defined(_MSC_VER)
    return "MSVC " TEXT(_MSC_FULL_VER);
#else
    return "unknown";
#endif
}
