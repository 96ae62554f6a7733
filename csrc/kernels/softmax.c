/* Softmax and log-softmax over r of x[outer, r, inner], forward and backward.
 *
 *   y = exp(x - max) / sum exp(x - max)            dx = y (dy - sum(dy y))
 *   y = (x - max) - log(sum exp(x - max))          dx = dy - exp(y) sum(dy)
 *
 * The maximum is taken without care for NaN: a NaN, a +inf or a row of nothing but -inf makes
 * some exp(x - max) NaN, hence the sum and the whole row, which is what PyTorch gives.
 *
 * Three layouts.  inner > 1: vectors of neighbouring columns, each column one chain over r.
 * inner == 1 and few classes: LANES rows at a time, one row per lane, so that no work is spent
 * across lanes.  inner == 1 otherwise: along the row, in blocks of FGD_SUM_BLOCK whose sums are
 * added in double. */
#include "softmax_rows.inc"

/* Up to LANES rows of n <= FEW classes. */
static void FGD_T_FN(softmax_few)(T *y, const T *x, int64_t rows, int64_t n, int is_log)
{
    T t[FGD_T_FN(FEW)][LANES];
    FGD_T_FN(few_load)(t, x, rows, n);
    vec max = FGD_T_FN(few_max)(t, n);
    vec sum = FGD_T_FN(few_sum_exp)(t, n, max, !is_log);
    vec log_sum = is_log ? V(log)(sum) : sum, scale = V(div)(V(set1)(1), sum);
    for (int64_t c = 0; c < n; c++) {
        vec v = V(load)(t[c]);
        V(store)(t[c], is_log ? V(sub)(V(sub)(v, max), log_sum) : V(mul)(v, scale));
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < n; c++)
            y[i * n + c] = t[c][i];
}

/* ---- forward ----------------------------------------------------------------------------- */

static void FGD_T_FN(softmax_row)(T *y, const T *x, int64_t n, int is_log)
{
    T max = FGD_T_FN(row_max)(x, n);
    int64_t i = 0;
    if (is_log) {
        double sum = FGD_T_FN(row_sum_exp)(NULL, x, n, max);
        const vec vmax = V(set1)(max), log_sum = V(log)(V(set1)((T)sum));
        for (; i + LANES <= n; i += LANES)
            V(store)(y + i, V(sub)(V(sub)(V(load)(x + i), vmax), log_sum));
        if (i < n) {
            vec v = V(load_n)(x + i, n - i);
            V(store_n)(y + i, V(sub)(V(sub)(v, vmax), log_sum), n - i);
        }
    } else {
        const vec scale = V(set1)((T)(1 / FGD_T_FN(row_sum_exp)(y, x, n, max)));
        for (; i + LANES <= n; i += LANES)
            V(store)(y + i, V(mul)(V(load)(y + i), scale));
        if (i < n)
            V(store_n)(y + i, V(mul)(V(load_n)(y + i, n - i), scale), n - i);
    }
}

/* n <= LANES columns of one outer index. */
FGD_INLINE void FGD_T_FN(softmax_columns)(T *y, const T *x, int64_t r, int64_t inner, int64_t n,
                                          int is_log)
{
    vec max = V(load_n)(x, n), sum = V(zero)();
    for (int64_t i = 1; i < r; i++)
        max = V(max)(max, V(load_n)(x + i * inner, n));
    for (int64_t i = 0; i < r; i++) {
        vec e = V(exp)(V(sub)(V(load_n)(x + i * inner, n), max));
        if (!is_log)
            V(store_n)(y + i * inner, e, n);
        sum = V(add)(sum, e);
    }
    vec scale = is_log ? V(log)(sum) : V(div)(V(set1)(1), sum);
    for (int64_t i = 0; i < r; i++) {
        vec v = is_log ? V(sub)(V(sub)(V(load_n)(x + i * inner, n), max), scale)
                       : V(mul)(V(load_n)(y + i * inner, n), scale);
        V(store_n)(y + i * inner, v, n);
    }
}

/* ---- backward ---------------------------------------------------------------------------- */

/* What is summed over a row: dy y, or dy for log-softmax. */
FGD_INLINE vec FGD_T_FN(softmax_bwd_term)(vec sum, vec dy, vec y, int is_log)
{
    return is_log ? V(add)(sum, dy) : V(fma)(dy, y, sum);
}

FGD_INLINE vec FGD_T_FN(softmax_bwd_dx)(vec sum, vec dy, vec y, int is_log)
{
    return is_log ? V(fnma)(V(exp)(y), sum, dy) : V(mul)(y, V(sub)(dy, sum));
}

FGD_INLINE T FGD_T_FN(softmax_bwd_block)(const T *dy, const T *y, int64_t n, int is_log)
{
    vec s0 = V(zero)(), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        s0 = FGD_T_FN(softmax_bwd_term)(s0, V(load)(dy + i), V(load)(y + i), is_log);
        s1 = FGD_T_FN(softmax_bwd_term)(s1, V(load)(dy + i + LANES), V(load)(y + i + LANES),
                                        is_log);
    }
    if (i + LANES <= n) {
        s0 = FGD_T_FN(softmax_bwd_term)(s0, V(load)(dy + i), V(load)(y + i), is_log);
        i += LANES;
    }
    if (i < n) {
        int64_t rest = n - i;
        s1 = FGD_T_FN(softmax_bwd_term)(s1, V(load_n)(dy + i, rest), V(load_n)(y + i, rest),
                                        is_log);
    }
    return V(hsum)(V(add)(s0, s1));
}

