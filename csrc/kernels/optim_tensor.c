/* Optimizer rules that need sums over a whole tensor, or over all of them, before they can move anything: two
 * passes over memory, and between them a decision in float64.  Written as kernels/optim.c says; how sums are made
 * in a fixed order is in optim_rule.inc. */
#include "optim_parts.inc"

#ifndef FASTGD_OPTIM_TENSOR_RULES
#define FASTGD_OPTIM_TENSOR_RULES
enum { LAMB_BETA1 = HYPER_OWN, LAMB_BETA2, LAMB_EPS };
enum { LARS_MOMENTUM = HYPER_OWN, LARS_TRUST, LARS_EPS };
enum { LARS_NESTEROV = 1 };
enum { NOVO_BETA1 = HYPER_OWN, NOVO_BETA2, NOVO_EPS };
enum { FREE_BETA1 = HYPER_OWN, FREE_BETA2, FREE_EPS, FREE_D0, FREE_D_COEF };
enum { PRODIGY_BIAS_CORRECTION = 1, PRODIGY_SAFEGUARD = 2 };

/* |p| / |u|, or 1 where one of them is zero and p would never move. */
static inline double trust_ratio(double p_squares, double u_squares, double coefficient, double eps)
{
    const double p_norm = sqrt(p_squares), u_norm = sqrt(u_squares);
    return p_norm == 0 || u_norm == 0 ? 1 : coefficient * p_norm / (u_norm + eps);
}
#endif

/* ---- lamb: You et al. 2020, algorithm 2 -------------------------------------------------------------------
 *
 *   m, v as Adam;  u = m / bc1 / (sqrt(v) / sqrt(bc2) + eps) + weight_decay p;  p -= lr |p| / |u| u           */

typedef struct FGD_T_FN(lamb_coef) {
    FGD_T_FN(ema) m;
    FGD_T_FN(ema2) v;
    T m_scale, v_scale, eps, decay, neg_step;
} FGD_T_FN(lamb_coef);

static void FGD_T_FN(lamb_coefs)(const optim_step *in, FGD_T_FN(lamb_coef) *c)
{
    c->m = FGD_T_FN(ema_of)(in->hyper[LAMB_BETA1]);
    c->v = FGD_T_FN(ema2_of)(in->hyper[LAMB_BETA2]);
    c->m_scale = (T)(1 / (1 - pow(in->hyper[LAMB_BETA1], in->t)));
    c->v_scale = (T)(1 / sqrt(1 - pow(in->hyper[LAMB_BETA2], in->t)));
    c->eps = (T)in->hyper[LAMB_EPS];
    c->decay = (T)in->hyper[HYPER_DECAY];
}

FGD_INLINE vec FGD_T_FN(lamb_direction)(const FGD_T_FN(lamb_coef) *c, vec p, const vec *s)
{
    vec denominator = V(fma)(V(sqrt)(s[1]), V(set1)(c->v_scale), V(set1)(c->eps));
    return V(fma)(V(set1)(c->decay), p, V(div)(V(mul)(s[0], V(set1)(c->m_scale)), denominator));
}

FGD_INLINE void FGD_T_FN(lamb_measure)(const FGD_T_FN(lamb_coef) *c, int64_t flags, vec p, vec g, vec *s, mask live,
                                       FGD_T_FN(optim_sum) *sum)
{
    (void)flags;
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
    vec u = V(keep)(live, FGD_T_FN(lamb_direction)(c, p, s));
    FGD_T_FN(sum_dot)(&sum[0], p, p);
    FGD_T_FN(sum_dot)(&sum[1], u, u);
}

static void FGD_T_FN(lamb_decide)(const optim_step *in, FGD_T_FN(lamb_coef) *c, const double *total)
{
    c->neg_step = (T)(-in->lr * trust_ratio(total[0], total[1], 1, 0));
}

