/* AVX2 with FMA: gemm_micro_f32_avx2_6x16 and gemm_micro_f64_avx2_6x8.  12 accumulators, two
 * vectors of b and a broadcast of a use 15 of the 16 registers. */
#include <immintrin.h>

#define MICRO_MR 6
#define MICRO_NV 2
#define MICRO_UNPACKED_ROWS 48
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

/* dst[p * dst_rs + i] = src[i * src_rs + p] for p, i < MICRO_LANES (beyond `rows` rows undefined);
 * see micro_avx512.h for the method. */
#if FGD_T_IS_F32
static inline void G(transpose)(float *dst, int64_t dst_rs, const float *src, int64_t src_rs,
                                int64_t rows)
{
    const float *row[8];
    for (int i = 0; i < 8; i++)
        row[i] = src + (i < rows ? i : 0) * src_rs;
    __m256 z[4][2];
    UNROLL for (int r = 0; r < 4; r++)
        UNROLL for (int q = 0; q < 2; q++)
            z[r][q] = _mm256_insertf128_ps(
                _mm256_castps128_ps256(_mm_loadu_ps(row[r] + 4 * q)),
                _mm_loadu_ps(row[r + 4] + 4 * q), 1);
    UNROLL for (int q = 0; q < 2; q++, dst += 4 * dst_rs) {
        const __m256 lo01 = _mm256_unpacklo_ps(z[0][q], z[1][q]);
        const __m256 hi01 = _mm256_unpackhi_ps(z[0][q], z[1][q]);
        const __m256 lo23 = _mm256_unpacklo_ps(z[2][q], z[3][q]);
        const __m256 hi23 = _mm256_unpackhi_ps(z[2][q], z[3][q]);
        _mm256_storeu_ps(dst, _mm256_shuffle_ps(lo01, lo23, 0x44));
        _mm256_storeu_ps(dst + dst_rs, _mm256_shuffle_ps(lo01, lo23, 0xee));
        _mm256_storeu_ps(dst + 2 * dst_rs, _mm256_shuffle_ps(hi01, hi23, 0x44));
        _mm256_storeu_ps(dst + 3 * dst_rs, _mm256_shuffle_ps(hi01, hi23, 0xee));
    }
}
#else
static inline void G(transpose)(double *dst, int64_t dst_rs, const double *src, int64_t src_rs,
                                int64_t rows)
{
    const double *row[4];
    for (int i = 0; i < 4; i++)
        row[i] = src + (i < rows ? i : 0) * src_rs;
    __m256d z[2][2];
    UNROLL for (int r = 0; r < 2; r++)
        UNROLL for (int q = 0; q < 2; q++)
            z[r][q] = _mm256_insertf128_pd(
                _mm256_castpd128_pd256(_mm_loadu_pd(row[r] + 2 * q)),
                _mm_loadu_pd(row[r + 2] + 2 * q), 1);
    UNROLL for (int q = 0; q < 2; q++, dst += 2 * dst_rs) {
        _mm256_storeu_pd(dst, _mm256_unpacklo_pd(z[0][q], z[1][q]));
        _mm256_storeu_pd(dst + dst_rs, _mm256_unpackhi_pd(z[0][q], z[1][q]));
    }
}
#endif
