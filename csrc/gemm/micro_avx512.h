/* AVX-512: gemm_micro_f32_avx512_14x32 and gemm_micro_f64_avx512_14x16.  28 accumulators, two
 * vectors of b and one broadcast of a use 31 of the 32 registers: 16 loads for 28 FMAs. */
#include <immintrin.h>

#define MICRO_MR 14
#define MICRO_NV 2
#define MICRO_HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)

#if FGD_T_IS_F32
#define MICRO_MM(op) _mm512_##op##_ps
#define MICRO_LANES 16
#define MICRO_VEC __m512
#define MICRO_MASK __mmask16
#else
#define MICRO_MM(op) _mm512_##op##_pd
#define MICRO_LANES 8
#define MICRO_VEC __m512d
#define MICRO_MASK __mmask8
#endif

#define MICRO_mask(n) ((MICRO_MASK)((1u << (n)) - 1u))
#define MICRO_zero() MICRO_MM(setzero)()
#define MICRO_splat(p) MICRO_MM(set1)(*(p))
#define MICRO_load(p) MICRO_MM(loadu)(p)
#define MICRO_load_mask(p, m) MICRO_MM(maskz_loadu)(m, p)
#define MICRO_store(p, v) MICRO_MM(storeu)(p, v)
#define MICRO_store_mask(p, v, m) MICRO_MM(mask_storeu)(p, m, v)
#define MICRO_add(a, b) MICRO_MM(add)(a, b)
#define MICRO_fma(a, b, c) MICRO_MM(fmadd)(a, b, c)
