/* Convolution: forward, backward-data and backward-weights, float32 and float64, as matrix products over windows that
 * are copied piece by piece; no im2col matrix ever exists in memory.
 *
 *   fwd    y[n, k, p, q]  = sum over (c, r, s) of w[k, c, r, s] * x[n, c, p * stride - pad + r * dil, ...]
 *   bwd_x  dx[n, c, h, w] = sum over (k, r, s) of w[k, c, r, s] * dy[n, k, (h + pad - r * dil) / stride, ...]
 *   bwd_w  dw[k, c, r, s] = sum over (n, p, q) of dy[n, k, p, q] * x[n, c, p * stride - pad + r * dil, ...]
 *
 * THE CANONICAL ORDER.  fwd and bwd_x are products over the depth (channel, r, s), last index fastest, taps that meet
 * no element of dy left out and those that meet the margin counted as 0 * w: the order of gemm.h.  So a convolution has
 * the bits of unfold and a matrix product.  bwd_w goes over blocks of pixels (conv_bwd_w.inc); its order is stated there.
 *
 * A work item is a band of rows of one image.  For each block of the depth it copies the window of x that it reads, with
 * its margin, into thread scratch (conv_window.inc), packs panels of tile.cols pixels from it, each of which is a few
 * contiguous reads, and runs the matrix product's micro-kernels with w as the left operand, packed once for all.
 * Layout NCHW inside and outside: pixels are the columns of the product, so that no layout has to be changed.
 * (Chetlur et al., "cuDNN", 2014, for the implicit product; the panels are those of BLIS.)
 *
 * One channel of x per group (depthwise) has no product worth the name: conv_direct.inc. */
#include "conv_cut.h"
#include "../gemm/panels.h"
#include "tile.h"
#include "conv_window.inc"

/* ---- epilogue ---------------------------------------------------------------------------- */

typedef struct FGD_T_FN(conv_job) {
    const fgd_conv_args *a;
    conv_cut cut;
    T *y, *packed;                      /* packed: shared, the panels of w                         */
    const T *x, *w;
    T *window, *panel, *tile;           /* thread scratch                                          */
    void *tile_scratch;
    int has_epilogue;
    tile_program epilogue;
    void *const *outputs;
    const void *inputs[TILE_MAX_OPERANDS];
} FGD_T_FN(conv_job);

/* The epilogue sees y as (n, channels, pixels). */
static void FGD_T_FN(conv_parse_epilogue)(const fgd_conv_args *a, const conv_cut *cut, tile_program *p)
{
    const int64_t shape[3] = { cut->n, cut->groups * cut->m, cut->h.outs * cut->w.outs };
    tile_program_parse(p, 3, shape, a->tail);
}

static int64_t FGD_T_FN(conv_round)(int64_t elems)
{
    return (elems * (int64_t)sizeof(T) + 63) & ~(int64_t)63;
}

static void FGD_T_FN(conv_job_init)(FGD_T_FN(conv_job) *job, const fgd_conv_args *a, int is_bwd, void *const *ptr,
                                    const fgd_context *context)
{
    job->a = a;
    job->cut = conv_cut_of(a, is_bwd, panel_tile_of(), LANES);
    job->y = ptr[0];
    job->x = ptr[1];
    job->w = ptr[2];
    job->packed = context->shared;
    char *scratch = context->scratch;
    job->window = (T *)scratch;
    job->panel = (T *)(scratch += FGD_T_FN(conv_round)(job->cut.window_elems));
    job->tile = (T *)(scratch += FGD_T_FN(conv_round)(job->cut.panel_elems));
    job->tile_scratch = scratch + FGD_T_FN(conv_round)(job->cut.tile_elems);
    job->has_epilogue = a->n_tail > 0;
    if (!job->has_epilogue)
        return;
    FGD_T_FN(conv_parse_epilogue)(a, &job->cut, &job->epilogue);
    job->outputs = ptr + 3;
    job->inputs[0] = job->y;
    for (int i = 1; i < job->epilogue.n_inputs; i++)
        job->inputs[i] = job->outputs[job->epilogue.n_outputs + i - 1];
}

