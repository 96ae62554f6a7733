/* What kernels that bring their own packing (convolution, attention, recurrent layers) take from the matrix
 * product: its micro-kernels and the packing of a panel.  Included once per float dtype, by typed sources.
 *
 * A panel of b has tile.cols elements per step of k, of which the tile reads `cols`; a is read by two strides. */
#include "gemm.h"

#define panel_tile_of FGD_T_FN(fgd_gemm_panel_tile_of)
#define panel_multiply FGD_T_FN(fgd_gemm_panel_multiply)
#define panel_multiply_runs FGD_T_FN(fgd_gemm_panel_multiply_runs)
#define panel_pack FGD_T_FN(fgd_gemm_panel_pack)

gemm_tile_size panel_tile_of(void);

/* c[rows, cols] (+)= a @ b over kc steps: 1 <= rows <= tile.rows, 1 <= cols <= tile.cols. */
void panel_multiply(int64_t rows, int64_t cols, int64_t kc, const T *a, int64_t a_rs, int64_t a_cs, const T *b,
               int64_t b_rs, T *c, int64_t c_rs, int accumulate);

/* The same over `outer` times `runs` pieces of kc steps; behind each piece a jumps by a_jump, behind each `runs` of them
 * by outer_jump too; b goes on. */
void panel_multiply_runs(int64_t rows, int64_t cols, int64_t outer, int64_t outer_jump, int64_t runs, int64_t a_jump,
                         int64_t kc, const T *a, int64_t a_rs, int64_t a_cs, const T *b, int64_t b_rs, T *c, int64_t c_rs, int accumulate);

/* dst[p * width + i] = src[i * across + p * along], i < count <= width, p < k.  Spills up to 64 bytes behind. */
void panel_pack(T *dst, int64_t width, const T *src, int64_t count, int64_t across, int64_t k, int64_t along);
