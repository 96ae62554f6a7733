/* y assembled from parts: cat, stack, padding, the gradient of a slice, assignment to a slice.
 *
 * Phase 0 (if there is one) lays the ground: one number everywhere, or a copy of `base`.  The last phase copies
 * the parts, which must not overlap in y, each from a strided x to a strided region of y.
 *
 * A part is walked as rows of its last dimension after dims that both sides walk as one are merged.  The parts one after
 * the other make one flat sequence of elements that is cut every FGD_UNIT_ELEMS.  Elements are moved as unsigned
 * integers of their size, so that every bit pattern survives. */
#include <string.h>
#include "cut.h"

#ifndef FASTGD_ASSEMBLE_TYPES
#define FASTGD_ASSEMBLE_TYPES

enum { GROUND_NONE = 0, GROUND_FILL, GROUND_BASE };
/* A part in the tail: { ndim, y_offset, shape[], y_stride[], x_stride[] }. */
enum { PART_NDIM = 0, PART_Y = 1, PART_SHAPE = 2, PART_WORDS = 2 + 3 * FGD_MAX_DIMS };

typedef struct assemble_part {
    int ndim;
    int64_t y_offset, numel;
    int64_t shape[FGD_MAX_DIMS], ys[FGD_MAX_DIMS], xs[FGD_MAX_DIMS];
} assemble_part;

static int64_t assemble_numel(const int64_t *words)
{
    int64_t numel = 1;
    for (int64_t d = 0; d < words[PART_NDIM]; d++)
        numel *= words[PART_SHAPE + d];
    return numel;
}

/* Dims of one element go, neighbours that both sides walk as one are merged. */
static assemble_part assemble_part_of(const int64_t *words)
{
    const int64_t *shape = words + PART_SHAPE, *ys = shape + FGD_MAX_DIMS, *xs = ys + FGD_MAX_DIMS;
    assemble_part p = { .y_offset = words[PART_Y], .numel = assemble_numel(words) };
    int n = 0;
    for (int64_t d = 0; d < words[PART_NDIM]; d++) {
        if (shape[d] == 1)
            continue;
        if (n && p.ys[n - 1] == shape[d] * ys[d] && p.xs[n - 1] == shape[d] * xs[d]) {
            p.shape[n - 1] *= shape[d];
        } else {
            p.shape[n++] = shape[d];
        }
        p.ys[n - 1] = ys[d];
        p.xs[n - 1] = xs[d];
    }
    if (n == 0)
        p.shape[n] = p.ys[n] = p.xs[n] = 1, n++;
    p.ndim = n;
    return p;
}

static int64_t assemble_total(const fgd_assemble_args *a)
{
    int64_t total = 0;
    for (int64_t i = 0; i < a->n_parts; i++)
        total += assemble_numel(a->tail + i * PART_WORDS);
    return total;
}
#endif

#define E uint8_t
#define E_FN(name) FGD_CAT(name##_8, FGD_TIER_SUFFIX)
#include "assemble.inc"

#define E uint16_t
#define E_FN(name) FGD_CAT(name##_16, FGD_TIER_SUFFIX)
#include "assemble.inc"

#define E uint32_t
#define E_FN(name) FGD_CAT(name##_32, FGD_TIER_SUFFIX)
#include "assemble.inc"

#define E uint64_t
#define E_FN(name) FGD_CAT(name##_64, FGD_TIER_SUFFIX)
#include "assemble.inc"

FGD_PREPARE(assemble)
{
    const fgd_assemble_args *a = args_;
    const int64_t total = assemble_total(a), parts = cut_max(1, cut_ceil(total, FGD_UNIT_ELEMS));
    const double copied = 2.0 * (double)total * (double)a->itemsize, laid = (double)a->numel * (double)a->itemsize;
    if (a->ground == GROUND_NONE)
        cut_one_phase(work, parts, 0, copied);
    else
        cut_two_phases(work, cut_max(1, cut_ceil(a->numel, FGD_UNIT_ELEMS)), parts, 0, 0,
                       copied + (a->ground == GROUND_BASE ? 2 : 1) * laid);
}

FGD_RUN(assemble)
{
    (void)context;
    const fgd_assemble_args *a = args_;
    const int ground = a->ground != GROUND_NONE && phase == 0;
    switch (a->itemsize) {
#define CASE(bytes, bits)                                                                      \
    case bytes:                                                                                \
        if (ground)                                                                            \
            FGD_CAT(assemble_ground_##bits, FGD_TIER_SUFFIX)(a, ptr, begin, end);              \
        else                                                                                   \
            FGD_CAT(assemble_parts_##bits, FGD_TIER_SUFFIX)(a, ptr, begin, end);               \
        break;
    CASE(1, 8)
    CASE(2, 16)
    CASE(4, 32)
    CASE(8, 64)
#undef CASE
    }
}
