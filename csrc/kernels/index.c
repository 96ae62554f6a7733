/* Indexing by arrays, in two steps: `positions` turns index arrays into positions in rows (checked, negative ones
 * counted from the end); `take` copies the rows at these positions, `scatter` writes or adds rows to them.
 *
 * Where several rows go to one position, they are added, or overwrite each other, in ascending order: each item of work
 * owns a strip of columns and a range of rows of y and goes through all positions, so the sums have one order and need no
 * atomics.  Elements that are only moved are unsigned integers of their size. */
#include <string.h>
#include "cut.h"

#ifndef FASTGD_INDEX_TYPES
#define FASTGD_INDEX_TYPES

/* An index array in the tail of `positions`: { dtype, size, factor, stride[] }. */
enum { INDEX_DTYPE = 0, INDEX_SIZE, INDEX_FACTOR, INDEX_STRIDE, INDEX_WORDS = 3 + FGD_MAX_DIMS };
enum { INDEX_UNIT = 4096 };         /* positions in a unit                                        */
enum { SCATTER_STRIP = 256 };       /* columns in an item                                         */
enum { SCATTER_RANGES = 8 };        /* at most so many ranges of rows: each goes through all n    */

static inline int64_t index_load(const void *x, int64_t dtype, int64_t at)
{
    switch (dtype) {
    case FGD_I64: return ((const int64_t *)x)[at];
    case FGD_I32: return ((const int32_t *)x)[at];
    default: return ((const uint8_t *)x)[at];
    }
}

static int64_t index_numel(const fgd_positions_args *a)
{
    int64_t numel = 1;
    for (int64_t d = 0; d < a->ndim; d++)
        numel *= a->shape[d];
    return numel;
}

typedef struct scatter_cut {
    int64_t strip, strips, range, ranges, items, per_unit;
} scatter_cut;

static scatter_cut scatter_cut_of(const fgd_scatter_args *a)
{
    scatter_cut c = { .strip = cut_min(a->inner, SCATTER_STRIP), .ranges = 1 };
    c.strips = c.strip ? cut_ceil(a->inner, c.strip) : 0;
    if (a->outer * c.strips < SCATTER_RANGES)
        c.ranges = cut_max(1, cut_min(cut_min(SCATTER_RANGES, a->rows), a->n * c.strip / 32768));
    c.range = cut_ceil(a->rows, c.ranges);
    c.items = a->outer * c.strips * c.ranges;
    c.per_unit = cut_items_per_unit(FGD_UNIT_ELEMS, a->n * c.strip);
    return c;
}
#endif

FGD_PREPARE(positions)
{
    const fgd_positions_args *a = args_;
    const int64_t numel = index_numel(a);
    cut_one_phase(work, cut_ceil(numel, INDEX_UNIT), (double)(2 * a->n_index) * (double)numel,
                  8.0 * (double)(1 + a->n_index) * (double)numel);
}

FGD_RUN(positions)
{
    (void)phase;
    const fgd_positions_args *a = args_;
    int64_t *y = ptr[0], coord[FGD_MAX_DIMS] = { 0 };
    const int64_t from = begin * INDEX_UNIT, to = cut_min(index_numel(a), end * INDEX_UNIT);
    int64_t rest = from;
    if (from >= to)
        return;
    for (int64_t d = a->ndim - 1; d >= 0; d--) {
        coord[d] = rest % a->shape[d];
        rest /= a->shape[d];
    }
    for (int64_t at = from; at < to; at++) {
        int64_t position = 0;
        for (int64_t d = 0; d < a->ndim; d++)
            position += coord[d] * a->base[d];
        for (int64_t k = 0; k < a->n_index; k++) {
            const int64_t *words = a->tail + k * INDEX_WORDS, size = words[INDEX_SIZE];
            int64_t where = 0;
            for (int64_t d = 0; d < a->ndim; d++)
                where += coord[d] * words[INDEX_STRIDE + d];
            const int64_t given = index_load(ptr[1 + k], words[INDEX_DTYPE], where);
            int64_t index = given < 0 && a->wrap ? given + size : given;
            if (index < 0 || index >= size) {
                fgd_fault_set(context->fault, FGD_INDEX, at, given, size);
                index = 0;
            }
            position += index * words[INDEX_FACTOR];
        }
        y[at] = position;
        for (int64_t d = a->ndim - 1; d >= 0; d--) {
            if (++coord[d] < a->shape[d])
                break;
            coord[d] = 0;
        }
    }
}

/* ---- take: y[outer, n, inner] = x[outer, p[n], inner] ------------------------------------- */

static int64_t FGD_TIERED(take_rows_per_unit)(const fgd_take_args *a)
{
    return cut_items_per_unit(FGD_UNIT_ELEMS, a->inner);
}

FGD_PREPARE(take)
{
    const fgd_take_args *a = args_;
    const int64_t rows = a->outer * a->n;
    cut_one_phase(work, cut_ceil(rows, FGD_TIERED(take_rows_per_unit)(a)), 0,
                  (double)rows * (2.0 * (double)(a->inner * a->itemsize) + 8));
}

