/* Maximum and average over windows of planes, forward and backward.
 *
 *   max  y = the largest element of the window, i its flat position in the plane (the first of equals; NaN is largest)
 *   avg  y = the sum of the window, one chain over its rows and columns, divided by its size
 *
 * Backward, each plane of dx is made by one unit, from zero, by adding what each element of dy sends, in the order of dy:
 * no two threads write one plane, and the order of the sums is that of the plane.
 *
 * Windows are regular (stride, padding, dilation) or adaptive: [floor(o h / p), ceil((o + 1) h / p)).  A row of outputs of
 * regular windows is made by vectors over rows of x that were copied with their margin, columns by their remainder
 * modulo the stride (conv_window.inc): each tap is then one contiguous read. */
#include <math.h>
#include "conv_cut.h"
#include "conv_window.inc"

#ifndef FASTGD_POOL_AXIS
#define FASTGD_POOL_AXIS
typedef struct pool_axis {
    int64_t in, out, kernel, stride, pad, dil, adaptive;
} pool_axis;

typedef struct pool_span {
    int64_t from, to;                   /* inside of the plane, stepping by dil                    */
    int64_t size;                       /* with the padding that counts                            */
} pool_span;

FGD_INLINE pool_span pool_span_of(const pool_axis *a, int64_t o)
{
    if (a->adaptive) {
        const int64_t from = o * a->in / a->out, to = ((o + 1) * a->in + a->out - 1) / a->out;
        return (pool_span){ from, to, to - from };
    }
    const int64_t start = o * a->stride - a->pad, reach = (a->kernel - 1) * a->dil + 1;
    const int64_t end = cut_min(start + reach, a->in + a->pad);
    const int64_t skipped = start < 0 ? (-start + a->dil - 1) / a->dil : 0;
    return (pool_span){ start + skipped * a->dil, cut_min(end, a->in), end - start };
}

FGD_INLINE pool_axis pool_rows(const fgd_pool_args *a)
{
    return (pool_axis){ a->h, a->p, a->r, a->stride_h, a->pad_h, a->dil_h, a->adaptive };
}

FGD_INLINE pool_axis pool_cols(const fgd_pool_args *a)
{
    return (pool_axis){ a->w, a->q, a->s, a->stride_w, a->pad_w, a->dil_w, a->adaptive };
}

FGD_INLINE int64_t pool_per_unit(const fgd_pool_args *a)
{
    return cut_items_per_unit(FGD_UNIT_ELEMS / 2, a->h * a->w + a->p * a->q);
}

/* What a window's sum is divided by. */
FGD_INLINE double pool_divisor(const fgd_pool_args *a, const pool_span *h, const pool_span *w)
{
    if (a->divisor)
        return (double)a->divisor;
    if (a->count_pad)
        return (double)(h->size * w->size);
    return (double)((h->to - h->from) * (w->to - w->from));
}
#endif

/* ---- windows over copied rows -------------------------------------------------------------- */

/* The window of one row of outputs: r rows of x, dil apart. */
static FGD_T_FN(conv_window) FGD_T_FN(pool_window)(const fgd_pool_args *a, T *at)
{
    FGD_T_FN(conv_window) win = { .at = at, .istep = a->stride_w, .rows = a->r };
    win.col0 = -a->pad_w;
    win.part = a->q + (a->s - 1) * a->dil_w / a->stride_w;
    win.pitch = win.part * win.istep;
    return win;
}

static int64_t FGD_T_FN(pool_window_elems)(const fgd_pool_args *a)
{
    return a->adaptive ? 0 : a->r * (a->q + (a->s - 1) * a->dil_w / a->stride_w) * a->stride_w + 2 * LANES;
}

static void FGD_T_FN(pool_fill)(const fgd_pool_args *a, FGD_T_FN(conv_window) *win, const T *x, int64_t p)
{
    for (int64_t r = 0; r < a->r; r++) {
        const int64_t h = p * a->stride_h - a->pad_h + r * a->dil_h;
        T *dst = win->at + r * win->pitch;
        if (h >= 0 && h < a->h)
            FGD_T_FN(conv_window_row)(win, dst, x + h * a->w, a->w);
        else
            FGD_T_FN(conv_fill)(dst, win->margin, win->pitch);
    }
}

