/* The whole C interface of fastgd: status codes, dtypes, kernel argument structs, the kernel
 * table and plans.  Everything above C (the Cython binding) sees this file only.
 *
 * Conventions, stated once:
 *  - Outputs come first, inputs after them; dimensions come last.
 *  - Sizes and strides are int64_t, counted in elements unless a name ends in _bytes.
 *  - Kernels allocate nothing, start no threads, print nothing and know no Python.
 *  - A function that can fail returns fgd_status; the text of the last failure of this thread
 *    is fgd_last_error().  Nothing here prints, exits or aborts.
 */
#ifndef FASTGD_H
#define FASTGD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ------------------------------------------------------------------------------ */

typedef enum fgd_status {
    FGD_OK = 0,
    FGD_NOMEM,      /* an allocation failed                                -> MemoryError       */
    FGD_VALUE,      /* a bad argument                                      -> ValueError        */
    FGD_INDEX,      /* an index or label out of range, found while running -> IndexError        */
    FGD_NONFINITE,  /* a finite check failed                               -> FloatingPointError*/
    FGD_CANCELLED,  /* the caller asked to stop before the commit phase    -> KeyboardInterrupt */
    FGD_INTERNAL    /* a broken invariant of ours                          -> RuntimeError      */
} fgd_status;

const char *fgd_last_error(void);

/* ---- dtypes ------------------------------------------------------------------------------ */

typedef enum fgd_dtype {
    FGD_F32 = 0, FGD_F64, FGD_BF16, FGD_I32, FGD_I64, FGD_U8, FGD_BOOL, FGD_N_DTYPES
} fgd_dtype;

int64_t fgd_dtype_size(int dtype);   /* bytes of one element, 0 if there is no such dtype */

/* ---- tiers ------------------------------------------------------------------------------- */

/* Ordered: a higher tier of the same architecture includes the lower ones. */
typedef enum fgd_tier {
    FGD_TIER_SCALAR = 0, FGD_TIER_AVX2, FGD_TIER_AVX512, FGD_TIER_AMX, FGD_TIER_NEON, FGD_N_TIERS
} fgd_tier;

const char *fgd_tier_name(int tier);            /* "scalar", "avx2", ...                       */
int fgd_tier_built(int tier);                   /* 1 if this binary holds a table for the tier */
int fgd_tier_usable(int tier, const char **why);/* 1 if CPU and operating system allow it      */
fgd_status fgd_select_tier(const char *name);   /* NULL or "": the best usable one             */
int fgd_current_tier(void);
const char *fgd_cpu_features(void);             /* space separated, for show_config()          */

/* ---- kernels ----------------------------------------------------------------------------- */

#define FGD_MAX_DIMS 8       /* of a tensor                                                     */
#define FGD_LOOP_DIMS 6      /* of an iteration space after collapsing                          */
#define FGD_MAX_PHASES 4
#define FGD_HYPER 12         /* doubles in an optimizer group's row of hyper-parameters         */
#define FGD_RECORD 4         /* doubles in a parameter's record: its step count, the rule's own  */

/* How one instruction is cut into work.  The cut depends on the arguments (shapes) alone, never
 * on the number of threads: a unit always computes the same numbers in the same order, and a
 * later phase combines partial results of an earlier one in a fixed tree.  The executor gives
 * each thread a range of units and puts a barrier between phases. */
typedef struct fgd_work {
    int n_phases;                       /* 1 .. FGD_MAX_PHASES                                 */
    int64_t units[FGD_MAX_PHASES];
    int64_t shared_bytes;               /* scratch that all threads share during the instruction*/
    int64_t thread_bytes;               /* scratch of each thread, contents undefined on entry  */
    double flops, bytes;                /* for the cost model and explain()                     */
} fgd_work;

/* The first fault that a kernel finds while running (an index out of range, say).  Kernels call
 * fgd_fault_set and go on with something harmless; the executor stops before the commit phase. */
typedef struct fgd_fault {
    int32_t status;                     /* fgd_status, written once, atomically                 */
    int32_t instruction;                /* filled in by the executor                            */
    int64_t where, value, bound;        /* flat position, offending value, exclusive bound      */
} fgd_fault;
void fgd_fault_set(fgd_fault *fault, fgd_status status, int64_t where, int64_t value, int64_t bound);

typedef struct fgd_context {
    void *shared;                       /* shared_bytes, 64-byte aligned                        */
    void *scratch;                      /* thread_bytes of this thread, 64-byte aligned         */
    fgd_fault *fault;
} fgd_context;

typedef void (*fgd_prepare_fn)(const void *args, fgd_work *work);
typedef void (*fgd_run_fn)(const void *args, void *const *ptr, int phase, int64_t begin,
                           int64_t end, fgd_context *context);

typedef struct fgd_kernel {
    fgd_prepare_fn prepare;
    fgd_run_fn run;
} fgd_kernel;

