/* How reductions, losses, optimizers and copies are cut into units of work, and the constants of the canonical order of
 * sums (stated at the top of reduce.c) for every kernel that has to reproduce it.
 *
 * Cuts depend on shapes alone, never on the number of threads. */
#ifndef FASTGD_CUT_H
#define FASTGD_CUT_H
#include "../fastgd.h"

#define FGD_INLINE static inline __attribute__((always_inline))

enum {
    FGD_SUM_ROWS = 256,         /* rows of x[outer, r, inner > 1] that one chain of adds covers   */
    FGD_SUM_BLOCK = 4096,       /* elements of a contiguous row that one set of lanes covers      */
    FGD_SUM_CHAINS = 4          /* vectors in that set of lanes                                   */
};

/* A unit of streaming work: large against the cost of handing it out, small enough that its
 * operands stay in L2 between two phases of one kernel. */
enum { FGD_UNIT_ELEMS = 16384 };

FGD_INLINE int64_t cut_min(int64_t a, int64_t b) { return a < b ? a : b; }
FGD_INLINE int64_t cut_max(int64_t a, int64_t b) { return a > b ? a : b; }
FGD_INLINE int64_t cut_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* How many items of `cost` elements make a unit of at least `elems`. */
FGD_INLINE int64_t cut_items_per_unit(int64_t elems, int64_t cost)
{
    return cut_max(1, elems / cut_max(1, cost));
}

/* One phase of `units` independent units; never 0 units, so that empty shapes need no care. */
FGD_INLINE void cut_one_phase(fgd_work *work, int64_t units, double flops, double bytes)
{
    *work = (fgd_work){ .n_phases = 1, .units = { cut_max(1, units) },
                        .flops = flops, .bytes = bytes };
}

FGD_INLINE void cut_two_phases(fgd_work *work, int64_t first, int64_t second, int64_t shared_bytes,
                               double flops, double bytes)
{
    *work = (fgd_work){ .n_phases = 2, .units = { first, second }, .shared_bytes = shared_bytes,
                        .flops = flops, .bytes = bytes };
}

/* A list of buffers (segments) seen as one flat sequence that is cut every FGD_UNIT_ELEMS.  A cut
 * inside a segment is moved down to a multiple of CUT_ALIGN elements, so that vectors stay
 * aligned when the buffer is. */
enum { CUT_ALIGN = 64 };

/* The walk over the pieces of segments in units [begin, end), resumed by moving flat_end:
 *   cut_walk w = cut_walk_begin(...); while (cut_walk_next(&w)) use w.segment, w.from, w.to */
typedef struct cut_walk {
    const int64_t *table;               /* entry s * stride is the length of segment s            */
    int64_t stride, n_segments;
    int64_t flat_begin, flat_end;       /* still to do                                            */
    int64_t next, flat;                 /* the next segment and where it begins, <= flat_begin    */
    int64_t segment, from, to;          /* the current piece                                      */
} cut_walk;

FGD_INLINE int64_t cut_total(const int64_t *table, int64_t stride, int64_t n_segments)
{
    int64_t total = 0;
    for (int64_t s = 0; s < n_segments; s++)
        total += table[s * stride];
    return total;
}

FGD_INLINE cut_walk cut_walk_begin(const int64_t *table, int64_t stride, int64_t n_segments,
                                   int64_t begin, int64_t end)
{
    return (cut_walk){ .table = table, .stride = stride, .n_segments = n_segments,
                       .flat_begin = begin * FGD_UNIT_ELEMS, .flat_end = end * FGD_UNIT_ELEMS };
}

FGD_INLINE int cut_walk_next(cut_walk *w)
{
    while (w->next < w->n_segments && w->flat_begin < w->flat_end) {
        int64_t length = w->table[w->next * w->stride];
        int64_t from = w->flat_begin - w->flat, to = w->flat_end - w->flat;
        w->segment = w->next;
        w->from = from / CUT_ALIGN * CUT_ALIGN;
        w->to = to >= length ? length : to / CUT_ALIGN * CUT_ALIGN;
        if (to >= length) {
            w->next++;
            w->flat += length;
            w->flat_begin = cut_max(w->flat_begin, w->flat);
        } else {
            w->flat_begin = w->flat_end;
        }
        if (from < length && w->from < w->to)
            return 1;
    }
    return 0;
}
#endif
