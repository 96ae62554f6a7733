/* Reductions and argmax of int64.  Integer sums and products wrap and are exact modulo 2^64, so
 * every order gives the same bits and the loops are left to the compiler.  There is no mean of
 * integers (the caller casts first); asking for one is a fault.
 *
 * Assumes r >= 1 for max, min and argmax. */
#include "reduce_cut.h"

#define T int64_t
#undef FGD_PREPARE
#undef FGD_RUN
#define FGD_PREPARE(op) FGD_PREPARE_OF(op, _i64)
#define FGD_RUN(op) FGD_RUN_OF(op, _i64)
#define FGD_T_FN(name) FGD_CAT(FGD_CAT(name, _i64), FGD_TIER_SUFFIX)

FGD_INLINE int FGD_T_FN(argmax_beats)(T x, T best) { return x > best; }

static int64_t FGD_T_FN(argmax_row)(const T *x, int64_t r)
{
    int64_t at = 0;
    T best = x[0];
    for (int64_t i = 1; i < r; i++)
        if (FGD_T_FN(argmax_beats)(x[i], best))
            at = i, best = x[i];
    return at;
}

#include "argmax.inc"

FGD_INLINE int64_t FGD_T_FN(reduce_combine)(int kind, int64_t acc, int64_t x)
{
    switch (kind) {
    case REDUCE_MAX: return x > acc ? x : acc;
    case REDUCE_MIN: return x < acc ? x : acc;
    case REDUCE_PROD: return (int64_t)((uint64_t)acc * (uint64_t)x);
    default: return (int64_t)((uint64_t)acc + (uint64_t)x);
    }
}

FGD_INLINE int64_t FGD_T_FN(reduce_identity)(int kind)
{
    switch (kind) {
    case REDUCE_MAX: return INT64_MIN;
    case REDUCE_MIN: return INT64_MAX;
    case REDUCE_PROD: return 1;
    default: return 0;
    }
}

FGD_INLINE void FGD_T_FN(reduce_outer)(int kind, int64_t *y, const int64_t *x, int64_t r,
                                       int64_t inner)
{
    if (inner == 1) {
        int64_t acc = FGD_T_FN(reduce_identity)(kind);
        for (int64_t i = 0; i < r; i++)
            acc = FGD_T_FN(reduce_combine)(kind, acc, x[i]);
        y[0] = acc;
        return;
    }
    for (int64_t j = 0; j < inner; j++)
        y[j] = FGD_T_FN(reduce_identity)(kind);
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < inner; j++)
            y[j] = FGD_T_FN(reduce_combine)(kind, y[j], x[i * inner + j]);
}

FGD_PREPARE(reduce)
{
    const fgd_reduce_args *a = args_;
    int64_t per = cut_items_per_unit(FGD_UNIT_ELEMS, a->r * a->inner);
    double n = (double)a->outer * a->r * a->inner;
    cut_one_phase(work, cut_ceil(a->outer, per), n, (n + (double)a->outer * a->inner) * sizeof(T));
}

FGD_RUN(reduce)
{
    (void)phase;
    const fgd_reduce_args *a = args_;
    int64_t per = cut_items_per_unit(FGD_UNIT_ELEMS, a->r * a->inner);
    int64_t to = cut_min(end * per, a->outer);
    for (int64_t o = begin * per; o < to; o++) {
        int64_t *y = (int64_t *)ptr[0] + o * a->inner;
        const int64_t *x = (const int64_t *)ptr[1] + o * a->r * a->inner;
        switch (a->kind) {
        case REDUCE_SUM: FGD_T_FN(reduce_outer)(REDUCE_SUM, y, x, a->r, a->inner); break;
        case REDUCE_MAX: FGD_T_FN(reduce_outer)(REDUCE_MAX, y, x, a->r, a->inner); break;
        case REDUCE_MIN: FGD_T_FN(reduce_outer)(REDUCE_MIN, y, x, a->r, a->inner); break;
        case REDUCE_PROD: FGD_T_FN(reduce_outer)(REDUCE_PROD, y, x, a->r, a->inner); break;
        default: fgd_fault_set(context->fault, FGD_INTERNAL, 0, a->kind, REDUCE_MEAN);
        }
    }
}

#undef T
#undef FGD_T_FN