static void FGD_T_FN(conv_finish)(const FGD_T_FN(conv_job) *job, int64_t n, int64_t channel, int64_t channels,
                                  const conv_band *band)
{
    if (!job->has_epilogue)
        return;
    const int64_t outs_w = job->cut.w.outs;
    const int64_t coord[3] = { n, channel, band->h0 * outs_w + band->w0 };
    const int64_t cols = (band->h1 - band->h0 - 1) * outs_w + band->w1 - band->w0;
    tile_run_block(&job->epilogue, job->outputs, job->inputs, coord, channels, cols, job->tile_scratch);
}

/* ---- w ------------------------------------------------------------------------------------ */

FGD_INLINE int64_t FGD_T_FN(conv_panel_start)(const conv_cut *cut, int64_t p)
{
    return p * cut->low + cut_min(p, cut->wide);
}

/* Where the panels of a phase begin: those of the phases before have as many steps as they have taps. */
static int64_t FGD_T_FN(conv_packed_at)(const conv_cut *cut, int64_t group, int64_t ph, int64_t pw)
{
    int64_t before_h = 0, before_w = 0;
    for (int64_t i = 0; i < ph; i++)
        before_h += conv_taps_of(&cut->h, i).count;
    for (int64_t i = 0; i < pw; i++)
        before_w += conv_taps_of(&cut->w, i).count;
    const int64_t taps = before_h * cut->w.taps + conv_taps_of(&cut->h, ph).count * before_w;
    return cut->panels * cut->width * (group * cut->depth + cut->c * taps);
}

/* One panel of one phase: at[k * width + i] = w of output channel start + i and depth k. */
static void FGD_T_FN(conv_pack_w)(const FGD_T_FN(conv_job) *job, int64_t group, int64_t ph, int64_t pw, int64_t panel)
{
    const conv_cut *cut = &job->cut;
    const conv_taps th = conv_taps_of(&cut->h, ph), tw = conv_taps_of(&cut->w, pw);
    const int64_t taps = job->a->r * job->a->s, depth = cut->c * th.count * tw.count;
    const int64_t start = FGD_T_FN(conv_panel_start)(cut, panel);
    const int64_t rows = FGD_T_FN(conv_panel_start)(cut, panel + 1) - start;
    T *dst = job->packed + FGD_T_FN(conv_packed_at)(cut, group, ph, pw) + panel * cut->width * depth;
    /* w[k, c, r, s]: forward, rows are k and the depth begins with c; backward, the other way round. */
    const int64_t by_row = cut->is_bwd ? taps : cut->c * taps;
    const int64_t by_channel = cut->is_bwd ? cut->m * taps : taps;
    const T *w = job->w + group * cut->m * cut->c * taps + start * by_row;
    for (int64_t c = 0; c < cut->c; c++)
        for (int64_t r = 0; r < th.count; r++)
            for (int64_t s = 0; s < tw.count; s++, dst += cut->width) {
                const T *src = w + c * by_channel + (th.first + r * th.step) * job->a->s + tw.first + s * tw.step;
                for (int64_t i = 0; i < rows; i++)
                    dst[i] = src[i * by_row];
            }
}

static void FGD_T_FN(conv_pack_all)(const FGD_T_FN(conv_job) *job, int64_t begin, int64_t end)
{
    const conv_cut *cut = &job->cut;
    const int64_t wide = conv_phases(&cut->w), phases = conv_phases(&cut->h) * wide;
    for (int64_t u = begin; u < end; u++) {
        const int64_t phase = u / cut->panels % phases;
        FGD_T_FN(conv_pack_w)(job, u / cut->panels / phases, phase / wide, phase % wide, u % cut->panels);
    }
}

