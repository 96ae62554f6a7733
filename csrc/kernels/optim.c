/* Optimizer steps, the global gradient norm and the scaling of gradients, each one call over a
 * list of buffers (segments).
 *
 *   SGD    g += wd p;  buf = momentum buf + (1 - dampening) g;  p -= lr (nesterov ? g + momentum buf : buf)
 *   Adam   m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
 *          p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *          weight decay joins g (Adam) or scales p by 1 - lr wd first (AdamW)
 *
 * Sources: Sutskever et al. 2013 (momentum), Kingma & Ba 2015 (Adam), Reddi et al. 2018 (AMSGrad),
 * Loshchilov & Hutter 2019 (decoupled decay); the details, such as the first momentum step that
 * skips dampening and AMSGrad over the raw v, are those of torch.optim.
 *
 * Everything that depends on hyper-parameters and step counts alone is a coefficient of the
 * segment: computed in float64, rounded to T once.  Large lists take two phases, coefficients
 * (which also counts the steps) then updates; small ones do both in one unit. */
#include <math.h>
#include "cut.h"

#ifndef FASTGD_OPTIM_CUT
#define FASTGD_OPTIM_CUT

enum { SGD_NESTEROV = 1, SGD_MAXIMIZE = 2, SGD_MOMENTUM = 4 };
enum { ADAM_AMSGRAD = 1, ADAM_MAXIMIZE = 2, ADAM_DECOUPLED = 4 };
enum { HYPER_LR = 0 };
enum { SGD_HYPER_MOMENTUM = 1, SGD_HYPER_DAMPENING, SGD_HYPER_DECAY };
enum { ADAM_HYPER_BETA1 = 1, ADAM_HYPER_BETA2, ADAM_HYPER_EPS, ADAM_HYPER_DECAY };

/* A row of an optimizer's table of segments. */
enum { SEGMENT_LENGTH = 0, SEGMENT_GROUP, SEGMENT_STEP, SEGMENT_WORDS };

/* Two phases when there is work for several units; coef_bytes for each segment are shared. */
static void optim_prepare(const fgd_optimizer_args *a, int64_t itemsize, int64_t coef_bytes,
                          int buffers, fgd_work *work)
{
    int64_t total = cut_total(a->tail, SEGMENT_WORDS, a->n_segments);
    int64_t units = cut_ceil(total, FGD_UNIT_ELEMS);
    double flops = 12.0 * (double)total, bytes = (double)total * itemsize * buffers;
    if (units > 1) {
        cut_two_phases(work, 1, units, coef_bytes * a->n_segments, flops, bytes);
    } else {
        cut_one_phase(work, 1, flops, bytes);
        work->shared_bytes = coef_bytes * a->n_segments;
    }
}

/* One phase does everything. */
FGD_INLINE int optim_single(const fgd_optimizer_args *a)
{
    return cut_total(a->tail, SEGMENT_WORDS, a->n_segments) <= FGD_UNIT_ELEMS;
}
#endif

/* ---- coefficients ------------------------------------------------------------------------ */

typedef struct FGD_T_FN(sgd_coef) {
    T g_scale, weight_decay, momentum, g_weight, neg_lr;
} FGD_T_FN(sgd_coef);

typedef struct FGD_T_FN(adam_coef) {
    T g_scale, weight_decay;    /* g = g_scale g + weight_decay p                                 */
    T lerp, m_is_base;          /* m = base + lerp (other - base), base m or g                    */
    T beta2, one_minus_beta2;
    T inv_sqrt_bc2, eps;        /* denominator = sqrt(v) inv_sqrt_bc2 + eps                       */
    T p_scale, neg_step;        /* p = p_scale p + neg_step m / denominator                       */
} FGD_T_FN(adam_coef);

static FGD_T_FN(sgd_coef) FGD_T_FN(sgd_coef_of)(const double *hyper, int64_t flags, int64_t steps,
                                                T g_scale)
{
    int first = steps == 0;     /* the buffer starts as a copy of the gradient */
    return (FGD_T_FN(sgd_coef)){
        .g_scale = flags & SGD_MAXIMIZE ? -g_scale : g_scale,
        .weight_decay = (T)hyper[SGD_HYPER_DECAY],
        .momentum = (T)hyper[SGD_HYPER_MOMENTUM],
        .g_weight = first ? 1 : (T)(1 - hyper[SGD_HYPER_DAMPENING]),
        .neg_lr = (T)-hyper[HYPER_LR],
    };
}

/* t counts from 1.  m + (1 - beta1) (g - m) loses g when beta1 is small, so that the
 * interpolation then starts from g, as torch.lerp does. */
