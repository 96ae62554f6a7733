/* Recurrent layers over a whole sequence: Elman (tanh or ReLU), LSTM and GRU, forward and backward.
 *
 * Everything that does not depend on the recurrence is made by ordinary products outside: gx = x W_ih^T + b_ih
 * before, dx and the weight gradients from dgx and dgh behind.  What is left is, for each step,
 *
 *   a = h' W_hh^T + b_hh                                        h' is the state before the step
 *   Elman  h = act(gx + a)
 *   LSTM   i, f, o = sigmoid(gx + a), g = tanh(gx + a);   c = f c' + i g;   h = o tanh(c)       gates i f g o
 *   GRU    r, z = sigmoid(gx + a);  n = tanh(gx_n + r a_n);  h = n + z (h' - n)                  gates r z n
 *
 * Elman 1990; Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014 in the form
 * that applies r behind the product, which is the one of cuDNN and torch.
 *
 * A row of the batch never meets another one, so a unit is a few rows over the whole sequence: no barrier between steps.
 * W_hh is packed once, in phase 0, and read from the cache at each step. */
#include <math.h>
#include <string.h>
#include "cut.h"
#include "../gemm/panels.h"

#ifndef FASTGD_RECURRENT_CUT
#define FASTGD_RECURRENT_CUT

enum { REC_TANH = 0, REC_RELU, REC_LSTM, REC_GRU };

static inline int64_t rec_gates(int64_t mode) { return mode == REC_LSTM ? 4 : mode == REC_GRU ? 3 : 1; }

/* Rows of the batch in a unit: enough to reuse a packed panel, few enough to keep several threads busy. */
static inline int64_t rec_rows(int64_t batch) { return batch <= 32 ? 8 : 16; }

/* Where step t of row b lies in a sequence, in vectors. */
FGD_INLINE int64_t rec_at(const fgd_recurrent_args *a, int64_t t, int64_t b)
{
    return a->batch_first ? b * a->steps + t : t * a->batch + b;
}

FGD_INLINE int64_t rec_step(const fgd_recurrent_args *a, int64_t s)
{
    return a->reverse ? a->steps - 1 - s : s;
}
#endif

#define R(name) FGD_T_FN(FGD_CAT(rec_, name))

/* ---- the product with W_hh --------------------------------------------------------------------- */

/* Panels of the packed n columns, k steps each. */
static int64_t R(panels)(int64_t n)
{
    return cut_ceil(n, panel_tile_of().cols);
}

static int64_t R(packed_bytes)(int64_t n, int64_t k)
{
    return R(panels)(n) * panel_tile_of().cols * k * (int64_t)sizeof(T) + 64;    /* 64: panel_pack spills */
}

/* Panels [begin, end) of b[p, j] = w[j * across + p * along], p < k, j < n. */
static void R(pack)(T *packed, const T *w, int64_t across, int64_t along, int64_t n, int64_t k, int64_t begin, int64_t end)
{
    const int64_t cols = panel_tile_of().cols;
    for (int64_t p = begin; p < end; p++)
        panel_pack(packed + p * cols * k, cols, w + p * cols * across, cut_min(cols, n - p * cols), across, k, along);
}

/* c[rows, n] = a[rows, k] @ packed, c contiguous. */
static void R(multiply)(T *c, const T *a, int64_t a_rs, int64_t rows, const T *packed, int64_t n, int64_t k)
{
    const gemm_tile_size tile = panel_tile_of();
    const int64_t height = cut_ceil(rows, cut_ceil(rows, tile.rows));
    for (int64_t j = 0; j < n; j += tile.cols) {
        const T *panel = packed + j * k;
        const int64_t cols = cut_min(tile.cols, n - j);
        for (int64_t i = 0; i < rows; i += height)
            for (int64_t p = 0; p < k; p += FGD_GEMM_KC)
                panel_multiply(cut_min(height, rows - i), cols, cut_min(FGD_GEMM_KC, k - p), a + i * a_rs + p, a_rs, 1,
                               panel + p * tile.cols, tile.cols, c + i * n + j, n, p > 0);
    }
}

/* ---- one step of one row ------------------------------------------------------------------------- */

FGD_INLINE vec R(load)(const T *p, int64_t n) { return n >= LANES ? V(load)(p) : V(load_n)(p, n); }
FGD_INLINE void R(store)(T *p, vec v, int64_t n)
{
    if (n >= LANES)
        V(store)(p, v);
    else
        V(store_n)(p, v, n);
}
/* x + (a + b), in the order of the formulas; no b without a bias. */
FGD_INLINE vec R(sum)(const T *x, const T *a, const T *b, int64_t n)
{
    vec v = R(load)(a, n);
    return V(add)(R(load)(x, n), b ? V(add)(v, R(load)(b, n)) : v);
}

