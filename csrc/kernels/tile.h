/* How other kernels (the GEMM's epilogue) run an elementwise program on a block of their output.
 *
 * A tile program is the tail of kernels.def's `elementwise` without the iteration space.  Its
 * owner parses it once per call with tile_program_parse and then runs it on blocks of rows.
 *
 * An iteration space of shape s is seen as prod(s[:-1]) rows of s[-1] columns, because that is how
 * the contiguous outputs lie in memory.  Rows are cut into tiles of at most TILE_ELEMS elements;
 * each operation of the program runs over a whole tile before the next one starts. */
#ifndef FASTGD_TILE_H
#define FASTGD_TILE_H
#include "../fastgd.h"

enum { TILE_INPUT_WORDS = 1 + FGD_LOOP_DIMS, TILE_OUTPUT_WORDS = 2, TILE_OP_WORDS = 8 };
enum { TILE_ELEMS = 1024 };          /* elements in one register of a tile program              */
enum { TILE_MAX_REGISTERS = 64, TILE_MAX_OPERANDS = 32 };

typedef struct tile_program {
    int ndim;
    int n_outputs, n_inputs, n_ops, n_registers;
    const int64_t *outputs, *ops;                       /* into the tail                       */
    int64_t shape[FGD_LOOP_DIMS];
    int64_t stride[TILE_MAX_OPERANDS][FGD_LOOP_DIMS];   /* of the inputs                       */
    int8_t dtype[TILE_MAX_REGISTERS];                   /* -1: nothing writes the register     */
    int8_t writes[TILE_MAX_REGISTERS];                  /* operations that write it, up to 2   */
    int32_t at[TILE_MAX_REGISTERS];                     /* where it lies in scratch, in bytes  */
    int32_t scratch_bytes;
    uint64_t raw;                                       /* inputs read through their pointer   */
} tile_program;

#define tile_program_parse FGD_TIERED(fgd_tile_program_parse)
#define tile_scratch_bytes FGD_TIERED(fgd_tile_scratch_bytes)
#define tile_run_block FGD_TIERED(fgd_tile_run_block)

/* tail: { n_outputs, n_inputs, n_ops, n_registers, inputs..., outputs..., ops... }. */
void tile_program_parse(tile_program *p, int ndim, const int64_t *shape,
                        const int64_t *tail);

/* Scratch that tile_run_block needs, 64-byte aligned. */
int64_t tile_scratch_bytes(const tile_program *p);

/* Runs the program on rows x cols elements from coord[ndim] on, rows along dimension ndim-2 and
 * cols along the last one (with ndim 1 there is one row).  out and in point to element 0 of each
 * operand; outputs are contiguous over the shape.  An output may be the same buffer as an input
 * of the same element size, exactly, if no operation after the one that makes the output reads
 * that input. */
void tile_run_block(const tile_program *p, void *const *out, const void *const *in,
                    const int64_t *coord, int64_t rows, int64_t cols, void *scratch);
#endif