FGD_INLINE vec FGD_T_FN(lamb_vector)(const FGD_T_FN(lamb_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags, (void)g;
    return V(fma)(V(set1)(c->neg_step), FGD_T_FN(lamb_direction)(c, p, s), p);
}

#define RULE lamb
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 2
#define RULE_STATES_IN 1
#include "optim_rule.inc"

/* ---- lars: You, Gitman, Ginsburg 2017, algorithm 1 ----------------------------------------------------------
 *
 *   g += weight_decay p;  u = lr trust |p| / (|g| + eps) g;  buf = momentum buf + u
 *   p -= nesterov ? u + momentum buf : buf                                                                        */

typedef struct FGD_T_FN(lars_coef) {
    T step, momentum, u_out, buf_out;
} FGD_T_FN(lars_coef);

static void FGD_T_FN(lars_coefs)(const optim_step *in, FGD_T_FN(lars_coef) *c)
{
    const int nesterov = (in->flags & LARS_NESTEROV) != 0;
    c->momentum = (T)in->hyper[LARS_MOMENTUM];
    c->u_out = (T)nesterov;
    c->buf_out = nesterov ? c->momentum : 1;
}

FGD_INLINE void FGD_T_FN(lars_measure)(const FGD_T_FN(lars_coef) *c, int64_t flags, vec p, vec g, vec *s, mask live,
                                       FGD_T_FN(optim_sum) *sum)
{
    (void)c, (void)flags, (void)s, (void)live;
    FGD_T_FN(sum_dot)(&sum[0], p, p);
    FGD_T_FN(sum_dot)(&sum[1], g, g);
}

static void FGD_T_FN(lars_decide)(const optim_step *in, FGD_T_FN(lars_coef) *c, const double *total)
{
    c->step = (T)(in->lr * trust_ratio(total[0], total[1], in->hyper[LARS_TRUST], in->hyper[LARS_EPS]));
}

FGD_INLINE vec FGD_T_FN(lars_vector)(const FGD_T_FN(lars_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    vec u = V(mul)(V(set1)(c->step), g);
    s[0] = V(fma)(V(set1)(c->momentum), s[0], u);
    p = V(fnma)(V(set1)(c->buf_out), s[0], p);
    return c->u_out != 0 ? V(sub)(p, u) : p;
}

#define RULE lars
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 2
#define RULE_STATES_IN 2
#include "optim_rule.inc"

/* ---- novograd: Ginsburg et al. 2019, algorithm 1 ----------------------------------------------------------------
 *
 *   v = beta2 v + (1 - beta2) |g|^2, one number for each tensor, kept in the record; at first |g|^2
 *   m = beta1 m + g / (sqrt(v) + eps) + weight_decay p;  p -= lr m                                                      */

typedef struct FGD_T_FN(novograd_coef) {
    T beta1, g_scale, decay, neg_lr;
} FGD_T_FN(novograd_coef);

static void FGD_T_FN(novograd_coefs)(const optim_step *in, FGD_T_FN(novograd_coef) *c)
{
    c->beta1 = (T)in->hyper[NOVO_BETA1];
    c->decay = (T)in->hyper[HYPER_DECAY];
    c->neg_lr = (T)-in->lr;
}

FGD_INLINE void FGD_T_FN(novograd_measure)(const FGD_T_FN(novograd_coef) *c, int64_t flags, vec p, vec g, vec *s,
                                           mask live, FGD_T_FN(optim_sum) *sum)
{
    (void)c, (void)flags, (void)p, (void)s, (void)live;
    FGD_T_FN(sum_dot)(&sum[0], g, g);
}

static void FGD_T_FN(novograd_decide)(const optim_step *in, FGD_T_FN(novograd_coef) *c, const double *total)
{
    const double beta2 = in->hyper[NOVO_BETA2];
    double *v = &in->record[1];
    *v = in->t == 1 ? total[0] : beta2 * *v + (1 - beta2) * total[0];
    c->g_scale = (T)(1 / (sqrt(*v) + in->hyper[NOVO_EPS]));
}

FGD_INLINE vec FGD_T_FN(novograd_vector)(const FGD_T_FN(novograd_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    vec u = V(fma)(V(set1)(c->decay), p, V(mul)(V(set1)(c->g_scale), g));
    s[0] = V(fma)(V(set1)(c->beta1), s[0], u);
    return V(fma)(V(set1)(c->neg_lr), s[0], p);
}

#define RULE novograd
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 0
#define RULE_RECORD 1
#define RULE_SUMS 1
#define RULE_STATES_IN 2
#include "optim_rule.inc"

/* ---- prodigy: Mishchenko & Defazio 2024, algorithm 4 ---------------------------------------------------------------
 *
 *   d is the estimated distance to the solution, d0 at first; e = d lr (with bias correction e sqrt(bc2) / bc1)
 *   m = beta1 m + (1 - beta1) d g;  v = beta2 v + (1 - beta2) d^2 g^2;  beta3 = sqrt(beta2)
 *   s = beta3 s + d e / d0 g (safeguard_warmup: d^2 / d0 g);  r = beta3 r + d e / d0 <g, p0 - p> over all tensors
 *   d = max(d, d_coef r / |s|_1);  p = (1 - e weight_decay) p - e m / (sqrt(v) + d eps)
 *   The record keeps d and r; p0 is p at first.                                                                          */

typedef struct FGD_T_FN(prodigy_coef) {
    T first, beta1, m_in, beta2, v_in, beta3, s_in, eps, p_scale, neg_step;
} FGD_T_FN(prodigy_coef);

static inline double FGD_T_FN(prodigy_rate)(const optim_step *in, double d)
{
    const double bc1 = 1 - pow(in->hyper[FREE_BETA1], in->t), bc2 = 1 - pow(in->hyper[FREE_BETA2], in->t);
    return d * in->lr * (in->flags & PRODIGY_BIAS_CORRECTION ? sqrt(bc2) / bc1 : 1);
}

static void FGD_T_FN(prodigy_coefs)(const optim_step *in, FGD_T_FN(prodigy_coef) *c)
{
    const double beta1 = in->hyper[FREE_BETA1], beta2 = in->hyper[FREE_BETA2], d0 = in->hyper[FREE_D0];
    if (in->record[1] == 0)
        in->record[1] = d0;
    const double d = in->record[1], rate = FGD_T_FN(prodigy_rate)(in, d);
    c->first = in->t == 1;
    c->beta1 = (T)beta1;
    c->m_in = (T)((1 - beta1) * d);
    c->beta2 = (T)beta2;
    c->v_in = (T)((1 - beta2) * d * d);
    c->beta3 = (T)sqrt(beta2);
    c->s_in = (T)(d / d0 * (in->flags & PRODIGY_SAFEGUARD ? d : rate));
    c->p_scale = (T)(1 - rate * in->hyper[HYPER_DECAY]);
    c->neg_step = (T)-rate;
}

FGD_INLINE void FGD_T_FN(prodigy_measure)(const FGD_T_FN(prodigy_coef) *c, int64_t flags, vec p, vec g, vec *s,
                                          mask live, FGD_T_FN(optim_sum) *sum)
{
    (void)flags, (void)live;
    s[0] = V(fma)(V(set1)(c->beta1), s[0], V(mul)(V(set1)(c->m_in), g));
    s[1] = V(fma)(V(mul)(V(set1)(c->v_in), g), g, V(mul)(V(set1)(c->beta2), s[1]));
    s[2] = V(fma)(V(set1)(c->beta3), s[2], V(mul)(V(set1)(c->s_in), g));
    s[3] = c->first != 0 ? p : s[3];
    FGD_T_FN(sum_dot)(&sum[0], g, V(sub)(s[3], p));
    FGD_T_FN(sum_abs)(&sum[1], s[2]);
}

static void FGD_T_FN(prodigy_decide)(const optim_step *in, FGD_T_FN(prodigy_coef) *c, const double *total)
{
    double *d = &in->record[1], *r = &in->record[2];
    const double beta3 = sqrt(in->hyper[FREE_BETA2]);
    *r = beta3 * *r + *d / in->hyper[FREE_D0] * FGD_T_FN(prodigy_rate)(in, *d) * total[0];
    if (total[1] > 0)
        *d = fmax(*d, in->hyper[FREE_D_COEF] * *r / total[1]);
    c->eps = (T)(*d * in->hyper[FREE_EPS]);
}

FGD_INLINE vec FGD_T_FN(prodigy_vector)(const FGD_T_FN(prodigy_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags, (void)g;
    vec step = V(div)(V(mul)(V(set1)(c->neg_step), s[0]), V(add)(V(sqrt)(s[1]), V(set1)(c->eps)));
    return V(fma)(p, V(set1)(c->p_scale), step);
}

#define RULE prodigy
#define RULE_BUFFERS 4
#define RULE_OPTIONAL 0
#define RULE_RECORD 2
#define RULE_SUMS 2
#define RULE_STATES_IN 1
#define RULE_SHARED
#include "optim_rule.inc"

/* ---- dadapt_adam: Defazio & Mishchenko 2023, algorithm 5 (AdamW with D-Adaptation) -------------------------------
 *
 *   e = d lr sqrt(bc2) / bc1;  b = sqrt(beta2);  r = b r + (1 - b) e <g, s / (sqrt(v) + eps)>, with s and v of before
 *   m = beta1 m + (1 - beta1) e g;  v = beta2 v + (1 - beta2) g^2;  s = b s + (1 - b) e g
 *   d = max(d, r / ((1 - b) |s|_1));  p = (1 - e weight_decay) p - m / (sqrt(v) + eps)
 *   The record keeps d and r.                                                                                            */

typedef struct FGD_T_FN(dadapt_adam_coef) {
    FGD_T_FN(ema2) v;
    T beta1, m_in, b, s_in, eps, p_scale;
} FGD_T_FN(dadapt_adam_coef);

static inline double FGD_T_FN(dadapt_rate)(const optim_step *in, double d)
{
    const double bc1 = 1 - pow(in->hyper[FREE_BETA1], in->t), bc2 = 1 - pow(in->hyper[FREE_BETA2], in->t);
    return d * in->lr * sqrt(bc2) / bc1;
}

static void FGD_T_FN(dadapt_adam_coefs)(const optim_step *in, FGD_T_FN(dadapt_adam_coef) *c)
{
    const double beta1 = in->hyper[FREE_BETA1], beta2 = in->hyper[FREE_BETA2], b = sqrt(beta2);
    if (in->record[1] == 0)
        in->record[1] = in->hyper[FREE_D0];
    const double rate = FGD_T_FN(dadapt_rate)(in, in->record[1]);
    c->v = FGD_T_FN(ema2_of)(beta2);
    c->beta1 = (T)beta1;
    c->m_in = (T)((1 - beta1) * rate);
    c->b = (T)b;
    c->s_in = (T)((1 - b) * rate);
    c->eps = (T)in->hyper[FREE_EPS];
    c->p_scale = (T)(1 - rate * in->hyper[HYPER_DECAY]);
}

FGD_INLINE void FGD_T_FN(dadapt_adam_measure)(const FGD_T_FN(dadapt_adam_coef) *c, int64_t flags, vec p, vec g, vec *s,
                                              mask live, FGD_T_FN(optim_sum) *sum)
{
    (void)flags, (void)p;
    vec weighted = V(div)(s[2], V(add)(V(sqrt)(s[1]), V(set1)(c->eps)));
    FGD_T_FN(sum_dot)(&sum[0], g, V(keep)(live, weighted));
    s[0] = V(fma)(V(set1)(c->beta1), s[0], V(mul)(V(set1)(c->m_in), g));
    s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
    s[2] = V(fma)(V(set1)(c->b), s[2], V(mul)(V(set1)(c->s_in), g));
    FGD_T_FN(sum_abs)(&sum[1], s[2]);
}

static void FGD_T_FN(dadapt_adam_decide)(const optim_step *in, FGD_T_FN(dadapt_adam_coef) *c, const double *total)
{
    (void)c;
    double *d = &in->record[1], *r = &in->record[2];
    const double b = sqrt(in->hyper[FREE_BETA2]);
    *r = b * *r + (1 - b) * FGD_T_FN(dadapt_rate)(in, *d) * total[0];
    if (total[1] > 0)
        *d = fmax(*d, *r / ((1 - b) * total[1]));
}

FGD_INLINE vec FGD_T_FN(dadapt_adam_vector)(const FGD_T_FN(dadapt_adam_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags, (void)g;
    vec step = V(div)(s[0], V(add)(V(sqrt)(s[1]), V(set1)(c->eps)));
    return V(sub)(V(mul)(p, V(set1)(c->p_scale)), step);
}

#define RULE dadapt_adam
#define RULE_BUFFERS 3
#define RULE_OPTIONAL 0
#define RULE_RECORD 2
#define RULE_SUMS 2
#define RULE_STATES_IN 1
#define RULE_SHARED
#include "optim_rule.inc"