FGD_RUN(take)
{
    (void)phase, (void)context;
    const fgd_take_args *a = args_;
    const int64_t per = FGD_TIERED(take_rows_per_unit)(a), to = cut_min(a->outer * a->n, end * per);
    const int64_t *p = ptr[2];
    if (a->rows == 0 || a->inner == 0)
        return;
#define TAKE(E)                                                                                \
    for (int64_t row = begin * per; row < to; row++)                                           \
        ((E *)ptr[0])[row] = ((const E *)ptr[1])[row / a->n * a->rows + p[row % a->n]];        \
    break
    switch (a->inner * a->itemsize) {   /* single elements */
    case 1: TAKE(uint8_t);
    case 2: TAKE(uint16_t);
    case 4: TAKE(uint32_t);
    case 8: TAKE(uint64_t);
    default: {
        const size_t bytes = (size_t)(a->inner * a->itemsize);
        for (int64_t row = begin * per; row < to; row++)
            memcpy((char *)ptr[0] + (size_t)row * bytes,
                   (const char *)ptr[1] + (size_t)(row / a->n * a->rows + p[row % a->n]) * bytes, bytes);
    }
    }
#undef TAKE
}

/* ---- scatter: y[outer, p[n], inner] = or += src[outer, n, inner] -------------------------- */

FGD_PREPARE(scatter)
{
    const fgd_scatter_args *a = args_;
    const scatter_cut c = scatter_cut_of(a);
    const double size = (double)fgd_dtype_size((int)a->dtype), y = (double)(a->outer * a->rows) * (double)a->inner;
    const double src = (double)(a->outer * a->n) * (double)a->inner;
    cut_two_phases(work, cut_max(1, cut_ceil(a->outer * a->rows * a->inner, FGD_UNIT_ELEMS)),
                   cut_max(1, cut_ceil(c.items, c.per_unit)), 0, src,
                   size * (y * (a->has_base ? 2 : 1) + 3 * src) + 8.0 * (double)a->n);
}

static void FGD_TIERED(scatter_ground)(const fgd_scatter_args *a, void *const *ptr, int64_t begin, int64_t end)
{
    const size_t size = (size_t)fgd_dtype_size((int)a->dtype);
    const int64_t from = begin * FGD_UNIT_ELEMS, to = cut_min(a->outer * a->rows * a->inner, end * FGD_UNIT_ELEMS);
    if (from >= to || (a->has_base && ptr[0] == ptr[3]))
        return;
    char *y = (char *)ptr[0] + (size_t)from * size;
    if (a->has_base)
        memcpy(y, (const char *)ptr[3] + (size_t)from * size, (size_t)(to - from) * size);
    else
        memset(y, 0, (size_t)(to - from) * size);
}

FGD_RUN(scatter)
{
    (void)context;
    const fgd_scatter_args *a = args_;
    const scatter_cut c = scatter_cut_of(a);
    const int64_t *p = ptr[1], to = cut_min(c.items, end * c.per_unit);
    if (phase == 0) {
        FGD_TIERED(scatter_ground)(a, ptr, begin, end);
        return;
    }
    for (int64_t item = begin * c.per_unit; item < to; item++) {
        const int64_t o = item / (c.strips * c.ranges), first = item / c.ranges % c.strips * c.strip;
        const int64_t low = item % c.ranges * c.range, high = cut_min(a->rows, low + c.range);
        const int64_t cols = cut_min(c.strip, a->inner - first);
#define SCATTER(E, statement)                                                                  \
        for (int64_t n = 0; n < a->n; n++) {                                                   \
            if (p[n] < low || p[n] >= high)                                                    \
                continue;                                                                      \
            E *restrict y = (E *)ptr[0] + (o * a->rows + p[n]) * a->inner + first;             \
            const E *restrict x = (const E *)ptr[2] + (o * a->n + n) * a->inner + first;       \
            for (int64_t i = 0; i < cols; i++)                                                 \
                statement;                                                                     \
        }                                                                                      \
        break
        switch (a->add ? a->dtype : -fgd_dtype_size((int)a->dtype)) {
        case FGD_F32: SCATTER(float, y[i] += x[i]);
        case FGD_F64: SCATTER(double, y[i] += x[i]);
        case FGD_I32: SCATTER(uint32_t, y[i] += x[i]);
        case FGD_I64: SCATTER(uint64_t, y[i] += x[i]);
        case FGD_U8: SCATTER(uint8_t, y[i] = (uint8_t)(y[i] + x[i]));
        case FGD_BOOL: SCATTER(uint8_t, y[i] |= x[i]);
        case -1: SCATTER(uint8_t, y[i] = x[i]);
        case -2: SCATTER(uint16_t, y[i] = x[i]);
        case -4: SCATTER(uint32_t, y[i] = x[i]);
        case -8: SCATTER(uint64_t, y[i] = x[i]);
        }
#undef SCATTER
    }
}
