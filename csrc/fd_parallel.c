/* The only place that knows about threads: a small pool whose workers sleep on a condition variable between calls.
 *
 * No worker spins, so a framework's own threads (BLAS, OpenMP) are never slowed by ours while they wait. The caller works
 * too; one call at a time uses the pool, and a call that finds it busy (from another Python thread) runs on its own
 * thread alone instead of waiting. Within a framework whose own threads spin, a worker of ours gets no core to run on:
 * such a caller lends its team (fd_set_team) and says how many of it are to work (fd_ask_threads). After fork() the
 * child has no workers and no team, and starts new workers when it needs them.
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

/* Elements from which one more of a team's threads pays: they are awake, and have half of the input in their caches. */
#define TEAM_SHARE 32768

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

/* Of the calls of this thread; 0: fd_get_num_threads(). */
static _Thread_local int asked_threads;
static _Atomic(fd_team_fn *) team;

void fd_ask_threads(int n) { asked_threads = n > MAX_THREADS ? MAX_THREADS : n; }

#ifdef FD_PTHREADS
/* One call's ranges. */
typedef struct {
    fd_range_fn *fn;
    void *job;
    int64_t n, grain;
    fenv_t env; /* the caller's rounding and flushing of subnormals: who computes an element must not show */
    atomic_int_least64_t next;
} work;

static struct {
    pthread_mutex_t busy; /* held by the call that uses the pool */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t start, done;
    int workers, wanted; /* threads alive; still to join the current call */
    atomic_int running;  /* inside it */
    uint64_t round;      /* grows with each call, so that no worker takes the same call twice */
    work work;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .start = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* Ranges are handed out in order, a grain at a time, so that a slow thread delays no one by more than a grain. */
static void take_ranges(work *w) {
    for (;;) {
        const int64_t begin = atomic_fetch_add(&w->next, w->grain);
        if (begin >= w->n) return;
        w->fn(w->job, begin, w->n - begin < w->grain ? w->n : begin + w->grain);
    }
}

static void begin_work(work *w, fd_range_fn *fn, void *job, int64_t n, int threads) {
    w->fn = fn, w->job = job, w->n = n;
    w->grain = n / (threads * 8) + 1;
    fegetenv(&w->env);
    atomic_store(&w->next, 0);
}

/* What a thread of somebody else's team does, and leaves its own environment as it was. */
static void join(void *shared) {
    work *w = shared;
    fenv_t own;
    fegetenv(&own);
    fesetenv(&w->env);
    take_ranges(w);
    fesetenv(&own);
}

static void *worker(void *unused) {
    uint64_t seen = 0;
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.wanted == 0 || pool.round == seen) pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.round;
        pool.wanted--;
        pool.running++;
        pthread_mutex_unlock(&pool.lock);
        fesetenv(&pool.work.env);
        take_ranges(&pool.work);
        pthread_mutex_lock(&pool.lock);
        if (--pool.running == 0) pthread_cond_signal(&pool.done);
    }
    return NULL;
}

static void in_child_after_fork(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.start, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.workers = pool.wanted = 0;
    pool.running = 0;          /* apart: older clangs refuse an atomic in a chain of assignments */
    atomic_store(&team, NULL); /* its threads are gone too, and OpenMP waits for them for ever */
}

static void watch_fork(void) { pthread_atfork(NULL, NULL, in_child_after_fork); }
static pthread_once_t watching = PTHREAD_ONCE_INIT;

void fd_set_team(fd_team_fn *run) {
    pthread_once(&watching, watch_fork);
    atomic_store(&team, run);
}

/* Under pool.lock. A system that gives no thread (limits) gets fewer; the caller's own always runs. */
static void start_workers(int count) {
    pthread_once(&watching, watch_fork);
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
    fd_team_fn *const others = asked_threads > 1 ? atomic_load(&team) : NULL;
    const int64_t share = fd_kernels_in_use()->worth_waking / 2;
    const int64_t useful = n * cost / (others != NULL && share > TEAM_SHARE ? TEAM_SHARE : share);
    int threads = useful < 2 ? 1 : asked_threads > 0 ? asked_threads : fd_get_num_threads();
    if (threads > useful) threads = (int)useful;
    if (threads > n) threads = (int)n;
    if (others != NULL && threads > 1) {
        work shared;
        begin_work(&shared, fn, job, n, threads);
        others(join, &shared, (unsigned)threads, 0);
        return;
    }
    if (threads < 2 || pthread_mutex_trylock(&pool.busy) != 0) {
        if (n > 0) fn(job, 0, n);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    start_workers(threads - 1);
    begin_work(&pool.work, fn, job, n, threads);
    pool.wanted = threads - 1 < pool.workers ? threads - 1 : pool.workers;
    pool.round++;
    pthread_cond_broadcast(&pool.start);
    pthread_mutex_unlock(&pool.lock);

    take_ranges(&pool.work);

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
void fd_set_team(fd_team_fn *run) { atomic_store(&team, run); }

void fd_parallel_for(fd_range_fn *fn, void *job, int64_t n, int64_t cost) {
    (void)cost;
    if (n > 0) fn(job, 0, n);
}
#endif