/* ---- panels of pixels --------------------------------------------------------------------- */

/* Columns [t0, t1) of a piece of y whose rows have `cols` columns, as contiguous reads of the window, of a vector at most. */
static void FGD_T_FN(conv_reads_of)(conv_reads *reads, int64_t t0, int64_t t1, int64_t cols, int64_t row_step)
{
    reads->n = 0;
    for (int64_t t = t0; t < t1;) {
        const int64_t row = t / cols, end = cut_min(cut_min(t1, (row + 1) * cols), t + LANES);
        reads->read[reads->n].to = t - t0;
        reads->read[reads->n++].from = row * row_step + t - row * cols;
        t = end;
    }
}

/* One step of the depth.  Whole vectors are stored: what they spill is overwritten by the next read or step. */
FGD_INLINE void FGD_T_FN(conv_pack_step)(T *dst, const T *src, const conv_reads *reads)
{
    for (int64_t i = 0; i < reads->n; i++)
        V(store)(dst + reads->read[i].to, V(load)(src + reads->read[i].from));
}

/* Depth [k0, k1) of a panel; the window holds the channels from c0 on.  n: the number of reads, a constant to the
 * compiler, or 0. */
FGD_INLINE void FGD_T_FN(conv_pack_depth)(T *dst, int64_t width, const FGD_T_FN(conv_window) *win, const conv_taps *th,
                                          const conv_taps *tw, int64_t c0, int64_t k0, int64_t k1,
                                          const conv_reads *reads, const int n)
{
    const int64_t taps = th->count * tw->count;
    int64_t c = k0 / taps - c0, r = k0 % taps / tw->count, s = k0 % tw->count;
    int64_t from[6] = { 0 }, to[6] = { 0 };
    for (int i = 0; i < n; i++)
        from[i] = reads->read[i].from, to[i] = reads->read[i].to;
    while (k0 < k1) {
        const T *row = win->at + c * win->channel + (th->offset + r * th->offset_step - th->low) * win->pitch;
        for (; s < tw->count && k0 < k1; s++, k0++, dst += width) {
            const T *src = row + FGD_T_FN(conv_window_col)(win, tw, s);
            if (n == 0)
                FGD_T_FN(conv_pack_step)(dst, src, reads);
            for (int i = 0; i < n; i++)
                V(store)(dst + to[i], V(load)(src + from[i]));
        }
        s = 0;
        if (++r == th->count)
            r = 0, c++;
    }
}

static void FGD_T_FN(conv_pack_panel)(T *dst, int64_t width, const FGD_T_FN(conv_window) *win, const conv_taps *th,
                                      const conv_taps *tw, int64_t c0, int64_t k0, int64_t k1,
                                      const conv_reads *reads)
{
#define PACK(n) FGD_T_FN(conv_pack_depth)(dst, width, win, th, tw, c0, k0, k1, reads, n)
    switch (reads->n) {
    case 1: PACK(1); break;
    case 2: PACK(2); break;
    case 3: PACK(3); break;
    case 4: PACK(4); break;
    case 5: PACK(5); break;
    case 6: PACK(6); break;
    default: PACK(0);
    }
#undef PACK
}

/* ---- one phase of one item ---------------------------------------------------------------- */

typedef struct FGD_T_FN(conv_piece) {
    int64_t ph, pw, i0, i1, j0, j1;     /* outputs [i0, i1) x [j0, j1) of the phase               */
    T *out;
    int64_t out_rs;                     /* from one channel to the next                            */
} FGD_T_FN(conv_piece);

