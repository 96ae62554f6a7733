/* Sum, max, min, prod and mean over one axis, and argmax: x[outer, r, inner] -> y[outer, inner].
 *
 * THE CANONICAL ORDER OF SUMS.  A sum over r has one order, set by its shape, which every other
 * kernel that makes the same sum must reproduce (constants: cut.h).
 *
 *   inner > 1    Each column on its own.  Rows are taken in blocks of FGD_SUM_ROWS; within a block
 *                one chain of adds over ascending r that starts at +0; then the sums of the blocks
 *                are added, in T, in ascending order.
 *   inner == 1   The row is taken in blocks of FGD_SUM_BLOCK elements.  A block has FGD_SUM_CHAINS
 *                vectors of lanes that start at +0: whole groups of CHAINS vectors go to chains
 *                0 1 2 3; of what is left, whole vectors go to chains 0 1 2 and the last, partial
 *                vector to chain 3.  The block is hsum((c0 + c1) + (c2 + c3)).  The sums of the
 *                blocks are added in double, in ascending order, and rounded to T once.
 *
 * A mean is that sum divided by r.  Blocks bound the rounding error: for n elements it grows as
 * 256 + n/256 (inner > 1) instead of n.  Products follow the same order; for max and min it is
 * of no consequence, because NaN propagates whatever the order. */
#include <math.h>
#include "reduce_cut.h"

/* ---- one vector, one lane ---------------------------------------------------------------- */

FGD_INLINE T FGD_T_FN(reduce_identity)(int kind)
{
    switch (kind) {
    case REDUCE_MAX: return -(T)INFINITY;
    case REDUCE_MIN: return (T)INFINITY;
    case REDUCE_PROD: return 1;
    default: return 0;
    }
}

/* max(x, acc) is acc if either is NaN, which keeps a NaN that is already there; select takes x's. */
FGD_INLINE vec FGD_T_FN(reduce_combine)(int kind, vec acc, vec x)
{
    switch (kind) {
    case REDUCE_MAX: return V(select)(V(ne)(x, x), x, V(max)(x, acc));
    case REDUCE_MIN: return V(select)(V(ne)(x, x), x, V(min)(x, acc));
    case REDUCE_PROD: return V(mul)(acc, x);
    default: return V(add)(acc, x);
    }
}

FGD_INLINE T FGD_T_FN(reduce_combine_lane)(int kind, T acc, T x)
{
    switch (kind) {
    case REDUCE_MAX: return x > acc || x != x ? x : acc;
    case REDUCE_MIN: return x < acc || x != x ? x : acc;
    case REDUCE_PROD: return acc * x;
    default: return acc + x;
    }
}

FGD_INLINE double FGD_T_FN(reduce_combine_double)(int kind, double acc, double x)
{
    switch (kind) {
    case REDUCE_MAX: return x > acc || x != x ? x : acc;
    case REDUCE_MIN: return x < acc || x != x ? x : acc;
    case REDUCE_PROD: return acc * x;
    default: return acc + x;
    }
}

