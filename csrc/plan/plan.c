/* The executor: an immutable list of instructions over numbered slots, replayed in C inside one
 * parallel region.
 *
 * Each instruction's kernel says (prepare) how its work is cut into units and phases; the cut
 * depends on shapes alone.  Running gives every thread a fixed range of each phase's units.  An
 * instruction too small to gain from the team runs on thread 0, and a plan of such instructions
 * enters no parallel region at all.
 *
 * Two phases: instructions before commit_from only compute into memory that nobody else sees, and
 * may be abandoned (a fault, a cancellation); the rest write parameters, optimizer state and
 * other persistent storage, and always run to the end. */
#include "../core/core.h"
#include "pace.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct instruction {
    fgd_kernel kernel;
    int kernel_id, n_operands;
    int64_t args_at, operands_at;    /* into the plan's pools: bytes, slot numbers */
    fgd_work work;
    int parallel, barrier_before;
    double seconds;
} instruction;

struct fgd_plan {
    int n_slots, n_instructions, capacity, commit_from;
    int finished, any_parallel;
    int64_t n_operands, args_bytes, operands_capacity, offsets_capacity, args_capacity;
    int64_t shared_bytes, thread_bytes, max_units;
    double seconds;                  /* the cost model's estimate for one thread */
    fgd_pace pace;                   /* the one part that changes after finish */
    instruction *instructions;
    int32_t *operands;
    int64_t *offsets;                /* of each operand from its slot, in bytes */
    char *args;
};

static int64_t align64(int64_t n) { return (n + 63) & ~(int64_t)63; }

/* Seconds on one thread, at the speed that a core of a small machine reaches at least. */
static double estimate(const fgd_work *w) { return w->flops / 50e9 + w->bytes / 20e9; }

/* A phase's work is worth a team if it takes longer than waking and joining it: about 4 us at the
 * speed that one core of a small machine reaches at least. */
static int worth_a_team(const fgd_work *w) {
    int64_t widest = 0;
    for (int p = 0; p < w->n_phases; p++)
        if (w->units[p] > widest) widest = w->units[p];
    return widest > 1 && estimate(w) > 4e-6;
}

fgd_plan *fgd_plan_new(int n_slots, int n_instructions, int commit_from) {
    fgd_plan *plan;
    if (n_slots < 0 || n_instructions < 0 || commit_from < 0 || commit_from > n_instructions) {
        fgd_fail(FGD_INTERNAL, "plan: %d slots, %d instructions, commit from %d", n_slots, n_instructions, commit_from);
        return 0;
    }
    plan = fgd_alloc((int64_t)sizeof *plan);
    if (!plan) return 0;
    memset(plan, 0, sizeof *plan);
    plan->n_slots = n_slots, plan->capacity = n_instructions, plan->commit_from = commit_from;
    plan->instructions = fgd_alloc((int64_t)sizeof(instruction) * (n_instructions + 1));
    if (!plan->instructions) {
        fgd_free(plan);
        return 0;
    }
    return plan;
}

void fgd_plan_free(fgd_plan *plan) {
    if (!plan) return;
    fgd_free(plan->instructions);
    fgd_free(plan->operands);
    fgd_free(plan->offsets);
    fgd_free(plan->args);
    fgd_free(plan);
}

/* Makes room for `more` bytes behind `used` in a pool that doubles. */
static fgd_status grow(void **pool, int64_t *capacity, int64_t used, int64_t more) {
    int64_t want = *capacity ? *capacity : 1024;
    void *bigger;
    if (used + more <= *capacity) return FGD_OK;
    while (want < used + more) want *= 2;
    bigger = fgd_alloc(want);
    if (!bigger) return FGD_NOMEM;
    if (used) memcpy(bigger, *pool, (size_t)used);
    fgd_free(*pool);
    *pool = bigger, *capacity = want;
    return FGD_OK;
}

fgd_status fgd_plan_add(fgd_plan *plan, int kernel, const void *args, int64_t args_bytes,
                        const int32_t *operands, const int64_t *offsets, int n_operands) {
    instruction *in;
    fgd_status status;
    int64_t operand_bytes = (int64_t)sizeof(int32_t) * n_operands;
    int64_t offset_bytes = (int64_t)sizeof(int64_t) * n_operands;
    if (plan->finished || plan->n_instructions == plan->capacity)
        return fgd_fail(FGD_INTERNAL, "plan: instruction %d of %d", plan->n_instructions, plan->capacity);
    if (kernel < 0 || kernel >= FGD_N_KERNELS) return fgd_fail(FGD_INTERNAL, "plan: no kernel %d", kernel);
    for (int i = 0; i < n_operands; i++)
        if (operands[i] < 0 || operands[i] >= plan->n_slots)
            return fgd_fail(FGD_INTERNAL, "plan: operand %d is slot %d of %d", i, operands[i], plan->n_slots);
    status = grow((void **)&plan->args, &plan->args_capacity, plan->args_bytes, align64(args_bytes));
    if (status) return status;
    status = grow((void **)&plan->operands, &plan->operands_capacity,
                  (int64_t)sizeof(int32_t) * plan->n_operands, operand_bytes);
    if (status) return status;
    status = grow((void **)&plan->offsets, &plan->offsets_capacity,
                  (int64_t)sizeof(int64_t) * plan->n_operands, offset_bytes);
    if (status) return status;
    in = &plan->instructions[plan->n_instructions++];
    memset(in, 0, sizeof *in);
    in->kernel = fgd_current_table()[kernel];
    in->kernel_id = kernel, in->n_operands = n_operands;
    in->args_at = plan->args_bytes, in->operands_at = plan->n_operands;
    memcpy(plan->args + plan->args_bytes, args, (size_t)args_bytes);
    if (n_operands) memcpy(plan->operands + plan->n_operands, operands, (size_t)operand_bytes);
    if (offsets && n_operands)
        memcpy(plan->offsets + plan->n_operands, offsets, (size_t)offset_bytes);
    else if (n_operands)
        memset(plan->offsets + plan->n_operands, 0, (size_t)offset_bytes);
    plan->args_bytes += align64(args_bytes);
    plan->n_operands += n_operands;
    return FGD_OK;
}

