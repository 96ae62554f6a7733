/* Embedding: rows of a table by index, and its derivative, which adds the gradient of each place to the row it came
 * from.
 *
 * Two places may name one row, so the derivative is not made place by place: phase 0 sorts the places by row (a
 * counting sort, stable), phase 1 gives each row of the table to one unit, which adds its places in ascending order:
 * chains of FGD_SUM_ROWS adds that start at +0, whose sums are added in order (the canonical order of reduce.c over
 * the places of a row).  No atomics, every row written once, and the same bits at any number of threads. */
#include "cut.h"

#ifndef FASTGD_EMBEDDING_CUT
#define FASTGD_EMBEDDING_CUT

FGD_INLINE int64_t embedding_index(const fgd_embedding_args *a, const void *index, int64_t i)
{
    return a->index_dtype == FGD_I32 ? ((const int32_t *)index)[i] : ((const int64_t *)index)[i];
}

/* The derivative's units: blocks of rows, or strips of columns of one row if rows are few and long. */
typedef struct embedding_cut {
    int64_t rows, strip, strips, units;
} embedding_cut;

static embedding_cut embedding_cut_of(const fgd_embedding_args *a)
{
    const int64_t depth = 1 + a->n / cut_max(1, a->rows);     /* adds per element, on average */
    embedding_cut c;
    c.rows = cut_items_per_unit(FGD_UNIT_ELEMS, a->dim * depth);
    c.strip = a->dim;
    if (c.rows == 1)
        c.strip = cut_min(a->dim, cut_max(64, FGD_UNIT_ELEMS / depth / 64 * 64));
    c.strips = cut_ceil(a->dim, cut_max(1, c.strip));
    c.units = cut_ceil(a->rows, c.rows) * c.strips;
    return c;
}
#endif

FGD_PREPARE(embedding_fwd)
{
    const fgd_embedding_args *a = args_;
    const double n = (double)a->n * a->dim;
    cut_one_phase(work, cut_ceil(a->n, cut_items_per_unit(FGD_UNIT_ELEMS, a->dim)), n, 2 * n * sizeof(T));
}

FGD_RUN(embedding_fwd)
{
    (void)phase;
    const fgd_embedding_args *a = args_;
    T *y = ptr[0];
    const T *w = ptr[1];
    const int64_t per = cut_items_per_unit(FGD_UNIT_ELEMS, a->dim);
    for (int64_t i = begin * per; i < cut_min(a->n, end * per); i++) {
        const int64_t row = embedding_index(a, ptr[2], i);
        if (row < 0 || row >= a->rows) {
            fgd_fault_set(context->fault, FGD_INDEX, i, row, a->rows);
            for (int64_t j = 0; j < a->dim; j++)
                y[i * a->dim + j] = 0;
        } else {
            for (int64_t j = 0; j < a->dim; j++)
                y[i * a->dim + j] = w[row * a->dim + j];
        }
    }
}

/* ---- backward ---------------------------------------------------------------------------- */

/* end[r] = where the places of row r end in `place`; they begin where those of row r - 1 end. */
static void FGD_T_FN(embedding_sort)(const fgd_embedding_args *a, const void *index, int64_t *end, int64_t *place)
{
    for (int64_t r = 0; r <= a->rows; r++)
        end[r] = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const int64_t row = embedding_index(a, index, i);
        if (row >= 0 && row < a->rows && row != a->padding)
            end[row + 1]++;
    }
    for (int64_t r = 0; r < a->rows; r++)
        end[r + 1] += end[r];
    for (int64_t i = 0; i < a->n; i++) {
        const int64_t row = embedding_index(a, index, i);
        if (row >= 0 && row < a->rows && row != a->padding)
            place[end[row]++] = i;
    }
}

/* dw[0 .. cols) = the sum of dy[place[.]][0 .. cols) for cols <= VECS * LANES. */
FGD_INLINE void FGD_T_FN(embedding_sum)(T *dw, const T *dy, int64_t ld, const int64_t *place, int64_t count,
                                        const int vecs, int64_t last)
{
    vec total[4], chain[4];
    for (int v = 0; v < vecs; v++)
        total[v] = V(zero)();
    for (int64_t from = 0; from < count; from += FGD_SUM_ROWS) {
        const int64_t to = cut_min(count, from + FGD_SUM_ROWS);
        for (int v = 0; v < vecs; v++)
            chain[v] = V(zero)();
        for (int64_t i = from; i < to; i++) {
            const T *row = dy + place[i] * ld;
            for (int v = 0; v < vecs - 1; v++)
                chain[v] = V(add)(chain[v], V(load)(row + v * LANES));
            chain[vecs - 1] = V(add)(chain[vecs - 1], V(load_n)(row + (vecs - 1) * LANES, last));
        }
        for (int v = 0; v < vecs; v++)
            total[v] = from == 0 ? chain[v] : V(add)(total[v], chain[v]);
    }
    for (int v = 0; v < vecs - 1; v++)
        V(store)(dw + v * LANES, total[v]);
    V(store_n)(dw + (vecs - 1) * LANES, total[vecs - 1], last);
}

FGD_PREPARE(embedding_bwd)
{
    const fgd_embedding_args *a = args_;
    const double n = (double)a->n * a->dim, table = (double)a->rows * a->dim;
    cut_two_phases(work, 1, cut_max(1, embedding_cut_of(a).units), (a->rows + 1 + a->n) * (int64_t)sizeof(int64_t), n,
                   (n + table) * sizeof(T));
}

FGD_RUN(embedding_bwd)
{
    const fgd_embedding_args *a = args_;
    int64_t *ends = context->shared, *place = ends + a->rows + 1;
    if (phase == 0) {
        FGD_T_FN(embedding_sort)(a, ptr[2], ends, place);
        return;
    }
    const embedding_cut c = embedding_cut_of(a);
    T *dw = ptr[0];
    const T *dy = ptr[1];
    for (int64_t u = begin; u < cut_min(end, c.units); u++) {
        const int64_t column = u % c.strips * c.strip, stop = cut_min(a->dim, column + c.strip);
        const int64_t first = u / c.strips * c.rows, last = cut_min(a->rows, first + c.rows);
        for (int64_t r = first; r < last; r++) {
            const int64_t from = r ? ends[r - 1] : 0, count = ends[r] - from;
            int64_t j = column;
            for (; j + 4 * LANES <= stop; j += 4 * LANES)
                FGD_T_FN(embedding_sum)(dw + r * a->dim + j, dy + j, a->dim, place + from, count, 4, LANES);
            for (; j < stop; j += LANES)
                FGD_T_FN(embedding_sum)(dw + r * a->dim + j, dy + j, a->dim, place + from, count, 1,
                                        cut_min(LANES, stop - j));
        }
    }
}
