/* Elementwise optimizer rules: one pass over parameters, gradients and states.
 *
 * A rule is its coefficients, computed in float64 from hyper-parameters and step count and rounded to T
 * once, and its formula over a vector; optim_rule.inc makes the kernel of it.  t counts from 1, t == 1 finds
 * all states zero, bc is a bias correction 1 - beta^t.  Where libraries differ, the formula is PyTorch's
 * unless the flags say Optax or Keras. */
#include "optim_parts.inc"

#ifndef FASTGD_OPTIM_RULES
#define FASTGD_OPTIM_RULES
/* Flags of single rules. */
enum { SGD_BUFFER = 1, SGD_NESTEROV = 2 };
enum { ADAM_AMSGRAD = 1, ADAM_RECTIFIED = 2 };
enum { RMSPROP_MOMENTUM = 1, RMSPROP_CENTERED = 2 };
/* Columns of their hyper-parameters. */
enum { SGD_MOMENTUM = HYPER_OWN, SGD_DAMPENING };
enum { ADAM_BETA1 = HYPER_OWN, ADAM_BETA2, ADAM_EPS, NADAM_MOMENTUM_DECAY };
enum { ADAGRAD_LR_DECAY = HYPER_OWN, ADAGRAD_INITIAL, ADAGRAD_EPS };
enum { ADADELTA_RHO = HYPER_OWN, ADADELTA_EPS };
enum { RMSPROP_ALPHA = HYPER_OWN, RMSPROP_EPS, RMSPROP_MU };
enum { RPROP_ETA_MINUS = HYPER_OWN, RPROP_ETA_PLUS, RPROP_MIN, RPROP_MAX };
enum { LION_BETA1 = HYPER_OWN, LION_BETA2 };
enum { BELIEF_EPS_ROOT = ADAM_EPS + 1 };
enum { ADAN_BETA1 = HYPER_OWN, ADAN_BETA2, ADAN_BETA3, ADAN_EPS, ADAN_EPS_ROOT };
enum { MIX_BETA1 = HYPER_OWN, MIX_BETA2, MIX_BETA3, MIX_ALPHA, MIX_EPS };
enum { FREE_BETA1 = HYPER_OWN, FREE_BETA2, FREE_EPS, FREE_WARMUP, FREE_R, FREE_POWER };
enum { SOPHIA_BETA1 = HYPER_OWN, SOPHIA_BETA2, SOPHIA_RHO, SOPHIA_EPS };
enum { ADAN_NO_PROX = 1, ADOPT_CLIP = 1, FREE_ADAM = 1 };
enum { ASGD_LAMBD = HYPER_OWN, ASGD_ALPHA, ASGD_T0 };
#endif

/* ---- sgd: Sutskever et al. 2013; torch.optim.SGD, whose first momentum step skips dampening ----
 *
 *   buf = momentum buf + (1 - dampening) g;  p -= lr (nesterov ? g + momentum buf : buf)
 *   Keras: buf = momentum buf - lr g;        p += nesterov ? momentum buf - lr g : buf            */

typedef struct FGD_T_FN(sgd_coef) {
    T momentum, g_in, nesterov, g_out, b_out;   /* b = momentum b + g_in g;  p += g_out g + b_out b */
} FGD_T_FN(sgd_coef);

static void FGD_T_FN(sgd_coefs)(const optim_step *in, FGD_T_FN(sgd_coef) *c)
{
    const double momentum = in->hyper[SGD_MOMENTUM], lr = in->lr;
    const int keras = (in->flags & OPTIM_KERAS) != 0, nesterov = (in->flags & SGD_NESTEROV) != 0;
    const double damped = in->t == 1 || momentum == 0 ? 1 : 1 - in->hyper[SGD_DAMPENING];
    c->momentum = (T)momentum;
    c->g_in = (T)(keras ? -lr : damped);
    c->g_out = (T)(nesterov || !(in->flags & SGD_BUFFER) ? -lr : 0);
    c->nesterov = (T)nesterov;
    c->b_out = (T)((keras ? 1 : -lr) * (nesterov ? momentum : 1));
}

