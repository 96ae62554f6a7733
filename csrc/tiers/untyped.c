/* One kernel source (the macro FGD_UNIT) that knows its dtypes itself. */
#include "unit.h"

#define FGD_PREPARE(op) FGD_PREPARE_OF(op, )
#define FGD_RUN(op) FGD_RUN_OF(op, )
#include FGD_UNIT
