/* exp, log, expm1, log1p, exp2, log2, log10, tanh, sigmoid, erf, sin, cos and pow over the vector types.
 *
 * vmath.inc has the algorithms, once for both dtypes; here are each dtype's constants.  exp, log,
 * tanh, sigmoid and erf are within 2 units in the last place in every tier, also without FMA, and
 * so are expm1, log1p, sin and cos (tests/test_simd.py measures them).  NaN, infinities, zeros and
 * overflow are as in C99's Annex F.  Subnormal numbers may count as zero, as with flush-to-zero,
 * whether arguments, results or in between; the error from that is at most twice the smallest
 * normal number.
 *
 * Polynomials are minimax fits of ours (Remez exchange in 200-bit arithmetic; coefficients rounded
 * from the lowest degree up, the others refitted each time).  Beside each stands what it
 * approximates, on which interval, and its largest error relative to the function it serves.
 * Range reductions are those of Cody and Waite, "Software Manual for the Elementary Functions"
 * (1980): a constant is split so that its product with a small integer is exact.
 *
 * Every function handles each lane alone: what the other lanes hold does not matter. */
#include <float.h>
#include <math.h>

#define FGD_VMATH_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define FGD_UNROLL_ALL _Pragma("clang loop unroll(full)")
#else
#define FGD_UNROLL_ALL _Pragma("GCC unroll 32")
#endif

/* Horner's rule; n is a compile-time constant wherever this is called. */
#define FGD_POLY(x, c) V(poly)(x, c, (int)(sizeof(c) / sizeof(c[0])))

/* ---- float64 ----------------------------------------------------------------------------- */

#include "f64.h"

/* (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2: 2^-55 of expm1(r) */
static const double f64_exp_poly[] = {
    0x1.0000000000005p-1, 0x1.555555555553bp-3, 0x1.555555555210ap-5, 0x1.111111111881dp-7,
    0x1.6c16c17f2faf2p-10, 0x1.a01a0177fd2d4p-13, 0x1.a019a69fa67b6p-16, 0x1.71de80eab8bbcp-19,
    0x1.28a2910078b75p-22, 0x1.ae77b063c0616p-26,
};
static const double f64_ln2_hi = 0x1.62e42fefa3p-1, f64_ln2_lo = 0x1.3de6af278ece6p-42;
static const double f64_exp_overflow = 710.0, f64_exp_underflow = -746.0;
static const double f64_expm1_least = -40.0;   /* expm1 rounds to -1                          */

/* (tanh(x) / x - 1) / x^2 in x^2 on |x| <= 0.55: 2^-55 */
static const double f64_tanh_poly[] = {
    -0x1.555555555549ep-2, 0x1.11111111029b5p-3, -0x1.ba1ba1ad73b1fp-5, 0x1.664f45c32f1acp-6,
    -0x1.226ddd4f79b0ap-7, 0x1.d6c61e8398b40p-9, -0x1.7cf3c4b60a02ap-10, 0x1.2fa2af065954fp-11,
    -0x1.b90a9c684924ep-13, 0x1.ac034940b402dp-15,
};
static const double f64_tanh_one = 19.1;        /* tanh rounds to 1                            */

/* (log((1 + s) / (1 - s)) / s - 2) / s^2 in s^2 on |s| <= 1/5: 2^-55 of the logarithm */
static const double f64_log_poly[] = {
    0x1.5555555555776p-1, 0x1.99999998f0bd7p-2, 0x1.249249b222da1p-2, 0x1.c71c0165654f5p-3,
    0x1.7474e26591373p-3, 0x1.3852e068779a0p-3, 0x1.3abdcd3f567fap-3,
};
/* for pow: the same less 2 / 3, divided by s^2 once more: 2^-62 */
static const double f64_pow_poly[] = {
    0x1.999999999a7cdp-2, 0x1.2492492311f3fp-2, 0x1.c71c73b5694c4p-3, 0x1.745c7628945d1p-3,
    0x1.3b30f496ef610p-3, 0x1.0e12f19024609p-3, 0x1.19cff3670f5ebp-3,
};
static const double f64_smallest = DBL_MIN;
static const double f64_log10_2_hi = 0x1.34413509f7800p-2, f64_log10_2_lo = 0x1.fef311f12b358p-46;

/* erf(x) / x - 1 in x^2 on |x| <= 1: 2^-55 */
static const double f64_erf_split = 1.0;
static const double f64_erf_poly[] = {
    0x1.06eba8214db68p-3, -0x1.812746b0379b5p-2, 0x1.ce2f21a040b02p-4, -0x1.b82ce311f706bp-6,
    0x1.565bccf90891dp-8, -0x1.c02db03ff8655p-11, 0x1.f9a2bb4bf2b07p-14, -0x1.f4ca5bb67f74cp-17,
    0x1.b9807f4f0f35bp-20, -0x1.5c0bc4361c7f2p-23, 0x1.d73d7ca748a74p-27, -0x1.ac1a5baba4114p-31,
};
/* -log(1 - erf(x)) on 1 <= x <= 5.95: 2^-57 of erf(x) */
static const double f64_erf_one = 5.95;
static const double f64_erfc_poly[] = {
    0x1.0df1af0f721b3p-21, 0x1.20dd1fd5a3330p+0, 0x1.45f627444ac71p-1, 0x1.a4ac5df94d6b4p-4,
    -0x1.37229fc5a710ap-6, -0x1.ae8f628ea63b1p-12, 0x1.f63fcbe937164p-10, -0x1.94085f2f73cffp-11,
    0x1.1b3484bc9957cp-13, 0x1.5415077d8ca3cp-16, -0x1.7eec5a8ba6fe2p-16, 0x1.22d65a9655dcep-17,
    -0x1.1ea91cfe3292ap-19, 0x1.90da2c9606f36p-22, -0x1.8ecabb6069aadp-25, 0x1.0e605e02b2acep-28,
    -0x1.c1b88fc18a52ep-33, 0x1.5ad853325792dp-38,
};

