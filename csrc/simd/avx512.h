/* The vector types over AVX-512 (F, DQ, BW, VL): 16 floats, 8 doubles, masks in mask registers.
 * avx512.inc holds what float32 and float64 share up to the suffix of the intrinsic. */
#include <immintrin.h>
#include "x86_fold.h"

typedef __m512 vf32;
typedef __mmask16 mf32;
typedef __m512i nf32;
typedef __m512d vf64;
typedef __mmask8 mf64;
typedef __m512i nf64;
enum { f32_LANES = 16, f64_LANES = 8 };
enum { f32_FMA_IS_EXACT = 1, f64_FMA_IS_EXACT = 1 };

static inline vf32 f32_from_bits(nf32 a) { return _mm512_castsi512_ps(a); }
static inline nf32 f32_bits(vf32 a) { return _mm512_castps_si512(a); }
static inline vf64 f64_from_bits(nf64 a) { return _mm512_castsi512_pd(a); }
static inline nf64 f64_bits(vf64 a) { return _mm512_castpd_si512(a); }

static inline __m256 f32_upper_half(vf32 a) { return _mm512_extractf32x8_ps(a, 1); }
static inline __m256d f64_upper_half(vf64 a) { return _mm512_extractf64x4_pd(a, 1); }

#define FGD_SIMD_HAS_LDEXP 1

#include "f32.h"
#define P(op) _mm512_##op##_ps
#define P_HALF(op) _mm256_##op##_ps
#define P_LOWER(v) _mm512_castps512_ps256(v)
#define P_INT(op) _mm512_##op##_epi32
#define P_INT_LANES __v16su
#define P_INT_T int32_t
#define P_COMPARE(op) _mm512_##op##_ps_mask
#include "avx512.inc"
#include "undef.h"

#include "f64.h"
#define P(op) _mm512_##op##_pd
#define P_HALF(op) _mm256_##op##_pd
#define P_LOWER(v) _mm512_castpd512_pd256(v)
#define P_INT(op) _mm512_##op##_epi64
#define P_INT_LANES __v8du
#define P_INT_T int64_t
#define P_COMPARE(op) _mm512_##op##_pd_mask
#include "avx512.inc"
#include "undef.h"

/* The unpack instructions take the lower and the upper 64 bits of each 128-bit lane. */
static inline nf64 f64_interleaved_numbers(void)
{
    return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
}
static inline nf64 f64_imul_low(nf64 a, nf64 b) { return _mm512_mul_epu32(a, b); }
static inline nf64 f64_iswap_halves(nf64 a) { return _mm512_ror_epi64(a, 32); }
static inline nf64 f64_ixor3(nf64 a, nf64 b, nf64 c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
static inline void f64_istore_pairs(void *p, nf64 x, nf64 y)
{
    _mm512_storeu_si512(p, _mm512_unpacklo_epi64(x, y));
    _mm512_storeu_si512((char *)p + 64, _mm512_unpackhi_epi64(x, y));
}

static inline void f32_widen(vf32 a, vf64 *lower, vf64 *upper)
{
    *lower = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    *upper = _mm512_cvtps_pd(f32_upper_half(a));
}
static inline vf32 f32_narrow(vf64 lower, vf64 upper)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(lower)),
                              _mm512_cvtpd_ps(upper), 1);
}
