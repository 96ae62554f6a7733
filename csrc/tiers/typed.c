/* One kernel source (the macro FGD_UNIT), compiled for both float dtypes. */
#include "unit.h"

#define FGD_PREPARE(op) FGD_PREPARE_OF(op, FGD_T_SUFFIX)
#define FGD_RUN(op) FGD_RUN_OF(op, FGD_T_SUFFIX)

#include "../simd/f32.h"
#include FGD_UNIT
#include "../simd/undef.h"

#include "../simd/f64.h"
#include FGD_UNIT
#include "../simd/undef.h"
