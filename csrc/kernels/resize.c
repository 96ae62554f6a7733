/* Rearrangements of planes whose derivative is a sum: unfold (im2col) and fold, and resizing by nearest or linear
 * interpolation along both axes.
 *
 *   unfold  y[c, r, s, p, q] = x[c, p stride - pad + r dil, ...], 0 outside        fold, its transpose, adds
 *   resize  y[p, q] = sum over the two nearest rows i and columns j of  weight_i weight_j x[i, j]
 *
 * What adds (fold, resize_bwd) makes each plane of the result in one unit, from zero, in a fixed order: that of the taps
 * (r, s), and that of the elements of dy.  So there is no race and no atomic. */
#include <string.h>
#include "conv_cut.h"

#ifndef FASTGD_RESIZE_TABLE
#define FASTGD_RESIZE_TABLE
/* Row i of the table of an axis: the two neighbours and the weight of the second (bits of a double). */
enum { RESIZE_WORDS = 3 };

FGD_INLINE double resize_weight(int64_t word)
{
    double weight;
    memcpy(&weight, &word, sizeof weight);
    return weight;
}

FGD_INLINE int64_t resize_per_unit(int64_t elems)
{
    return cut_items_per_unit(FGD_UNIT_ELEMS / 2, elems);
}

/* The outputs o of an axis whose tap lies inside: from <= o < to. */
typedef struct unfold_span {
    int64_t from, to, first;            /* first: the position in x of output `from`               */
} unfold_span;

FGD_INLINE unfold_span unfold_span_of(int64_t in, int64_t out, int64_t tap, int64_t stride, int64_t pad, int64_t dil)
{
    const int64_t start = tap * dil - pad;
    const int64_t from = cut_min(out, start >= 0 ? 0 : (-start + stride - 1) / stride);
    const int64_t to = start >= in ? from : cut_max(from, cut_min(out, (in - start + stride - 1) / stride));
    return (unfold_span){ from, to, start + from * stride };
}
#endif

/* One plane; y is its r * s * p * q columns. */
static void FGD_T_FN(unfold_plane)(const fgd_conv_args *a, T *y, const T *x)
{
    for (int64_t r = 0; r < a->r; r++)
        for (int64_t s = 0; s < a->s; s++, y += a->p * a->q) {
            const unfold_span h = unfold_span_of(a->h, a->p, r, a->stride_h, a->pad_h, a->dil_h);
            const unfold_span w = unfold_span_of(a->w, a->q, s, a->stride_w, a->pad_w, a->dil_w);
            memset(y, 0, sizeof(T) * (size_t)(a->p * a->q));
            for (int64_t p = h.from; p < h.to; p++) {
                const T *row = x + (h.first + (p - h.from) * a->stride_h) * a->w + w.first;
                for (int64_t q = w.from; q < w.to; q++)
                    y[p * a->q + q] = row[(q - w.from) * a->stride_w];
            }
        }
}

static void FGD_T_FN(fold_plane)(const fgd_conv_args *a, T *x, const T *y)
{
    memset(x, 0, sizeof(T) * (size_t)(a->h * a->w));
    for (int64_t r = 0; r < a->r; r++)
        for (int64_t s = 0; s < a->s; s++, y += a->p * a->q) {
            const unfold_span h = unfold_span_of(a->h, a->p, r, a->stride_h, a->pad_h, a->dil_h);
            const unfold_span w = unfold_span_of(a->w, a->q, s, a->stride_w, a->pad_w, a->dil_w);
            for (int64_t p = h.from; p < h.to; p++) {
                T *row = x + (h.first + (p - h.from) * a->stride_h) * a->w + w.first;
                for (int64_t q = w.from; q < w.to; q++)
                    row[(q - w.from) * a->stride_w] += y[p * a->q + q];
            }
        }
}

static void FGD_T_FN(unfold_prepare)(const fgd_conv_args *a, fgd_work *work)
{
    const double columns = (double)a->n * a->r * a->s * (double)a->p * a->q;
    const int64_t per = resize_per_unit(a->h * a->w + a->r * a->s * a->p * a->q);
    cut_one_phase(work, cut_ceil(a->n, per), columns, sizeof(T) * (columns + (double)a->n * a->h * a->w));
}

FGD_PREPARE(unfold) { FGD_T_FN(unfold_prepare)(args_, work); }
FGD_PREPARE(fold) { FGD_T_FN(unfold_prepare)(args_, work); }

