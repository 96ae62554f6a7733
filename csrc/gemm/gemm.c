/* c = epilogue(alpha * a @ b + beta * c), batched, any strides of a and b: float32 and float64.
 *
 * One code path serves every size.  The cut (by shape alone) chooses which side goes outside,
 * how large the work items are and what is packed; the arithmetic of an element never depends on
 * it: see gemm.h for the canonical order.  The blocking is that of Goto and van de Geijn (2008)
 * with the packing of one side shared between threads and that of the other done strip by strip
 * in thread scratch, so that no operand is packed twice but at the seams between threads.
 *
 * Assumes c does not overlap a, b or the epilogue's inputs (but an epilogue output may be c
 * itself); element alignment suffices.
 */
#include "panels.h"
#include "../kernels/tile.h"

#define G(name) FGD_T_FN(FGD_CAT(gemm_, name))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(FGD_SIMD_AVX512)
#include "micro_avx512.h"
#elif defined(FGD_SIMD_AVX2)
#include "micro_avx2.h"
#else
#include "micro_scalar.h"
#endif
#include "micro.inc"

#define MICRO_NR (MICRO_NV * MICRO_LANES)

/* Products up to this many multiply-adds are one work item and pack nothing that can be read in
 * place; larger ones are cut into items of GEMM_ITEM_WORK, or larger ones if there would be more
 * than GEMM_MAX_ITEMS: few enough to reuse the caches, enough to keep 16 threads evenly busy. */
#define GEMM_SMALL (64.0 * 64.0 * 64.0)
#define GEMM_ITEM_WORK (512.0 * 1024.0)
#define GEMM_MAX_ITEMS 128.0
/* Below this many work items a product is also cut along k. */
#define GEMM_FEW_ITEMS 16

/* ---- the cut ------------------------------------------------------------------------------ */