/* Argument structs: every field is 8 bytes wide (int64_t or double), so that the binding packs
 * them from the field list alone.  Variable-length arguments follow in tail[0 .. n_tail). */
#define I(name) int64_t name;
#define IA(name, count) int64_t name[count];
#define F(name) double name;
#define FGD_ARGS(name, fields) \
    typedef struct fgd_##name##_args { fields int64_t n_tail; int64_t tail[]; } fgd_##name##_args;
#define FGD_KERNEL(name, args, operands, text)
#include "kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
#undef I
#undef IA
#undef F

enum {
#define FGD_ARGS(name, fields)
#define FGD_KERNEL(name, args, operands, text) FGD_K_##name,
#include "kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
    FGD_N_KERNELS
};

/* What the table says of a kernel, for the binding, explain() and the tests. */
typedef struct fgd_kernel_info {
    const char *name, *args, *operands, *text;
} fgd_kernel_info;
const fgd_kernel_info *fgd_kernel_describe(int kernel);      /* NULL if out of range */
/* The field list of the index-th argument struct as written in kernels.def; NULL past the last. */
const char *fgd_args_fields(int index, const char **name);

/* The operations of the elementwise kernel's inner programs (csrc/kernels/elementwise.def). */
typedef struct fgd_tile_op_info {
    const char *name;       /* "add"                                                            */
    int n_inputs;           /* registers read: 0 .. 3                                           */
    int64_t in_dtypes;      /* bit d set: the instance for input dtype d exists                 */
    const char *text;       /* "a + b"                                                          */
} fgd_tile_op_info;
int fgd_tile_op_count(void);
const fgd_tile_op_info *fgd_tile_op_describe(int opcode);

/* ---- memory ------------------------------------------------------------------------------ */

void *fgd_alloc(int64_t bytes);                 /* 64-byte aligned, huge pages when large; NULL */
void fgd_free(void *p);                         /* remembers the size; NULL is fine             */
void fgd_alloc_fail_at(int64_t n);              /* test hook: the n-th next call fails; 0: off  */
int64_t fgd_alloc_live_bytes(void);
int64_t fgd_alloc_peak_bytes(int reset);
void fgd_alloc_trim(void);                      /* give cached blocks back to the system        */

/* Leaves an enclosing fork safe in the child: locks are reset, work runs serially from then on. */
void fgd_after_fork_in_child(void);

/* ---- threads ----------------------------------------------------------------------------- */

int fgd_has_openmp(void);
void fgd_threads_set(int n);                    /* n >= 1                                       */
int fgd_threads_get(void);

/* ---- plans ------------------------------------------------------------------------------- */

/* A plan is an immutable list of instructions over numbered slots (all it changes is what it measures
 * of its own speed); running it binds each slot to a pointer.  prepare -> bind -> run, so one plan serves
 * any number of concurrent callers. */
typedef struct fgd_plan fgd_plan;

fgd_plan *fgd_plan_new(int n_slots, int n_instructions, int commit_from);
/* operands: n_operands slot numbers in the order of kernels.def, and offsets how many bytes behind the
 * beginning of its slot each one lies (NULL: none).  args is copied. */
fgd_status fgd_plan_add(fgd_plan *plan, int kernel, const void *args, int64_t args_bytes,
                        const int32_t *operands, const int64_t *offsets, int n_operands);
fgd_status fgd_plan_finish(fgd_plan *plan);
void fgd_plan_free(fgd_plan *plan);

/* What fgd_plan_finish decided, for explain(). */
typedef struct fgd_instruction_info {
    int kernel, parallel, barrier_before;
    fgd_work work;
    double seconds;                              /* of the last profiled run                    */
} fgd_instruction_info;
fgd_status fgd_plan_inspect(const fgd_plan *plan, int index, fgd_instruction_info *info);
int64_t fgd_plan_scratch_bytes(const fgd_plan *plan, int n_threads);

/* Called between instructions of the compute phase on the calling thread, at most every few
 * milliseconds; non-zero cancels. */
typedef int (*fgd_poll_fn)(void *arg);

typedef struct fgd_run_options {
    int n_threads;
    int profile;                                 /* 1: time each instruction (on one caller)    */
    fgd_poll_fn poll;                            /* may be NULL                                 */
    void *poll_arg;
} fgd_run_options;

/* slots: one pointer per slot.  On anything but FGD_OK, no instruction from commit_from on has
 * run, unless one of them found the fault itself: then all have.  fault (may be NULL) tells where
 * an FGD_INDEX or FGD_NONFINITE came from. */
fgd_status fgd_plan_run(fgd_plan *plan, void *const *slots, const fgd_run_options *options,
                        fgd_fault *fault);

/* ---- random numbers ---------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., 2011).  counter = {index lo, index hi, offset lo, offset hi},
 * key = seed.  The element with flat index e of a tensor uses word e % 4 of block e / 4. */
void fgd_philox4x32(uint64_t seed, uint64_t offset, uint64_t block, uint32_t out[4]);

#ifdef __cplusplus
}
#endif
#endif