static void R(fwd_elman)(const fgd_recurrent_args *g, T *h, const T *gx, const T *a, const T *bias)
{
    for (int64_t i = 0; i < g->hidden; i += LANES) {
        const int64_t n = g->hidden - i;
        vec v = R(sum)(gx + i, a + i, bias ? bias + i : NULL, n);
        R(store)(h + i, g->mode == REC_RELU ? V(max)(V(zero)(), v) : V(tanh)(v), n);
    }
}

static void R(fwd_lstm)(int64_t hidden, T *h, T *c, T *gates, const T *gx, const T *a, const T *bias, const T *c_before)
{
    for (int64_t i = 0; i < hidden; i += LANES) {
        const int64_t n = hidden - i;
        vec gate[4];
        for (int64_t q = 0; q < 4; q++) {
            const int64_t at = q * hidden + i;
            vec v = R(sum)(gx + at, a + at, bias ? bias + at : NULL, n);
            gate[q] = q == 2 ? V(tanh)(v) : V(sigmoid)(v);
            R(store)(gates + at, gate[q], n);
        }
        vec cell = V(add)(V(mul)(gate[1], R(load)(c_before + i, n)), V(mul)(gate[0], gate[2]));
        R(store)(c + i, cell, n);
        R(store)(h + i, V(mul)(gate[3], V(tanh)(cell)), n);
    }
}

/* inner: a_n + b_n, which the derivative needs. */
static void R(fwd_gru)(int64_t hidden, T *h, T *inner, T *gates, const T *gx, const T *a, const T *bias, const T *h_before)
{
    for (int64_t i = 0; i < hidden; i += LANES) {
        const int64_t n = hidden - i, z_at = hidden + i, n_at = 2 * hidden + i;
        vec r = V(sigmoid)(R(sum)(gx + i, a + i, bias ? bias + i : NULL, n));
        vec z = V(sigmoid)(R(sum)(gx + z_at, a + z_at, bias ? bias + z_at : NULL, n));
        vec a_n = R(load)(a + n_at, n);
        if (bias)
            a_n = V(add)(a_n, R(load)(bias + n_at, n));
        vec fresh = V(tanh)(V(add)(R(load)(gx + n_at, n), V(mul)(r, a_n)));
        R(store)(inner + i, a_n, n);
        R(store)(gates + i, r, n);
        R(store)(gates + z_at, z, n);
        R(store)(gates + n_at, fresh, n);
        R(store)(h + i, V(add)(fresh, V(mul)(z, V(sub)(R(load)(h_before + i, n), fresh))), n);
    }
}

/* (1 - s) s dy */
FGD_INLINE vec R(through_sigmoid)(vec dy, vec s) { return V(mul)(V(mul)(dy, s), V(sub)(V(set1)(1), s)); }
FGD_INLINE vec R(through_tanh)(vec dy, vec t) { return V(mul)(dy, V(fnma)(t, t, V(set1)(1))); }

/* dh: the gradient that comes from the later steps, replaced by nothing here; dy may be NULL. */
FGD_INLINE vec R(dh_of)(const T *dh, const T *dy, int64_t i, int64_t n)
{
    vec v = R(load)(dh + i, n);
    return dy ? V(add)(R(load)(dy + i, n), v) : v;
}

static void R(bwd_elman)(const fgd_recurrent_args *g, T *dg, const T *dh, const T *dy, const T *h)
{
    for (int64_t i = 0; i < g->hidden; i += LANES) {
        const int64_t n = g->hidden - i;
        vec d = R(dh_of)(dh, dy, i, n), y = R(load)(h + i, n);
        d = g->mode == REC_RELU ? V(keep)(V(mask_not)(V(le)(y, V(zero)())), d) : R(through_tanh)(d, y);
        R(store)(dg + i, d, n);
    }
}

