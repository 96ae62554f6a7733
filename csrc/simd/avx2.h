/* The vector types over AVX2 and FMA: 8 floats, 4 doubles, masks as vectors of all-ones lanes.
 * avx2.inc holds what float32 and float64 share up to the suffix of the intrinsic. */
#include <immintrin.h>
#include "x86_fold.h"

typedef __m256 vf32;
typedef __m256 mf32;
typedef __m256i nf32;
typedef __m256d vf64;
typedef __m256d mf64;
typedef __m256i nf64;
enum { f32_LANES = 8, f64_LANES = 4 };
enum { f32_FMA_IS_EXACT = 1, f64_FMA_IS_EXACT = 1 };

static inline vf32 f32_from_bits(nf32 a) { return _mm256_castsi256_ps(a); }
static inline nf32 f32_bits(vf32 a) { return _mm256_castps_si256(a); }
static inline vf64 f64_from_bits(nf64 a) { return _mm256_castsi256_pd(a); }
static inline nf64 f64_bits(vf64 a) { return _mm256_castpd_si256(a); }

static inline nf32 f32_iset1(int64_t a) { return _mm256_set1_epi32((int32_t)a); }
static inline nf64 f64_iset1(int64_t a) { return _mm256_set1_epi64x(a); }

static inline nf32 f32_lane_numbers(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
static inline nf64 f64_lane_numbers(void) { return _mm256_setr_epi64x(0, 1, 2, 3); }

#include "f32.h"
#define P(op) _mm256_##op##_ps
#define P_INT(op) _mm256_##op##_epi32
#define P_INT_LANES __v8su
#include "avx2.inc"
#include "undef.h"

#include "f64.h"
#define P(op) _mm256_##op##_pd
#define P_INT(op) _mm256_##op##_epi64
#define P_INT_LANES __v4du
#include "avx2.inc"
#include "undef.h"

/* The unpack instructions take the lower and the upper 64 bits of each 128-bit lane. */
static inline nf64 f64_interleaved_numbers(void) { return _mm256_setr_epi64x(0, 2, 1, 3); }
static inline nf64 f64_imul_low(nf64 a, nf64 b) { return _mm256_mul_epu32(a, b); }
static inline nf64 f64_iswap_halves(nf64 a) { return _mm256_shuffle_epi32(a, 0xB1); }
static inline nf64 f64_ixor3(nf64 a, nf64 b, nf64 c)
{
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
static inline void f64_istore_pairs(void *p, nf64 x, nf64 y)
{
    _mm256_storeu_si256((__m256i *)p, _mm256_unpacklo_epi64(x, y));
    _mm256_storeu_si256((__m256i *)p + 1, _mm256_unpackhi_epi64(x, y));
}

static inline void f32_widen(vf32 a, vf64 *lower, vf64 *upper)
{
    *lower = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    *upper = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}
static inline vf32 f32_narrow(vf64 lower, vf64 upper)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(lower)),
                                _mm256_cvtpd_ps(upper), 1);
}
