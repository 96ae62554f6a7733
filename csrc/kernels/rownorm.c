/* Layer normalisation (Ba, Kiros, Hinton, 2016) and RMS normalisation (Zhang, Sennrich, 2019) of the rows of
 * x[rows, n], forward and backward.
 *
 *   center:  mean = sum(x) / n            otherwise mean = 0
 *   rstd = 1 / sqrt(sum((x - mean)^2) / n + eps)        xhat = (x - mean) rstd        y = xhat w + b
 *   with g = dy w:   dx = rstd (g - sum(g) / n - xhat sum(g xhat) / n)      (without sum(g) if not center)
 *                    dw = sum over rows of dy xhat      db = sum over rows of dy
 *
 * The variance is taken from the centred values in a second pass over the row, which is in L1.  Sums along a row go
 * to four chains of lanes in blocks of FGD_SUM_BLOCK whose sums are added in double.  dw and db are made in the
 * canonical order of reduce.c over rows: db has the bits of sum(dy, 0), dw those of sum(dy * xhat, 0). */
#include <math.h>
#include "cut.h"

#ifndef FASTGD_ROWNORM_CUT
#define FASTGD_ROWNORM_CUT
enum { ROWNORM_STRIP = 64 };            /* columns of dw and db that a unit sums                  */

FGD_INLINE int64_t rownorm_per_unit(const fgd_rownorm_args *a)
{
    return cut_items_per_unit(FGD_UNIT_ELEMS / 2, a->n);
}

FGD_INLINE int64_t rownorm_blocks(const fgd_rownorm_args *a)
{
    return cut_max(1, cut_ceil(a->rows, FGD_SUM_ROWS));
}
#endif

/* ---- sums along a row -------------------------------------------------------------------- */

/* Adds TERM(load, i) over i < n, where load(p) reads a whole vector or the rest of the row with zeros behind it; TERM
 * must give 0 for the lanes behind it. */
#define ROW_SUM(total, n, TERM)                                                                \
    do {                                                                                       \
        for (int64_t from_ = 0; from_ < (n); from_ += FGD_SUM_BLOCK) {                         \
            const int64_t to_ = cut_min((n), from_ + FGD_SUM_BLOCK);                           \
            vec c_[4] = { V(zero)(), V(zero)(), V(zero)(), V(zero)() };                        \
            int64_t i_ = from_;                                                                \
            for (; i_ + 4 * LANES <= to_; i_ += 4 * LANES)                                     \
                for (int k_ = 0; k_ < 4; k_++)                                                 \
                    c_[k_] = TERM(c_[k_], i_ + k_ * LANES, LANES);                             \
            for (int k_ = 0; i_ < to_; i_ += LANES, k_++)                                      \
                c_[k_] = TERM(c_[k_], i_, cut_min(LANES, to_ - i_));                           \
            (total) += (double)V(hsum)(V(add)(V(add)(c_[0], c_[1]), V(add)(c_[2], c_[3])));    \
        }                                                                                      \
    } while (0)

FGD_INLINE vec FGD_T_FN(rownorm_load)(const T *x, int64_t n)
{
    return n == LANES ? V(load)(x) : V(load_n)(x, n);
}
#define LOAD FGD_T_FN(rownorm_load)

FGD_INLINE void FGD_T_FN(rownorm_store)(T *y, vec v, int64_t n)
{
    if (n == LANES)
        V(store)(y, v);
    else
        V(store_n)(y, v, n);
}

/* ---- forward ----------------------------------------------------------------------------- */

FGD_INLINE void FGD_T_FN(rownorm_stats)(const fgd_rownorm_args *a, const T *x, T *mean, T *rstd)
{
    double total = 0;
    *mean = 0;
    if (a->center) {
#define TERM(c, i, m) V(add)(c, LOAD(x + (i), m))
        ROW_SUM(total, a->n, TERM);
#undef TERM
        *mean = (T)(total / (double)a->n);
    }
    const vec center = V(set1)(*mean);
    vec d;
    total = 0;
#define TERM(c, i, m) \
    (d = V(sub)(LOAD(x + (i), m), center), d = (m) == LANES ? d : V(keep)(V(mask_n)(m), d), V(fma)(d, d, c))
    ROW_SUM(total, a->n, TERM);
#undef TERM
    *rstd = (T)(1 / sqrt(total / (double)a->n + a->eps));
}

