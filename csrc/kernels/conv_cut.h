/* The geometry of a convolution, and how it is cut into work; both are functions of its arguments alone.
 *
 * Forward and backward-data are one kernel.  Along an axis both are
 *     y[phase + ostep * i] = sum over the taps of the phase of  w[tap] * x[istep * i + offset(tap)]
 * Forward: one phase, istep = stride, offset(t) = t * dilation - pad.
 * Backward-data (the y of which is dx, and the x dy): ostep = stride; a phase has the taps t for which
 * phase + pad - t * dilation is a multiple of the stride, and that quotient is the offset.  So nothing is scattered and
 * no inserted zero is multiplied.  In either case taps and offsets are arithmetic progressions.
 * (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.) */
#ifndef FASTGD_CONV_CUT_H
#define FASTGD_CONV_CUT_H
#include "cut.h"
#include "../gemm/gemm.h"

typedef struct conv_axis {
    int64_t outs, ins;                  /* sizes of y and x                                       */
    int64_t taps, ostep, istep;
    int64_t stride, dil, pad;
    int is_bwd;
} conv_axis;

/* The taps of one phase: first + i * step for i < count, at offsets from offset on by offset_step. */
typedef struct conv_taps {
    int64_t first, step, count, offset, offset_step;
    int64_t low, span;                  /* the smallest offset, and how far the largest is from it */
} conv_taps;

/* A piece of y: rows and columns [h0, h1) x [w0, w1), whole rows or a part of one. */
typedef struct conv_band {
    int64_t h0, h1, w0, w1;
} conv_band;

typedef struct conv_cut {
    conv_axis h, w;
    int is_bwd;
    int64_t n, groups, m, c;            /* m channels of y and c of x in a group                   */
    int64_t depth;                      /* c * taps                                                */
    int64_t panels, low, wide, width;   /* of w's rows, as in gemm_side                            */
    int64_t slices, per_slice;          /* of panels                                               */
    int64_t band_rows, h_bands, w_bands, band_cols;
    int64_t items, group, units;
    int64_t block_channels;             /* channels of x that a block of the depth touches at most */
    int64_t window_elems, panel_elems, tile_elems;
} conv_cut;

enum {
    CONV_MIN_ITEMS = 32,                /* enough to keep 16 threads busy                          */
    CONV_ITEM_WORK = 256 * 1024,        /* multiply-adds in an item that is worth handing out      */
    CONV_WINDOW = 64 * 1024,            /* elements of x that an item holds in the second-level cache */
    CONV_MAX_COLS = 1024
};

FGD_INLINE int64_t conv_gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t r = a % b;
        a = b, b = r;
    }
    return a;
}

FGD_INLINE int64_t conv_mod(int64_t a, int64_t b)
{
    return (a % b + b) % b;
}

FGD_INLINE int64_t conv_phases(const conv_axis *axis)
{
    return cut_min(axis->ostep, cut_max(axis->outs, 1));
}

static inline conv_taps conv_taps_of(const conv_axis *axis, int64_t phase)
{
    conv_taps t = { 0, 1, axis->taps, -axis->pad, axis->dil, 0, 0 };
    if (axis->is_bwd) {
        t.step = axis->stride / conv_gcd(axis->dil, axis->stride);
        const int64_t at = phase + axis->pad;
        while (t.first < t.step && conv_mod(at - t.first * axis->dil, axis->stride))
            t.first++;
        t.count = t.first < t.step && t.first < axis->taps ? (axis->taps - t.first + t.step - 1) / t.step : 0;
        t.offset = t.count ? (at - t.first * axis->dil) / axis->stride : 0;
        t.offset_step = -(t.step * axis->dil / axis->stride);
    }
    const int64_t last = t.offset + (t.count ? t.count - 1 : 0) * t.offset_step;
    t.low = cut_min(t.offset, last);
    t.span = cut_max(t.offset, last) - t.low;
    return t;
}

/* The i with from <= phase + ostep * i < to begin at this one. */
FGD_INLINE int64_t conv_first(const conv_axis *axis, int64_t phase, int64_t from)
{
    return from <= phase ? 0 : (from - phase + axis->ostep - 1) / axis->ostep;
}

static inline conv_axis conv_axis_of(int64_t x, int64_t y, int64_t taps, int64_t stride, int64_t pad, int64_t dil,
                                     int is_bwd)
{
    return (conv_axis){ is_bwd ? x : y, is_bwd ? y : x, taps, is_bwd ? stride : 1, is_bwd ? 1 : stride, stride, dil,
                        pad, is_bwd };
}

/* The most x rows or columns that `outs` neighbouring outputs read. */
FGD_INLINE int64_t conv_reach(const conv_axis *axis, int64_t outs)
{
    return axis->is_bwd ? outs / axis->ostep + 1 + (axis->taps - 1) * axis->dil / axis->stride + 1
                        : (outs - 1) * axis->istep + (axis->taps - 1) * axis->dil + 1;
}

/* One channel of x in each of several groups (depthwise): no product, see conv_direct.inc. */
FGD_INLINE int conv_is_direct(const fgd_conv_args *a)
{
    return a->groups > 1 && a->c == 1;
}

