/* The function table of one tier. */
#include "unit.h"

const fgd_kernel FGD_TIERED(fgd_table)[FGD_N_KERNELS] = {
#define FGD_ARGS(name, fields)
#define FGD_KERNEL(name, args, operands, text) { FGD_NAME(name, _prepare), FGD_NAME(name, _run) },
#include "../kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
};
