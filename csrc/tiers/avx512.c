#define FGD_TIER_SUFFIX _avx512
#define FGD_SIMD_AVX512 1
#include "tier.inc"