FGD_INLINE void FGD_T_FN(rownorm_apply)(T *y, const T *x, const T *w, const T *b, int64_t n, T mean, T rstd)
{
    const vec center = V(set1)(mean), scale = V(set1)(rstd);
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t m = cut_min(LANES, n - i);
        vec v = V(mul)(V(sub)(LOAD(x + i, m), center), scale);
        if (w)
            v = V(mul)(v, LOAD(w + i, m));
        if (b)
            v = V(add)(v, LOAD(b + i, m));
        FGD_T_FN(rownorm_store)(y + i, v, m);
    }
}

FGD_PREPARE(rownorm_fwd)
{
    const fgd_rownorm_args *a = args_;
    const double n = (double)a->rows * a->n;
    cut_one_phase(work, cut_ceil(a->rows, rownorm_per_unit(a)), 8 * n, 2 * n * sizeof(T));
}

FGD_RUN(rownorm_fwd)
{
    (void)phase, (void)context;
    const fgd_rownorm_args *a = args_;
    void *const *next = ptr;
    T *y = *next++, *mean = a->center ? *next++ : NULL, *rstd = *next++;
    const T *x = *next++, *w = a->has_w ? *next++ : NULL, *b = a->has_b ? *next++ : NULL;
    const int64_t n = a->n, per = rownorm_per_unit(a);
    for (int64_t r = begin * per; r < cut_min(a->rows, end * per); r++) {
        T m;
        FGD_T_FN(rownorm_stats)(a, x + r * n, &m, &rstd[r]);
        if (mean)
            mean[r] = m;
        FGD_T_FN(rownorm_apply)(y + r * n, x + r * n, w, b, n, m, rstd[r]);
    }
}

/* ---- backward: dx ------------------------------------------------------------------------ */

FGD_INLINE void FGD_T_FN(rownorm_bwd_row)(T *dx, const T *dy, const T *x, const T *w, int64_t n, int center, T mean,
                                          T rstd)
{
    const vec m = V(set1)(mean), scale = V(set1)(rstd);
    double sum = 0, projection = 0;
    vec g;
#define GRADIENT(i, k) (w ? V(mul)(LOAD(dy + (i), k), LOAD(w + (i), k)) : LOAD(dy + (i), k))
#define XHAT(i, k) V(mul)(V(sub)(LOAD(x + (i), k), m), scale)
    if (center) {
#define TERM(c, i, k) V(add)(c, GRADIENT(i, k))
        ROW_SUM(sum, n, TERM);
#undef TERM
    }
#define TERM(c, i, k) (g = GRADIENT(i, k), V(fma)(g, XHAT(i, k), c))
    ROW_SUM(projection, n, TERM);
#undef TERM
    const vec first = V(set1)((T)(sum / (double)n)), second = V(set1)((T)(projection / (double)n));
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t k = cut_min(LANES, n - i);
        vec d = V(sub)(GRADIENT(i, k), first);
        FGD_T_FN(rownorm_store)(dx + i, V(mul)(V(fnma)(XHAT(i, k), second, d), scale), k);
    }
#undef GRADIENT
#undef XHAT
}

FGD_PREPARE(rownorm_bwd_x)
{
    const fgd_rownorm_args *a = args_;
    const double n = (double)a->rows * a->n;
    cut_one_phase(work, cut_ceil(a->rows, rownorm_per_unit(a)), 12 * n, 3 * n * sizeof(T));
}

