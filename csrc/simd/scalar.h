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

static inline nf64 f64_interleaved_numbers(void) { return (nf64){0, 1}; }
static inline nf64 f64_imul_low(nf64 a, nf64 b)
{
    typedef uint64_t words __attribute__((vector_size(16)));
    const words low = {UINT32_MAX, UINT32_MAX};
    return (nf64)(((words)a & low) * ((words)b & low));
}
static inline nf64 f64_iswap_halves(nf64 a) { return f64_ishl(a, 32) | f64_ishr(a, 32); }
static inline nf64 f64_ixor3(nf64 a, nf64 b, nf64 c) { return a ^ b ^ c; }
static inline void f64_istore_pairs(void *p, nf64 x, nf64 y)
{
    const int64_t pairs[4] = {x[0], y[0], x[1], y[1]};
    memcpy(p, pairs, sizeof pairs);
}

static inline void f32_widen(vf32 a, vf64 *lower, vf64 *upper)
{
    *lower = (vf64){a[0], a[1]};
    *upper = (vf64){a[2], a[3]};
}
static inline vf32 f32_narrow(vf64 lower, vf64 upper)
{
    return (vf32){(float)lower[0], (float)lower[1], (float)upper[0], (float)upper[1]};
}