/* dc: the gradient of the cell behind the step on entry, before it on return. */
static void R(bwd_lstm)(int64_t hidden, T *dg, T *dc, const T *dh, const T *dy, const T *gates, const T *c,
                        const T *c_before)
{
    for (int64_t i = 0; i < hidden; i += LANES) {
        const int64_t n = hidden - i;
        vec gi = R(load)(gates + i, n), gf = R(load)(gates + hidden + i, n);
        vec gg = R(load)(gates + 2 * hidden + i, n), go = R(load)(gates + 3 * hidden + i, n);
        vec t = V(tanh)(R(load)(c + i, n)), d = R(dh_of)(dh, dy, i, n);
        vec cell = V(add)(R(load)(dc + i, n), R(through_tanh)(V(mul)(d, go), t));
        R(store)(dg + i, R(through_sigmoid)(V(mul)(cell, gg), gi), n);
        R(store)(dg + hidden + i, R(through_sigmoid)(V(mul)(cell, R(load)(c_before + i, n)), gf), n);
        R(store)(dg + 2 * hidden + i, R(through_tanh)(V(mul)(cell, gi), gg), n);
        R(store)(dg + 3 * hidden + i, R(through_sigmoid)(V(mul)(d, t), go), n);
        R(store)(dc + i, V(mul)(cell, gf), n);
    }
}

/* direct: the part of the gradient of h' that does not go through the product. */
static void R(bwd_gru)(int64_t hidden, T *dgx, T *dgh, T *direct, const T *dh, const T *dy, const T *gates,
                       const T *inner, const T *h_before)
{
    for (int64_t i = 0; i < hidden; i += LANES) {
        const int64_t n = hidden - i, z_at = hidden + i, n_at = 2 * hidden + i;
        vec r = R(load)(gates + i, n), z = R(load)(gates + z_at, n), fresh = R(load)(gates + n_at, n);
        vec d = R(dh_of)(dh, dy, i, n);
        vec dn = R(through_tanh)(V(fnma)(d, z, d), fresh);
        vec dz = R(through_sigmoid)(V(mul)(d, V(sub)(R(load)(h_before + i, n), fresh)), z);
        vec dr = R(through_sigmoid)(V(mul)(dn, R(load)(inner + i, n)), r);
        R(store)(dgx + i, dr, n), R(store)(dgh + i, dr, n);
        R(store)(dgx + z_at, dz, n), R(store)(dgh + z_at, dz, n);
        R(store)(dgx + n_at, dn, n), R(store)(dgh + n_at, V(mul)(dn, r), n);
        R(store)(direct + i, V(mul)(d, z), n);
    }
}

/* ---- forward --------------------------------------------------------------------------------------- */

/* Phase 0 packs W_hh, phase 1 does the rows. */
static void R(prepare)(const fgd_recurrent_args *a, int64_t n, int64_t k, int64_t row_elems, double sequences, fgd_work *work)
{
    const double rows = (double)a->steps * (double)a->batch;
    const int64_t units = cut_max(1, cut_ceil(a->batch, rec_rows(a->batch)));
    cut_two_phases(work, R(panels)(n), units, R(packed_bytes)(n, k), rows * (2.0 * (double)n * (double)k + 30.0 * (double)a->hidden),
                   ((double)n * (double)k + rows * sequences * (double)a->hidden) * sizeof(T));
    work->thread_bytes = rec_rows(a->batch) * row_elems * (int64_t)sizeof(T);
}

FGD_PREPARE(recurrent_fwd)
{
    const fgd_recurrent_args *a = args_;
    const int64_t gates = rec_gates(a->mode) * a->hidden;
    R(prepare)(a, gates, a->hidden, gates, (double)(2 * rec_gates(a->mode) + 2), work);
}

/* y h_n c_n gates extra, gx h_0 c_0 w [b] */
FGD_RUN(recurrent_fwd)
{
    const fgd_recurrent_args *a = args_;
    const int64_t H = a->hidden, G = rec_gates(a->mode) * H, rows = rec_rows(a->batch);
    T *y = ptr[0], *h_n = ptr[1], *c_n = ptr[2], *gates = ptr[3], *extra = ptr[4], *packed = context->shared;
    const T *gx = ptr[5], *h_0 = ptr[6], *c_0 = ptr[7], *w = ptr[8], *bias = a->bias ? ptr[9] : NULL;
    if (phase == 0) {
        R(pack)(packed, w, H, 1, G, H, begin, end);
        return;
    }
    T *product = context->scratch;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t b0 = unit * rows, b1 = cut_min(b0 + rows, a->batch);
        for (int64_t s = 0; s < a->steps && b0 < b1; s++) {
            const int64_t t = rec_step(a, s), before = s ? rec_step(a, s - 1) : 0;
            const T *h_before = s ? y + rec_at(a, before, b0) * H : h_0 + b0 * H;
            const int64_t stride = s && a->batch_first ? a->steps * H : H;
            R(multiply)(product, h_before, stride, b1 - b0, packed, G, H);
            for (int64_t b = b0; b < b1; b++) {
                const int64_t at = rec_at(a, t, b);
                const T *row = product + (b - b0) * G;
                if (a->mode == REC_LSTM)
                    R(fwd_lstm)(H, y + at * H, extra + at * H, gates + at * G, gx + at * G, row, bias,
                                s ? extra + rec_at(a, before, b) * H : c_0 + b * H);
                else if (a->mode == REC_GRU)
                    R(fwd_gru)(H, y + at * H, extra + at * H, gates + at * G, gx + at * G, row, bias,
                               h_before + (b - b0) * stride);
                else
                    R(fwd_elman)(a, y + at * H, gx + at * G, row, bias);
            }
        }
        for (int64_t b = b0; b < b1; b++) {
            const int64_t last = rec_at(a, rec_step(a, a->steps - 1), b) * H;
            memcpy(h_n + b * H, y + last, (size_t)H * sizeof(T));
            if (a->mode == REC_LSTM)
                memcpy(c_n + b * H, extra + last, (size_t)H * sizeof(T));
        }
    }
}

