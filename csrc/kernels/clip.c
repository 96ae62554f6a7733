/* The global norm of a list of gradients and their scaling, as torch.nn.utils.clip_grad_norm_ has them.
 *
 * Source: Pascanu, Mikolov, Bengio 2013, section 3.2; the 1e-6 beside the norm is PyTorch's. */
#include <math.h>
#include "cut.h"

/* ---- the norm of all gradients ----------------------------------------------------------- */

/* Squares are summed in double, so that none of a float overflows: element i of a piece in lane
 * i mod 16, over all pieces of a unit; then the lanes by halves, then the units in order. */
enum { FGD_T_FN(SQUARE_LANES) = 16 };

static void FGD_T_FN(add_squares)(double *lane, const T *g, int64_t n)
{
    enum { N = FGD_T_FN(SQUARE_LANES) };
    double sum[N];                      /* a copy, which stays in registers */
    for (int l = 0; l < N; l++)
        sum[l] = lane[l];
    int64_t i = 0;
    for (; i + N <= n; i += N)
        for (int l = 0; l < N; l++)
            sum[l] += (double)g[i + l] * (double)g[i + l];
    for (int l = 0; l < N; l++)
        lane[l] = sum[l];
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)g[i + l] * (double)g[i + l];
}

static double FGD_T_FN(fold_squares)(double *lane)
{
    for (int half = FGD_T_FN(SQUARE_LANES) / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* The first segment whose own sum of squares is not finite; -1 if only their total is not. */
static int64_t FGD_T_FN(first_nonfinite)(const fgd_grad_norm_args *a, void *const *g)
{
    for (int64_t s = 0; s < a->n_segments; s++) {
        double lane[FGD_T_FN(SQUARE_LANES)] = { 0 };
        FGD_T_FN(add_squares)(lane, g[s], a->tail[s]);
        if (!isfinite(FGD_T_FN(fold_squares)(lane)))
            return s;
    }
    return -1;
}

/* partial[u] for units [begin, end). */
static void FGD_T_FN(grad_norm_units)(const fgd_grad_norm_args *a, void *const *g, double *partial,
                                      int64_t begin, int64_t end)
{
    cut_walk w = cut_walk_begin(a->tail, 1, a->n_segments, begin, begin);
    for (int64_t u = begin; u < end; u++) {
        double lane[FGD_T_FN(SQUARE_LANES)] = { 0 };
        w.flat_end += FGD_UNIT_ELEMS;
        while (cut_walk_next(&w))
            FGD_T_FN(add_squares)(lane, (const T *)g[w.segment] + w.from, w.to - w.from);
        partial[u] = FGD_T_FN(fold_squares)(lane);
    }
}

static void FGD_T_FN(grad_norm_finish)(const fgd_grad_norm_args *a, void *const *ptr,
                                       const double *partial, int64_t n, fgd_fault *fault)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += partial[i];
    T norm = (T)sqrt(total);
    double coef = a->max_norm / ((double)norm + 1e-6);
    *(T *)ptr[0] = norm;
    *(T *)ptr[1] = coef > 1 ? 1 : (T)coef;      /* NaN stays NaN */
    if (a->check_finite && !isfinite(norm))
        fgd_fault_set(fault, FGD_NONFINITE, FGD_T_FN(first_nonfinite)(a, ptr + 2), 0, 0);
}

FGD_PREPARE(grad_norm)
{
    const fgd_grad_norm_args *a = args_;
    int64_t total = cut_total(a->tail, 1, a->n_segments), units = cut_ceil(total, FGD_UNIT_ELEMS);
    double flops = 2.0 * (double)total, bytes = (double)total * sizeof(T);
    cut_one_phase(work, 1, flops, bytes);
    if (units > 1)
        cut_two_phases(work, units, 1, units * (int64_t)sizeof(double), flops, bytes);
}

FGD_RUN(grad_norm)
{
    const fgd_grad_norm_args *a = args_;
    int64_t units = cut_ceil(cut_total(a->tail, 1, a->n_segments), FGD_UNIT_ELEMS);
    if (phase == 1) {
        FGD_T_FN(grad_norm_finish)(a, ptr, context->shared, units, context->fault);
        return;
    }
    double alone, *partial = units > 1 ? context->shared : &alone;
    FGD_T_FN(grad_norm_units)(a, ptr + 2, partial, begin, end);
    if (units <= 1)
        FGD_T_FN(grad_norm_finish)(a, ptr, partial, 1, context->fault);
}

/* ---- scaling in place -------------------------------------------------------------------- */

FGD_PREPARE(scale_all)
{
    const fgd_scale_all_args *a = args_;
    int64_t total = cut_total(a->tail, 1, a->n_segments);
    cut_one_phase(work, cut_ceil(total, FGD_UNIT_ELEMS), (double)total,
                  2.0 * (double)total * sizeof(T));
}

FGD_RUN(scale_all)
{
    (void)phase, (void)context;
    const fgd_scale_all_args *a = args_;
    const T scale = *(const T *)ptr[0];
    if (scale == 1)                     /* the usual coefficient of clipping: nothing to do */
        return;
    cut_walk w = cut_walk_begin(a->tail, 1, a->n_segments, begin, end);
    while (cut_walk_next(&w)) {
        T *g = (T *)ptr[1 + w.segment] + w.from;
        for (int64_t i = 0; i < w.to - w.from; i++)
            g[i] *= scale;
    }
}