FGD_INLINE void FGD_T_FN(softmax_bwd_row)(T *dx, const T *dy, const T *y, int64_t n, int is_log)
{
    double total = 0;
    for (int64_t i = 0; i < n; i += FGD_SUM_BLOCK)
        total += FGD_T_FN(softmax_bwd_block)(dy + i, y + i, cut_min(FGD_SUM_BLOCK, n - i), is_log);
    const vec sum = V(set1)((T)total);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        V(store)(dx + i, FGD_T_FN(softmax_bwd_dx)(sum, V(load)(dy + i), V(load)(y + i), is_log));
    if (i < n) {
        int64_t rest = n - i;
        vec v = FGD_T_FN(softmax_bwd_dx)(sum, V(load_n)(dy + i, rest), V(load_n)(y + i, rest),
                                         is_log);
        V(store_n)(dx + i, v, rest);
    }
}

FGD_INLINE void FGD_T_FN(softmax_bwd_columns)(T *dx, const T *dy, const T *y, int64_t r,
                                              int64_t inner, int64_t n,
                                              int is_log)
{
    vec sum = V(zero)();
    for (int64_t i = 0; i < r * inner; i += inner)
        sum = FGD_T_FN(softmax_bwd_term)(sum, V(load_n)(dy + i, n), V(load_n)(y + i, n), is_log);
    for (int64_t i = 0; i < r * inner; i += inner)
        V(store_n)(dx + i, FGD_T_FN(softmax_bwd_dx)(sum, V(load_n)(dy + i, n), V(load_n)(y + i, n),
                                                    is_log), n);
}

/* ---- the kernels ------------------------------------------------------------------------- */

/* An item is LANES rows (inner == 1) or one vector of columns of one outer index. */
static int64_t FGD_T_FN(softmax_items)(const fgd_softmax_args *a)
{
    return a->inner == 1 ? cut_ceil(a->outer, LANES) : a->outer * cut_ceil(a->inner, LANES);
}

static int64_t FGD_T_FN(softmax_items_per_unit)(const fgd_softmax_args *a)
{
    return cut_items_per_unit(FGD_UNIT_ELEMS / 2, a->r * LANES);
}

static void FGD_T_FN(softmax_prepare)(const fgd_softmax_args *a, int n_buffers, fgd_work *work)
{
    double n = (double)a->outer * a->r * a->inner;
    int64_t units = cut_ceil(FGD_T_FN(softmax_items)(a), FGD_T_FN(softmax_items_per_unit)(a));
    cut_one_phase(work, units, 20 * n, n_buffers * n * sizeof(T));
}

FGD_PREPARE(softmax_fwd) { FGD_T_FN(softmax_prepare)(args_, 2, work); }

FGD_PREPARE(softmax_bwd) { FGD_T_FN(softmax_prepare)(args_, 3, work); }

FGD_RUN(softmax_fwd)
{
    (void)phase, (void)context;
    const fgd_softmax_args *a = args_;
    T *y = ptr[0];
    const T *x = ptr[1];
    const int64_t r = a->r, inner = a->inner, strips = cut_ceil(inner, LANES);
    const int is_log = a->log != 0;
    int64_t per = FGD_T_FN(softmax_items_per_unit)(a);
    int64_t last = cut_min(end * per, r ? FGD_T_FN(softmax_items)(a) : 0);
    for (int64_t item = begin * per; item < last; item++) {
        if (inner == 1) {
            int64_t from = item * LANES, to = cut_min(from + LANES, a->outer);
            if (r <= FGD_T_FN(FEW)) {
                FGD_T_FN(softmax_few)(y + from * r, x + from * r, to - from, r, is_log);
                continue;
            }
            for (int64_t row = from; row < to; row++)
                FGD_T_FN(softmax_row)(y + row * r, x + row * r, r, is_log);
        } else {
            int64_t column = item % strips * LANES, at = item / strips * r * inner + column;
            int64_t n = cut_min(LANES, inner - column);
            FGD_T_FN(softmax_columns)(y + at, x + at, r, inner, n, is_log);
        }
    }
}

FGD_RUN(softmax_bwd)
{
    (void)phase, (void)context;
    const fgd_softmax_args *a = args_;
    T *dx = ptr[0];
    const T *dy = ptr[1], *y = ptr[2];
    const int64_t r = a->r, inner = a->inner, strips = cut_ceil(inner, LANES);
    const int is_log = a->log != 0;
    int64_t per = FGD_T_FN(softmax_items_per_unit)(a);
    int64_t last = cut_min(end * per, r ? FGD_T_FN(softmax_items)(a) : 0);
    for (int64_t item = begin * per; item < last; item++) {
        if (inner == 1) {
            int64_t from = item * LANES, to = cut_min(from + LANES, a->outer);
            for (int64_t at = from * r; at < to * r; at += r)
                FGD_T_FN(softmax_bwd_row)(dx + at, dy + at, y + at, r, is_log);
        } else {
            int64_t column = item % strips * LANES, at = item / strips * r * inner + column;
            int64_t n = cut_min(LANES, inner - column);
            FGD_T_FN(softmax_bwd_columns)(dx + at, dy + at, y + at, r, inner, n, is_log);
        }
    }
}
