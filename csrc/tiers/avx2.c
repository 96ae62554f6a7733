#define FGD_TIER_SUFFIX _avx2
#define FGD_SIMD_AVX2 1
#include "tier.inc"
