/* The vector types for any CPU: four floats or two doubles in the compiler's generic vectors
 * (a GNU C extension that gcc and clang share), which it keeps in SSE2 or NEON registers or takes
 * apart where there are none.  No fused multiply-add: X_fma rounds twice here. */
#include <math.h>
#include <string.h>

typedef float vf32 __attribute__((vector_size(16)));
typedef int32_t nf32 __attribute__((vector_size(16)));
typedef nf32 mf32;
typedef double vf64 __attribute__((vector_size(16)));
typedef int64_t nf64 __attribute__((vector_size(16)));
typedef nf64 mf64;
enum { f32_LANES = 4, f64_LANES = 2 };
enum { f32_FMA_IS_EXACT = 0, f64_FMA_IS_EXACT = 0 };

static inline float f32_sqrt_lane(float a) { return sqrtf(a); }
static inline double f64_sqrt_lane(double a) { return sqrt(a); }

#include "f32.h"
#define INT_T int32_t
#define UINT_T uint32_t
#include "scalar.inc"
#include "undef.h"

#include "f64.h"
#define INT_T int64_t
#define UINT_T uint64_t
#include "scalar.inc"
#include "undef.h"
