/* Mean and variance of each channel of x[n, c, inner], and the two sums that the derivative of a normalisation needs:
 * what batch, group and instance normalisation are made of (Ioffe and Szegedy, 2015; Wu and He, 2018).
 *
 *   fwd  mean[c] = sum x / m,  var[c] = sum (x - mean)^2 / m          m = n inner
 *   bwd  sum_dy[c] = sum dy,   sum_dx[c] = rstd[c] sum dy (x - mean[c])
 *
 * The canonical order.  Elements are taken in blocks: pieces of FGD_SUM_BLOCK of a plane x[n, c, :], or, if inner is 1,
 * FGD_SUM_ROWS rows of n.  In a block sums are made in T, in FGD_SUM_CHAINS chains of lanes (inner > 1) or one chain per
 * channel.  A block is read twice while it is in the first-level cache: its mean first, then its moments about that.
 * Blocks are combined in double, in ascending order, by the formula of Chan, Golub and LeVeque ("Updating formulae and a
 * pairwise algorithm for computing sample variances", 1979): no cancellation, one pass over memory. */
#include "cut.h"

#ifndef FASTGD_CHANNEL_CUT
#define FASTGD_CHANNEL_CUT
typedef struct channel_cut {
    int64_t pieces, blocks;             /* of a plane; of a channel                                */
    int64_t items, per_unit;            /* item: one plane, or one strip of channels of one block  */
    int64_t strip, strips;
} channel_cut;

enum { CHANNEL_FOLD = 16 };             /* channels whose blocks one unit combines                 */

FGD_INLINE channel_cut channel_cut_of(const fgd_channel_stats_args *a)
{
    channel_cut cut = { .pieces = cut_ceil(a->inner, FGD_SUM_BLOCK), .strip = 64 };
    cut.strips = cut_ceil(a->c, cut.strip);
    if (a->inner == 1) {
        cut.blocks = cut_ceil(a->n, FGD_SUM_ROWS);
        cut.items = cut.blocks * cut.strips;
        cut.per_unit = 1;
    } else {
        cut.blocks = a->n * cut.pieces;
        cut.items = a->n * a->c;
        cut.per_unit = cut_items_per_unit(FGD_UNIT_ELEMS / 2, a->inner);
    }
    return cut;
}

FGD_INLINE int64_t channel_block_size(const fgd_channel_stats_args *a, const channel_cut *cut, int64_t block)
{
    if (a->inner == 1)
        return cut_min(FGD_SUM_ROWS, a->n - block * FGD_SUM_ROWS);
    return cut_min(FGD_SUM_BLOCK, a->inner - block % cut->pieces * FGD_SUM_BLOCK);
}

static inline void channel_prepare(const fgd_channel_stats_args *a, int n_buffers, int64_t itemsize, fgd_work *work)
{
    const channel_cut cut = channel_cut_of(a);
    const double n = (double)a->n * a->c * a->inner;
    cut_two_phases(work, cut_ceil(cut.items, cut.per_unit), cut_max(1, cut_ceil(a->c, CHANNEL_FOLD)),
                   2 * cut.blocks * a->c * (int64_t)sizeof(double), 4 * n, n_buffers * n * itemsize);
}
#endif

/* ---- one block of a plane ----------------------------------------------------------------- */

FGD_INLINE vec FGD_T_FN(channel_load)(const T *x, int64_t n)
{
    return n >= LANES ? V(load)(x) : V(load_n)(x, n);
}

/* STEP(k, i, n): adds n elements at i to chain k. */
#define CHANNEL_CHAINS(n, STEP)                                                                \
    do {                                                                                       \
        int64_t i_ = 0;                                                                        \
        for (; i_ + FGD_SUM_CHAINS * LANES <= (n); i_ += FGD_SUM_CHAINS * LANES)               \
            for (int k_ = 0; k_ < FGD_SUM_CHAINS; k_++)                                        \
                STEP(k_, i_ + k_ * LANES, LANES);                                              \
        for (int k_ = 0; i_ < (n); i_ += LANES, k_++)                                          \
            STEP(k_, i_, cut_min(LANES, (n) - i_));                                            \
    } while (0)

FGD_INLINE double FGD_T_FN(channel_fold)(const vec *c)
{
    return (double)V(hsum)(V(add)(V(add)(c[0], c[1]), V(add)(c[2], c[3])));
}

