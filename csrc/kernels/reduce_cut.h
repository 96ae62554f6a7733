/* How a reduction is cut into work, for every dtype. */
#ifndef FASTGD_REDUCE_CUT
#define FASTGD_REDUCE_CUT
#include "cut.h"

enum { REDUCE_SUM = 0, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_MEAN };

/* An item is one strip of columns of one outer index: all its rows or, if that leaves too few
 * items for several threads, one block of rows, whose result goes to the shared scratch
 * partial[outer, blocks, inner] and is combined in phase 1. */
typedef struct reduce_cut {
    int64_t block_rows, blocks, strip, strips, items, items_per_unit;
    int two_phases;
} reduce_cut;

static inline reduce_cut reduce_cut_of(const fgd_reduce_args *a)
{
    reduce_cut c;
    int64_t wanted = FGD_UNIT_ELEMS / cut_max(1, a->r);
    c.block_rows = a->inner == 1 ? FGD_SUM_BLOCK : FGD_SUM_ROWS;
    c.blocks = cut_max(1, cut_ceil(a->r, c.block_rows));
    c.strip = cut_min(a->inner, cut_max(128, cut_ceil(wanted, 128) * 128));
    c.strips = a->inner ? cut_ceil(a->inner, c.strip) : 0;
    c.items = a->outer * c.strips;
    c.two_phases = c.blocks > 1 && c.items < 8 && c.items * c.strip * a->r > 4 * FGD_UNIT_ELEMS;
    if (c.two_phases)
        c.items *= c.blocks;
    c.items_per_unit =
        cut_items_per_unit(FGD_UNIT_ELEMS, c.strip * (c.two_phases ? c.block_rows : a->r));
    return c;
}

static inline void reduce_prepare(const fgd_reduce_args *a, int64_t itemsize, fgd_work *work)
{
    reduce_cut c = reduce_cut_of(a);
    double n = (double)a->outer * a->r * a->inner, y = (double)a->outer * a->inner;
    int64_t units = cut_ceil(c.items, c.items_per_unit);
    cut_one_phase(work, units, n, (n + y) * itemsize);
    if (c.two_phases)
        cut_two_phases(work, units, 1, a->outer * c.blocks * a->inner * (int64_t)sizeof(double), n,
                       (n + y) * itemsize);
}
#endif
