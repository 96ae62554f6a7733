/* What the parts of core/ and plan/ share among themselves; not seen above C. */
#ifndef FASTGD_CORE_H
#define FASTGD_CORE_H
#include "../fastgd.h"

/* Records the text of a failure for fgd_last_error and returns the status, so that a function
 * fails with `return fgd_fail(FGD_VALUE, "...", ...)`. */
fgd_status fgd_fail(fgd_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

const fgd_kernel *fgd_current_table(void);

/* ---- parallel.c: the only file that names OpenMP ---- */

typedef void (*fgd_team_fn)(void *arg, int thread, int n_threads);

/* Runs fn on a team of at most n_threads, the caller being thread 0, and returns when all are
 * done.  Runs on the caller alone if n_threads is 1, if another caller owns the team, inside
 * somebody's parallel region, or in a forked child. */
void fgd_parallel(int n_threads, fgd_team_fn fn, void *arg);

/* A barrier for a team inside fgd_parallel: spins for a bounded time, then sleeps. */
typedef struct fgd_barrier fgd_barrier;
int64_t fgd_barrier_bytes(void);
void fgd_barrier_init(fgd_barrier *barrier);
void fgd_barrier_wait(fgd_barrier *barrier, int n_threads);
void fgd_barrier_destroy(fgd_barrier *barrier);

/* Denormals are flushed inside kernels only: enter returns the state that leave restores. */
uint32_t fgd_fp_enter(void);
void fgd_fp_leave(uint32_t state);

#endif