/* (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2 on |r| <= pi / 4: 2^-58, 2^-64 */
static const double f64_sin_poly[] = {
    -0x1.5555555555549p-3, 0x1.111111110f8a6p-7, -0x1.a01a019c1608cp-13, 0x1.71de357afc271p-19,
    -0x1.ae5e68796922ep-26, 0x1.5d93962997794p-33,
};
static const double f64_cos_poly[] = {
    0x1.555555555554cp-5, -0x1.6c16c16c15223p-10, 0x1.a01a019cbff11p-16, -0x1.27e4f81328bb0p-22,
    0x1.1ee9f1a159af5p-29, -0x1.8fb15885ec736p-37,
};
static const double f64_sin_limit = 1e4;
static inline double f64_libm_sin(double x) { return sin(x); }
static inline double f64_libm_cos(double x) { return cos(x); }

/* Three parts of pi / 2: the first two products are exact, the first difference too. */
static inline vf64 f64_reduce_pi(vf64 x, vf64 n)
{
    x = f64_fnma(n, f64_set1(0x1.921fb54440000p+0), x);
    x = f64_fnma(n, f64_set1(0x1.68c234c4c4000p-39), x);
    return f64_fnma(n, f64_set1(0x1.3145c06e0e689p-78), x);
}

#include "vmath.inc"
#include "undef.h"
/* ---- float32 ----------------------------------------------------------------------------- */

#include "f32.h"

/* (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2: 2^-26 of expm1(r) */
static const float f32_exp_poly[] = {
    0x1.fffffep-2f, 0x1.5554b0p-3f, 0x1.555714p-5f, 0x1.122792p-7f, 0x1.6b7594p-10f,
};
static const float f32_ln2_hi = 0x1.62e4p-1f, f32_ln2_lo = 0x1.7f7d1cp-20f;
static const float f32_exp_overflow = 89.0f, f32_exp_underflow = -104.0f;
static const float f32_expm1_least = -20.0f;

/* (tanh(x) / x - 1) / x^2 in x^2 on |x| <= 0.55: 2^-29 */
static const float f32_tanh_poly[] = {
    -0x1.55554ap-2f, 0x1.110cfep-3f, -0x1.b922e4p-5f, 0x1.59147ap-6f, -0x1.9a6130p-8f,
};
static const float f32_tanh_one = 9.1f;

/* (log(1 + f) - f + f^2 / 2) / f^3 on -1/4 <= f <= 1/2: 2^-27 of log(1 + f) */
static const float f32_log_poly[] = {
    0x1.5555a4p-2f, -0x1.000042p-2f, 0x1.996966p-3f, -0x1.54ef16p-3f, 0x1.2886b8p-3f,
    -0x1.0d93f4p-3f, 0x1.aca08ep-4f, -0x1.713e36p-5f,
};
static const float f32_smallest = FLT_MIN;
static const float f32_log10_2_hi = 0x1.344p-2f, f32_log10_2_lo = 0x1.3509f8p-18f;

/* erf(x) / x - 1 in x^2 on |x| <= 0.95: 2^-30 */
static const float f32_erf_split = 0.95f;
static const float f32_erf_poly[] = {
    0x1.06eba8p-3f, -0x1.812742p-2f, 0x1.ce2de0p-4f, -0x1.b80b26p-6f, 0x1.54a622p-8f,
    -0x1.a90b78p-11f, 0x1.58c4cap-14f,
};
/* -log(1 - erf(x)) on 0.95 <= x <= 3.95: 2^-29 of erf(x) */
static const float f32_erf_one = 3.95f;
static const float f32_erfc_poly[] = {
    0x1.009c92p-12f, 0x1.20a232p+0f, 0x1.4668a8p-1f, 0x1.a88282p-4f, -0x1.69e1b0p-6f,
    0x1.8a5454p-9f, -0x1.938934p-13f,
};

/* (sin(r) / r - 1) / r^2 and (cos(r) - 1 + r^2 / 2) / r^4 in r^2 on |r| <= pi / 4: 2^-28, 2^-33 */
static const float f32_sin_poly[] = { -0x1.555546p-3f, 0x1.11077ep-7f, -0x1.9956b0p-13f };
static const float f32_cos_poly[] = { 0x1.55554ap-5f, -0x1.6c0c2ep-10f, 0x1.99eacep-16f };
static const float f32_sin_limit = 1e5f;
static inline float f32_libm_sin(float x) { return sinf(x); }
static inline float f32_libm_cos(float x) { return cosf(x); }

/* In float64 two parts of pi / 2 leave nothing to be desired. */
static inline vf32 f32_reduce_pi(vf32 x, vf32 n)
{
    const vf64 hi = f64_set1(0x1.921fb544p+0), lo = f64_set1(0x1.0b4611a626331p-34);
    vf64 x0, x1, n0, n1;
    f32_widen(x, &x0, &x1);
    f32_widen(n, &n0, &n1);
    x0 = f64_fnma(n0, lo, f64_fnma(n0, hi, x0));
    x1 = f64_fnma(n1, lo, f64_fnma(n1, hi, x1));
    return f32_narrow(x0, x1);
}

#include "vmath.inc"
#include "undef.h"

#undef FGD_POLY
#undef FGD_VMATH_INLINE
#undef FGD_UNROLL_ALL