/* mean and sum of squares about it of n <= FGD_SUM_BLOCK elements. */
static void FGD_T_FN(channel_moments)(const T *x, int64_t n, double *mean, double *squares)
{
    vec s[FGD_SUM_CHAINS] = { V(zero)(), V(zero)(), V(zero)(), V(zero)() };
    vec q[FGD_SUM_CHAINS] = { V(zero)(), V(zero)(), V(zero)(), V(zero)() };
#define STEP(k, i, m) s[k] = V(add)(s[k], FGD_T_FN(channel_load)(x + (i), m))
    CHANNEL_CHAINS(n, STEP);
#undef STEP
    const T center = (T)(FGD_T_FN(channel_fold)(s) / (double)n);
    const vec about = V(set1)(center);
    for (int k = 0; k < FGD_SUM_CHAINS; k++)
        s[k] = V(zero)();
#define STEP(k, i, m)                                                                          \
    do {                                                                                       \
        vec d_ = V(sub)(FGD_T_FN(channel_load)(x + (i), m), about);                            \
        if ((m) < LANES)                                                                       \
            d_ = V(keep)(V(mask_n)(m), d_);                                                    \
        s[k] = V(add)(s[k], d_);                                                               \
        q[k] = V(fma)(d_, d_, q[k]);                                                           \
    } while (0)
    CHANNEL_CHAINS(n, STEP);
#undef STEP
    const double shift = FGD_T_FN(channel_fold)(s) / (double)n;     /* what rounding left of the mean */
    *mean = center + shift;
    *squares = FGD_T_FN(channel_fold)(q) - shift * shift * (double)n;
}

static void FGD_T_FN(channel_products)(const T *dy, const T *x, T mean, int64_t n, double *sum, double *product)
{
    vec s[FGD_SUM_CHAINS] = { V(zero)(), V(zero)(), V(zero)(), V(zero)() };
    vec q[FGD_SUM_CHAINS] = { V(zero)(), V(zero)(), V(zero)(), V(zero)() };
    const vec about = V(set1)(mean);
#define STEP(k, i, m)                                                                          \
    do {                                                                                       \
        const vec g_ = FGD_T_FN(channel_load)(dy + (i), m);                                    \
        vec d_ = V(sub)(FGD_T_FN(channel_load)(x + (i), m), about);                            \
        if ((m) < LANES)                                                                       \
            d_ = V(keep)(V(mask_n)(m), d_);                                                    \
        s[k] = V(add)(s[k], g_);                                                               \
        q[k] = V(fma)(g_, d_, q[k]);                                                           \
    } while (0)
    CHANNEL_CHAINS(n, STEP);
#undef STEP
    *sum = FGD_T_FN(channel_fold)(s);
    *product = FGD_T_FN(channel_fold)(q);
}

/* ---- inner == 1: a vector of channels, `rows` rows ----------------------------------------- */

static void FGD_T_FN(channel_moments_of_rows)(const T *x, int64_t rows, int64_t c, int64_t n, double *mean,
                                              double *squares)
{
    T center[LANES], shift[LANES], square[LANES];
    vec s = V(zero)(), q = V(zero)();
    for (int64_t i = 0; i < rows; i++)
        s = V(add)(s, FGD_T_FN(channel_load)(x + i * c, n));
    const vec about = V(div)(s, V(set1)((T)rows));
    s = V(zero)();
    for (int64_t i = 0; i < rows; i++) {
        const vec d = V(sub)(FGD_T_FN(channel_load)(x + i * c, n), about);
        s = V(add)(s, d);
        q = V(fma)(d, d, q);
    }
    V(store)(center, about);
    V(store)(shift, s);
    V(store)(square, q);
    for (int64_t l = 0; l < n; l++) {
        const double d = shift[l] / (double)rows;
        mean[l] = center[l] + d;
        squares[l] = square[l] - d * d * (double)rows;
    }
}

static void FGD_T_FN(channel_products_of_rows)(const T *dy, const T *x, const T *mean, int64_t rows, int64_t c,
                                               int64_t n, double *sum, double *product)
{
    T s_lane[LANES], q_lane[LANES];
    vec s = V(zero)(), q = V(zero)();
    const vec about = FGD_T_FN(channel_load)(mean, n);
    for (int64_t i = 0; i < rows; i++) {
        const vec g = FGD_T_FN(channel_load)(dy + i * c, n);
        s = V(add)(s, g);
        q = V(fma)(g, V(sub)(FGD_T_FN(channel_load)(x + i * c, n), about), q);
    }
    V(store)(s_lane, s);
    V(store)(q_lane, q);
    for (int64_t l = 0; l < n; l++)
        sum[l] = s_lane[l], product[l] = q_lane[l];
}