static inline int64_t G(ceil_div)(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t G(min)(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t G(max)(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Elements of a packed panel, with room behind it for the last store to spill. */
static inline int64_t G(panel_size)(const gemm_side *s, int64_t k)
{
    return s->width * k + MICRO_LANES;
}

static inline int64_t G(panel_start)(const gemm_side *s, int64_t p)
{
    return G(min)(s->size, p * s->low + G(min)(p, s->wide));
}

/* Rows in panels of nearly equal height, columns in full panels and a rest. */
static void G(cut_sides)(gemm_cut *cut, int64_t m, int64_t n)
{
    gemm_side *a = &cut->a, *b = &cut->b;
    a->size = m;
    a->panels = G(max)(1, G(ceil_div)(m, MICRO_MR));
    a->low = m / a->panels;
    a->wide = m - a->low * a->panels;
    a->width = a->low + (a->wide > 0);
    b->size = n;
    b->panels = G(max)(1, G(ceil_div)(n, MICRO_NR));
    b->low = b->width = MICRO_NR;
    b->wide = 0;
}

static void G(cut_items)(gemm_side *s, int64_t per_item)
{
    s->per_item = G(max)(1, G(min)(s->panels, per_item));
    s->items = G(ceil_div)(s->panels, s->per_item);
    s->per_item = G(ceil_div)(s->panels, s->items);
}

/* Panels per item on both sides, and segments of k. */
static void G(cut_work)(gemm_cut *cut, int64_t k, double work)
{
    gemm_side *outer = cut->outer_is_b ? &cut->b : &cut->a;
    gemm_side *inner = cut->outer_is_b ? &cut->a : &cut->b;
    double each = (double)cut->batch * work / GEMM_MAX_ITEMS;
    if (each < GEMM_ITEM_WORK)
        each = GEMM_ITEM_WORK;
    const double tile = (double)(cut->a.width * MICRO_NR) * (double)G(max)(k, 1);
    const int64_t tiles = (int64_t)(each / tile);

    cut->k_blocks = G(max)(1, G(ceil_div)(k, FGD_GEMM_KC));
    cut->per_segment = cut->k_blocks;
    if (work <= GEMM_SMALL) {
        G(cut_items)(outer, outer->panels);
        G(cut_items)(inner, inner->panels);
    } else {
        /* A strip of 128 columns (or of as many rows) is enough to reuse the inner side from
         * the second-level cache; the rest of the item extends along the inner side. */
        const int64_t strip = cut->outer_is_b ? 128 / MICRO_NR : 128 / MICRO_MR;
        G(cut_items)(outer, G(min)(strip, tiles / 8));
        G(cut_items)(inner, tiles / outer->per_item);
    }
    const int64_t items = cut->batch * outer->items * inner->items;
    if (work > GEMM_SMALL && items < GEMM_FEW_ITEMS && cut->k_blocks > 1) {
        const int64_t wanted = G(min)(cut->k_blocks, G(ceil_div)(GEMM_FEW_ITEMS, items));
        cut->per_segment = G(ceil_div)(cut->k_blocks, wanted);
    }
    cut->segments = G(ceil_div)(cut->k_blocks, cut->per_segment);
    cut->group = work > GEMM_SMALL ? 1 : G(max)(1, (int64_t)(GEMM_SMALL / (work + 4096.0)));
    cut->units = G(ceil_div)(items * cut->segments, cut->group);
}

static int G(is_shared_by_batches)(const fgd_gemm_args *g, const int64_t *strides)
{
    for (int64_t d = 0; d < g->batch_ndim; d++)
        if (strides[d] != 0 && g->batch_shape[d] != 1)
            return 0;
    return 1;
}

static void G(cut)(const fgd_gemm_args *g, gemm_cut *cut)
{
    cut->batch = 1;
    for (int64_t d = 0; d < g->batch_ndim; d++)
        cut->batch *= g->batch_shape[d];
    const double work = (double)g->m * (double)g->n * (double)g->k;
    const int small = work <= GEMM_SMALL;

    G(cut_sides)(cut, g->m, g->n);
    cut->outer_is_b = small || g->n >= g->m;
    G(cut_work)(cut, g->k, work);
    if (cut->batch * g->m == 0 || (g->n == 0 && !g->row_sum))
        cut->units = 0;

    /* The micro-kernel reads a by any strides, but wants rows of b contiguous.  Packing pays when
     * the panels are read often enough: those of a once for each panel of b and conversely. */
    const int pack_a = !small && cut->a.panels > 1;
    const int pack_b = g->b_cs != 1 || (!small && g->m > MICRO_UNPACKED_ROWS);
    cut->pack_outer = cut->outer_is_b ? pack_b : pack_a;
    cut->pack_inner = cut->outer_is_b ? pack_a : pack_b;

    const gemm_side *outer = cut->outer_is_b ? &cut->b : &cut->a;
    const gemm_side *inner = cut->outer_is_b ? &cut->a : &cut->b;
    const int64_t *inner_batch = cut->outer_is_b ? g->a_batch : g->b_batch;
    const int64_t size = (int64_t)sizeof(T);
    cut->inner_copies = G(is_shared_by_batches)(g, inner_batch) ? 1 : cut->batch;
    cut->inner_bytes = cut->pack_inner
        ? cut->inner_copies * inner->panels * G(panel_size)(inner, g->k) * size : 0;
    cut->inner_bytes = (cut->inner_bytes + 63) & ~(int64_t)63;
    cut->sums_bytes = cut->segments > 1 ? cut->batch * cut->k_blocks * g->m * g->n * size : 0;
    cut->strip_bytes = cut->pack_outer
        ? outer->per_item * size
          * G(panel_size)(outer, G(min)(g->k, cut->per_segment * FGD_GEMM_KC)) : 0;
    cut->strip_bytes = (cut->strip_bytes + 63) & ~(int64_t)63;
    cut->total_bytes = 0;
    if (cut->segments > 1)
        cut->total_bytes = g->n * size;
    else if (g->beta != 0.0)
        cut->total_bytes = cut->a.per_item * cut->a.width * cut->b.per_item * MICRO_NR * size;
    cut->total_bytes = (cut->total_bytes + 63) & ~(int64_t)63;
}

/* ---- operands ----------------------------------------------------------------------------- */

/* Where the panels of an operand lie: packed one after the other, or in the operand itself. */
typedef struct G(view) {
    const T *x;
    int64_t per_panel, per_element; /* of the two, one is 0                                    */
    int64_t across, along;          /* strides inside a panel and along k                      */
} G(view);

static inline const T *G(panel)(const G(view) *v, int64_t p, int64_t start, int64_t k)
{
    return v->x + p * v->per_panel + start * v->per_element + k * v->along;
}

static G(view) G(packed_view)(const T *x, const gemm_side *s, int64_t k)
{
    return (G(view)){ x, G(panel_size)(s, k), 0, 1, s->width };
}

static G(view) G(direct_view)(const T *x, int64_t across, int64_t along)
{
    return (G(view)){ x, 0, across, across, along };
}

static int64_t G(batch_offset)(const fgd_gemm_args *g, const int64_t *strides, int64_t batch)
{
    int64_t offset = 0;
    for (int64_t d = g->batch_ndim - 1; d >= 0; d--) {
        offset += batch % g->batch_shape[d] * strides[d];
        batch /= g->batch_shape[d];
    }
    return offset;
}

static inline void G(copy)(T *dst, const T *src, int64_t count)
{
    for (; count > MICRO_LANES; count -= MICRO_LANES, dst += MICRO_LANES, src += MICRO_LANES)
        MICRO_store(dst, MICRO_load(src));
    if (count > 0)
        MICRO_store(dst, MICRO_load_mask(src, MICRO_mask(count)));
}

/* dst[p * width + i] = src[i * across + p * along].  One of the strides is usually 1.  Whole
 * vectors are stored: what they spill into the next step of k is overwritten later (which is why
 * squares are taken from the right), and behind a panel lies room for one vector.  A masked store
 * costs tens of cycles on some AVX2 CPUs. */
static void G(pack_panel)(T *dst, int64_t width, const T *src, int64_t count, int64_t across,
                          int64_t k, int64_t along)
{
    int64_t p = 0;
    if (along == 1 && across != 1)
        for (int64_t i = (count - 1) / MICRO_LANES * MICRO_LANES; i >= 0; i -= MICRO_LANES)
            for (p = 0; p + MICRO_LANES <= k; p += MICRO_LANES)
                G(transpose)(dst + p * width + i, width, src + i * across + p, across, count - i);
    for (; p < k; p++)
        if (across == 1)
            G(copy)(dst + p * width, src + p * along, count);
        else
            for (int64_t i = 0; i < count; i++)
                dst[p * width + i] = src[i * across + p * along];
}

static void G(pack)(T *dst, const gemm_side *s, int64_t first, int64_t last, const T *src,
                    int64_t across, int64_t k, int64_t along)
{
    for (int64_t p = first; p < last; p++, dst += G(panel_size)(s, k)) {
        const int64_t start = G(panel_start)(s, p), end = G(panel_start)(s, p + 1);
        G(pack_panel)(dst, s->width, src + start * across, end - start, across, k, along);
    }
}

/* ---- one run ------------------------------------------------------------------------------ */

typedef struct G(job) {
    const fgd_gemm_args *g;
    gemm_cut cut;
    T *c, *s;
    const T *a, *b;
    T *inner, *sums;                /* shared scratch                                          */
    T *strip, *total;               /* thread scratch                                          */
    void *tile_scratch;
    int has_epilogue;
    tile_program epilogue;
    void *const *outputs;
    const void *inputs[TILE_MAX_OPERANDS];
} G(job);

static void G(parse_epilogue)(const fgd_gemm_args *g, tile_program *p)
{
    int64_t shape[FGD_LOOP_DIMS];
    for (int64_t d = 0; d < g->batch_ndim; d++)
        shape[d] = g->batch_shape[d];
    shape[g->batch_ndim] = g->m;
    shape[g->batch_ndim + 1] = g->n;
    tile_program_parse(p, (int)g->batch_ndim + 2, shape, g->tail);
}

static void G(job_init)(G(job) *job, const fgd_gemm_args *g, void *const *ptr,
                        const fgd_context *context)
{
    job->g = g;
    G(cut)(g, &job->cut);
    job->c = ptr[0];
    job->a = ptr[1];
    job->b = ptr[2];
    job->s = g->row_sum ? ptr[3] : NULL;
    job->inner = context->shared;
    job->sums = (T *)((char *)context->shared + job->cut.inner_bytes);
    job->strip = context->scratch;
    job->total = (T *)((char *)context->scratch + job->cut.strip_bytes);
    job->tile_scratch = (char *)job->total + job->cut.total_bytes;
    job->has_epilogue = g->n_tail > 0;
    if (!job->has_epilogue)
        return;
    G(parse_epilogue)(g, &job->epilogue);
    job->outputs = ptr + 3 + (g->row_sum != 0);
    job->inputs[0] = job->c;
    for (int i = 1; i < job->epilogue.n_inputs; i++)
        job->inputs[i] = job->outputs[job->epilogue.n_outputs + i - 1];
}

/* c = alpha * total + beta * c over a block, then the epilogue while it is in the cache.  total
 * may be c itself if beta is 0. */
static void G(finish)(const G(job) *job, int64_t batch, int64_t i0, int64_t j0, int64_t rows,
                      int64_t cols, const T *total, int64_t total_rs)
{
    const fgd_gemm_args *g = job->g;
    const T alpha = (T)g->alpha, beta = (T)g->beta;
    T *c = job->c + (batch * g->m + i0) * g->n + j0;

    if (g->beta != 0.0)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                c[i * g->n + j] = alpha * total[i * total_rs + j] + beta * c[i * g->n + j];
    else if (total != c || g->alpha != 1.0)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                c[i * g->n + j] = alpha * total[i * total_rs + j];

    if (!job->has_epilogue || cols == 0)
        return;
    int64_t coord[FGD_LOOP_DIMS];
    for (int64_t d = g->batch_ndim - 1; d >= 0; d--) {
        coord[d] = batch % g->batch_shape[d];
        batch /= g->batch_shape[d];
    }
    coord[g->batch_ndim] = i0;
    coord[g->batch_ndim + 1] = j0;
    tile_run_block(&job->epilogue, job->outputs, job->inputs, coord, rows, cols,
                   job->tile_scratch);
}

/* s[i] = sum over k of a[i, k], a chain of additions for each row. */
static void G(row_sums)(const G(job) *job, int64_t i0, int64_t i1)
{
    enum { GROUP = 32 };
    const fgd_gemm_args *g = job->g;
    for (int64_t i = i0; i < i1; i += GROUP) {
        const int64_t rows = G(min)(GROUP, i1 - i);
        T total[GROUP] = { 0 };
        for (int64_t k0 = 0; k0 < g->k; k0 += FGD_ROW_SUM_BLOCK) {
            const int64_t k1 = G(min)(g->k, k0 + FGD_ROW_SUM_BLOCK);
            T block[GROUP] = { 0 };
            for (int64_t p = k0; p < k1; p++) {
                const T *a = job->a + i * g->a_rs + p * g->a_cs;
                if (g->a_rs == 1)
                    for (int64_t r = 0; r < rows; r++)
                        block[r] += a[r];
                else
                    for (int64_t r = 0; r < rows; r++)
                        block[r] += a[r * g->a_rs];
            }
            for (int64_t r = 0; r < rows; r++)
                total[r] = k0 == 0 ? block[r] : total[r] + block[r];
        }
        for (int64_t r = 0; r < rows; r++)
            job->s[i + r] = total[r];
    }
}

/* The panels [ia0, ia1) x [jb0, jb1) over one block of k. */
static void G(block)(const gemm_cut *cut, const G(view) *a, const G(view) *b, int64_t ia0,
                     int64_t ia1, int64_t jb0, int64_t jb1, int64_t k0, int64_t kc, T *out,
                     int64_t out_rs, int accumulate)
{
    const int64_t row0 = G(panel_start)(&cut->a, ia0), col0 = G(panel_start)(&cut->b, jb0);
    for (int64_t jb = jb0; jb < jb1; jb++) {
        const int64_t j = G(panel_start)(&cut->b, jb);
        const int64_t cols = G(panel_start)(&cut->b, jb + 1) - j;
        if (cols == 0)
            continue;
        const int vecs = (int)G(ceil_div)(cols, MICRO_LANES);
        const T *bp = G(panel)(b, jb, j, k0);
        for (int64_t ia = ia0; ia < ia1; ia++) {
            const int64_t i = G(panel_start)(&cut->a, ia);
            const int64_t rows = G(panel_start)(&cut->a, ia + 1) - i;
            G(micro_table)[rows - 1][vecs - 1](kc, G(panel)(a, ia, i, k0), a->across, a->along,
                bp, b->along, out + (i - row0) * out_rs + (j - col0), out_rs, cols, accumulate);
        }
    }
}

typedef struct G(item) {
    int64_t batch, outer, segment, inner;
} G(item);

static G(item) G(item_at)(const gemm_cut *cut, int64_t index)
{
    const gemm_side *outer = cut->outer_is_b ? &cut->b : &cut->a;
    const gemm_side *inner = cut->outer_is_b ? &cut->a : &cut->b;
    G(item) item;
    item.inner = index % inner->items;
    index /= inner->items;
    item.segment = index % cut->segments;
    index /= cut->segments;
    item.outer = index % outer->items;
    item.batch = index / outer->items;
    return item;
}

/* One work item: its views, its blocks of k, and what is due when they are done. */
static void G(run_item)(const G(job) *job, const G(item) *item, int strip_is_new)
{
    const fgd_gemm_args *g = job->g;
    const gemm_cut *cut = &job->cut;
    const int64_t ia = cut->outer_is_b ? item->inner : item->outer;
    const int64_t jb = cut->outer_is_b ? item->outer : item->inner;
    const int64_t ia0 = ia * cut->a.per_item, ia1 = G(min)(ia0 + cut->a.per_item, cut->a.panels);
    const int64_t jb0 = jb * cut->b.per_item, jb1 = G(min)(jb0 + cut->b.per_item, cut->b.panels);
    const int64_t q0 = item->segment * cut->per_segment;
    const int64_t q1 = G(min)(q0 + cut->per_segment, cut->k_blocks);
    const int64_t k0 = q0 * FGD_GEMM_KC, k1 = G(min)(q1 * FGD_GEMM_KC, g->k);

    const T *a_x = job->a + G(batch_offset)(g, g->a_batch, item->batch);
    const T *b_x = job->b + G(batch_offset)(g, g->b_batch, item->batch);
    G(view) a = G(direct_view)(a_x, g->a_rs, g->a_cs), b = G(direct_view)(b_x, g->b_cs, g->b_rs);
    G(view) *outer = cut->outer_is_b ? &b : &a, *inner = cut->outer_is_b ? &a : &b;
    const gemm_side *outer_side = cut->outer_is_b ? &cut->b : &cut->a;
    const gemm_side *inner_side = cut->outer_is_b ? &cut->a : &cut->b;

    if (cut->pack_outer) {
        const int64_t p0 = cut->outer_is_b ? jb0 : ia0, p1 = cut->outer_is_b ? jb1 : ia1;
        if (strip_is_new)
            G(pack)(job->strip, outer_side, p0, p1, outer->x + k0 * outer->along,
                    outer->across, k1 - k0, outer->along);
        *outer = G(packed_view)(job->strip, outer_side, k1 - k0);
        outer->x -= p0 * outer->per_panel + k0 * outer->along;
    }
    if (cut->pack_inner) {
        const int64_t copy = cut->inner_copies > 1 ? item->batch : 0;
        *inner = G(packed_view)(job->inner, inner_side, g->k);
        inner->x += copy * inner_side->panels * inner->per_panel;
    }

    const int64_t i0 = G(panel_start)(&cut->a, ia0), i1 = G(panel_start)(&cut->a, ia1);
    const int64_t j0 = G(panel_start)(&cut->b, jb0), j1 = G(panel_start)(&cut->b, jb1);
    const int split = cut->segments > 1;
    T *out = job->c + (item->batch * g->m + i0) * g->n + j0;
    int64_t out_rs = g->n;
    if (split) {
        out = job->sums + ((item->batch * cut->k_blocks + q0) * g->m + i0) * g->n + j0;
    } else if (g->beta != 0.0) {
        out = job->total;
        out_rs = j1 - j0;
    }
    for (int64_t q = q0; q < q1; q++) {
        const int64_t kq = q * FGD_GEMM_KC, kc = G(min)(FGD_GEMM_KC, g->k - kq);
        G(block)(cut, &a, &b, ia0, ia1, jb0, jb1, kq, kc, out, out_rs, !split && q > 0);
        if (split)
            out += g->m * g->n;
    }

    if (job->s && jb == 0 && item->segment == 0)
        G(row_sums)(job, i0, i1);
    if (!split)
        G(finish)(job, item->batch, i0, j0, i1 - i0, j1 - j0, out, out_rs);
}

static void G(run_items)(const G(job) *job, int64_t begin, int64_t end)
{
    G(item) before = { -1, -1, -1, -1 };
    for (int64_t index = begin; index < end; index++) {
        const G(item) item = G(item_at)(&job->cut, index);
        const int same_strip = item.batch == before.batch && item.outer == before.outer
                               && item.segment == before.segment;
        G(run_item)(job, &item, !same_strip);
        before = item;
    }
}

/* Units of the packing phase: the inner side's panels, copy by copy. */
static void G(pack_inner)(const G(job) *job, int64_t begin, int64_t end)
{
    const fgd_gemm_args *g = job->g;
    const gemm_cut *cut = &job->cut;
    const gemm_side *side = cut->outer_is_b ? &cut->a : &cut->b;
    const int64_t across = cut->outer_is_b ? g->a_rs : g->b_cs;
    const int64_t along = cut->outer_is_b ? g->a_cs : g->b_rs;
    for (int64_t u = begin; u < end; u++) {
        const int64_t copy = u / side->panels, p = u % side->panels;
        const T *x = cut->outer_is_b ? job->a + G(batch_offset)(g, g->a_batch, copy)
                                     : job->b + G(batch_offset)(g, g->b_batch, copy);
        G(pack)(job->inner + u * G(panel_size)(side, g->k), side, p, p + 1, x, across, g->k, along);
    }
}

/* Units of the folding phase: rows of c.  The block sums of a row are added in order. */
static void G(fold)(const G(job) *job, int64_t begin, int64_t end)
{
    const fgd_gemm_args *g = job->g;
    T *total = job->total;
    for (int64_t u = begin; u < end; u++) {
        const int64_t batch = u / g->m, i = u % g->m;
        const T *sum = job->sums + (batch * job->cut.k_blocks * g->m + i) * g->n;
        for (int64_t j = 0; j < g->n; j++)
            total[j] = sum[j];
        for (int64_t q = 1; q < job->cut.k_blocks; q++) {
            sum += g->m * g->n;
            for (int64_t j = 0; j < g->n; j++)
                total[j] += sum[j];
        }
        G(finish)(job, batch, i, 0, 1, g->n, total, g->n);
    }
}

FGD_PREPARE(gemm)
{
    const fgd_gemm_args *g = args_;
    gemm_cut cut;
    G(cut)(g, &cut);
    const gemm_side *inner = cut.outer_is_b ? &cut.a : &cut.b;
    const double mn = (double)cut.batch * (double)g->m * (double)g->n;

    work->n_phases = 0;
    if (cut.pack_inner)
        work->units[work->n_phases++] = cut.units ? cut.inner_copies * inner->panels : 0;
    work->units[work->n_phases++] = cut.units;
    if (cut.segments > 1)
        work->units[work->n_phases++] = cut.batch * g->m;
    work->shared_bytes = cut.inner_bytes + cut.sums_bytes;
    work->thread_bytes = cut.strip_bytes + cut.total_bytes;
    if (g->n_tail > 0) {
        tile_program epilogue;
        G(parse_epilogue)(g, &epilogue);
        work->thread_bytes += tile_scratch_bytes(&epilogue);
    }
    work->flops = 2.0 * mn * (double)g->k;
    work->bytes = (double)sizeof(T) * (mn * (g->beta != 0.0 ? 2.0 : 1.0)
                  + (double)cut.batch * (double)g->k * (double)(g->m + g->n));
}

FGD_RUN(gemm)
{
    G(job) job;
    G(job_init)(&job, args_, ptr, context);
    phase += !job.cut.pack_inner;
    if (phase == 0) {
        G(pack_inner)(&job, begin, end);
    } else if (phase == 1) {
        const gemm_cut *cut = &job.cut;
        const int64_t items = cut->batch * cut->a.items * cut->b.items * cut->segments;
        G(run_items)(&job, begin * cut->group, G(min)(items, end * cut->group));
    } else {
        G(fold)(&job, begin, end);
    }
}

/* ---- for other kernels, see panels.h ---------------------------------------------------------- */

gemm_tile_size panel_tile_of(void)
{
    return (gemm_tile_size){ MICRO_MR, MICRO_NR };
}

void panel_multiply(int64_t rows, int64_t cols, int64_t kc, const T *a, int64_t a_rs, int64_t a_cs, const T *b,
               int64_t b_rs, T *c, int64_t c_rs, int accumulate)
{
    const int vecs = (int)G(ceil_div)(cols, MICRO_LANES);
    G(micro_table)[rows - 1][vecs - 1](kc, a, a_rs, a_cs, b, b_rs, c, c_rs, cols, accumulate);
}

void panel_multiply_runs(int64_t rows, int64_t cols, int64_t outer, int64_t outer_jump, int64_t runs, int64_t a_jump,
                         int64_t kc, const T *a, int64_t a_rs, int64_t a_cs, const T *b, int64_t b_rs, T *c, int64_t c_rs, int accumulate)
{
    const int vecs = (int)G(ceil_div)(cols, MICRO_LANES);
    G(runs_table)[rows - 1][vecs - 1](outer, outer_jump, runs, a_jump, kc, a, a_rs, a_cs, b, b_rs, c, c_rs, cols, accumulate);
}

void panel_pack(T *dst, int64_t width, const T *src, int64_t count, int64_t across, int64_t k, int64_t along)
{
    G(pack_panel)(dst, width, src, count, across, k, along);
}

#undef panel_tile_of
#undef panel_multiply
#undef panel_multiply_runs
#undef panel_pack
#undef GEMM_SMALL
#undef GEMM_ITEM_WORK
#undef GEMM_MAX_ITEMS
#undef GEMM_FEW_ITEMS
#undef MICRO_NR
#undef MICRO_MR
#undef MICRO_NV
#undef MICRO_UNPACKED_ROWS
#undef MICRO_HEIGHTS
#undef MICRO_MM
#undef MICRO_LANES
#undef MICRO_VEC
#undef MICRO_MASK
#undef MICRO_mask
#undef MICRO_zero
#undef MICRO_splat
#undef MICRO_load
#undef MICRO_load_mask
#undef MICRO_store
#undef MICRO_store_mask
#undef MICRO_add
#undef MICRO_fma
#undef UNROLL
#undef G