static FGD_T_FN(adam_coef) FGD_T_FN(adam_coef_of)(const double *hyper, int64_t flags, int64_t t,
                                                  T g_scale)
{
    double lr = hyper[HYPER_LR], decay = hyper[ADAM_HYPER_DECAY];
    double beta1 = hyper[ADAM_HYPER_BETA1], beta2 = hyper[ADAM_HYPER_BETA2];
    int from_m = 1 - beta1 < 0.5, decoupled = (flags & ADAM_DECOUPLED) != 0;
    return (FGD_T_FN(adam_coef)){
        .g_scale = flags & ADAM_MAXIMIZE ? -g_scale : g_scale,
        .weight_decay = decoupled ? 0 : (T)decay,
        .lerp = (T)(from_m ? 1 - beta1 : beta1),
        .m_is_base = (T)from_m,
        .beta2 = (T)beta2,
        .one_minus_beta2 = (T)(1 - beta2),
        .inv_sqrt_bc2 = (T)(1 / sqrt(1 - pow(beta2, (double)t))),
        .eps = (T)hyper[ADAM_HYPER_EPS],
        .p_scale = (T)(decoupled ? 1 - lr * decay : 1),
        .neg_step = (T)(-lr / (1 - pow(beta1, (double)t))),
    };
}

/* Phase 0.  Neighbours mostly share group and step, and then the coefficients too. */
static void FGD_T_FN(sgd_coefs)(const fgd_optimizer_args *a, void *const *ptr,
                                FGD_T_FN(sgd_coef) *coef)
{
    const double *groups = ptr[0];
    int64_t *steps = ptr[1];
    const T g_scale = a->has_scale ? *(const T *)ptr[2] : 1;
    for (int64_t s = 0; s < a->n_segments; s++) {
        const int64_t *row = a->tail + s * SEGMENT_WORDS;
        coef[s] = FGD_T_FN(sgd_coef_of)(groups + row[SEGMENT_GROUP] * FGD_HYPER, a->flags,
                                        steps[row[SEGMENT_STEP]]++, g_scale);
    }
}

static void FGD_T_FN(adam_coefs)(const fgd_optimizer_args *a, void *const *ptr,
                                 FGD_T_FN(adam_coef) *coef)
{
    const double *groups = ptr[0];
    int64_t *steps = ptr[1], last_group = -1, last_t = -1;
    const T g_scale = a->has_scale ? *(const T *)ptr[2] : 1;
    for (int64_t s = 0; s < a->n_segments; s++) {
        const int64_t *row = a->tail + s * SEGMENT_WORDS;
        int64_t group = row[SEGMENT_GROUP], t = ++steps[row[SEGMENT_STEP]];
        coef[s] = group == last_group && t == last_t
            ? coef[s - 1]
            : FGD_T_FN(adam_coef_of)(groups + group * FGD_HYPER, a->flags, t, g_scale);
        last_group = group;
        last_t = t;
    }
}

/* ---- updates ----------------------------------------------------------------------------- */

/* One vector (n == LANES, a constant) or the rest of a piece. */
FGD_INLINE vec FGD_T_FN(load_part)(const T *p, int64_t n)
{
    return n == LANES ? V(load)(p) : V(load_n)(p, n);
}

FGD_INLINE void FGD_T_FN(store_part)(T *p, vec v, int64_t n)
{
    if (n == LANES)
        V(store)(p, v);
    else
        V(store_n)(p, v, n);
}

/* buf is NULL if the group has no momentum (a constant to the compiler). */
FGD_INLINE void FGD_T_FN(sgd_vector)(const FGD_T_FN(sgd_coef) *c, int nesterov, T *p, const T *g,
                                     T *buf, int64_t n)
{
    const vec momentum = V(set1)(c->momentum);
    vec param = FGD_T_FN(load_part)(p, n);
    vec grad = V(mul)(FGD_T_FN(load_part)(g, n), V(set1)(c->g_scale));
    if (c->weight_decay != 0)
        grad = V(fma)(V(set1)(c->weight_decay), param, grad);
    if (buf) {
        vec b = V(mul)(FGD_T_FN(load_part)(buf, n), momentum);
        b = V(fma)(V(set1)(c->g_weight), grad, b);
        FGD_T_FN(store_part)(buf, b, n);
        grad = nesterov ? V(fma)(momentum, b, grad) : b;
    }
    FGD_T_FN(store_part)(p, V(fma)(V(set1)(c->neg_lr), grad, param), n);
}

FGD_INLINE void FGD_T_FN(sgd_piece)(const FGD_T_FN(sgd_coef) *c, int nesterov, T *p, const T *g,
                                    T *buf, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FGD_T_FN(sgd_vector)(c, nesterov, p + i, g + i, buf ? buf + i : NULL, LANES);
    if (i < n)
        FGD_T_FN(sgd_vector)(c, nesterov, p + i, g + i, buf ? buf + i : NULL, n - i);
}