/* ---- the kernels -------------------------------------------------------------------------- */

/* Phase 0: first[block * c + channel] and second[...] of each block; dy is NULL for fwd. */
static void FGD_T_FN(channel_blocks)(const fgd_channel_stats_args *a, const T *dy, const T *x, const T *mean,
                                     double *first, double *second, int64_t begin, int64_t end)
{
    const channel_cut cut = channel_cut_of(a);
    for (int64_t item = begin * cut.per_unit; item < cut_min(cut.items, end * cut.per_unit); item++) {
        if (a->inner == 1) {
            const int64_t block = item / cut.strips, from = item % cut.strips * cut.strip;
            const int64_t row = block * FGD_SUM_ROWS, rows = channel_block_size(a, &cut, block);
            for (int64_t j = from; j < cut_min(a->c, from + cut.strip); j += LANES) {
                const int64_t n = cut_min(LANES, cut_min(a->c, from + cut.strip) - j), at = block * a->c + j;
                const T *px = x + row * a->c + j;
                if (dy)
                    FGD_T_FN(channel_products_of_rows)(dy + row * a->c + j, px, mean + j, rows, a->c, n, first + at,
                                                       second + at);
                else
                    FGD_T_FN(channel_moments_of_rows)(px, rows, a->c, n, first + at, second + at);
            }
            continue;
        }
        const int64_t n = item / a->c, channel = item % a->c;
        for (int64_t piece = 0; piece < cut.pieces; piece++) {
            const int64_t block = n * cut.pieces + piece, at = block * a->c + channel;
            const int64_t from = item * a->inner + piece * FGD_SUM_BLOCK, size = channel_block_size(a, &cut, block);
            if (dy)
                FGD_T_FN(channel_products)(dy + from, x + from, mean[channel], size, first + at, second + at);
            else
                FGD_T_FN(channel_moments)(x + from, size, first + at, second + at);
        }
    }
}

FGD_PREPARE(channel_stats_fwd) { channel_prepare(args_, 1, sizeof(T), work); }
FGD_PREPARE(channel_stats_bwd) { channel_prepare(args_, 2, sizeof(T), work); }

FGD_RUN(channel_stats_fwd)
{
    const fgd_channel_stats_args *a = args_;
    const channel_cut cut = channel_cut_of(a);
    T *mean = ptr[0], *var = ptr[1];
    double *first = context->shared, *second = first + cut.blocks * a->c;
    if (phase == 0) {
        FGD_T_FN(channel_blocks)(a, NULL, ptr[2], NULL, first, second, begin, end);
        return;
    }
    for (int64_t c0 = begin * CHANNEL_FOLD; c0 < cut_min(a->c, end * CHANNEL_FOLD); c0 += CHANNEL_FOLD) {
        const int64_t n = cut_min(CHANNEL_FOLD, a->c - c0);
        double m[CHANNEL_FOLD] = { 0 }, q[CHANNEL_FOLD] = { 0 }, count = 0;
        for (int64_t block = 0; block < cut.blocks; block++) {
            const double size = (double)channel_block_size(a, &cut, block), both = count + size;
            const double *mb = first + block * a->c + c0, *qb = second + block * a->c + c0;
            for (int64_t i = 0; i < n; i++) {
                const double d = mb[i] - m[i];
                m[i] += d * (size / both);
                q[i] += qb[i] + d * d * (count * size / both);
            }
            count = both;
        }
        for (int64_t i = 0; i < n; i++) {
            mean[c0 + i] = (T)m[i];
            var[c0 + i] = (T)(q[i] / count);
        }
    }
}

FGD_RUN(channel_stats_bwd)
{
    const fgd_channel_stats_args *a = args_;
    const channel_cut cut = channel_cut_of(a);
    T *sum_dy = ptr[0], *sum_dx = ptr[1];
    const T *mean = ptr[4], *rstd = ptr[5];
    double *first = context->shared, *second = first + cut.blocks * a->c;
    if (phase == 0) {
        FGD_T_FN(channel_blocks)(a, ptr[2], ptr[3], mean, first, second, begin, end);
        return;
    }
    for (int64_t c = begin * CHANNEL_FOLD; c < cut_min(a->c, end * CHANNEL_FOLD); c++) {
        double s = 0, q = 0;
        for (int64_t block = 0; block < cut.blocks; block++) {
            s += first[block * a->c + c];
            q += second[block * a->c + c];
        }
        sum_dy[c] = (T)s;
        sum_dx[c] = (T)(q * rstd[c]);
    }
}

#undef CHANNEL_CHAINS
