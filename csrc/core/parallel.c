/* Threads.  The only file that names OpenMP, and it asks of OpenMP one thing: to create and keep
 * the team.  Barriers inside a replay are ours, sized to the team that was granted (which may be
 * smaller than what was asked for), spinning for a bounded time and then sleeping, so that an
 * oversubscribed machine or a long instruction of one thread costs no busy waiting.
 *
 * Without OpenMP (FASTGD_NO_OPENMP=1) every call runs on its caller: same bits, one thread. */
#include "core.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

static atomic_int n_threads_wanted = 1;
static atomic_flag team_busy = ATOMIC_FLAG_INIT;
static atomic_int in_forked_child;

int fgd_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

void fgd_threads_set(int n) { atomic_store(&n_threads_wanted, n < 1 ? 1 : n); }
int fgd_threads_get(void) { return atomic_load(&n_threads_wanted); }

void fgd_arena_after_fork(void);

/* The team's threads do not exist in a forked child, and GCC's runtime would wait for them. */
void fgd_after_fork_in_child(void) {
    atomic_store(&in_forked_child, 1);
    atomic_flag_clear(&team_busy);
    fgd_arena_after_fork();
}

void fgd_parallel(int n_threads, fgd_team_fn fn, void *arg) {
#ifdef _OPENMP
    if (n_threads > 1 && !atomic_load(&in_forked_child) && !omp_in_parallel() &&
        !atomic_flag_test_and_set_explicit(&team_busy, memory_order_acquire)) {
#pragma omp parallel num_threads(n_threads)
        fn(arg, omp_get_thread_num(), omp_get_num_threads());
        atomic_flag_clear_explicit(&team_busy, memory_order_release);
        return;
    }
#else
    (void)n_threads;
#endif
    fn(arg, 0, 1);
}

/* ---- barrier ---- */

struct fgd_barrier {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int generation;
    _Alignas(64) atomic_int sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

int64_t fgd_barrier_bytes(void) { return (int64_t)sizeof(fgd_barrier); }

void fgd_barrier_init(fgd_barrier *b) {
    atomic_init(&b->arrived, 0);
    atomic_init(&b->generation, 0);
    atomic_init(&b->sleepers, 0);
    pthread_mutex_init(&b->mutex, 0);
    pthread_cond_init(&b->wake, 0);
}

void fgd_barrier_destroy(fgd_barrier *b) {
    pthread_mutex_destroy(&b->mutex);
    pthread_cond_destroy(&b->wake);
}

static void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* About 100 us of spinning when every thread can have a core, next to none when they cannot. */
static int spin_bound(int n_threads) {
    static atomic_int n_cpus;
    int n = atomic_load_explicit(&n_cpus, memory_order_relaxed);
    if (!n) {
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
        atomic_store_explicit(&n_cpus, n, memory_order_relaxed);
    }
    return n_threads <= n ? 4000 : 20;
}

void fgd_barrier_wait(fgd_barrier *b, int n_threads) {
    int generation = atomic_load_explicit(&b->generation, memory_order_relaxed);
    if (n_threads == 1) return;
    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == n_threads - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        /* seq_cst against the sleepers' increment: one of the two sides sees the other. */
        atomic_store(&b->generation, generation + 1);
        if (atomic_load(&b->sleepers)) {
            pthread_mutex_lock(&b->mutex);
            pthread_cond_broadcast(&b->wake);
            pthread_mutex_unlock(&b->mutex);
        }
        return;
    }
    for (int spin = spin_bound(n_threads); spin > 0; spin--) {
        if (atomic_load_explicit(&b->generation, memory_order_acquire) != generation) return;
        cpu_relax();
    }
    pthread_mutex_lock(&b->mutex);
    atomic_fetch_add(&b->sleepers, 1);
    while (atomic_load(&b->generation) == generation) pthread_cond_wait(&b->wake, &b->mutex);
    atomic_fetch_sub(&b->sleepers, 1);
    pthread_mutex_unlock(&b->mutex);
}

/* ---- floating-point state ---- */

#if defined(__x86_64__) || defined(__i386__)
/* flush-to-zero and denormals-are-zero; see Intel SDM vol. 1, 10.2.3 */
uint32_t fgd_fp_enter(void) {
    uint32_t state = _mm_getcsr();
    _mm_setcsr(state | 0x8040);
    return state;
}
void fgd_fp_leave(uint32_t state) { _mm_setcsr(state); }
#elif defined(__aarch64__)
uint32_t fgd_fp_enter(void) {
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(state | (1u << 24)));
    return (uint32_t)state;
}
void fgd_fp_leave(uint32_t state) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)state)); }
#else
uint32_t fgd_fp_enter(void) { return 0; }
void fgd_fp_leave(uint32_t state) { (void)state; }
#endif
