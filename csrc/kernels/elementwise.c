/* The `elementwise` kernel: a small program of elementwise operations over broadcast inputs, run
 * tile by tile so that intermediate results stay in L1.  Also the tile interface (tile.h) through
 * which other kernels run such a program on a block of their output.
 *
 * Assumes that the program is well formed (the binding checks it): every operation has an instance
 * for its dtypes, registers are written before they are read, inputs are never written.
 *
 * The method is that of vectorised interpreters (Boncz, Zukowski and Nes, "MonetDB/X100:
 * hyper-pipelining query execution", 2005): an instruction works on a vector that fits the cache,
 * which divides the cost of interpretation by its length. */
#include <string.h>
#include "tile.h"

#define TILE_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define TILE_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define TILE_IVDEP _Pragma("GCC ivdep")
#endif

/* ---- the operations ---------------------------------------------------------------------- */

/* One operation over rows x cols elements.  Each operand has its own leading dimension in elements
 * (0 repeats a row).  y may be the same memory as an operand, exactly: the loops assert that no
 * iteration depends on another, which is true of that and nothing else. */
typedef struct tile_call {
    int64_t rows, cols;
    void *y;
    const void *x[3];
    int64_t y_ld, x_ld[3];
    int64_t imm0, imm1;
    int64_t index, index_ld;            /* of the first element in the iteration space */
} tile_call;
typedef void (*tile_fn)(const tile_call *);

