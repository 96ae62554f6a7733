/* Status codes and the text of each thread's last failure. */
#include "core.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_error[512];

const char *fgd_last_error(void) { return last_error; }

fgd_status fgd_fail(fgd_status status, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(last_error, sizeof last_error, format, list);
    va_end(list);
    return status;
}

/* Several threads may find a fault in one instruction: the first to claim `status` writes. */
void fgd_fault_set(fgd_fault *fault, fgd_status status, int64_t where, int64_t value, int64_t bound) {
    int32_t none = FGD_OK;
    if (!fault) return;
    if (!__atomic_compare_exchange_n(&fault->status, &none, (int32_t)status, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    fault->where = where;
    fault->value = value;
    fault->bound = bound;
}
