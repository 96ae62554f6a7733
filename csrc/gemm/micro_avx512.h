/* AVX-512: gemm_micro_f32_avx512_14x32 and gemm_micro_f64_avx512_14x16.  28 accumulators, two
 * vectors of b and one broadcast of a use 31 of the 32 registers: 16 loads for 28 FMAs. */
#include <immintrin.h>

#define MICRO_MR 14
#define MICRO_NV 2
#define MICRO_UNPACKED_ROWS 384
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

/* dst[p * dst_rs + i] = src[i * src_rs + p] for p, i < MICRO_LANES (beyond `rows` rows undefined).
 * 128-bit pieces of four rows are gathered into one register so that the transposition never
 * crosses a lane: the first half of the usual method's shuffles become loads.  All loads come
 * first, since rows a multiple of 4 KB apart share one set of the first-level cache. */
#if FGD_T_IS_F32
static inline void G(transpose)(float *dst, int64_t dst_rs, const float *src, int64_t src_rs,
                                int64_t rows)
{
    const float *row[16];
    for (int i = 0; i < 16; i++)
        row[i] = src + (i < rows ? i : 0) * src_rs;
    __m512 z[4][4];
    UNROLL for (int r = 0; r < 4; r++)
        UNROLL for (int q = 0; q < 4; q++) {
            __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(row[r] + 4 * q));
            v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 4] + 4 * q), 1);
            v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 8] + 4 * q), 2);
            z[r][q] = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 12] + 4 * q), 3);
        }
    UNROLL for (int q = 0; q < 4; q++, dst += 4 * dst_rs) {
        const __m512 lo01 = _mm512_unpacklo_ps(z[0][q], z[1][q]);
        const __m512 hi01 = _mm512_unpackhi_ps(z[0][q], z[1][q]);
        const __m512 lo23 = _mm512_unpacklo_ps(z[2][q], z[3][q]);
        const __m512 hi23 = _mm512_unpackhi_ps(z[2][q], z[3][q]);
        _mm512_storeu_ps(dst, _mm512_shuffle_ps(lo01, lo23, 0x44));
        _mm512_storeu_ps(dst + dst_rs, _mm512_shuffle_ps(lo01, lo23, 0xee));
        _mm512_storeu_ps(dst + 2 * dst_rs, _mm512_shuffle_ps(hi01, hi23, 0x44));
        _mm512_storeu_ps(dst + 3 * dst_rs, _mm512_shuffle_ps(hi01, hi23, 0xee));
    }
}
#else
static inline void G(transpose)(double *dst, int64_t dst_rs, const double *src, int64_t src_rs,
                                int64_t rows)
{
    const double *row[8];
    for (int i = 0; i < 8; i++)
        row[i] = src + (i < rows ? i : 0) * src_rs;
    __m512d z[2][4];
    UNROLL for (int r = 0; r < 2; r++)
        UNROLL for (int q = 0; q < 4; q++) {
            __m512d v = _mm512_castpd128_pd512(_mm_loadu_pd(row[r] + 2 * q));
            v = _mm512_insertf64x2(v, _mm_loadu_pd(row[r + 2] + 2 * q), 1);
            v = _mm512_insertf64x2(v, _mm_loadu_pd(row[r + 4] + 2 * q), 2);
            z[r][q] = _mm512_insertf64x2(v, _mm_loadu_pd(row[r + 6] + 2 * q), 3);
        }
    UNROLL for (int q = 0; q < 4; q++, dst += 2 * dst_rs) {
        _mm512_storeu_pd(dst, _mm512_unpacklo_pd(z[0][q], z[1][q]));
        _mm512_storeu_pd(dst + dst_rs, _mm512_unpackhi_pd(z[0][q], z[1][q]));
    }
}
#endif
