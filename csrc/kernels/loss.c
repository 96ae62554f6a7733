/* Cross-entropy of integer labels, forward and backward; softmax and loss in one kernel.
 *
 *   lse_i = log sum_c exp(x_ic)     loss_i = log sum_c exp(x_ic - max_i) - (x_i,label - max_i)
 *   dx_ic = (exp(x_ic - lse_i) - [c = label_i]) g_i
 *
 * Row losses are added in double: over the rows of a unit in ascending order, then over the units
 * in ascending order, so that the order depends on the shape alone.  A row that does not count
 * (ignored label, or one out of range, which is also a fault) has loss 0 and gradient 0. */
#include "softmax_rows.inc"

#ifndef FASTGD_LOSS_CUT
#define FASTGD_LOSS_CUT

enum { CE_NONE = 0, CE_MEAN, CE_SUM };

/* What a unit leaves for phase 1. */
typedef struct ce_partial {
    double loss;
    int64_t count;
} ce_partial;

/* Whole groups of `lanes` rows. */
static int64_t ce_rows_per_unit(const fgd_cross_entropy_args *a, int64_t lanes)
{
    return lanes * cut_items_per_unit(FGD_UNIT_ELEMS / 2, a->classes * lanes);
}

FGD_INLINE int64_t ce_label(const void *label, int64_t dtype, int64_t row)
{
    switch (dtype) {
    case FGD_I32: return ((const int32_t *)label)[row];
    case FGD_I64: return ((const int64_t *)label)[row];
    default: return ((const uint8_t *)label)[row];
    }
}

FGD_INLINE int ce_counts(const fgd_cross_entropy_args *a, int64_t label)
{
    return label != a->ignore_index && label >= 0 && label < a->classes;
}
#endif

/* ---- forward ----------------------------------------------------------------------------- */

/* max[i] and sum[i] of exp(x - max) for up to LANES rows. */
FGD_INLINE void FGD_T_FN(ce_stats)(T *max, T *sum, const T *x, int64_t rows, int64_t classes)
{
    if (classes <= FGD_T_FN(FEW)) {
        T t[FGD_T_FN(FEW)][LANES];
        FGD_T_FN(few_load)(t, x, rows, classes);
        vec m = FGD_T_FN(few_max)(t, classes);
        V(store)(max, m);
        V(store)(sum, FGD_T_FN(few_sum_exp)(t, classes, m, 0));
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        max[i] = FGD_T_FN(row_max)(x + i * classes, classes);
        sum[i] = (T)FGD_T_FN(row_sum_exp)(NULL, x + i * classes, classes, max[i]);
    }
    for (int64_t i = rows; i < LANES; i++)
        max[i] = 0, sum[i] = 1;
}

static ce_partial FGD_T_FN(ce_rows)(const fgd_cross_entropy_args *a, T *loss, T *lse, const T *x,
                                    const void *label, int64_t from, int64_t to, fgd_fault *fault)
{
    ce_partial partial = { 0, 0 };
    const int64_t classes = a->classes;
    for (int64_t row = from; row < to; row += LANES) {
        int64_t rows = cut_min(LANES, to - row);
        T max[LANES], sum[LANES];
        FGD_T_FN(ce_stats)(max, sum, x + row * classes, rows, classes);
        vec log_sum = V(log)(V(load)(sum));
        V(store_n)(lse + row, V(add)(V(load)(max), log_sum), rows);
        V(store)(sum, log_sum);
        for (int64_t i = 0; i < rows; i++) {
            int64_t l = ce_label(label, a->label_dtype, row + i);
            T value = 0;
            if (ce_counts(a, l)) {
                value = sum[i] - (x[(row + i) * classes + l] - max[i]);
                partial.loss += (double)value;
                partial.count++;
            } else if (l != a->ignore_index) {
                fgd_fault_set(fault, FGD_INDEX, row + i, l, classes);
            }
            if (a->reduction == CE_NONE)
                loss[row + i] = value;
        }
    }
    return partial;
}

static void FGD_T_FN(ce_finish)(const fgd_cross_entropy_args *a, T *loss, T *count,
                                const ce_partial *partial, int64_t n)
{
    ce_partial total = { 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        total.loss += partial[i].loss;
        total.count += partial[i].count;
    }
    count[0] = (T)total.count;
    if (a->reduction == CE_MEAN)        /* no row counts: 0/0 = NaN, as in PyTorch */
        loss[0] = (T)(total.loss / (double)total.count);
    else if (a->reduction == CE_SUM)
        loss[0] = (T)total.loss;
}