FGD_INLINE void FGD_T_FN(adam_vector)(const FGD_T_FN(adam_coef) *c, T *p, const T *g, T *m, T *v,
                                      T *vmax, int64_t n)
{
    vec param = FGD_T_FN(load_part)(p, n);
    vec grad = V(mul)(FGD_T_FN(load_part)(g, n), V(set1)(c->g_scale));
    if (c->weight_decay != 0)
        grad = V(fma)(V(set1)(c->weight_decay), param, grad);

    vec m1 = FGD_T_FN(load_part)(m, n);
    vec base = c->m_is_base != 0 ? m1 : grad, other = c->m_is_base != 0 ? grad : m1;
    m1 = V(fma)(V(set1)(c->lerp), V(sub)(other, base), base);
    FGD_T_FN(store_part)(m, m1, n);

    vec v1 = V(mul)(FGD_T_FN(load_part)(v, n), V(set1)(c->beta2));
    v1 = V(fma)(V(mul)(grad, V(set1)(c->one_minus_beta2)), grad, v1);
    FGD_T_FN(store_part)(v, v1, n);
    if (vmax) {
        v1 = V(max)(FGD_T_FN(load_part)(vmax, n), v1);
        FGD_T_FN(store_part)(vmax, v1, n);
    }

    vec denominator = V(fma)(V(sqrt)(v1), V(set1)(c->inv_sqrt_bc2), V(set1)(c->eps));
    vec update = V(div)(V(mul)(V(set1)(c->neg_step), m1), denominator);
    param = V(mul)(param, V(set1)(c->p_scale));
    FGD_T_FN(store_part)(p, V(add)(param, update), n);
}

FGD_INLINE void FGD_T_FN(adam_piece)(const FGD_T_FN(adam_coef) *coef, T *p, const T *g, T *m, T *v,
                                     T *vmax, int64_t n)
{
    const FGD_T_FN(adam_coef) c = *coef;        /* a copy: no store can change it */
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        FGD_T_FN(adam_vector)(&c, p + i, g + i, m + i, v + i, vmax ? vmax + i : NULL, LANES);
    if (i < n)
        FGD_T_FN(adam_vector)(&c, p + i, g + i, m + i, v + i, vmax ? vmax + i : NULL,
                              n - i);
}

/* ---- the step kernels -------------------------------------------------------------------- */

FGD_PREPARE(sgd_step)
{
    const fgd_optimizer_args *a = args_;
    optim_prepare(a, sizeof(T), sizeof(FGD_T_FN(sgd_coef)), a->flags & SGD_MOMENTUM ? 5 : 3, work);
}

FGD_RUN(sgd_step)
{
    const fgd_optimizer_args *a = args_;
    const int64_t n = a->n_segments;
    const int single = optim_single(a), nesterov = (a->flags & SGD_NESTEROV) != 0;
    FGD_T_FN(sgd_coef) *coef = context->shared;
    if (phase == 0)
        FGD_T_FN(sgd_coefs)(a, ptr, coef);
    if (phase == 0 && !single)
        return;
    void *const *p = ptr + 2 + (a->has_scale != 0), *const *g = p + n, *const *buf = g + n;
    cut_walk w = cut_walk_begin(a->tail, SEGMENT_WORDS, n, begin, end);
    while (cut_walk_next(&w)) {
        const FGD_T_FN(sgd_coef) c = coef[w.segment];
        T *pp = (T *)p[w.segment] + w.from;
        const T *gg = (const T *)g[w.segment] + w.from;
        if (!(a->flags & SGD_MOMENTUM) || c.momentum == 0) {
            FGD_T_FN(sgd_piece)(&c, 0, pp, gg, NULL, w.to - w.from);
            continue;
        }
        FGD_T_FN(sgd_piece)(&c, nesterov, pp, gg, (T *)buf[w.segment] + w.from, w.to - w.from);
    }
}

FGD_PREPARE(adam_step)
{
    const fgd_optimizer_args *a = args_;
    optim_prepare(a, sizeof(T), sizeof(FGD_T_FN(adam_coef)), a->flags & ADAM_AMSGRAD ? 9 : 7, work);
}

FGD_RUN(adam_step)
{
    const fgd_optimizer_args *a = args_;
    const int64_t n = a->n_segments;
    FGD_T_FN(adam_coef) *coef = context->shared;
    if (phase == 0)
        FGD_T_FN(adam_coefs)(a, ptr, coef);
    if (phase == 0 && !optim_single(a))
        return;
    void *const *p = ptr + 2 + (a->has_scale != 0), *const *g = p + n, *const *m = g + n;
    void *const *v = m + n, *const *vmax = v + n;
    cut_walk w = cut_walk_begin(a->tail, SEGMENT_WORDS, n, begin, end);
    while (cut_walk_next(&w)) {
        const int64_t s = w.segment, from = w.from;
        T *pp = (T *)p[s] + from, *mm = (T *)m[s] + from, *vv = (T *)v[s] + from;
        const T *gg = (const T *)g[s] + from;
        if (a->flags & ADAM_AMSGRAD)
            FGD_T_FN(adam_piece)(&coef[s], pp, gg, mm, vv, (T *)vmax[s] + from, w.to - from);
        else
            FGD_T_FN(adam_piece)(&coef[s], pp, gg, mm, vv, NULL, w.to - from);
    }
}

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
