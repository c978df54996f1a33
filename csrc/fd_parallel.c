/* The only place that knows about threads: a small pool whose workers sleep on a condition variable between calls.
 *
 * No worker spins, so a framework's own threads (BLAS, OpenMP) are never slowed by ours while they wait. The caller works
 * too; one call at a time uses the pool, and a call that finds it busy (from another Python thread) runs on its own
 * thread alone instead of waiting. Within a framework whose own threads spin, a worker of ours gets no core to run on:
 * such a caller lends its team (fd_set_team) and says how many of it are to work (fd_ask_threads). After fork() the
 * child has no workers and no team, and starts new workers when it needs them.
 * Without POSIX threads every call runs on the caller's thread: results are the same by construction.
 *
 * A call that is watched (fd_watch) hands out long work in pieces, and asks between its own whether to go on. */
#if !defined(_WIN32)
#define FD_PTHREADS 1
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include <stdatomic.h>
#include <time.h>

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

/* ---- whether to go on ---- */

#define LONG_CALL (1 << 20)   /* elements from which a watched call looks at the clock: 0.1 ms and more */
#define FIRST_PIECE (1 << 16) /* elements before its first look */
#define PIECE_NS 2000000u     /* what pieces grow or shrink to: a view's bits may cost a thousand times another's */
#define POLL_NS 100000000u

static _Thread_local struct {
    fd_poll_fn *poll;
    atomic_int stopped;
    uint64_t looked, asked; /* at the clock, and whether to go on; 0: not in this call */
} watch;
/* The `stopped` of the call that this thread works for, if it is another thread's. */
static _Thread_local const atomic_int *others_stopped;

void fd_watch(fd_poll_fn *poll) {
    watch.poll = poll, watch.looked = watch.asked = 0;
    atomic_store_explicit(&watch.stopped, 0, memory_order_relaxed);
}

int fd_unwatch(void) {
    watch.poll = NULL;
    return atomic_load(&watch.stopped);
}

static uint64_t nanoseconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int fd_told_to_stop(void) {
    if (watch.poll == NULL) return others_stopped != NULL && atomic_load(others_stopped);
    if (atomic_load(&watch.stopped)) return 1;
    watch.looked = nanoseconds();
    if (watch.asked == 0) watch.asked = watch.looked;
    if (watch.looked - watch.asked < POLL_NS) return 0; /* a clock that was put back asks at once */
    fd_poll_fn *const poll = watch.poll;
    fd_watch(NULL); /* it may run whatever it likes, calls of ours included */
    const int stop = poll() != 0;
    watch.poll = poll, watch.looked = watch.asked = nanoseconds();
    atomic_store(&watch.stopped, stop);
    return stop;
}

/* Units to begin with, out of n; n: to be done without a look. */
static int64_t first_piece(int64_t n, int64_t cost) {
    if (n * cost <= LONG_CALL || watch.poll == NULL) return n;
    return cost < FIRST_PIECE ? FIRST_PIECE / cost : 1;
}

/* Units to go on with after `piece` of them, at most `most`; 0: stop. */
static int64_t next_piece(int64_t piece, int64_t most) {
    if (watch.poll == NULL) return fd_told_to_stop() ? 0 : piece;
    const uint64_t before = watch.looked;
    if (fd_told_to_stop()) return 0;
    const uint64_t took = watch.looked - before;
    if (before == 0 || (took > PIECE_NS / 2 && took < 2 * PIECE_NS)) return piece;
    if (took < PIECE_NS) return piece > most / 2 ? most : 2 * piece;
    return piece > 1 ? piece / 2 : 1;
}

/* The whole job on this thread. */
static void alone(fd_range_fn *fn, void *job, int64_t n, int64_t piece) {
    int64_t begin = 0;
    while (n - begin > piece) {
        fn(job, begin, begin + piece);
        begin += piece;
        piece = next_piece(piece, n);
        if (piece == 0) return;
    }
    if (begin < n) fn(job, begin, n);
}

#ifdef FD_PTHREADS
/* One call's ranges. */
typedef struct {
    fd_range_fn *fn;
    void *job;
    int64_t n, most; /* of a grain */
    fenv_t env;      /* the caller's rounding and flushing of subnormals: who computes an element must not show */
    const atomic_int *stopped;
    atomic_int_least64_t next, grain;
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
        const int64_t grain = atomic_load(&w->grain), begin = atomic_fetch_add(&w->next, grain);
        if (begin >= w->n) return;
        w->fn(w->job, begin, w->n - begin < grain ? w->n : begin + grain);
        if (w->stopped == NULL) continue;
        const int64_t next = next_piece(grain, w->most);
        if (next == 0)
            atomic_store(&w->next, w->n);
        else if (next != grain)
            atomic_store(&w->grain, next);
    }
}

static void begin_work(work *w, fd_range_fn *fn, void *job, int64_t n, int threads, int64_t piece) {
    w->fn = fn, w->job = job, w->n = n;
    w->most = n / (threads * 8) + 1;
    w->stopped = piece < n ? &watch.stopped : NULL;
    fegetenv(&w->env);
    atomic_store(&w->grain, piece < w->most ? piece : w->most);
    atomic_store(&w->next, 0);
}

/* What a thread does that is not the caller's. */
static void help(work *w) {
    fesetenv(&w->env);
    others_stopped = w->stopped;
    take_ranges(w);
    others_stopped = NULL;
}

/* What a thread of somebody else's team does, the caller's among them, and leaves its own environment as it was. */
static void join(void *shared) {
    work *w = shared;
    fenv_t own;
    fegetenv(&own);
    help(w);
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
        help(&pool.work);
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
    const int64_t piece = first_piece(n, cost);
    if (others != NULL && threads > 1) {
        work shared;
        begin_work(&shared, fn, job, n, threads, piece);
        others(join, &shared, (unsigned)threads, 0);
        return;
    }
    if (threads < 2 || pthread_mutex_trylock(&pool.busy) != 0) {
        alone(fn, job, n, piece);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    start_workers(threads - 1);
    begin_work(&pool.work, fn, job, n, threads, piece);
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

void fd_parallel_for(fd_range_fn *fn, void *job, int64_t n, int64_t cost) { alone(fn, job, n, first_piece(n, cost)); }
#endif