FGD_RUN(rownorm_bwd_x)
{
    (void)phase, (void)context;
    const fgd_rownorm_args *a = args_;
    void *const *next = ptr;
    T *dx = *next++;
    const T *dy = *next++, *x = *next++, *mean = a->center ? *next++ : NULL, *rstd = *next++;
    const T *w = a->has_w ? *next++ : NULL;
    const int64_t n = a->n, per = rownorm_per_unit(a);
    for (int64_t r = begin * per; r < cut_min(a->rows, end * per); r++) {
        if (a->center)
            FGD_T_FN(rownorm_bwd_row)(dx + r * n, dy + r * n, x + r * n, w, n, 1, mean[r], rstd[r]);
        else
            FGD_T_FN(rownorm_bwd_row)(dx + r * n, dy + r * n, x + r * n, w, n, 0, 0, rstd[r]);
    }
}

/* ---- backward: dw and db ----------------------------------------------------------------- */

/* One vector of columns of both sums over rows [from, to); a NULL sum is not made. */
FGD_INLINE void FGD_T_FN(rownorm_bwd_columns)(T *dw, T *db, const T *dy, const T *x, const T *mean, const T *rstd,
                                              int64_t ld, int64_t from, int64_t to, int64_t n)
{
    vec sum_w = V(zero)(), sum_b = V(zero)();
    for (int64_t r = from; r < to; r++) {
        const vec g = LOAD(dy + r * ld, n);
        if (dw) {
            vec v = LOAD(x + r * ld, n);
            if (mean)
                v = V(sub)(v, V(set1)(mean[r]));
            sum_w = V(add)(sum_w, V(mul)(g, V(mul)(v, V(set1)(rstd[r]))));
        }
        sum_b = V(add)(sum_b, g);
    }
    if (dw)
        FGD_T_FN(rownorm_store)(dw, sum_w, n);
    if (db)
        FGD_T_FN(rownorm_store)(db, sum_b, n);
}

FGD_PREPARE(rownorm_bwd_w)
{
    const fgd_rownorm_args *a = args_;
    const double n = (double)a->rows * a->n;
    const int64_t blocks = rownorm_blocks(a), strips = cut_max(1, cut_ceil(a->n, ROWNORM_STRIP));
    cut_one_phase(work, strips, 5 * n, 2 * n * sizeof(T));
    if (blocks > 1)
        cut_two_phases(work, blocks * strips, strips, 2 * blocks * a->n * (int64_t)sizeof(T), 5 * n,
                       2 * n * sizeof(T));
}

FGD_RUN(rownorm_bwd_w)
{
    const fgd_rownorm_args *a = args_;
    void *const *next = ptr;
    T *dw = a->has_w ? *next++ : NULL, *db = a->has_b ? *next++ : NULL;
    const T *dy = *next++, *x = *next++, *mean = a->center ? *next++ : NULL, *rstd = *next++;
    const int64_t n = a->n, blocks = rownorm_blocks(a), strips = cut_max(1, cut_ceil(n, ROWNORM_STRIP));
    T *partial_w = context->shared, *partial_b = partial_w + blocks * n;        /* [blocks, n] */
    for (int64_t u = begin; u < end; u++) {
        const int64_t column = u % strips * ROWNORM_STRIP, stop = cut_min(n, column + ROWNORM_STRIP);
        if (phase == 1) {
            for (int64_t j = column; j < stop; j++) {
                T w = partial_w[j], b = partial_b[j];
                for (int64_t k = 1; k < blocks; k++)
                    w += partial_w[k * n + j], b += partial_b[k * n + j];
                if (dw)
                    dw[j] = w;
                if (db)
                    db[j] = b;
            }
            continue;
        }
        const int64_t block = u / strips, from = block * FGD_SUM_ROWS, to = cut_min(a->rows, from + FGD_SUM_ROWS);
        T *out_w = blocks > 1 ? partial_w + block * n : dw, *out_b = blocks > 1 ? partial_b + block * n : db;
        for (int64_t j = column; j < stop; j += LANES)
            FGD_T_FN(rownorm_bwd_columns)(out_w ? out_w + j : NULL, out_b ? out_b + j : NULL, dy + j, x + j, mean,
                                          rstd, n, from, to, cut_min(LANES, stop - j));
    }
}
#undef LOAD
#undef ROW_SUM