FGD_PREPARE(cross_entropy_fwd)
{
    const fgd_cross_entropy_args *a = args_;
    int64_t units = cut_ceil(a->rows, ce_rows_per_unit(a, LANES));
    double n = (double)a->rows * a->classes, flops = 20 * n, bytes = n * sizeof(T);
    cut_one_phase(work, units, flops, bytes);
    if (units > 1)
        cut_two_phases(work, units, 1, units * (int64_t)sizeof(ce_partial), flops, bytes);
}

FGD_RUN(cross_entropy_fwd)
{
    const fgd_cross_entropy_args *a = args_;
    T *loss = ptr[0], *lse = ptr[1], *count = ptr[2];
    int64_t per = ce_rows_per_unit(a, LANES), units = cut_ceil(a->rows, per);
    if (phase == 1) {
        FGD_T_FN(ce_finish)(a, loss, count, context->shared, units);
        return;
    }
    ce_partial alone, *partial = units > 1 ? context->shared : &alone;
    for (int64_t u = begin; u < end; u++)
        partial[u] = FGD_T_FN(ce_rows)(a, loss, lse, ptr[3], ptr[4], u * per,
                                       cut_min(a->rows, (u + 1) * per), context->fault);
    if (units <= 1)
        FGD_T_FN(ce_finish)(a, loss, count, partial, 1);
}

/* ---- backward ---------------------------------------------------------------------------- */

FGD_INLINE void FGD_T_FN(ce_bwd_row)(T *dx, const T *x, int64_t n, vec lse, vec g)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        V(store)(dx + i, V(mul)(V(exp)(V(sub)(V(load)(x + i), lse)), g));
    if (i < n) {
        int64_t rest = n - i;
        V(store_n)(dx + i, V(mul)(V(exp)(V(sub)(V(load_n)(x + i, rest), lse)), g), rest);
    }
}

/* softmax(x) g for up to LANES rows, as one flat run of few classes each: no vector is spent on a
 * short row alone. */
FGD_INLINE void FGD_T_FN(ce_bwd_few)(T *dx, const T *x, const T *lse, int64_t rows, int64_t n, vec g)
{
    T each[FGD_T_FN(FEW) * LANES];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c++)
            each[i * n + c] = lse[i];
    int64_t i = 0;
    for (; i + LANES <= rows * n; i += LANES)
        V(store)(dx + i, V(mul)(V(exp)(V(sub)(V(load)(x + i), V(load)(each + i))), g));
    if (i < rows * n) {
        int64_t rest = rows * n - i;
        vec shifted = V(sub)(V(load_n)(x + i, rest), V(load_n)(each + i, rest));
        V(store_n)(dx + i, V(mul)(V(exp)(shifted), g), rest);
    }
}

FGD_PREPARE(cross_entropy_bwd)
{
    const fgd_cross_entropy_args *a = args_;
    double n = (double)a->rows * a->classes;
    cut_one_phase(work, cut_ceil(a->rows, ce_rows_per_unit(a, LANES)), 20 * n, 2 * n * sizeof(T));
}

FGD_RUN(cross_entropy_bwd)
{
    (void)phase;
    const fgd_cross_entropy_args *a = args_;
    T *dx = ptr[0];
    const T *g = ptr[1], *x = ptr[2], *lse = ptr[3], *count = ptr[5];
    const int64_t n = a->classes, per = ce_rows_per_unit(a, LANES);
    const int each_row = a->reduction == CE_NONE, few = n <= FGD_T_FN(FEW) / 2 && !each_row;
    const T scale = each_row ? 0 : a->reduction == CE_MEAN ? g[0] / count[0] : g[0];
    int64_t last = cut_min(a->rows, end * per);
    for (int64_t from = begin * per; from < last; from += LANES) {
        int64_t to = cut_min(last, from + LANES);
        if (few)
            FGD_T_FN(ce_bwd_few)(dx + from * n, x + from * n, lse + from, to - from, n,
                                 V(set1)(scale));
        else
            for (int64_t i = from; i < to; i++)
                FGD_T_FN(ce_bwd_row)(dx + i * n, x + i * n, n, V(set1)(lse[i]),
                                     V(set1)(each_row ? g[i] : scale));
        /* apart from the loop above: a load right after a partial vector store would wait for it */
        for (int64_t i = from; i < to; i++) {
            int64_t l = ce_label(ptr[4], a->label_dtype, i);
            if (ce_counts(a, l)) {
                dx[i * n + l] -= each_row ? g[i] : scale;
                continue;
            }
            if (l != a->ignore_index)
                fgd_fault_set(context->fault, FGD_INDEX, i, l, n);
            for (int64_t c = 0; c < n; c++)
                dx[i * n + c] = 0;
        }
    }
}
