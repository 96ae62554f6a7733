/* AVX2 with FMA: gemm_micro_f32_avx2_6x16 and gemm_micro_f64_avx2_6x8.  12 accumulators, two
 * vectors of b and a broadcast of a use 15 of the 16 registers. */
#include <immintrin.h>

#define MICRO_MR 6
#define MICRO_NV 2
#define MICRO_HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define MICRO_MASK __m256i

#if FGD_T_IS_F32
#define MICRO_MM(op) _mm256_##op##_ps
#define MICRO_LANES 8
#define MICRO_VEC __m256
#define MICRO_mask(n) \
    _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define MICRO_splat(p) _mm256_broadcast_ss(p)
#else
#define MICRO_MM(op) _mm256_##op##_pd
#define MICRO_LANES 4
#define MICRO_VEC __m256d
#define MICRO_mask(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
#define MICRO_splat(p) _mm256_broadcast_sd(p)
#endif

#define MICRO_zero() MICRO_MM(setzero)()
#define MICRO_load(p) MICRO_MM(loadu)(p)
#define MICRO_load_mask(p, m) MICRO_MM(maskload)(p, m)
#define MICRO_store(p, v) MICRO_MM(storeu)(p, v)
#define MICRO_store_mask(p, v, m) MICRO_MM(maskstore)(p, m, v)
#define MICRO_add(a, b) MICRO_MM(add)(a, b)
#define MICRO_fma(a, b, c) MICRO_MM(fmadd)(a, b, c)
