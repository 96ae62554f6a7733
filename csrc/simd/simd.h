/* One small vector type per tier, float32 and float64.  This file chooses the tier's header and
 * states what each of them must define; simd/vmath.h then writes exp, log, tanh, erf and so
 * on once over it.
 *
 * For each type X in {f32, f64} with element type T (float, double):
 *   X_LANES            elements in a vector (a compile-time constant; scalar tier: a small fixed
 *                      number of lanes that the compiler can keep in baseline registers)
 *   vX, mX, nX         vector, mask and integer-of-the-same-width types
 *   X_set1(t) X_zero() X_load(p) X_store(p, v)         unaligned
 *   X_load_n(p, n) X_store_n(p, v, n)                  first n lanes, 0 <= n <= LANES; loads fill
 *                                                      with zeros, nothing beyond is touched
 *   X_add X_sub X_mul X_div (a, b), X_sqrt X_abs X_neg (a)
 *   X_fma(a, b, c)     a*b + c; one rounding where the tier has FMA, two in the scalar tier
 *   X_fnma(a, b, c)    c - a*b
 *   X_FMA_IS_EXACT     1 if those two round once
 *   X_min X_max (a, b) the second operand if either is NaN (as x86's instructions)
 *   X_round(a)         to nearest even; the sign of a zero result is that of a
 *   X_copysign(a, s)   |a| with the sign of s
 *   X_lt X_le X_gt X_ge X_eq X_ne (a, b) -> mX         NaN compares false, but for ne
 *   X_mask_and X_mask_or (m, m), X_mask_not(m), X_mask_any(m), X_mask_all(m)
 *   X_mask_n(n)        the first n lanes
 *   X_select(m, a, b)  m ? a : b
 *   X_keep(m, a)       m ? a : +0
 *   X_bits(v) X_from_bits(i)                           the same bits as vX or nX
 *   X_iset1 X_iadd X_isub X_iand X_ior X_ishl X_ishr   on nX; shifts by a constant, ishr logical
 *   X_hsum(v) X_hmax(v) X_hmin(v)   across lanes in a fixed tree (halves onto halves)
 *   f32_widen(a, &l, &u)  f32_narrow(l, u)   a float32 vector as two of float64 and back
 * and for simd/philox.h, on nf64:
 *   f64_imul_low(a, b)         64-bit products of the low halves of the lanes
 *   f64_iswap_halves(a)        each lane rotated by 32 bits
 *   f64_ixor3(a, b, c)
 *   f64_istore_pairs(p, x, y)  x0 y0 x1 y1 ... in the lane order of f64_interleaved_numbers()
 *
 * Defined once over these, below and in simd/vmath.h:
 *   X_floor(a)
 *   X_ldexp(a, n)      a * 2^n; n integral (any value), 2^-24 <= |a| <= 2^24; overflows to
 *                      infinity, underflows gradually (or to zero under FTZ)
 *   X_frexp(a, &e)     m and e with a = m * 2^e, 3/4 <= m < 3/2; a positive and normal
 *   X_exp X_log X_expm1 X_log1p X_exp2 X_log2 X_log10 X_tanh X_sigmoid X_erf X_sin X_cos X_pow      (simd/vmath.h)
 *
 * Typed kernels use T, vec, mask, ivec, LANES, V(op) and FGD_T_SUFFIX from simd/f32.h or
 * simd/f64.h: V(add)(a, b) is f32_add(a, b) under the first.
 */
#if defined(FGD_SIMD_AVX512)
#include "avx512.h"
#elif defined(FGD_SIMD_AVX2)
#include "avx2.h"
#else
#include "scalar.h"
#endif

#include "f32.h"
#include "common.inc"
#include "undef.h"
#include "f64.h"
#include "common.inc"
#include "undef.h"

#include "vmath.h"
#include "philox.h"