/* Across lanes, halves onto halves. */
FGD_INLINE T FGD_T_FN(reduce_lanes)(int kind, vec v)
{
    if (kind == REDUCE_SUM)
        return V(hsum)(v);
    T lane[LANES];
    V(store)(lane, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = FGD_T_FN(reduce_combine_lane)(kind, lane[i], lane[i + half]);
    return lane[0];
}

/* ---- inner == 1: contiguous rows --------------------------------------------------------- */

FGD_INLINE vec FGD_T_FN(reduce_load_n)(int kind, const T *x, int64_t n)
{
    vec v = V(load_n)(x, n);
    if (kind == REDUCE_SUM)
        return v;
    return V(select)(V(mask_n)(n), v, V(set1)(FGD_T_FN(reduce_identity)(kind)));
}

/* One block, n <= FGD_SUM_BLOCK. */
FGD_INLINE T FGD_T_FN(reduce_block)(int kind, const T *x, int64_t n)
{
    const vec identity = V(set1)(FGD_T_FN(reduce_identity)(kind));
    vec c0 = identity, c1 = identity, c2 = identity, c3 = identity;
    int64_t i = 0;
    if (n <= LANES)             /* the three empty chains change nothing */
        return FGD_T_FN(reduce_lanes)(
            kind, FGD_T_FN(reduce_combine)(kind, identity, FGD_T_FN(reduce_load_n)(kind, x, n)));
    for (; i + FGD_SUM_CHAINS * LANES <= n; i += FGD_SUM_CHAINS * LANES) {
        c0 = FGD_T_FN(reduce_combine)(kind, c0, V(load)(x + i));
        c1 = FGD_T_FN(reduce_combine)(kind, c1, V(load)(x + i + LANES));
        c2 = FGD_T_FN(reduce_combine)(kind, c2, V(load)(x + i + 2 * LANES));
        c3 = FGD_T_FN(reduce_combine)(kind, c3, V(load)(x + i + 3 * LANES));
    }
    if (i + LANES <= n)
        c0 = FGD_T_FN(reduce_combine)(kind, c0, V(load)(x + i)), i += LANES;
    if (i + LANES <= n)
        c1 = FGD_T_FN(reduce_combine)(kind, c1, V(load)(x + i)), i += LANES;
    if (i + LANES <= n)
        c2 = FGD_T_FN(reduce_combine)(kind, c2, V(load)(x + i)), i += LANES;
    if (i < n)
        c3 = FGD_T_FN(reduce_combine)(kind, c3, FGD_T_FN(reduce_load_n)(kind, x + i, n - i));
    c0 = FGD_T_FN(reduce_combine)(kind, c0, c1);
    c2 = FGD_T_FN(reduce_combine)(kind, c2, c3);
    return FGD_T_FN(reduce_lanes)(kind, FGD_T_FN(reduce_combine)(kind, c0, c2));
}

FGD_INLINE T FGD_T_FN(reduce_row)(int kind, const T *x, int64_t r)
{
    if (r <= FGD_SUM_BLOCK)
        return FGD_T_FN(reduce_block)(kind, x, r);
    double total = FGD_T_FN(reduce_identity)(kind);
    for (int64_t i = 0; i < r; i += FGD_SUM_BLOCK)
        total = FGD_T_FN(reduce_combine_double)(
            kind, total, FGD_T_FN(reduce_block)(kind, x + i, cut_min(FGD_SUM_BLOCK, r - i)));
    return (T)total;
}

/* The canonical sum of n contiguous elements, for other kernels. */
static inline T FGD_T_FN(sum_contiguous)(const T *x, int64_t n)
{
    return FGD_T_FN(reduce_row)(REDUCE_SUM, x, n);
}

/* ---- inner > 1: columns ------------------------------------------------------------------ */

FGD_INLINE void FGD_T_FN(reduce_store)(int kind, T *y, vec acc, int64_t n, int first)
{
    if (!first)
        acc = FGD_T_FN(reduce_combine)(kind, V(load_n)(y, n), acc);
    V(store_n)(y, acc, n);
}

/* One block of rows: y[cols] = (first ? identity : y) combined with x[rows, cols of inner]. */
FGD_INLINE void FGD_T_FN(reduce_columns)(int kind, T *y, const T *x, int64_t rows, int64_t inner,
                                         int64_t cols, int first)
{
    enum { WIDE = 8 };
    const vec identity = V(set1)(FGD_T_FN(reduce_identity)(kind));
    int64_t j = 0;
    for (; j + WIDE * LANES <= cols; j += WIDE * LANES) {
        vec acc[WIDE];
        for (int w = 0; w < WIDE; w++)
            acc[w] = identity;
        for (int64_t i = 0; i < rows; i++)
            for (int w = 0; w < WIDE; w++)
                acc[w] = FGD_T_FN(reduce_combine)(kind, acc[w],
                                                  V(load)(x + i * inner + j + w * LANES));
        for (int w = 0; w < WIDE; w++)
            FGD_T_FN(reduce_store)(kind, y + j + w * LANES, acc[w], LANES, first);
    }
    for (; j + LANES <= cols; j += LANES) {
        vec acc = identity;
        for (int64_t i = 0; i < rows; i++)
            acc = FGD_T_FN(reduce_combine)(kind, acc, V(load)(x + i * inner + j));
        FGD_T_FN(reduce_store)(kind, y + j, acc, LANES, first);
    }
    if (j < cols) {
        int64_t n = cols - j;
        vec acc = identity;
        for (int64_t i = 0; i < rows; i++)
            acc = FGD_T_FN(reduce_combine)(kind, acc, V(load_n)(x + i * inner + j, n));
        FGD_T_FN(reduce_store)(kind, y + j, acc, n, first);
    }
}

/* ---- the kernel -------------------------------------------------------------------------- */

/* Everything but a mean's division. */
FGD_INLINE void FGD_T_FN(reduce_items)(int kind, const fgd_reduce_args *a, const reduce_cut *c,
                                       T *y, const T *x, void *partial, int64_t from, int64_t to)
{
    const int64_t r = a->r, inner = a->inner;
    for (int64_t item = from; item < to; item++) {
        int64_t column = item % c->strips * c->strip, rest = item / c->strips;
        int64_t cols = cut_min(c->strip, inner - column);
        int64_t o = c->two_phases ? rest / c->blocks : rest;
        int64_t first = c->two_phases ? rest % c->blocks * c->block_rows : 0;
        int64_t last = c->two_phases ? cut_min(r, first + c->block_rows) : r;
        const T *rows = x + (o * r + first) * inner + column;
        if (inner == 1 && c->two_phases) {
            ((double *)partial)[rest] = FGD_T_FN(reduce_block)(kind, rows, last - first);
        } else if (inner == 1) {
            y[o] = FGD_T_FN(reduce_row)(kind, rows, r);
        } else {
            T *out = (c->two_phases ? (T *)partial + rest * inner : y + o * inner) + column;
            FGD_T_FN(reduce_columns)(kind, out, rows, cut_min(last - first, c->block_rows), inner,
                                     cols, 1);
            for (int64_t i = first + c->block_rows; i < last; i += c->block_rows)
                FGD_T_FN(reduce_columns)(kind, out, rows + (i - first) * inner,
                                         cut_min(last - i, c->block_rows), inner, cols, 0);
        }
    }
}

/* Phase 1: the blocks of each outer index in ascending order. */
FGD_INLINE void FGD_T_FN(reduce_blocks)(int kind, const fgd_reduce_args *a, const reduce_cut *c,
                                        T *y, const void *partial)
{
    for (int64_t o = 0; o < a->outer; o++) {
        if (a->inner == 1) {
            const double *p = (const double *)partial + o * c->blocks;
            double total = FGD_T_FN(reduce_identity)(kind);
            for (int64_t b = 0; b < c->blocks; b++)
                total = FGD_T_FN(reduce_combine_double)(kind, total, p[b]);
            y[o] = (T)total;
        } else {
            const T *p = (const T *)partial + o * c->blocks * a->inner;
            for (int64_t j = 0; j < a->inner; j++)
                y[o * a->inner + j] = p[j];
            for (int64_t b = 1; b < c->blocks; b++)
                FGD_T_FN(reduce_columns)(kind, y + o * a->inner, p + b * a->inner, 1, a->inner,
                                         a->inner, 0);
        }
    }
}

FGD_INLINE void FGD_T_FN(reduce_kind)(int kind, const fgd_reduce_args *a, T *y, const T *x,
                                      int phase, int64_t begin, int64_t end, void *shared)
{
    reduce_cut c = reduce_cut_of(a);
    if (phase == 0)
        FGD_T_FN(reduce_items)(kind, a, &c, y, x, shared, begin * c.items_per_unit,
                               cut_min(c.items, end * c.items_per_unit));
    else
        FGD_T_FN(reduce_blocks)(kind, a, &c, y, shared);
}

/* The outputs that units [begin, end) of the last phase have finished. */
static void FGD_T_FN(reduce_divide)(const fgd_reduce_args *a, T *y, int phase, int64_t begin,
                                    int64_t end)
{
    reduce_cut c = reduce_cut_of(a);
    int64_t from = 0, to = a->outer * c.strips;
    if (phase == 0) {
        if (c.two_phases)
            return;
        from = begin * c.items_per_unit;
        to = cut_min(c.items, end * c.items_per_unit);
    }
    for (int64_t item = from; item < to; item++) {
        int64_t column = item % c.strips * c.strip;
        T *row = y + item / c.strips * a->inner;
        for (int64_t j = column; j < cut_min(a->inner, column + c.strip); j++)
            row[j] /= (T)a->r;
    }
}

FGD_PREPARE(reduce) { reduce_prepare(args_, sizeof(T), work); }

FGD_RUN(reduce)
{
    const fgd_reduce_args *a = args_;
    T *y = ptr[0];
    const T *x = ptr[1];
    void *shared = context->shared;
    switch (a->kind) {
    case REDUCE_MAX:
        FGD_T_FN(reduce_kind)(REDUCE_MAX, a, y, x, phase, begin, end, shared);
        break;
    case REDUCE_MIN:
        FGD_T_FN(reduce_kind)(REDUCE_MIN, a, y, x, phase, begin, end, shared);
        break;
    case REDUCE_PROD:
        FGD_T_FN(reduce_kind)(REDUCE_PROD, a, y, x, phase, begin, end, shared);
        break;
    default:
        FGD_T_FN(reduce_kind)(REDUCE_SUM, a, y, x, phase, begin, end, shared);
        if (a->kind == REDUCE_MEAN)
            FGD_T_FN(reduce_divide)(a, y, phase, begin, end);
    }
}

/* ---- argmax ------------------------------------------------------------------------------ */

FGD_INLINE int FGD_T_FN(argmax_beats)(T x, T best) { return x > best || (x != x && best == best); }

/* Two passes, both on whole vectors: what the maximum is, then where it is first. */
static int64_t FGD_T_FN(argmax_row)(const T *x, int64_t r)
{
    const T max = FGD_T_FN(reduce_row)(REDUCE_MAX, x, r);
    const vec vmax = V(set1)(max);
    int64_t i = 0;
    for (; max == max && i + LANES <= r && !V(mask_any)(V(eq)(V(load)(x + i), vmax)); i += LANES)
        ;
    while (max == max ? x[i] != max : x[i] == x[i])
        i++;
    return i;
}

#include "argmax.inc"