FGD_INLINE const T *FGD_T_FN(pool_tap)(const fgd_pool_args *a, const FGD_T_FN(conv_window) *win, int64_t r, int64_t s)
{
    const int64_t col = s * a->dil_w;
    return win->at + r * win->pitch + col % win->istep * win->part + col / win->istep;
}

/* ---- max ----------------------------------------------------------------------------------- */

/* One output by looking at its window; for adaptive windows, and where all that is seen is -infinity. */
static void FGD_T_FN(max_at)(const fgd_pool_args *a, const T *x, int64_t p, int64_t q, T *y, int64_t *index)
{
    const pool_axis rows = pool_rows(a), cols = pool_cols(a);
    const pool_span h = pool_span_of(&rows, p), w = pool_span_of(&cols, q);
    T best = -(T)INFINITY;
    int64_t at = h.from * a->w + w.from;
    for (int64_t i = h.from; i < h.to; i += a->dil_h)
        for (int64_t j = w.from; j < w.to; j += a->dil_w) {
            const T v = x[i * a->w + j];
            if (v > best || v != v)
                best = v, at = i * a->w + j;
        }
    *y = best;
    *index = at;
}

/* Outputs q .. q + n of row p from the window; the tap that won is kept in a lane beside the value. */
FGD_INLINE void FGD_T_FN(max_vector)(const fgd_pool_args *a, const FGD_T_FN(conv_window) *win, const T *x, int64_t p,
                                     int64_t q, int64_t n, T *y, int64_t *index)
{
    vec best = V(set1)(-(T)INFINITY), winner = V(set1)(-1);
    for (int64_t r = 0; r < a->r; r++)
        for (int64_t s = 0; s < a->s; s++) {
            const vec v = V(load)(FGD_T_FN(pool_tap)(a, win, r, s) + q);
            const mask wins = V(mask_or)(V(gt)(v, best), V(ne)(v, v));
            best = V(select)(wins, v, best);
            winner = V(select)(wins, V(set1)((T)(r * a->s + s)), winner);
        }
    T tap[LANES];
    V(store)(tap, winner);
    V(store_n)(y + q, best, n);
    const int64_t row = p * a->stride_h - a->pad_h, col = q * a->stride_w - a->pad_w;
    for (int64_t l = 0; l < n; l++) {
        const int64_t t = (int64_t)tap[l];
        if (t < 0)
            FGD_T_FN(max_at)(a, x, p, q + l, y + q + l, index + q + l);
        else
            index[q + l] = (row + t / a->s * a->dil_h) * a->w + col + l * a->stride_w + t % a->s * a->dil_w;
    }
}

static void FGD_T_FN(max_plane)(const fgd_pool_args *a, T *y, int64_t *index, const T *x, T *window)
{
    FGD_T_FN(conv_window) win;
    if (!a->adaptive) {
        win = FGD_T_FN(pool_window)(a, window);
        win.margin = -(T)INFINITY;
    }
    for (int64_t p = 0; p < a->p; p++, y += a->q, index += a->q) {
        if (a->adaptive) {
            for (int64_t q = 0; q < a->q; q++)
                FGD_T_FN(max_at)(a, x, p, q, y + q, index + q);
            continue;
        }
        FGD_T_FN(pool_fill)(a, &win, x, p);
        for (int64_t q = 0; q < a->q; q += LANES)
            FGD_T_FN(max_vector)(a, &win, x, p, q, cut_min(LANES, a->q - q), y, index);
    }
}

/* ---- average ------------------------------------------------------------------------------- */

static void FGD_T_FN(avg_plane)(const fgd_pool_args *a, T *y, const T *x, T *window)
{
    const pool_axis rows = pool_rows(a), cols = pool_cols(a);
    FGD_T_FN(conv_window) win;
    if (!a->adaptive)
        win = FGD_T_FN(pool_window)(a, window);
    for (int64_t p = 0; p < a->p; p++, y += a->q) {
        const pool_span h = pool_span_of(&rows, p);
        if (!a->adaptive)
            FGD_T_FN(pool_fill)(a, &win, x, p);
        for (int64_t q = 0; q < a->q; q += LANES) {
            const int64_t n = cut_min(LANES, a->q - q);
            T sum[LANES] = { 0 };
            if (!a->adaptive) {
                vec total = V(zero)();
                for (int64_t r = 0; r < a->r; r++)
                    for (int64_t s = 0; s < a->s; s++)
                        total = V(add)(total, V(load)(FGD_T_FN(pool_tap)(a, &win, r, s) + q));
                V(store)(sum, total);
            }
            for (int64_t l = 0; l < n; l++) {
                const pool_span w = pool_span_of(&cols, q + l);
                if (a->adaptive)
                    for (int64_t i = h.from; i < h.to; i++)
                        for (int64_t j = w.from; j < w.to; j++)
                            sum[l] += x[i * a->w + j];
                y[q + l] = sum[l] / (T)pool_divisor(a, &h, &w);
            }
        }
    }
}

