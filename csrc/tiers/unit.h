/* What every kernel source may rely on: the C interface, the vector types of the tier it is compiled for,
 * and the names of its functions.
 *
 * Kernel sources know no tier and, but for the untyped ones, no dtype: they are written over the names of
 * simd/simd.h (T, vec, V(op), LANES) and name their functions with FGD_PREPARE and FGD_RUN, which add the
 * dtype and the tier.  setup.py compiles each source once per tier, with FGD_TIER_SUFFIX and
 * FGD_SIMD_<TIER> defined. */
#ifndef FASTGD_UNIT_H
#define FASTGD_UNIT_H
#include "../fastgd.h"

#define FGD_CAT_(a, b) a##b
#define FGD_CAT(a, b) FGD_CAT_(a, b)
/* fgd_softmax_fwd_f32_run_avx2, say */
#define FGD_NAME(op, suffix) FGD_CAT(FGD_CAT(FGD_CAT(fgd_, op), suffix), FGD_TIER_SUFFIX)
/* A function that one kernel source offers to others. */
#define FGD_TIERED(name) FGD_CAT(name, FGD_TIER_SUFFIX)

#include "../simd/simd.h"

/* suffix: the dtype of a typed kernel (_f32), nothing for others */
#define FGD_PREPARE_OF(op, suffix)                                                            \
    void FGD_NAME(op, FGD_CAT(suffix, _prepare))(const void *args_, fgd_work *work)
#define FGD_RUN_OF(op, suffix)                                                                \
    void FGD_NAME(op, FGD_CAT(suffix, _run))(const void *args_, void *const *ptr, int phase,  \
                                             int64_t begin, int64_t end, fgd_context *context)

#define FGD_ARGS(name, fields)
#define FGD_KERNEL(name, args, operands, text)                                                \
    void FGD_NAME(name, _prepare)(const void *, fgd_work *);                                  \
    void FGD_NAME(name, _run)(const void *, void *const *, int, int64_t, int64_t, fgd_context *);
#include "../kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
#endif
