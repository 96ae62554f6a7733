/* How other kernels (the GEMM's epilogue) run an elementwise program on a block of their output.
 *
 * A tile program is the tail of kernels.def's `elementwise` without the iteration space.  Its
 * owner parses it once per call with tile_program_parse and then runs it on row segments. */
#ifndef FASTGD_TILE_H
#define FASTGD_TILE_H
#include "../fastgd.h"

enum { TILE_INPUT_WORDS = 1 + FGD_LOOP_DIMS, TILE_OUTPUT_WORDS = 2, TILE_OP_WORDS = 8 };
enum { TILE_ELEMS = 512 };          /* elements in one register of a tile program              */
enum { TILE_MAX_REGISTERS = 64, TILE_MAX_OPERANDS = 32 };

typedef struct tile_program {
    int ndim;
    int n_outputs, n_inputs, n_ops, n_registers;
    const int64_t *inputs, *outputs, *ops;      /* into the tail                               */
    int64_t shape[FGD_LOOP_DIMS];
} tile_program;
#endif
