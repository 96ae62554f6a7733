/* What the rest of the core may know about the matrix product: its canonical order, and the
 * shape-only description of how one product is cut into work.
 *
 * The canonical order.  With k cut into blocks of FGD_GEMM_KC,
 *     block(q)  = one chain of fused multiply-adds over ascending k, started from 0
 *     total     = (..((block(0) + block(1)) + block(2)) + ..)
 *     c         = alpha * total                       when beta is 0 (c is not read)
 *               = alpha * total + beta * c            otherwise, each operation rounded
 * and then the epilogue.  (The scalar tier has no FMA: multiply, then add.)  It holds for every
 * shape, layout, tile position and number of threads; a kernel that fuses a product into
 * something else reproduces these bits by following it.
 */
#ifndef FASTGD_GEMM_H
#define FASTGD_GEMM_H
#include "../fastgd.h"

enum { FGD_GEMM_KC = 256 };

/* Row sums follow kernels/reduce.c's order over rows: blocks of this many, added in order. */
enum { FGD_ROW_SUM_BLOCK = 256 };

/* One side of the product (the rows of a, or the columns of b) as a row of panels.  Panel p
 * starts at p * low + min(p, wide): the first `wide` panels hold one element more, so that the
 * panels of a, whose height is free, differ by one at most and no thin one is left over. */
typedef struct gemm_side {
    int64_t size, panels, width;    /* width: elements per step of k in a packed panel         */
    int64_t low, wide;
    int64_t per_item, items;        /* panels in a work item, and how many items they make     */
} gemm_side;

/* The cut of one product, a function of its arguments alone.  The outer side is taken in strips,
 * each packed into thread scratch by whichever thread comes to it; the inner side is walked
 * along each strip, packed once for all threads in a phase of its own or read where it lies.
 * Work items are ordered (batch, strip, segment of k, inner piece). */
typedef struct gemm_cut {
    gemm_side a, b;
    int64_t batch;
    int64_t k_blocks;               /* at least 1, so that k = 0 still writes c                */
    int64_t segments, per_segment;  /* segments of k, and k blocks in one                      */
    int64_t group;                  /* items per unit                                          */
    int64_t units;
    int outer_is_b;
    int pack_outer, pack_inner;
    int64_t inner_copies;           /* 1 when the inner operand is the same for all batches    */
    int64_t inner_bytes, sums_bytes;/* of shared scratch                                       */
    int64_t strip_bytes, total_bytes;/* of thread scratch                                      */
} gemm_cut;

/* The micro-kernel's tile, for those who bring their own packing (panels.h). */
typedef struct gemm_tile_size {
    int64_t rows, cols;
} gemm_tile_size;

#endif
