/* Threads of the caller at once, for ThreadSanitizer (`make test-tsan`), a program of its own: several call the API while
 * others change the number of threads, the instruction set and the team, and while processes fork; and all take calls
 * of one generator. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd_atomic.h"
#include "fd_impl.h"

enum { CALLERS = 4, ROUNDS = 60, N = 1 << 18, TAKEN = 20000 };

static atomic_int failures;
static atomic_int callers_left = CALLERS;
static atomic_int forking = 1;
static float x[N], want[N];
static const int64_t shape = N, step = 1, item = 4;
static const fd_law law = {11, 12, FD_KEEP_ALL / 3};

static void expect(int ok, const char *what) {
    if (!ok && atomic_fetch_add(&failures, 1) < 20) printf("FAILED %s\n", what);
}

/* Every kind of call that uses the pool. Its results are those of the first call, whatever else goes on. */
static void *caller(void *argument) {
    const int own = *(const int *)argument;
    const fd_view mask = {law, 0, 1, &shape, &step};
    const int64_t places = N - 1, two[2] = {N / 512, 512}, steps[2] = {512 * 4, 4}, bits[2] = {512, 1};
    const int64_t three[3] = {16, 64, 256}, bits3[3] = {64 * 256, 256, 1};
    const fd_view seeds = {law, 0, 1, &places, &step}, rows = {law, 0, 2, two, bits},
                  examples = {law, 0, 3, three, bits3};
    float *y = malloc(N * sizeof *y);
    unsigned char *kept = malloc(N);
    if (y == NULL || kept == NULL) exit(2);
    for (int round = 0; round < ROUNDS; round++) {
        fd_ask_threads(round % 3 ? 0 : 1 + own);
        fd_mask_apply(&mask, FD_F32, 1.5, x, &item, y, &item);
        expect(memcmp(y, want, sizeof want) == 0, "apply");
        switch ((round + own) % 6) {
        case 0: fd_mask_bools(&mask, kept); break;
        case 1: fd_mask_pack(&mask, kept); break;
        case 2: fd_softmax_dropout(&rows, FD_F32, 1, x, steps, y, steps, NULL); break;
        case 3: fd_dropconnect(&examples, FD_F32, 1, x, x, y); break;
        case 4: fd_normals(&mask, y); break;
        case 5: expect(fd_block_apply(&seeds, &shape, FD_F32, 1, x, &item, y, &item) == 0, "block"); break;
        }
    }
    free(y), free(kept);
    atomic_fetch_sub(&callers_left, 1);
    while (atomic_load(&forking)) usleep(1000); /* see forker */
    return NULL;
}

/* Somebody else's threads: as many as they are asked for, one after the other, so that only the callers race. */
static void team(void (*fn)(void *), void *data, unsigned threads, unsigned flags) {
    (void)flags;
    for (unsigned i = 0; i < threads; i++) fn(data);
}

static void *meddler(void *unused) {
    int usable;
    (void)unused;
    for (int k = 0; atomic_load(&callers_left) > 0 || atomic_load(&forking); k++) {
        const char *name = fd_isa_name(k % 4, &usable);
        fd_set_num_threads(1 + k % 5);
        if (usable) expect(fd_set_isa(name) == 0, "a usable instruction set");
        fd_set_team(k % 2 ? team : NULL);
        expect(fd_get_num_threads() >= 1 && fd_isa() != NULL, "something is set");
        usleep(200);
    }
    return NULL;
}

/* A process that forks while others use the pool: the child starts workers of its own. Meanwhile no thread may start or
 * end: that takes a lock of ThreadSanitizer's own, which a child would find held for ever. So all workers were started
 * before, and callers stay until the last fork. */
static void *forker(void *unused) {
    const fd_view mask = {law, 0, 1, &shape, &step};
    static float y[N];
    (void)unused;
    for (int k = 0; k < 4 && atomic_load(&callers_left) > 0; k++) {
        const pid_t child = fork();
        if (child == 0) {
            fd_set_num_threads(3);
            fd_mask_apply(&mask, FD_F32, 1.5, x, &item, y, &item);
            _exit(memcmp(y, want, sizeof want) != 0);
        }
        int status = 1;
        expect(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child's call");
    }
    atomic_store(&forking, 0);
    return NULL;
}

static uint64_t counter = UINT64_MAX - 4 * TAKEN + 100; /* so that it ends, for all of them */
static unsigned char seen[4 * TAKEN];

/* Each number once, and none after the last; now and then one is taken back that nobody has followed. */
static void *taker(void *unused) {
    uint64_t taken;
    (void)unused;
    for (int k = 0; k < TAKEN; k++) {
        if (!fd_counter_take(&counter, &taken)) continue;
        if (k % 7 == 0 && fd_replace_if(&counter, taken + 1, taken)) continue;
        unsigned char *const at = &seen[taken - (UINT64_MAX - 4 * TAKEN + 100)];
        expect(__atomic_exchange_n(at, 1, __ATOMIC_RELAXED) == 0, "a call is given once");
    }
    return NULL;
}

static int at_once(void) { return 1; }

/* A call that is told to stop while others' threads work for it. */
static void stopper(void) {
    enum { BITS = 1 << 26 };
    const int64_t bits = BITS, sparse = 1000;
    const fd_view mask = {law, 0, 1, &bits, &sparse};
    static unsigned char out[BITS / 8];
    fd_watch(at_once);
    fd_mask_pack(&mask, out);
    expect(fd_unwatch() == 1 && out[BITS / 8 - 1] == 0, "the rest is left");
}

int main(void) {
    pthread_t threads[CALLERS + 2], takers[4];
    int numbers[CALLERS];
    const fd_view mask = {law, 0, 1, &shape, &step};
    for (int i = 0; i < N; i++) x[i] = (float)(i % 100) / 7;
    fd_set_num_threads(5); /* the meddler's most */
    stopper();
    fd_mask_apply(&mask, FD_F32, 1.5, x, &item, want, &item);
    for (int i = 0; i < 4; i++) pthread_create(&takers[i], NULL, taker, NULL);
    for (int i = 0; i < 4; i++) pthread_join(takers[i], NULL);
    for (uint64_t k = 0; k < counter - (UINT64_MAX - 4 * TAKEN + 100); k++) expect(seen[k], "no call is left out");
    for (int i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, caller, &numbers[i]);
    }
    pthread_create(&threads[CALLERS], NULL, meddler, NULL);
    pthread_create(&threads[CALLERS + 1], NULL, forker, NULL);
    for (int i = 0; i < CALLERS + 2; i++) pthread_join(threads[i], NULL);
    printf(failures ? "%d checks failed\n" : "all checks passed\n", (int)failures);
    return failures != 0;
}