static void FGD_T_FN(avg_plane_bwd)(const fgd_pool_args *a, T *dx, const T *dy)
{
    const pool_axis rows = pool_rows(a), cols = pool_cols(a);
    for (int64_t p = 0; p < a->p; p++) {
        const pool_span h = pool_span_of(&rows, p);
        for (int64_t q = 0; q < a->q; q++) {
            const pool_span w = pool_span_of(&cols, q);
            const T g = *dy++ / (T)pool_divisor(a, &h, &w);
            for (int64_t i = h.from; i < h.to; i++)
                for (int64_t j = w.from; j < w.to; j++)
                    dx[i * a->w + j] += g;
        }
    }
}

/* ---- the kernels --------------------------------------------------------------------------- */

static void FGD_T_FN(pool_prepare)(const fgd_pool_args *a, int has_window, int has_index, fgd_work *work)
{
    const double in = (double)a->planes * a->h * a->w, out = (double)a->planes * a->p * a->q;
    cut_one_phase(work, cut_ceil(a->planes, pool_per_unit(a)), 2 * out * a->r * a->s + 8 * out,
                  (in + out) * sizeof(T) + (has_index ? 8 * out : 0));
    work->thread_bytes = has_window ? FGD_T_FN(pool_window_elems)(a) * (int64_t)sizeof(T) : 0;
}

FGD_PREPARE(max_pool_fwd) { FGD_T_FN(pool_prepare)(args_, 1, 1, work); }
FGD_PREPARE(max_pool_bwd) { FGD_T_FN(pool_prepare)(args_, 0, 1, work); }
FGD_PREPARE(avg_pool_fwd) { FGD_T_FN(pool_prepare)(args_, 1, 0, work); }
FGD_PREPARE(avg_pool_bwd) { FGD_T_FN(pool_prepare)(args_, 0, 0, work); }

FGD_RUN(max_pool_fwd)
{
    (void)phase;
    const fgd_pool_args *a = args_;
    const int64_t per = pool_per_unit(a), out = a->p * a->q;
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++)
        FGD_T_FN(max_plane)(a, (T *)ptr[0] + i * out, (int64_t *)ptr[1] + i * out,
                            (const T *)ptr[2] + i * a->h * a->w, context->scratch);
}

FGD_RUN(max_pool_bwd)
{
    (void)phase, (void)context;
    const fgd_pool_args *a = args_;
    const int64_t per = pool_per_unit(a), out = a->p * a->q, in = a->h * a->w;
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++) {
        T *dx = (T *)ptr[0] + i * in;
        const T *dy = (const T *)ptr[1] + i * out;
        const int64_t *index = (const int64_t *)ptr[2] + i * out;
        FGD_T_FN(conv_fill)(dx, 0, in);
        for (int64_t o = 0; o < out; o++)
            dx[index[o]] += dy[o];
    }
}

FGD_RUN(avg_pool_fwd)
{
    (void)phase;
    const fgd_pool_args *a = args_;
    const int64_t per = pool_per_unit(a);
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++)
        FGD_T_FN(avg_plane)(a, (T *)ptr[0] + i * a->p * a->q, (const T *)ptr[1] + i * a->h * a->w, context->scratch);
}

FGD_RUN(avg_pool_bwd)
{
    (void)phase, (void)context;
    const fgd_pool_args *a = args_;
    const int64_t per = pool_per_unit(a);
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++) {
        T *dx = (T *)ptr[0] + i * a->h * a->w;
        FGD_T_FN(conv_fill)(dx, 0, a->h * a->w);
        FGD_T_FN(avg_plane_bwd)(a, dx, (const T *)ptr[1] + i * a->p * a->q);
    }
}