/* out[panels p0 .. p1, pixels] = sum over the depth. */
static void FGD_T_FN(conv_multiply)(const FGD_T_FN(conv_job) *job, const conv_item *item, int64_t p0, int64_t p1,
                                    const FGD_T_FN(conv_piece) *piece)
{
    const conv_cut *cut = &job->cut;
    const gemm_tile_size tile = panel_tile_of();
    const conv_taps th = conv_taps_of(&cut->h, piece->ph), tw = conv_taps_of(&cut->w, piece->pw);
    const int64_t taps = th.count * tw.count, depth = cut->c * taps;
    const int64_t cols = piece->j1 - piece->j0, pixels = (piece->i1 - piece->i0) * cols;
    const int64_t row0 = FGD_T_FN(conv_panel_start)(cut, p0);
    const T *a = job->packed + FGD_T_FN(conv_packed_at)(cut, item->group, piece->ph, piece->pw);
    const T *x = job->x + (item->n * cut->groups + item->group) * cut->c * cut->h.ins * cut->w.ins;
    const FGD_T_FN(conv_window) win = FGD_T_FN(conv_window_of)(job->window, cut, &th, &tw, piece->i0, piece->i1,
                                                             piece->j0, piece->j1);
    for (int64_t k0 = 0; k0 == 0 || k0 < depth; k0 += FGD_GEMM_KC) {
        const int64_t k1 = cut_min(depth, k0 + FGD_GEMM_KC);
        const int64_t c0 = taps ? k0 / taps : 0, c1 = taps ? cut_ceil(k1, taps) : 0;
        FGD_T_FN(conv_window_fill)(&win, x, c0, c1, cut->h.ins, cut->w.ins);
        for (int64_t t = 0; t < pixels; t += tile.cols) {
            const int64_t t1 = cut_min(pixels, t + tile.cols);
            conv_reads reads;
            FGD_T_FN(conv_reads_of)(&reads, t, t1, cols, cut->h.istep * win.pitch);
            if (k1 > k0)
                FGD_T_FN(conv_pack_panel)(job->panel, tile.cols, &win, &th, &tw, c0, k0, k1, &reads);
            for (int64_t p = p0; p < p1; p++) {
                const int64_t row = FGD_T_FN(conv_panel_start)(cut, p);
                const int64_t rows = FGD_T_FN(conv_panel_start)(cut, p + 1) - row;
                panel_multiply(rows, t1 - t, k1 - k0, a + cut->width * (p * depth + k0), 1, cut->width, job->panel,
                          tile.cols, piece->out + (row - row0) * piece->out_rs + t, piece->out_rs, k0 > 0);
            }
        }
    }
}

static void FGD_T_FN(conv_run_item)(const FGD_T_FN(conv_job) *job, const conv_item *item)
{
    const conv_cut *cut = &job->cut;
    const conv_band *band = &item->band;
    const int64_t p0 = item->slice * cut->per_slice, p1 = cut_min(cut->panels, p0 + cut->per_slice);
    const int64_t m0 = FGD_T_FN(conv_panel_start)(cut, p0), m1 = FGD_T_FN(conv_panel_start)(cut, p1);
    const int64_t outs_w = cut->w.outs, plane = cut->h.outs * outs_w;
    T *y = job->y + ((item->n * cut->groups + item->group) * cut->m + m0) * plane;
    for (int64_t ph = 0; ph < conv_phases(&cut->h); ph++)
        for (int64_t pw = 0; pw < conv_phases(&cut->w); pw++) {
            FGD_T_FN(conv_piece) piece = { ph, pw, conv_first(&cut->h, ph, band->h0), conv_first(&cut->h, ph, band->h1),
                                         conv_first(&cut->w, pw, band->w0), conv_first(&cut->w, pw, band->w1),
                                         y + band->h0 * outs_w + band->w0, plane };
            if (piece.i1 <= piece.i0 || piece.j1 <= piece.j0)
                continue;
            if (cut->h.ostep == 1 && cut->w.ostep == 1) {
                FGD_T_FN(conv_multiply)(job, item, p0, p1, &piece);
                continue;
            }
            const int64_t cols = piece.j1 - piece.j0;
            piece.out = job->tile;
            piece.out_rs = (piece.i1 - piece.i0) * cols;
            FGD_T_FN(conv_multiply)(job, item, p0, p1, &piece);
            for (int64_t m = 0; m < m1 - m0; m++)
                for (int64_t i = piece.i0; i < piece.i1; i++) {
                    const T *src = job->tile + m * piece.out_rs + (i - piece.i0) * cols;
                    T *dst = y + m * plane + (ph + i * cut->h.ostep) * outs_w + pw + piece.j0 * cut->w.ostep;
                    for (int64_t j = 0; j < cols; j++)
                        dst[j * cut->w.ostep] = src[j];
                }
        }
    FGD_T_FN(conv_finish)(job, item->n, item->group * cut->m + m0, m1 - m0, band);
}