/* ---- backward -------------------------------------------------------------------------------------- */

FGD_PREPARE(recurrent_bwd)
{
    const fgd_recurrent_args *a = args_;
    const int64_t gates = rec_gates(a->mode) * a->hidden;
    R(prepare)(a, a->hidden, gates, 2 * a->hidden, (double)(2 * rec_gates(a->mode) + 3), work);
}

static void R(start)(T *d, const T *from, int64_t n)
{
    if (from)
        memcpy(d, from, (size_t)n * sizeof(T));
    else
        memset(d, 0, (size_t)n * sizeof(T));
}

/* dgx dgh dh_0 dc_0, y gates extra h_0 c_0 w [dy] [dh_n] [dc_n]; dgh is only there for the GRU, else dgx serves */
FGD_RUN(recurrent_bwd)
{
    const fgd_recurrent_args *a = args_;
    const int64_t H = a->hidden, G = rec_gates(a->mode) * H, rows = rec_rows(a->batch);
    T *dgx = ptr[0], *dgh = a->mode == REC_GRU ? ptr[1] : dgx, *dh_0 = ptr[2], *dc_0 = ptr[3], *packed = context->shared;
    const T *y = ptr[4], *gates = ptr[5], *extra = ptr[6], *h_0 = ptr[7], *c_0 = ptr[8], *w = ptr[9];
    int next = 10;
    const T *dy = a->has_dy ? ptr[next++] : NULL;
    const T *dh_n = a->has_dh ? ptr[next++] : NULL;
    const T *dc_n = a->has_dc ? ptr[next++] : NULL;
    if (phase == 0) {
        R(pack)(packed, w, 1, H, H, G, begin, end);
        return;
    }
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t b0 = unit * rows, b1 = cut_min(b0 + rows, a->batch), n = (b1 - b0) * H;
        if (b0 >= b1)
            continue;
        T *dh = context->scratch, *dc = dh + rows * H;      /* of the GRU: what does not go through the product */
        R(start)(dh, dh_n ? dh_n + b0 * H : NULL, n);
        R(start)(dc, dc_n ? dc_n + b0 * H : NULL, n);
        for (int64_t s = a->steps - 1; s >= 0; s--) {
            const int64_t t = rec_step(a, s), before = s ? rec_step(a, s - 1) : 0;
            for (int64_t b = b0; b < b1; b++) {
                const int64_t at = rec_at(a, t, b), row = (b - b0) * H, was = rec_at(a, before, b) * H;
                const T *dy_row = dy ? dy + at * H : NULL;
                if (a->mode == REC_LSTM)
                    R(bwd_lstm)(H, dgx + at * G, dc + row, dh + row, dy_row, gates + at * G, extra + at * H,
                                s ? extra + was : c_0 + b * H);
                else if (a->mode == REC_GRU)
                    R(bwd_gru)(H, dgx + at * G, dgh + at * G, dc + row, dh + row, dy_row, gates + at * G,
                               extra + at * H, s ? y + was : h_0 + b * H);
                else
                    R(bwd_elman)(a, dgx + at * G, dh + row, dy_row, y + at * H);
            }
            R(multiply)(dh, dgh + rec_at(a, t, b0) * G, a->batch_first ? a->steps * G : G, b1 - b0, packed, H, G);
            if (a->mode == REC_GRU)
                for (int64_t i = 0; i < n; i += LANES)
                    R(store)(dh + i, V(add)(R(load)(dh + i, n - i), R(load)(dc + i, n - i)), n - i);
        }
        memcpy(dh_0 + b0 * H, dh, (size_t)n * sizeof(T));
        if (a->mode == REC_LSTM)
            memcpy(dc_0 + b0 * H, dc, (size_t)n * sizeof(T));
    }
}

#undef R
