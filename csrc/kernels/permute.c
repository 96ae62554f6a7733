/* y = x with its dimensions permuted; also the general strided and the broadcast copy.
 *
 * The shape is first reduced: dimensions of size 1 go, neighbours that x walks as one are merged.
 * What remains is one of
 *   rows        the innermost dimension has stride 1 (copies), 0 (fills) or anything (gathers)
 *   transpose   another dimension has stride 1 in x: pairs (that one, the innermost) are
 *               transposed in squares of 16 bytes in registers, cache line by cache line
 * Elements are moved as unsigned integers of their size, so that every bit pattern survives. */
#include <string.h>
#include "cut.h"

#ifndef FASTGD_PERMUTE_TYPES
#define FASTGD_PERMUTE_TYPES

/* Reduced dims, outermost first; y is contiguous over them. */
typedef struct permute_plan {
    int ndim;
    int64_t shape[FGD_MAX_DIMS], stride[FGD_MAX_DIMS];  /* strides of x, in elements              */
    int64_t itemsize;
    int across;                 /* the dim with stride 1 that is transposed with the last; -1     */
    int64_t panel;              /* indices of `across` in an item                                 */
    int64_t total, items, items_per_unit;
} permute_plan;

enum { LINE = 64 };             /* bytes of a cache line                                          */
enum { PANEL_LINES = 4 };       /* lines of each row of x that are read together                  */
enum { PERMUTE_UNIT_BYTES = 65536 };

static void permute_reduce_dims(const fgd_permute_args *a, permute_plan *p)
{
    int n = 0;
    for (int64_t d = 0; d < a->ndim; d++) {
        int64_t size = a->shape[d], stride = a->stride[d];
        if (size == 1)
            continue;
        if (n && p->stride[n - 1] == size * stride) {
            p->shape[n - 1] *= size;
            p->stride[n - 1] = stride;
        } else {
            p->shape[n] = size;
            p->stride[n++] = stride;
        }
    }
    if (n == 0)
        p->shape[n] = 1, p->stride[n++] = 1;
    p->ndim = n;
}

static permute_plan permute_plan_of(const fgd_permute_args *a)
{
    permute_plan p = { .itemsize = a->itemsize, .across = -1, .total = 1 };
    permute_reduce_dims(a, &p);
    for (int d = 0; d < p.ndim; d++)
        p.total *= p.shape[d];
    const int last = p.ndim - 1;
    const int64_t n = p.shape[last], tile = LINE / p.itemsize;
    for (int d = 0; d < last && p.stride[last] > 1; d++)
        if (p.stride[d] == 1)
            p.across = d;
    if (p.total == 0)
        return p;
    if (p.across >= 0) {        /* an item: `panel` rows of y */
        int64_t rows = p.shape[p.across];
        p.panel = PANEL_LINES * tile;
        p.items = p.total / n / rows * cut_ceil(rows, p.panel);
        p.items_per_unit =
            cut_items_per_unit(PERMUTE_UNIT_BYTES, n * cut_min(p.panel, rows) * p.itemsize);
    } else if (p.ndim == 1) {   /* an item: a cache line's worth */
        p.items = cut_ceil(n, tile);
        p.items_per_unit = PERMUTE_UNIT_BYTES / LINE;
    } else {                    /* an item: a row of y */
        p.items = p.total / n;
        p.items_per_unit = cut_items_per_unit(PERMUTE_UNIT_BYTES, n * p.itemsize);
    }
    return p;
}

/* A position over the first `ndim` dims of p, all but `skip`: where it is in x and in y. */
typedef struct permute_index {
    int64_t i[FGD_MAX_DIMS], x, y;
} permute_index;

FGD_INLINE permute_index permute_index_of(const permute_plan *p, int ndim, int skip, int64_t flat)
{
    permute_index at = { .x = 0, .y = 0 };
    int64_t y_stride = 1;
    for (int d = p->ndim - 1; d >= 0; d--) {
        if (d < ndim && d != skip) {
            at.i[d] = flat % p->shape[d];
            flat /= p->shape[d];
            at.x += at.i[d] * p->stride[d];
            at.y += at.i[d] * y_stride;
        }
        y_stride *= p->shape[d];
    }
    return at;
}

/* One further in x; y is not kept. */
FGD_INLINE void permute_index_next(const permute_plan *p, int ndim, permute_index *at)
{
    for (int d = ndim - 1; d >= 0; d--) {
        at->x += p->stride[d];
        if (++at->i[d] < p->shape[d])
            return;
        at->x -= p->shape[d] * p->stride[d];
        at->i[d] = 0;
    }
}
#endif

/* ---- the loops, once per element size ---------------------------------------------------- */

#define E uint8_t
#define E_FN(name) FGD_CAT(name##_8, FGD_TIER_SUFFIX)
#define ZIP_LO(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ZIP_HI(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "permute.inc"

#define E uint16_t
#define E_FN(name) FGD_CAT(name##_16, FGD_TIER_SUFFIX)
#define ZIP_LO(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HI(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "permute.inc"

#define E uint32_t
#define E_FN(name) FGD_CAT(name##_32, FGD_TIER_SUFFIX)
#define ZIP_LO(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HI(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#include "permute.inc"

#define E uint64_t
#define E_FN(name) FGD_CAT(name##_64, FGD_TIER_SUFFIX)
#define ZIP_LO(a, b) __builtin_shufflevector(a, b, 0, 2)
#define ZIP_HI(a, b) __builtin_shufflevector(a, b, 1, 3)
#include "permute.inc"

FGD_PREPARE(permute)
{
    permute_plan p = permute_plan_of(args_);
    int64_t units = p.items ? cut_ceil(p.items, p.items_per_unit) : 0;
    cut_one_phase(work, units, 0, 2.0 * (double)p.total * (double)p.itemsize);
}

FGD_RUN(permute)
{
    (void)phase, (void)context;
    permute_plan p = permute_plan_of(args_);
    if (p.total == 0)
        return;
    int64_t from = begin * p.items_per_unit, to = cut_min(p.items, end * p.items_per_unit);
    switch (p.itemsize) {
    case 1: FGD_CAT(permute_items_8, FGD_TIER_SUFFIX)(&p, ptr[0], ptr[1], from, to); break;
    case 2: FGD_CAT(permute_items_16, FGD_TIER_SUFFIX)(&p, ptr[0], ptr[1], from, to); break;
    case 4: FGD_CAT(permute_items_32, FGD_TIER_SUFFIX)(&p, ptr[0], ptr[1], from, to); break;
    default: FGD_CAT(permute_items_64, FGD_TIER_SUFFIX)(&p, ptr[0], ptr[1], from, to);
    }
}
