/* Whether a plan runs on the team or on its caller alone.
 *
 * The cost model says what a team gains on idle cores.  On a busy machine it may lose: at every
 * barrier all threads wait for the one that the system has put aside, for milliseconds, while the
 * caller alone would have been done.  The bits are the same either way, so plans that are run often
 * measure it: the current choice's time is a moving average, the other choice is tried again now
 * and then, at intervals that keep the cost of trying below TRIAL_SHARE of the whole.
 *
 * Callers of one plan may race here.  What they race for are relaxed 64-bit numbers of a heuristic:
 * any mixture of them is a valid state. */
#ifndef FASTGD_PACE_H
#define FASTGD_PACE_H
#include <stdint.h>

typedef struct fgd_pace {
    int64_t threads;          /* what the numbers were measured with                       */
    int64_t nanoseconds[2];   /* of one run: alone, on the team; 0 if not known            */
    int64_t runs_to_trial;
    int64_t runs;
} fgd_pace;

enum { PACE_ALONE = 0, PACE_TEAM = 1 };

int fgd_pace_choose(fgd_pace *pace, int n_threads);
void fgd_pace_note(fgd_pace *pace, int choice, int64_t nanoseconds);

#endif
