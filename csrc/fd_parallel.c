/* The only place that knows about threads: a small pool whose workers sleep on a condition variable between calls.
 *
 * No worker spins, so a framework's own threads (BLAS, OpenMP) are never slowed by ours while they wait. The caller works
 * too; one call at a time uses the pool, and a call that finds it busy (from another Python thread) runs on its own
 * thread alone instead of waiting. After fork() the child has no workers and starts new ones when it needs them.
 * Without POSIX threads every call runs on the caller's thread: results are the same by construction. */
#if !defined(_WIN32)
#define FD_PTHREADS 1
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include <stdatomic.h>

#include "fd_impl.h"

#define MAX_THREADS 256
/* At the end of its own work a caller looks so often, for ten to fifty microseconds, whether the others are done too: they have
 * at most a grain left, and falling asleep and waking up takes longer than that. Only a caller does so, in its own call. */
#define WAIT_AWAKE 1000

#ifdef FD_PTHREADS
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

static inline void relax(void) {
#ifdef FD_X86
    __builtin_ia32_pause();
#elif defined(FD_NEON)
    __asm__ volatile("yield");
#endif
}

static int usable_cores(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int)(n > MAX_THREADS ? MAX_THREADS : n);
}
#else
static int usable_cores(void) { return 1; }
#endif

static atomic_int num_threads; /* 0: not asked for yet */

int fd_get_num_threads(void) {
    int n = atomic_load(&num_threads);
    if (n == 0) {
        fd_set_num_threads(usable_cores());
        n = atomic_load(&num_threads);
    }
    return n;
}

void fd_set_num_threads(int n) { atomic_store(&num_threads, n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n); }

#ifdef FD_PTHREADS
static struct {
    pthread_mutex_t busy; /* held by the call that uses the pool */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, done;
    int workers, wanted; /* threads alive; still to join the current call */
    atomic_int running;  /* inside it */
    uint64_t round;      /* grows with each call, so that no worker takes the same call twice */
    fd_range_fn *fn;
    void *job;
    int64_t n, grain;
    fenv_t env; /* the caller's rounding and flushing of subnormals: who computes an element must not show */
    atomic_int_least64_t next;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* Ranges are handed out in order, a grain at a time, so that a slow thread delays no one by more than a grain. */
static void take_ranges(fd_range_fn *fn, void *job, int64_t n, int64_t grain) {
    for (;;) {
        const int64_t begin = atomic_fetch_add(&pool.next, grain);
        if (begin >= n) return;
        fn(job, begin, n - begin < grain ? n : begin + grain);
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
        pthread_mutex_unlock(&pool.lock);
        fesetenv(&pool.env);
        take_ranges(pool.fn, pool.job, pool.n, pool.grain);
        pthread_mutex_lock(&pool.lock);
        if (--pool.running == 0) pthread_cond_signal(&pool.done);
    }
    return NULL;
}

static void in_child_after_fork(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.workers = pool.wanted = 0;
    pool.running = 0; /* apart: older clangs refuse an atomic in a chain of assignments */
}

static void watch_fork(void) { pthread_atfork(NULL, NULL, in_child_after_fork); }

/* Under pool.lock. A system that gives no thread (limits) gets fewer; the caller's own always runs. */
static void start_workers(int count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_fork);
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) return;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigset_t all, callers; /* workers take no signals: those are the program's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &callers);
    for (pthread_t thread; pool.workers < count; pool.workers++)
        if (pthread_create(&thread, &attr, worker, NULL) != 0) break;
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    pthread_attr_destroy(&attr);
}

void fd_parallel_for(fd_range_fn *fn, void *job, int64_t n, int64_t cost) {
    /* n * cost is about the number of elements, which fits: they exist or are one bit each below 2^63. */
    const int64_t useful = n * cost / (fd_kernels_in_use()->worth_waking / 2);
    int threads = useful < 2 ? 1 : fd_get_num_threads();
    if (threads > useful) threads = (int)useful;
    if (threads > n) threads = (int)n;
    if (threads < 2 || pthread_mutex_trylock(&pool.busy) != 0) {
        if (n > 0) fn(job, 0, n);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    start_workers(threads - 1);
    pool.fn = fn, pool.job = job, pool.n = n;
    fegetenv(&pool.env);
    pool.grain = n / (threads * 8) + 1;
    atomic_store(&pool.next, 0);
    pool.wanted = threads - 1 < pool.workers ? threads - 1 : pool.workers;
    pool.round++;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);

    take_ranges(fn, job, n, pool.grain);

    pthread_mutex_lock(&pool.lock);
    pool.wanted = 0; /* whoever has not woken by now would find nothing left */
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < WAIT_AWAKE && atomic_load(&pool.running) > 0; i++) relax();
    pthread_mutex_lock(&pool.lock);
    while (pool.running > 0) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.busy);
}
#else
void fd_parallel_for(fd_range_fn *fn, void *job, int64_t n, int64_t cost) {
    (void)cost;
    if (n > 0) fn(job, 0, n);
}
#endif