static inline conv_cut conv_cut_of(const fgd_conv_args *a, int is_bwd, gemm_tile_size tile, int64_t lanes)
{
    conv_cut cut = { .is_bwd = is_bwd, .n = a->n, .groups = a->groups };
    cut.h = conv_axis_of(a->h, a->p, a->r, a->stride_h, a->pad_h, a->dil_h, is_bwd);
    cut.w = conv_axis_of(a->w, a->q, a->s, a->stride_w, a->pad_w, a->dil_w, is_bwd);
    cut.m = is_bwd ? a->c : a->k;
    cut.c = is_bwd ? a->k : a->c;
    const int64_t taps = a->r * a->s;
    cut.depth = cut.c * taps;
    cut.panels = cut_max(1, cut_ceil(cut.m, tile.rows));
    cut.low = cut.m / cut.panels;
    cut.wide = cut.m % cut.panels;
    cut.width = cut.low + (cut.wide > 0);
    cut.block_channels = cut_min(cut.c, taps > 1 ? FGD_GEMM_KC / taps + 2 : FGD_GEMM_KC + 2);
    if (is_bwd)                         /* a phase may have one tap only                           */
        cut.block_channels = cut_min(cut.c, FGD_GEMM_KC + 2);

    /* Rows in a band: as many as the window allows, fewer if there would be too few items. */
    const double work = (double)cut.m * cut.depth * (double)a->p * (double)a->q;
    const int64_t outs_h = cut.h.outs, outs_w = cut.w.outs;
    cut.w_bands = cut_max(1, cut_ceil(outs_w, CONV_MAX_COLS));
    cut.band_cols = cut_max(1, cut_ceil(outs_w, cut.w_bands));
    cut.band_rows = cut.w_bands > 1 ? 1 : cut_max(1, outs_h);
    const int64_t per_row = cut.block_channels * conv_reach(&cut.w, cut.band_cols);
    while (cut.band_rows > 1 && per_row * conv_reach(&cut.h, cut.band_rows) > CONV_WINDOW)
        cut.band_rows = (cut.band_rows + 1) / 2;
    const int64_t images = cut_max(1, cut.n * cut.groups);
    const int64_t wanted = cut_min(cut_ceil(CONV_MIN_ITEMS, images), cut_max(1, (int64_t)(work / CONV_ITEM_WORK)));
    cut.band_rows = cut_max(1, cut_min(cut.band_rows, cut_ceil(cut_max(1, outs_h), wanted)));
    cut.h_bands = cut_max(1, cut_ceil(outs_h, cut.band_rows));
    const int64_t bands = cut.h_bands * cut.w_bands;
    cut.slices = cut_min(cut.panels, cut_max(1, cut_min(CONV_MIN_ITEMS / (images * bands),
                                                        (int64_t)(work / bands / CONV_ITEM_WORK))));
    if (conv_is_direct(a))
        cut.slices = 1;
    cut.per_slice = cut_ceil(cut.panels, cut.slices);
    cut.slices = cut_ceil(cut.panels, cut.per_slice);
    cut.items = cut.n * cut.groups * cut.slices * bands;
    const double each = work / (double)(bands * cut.slices);
    cut.group = cut_max(1, (int64_t)(CONV_ITEM_WORK / (each + 4096.0)));
    cut.units = cut_ceil(cut.items, cut.group);
    if (cut.m == 0 || outs_h == 0 || outs_w == 0)
        cut.items = cut.units = 0;

    cut.window_elems = cut.block_channels * conv_reach(&cut.h, cut.band_rows)
                       * (conv_reach(&cut.w, cut.band_cols) + cut.w.istep) + 2 * lanes + tile.cols;
    cut.panel_elems = tile.cols * FGD_GEMM_KC + 2 * lanes;
    const int strided = cut.h.ostep > 1 || cut.w.ostep > 1;
    cut.tile_elems = strided ? cut.per_slice * cut.width * (cut.band_rows / cut.h.ostep + 1)
                               * (cut.band_cols / cut.w.ostep + 1) : 0;
    return cut;
}

typedef struct conv_item {
    int64_t n, group, slice;
    conv_band band;
} conv_item;

static inline conv_item conv_item_at(const conv_cut *cut, int64_t index)
{
    conv_item item;
    const int64_t w = index % cut->w_bands * cut->band_cols;
    index /= cut->w_bands;
    const int64_t h = index % cut->h_bands * cut->band_rows;
    index /= cut->h_bands;
    item.slice = index % cut->slices;
    index /= cut->slices;
    item.group = index % cut->groups;
    item.n = index / cut->groups;
    item.band = (conv_band){ h, cut_min(cut->h.outs, h + cut->band_rows), w,
                             cut_min(cut->w.outs, w + cut->band_cols) };
    return item;
}

/* Neighbouring pixels as contiguous reads of a window: as many as a panel has columns at most. */
typedef struct conv_reads {
    int64_t n;
    struct {
        int64_t to, from;
    } read[64];
} conv_reads;

/* How backward-weights is cut; see conv_bwd_w.inc. */
typedef struct wgrad_cut {
    int64_t block_images, block_rows, block_cols;
    int64_t blocks_h, blocks_w, blocks; /* blocks: of all images                                   */
    int64_t chunks, k_slices, c_slices, per_c_slice;
    int64_t rows;                       /* of the left operand: c * r * s                          */
    int rows_are_taps;
    int64_t units, sums_elems, window_elems, panel_elems;
    int64_t folds;
} wgrad_cut;

enum { WGRAD_UNITS = 32 };

typedef struct wgrad_block {
    int64_t n0, n1, p0, p1, q0, q1;
} wgrad_block;
#endif
