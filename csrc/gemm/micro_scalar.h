/* Any CPU: gemm_micro_f32_scalar_4x8 and gemm_micro_f64_scalar_4x4 over the compiler's generic
 * 16-byte vectors, which it maps to the baseline's registers (SSE2 on x86-64).  There is no FMA:
 * a product is rounded before it is added. */
#include <string.h>

#define MICRO_MR 4
#define MICRO_NV 2
#define MICRO_UNPACKED_ROWS 48
#define MICRO_HEIGHTS(X) X(1) X(2) X(3) X(4)
#define MICRO_LANES ((int)(16 / sizeof(T)))
#define MICRO_VEC G(micro_vec)
#define MICRO_MASK int64_t

typedef T MICRO_VEC __attribute__((vector_size(16)));

static inline MICRO_VEC G(micro_load_n)(const T *p, int64_t n)
{
    MICRO_VEC v = { 0 };
    for (int i = 0; i < MICRO_LANES; i++)
        if (i < n)
            v[i] = p[i];
    return v;
}

static inline void G(micro_store_n)(T *p, MICRO_VEC v, int64_t n)
{
    for (int i = 0; i < MICRO_LANES; i++)
        if (i < n)
            p[i] = v[i];
}

static inline MICRO_VEC G(micro_load)(const T *p)
{
    MICRO_VEC v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void G(micro_store)(T *p, MICRO_VEC v)
{
    memcpy(p, &v, sizeof v);
}

#define MICRO_mask(n) (n)
#define MICRO_zero() ((MICRO_VEC){ 0 })
#define MICRO_splat(p) (*(p) - (MICRO_VEC){ 0 })
#define MICRO_load(p) G(micro_load)(p)
#define MICRO_load_mask(p, m) ((m) == MICRO_LANES ? G(micro_load)(p) : G(micro_load_n)(p, m))
#define MICRO_store(p, v) G(micro_store)(p, v)
#define MICRO_store_mask(p, v, m) G(micro_store_n)(p, v, m)
#define MICRO_add(a, b) ((a) + (b))
#define MICRO_fma(a, b, c) ((a) * (b) + (c))

/* dst[p * dst_rs + i] = src[i * src_rs + p] for p, i < MICRO_LANES and i < rows */
static inline void G(transpose)(T *dst, int64_t dst_rs, const T *src, int64_t src_rs,
                                int64_t rows)
{
    for (int p = 0; p < MICRO_LANES; p++)
        for (int64_t i = 0; i < rows && i < MICRO_LANES; i++)
            dst[p * dst_rs + i] = src[i * src_rs + p];
}
