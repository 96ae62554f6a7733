/* Typed names for float64; simd/undef.h takes them away again. */
#define T double
#define vec vf64
#define mask mf64
#define ivec nf64
#define LANES f64_LANES
#define V(op) f64_##op
#define FGD_T_SUFFIX _f64
#define FGD_T_IS_F32 0
#define FGD_T_FN(name) FGD_CAT(FGD_CAT(name, _f64), FGD_TIER_SUFFIX)
#define FGD_T_MANTISSA 52            /* stored bits of the significand                         */
#define FGD_T_BIAS 1023              /* of the exponent                                        */
