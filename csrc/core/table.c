/* The kernel table and the table of tile operations as data: for the binding, explain() and tests. */
#include "core.h"

static const fgd_kernel_info kernels[] = {
#define FGD_ARGS(name, fields)
#define FGD_KERNEL(name, args, operands, text) {#name, #args, operands, text},
#include "../kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
};

static const struct { const char *name, *fields; } structs[] = {
#define FGD_ARGS(name, fields) {#name, #fields},
#define FGD_KERNEL(name, args, operands, text)
#include "../kernels.def"
#undef FGD_ARGS
#undef FGD_KERNEL
};

const fgd_kernel_info *fgd_kernel_describe(int kernel) {
    return kernel >= 0 && kernel < FGD_N_KERNELS ? &kernels[kernel] : 0;
}

const char *fgd_args_fields(int index, const char **name) {
    int n = (int)(sizeof structs / sizeof structs[0]);
    if (index < 0 || index >= n) return 0;
    *name = structs[index].name;
    return structs[index].fields;
}

static const fgd_tile_op_info tile_ops[] = {
#define FGD_TILE_OP(name, n_inputs, dtypes, text) {#name, n_inputs, dtypes, text},
#include "../kernels/elementwise.def"
#undef FGD_TILE_OP
};

int fgd_tile_op_count(void) { return (int)(sizeof tile_ops / sizeof tile_ops[0]); }

const fgd_tile_op_info *fgd_tile_op_describe(int opcode) {
    return opcode >= 0 && opcode < fgd_tile_op_count() ? &tile_ops[opcode] : 0;
}

int64_t fgd_dtype_size(int dtype) {
    static const int64_t size[FGD_N_DTYPES] = {
        [FGD_F32] = 4, [FGD_F64] = 8, [FGD_BF16] = 2, [FGD_I32] = 4, [FGD_I64] = 8, [FGD_U8] = 1, [FGD_BOOL] = 1};
    return dtype >= 0 && dtype < FGD_N_DTYPES ? size[dtype] : 0;
}
