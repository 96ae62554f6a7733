/* Typed names for float32; simd/undef.h takes them away again. */
#define T float
#define vec vf32
#define mask mf32
#define ivec nf32
#define LANES f32_LANES
#define V(op) f32_##op
#define FGD_T_SUFFIX _f32
#define FGD_T_IS_F32 1
#define FGD_T_FN(name) FGD_CAT(FGD_CAT(name, _f32), FGD_TIER_SUFFIX)
#define FGD_T_MANTISSA 23            /* stored bits of the significand                         */
#define FGD_T_BIAS 127               /* of the exponent                                        */