fgd_status fgd_plan_finish(fgd_plan *plan) {
    int pending_serial = 0, pending_parallel = 0; /* work since the last barrier */
    if (plan->n_instructions != plan->capacity)
        return fgd_fail(FGD_INTERNAL, "plan: %d instructions of %d", plan->n_instructions, plan->capacity);
    for (int i = 0; i < plan->n_instructions; i++) {
        instruction *in = &plan->instructions[i];
        fgd_work *w = &in->work;
        in->kernel.prepare(plan->args + in->args_at, w);
        if (w->n_phases < 1 || w->n_phases > FGD_MAX_PHASES)
            return fgd_fail(FGD_INTERNAL, "plan: instruction %d has %d phases", i, w->n_phases);
        in->parallel = worth_a_team(w);
        /* Serial instructions follow one another on thread 0 and need no barrier among themselves. */
        in->barrier_before = in->parallel ? pending_serial || pending_parallel : pending_parallel;
        if (in->barrier_before) pending_serial = pending_parallel = 0;
        if (in->parallel) pending_parallel = 1;
        else pending_serial = 1;
        if (in->parallel) plan->any_parallel = 1;
        plan->seconds += estimate(w);
        for (int p = 0; p < w->n_phases && in->parallel; p++)
            if (w->units[p] > plan->max_units) plan->max_units = w->units[p];
        if (w->shared_bytes > plan->shared_bytes) plan->shared_bytes = w->shared_bytes;
        if (w->thread_bytes > plan->thread_bytes) plan->thread_bytes = w->thread_bytes;
    }
    plan->finished = 1;
    return FGD_OK;
}

fgd_status fgd_plan_inspect(const fgd_plan *plan, int index, fgd_instruction_info *info) {
    const instruction *in;
    if (index < 0 || index >= plan->n_instructions) return fgd_fail(FGD_INTERNAL, "plan: no instruction %d", index);
    in = &plan->instructions[index];
    info->kernel = in->kernel_id, info->parallel = in->parallel, info->barrier_before = in->barrier_before;
    info->work = in->work, info->seconds = in->seconds;
    return FGD_OK;
}

/* ---- running ---- */

typedef struct run {
    fgd_plan *plan;
    void **pointers;                    /* operand -> pointer, in the order of plan->operands */
    char *shared, *scratch;             /* scratch: thread_bytes (rounded) per thread         */
    fgd_barrier *barrier;
    const fgd_run_options *options;
    fgd_fault fault;
    int cancelled;                      /* thread 0's own                                      */
    atomic_int stop_at;                 /* the instruction before which all threads stop       */
    double last_poll;
} run;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { POLL_EVERY_INSTRUCTIONS = 4 };
static const double POLL_SECONDS = 5e-3;
static const double MAX_PACED_SECONDS = 20e-3;

/* On thread 0, between instructions of the compute phase. */
static void poll(run *r, int index) {
    double t;
    if (!r->options->poll || index >= r->plan->commit_from || index % POLL_EVERY_INSTRUCTIONS) return;
    t = now();
    if (t - r->last_poll < POLL_SECONDS) return;
    r->last_poll = t;
    if (r->options->poll(r->options->poll_arg)) r->cancelled = 1;
}

