#define FGD_TIER_SUFFIX _scalar
#define FGD_SIMD_SCALAR 1
#include "tier.inc"