#include "conv_direct.inc"

static void FGD_T_FN(conv_prepare)(const fgd_conv_args *a, int is_bwd, fgd_work *work)
{
    const conv_cut cut = conv_cut_of(a, is_bwd, panel_tile_of(), LANES);
    const double macs = (double)cut.n * cut.groups * cut.m * cut.depth * (double)a->p * (double)a->q;
    const double bytes = sizeof(T) * (double)cut.n * cut.groups
                         * ((double)a->c * a->h * a->w + (double)a->k * a->p * a->q);
    int64_t shared = 0;
    if (conv_is_direct(a)) {
        cut_one_phase(work, FGD_T_FN(direct_units)(&cut), 2 * macs, bytes);
        work->thread_bytes = FGD_T_FN(direct_scratch)(&cut);
    } else {
        shared = FGD_T_FN(conv_round)(cut.groups * cut.panels * cut.width * cut.depth);
        const int64_t packs = cut.groups * conv_phases(&cut.h) * conv_phases(&cut.w) * cut.panels;
        cut_two_phases(work, packs, cut.units, shared, 2 * macs, bytes);
        work->thread_bytes = FGD_T_FN(conv_round)(cut.window_elems) + FGD_T_FN(conv_round)(cut.panel_elems)
                             + FGD_T_FN(conv_round)(cut.tile_elems);
    }
    if (a->n_tail > 0) {
        tile_program epilogue;
        FGD_T_FN(conv_parse_epilogue)(a, &cut, &epilogue);
        work->thread_bytes += tile_scratch_bytes(&epilogue);
    }
}

static void FGD_T_FN(conv_run)(const fgd_conv_args *a, int is_bwd, void *const *ptr, int phase, int64_t begin,
                               int64_t end, fgd_context *context)
{
    FGD_T_FN(conv_job) job;
    FGD_T_FN(conv_job_init)(&job, a, is_bwd, ptr, context);
    if (conv_is_direct(a)) {
        FGD_T_FN(direct_run)(&job, begin, end);
    } else if (phase == 0) {
        FGD_T_FN(conv_pack_all)(&job, begin, end);
    } else {
        const int64_t last = cut_min(job.cut.items, end * job.cut.group);
        for (int64_t index = begin * job.cut.group; index < last; index++) {
            const conv_item item = conv_item_at(&job.cut, index);
            FGD_T_FN(conv_run_item)(&job, &item);
        }
    }
}

FGD_PREPARE(conv_fwd) { FGD_T_FN(conv_prepare)(args_, 0, work); }
FGD_PREPARE(conv_bwd_x) { FGD_T_FN(conv_prepare)(args_, 1, work); }
FGD_RUN(conv_fwd) { FGD_T_FN(conv_run)(args_, 0, ptr, phase, begin, end, context); }
FGD_RUN(conv_bwd_x) { FGD_T_FN(conv_run)(args_, 1, ptr, phase, begin, end, context); }

#include "conv_bwd_w.inc"

#undef panel_tile_of
#undef panel_multiply
#undef panel_multiply_runs
#undef panel_pack