static void run_instruction(run *r, int index, int thread, int n_threads) {
    instruction *in = &r->plan->instructions[index];
    const void *args = r->plan->args + in->args_at;
    void *const *pointers = r->pointers + in->operands_at;
    fgd_context context = {r->shared, r->scratch + thread * align64(r->plan->thread_bytes), &r->fault};
    for (int phase = 0; phase < in->work.n_phases; phase++) {
        int64_t units = in->work.units[phase];
        int64_t begin = units * thread / n_threads, end = units * (thread + 1) / n_threads;
        if (phase) fgd_barrier_wait(r->barrier, n_threads);
        if (begin < end) in->kernel.run(args, pointers, phase, begin, end, &context);
    }
    if (__atomic_load_n(&r->fault.status, __ATOMIC_RELAXED)) {
        int32_t none = -1; /* the first instruction after which the fault is seen is the one that set it */
        __atomic_compare_exchange_n(&r->fault.instruction, &none, index, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

/* Faults of the compute phase only: a thread that leaves the barrier late must not mistake a fault of
 * the commit phase, which others may have begun, for one. */
static int failed_before_commit(run *r) {
    int32_t at;
    if (!__atomic_load_n(&r->fault.status, __ATOMIC_ACQUIRE)) return 0;
    at = __atomic_load_n(&r->fault.instruction, __ATOMIC_RELAXED);
    return at >= 0 && at < r->plan->commit_from;
}

/* The body of every thread.  All threads take the same decisions, because each one rests on
 * something that was written before the barrier they have just passed together, and that what
 * thread 0 writes before a later barrier does not change. */
static void team(void *arg, int thread, int n_threads) {
    run *r = arg;
    fgd_plan *plan = r->plan;
    uint32_t fp = fgd_fp_enter();
    for (int i = 0; i < plan->n_instructions; i++) {
        instruction *in = &plan->instructions[i];
        int at_commit = i == plan->commit_from;
        double start = 0;
        if (thread == 0) poll(r, i);
        if (in->barrier_before || at_commit || r->options->profile) {
            if (thread == 0 && r->cancelled) atomic_store_explicit(&r->stop_at, i, memory_order_relaxed);
            fgd_barrier_wait(r->barrier, n_threads);
            if (atomic_load_explicit(&r->stop_at, memory_order_relaxed) <= i) break;
        } else if (n_threads == 1 && r->cancelled) {
            break;
        }
        if (at_commit && failed_before_commit(r)) break;
        if (!in->parallel && thread) continue;
        if (r->options->profile) start = now();
        run_instruction(r, i, in->parallel ? thread : 0, in->parallel ? n_threads : 1);
        if (r->options->profile) {
            if (in->parallel) fgd_barrier_wait(r->barrier, n_threads);
            if (thread == 0) in->seconds = now() - start;
        }
    }
    fgd_fp_leave(fp);
}

int64_t fgd_plan_scratch_bytes(const fgd_plan *plan, int n_threads) {
    return align64((int64_t)sizeof(void *) * plan->n_operands) + align64(plan->shared_bytes) +
           align64(plan->thread_bytes) * n_threads + align64(fgd_barrier_bytes());
}

fgd_status fgd_plan_run(fgd_plan *plan, void *const *slots, const fgd_run_options *options, fgd_fault *fault) {
    _Alignas(64) char small[8192]; /* most eager operations need less: no allocation */
    int n_threads = plan->any_parallel ? options->n_threads : 1;
    int paced, choice = PACE_TEAM;
    double start = 0;
    run r;
    char *memory, *allocated = 0;
    int64_t bytes;
    fgd_status status;
    if (!plan->finished) return fgd_fail(FGD_INTERNAL, "plan: run before finish");
    if (n_threads > plan->max_units) n_threads = (int)plan->max_units;
    if (n_threads < 1) n_threads = 1;
    /* Long plans gain from a team even if it stumbles, and trying them alone would be felt. */
    paced = n_threads > 1 && !options->profile && plan->seconds < MAX_PACED_SECONDS;
    if (paced) {
        choice = fgd_pace_choose(&plan->pace, n_threads);
        if (choice == PACE_ALONE) n_threads = 1;
        start = now();
    }
    bytes = fgd_plan_scratch_bytes(plan, n_threads);
    memory = bytes <= (int64_t)sizeof small ? small : (allocated = fgd_alloc(bytes));
    if (!memory) return FGD_NOMEM;
    memset(&r.fault, 0, sizeof r.fault);
    r.fault.instruction = -1;
    r.plan = plan, r.options = options, r.last_poll = options->poll ? now() : 0;
    r.cancelled = 0;
    atomic_init(&r.stop_at, plan->n_instructions + 1);
    r.pointers = (void **)memory, memory += align64((int64_t)sizeof(void *) * plan->n_operands);
    r.barrier = (fgd_barrier *)memory, memory += align64(fgd_barrier_bytes());
    r.shared = memory, memory += align64(plan->shared_bytes);
    r.scratch = memory;
    for (int64_t i = 0; i < plan->n_operands; i++) {
        char *slot = slots[plan->operands[i]];
        r.pointers[i] = slot ? slot + plan->offsets[i] : slot;
    }
    fgd_barrier_init(r.barrier);
    fgd_parallel(n_threads, team, &r);
    fgd_barrier_destroy(r.barrier);
    fgd_free(allocated);
    if (paced) fgd_pace_note(&plan->pace, choice, (int64_t)(1e9 * (now() - start)));
    status = (fgd_status)r.fault.status;
    if (!status && r.cancelled) status = FGD_CANCELLED;
    if (fault) *fault = r.fault;
    if (status == FGD_CANCELLED) return fgd_fail(status, "cancelled before the commit phase");
    if (status) return fgd_fail(status, "a kernel found a fault");
    return FGD_OK;
}