FGD_INLINE vec FGD_T_FN(sgd_vector)(const FGD_T_FN(sgd_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    if (!(flags & SGD_BUFFER))
        return V(fma)(V(set1)(c->g_out), g, p);
    s[0] = V(fma)(V(set1)(c->g_in), g, V(mul)(s[0], V(set1)(c->momentum)));
    if (c->nesterov != 0)
        p = V(fma)(V(set1)(c->g_out), g, p);
    return V(fma)(V(set1)(c->b_out), s[0], p);
}

#define RULE sgd
#define RULE_BUFFERS 0
#define RULE_OPTIONAL 1
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adam: Kingma & Ba 2015; AMSGrad: Reddi et al. 2018; RAdam: Liu et al. 2020 ----------------
 *
 *   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
 *   p -= lr / bc1 m / (sqrt(v) / sqrt(bc2) + eps)
 *   Keras: eps beside sqrt(v).  AMSGrad: the largest v so far, in Optax the largest v / bc2.
 *   RAdam: rectified once rho > 5 (Optax: >= 5) and then with eps beside sqrt(v) (Optax: as Adam);
 *          before that p -= lr / bc1 m                                                            */

typedef struct FGD_T_FN(adam_coef) {
    FGD_T_FN(ema) m;
    FGD_T_FN(ema2) v;
    T max_scale, v_scale, eps, neg_step;    /* p += neg_step m / (sqrt(max(v max_scale)) v_scale + eps) */
} FGD_T_FN(adam_coef);

/* The length of the approximated average, and its rectification, of RAdam: equations 5 and 7. */
static inline double FGD_T_FN(radam_rectification)(const optim_step *in, double beta2, double bc2)
{
    const double longest = 2 / (1 - beta2) - 1;
    const double rho = longest - 2 * in->t * pow(beta2, in->t) / bc2;
    if (in->flags & OPTIM_OPTAX ? rho < 5 : rho <= 5)
        return 0;
    return sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho));
}

static void FGD_T_FN(adam_coefs)(const optim_step *in, FGD_T_FN(adam_coef) *c)
{
    const double beta1 = in->hyper[ADAM_BETA1], beta2 = in->hyper[ADAM_BETA2], eps = in->hyper[ADAM_EPS];
    const double bc1 = 1 - pow(beta1, in->t), bc2 = 1 - pow(beta2, in->t);
    const int rectified = (in->flags & ADAM_RECTIFIED) != 0, optax = (in->flags & OPTIM_OPTAX) != 0;
    const int eps_outside = in->flags & OPTIM_KERAS || (rectified && !optax);
    double step = -in->lr / bc1, v_scale = 1 / sqrt(bc2), denominator_eps = eps;
    if (eps_outside) {                  /* m / (sqrt(v) / sqrt(bc2) + eps / sqrt(bc2)) */
        step *= sqrt(bc2);
        v_scale = 1;
    }
    if (rectified) {
        const double r = FGD_T_FN(radam_rectification)(in, beta2, bc2);
        step = r == 0 ? -in->lr / bc1 : step * r;
        v_scale = r == 0 ? 0 : v_scale;
        denominator_eps = r == 0 ? 1 : eps;
    }
    const int corrected = optax && in->flags & ADAM_AMSGRAD && !rectified;
    c->m = FGD_T_FN(ema_of)(beta1);
    c->v = FGD_T_FN(ema2_of)(beta2);
    c->max_scale = (T)(corrected ? 1 / bc2 : 1);
    c->v_scale = (T)(corrected ? 1 : v_scale);
    c->eps = (T)denominator_eps;
    c->neg_step = (T)step;
}

FGD_INLINE vec FGD_T_FN(adam_vector)(const FGD_T_FN(adam_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
    vec v = s[1];
    if (flags & ADAM_AMSGRAD)
        v = s[2] = V(max)(s[2], V(mul)(v, V(set1)(c->max_scale)));
    vec denominator = V(fma)(V(sqrt)(v), V(set1)(c->v_scale), V(set1)(c->eps));
    return V(add)(p, V(div)(V(mul)(V(set1)(c->neg_step), s[0]), denominator));
}

#define RULE adam
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 1
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- nadam: Dozat 2016 ------------------------------------------------------------------------
 *
 *   m, v as Adam;  mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2);  M = mu_1 ... mu_t, kept in the record
 *   p -= lr ((1 - mu_t) / (1 - M) g + mu_(t+1) / (1 - M mu_(t+1)) m) / (sqrt(v) / sqrt(bc2) + eps)
 *   Keras: momentum_decay = 1.  Optax: mu_t = beta1 for all t.                                       */

typedef struct FGD_T_FN(nadam_coef) {
    FGD_T_FN(ema) m;
    FGD_T_FN(ema2) v;
    T v_scale, eps, g_step, m_step;
} FGD_T_FN(nadam_coef);