FGD_RUN(unfold)
{
    (void)phase, (void)context;
    const fgd_conv_args *a = args_;
    const int64_t columns = a->r * a->s * a->p * a->q, per = resize_per_unit(a->h * a->w + columns);
    for (int64_t i = begin * per; i < cut_min(a->n, end * per); i++)
        FGD_T_FN(unfold_plane)(a, (T *)ptr[0] + i * columns, (const T *)ptr[1] + i * a->h * a->w);
}

FGD_RUN(fold)
{
    (void)phase, (void)context;
    const fgd_conv_args *a = args_;
    const int64_t columns = a->r * a->s * a->p * a->q, per = resize_per_unit(a->h * a->w + columns);
    for (int64_t i = begin * per; i < cut_min(a->n, end * per); i++)
        FGD_T_FN(fold_plane)(a, (T *)ptr[0] + i * a->h * a->w, (const T *)ptr[1] + i * columns);
}

/* ---- resize -------------------------------------------------------------------------------- */

static void FGD_T_FN(resize_plane)(const fgd_resize_args *a, T *y, const T *x)
{
    const int64_t *rows = a->tail, *cols = a->tail + RESIZE_WORDS * a->p;
    for (int64_t p = 0; p < a->p; p++, rows += RESIZE_WORDS, y += a->q) {
        const T *x0 = x + rows[0] * a->w, *x1 = x + rows[1] * a->w;
        const T h1 = (T)resize_weight(rows[2]), h0 = 1 - h1;
        for (int64_t q = 0; q < a->q; q++) {
            const int64_t *col = cols + RESIZE_WORDS * q, j0 = col[0], j1 = col[1];
            if (!a->linear) {
                y[q] = x0[j0];
                continue;
            }
            const T w1 = (T)resize_weight(col[2]), w0 = 1 - w1;
            y[q] = h0 * (w0 * x0[j0] + w1 * x0[j1]) + h1 * (w0 * x1[j0] + w1 * x1[j1]);
        }
    }
}

static void FGD_T_FN(resize_plane_bwd)(const fgd_resize_args *a, T *dx, const T *dy)
{
    const int64_t *rows = a->tail, *cols = a->tail + RESIZE_WORDS * a->p;
    memset(dx, 0, sizeof(T) * (size_t)(a->h * a->w));
    for (int64_t p = 0; p < a->p; p++, rows += RESIZE_WORDS, dy += a->q) {
        T *dx0 = dx + rows[0] * a->w, *dx1 = dx + rows[1] * a->w;
        const T h1 = (T)resize_weight(rows[2]), h0 = 1 - h1;
        for (int64_t q = 0; q < a->q; q++) {
            const int64_t *col = cols + RESIZE_WORDS * q, j0 = col[0], j1 = col[1];
            if (!a->linear) {
                dx0[j0] += dy[q];
                continue;
            }
            const T w1 = (T)resize_weight(col[2]), w0 = 1 - w1;
            dx0[j0] += h0 * w0 * dy[q];
            dx0[j1] += h0 * w1 * dy[q];
            dx1[j0] += h1 * w0 * dy[q];
            dx1[j1] += h1 * w1 * dy[q];
        }
    }
}

static void FGD_T_FN(resize_prepare)(const fgd_resize_args *a, fgd_work *work)
{
    const double in = (double)a->planes * a->h * a->w, out = (double)a->planes * a->p * a->q;
    cut_one_phase(work, cut_ceil(a->planes, resize_per_unit(a->h * a->w + a->p * a->q)), 12 * out,
                  sizeof(T) * (in + out));
}

FGD_PREPARE(resize_fwd) { FGD_T_FN(resize_prepare)(args_, work); }
FGD_PREPARE(resize_bwd) { FGD_T_FN(resize_prepare)(args_, work); }

FGD_RUN(resize_fwd)
{
    (void)phase, (void)context;
    const fgd_resize_args *a = args_;
    const int64_t in = a->h * a->w, out = a->p * a->q, per = resize_per_unit(in + out);
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++)
        FGD_T_FN(resize_plane)(a, (T *)ptr[0] + i * out, (const T *)ptr[1] + i * in);
}

FGD_RUN(resize_bwd)
{
    (void)phase, (void)context;
    const fgd_resize_args *a = args_;
    const int64_t in = a->h * a->w, out = a->p * a->q, per = resize_per_unit(in + out);
    for (int64_t i = begin * per; i < cut_min(a->planes, end * per); i++)
        FGD_T_FN(resize_plane_bwd)(a, (T *)ptr[0] + i * in, (const T *)ptr[1] + i * out);
}