static inline double tile_double(int64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#include "../simd/f32.h"
#include "elementwise_float.inc"
#include "../simd/undef.h"
#include "../simd/f64.h"
#include "elementwise_float.inc"
#include "../simd/undef.h"

#define TILE_NAME(op) f32_tile_##op
#define E float
#define TILE_E_KIND 2
#include "elementwise_plain.inc"

#define TILE_NAME(op) f64_tile_##op
#define E double
#define TILE_E_KIND 2
#include "elementwise_plain.inc"

#define TILE_NAME(op) i32_tile_##op
#define E int32_t
#define U uint32_t
#define TILE_E_KIND 1
#include "elementwise_plain.inc"

#define TILE_NAME(op) i64_tile_##op
#define E int64_t
#define U uint64_t
#define TILE_E_KIND 1
#include "elementwise_plain.inc"

#define TILE_NAME(op) u8_tile_##op
#define E uint8_t
#define U uint32_t
#define TILE_E_KIND 1
#include "elementwise_plain.inc"

#define TILE_NAME(op) bool_tile_##op
#define E uint8_t
#define TILE_E_KIND 0
#include "elementwise_plain.inc"

static void bf16_tile_copy(const tile_call *k)
{
    for (int64_t r = 0; r < k->rows; r++)
        memmove((uint16_t *)k->y + r * k->y_ld, (const uint16_t *)k->x[0] + r * k->x_ld[0],
                (size_t)k->cols * sizeof(uint16_t));
}

/* To nearest even: the carry out of the lower half rounds the upper one.  NaN, which the carry
 * could turn into infinity, is made quiet instead. */
static void f32_tile_to_bf16(const tile_call *k)
{
    for (int64_t r = 0; r < k->rows; r++) {
        uint16_t *y = (uint16_t *)k->y + r * k->y_ld;
        const uint32_t *x = (const uint32_t *)k->x[0] + r * k->x_ld[0];
        TILE_IVDEP
        for (int64_t i = 0, n = k->cols; i < n; i++) {
            uint32_t a = x[i], rounded = (a + 0x7fff + (a >> 16 & 1)) >> 16;
            uint32_t quiet = a >> 16 | 0x40;
            y[i] = (uint16_t)((a & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
        }
    }
}

static void bf16_tile_to_f32(const tile_call *k)
{
    for (int64_t r = 0; r < k->rows; r++) {
        uint32_t *y = (uint32_t *)k->y + r * k->y_ld;
        const uint16_t *x = (const uint16_t *)k->x[0] + r * k->x_ld[0];
        TILE_IVDEP
        for (int64_t i = 0, n = k->cols; i < n; i++) y[i] = (uint32_t)x[i] << 16;
    }
}

/* ---- the tables -------------------------------------------------------------------------- */

enum {
#define FGD_TILE_OP(name, n_inputs, dtypes, text) TILE_OP_##name,
#include "elementwise.def"
#undef FGD_TILE_OP
    TILE_N_OPS
};

static const int8_t tile_n_inputs[TILE_N_OPS] = {
#define FGD_TILE_OP(name, n_inputs, dtypes, text) n_inputs,
#include "elementwise.def"
#undef FGD_TILE_OP
};

/* A row's family of dtypes names its instances. */
#define INSTANCES_FGD_TILE_FLOAT(op) [FGD_F32] = f32_tile_##op, [FGD_F64] = f64_tile_##op
#define INSTANCES_FGD_TILE_BOOL(op) [FGD_BOOL] = bool_tile_##op
#define INSTANCES_FGD_TILE_INT(op)                                                             \
    [FGD_I32] = i32_tile_##op, [FGD_I64] = i64_tile_##op, [FGD_U8] = u8_tile_##op
#define INSTANCES_FGD_TILE_NUMBER(op) INSTANCES_FGD_TILE_FLOAT(op), INSTANCES_FGD_TILE_INT(op)
#define INSTANCES_FGD_TILE_PLAIN(op) INSTANCES_FGD_TILE_NUMBER(op), INSTANCES_FGD_TILE_BOOL(op)
#define INSTANCES_FGD_TILE_ANY(op) INSTANCES_FGD_TILE_PLAIN(op), [FGD_BF16] = bf16_tile_##op
#define INSTANCES_FGD_TILE_CAST(op) NULL                    /* in tile_casts instead */
static const tile_fn tile_table[TILE_N_OPS][FGD_N_DTYPES] = {
#define FGD_TILE_OP(name, n_inputs, dtypes, text) { INSTANCES_##dtypes(name) },
#include "elementwise.def"
#undef FGD_TILE_OP
};

#define CASTS(from)                                                                            \
    [FGD_F32] = from##_tile_to_f32, [FGD_F64] = from##_tile_to_f64,                            \
    [FGD_I32] = from##_tile_to_i32, [FGD_I64] = from##_tile_to_i64,                            \
    [FGD_U8] = from##_tile_to_u8, [FGD_BOOL] = from##_tile_to_bool
static const tile_fn tile_casts[FGD_N_DTYPES][FGD_N_DTYPES] = {     /* [from][to] */
    [FGD_F32] = { CASTS(f32), [FGD_BF16] = f32_tile_to_bf16 },
    [FGD_F64] = { CASTS(f64) },
    [FGD_BF16] = { [FGD_F32] = bf16_tile_to_f32, [FGD_BF16] = bf16_tile_copy },
    [FGD_I32] = { CASTS(i32) },
    [FGD_I64] = { CASTS(i64) },
    [FGD_U8] = { CASTS(u8) },
    [FGD_BOOL] = { CASTS(bool) },
};
#undef CASTS

static int tile_result_dtype(int64_t opcode, int64_t dtype, int64_t imm1)
{
    switch (opcode) {
    case TILE_OP_cast:
        return (int)imm1;
    case TILE_OP_eq: case TILE_OP_ne: case TILE_OP_lt: case TILE_OP_le: case TILE_OP_gt:
    case TILE_OP_ge: case TILE_OP_isnan: case TILE_OP_isfinite: case TILE_OP_isinf:
        return FGD_BOOL;
    default:
        return (int)dtype;
    }
}

/* Arithmetic instructions per element, roughly, for the cost model; doubles count twice because a
 * vector holds half as many. */
static double tile_weight(int64_t opcode, int64_t dtype)
{
    double weight;
    switch (opcode) {
    case TILE_OP_copy: case TILE_OP_cast: case TILE_OP_const:
        weight = 1;
        break;
    case TILE_OP_div: case TILE_OP_sqrt: case TILE_OP_reciprocal: case TILE_OP_div_trunc:
    case TILE_OP_softsign: case TILE_OP_softsign_bwd: case TILE_OP_hardsigmoid:
    case TILE_OP_hardsigmoid_bwd: case TILE_OP_hardswish: case TILE_OP_hardswish_bwd:
        weight = 8;
        break;
    case TILE_OP_rsqrt: case TILE_OP_exp: case TILE_OP_log: case TILE_OP_dropout: case TILE_OP_exp2:
    case TILE_OP_log2: case TILE_OP_log10: case TILE_OP_elu_bwd: case TILE_OP_selu_bwd:
        weight = 16;
        break;
    case TILE_OP_expm1: case TILE_OP_log1p: case TILE_OP_sin: case TILE_OP_cos:
    case TILE_OP_tanh: case TILE_OP_sigmoid: case TILE_OP_silu: case TILE_OP_silu_bwd:
    case TILE_OP_elu: case TILE_OP_selu: case TILE_OP_mish: case TILE_OP_mish_bwd:
    case TILE_OP_softplus_bwd: case TILE_OP_logsigmoid_bwd:
        weight = 24;
        break;
    case TILE_OP_gelu_tanh: case TILE_OP_gelu_tanh_bwd: case TILE_OP_erf: case TILE_OP_gelu:
        weight = 32;
        break;
    case TILE_OP_gelu_bwd: case TILE_OP_pow: case TILE_OP_softplus: case TILE_OP_logsigmoid:
        weight = 48;
        break;
    case TILE_OP_fmod: case TILE_OP_remainder: case TILE_OP_div_floor:      /* the C library's fmod */
        weight = 100;
        break;
    default:
        weight = 1;
    }
    return dtype == FGD_F64 ? 2 * weight : weight;
}

/* The same numbers as fgd_dtype_size, within reach of the optimiser. */
static inline int64_t tile_size(int64_t dtype)
{
    static const int8_t size[FGD_N_DTYPES] = {
        [FGD_F32] = 4, [FGD_F64] = 8, [FGD_BF16] = 2, [FGD_I32] = 4, [FGD_I64] = 8,
        [FGD_U8] = 1, [FGD_BOOL] = 1,
    };
    return size[dtype];
}

/* ---- parsing ----------------------------------------------------------------------------- */

/* An operation of the tail: { opcode, dtype, dst, a, b, c, imm0, imm1 }. */
enum { OP_CODE, OP_DTYPE, OP_DST, OP_A, OP_IMM0 = 6, OP_IMM1 };

static void tile_declare(tile_program *p, int64_t reg, int dtype)
{
    if (p->dtype[reg] < 0) {
        p->dtype[reg] = (int8_t)dtype;
        p->at[reg] = p->scratch_bytes;
        p->scratch_bytes += (int32_t)(TILE_ELEMS * tile_size(dtype));
    }
}

static void tile_parse(tile_program *p, int ndim, const int64_t *shape, const int64_t *counts,
                       const int64_t *tail)
{
    p->ndim = ndim;
    p->n_outputs = (int)counts[0];
    p->n_inputs = (int)counts[1];
    p->n_ops = (int)counts[2];
    p->n_registers = (int)counts[3];
    p->scratch_bytes = 0;
    p->raw = 0;
    memcpy(p->shape, shape, (size_t)ndim * sizeof *shape);
    memset(p->dtype, -1, (size_t)p->n_registers);
    memset(p->writes, 0, (size_t)p->n_registers);
    for (int i = 0; i < p->n_inputs; i++, tail += TILE_INPUT_WORDS) {
        tile_declare(p, i, (int)tail[0]);
        memcpy(p->stride[i], tail + 1, (size_t)ndim * sizeof *tail);
    }
    p->outputs = tail;
    p->ops = tail + (int64_t)p->n_outputs * TILE_OUTPUT_WORDS;
    const int64_t *op = p->ops;
    for (int i = 0; i < p->n_ops; i++, op += TILE_OP_WORDS) {
        int64_t dst = op[OP_DST];
        tile_declare(p, dst, tile_result_dtype(op[OP_CODE], op[OP_DTYPE], op[OP_IMM1]));
        if (p->writes[dst] < 2) p->writes[dst]++;
        if (op[OP_CODE] == TILE_OP_dropout) p->raw |= (uint64_t)1 << op[OP_A + 1];
    }
}

void tile_program_parse(tile_program *p, int ndim, const int64_t *shape,
                               const int64_t *tail)
{
    tile_parse(p, ndim, shape, tail, tail + 4);
}

int64_t tile_scratch_bytes(const tile_program *p) { return p->scratch_bytes; }

/* Drops dimensions of one element and joins neighbours that every input walks as one. */
static void tile_collapse(tile_program *p)
{
    int last = -1;
    for (int d = 0; d < p->ndim; d++) {
        if (p->shape[d] == 1) continue;
        int joins = last >= 0;
        for (int i = 0; i < p->n_inputs && joins; i++)
            joins = p->stride[i][last] == p->stride[i][d] * p->shape[d];
        if (!joins) last++;
        p->shape[last] = joins ? p->shape[last] * p->shape[d] : p->shape[d];
        for (int i = 0; i < p->n_inputs; i++) p->stride[i][last] = p->stride[i][d];
    }
    if (last < 0) {                     /* a single element */
        last = 0;
        p->shape[0] = 1;
        for (int i = 0; i < p->n_inputs; i++) p->stride[i][0] = 0;
    }
    p->ndim = last + 1;
}

/* ---- where the operands of a tile lie ---------------------------------------------------- */

typedef enum tile_source {
    IN_PLACE,       /* read where it lies, rows `ld` apart                                     */
    ROW_IN_PLACE,   /* read where it lies; rows follow no single stride, but a tile has one    */
    FIXED,          /* in scratch, the same for every tile                                     */
    GATHERED,       /* copied to scratch for each tile                                         */
    RAW             /* not an array: only its pointer is used                                  */
} tile_source;

typedef struct tile_register {
    char *p;
    int64_t ld;
} tile_register;

/* The block in hand: rows (numbered through all dimensions but the last) and columns. */
typedef struct tile_block {
    int64_t row, rows, col, cols;
} tile_block;

static tile_source tile_classify(const tile_program *p, int input, const tile_block *block,
                                 int64_t tile_rows)
{
    if (p->raw >> input & 1) return RAW;
    const int64_t *stride = p->stride[input], *shape = p->shape;
    const int last = p->ndim - 1;
    int constant_rows = 1, linear = 1;
    for (int d = 0; d < last; d++) {
        constant_rows &= stride[d] == 0 || shape[d] == 1;
        if (d < last - 1) linear &= stride[d] == stride[d + 1] * shape[d + 1];
    }
    if (constant_rows && stride[last] == 0) return FIXED;
    if (stride[last] != 1) return GATHERED;
    /* A repeated short row is laid out for a whole tile once, so that operations see one long
     * run; in a block narrower than the rows there are no long runs to be had. */
    if (constant_rows && tile_rows > 1 && block->cols == shape[last]) return FIXED;
    if (linear) return IN_PLACE;
    return tile_rows == 1 ? ROW_IN_PLACE : GATHERED;
}

/* Offset in elements of a row's column 0 and, in *run, how many rows from there on follow at the
 * stride of the last but one dimension. */
static int64_t tile_row_offset(const tile_program *p, int input, int64_t row, int64_t *run)
{
    int64_t offset = 0;
    *run = 1;
    for (int d = p->ndim - 2; d >= 0; d--) {
        int64_t coordinate = row % p->shape[d];
        row /= p->shape[d];
        offset += coordinate * p->stride[input][d];
        if (d == p->ndim - 2) *run = p->shape[d] - coordinate;
    }
    return offset;
}

static TILE_INLINE void tile_fill_row(char *y, const char *x, int64_t stride, int64_t n,
                                      size_t size)
{
    if (stride == 1) {
        memcpy(y, x, (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(y + (size_t)i * size, x + i * stride * (int64_t)size, size);
}

static void tile_gather_row(char *y, const char *x, int64_t stride, int64_t n, int64_t size)
{
    switch (size) {
    case 1: tile_fill_row(y, x, stride, n, 1); break;
    case 2: tile_fill_row(y, x, stride, n, 2); break;
    case 4: tile_fill_row(y, x, stride, n, 4); break;
    default: tile_fill_row(y, x, stride, n, 8);
    }
}

/* Repeats the n bytes at y until there are `total`, doubling. */
static void tile_repeat(char *y, int64_t n, int64_t total)
{
    for (int64_t more; n < total; n += more) {
        more = total - n < n ? total - n : n;
        memcpy(y + n, y, (size_t)more);
    }
}

/* Copies an input's elements of a block to y, row after row without gaps. */
static void tile_gather(const tile_program *p, int input, const char *x, const tile_block *block,
                        char *y)
{
    const int64_t size = tile_size(p->dtype[input]), stride = p->stride[input][p->ndim - 1];
    const int64_t step = p->ndim > 1 ? p->stride[input][p->ndim - 2] : 0;
    int64_t run = 0, offset = 0;
    for (int64_t r = 0; r < block->rows; r++, run--, offset += step) {
        if (run == 0) offset = tile_row_offset(p, input, block->row + r, &run);
        tile_gather_row(y, x + (offset + block->col * stride) * size, stride, block->cols, size);
        y += block->cols * size;
    }
}

/* The same for an input whose rows are all alike. */
static void tile_gather_alike(const tile_program *p, int input, const char *x,
                              const tile_block *block, char *y)
{
    const int64_t size = tile_size(p->dtype[input]), stride = p->stride[input][p->ndim - 1];
    const int64_t n = stride ? block->cols : 1;
    tile_gather_row(y, x + block->col * stride * size, stride, n, size);
    tile_repeat(y, n * size, block->rows * block->cols * size);
}

/* ---- running ----------------------------------------------------------------------------- */

typedef struct tile_run {
    const tile_program *p;
    void *const *out;
    const void *const *in;
    char *scratch;
    tile_source source[TILE_MAX_OPERANDS];
    tile_register reg[TILE_MAX_REGISTERS];
} tile_run;

static void tile_apply(const tile_run *t, const int64_t *op, const tile_block *tile)
{
    const tile_program *p = t->p;
    const int64_t code = op[OP_CODE], row_length = p->shape[p->ndim - 1];
    const tile_register *dst = &t->reg[op[OP_DST]];
    tile_call k = { .rows = tile->rows, .cols = tile->cols, .y = dst->p, .y_ld = dst->ld,
                    .imm0 = op[OP_IMM0], .imm1 = op[OP_IMM1],
                    .index = tile->row * row_length + tile->col, .index_ld = row_length };
    int flat = k.y_ld == k.cols;
    for (int i = 0; i < tile_n_inputs[code]; i++) {
        const tile_register *x = &t->reg[op[OP_A + i]];
        k.x[i] = x->p;
        k.x_ld[i] = x->ld;
        flat &= x->ld == k.cols;
    }
    if (code == TILE_OP_dropout)        /* its rows must be whole, and b is not an array */
        flat = row_length == k.cols && k.y_ld == k.cols && k.x_ld[0] == k.cols;
    if (flat) {
        k.cols *= k.rows;
        k.rows = 1;
    }
    const int64_t dtype = op[OP_DTYPE];
    (code == TILE_OP_cast ? tile_casts[dtype][op[OP_IMM1]] : tile_table[code][dtype])(&k);
}

/* A constant that is written once is made once, before the first tile. */
static int tile_is_hoisted(const tile_program *p, const int64_t *op)
{
    return op[OP_CODE] == TILE_OP_const && p->writes[op[OP_DST]] == 1;
}

/* Fills whatever is the same for every tile of the block; tile is the largest one. */
static void tile_begin(tile_run *t, const tile_block *block, const tile_block *tile)
{
    const tile_program *p = t->p;
    for (int r = 0; r < p->n_registers; r++)
        t->reg[r] = (tile_register){ t->scratch + p->at[r], tile->cols };
    for (int i = 0; i < p->n_inputs; i++) {
        t->source[i] = tile_classify(p, i, block, tile->rows);
        if (t->source[i] == FIXED)
            tile_gather_alike(p, i, t->in[i], tile, t->reg[i].p);
        else if (t->source[i] == RAW)
            t->reg[i].p = (char *)t->in[i];
    }
    const int64_t *op = p->ops;
    for (int i = 0; i < p->n_ops; i++, op += TILE_OP_WORDS)
        if (tile_is_hoisted(p, op)) tile_apply(t, op, tile);
}

static void tile_bind_inputs(tile_run *t, const tile_block *tile)
{
    const tile_program *p = t->p;
    for (int i = 0; i < p->n_inputs; i++) {
        const int64_t size = tile_size(p->dtype[i]);
        char *x = (char *)t->in[i];
        int64_t run, ld = p->ndim > 1 ? p->stride[i][p->ndim - 2] : 0;
        switch (t->source[i]) {
        case IN_PLACE:
            t->reg[i] = (tile_register){ x + (tile->row * ld + tile->col) * size,
                                         tile->rows > 1 ? ld : tile->cols };
            break;
        case ROW_IN_PLACE:
            x += (tile_row_offset(p, i, tile->row, &run) + tile->col) * size;
            t->reg[i] = (tile_register){ x, tile->cols };
            break;
        case GATHERED:
            t->reg[i].ld = tile->cols;
            tile_gather(p, i, x, tile, t->reg[i].p);
            break;
        case FIXED:
        case RAW:
            t->reg[i].ld = tile->cols;
        }
    }
}

static char *tile_output_at(const tile_run *t, int output, const tile_block *tile)
{
    const tile_program *p = t->p;
    const int64_t dtype = p->outputs[output * TILE_OUTPUT_WORDS];
    const int64_t first = tile->row * p->shape[p->ndim - 1] + tile->col;
    return (char *)t->out[output] + first * tile_size(dtype);
}

/* A register that one operation writes is placed in the output itself: the operation may overwrite
 * an input there, which nothing reads any more.  Returns the outputs that must be copied. */
static uint64_t tile_bind_outputs(tile_run *t, const tile_block *tile, uint64_t hoisted)
{
    const tile_program *p = t->p;
    const int64_t row_length = p->shape[p->ndim - 1];
    uint64_t placed = hoisted, copied = 0;
    for (int o = 0; o < p->n_outputs; o++) {
        const int64_t reg = p->outputs[o * TILE_OUTPUT_WORDS + 1];
        if (p->writes[reg] != 1 || placed >> reg & 1) {
            copied |= (uint64_t)1 << o;
            continue;
        }
        placed |= (uint64_t)1 << reg;
        t->reg[reg] = (tile_register){ tile_output_at(t, o, tile),
                                       tile->rows > 1 ? row_length : tile->cols };
    }
    return copied;
}

static void tile_copy_outputs(const tile_run *t, const tile_block *tile, uint64_t copied)
{
    const tile_program *p = t->p;
    for (int o = 0; copied >> o; o++) {
        if (!(copied >> o & 1)) continue;
        const tile_register *reg = &t->reg[p->outputs[o * TILE_OUTPUT_WORDS + 1]];
        const int64_t size = tile_size(p->outputs[o * TILE_OUTPUT_WORDS]);
        const int64_t step = p->shape[p->ndim - 1] * size;
        char *y = tile_output_at(t, o, tile);
        for (int64_t r = 0; r < tile->rows; r++)
            memmove(y + r * step, reg->p + r * reg->ld * size, (size_t)(tile->cols * size));
    }
}

static void tile_run_tile(tile_run *t, const tile_block *tile, uint64_t hoisted)
{
    const tile_program *p = t->p;
    /* Registers hold tiles without gaps, so their leading dimension changes with the tile. */
    for (int r = p->n_inputs; r < p->n_registers; r++) t->reg[r].ld = tile->cols;
    tile_bind_inputs(t, tile);
    const uint64_t copied = tile_bind_outputs(t, tile, hoisted);
    const int64_t *op = p->ops;
    for (int i = 0; i < p->n_ops; i++, op += TILE_OP_WORDS)
        if (!(hoisted >> op[OP_DST] & 1)) tile_apply(t, op, tile);
    if (copied) tile_copy_outputs(t, tile, copied);
}

static void tile_run_rows(const tile_program *p, void *const *out, const void *const *in,
                          const tile_block *block, void *scratch)
{
    if (block->rows == 0 || block->cols == 0) return;
    tile_run t = { .p = p, .out = out, .in = in, .scratch = scratch };
    tile_block tile = *block;
    if (tile.cols > TILE_ELEMS) tile.cols = TILE_ELEMS;
    const int64_t tile_rows = TILE_ELEMS / tile.cols, tile_cols = tile.cols;
    if (tile.rows > tile_rows) tile.rows = tile_rows;
    tile_begin(&t, block, &tile);
    uint64_t hoisted = 0;
    const int64_t *op = p->ops;
    for (int i = 0; i < p->n_ops; i++, op += TILE_OP_WORDS)
        if (tile_is_hoisted(p, op)) hoisted |= (uint64_t)1 << op[OP_DST];
    const int64_t end_row = block->row + block->rows, end_col = block->col + block->cols;
    for (; tile.row < end_row; tile.row += tile_rows) {
        tile.rows = end_row - tile.row < tile_rows ? end_row - tile.row : tile_rows;
        for (tile.col = block->col; tile.col < end_col; tile.col += tile_cols) {
            tile.cols = end_col - tile.col < tile_cols ? end_col - tile.col : tile_cols;
            tile_run_tile(&t, &tile, hoisted);
        }
    }
}

void tile_run_block(const tile_program *p, void *const *out, const void *const *in,
                           const int64_t *coord, int64_t rows, int64_t cols, void *scratch)
{
    int64_t row = 0;
    for (int d = 0; d < p->ndim - 1; d++) row = row * p->shape[d] + coord[d];
    const tile_block block = { row, rows, coord[p->ndim - 1], cols };
    tile_run_rows(p, out, in, &block, scratch);
}

/* ---- the kernel -------------------------------------------------------------------------- */

/* How the rows are cut into units: several whole rows in each, or one piece of a row. */
typedef struct tile_cut {
    int64_t n_rows, rows_per_unit, pieces_per_row, piece;
} tile_cut;

static double tile_total_weight(const tile_program *p)
{
    double weight = 0;
    const int64_t *op = p->ops;
    for (int i = 0; i < p->n_ops; i++, op += TILE_OP_WORDS)
        if (!tile_is_hoisted(p, op)) weight += tile_weight(op[OP_CODE], op[OP_DTYPE]);
    return weight;
}

/* A unit is some 16 K elements of a cheap program and fewer of an expensive one, a multiple of
 * TILE_ELEMS where a row is cut. */
static tile_cut tile_cut_of(const tile_program *p, double weight)
{
    int64_t elements = 16384;
    while (elements > 4 * TILE_ELEMS && weight * (double)elements > 8 * 16384) elements /= 2;
    tile_cut cut = { .n_rows = 1, .rows_per_unit = 1, .pieces_per_row = 1 };
    const int64_t cols = p->shape[p->ndim - 1];
    for (int d = 0; d < p->ndim - 1; d++) cut.n_rows *= p->shape[d];
    cut.piece = cols;
    if (cols > elements) {
        cut.piece = elements;
        cut.pieces_per_row = (cols + elements - 1) / elements;
    } else if (cols > 0) {
        cut.rows_per_unit = elements / cols;
    } else {
        cut.n_rows = 0;
    }
    return cut;
}

static void tile_parse_args(tile_program *p, const fgd_elementwise_args *args)
{
    const int64_t counts[4] = { args->n_outputs, args->n_inputs, args->n_ops, args->n_registers };
    tile_parse(p, (int)args->ndim, args->shape, counts, args->tail);
    tile_collapse(p);
}

/* Bytes that the elements of an input occupy: a broadcast one is read once. */
static double tile_input_bytes(const tile_program *p, int input)
{
    double bytes = (double)tile_size(p->dtype[input]);
    for (int d = 0; d < p->ndim; d++)
        if (p->stride[input][d] != 0) bytes *= (double)p->shape[d];
    return bytes;
}

FGD_PREPARE(elementwise)
{
    tile_program p;
    tile_parse_args(&p, args_);
    const double weight = tile_total_weight(&p);
    const tile_cut cut = tile_cut_of(&p, weight);
    const double elements = (double)cut.n_rows * (double)p.shape[p.ndim - 1];
    *work = (fgd_work){ .n_phases = 1, .thread_bytes = tile_scratch_bytes(&p),
                        .flops = elements * weight };
    work->units[0] = (cut.n_rows + cut.rows_per_unit - 1) / cut.rows_per_unit * cut.pieces_per_row;
    for (int i = 0; i < p.n_inputs; i++) work->bytes += tile_input_bytes(&p, i);
    for (int o = 0; o < p.n_outputs; o++)
        work->bytes += elements * (double)tile_size(p.outputs[o * TILE_OUTPUT_WORDS]);
}

FGD_RUN(elementwise)
{
    (void)phase;
    tile_program p;
    tile_parse_args(&p, args_);
    const tile_cut cut = tile_cut_of(&p, tile_total_weight(&p));
    const void *const *in = (const void *const *)ptr + p.n_outputs;
    const int64_t cols = p.shape[p.ndim - 1];
    if (cut.pieces_per_row == 1) {
        int64_t row = begin * cut.rows_per_unit, end_row = end * cut.rows_per_unit;
        if (end_row > cut.n_rows) end_row = cut.n_rows;
        const tile_block block = { row, end_row - row, 0, cols };
        tile_run_rows(&p, ptr, in, &block, context->scratch);
        return;
    }
    while (begin < end) {               /* consecutive pieces of a row make one block */
        const int64_t row = begin / cut.pieces_per_row, first = begin % cut.pieces_per_row;
        int64_t pieces = cut.pieces_per_row - first;
        if (pieces > end - begin) pieces = end - begin;
        const int64_t col = first * cut.piece;
        const int64_t left = cols - col, length = pieces * cut.piece;
        const tile_block block = { row, 1, col, length < left ? length : left };
        tile_run_rows(&p, ptr, in, &block, context->scratch);
        begin += pieces;
    }
}