static void FGD_T_FN(nadam_coefs)(const optim_step *in, FGD_T_FN(nadam_coef) *c)
{
    const double beta1 = in->hyper[ADAM_BETA1], beta2 = in->hyper[ADAM_BETA2], t = in->t;
    const double rate = in->flags & OPTIM_KERAS ? 1 : in->hyper[NADAM_MOMENTUM_DECAY];
    double *product = &in->record[1];
    double now = beta1 * (1 - 0.5 * pow(0.96, t * rate)), next = beta1 * (1 - 0.5 * pow(0.96, (t + 1) * rate));
    if (in->flags & OPTIM_OPTAX)
        now = next = beta1;
    *product = (t == 1 ? 1 : *product) * now;
    c->m = FGD_T_FN(ema_of)(beta1);
    c->v = FGD_T_FN(ema2_of)(beta2);
    c->v_scale = (T)(1 / sqrt(1 - pow(beta2, t)));
    c->eps = (T)in->hyper[ADAM_EPS];
    c->g_step = (T)(-in->lr * (1 - now) / (1 - *product));
    c->m_step = (T)(-in->lr * next / (1 - *product * next));
}

FGD_INLINE vec FGD_T_FN(nadam_vector)(const FGD_T_FN(nadam_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
    vec denominator = V(fma)(V(sqrt)(s[1]), V(set1)(c->v_scale), V(set1)(c->eps));
    vec update = V(fma)(V(set1)(c->m_step), s[0], V(mul)(V(set1)(c->g_step), g));
    return V(add)(p, V(div)(update, denominator));
}

#define RULE nadam
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 1
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adamax: Kingma & Ba 2015, algorithm 2 ------------------------------------------------------
 *
 *   u = max(beta2 u, |g| + eps);  p -= lr / bc1 m / u        Keras: eps beside u instead            */

typedef struct FGD_T_FN(adamax_coef) {
    FGD_T_FN(ema) m;
    T beta2, eps_in, eps_out, neg_step;
} FGD_T_FN(adamax_coef);

static void FGD_T_FN(adamax_coefs)(const optim_step *in, FGD_T_FN(adamax_coef) *c)
{
    const int keras = (in->flags & OPTIM_KERAS) != 0;
    c->m = FGD_T_FN(ema_of)(in->hyper[ADAM_BETA1]);
    c->beta2 = (T)in->hyper[ADAM_BETA2];
    c->eps_in = keras ? 0 : (T)in->hyper[ADAM_EPS];
    c->eps_out = keras ? (T)in->hyper[ADAM_EPS] : 0;
    c->neg_step = (T)(-in->lr / (1 - pow(in->hyper[ADAM_BETA1], in->t)));
}

FGD_INLINE vec FGD_T_FN(adamax_vector)(const FGD_T_FN(adamax_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = V(max)(V(mul)(s[1], V(set1)(c->beta2)), V(add)(V(abs)(g), V(set1)(c->eps_in)));
    vec update = V(div)(V(mul)(V(set1)(c->neg_step), s[0]), V(add)(s[1], V(set1)(c->eps_out)));
    return V(add)(p, update);
}

#define RULE adamax
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adagrad: Duchi, Hazan, Singer 2011 -----------------------------------------------------------
 *
 *   sum += g^2;  p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)
 *   Optax, Keras: g / sqrt(sum + eps); in Optax nothing moves while sum is zero                        */

typedef struct FGD_T_FN(adagrad_coef) {
    T initial, eps_in, eps_out, neg_step;
} FGD_T_FN(adagrad_coef);

static void FGD_T_FN(adagrad_coefs)(const optim_step *in, FGD_T_FN(adagrad_coef) *c)
{
    const int inside = (in->flags & (OPTIM_OPTAX | OPTIM_KERAS)) != 0;
    c->initial = in->t == 1 ? (T)in->hyper[ADAGRAD_INITIAL] : 0;
    c->eps_in = inside ? (T)in->hyper[ADAGRAD_EPS] : 0;
    c->eps_out = inside ? 0 : (T)in->hyper[ADAGRAD_EPS];
    c->neg_step = (T)(-in->lr / (1 + (in->t - 1) * in->hyper[ADAGRAD_LR_DECAY]));
}

FGD_INLINE vec FGD_T_FN(adagrad_vector)(const FGD_T_FN(adagrad_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    vec before = c->initial != 0 ? V(set1)(c->initial) : s[0];
    s[0] = V(fma)(g, g, before);
    vec denominator = V(add)(V(sqrt)(V(add)(s[0], V(set1)(c->eps_in))), V(set1)(c->eps_out));
    vec update = V(div)(V(mul)(V(set1)(c->neg_step), g), denominator);
    if (flags & OPTIM_OPTAX)
        update = V(keep)(V(ne)(s[0], V(zero)()), update);
    return V(add)(p, update);
}

#define RULE adagrad
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adadelta: Zeiler 2012, algorithm 1 -----------------------------------------------------------
 *
 *   v = rho v + (1 - rho) g^2;  d = sqrt(a + eps) / sqrt(v + eps) g;  a = rho a + (1 - rho) d^2;  p -= lr d  */

typedef struct FGD_T_FN(adadelta_coef) {
    FGD_T_FN(ema2) square;
    T eps, neg_lr;
} FGD_T_FN(adadelta_coef);

static void FGD_T_FN(adadelta_coefs)(const optim_step *in, FGD_T_FN(adadelta_coef) *c)
{
    c->square = FGD_T_FN(ema2_of)(in->hyper[ADADELTA_RHO]);
    c->eps = (T)in->hyper[ADADELTA_EPS];
    c->neg_lr = (T)-in->lr;
}

FGD_INLINE vec FGD_T_FN(adadelta_vector)(const FGD_T_FN(adadelta_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    s[0] = FGD_T_FN(ema2_next)(c->square, s[0], g);
    vec eps = V(set1)(c->eps);
    vec delta = V(mul)(V(div)(V(sqrt)(V(add)(s[1], eps)), V(sqrt)(V(add)(s[0], eps))), g);
    s[1] = FGD_T_FN(ema2_next)(c->square, s[1], delta);
    return V(fma)(V(set1)(c->neg_lr), delta, p);
}

#define RULE adadelta
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- rmsprop: Hinton's lecture 6e, 2012; centered: Graves 2013 --------------------------------------
 *
 *   v = alpha v + (1 - alpha) g^2;  u = g / (sqrt(v) + eps), centered g / (sqrt(v - a^2) + eps) with a the mean of g
 *   p -= lr u, or with momentum buf = momentum buf + u;  p -= lr buf
 *   Optax, Keras: eps inside the root and lr inside the buffer                                            */

typedef struct FGD_T_FN(rmsprop_coef) {
    FGD_T_FN(ema2) square;
    FGD_T_FN(ema) mean;
    T eps_in, eps_out, momentum, u_step, p_step;
} FGD_T_FN(rmsprop_coef);

static void FGD_T_FN(rmsprop_coefs)(const optim_step *in, FGD_T_FN(rmsprop_coef) *c)
{
    const int inside = (in->flags & (OPTIM_OPTAX | OPTIM_KERAS)) != 0;
    c->square = FGD_T_FN(ema2_of)(in->hyper[RMSPROP_ALPHA]);
    c->mean = FGD_T_FN(ema_of)(in->hyper[RMSPROP_ALPHA]);
    c->eps_in = inside ? (T)in->hyper[RMSPROP_EPS] : 0;
    c->eps_out = inside ? 0 : (T)in->hyper[RMSPROP_EPS];
    c->momentum = (T)in->hyper[RMSPROP_MU];
    c->u_step = inside ? (T)in->lr : 1;
    c->p_step = inside ? -1 : (T)-in->lr;
}

FGD_INLINE vec FGD_T_FN(rmsprop_vector)(const FGD_T_FN(rmsprop_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    s[0] = FGD_T_FN(ema2_next)(c->square, s[0], g);
    vec v = s[0];
    if (flags & RMSPROP_CENTERED) {
        s[2] = FGD_T_FN(ema_next)(c->mean, s[2], g);
        v = V(fnma)(s[2], s[2], v);
    }
    vec denominator = V(add)(V(sqrt)(V(add)(v, V(set1)(c->eps_in))), V(set1)(c->eps_out));
    vec update = V(div)(V(mul)(V(set1)(c->u_step), g), denominator);
    if (flags & RMSPROP_MOMENTUM)
        update = s[1] = V(fma)(s[1], V(set1)(c->momentum), update);
    return V(fma)(V(set1)(c->p_step), update, p);
}

#define RULE rmsprop
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 2
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- rprop: Riedmiller & Braun 1993, in the form without backtracking (iRprop-, Igel & Huesken 2000) ----
 *
 *   each element's own step grows while the sign of g stays, shrinks when it turns, and then g counts as 0
 *   p -= sign(g) step;  prev = g                                                                          */

typedef struct FGD_T_FN(rprop_coef) {
    T first, shrink, grow, least, most;
} FGD_T_FN(rprop_coef);

static void FGD_T_FN(rprop_coefs)(const optim_step *in, FGD_T_FN(rprop_coef) *c)
{
    c->first = in->t == 1 ? (T)in->lr : -1;
    c->shrink = (T)in->hyper[RPROP_ETA_MINUS];
    c->grow = (T)in->hyper[RPROP_ETA_PLUS];
    c->least = (T)in->hyper[RPROP_MIN];
    c->most = (T)in->hyper[RPROP_MAX];
}

FGD_INLINE vec FGD_T_FN(rprop_vector)(const FGD_T_FN(rprop_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    vec now = FGD_T_FN(sign_of)(g), agreement = V(mul)(now, FGD_T_FN(sign_of)(s[0]));
    mask stays = V(gt)(agreement, V(zero)()), turns = V(lt)(agreement, V(zero)());
    vec factor = V(select)(stays, V(set1)(c->grow), V(select)(turns, V(set1)(c->shrink), V(set1)(1)));
    vec step = V(mul)(c->first >= 0 ? V(set1)(c->first) : s[1], factor);
    s[1] = V(min)(V(max)(step, V(set1)(c->least)), V(set1)(c->most));
    s[0] = V(select)(turns, V(zero)(), g);
    return V(fnma)(V(select)(turns, V(zero)(), now), s[1], p);
}

#define RULE rprop
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- asgd: Polyak & Juditsky 1992; the rates are Xu's, 2010 ----------------------------------------------
 *
 *   p = (1 - lambd eta) p - eta g;  ax += mu (p - ax), or ax = p while mu = 1
 *   then, for the next step, eta = lr / (1 + lambd lr t)^alpha and mu = 1 / max(1, t - t0), kept in the record  */

typedef struct FGD_T_FN(asgd_coef) {
    T p_scale, neg_eta, mu;
} FGD_T_FN(asgd_coef);

static void FGD_T_FN(asgd_coefs)(const optim_step *in, FGD_T_FN(asgd_coef) *c)
{
    const double lambd = in->hyper[ASGD_LAMBD], t = in->t;
    double *eta = &in->record[1], *mu = &in->record[2];
    if (t == 1) {
        *eta = in->lr;
        *mu = 1;
    }
    c->p_scale = (T)(1 - lambd * *eta);
    c->neg_eta = (T)-*eta;
    c->mu = (T)*mu;
    *eta = in->lr / pow(1 + lambd * in->lr * t, in->hyper[ASGD_ALPHA]);
    *mu = 1 / fmax(1, t - in->hyper[ASGD_T0]);
}

FGD_INLINE vec FGD_T_FN(asgd_vector)(const FGD_T_FN(asgd_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    p = V(fma)(V(set1)(c->neg_eta), g, V(mul)(p, V(set1)(c->p_scale)));
    s[0] = c->mu == 1 ? p : V(fma)(V(set1)(c->mu), V(sub)(p, s[0]), s[0]);
    return p;
}

#define RULE asgd
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 0
#define RULE_RECORD 2
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- lion: Chen et al. 2023, algorithm 2 ---------------------------------------------------------------
 *
 *   p -= lr sign(beta1 m + (1 - beta1) g);  m = beta2 m + (1 - beta2) g                                    */

typedef struct FGD_T_FN(lion_coef) {
    FGD_T_FN(ema) direction, m;
    T neg_lr;
} FGD_T_FN(lion_coef);

static void FGD_T_FN(lion_coefs)(const optim_step *in, FGD_T_FN(lion_coef) *c)
{
    c->direction = FGD_T_FN(ema_of)(in->hyper[LION_BETA1]);
    c->m = FGD_T_FN(ema_of)(in->hyper[LION_BETA2]);
    c->neg_lr = (T)-in->lr;
}

FGD_INLINE vec FGD_T_FN(lion_vector)(const FGD_T_FN(lion_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    vec direction = FGD_T_FN(sign_of)(FGD_T_FN(ema_next)(c->direction, s[0], g));
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    return V(fma)(V(set1)(c->neg_lr), direction, p);
}

#define RULE lion
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adabelief: Zhuang et al. 2020, algorithm 2 -----------------------------------------------------------
 *
 *   m as Adam;  v = beta2 v + (1 - beta2) (g - m)^2 + eps_root
 *   p -= lr / bc1 m / (sqrt(v) / sqrt(bc2) + eps)                                                              */

typedef struct FGD_T_FN(adabelief_coef) {
    FGD_T_FN(ema) m;
    FGD_T_FN(ema2) v;
    T eps_root, v_scale, eps, neg_step;
} FGD_T_FN(adabelief_coef);

static void FGD_T_FN(adabelief_coefs)(const optim_step *in, FGD_T_FN(adabelief_coef) *c)
{
    c->m = FGD_T_FN(ema_of)(in->hyper[ADAM_BETA1]);
    c->v = FGD_T_FN(ema2_of)(in->hyper[ADAM_BETA2]);
    c->eps_root = (T)in->hyper[BELIEF_EPS_ROOT];
    c->v_scale = (T)(1 / sqrt(1 - pow(in->hyper[ADAM_BETA2], in->t)));
    c->eps = (T)in->hyper[ADAM_EPS];
    c->neg_step = (T)(-in->lr / (1 - pow(in->hyper[ADAM_BETA1], in->t)));
}

FGD_INLINE vec FGD_T_FN(adabelief_vector)(const FGD_T_FN(adabelief_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = V(add)(FGD_T_FN(ema2_next)(c->v, s[1], V(sub)(g, s[0])), V(set1)(c->eps_root));
    vec denominator = V(fma)(V(sqrt)(s[1]), V(set1)(c->v_scale), V(set1)(c->eps));
    return V(add)(p, V(div)(V(mul)(V(set1)(c->neg_step), s[0]), denominator));
}

#define RULE adabelief
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adan: Xie et al. 2022, algorithm 1 ---------------------------------------------------------------------
 *
 *   d = g - previous g (0 at first);  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) d
 *   n = beta3 n + (1 - beta3) (g + beta2 d)^2
 *   p = (p - lr (m / bc1 + beta2 v / bc2) / (sqrt(n / bc3 + eps_root) + eps)) / (1 + lr weight_decay)
 *   The betas are 1 minus those of the paper, as in the authors' code.  no_prox: decoupled decay instead of the division.
 *   Optax: 1 - beta2 where beta2 weighs d and v, and decoupled decay.                                               */

typedef struct FGD_T_FN(adan_coef) {
    FGD_T_FN(ema) m, v;
    FGD_T_FN(ema2) n;
    T first, d_weight, m_step, v_step, n_scale, eps_root, eps, before, after;
} FGD_T_FN(adan_coef);

static void FGD_T_FN(adan_coefs)(const optim_step *in, FGD_T_FN(adan_coef) *c)
{
    const double beta1 = in->hyper[ADAN_BETA1], beta2 = in->hyper[ADAN_BETA2], beta3 = in->hyper[ADAN_BETA3];
    const double weight = in->flags & OPTIM_OPTAX ? 1 - beta2 : beta2, decay = in->lr * in->hyper[HYPER_DECAY];
    const int proximal = !(in->flags & (OPTIM_OPTAX | ADAN_NO_PROX));
    c->m = FGD_T_FN(ema_of)(beta1);
    c->v = FGD_T_FN(ema_of)(beta2);
    c->n = FGD_T_FN(ema2_of)(beta3);
    c->first = in->t == 1;
    c->d_weight = (T)weight;
    c->m_step = (T)(-in->lr / (1 - pow(beta1, in->t)));
    c->v_step = (T)(-in->lr * weight / (1 - pow(beta2, in->t)));
    c->n_scale = (T)(1 / (1 - pow(beta3, in->t)));
    c->eps_root = (T)in->hyper[ADAN_EPS_ROOT];
    c->eps = (T)in->hyper[ADAN_EPS];
    c->before = (T)(proximal ? 1 : 1 - decay);
    c->after = (T)(proximal ? 1 / (1 + decay) : 1);
}

FGD_INLINE vec FGD_T_FN(adan_vector)(const FGD_T_FN(adan_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    vec d = c->first != 0 ? V(zero)() : V(sub)(g, s[3]);
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = FGD_T_FN(ema2_next)(c->n, s[1], V(fma)(V(set1)(c->d_weight), d, g));
    s[2] = FGD_T_FN(ema_next)(c->v, s[2], d);
    s[3] = g;
    vec denominator = V(sqrt)(V(fma)(s[1], V(set1)(c->n_scale), V(set1)(c->eps_root)));
    vec step = V(fma)(V(set1)(c->v_step), s[2], V(mul)(V(set1)(c->m_step), s[0]));
    p = V(fma)(p, V(set1)(c->before), V(div)(step, V(add)(denominator, V(set1)(c->eps))));
    return V(mul)(p, V(set1)(c->after));
}

#define RULE adan
#define RULE_BUFFERS 4
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- ademamix: Pagliardini et al. 2024, equation 1 ------------------------------------------------------------
 *
 *   m, v as Adam;  slow = beta3 slow + (1 - beta3) g
 *   p -= lr (m / bc1 + alpha slow) / (sqrt(v) / sqrt(bc2) + eps)                                                   */

typedef struct FGD_T_FN(ademamix_coef) {
    FGD_T_FN(ema) m, slow;
    FGD_T_FN(ema2) v;
    T v_scale, eps, m_step, slow_step;
} FGD_T_FN(ademamix_coef);

static void FGD_T_FN(ademamix_coefs)(const optim_step *in, FGD_T_FN(ademamix_coef) *c)
{
    c->m = FGD_T_FN(ema_of)(in->hyper[MIX_BETA1]);
    c->slow = FGD_T_FN(ema_of)(in->hyper[MIX_BETA3]);
    c->v = FGD_T_FN(ema2_of)(in->hyper[MIX_BETA2]);
    c->v_scale = (T)(1 / sqrt(1 - pow(in->hyper[MIX_BETA2], in->t)));
    c->eps = (T)in->hyper[MIX_EPS];
    c->m_step = (T)(-in->lr / (1 - pow(in->hyper[MIX_BETA1], in->t)));
    c->slow_step = (T)(-in->lr * in->hyper[MIX_ALPHA]);
}

FGD_INLINE vec FGD_T_FN(ademamix_vector)(const FGD_T_FN(ademamix_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    s[1] = FGD_T_FN(ema_next)(c->slow, s[1], g);
    s[2] = FGD_T_FN(ema2_next)(c->v, s[2], g);
    vec denominator = V(fma)(V(sqrt)(s[2]), V(set1)(c->v_scale), V(set1)(c->eps));
    vec step = V(fma)(V(set1)(c->slow_step), s[1], V(mul)(V(set1)(c->m_step), s[0]));
    return V(add)(p, V(div)(step, denominator));
}

#define RULE ademamix
#define RULE_BUFFERS 3
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- adopt: Taniguchi et al. 2024, algorithm 2 -------------------------------------------------------------------
 *
 *   the first step makes v = g^2 and moves nothing; then, with v of the step before,
 *   u = g / max(sqrt(v), eps), clipped to (t - 1)^(1/4);  m = beta1 m + (1 - beta1) u;  p -= lr m;  v as Adam         */

typedef struct FGD_T_FN(adopt_coef) {
    FGD_T_FN(ema) m;
    FGD_T_FN(ema2) v;
    T first, eps, limit, decay, p_scale, neg_lr;
} FGD_T_FN(adopt_coef);

static void FGD_T_FN(adopt_coefs)(const optim_step *in, FGD_T_FN(adopt_coef) *c)
{
    const int first = in->t == 1, decoupled = (in->flags & OPTIM_DECOUPLED) != 0;
    const double decay = in->hyper[HYPER_DECAY];
    c->m = FGD_T_FN(ema_of)(in->hyper[ADAM_BETA1]);
    c->v = FGD_T_FN(ema2_of)(first ? 0 : in->hyper[ADAM_BETA2]);
    c->first = first;
    c->eps = (T)in->hyper[ADAM_EPS];
    c->limit = (T)(in->flags & ADOPT_CLIP ? pow(in->t - 1, 0.25) : INFINITY);
    c->decay = (T)(decoupled ? 0 : decay);
    c->p_scale = (T)(decoupled && !first ? 1 - in->lr * decay : 1);
    c->neg_lr = (T)-in->lr;
}

FGD_INLINE vec FGD_T_FN(adopt_vector)(const FGD_T_FN(adopt_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    (void)flags;
    g = V(fma)(V(set1)(c->decay), p, g);
    if (c->first == 0) {
        vec limit = V(set1)(c->limit), u = V(div)(g, V(max)(V(sqrt)(s[1]), V(set1)(c->eps)));
        u = V(max)(V(neg)(limit), V(min)(limit, u));        /* NaN stays */
        s[0] = FGD_T_FN(ema_next)(c->m, s[0], u);
        p = V(fma)(V(set1)(c->neg_lr), s[0], V(mul)(p, V(set1)(c->p_scale)));
    }
    s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
    return p;
}

#define RULE adopt
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- schedule_free: Defazio et al. 2024, equations 3 to 5, in the authors' form that keeps y and z -----------------
 *
 *   lr_t = lr min(1, t / warmup_steps);  w = t^r max(lr_1 ... lr_t)^weight_lr_power;  c = w / sum of all w
 *   u = g, with FREE_ADAM g / (sqrt(v / bc2) + eps);  u += weight_decay y
 *   y = y + c (z - y) + lr_t (beta1 (1 - c) - 1) u;  z -= lr_t u                     p is y; z is p at first
 *   The record keeps the sum of w and the largest lr.                                                                   */

typedef struct FGD_T_FN(schedule_free_coef) {
    FGD_T_FN(ema2) v;
    T first, v_scale, eps, decay, average, y_step, z_step;
} FGD_T_FN(schedule_free_coef);

static void FGD_T_FN(schedule_free_coefs)(const optim_step *in, FGD_T_FN(schedule_free_coef) *c)
{
    const double t = in->t, warmup = in->hyper[FREE_WARMUP], beta1 = in->hyper[FREE_BETA1];
    const double lr = t < warmup ? in->lr * t / warmup : in->lr;
    double *sum = &in->record[1], *largest = &in->record[2];
    *largest = t == 1 ? lr : fmax(*largest, lr);
    const double weight = pow(t, in->hyper[FREE_R]) * pow(*largest, in->hyper[FREE_POWER]);
    *sum = (t == 1 ? 0 : *sum) + weight;
    const double average = *sum == 0 ? 0 : weight / *sum;
    c->v = FGD_T_FN(ema2_of)(in->hyper[FREE_BETA2]);
    c->first = t == 1;
    c->v_scale = (T)(1 / sqrt(1 - pow(in->hyper[FREE_BETA2], t)));
    c->eps = (T)in->hyper[FREE_EPS];
    c->decay = (T)in->hyper[HYPER_DECAY];
    c->average = (T)average;
    c->y_step = (T)(lr * (beta1 * (1 - average) - 1));
    c->z_step = (T)-lr;
}

FGD_INLINE vec FGD_T_FN(schedule_free_vector)(const FGD_T_FN(schedule_free_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    vec z = c->first != 0 ? p : s[0], u = g;
    if (flags & FREE_ADAM) {
        s[1] = FGD_T_FN(ema2_next)(c->v, s[1], g);
        u = V(div)(g, V(fma)(V(sqrt)(s[1]), V(set1)(c->v_scale), V(set1)(c->eps)));
    }
    u = V(fma)(V(set1)(c->decay), p, u);
    p = V(fma)(V(set1)(c->average), V(sub)(z, p), p);
    s[0] = V(fma)(V(set1)(c->z_step), u, z);
    return V(fma)(V(set1)(c->y_step), u, p);
}

#define RULE schedule_free
#define RULE_BUFFERS 1
#define RULE_OPTIONAL 1
#define RULE_RECORD 2
#define RULE_SUMS 0
#include "optim_rule.inc"

/* ---- sophia: Liu et al. 2023, algorithm 3; h is estimated apart ----------------------------------------------------
 *
 *   m = beta1 m + (1 - beta1) g;  p -= lr clip(m / (rho h + eps), 1)
 *   Optax: clip(m / bc1 / max(rho h, eps), 1)                                                                            */

typedef struct FGD_T_FN(sophia_coef) {
    FGD_T_FN(ema) m;
    T m_scale, rho, eps, neg_lr;
} FGD_T_FN(sophia_coef);

static void FGD_T_FN(sophia_coefs)(const optim_step *in, FGD_T_FN(sophia_coef) *c)
{
    const int optax = (in->flags & OPTIM_OPTAX) != 0;
    c->m = FGD_T_FN(ema_of)(in->hyper[SOPHIA_BETA1]);
    c->m_scale = (T)(optax ? 1 / (1 - pow(in->hyper[SOPHIA_BETA1], in->t)) : 1);
    c->rho = (T)in->hyper[SOPHIA_RHO];
    c->eps = (T)in->hyper[SOPHIA_EPS];
    c->neg_lr = (T)-in->lr;
}

FGD_INLINE vec FGD_T_FN(sophia_vector)(const FGD_T_FN(sophia_coef) *c, int64_t flags, vec p, vec g, vec *s)
{
    s[0] = FGD_T_FN(ema_next)(c->m, s[0], g);
    vec curvature = V(mul)(s[1], V(set1)(c->rho)), eps = V(set1)(c->eps), one = V(set1)(1);
    curvature = flags & OPTIM_OPTAX ? V(max)(eps, curvature) : V(add)(curvature, eps);
    vec u = V(div)(V(mul)(s[0], V(set1)(c->m_scale)), curvature);
    u = V(max)(V(neg)(one), V(min)(one, u));        /* NaN stays */
    return V(fma)(V(set1)(c->neg_lr), u, p);
}

#define RULE sophia
#define RULE_BUFFERS 2
#define RULE_OPTIONAL 0
#define RULE_RECORD 0
#define RULE_SUMS 0
#include "optim_rule.inc"
