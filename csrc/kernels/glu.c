/* Gated linear units, forward and backward: the two halves of a dim in one pass.
 *
 *   x[outer, 2, inner] = (a, b)          y[outer, inner]
 *   kind 0, glu      y = a s(b)          da = dy s(b)          db = dy a s(b) (1 - s(b))
 *   kind 1, swiglu   y = a s(a) b        da = dy b silu'(a)    db = dy a s(a)
 *
 * with s = sigmoid and silu'(a) = s(a) (1 + a (1 - s(a))) (Dauphin et al., "Language modeling with gated
 * convolutional networks", 2017; Shazeer, "GLU variants improve Transformer", 2020). */
#include "cut.h"

#ifndef FASTGD_GLU_CUT
#define FASTGD_GLU_CUT
enum { GLU_SIGMOID = 0, GLU_SILU };

/* y is cut as one flat run; a piece of it within one outer index is a run of a and one of b. */
enum { GLU_UNIT = FGD_UNIT_ELEMS / 4 };

static void glu_prepare(const fgd_glu_args *a, int n_buffers, int64_t size, fgd_work *work)
{
    double n = (double)a->outer * a->inner;
    cut_one_phase(work, cut_ceil(a->outer * a->inner, GLU_UNIT), 30 * n, n_buffers * n * size);
}
#endif

FGD_INLINE vec FGD_T_FN(glu_of)(vec a, vec b, int kind)
{
    return kind == GLU_SILU ? V(mul)(V(mul)(a, V(sigmoid)(a)), b) : V(mul)(a, V(sigmoid)(b));
}

FGD_INLINE void FGD_T_FN(glu_bwd_of)(vec *da, vec *db, vec dy, vec a, vec b, int kind)
{
    const vec one = V(set1)(1);
    vec s = V(sigmoid)(kind == GLU_SILU ? a : b), rest = V(sub)(one, s);
    if (kind == GLU_SILU) {
        *da = V(mul)(V(mul)(dy, b), V(mul)(s, V(fma)(a, rest, one)));
        *db = V(mul)(dy, V(mul)(a, s));
    } else {
        *da = V(mul)(dy, s);
        *db = V(mul)(V(mul)(dy, a), V(mul)(s, rest));
    }
}

FGD_INLINE void FGD_T_FN(glu_run)(T *y, const T *a, const T *b, int64_t n, int kind)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        V(store)(y + i, FGD_T_FN(glu_of)(V(load)(a + i), V(load)(b + i), kind));
    if (i < n)
        V(store_n)(y + i, FGD_T_FN(glu_of)(V(load_n)(a + i, n - i), V(load_n)(b + i, n - i), kind), n - i);
}

FGD_INLINE void FGD_T_FN(glu_bwd_run)(T *da, T *db, const T *dy, const T *a, const T *b, int64_t n, int kind)
{
    vec u, v;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        FGD_T_FN(glu_bwd_of)(&u, &v, V(load)(dy + i), V(load)(a + i), V(load)(b + i), kind);
        V(store)(da + i, u);
        V(store)(db + i, v);
    }
    if (i < n) {
        int64_t rest = n - i;
        FGD_T_FN(glu_bwd_of)(&u, &v, V(load_n)(dy + i, rest), V(load_n)(a + i, rest), V(load_n)(b + i, rest), kind);
        V(store_n)(da + i, u, rest);
        V(store_n)(db + i, v, rest);
    }
}

FGD_PREPARE(glu_fwd) { glu_prepare(args_, 3, sizeof(T), work); }

FGD_PREPARE(glu_bwd) { glu_prepare(args_, 5, sizeof(T), work); }

FGD_RUN(glu_fwd)
{
    (void)phase, (void)context;
    const fgd_glu_args *args = args_;
    const int64_t inner = args->inner, last = cut_min(args->outer * inner, end * GLU_UNIT);
    T *y = ptr[0];
    for (int64_t i = begin * GLU_UNIT, n; i < last; i += n) {
        int64_t column = i % inner;
        n = cut_min(inner - column, last - i);
        const T *a = (const T *)ptr[1] + (i - column) * 2 + column;
        if (args->kind == GLU_SILU)
            FGD_T_FN(glu_run)(y + i, a, a + inner, n, GLU_SILU);
        else
            FGD_T_FN(glu_run)(y + i, a, a + inner, n, GLU_SIGMOID);
    }
}

FGD_RUN(glu_bwd)
{
    (void)phase, (void)context;
    const fgd_glu_args *args = args_;
    const int64_t inner = args->inner, last = cut_min(args->outer * inner, end * GLU_UNIT);
    const T *dy = ptr[1];
    for (int64_t i = begin * GLU_UNIT, n; i < last; i += n) {
        int64_t column = i % inner, at = (i - column) * 2 + column;
        n = cut_min(inner - column, last - i);
        T *da = (T *)ptr[0] + at;
        const T *a = (const T *)ptr[2] + at;
        if (args->kind == GLU_SILU)
            FGD_T_FN(glu_bwd_run)(da, da + inner, dy + i, a, a + inner, n, GLU_SILU);
        else
            FGD_T_FN(glu_bwd_run)(da, da + inner, dy + i, a, a + inner, n, GLU_SIGMOID);
    }
}
