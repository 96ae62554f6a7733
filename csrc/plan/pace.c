/* See pace.h. */
#include "pace.h"

static const double TRIAL_SHARE = 0.02;
enum { COLD_RUNS = 2, OUTLIER = 3, MIN_INTERVAL = 16, MAX_INTERVAL = 1 << 20 };

static int64_t get(int64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static void set(int64_t *p, int64_t value) { __atomic_store_n(p, value, __ATOMIC_RELAXED); }

static int faster(fgd_pace *pace) {
    return get(&pace->nanoseconds[PACE_TEAM]) <= get(&pace->nanoseconds[PACE_ALONE]) ? PACE_TEAM : PACE_ALONE;
}

int fgd_pace_choose(fgd_pace *pace, int n_threads) {
    if (get(&pace->threads) != n_threads) { /* first run, or set_num_threads: nothing is known */
        set(&pace->threads, n_threads);
        set(&pace->nanoseconds[PACE_ALONE], 0);
        set(&pace->nanoseconds[PACE_TEAM], 0);
        set(&pace->runs, 0);
        set(&pace->runs_to_trial, MIN_INTERVAL);
    }
    if (get(&pace->runs) < COLD_RUNS || !get(&pace->nanoseconds[PACE_TEAM])) return PACE_TEAM;
    if (!get(&pace->nanoseconds[PACE_ALONE])) return PACE_ALONE;
    return get(&pace->runs_to_trial) > 0 ? faster(pace) : !faster(pace);
}

void fgd_pace_note(fgd_pace *pace, int choice, int64_t nanoseconds) {
    int64_t runs = get(&pace->runs), known = get(&pace->nanoseconds[choice]);
    if (nanoseconds < 1) nanoseconds = 1;
    set(&pace->runs, runs + 1);
    if (runs < COLD_RUNS) return; /* page faults and cold caches */
    if (known && get(&pace->runs_to_trial) > 0) {
        int before = faster(pace);
        if (nanoseconds > OUTLIER * known) nanoseconds = OUTLIER * known; /* one hiccup is not a trend */
        set(&pace->nanoseconds[choice], known + (nanoseconds - known) / 4);
        set(&pace->runs_to_trial, get(&pace->runs_to_trial) - 1);
        /* What was given up for being slow may be so for a moment only: try it again soon. */
        if (faster(pace) != before && get(&pace->runs_to_trial) > MIN_INTERVAL) set(&pace->runs_to_trial, MIN_INTERVAL);
        return;
    }
    /* A first measurement or a trial: its result counts by itself, and its cost sets the next interval. */
    set(&pace->nanoseconds[choice], nanoseconds);
    {
        double best = (double)get(&pace->nanoseconds[faster(pace)]);
        double interval = best > 0 ? (double)nanoseconds / (TRIAL_SHARE * best) : MIN_INTERVAL;
        if (interval < MIN_INTERVAL) interval = MIN_INTERVAL;
        if (interval > MAX_INTERVAL) interval = MAX_INTERVAL;
        set(&pace->runs_to_trial, (int64_t)interval);
    }
}
