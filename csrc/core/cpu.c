/* CPU features, and which tier of kernels runs.
 *
 * A tier is usable if the CPU has its instructions (CPUID) *and* the operating system saves the
 * registers they use (XGETBV): a CPU flag alone is not enough under some kernels and hypervisors.
 * Bit positions: Intel 64 and IA-32 Architectures Software Developer's Manual, vol. 1 ch. 13, vol. 2 CPUID. */
#include "core.h"

#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define FGD_X86 1
#endif

extern const fgd_kernel fgd_table_scalar[];
#ifdef FGD_HAVE_AVX2
extern const fgd_kernel fgd_table_avx2[];
#endif
#ifdef FGD_HAVE_AVX512
extern const fgd_kernel fgd_table_avx512[];
#endif

static const struct { const char *name; const fgd_kernel *table; } tiers[FGD_N_TIERS] = {
    [FGD_TIER_SCALAR] = {"scalar", fgd_table_scalar},
    [FGD_TIER_AVX2] = {"avx2",
#ifdef FGD_HAVE_AVX2
                       fgd_table_avx2
#else
                       0
#endif
    },
    [FGD_TIER_AVX512] = {"avx512",
#ifdef FGD_HAVE_AVX512
                         fgd_table_avx512
#else
                         0
#endif
    },
    [FGD_TIER_AMX] = {"amx", 0},
    [FGD_TIER_NEON] = {"neon", 0},
};

enum { HAS_AVX2 = 1, HAS_FMA = 2, HAS_AVX512 = 4, HAS_AVX512_BF16 = 8, HAS_AMX_BF16 = 16, OS_YMM = 32, OS_ZMM = 64, OS_TILE = 128 };

#ifdef FGD_X86
static uint64_t read_xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

static int detect(void) {
    unsigned a, b, c, d;
    int found = 0;
    uint64_t xcr0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0; /* no OSXSAVE: nothing wider than SSE */
    if (c & (1u << 12)) found |= HAS_FMA;
    xcr0 = read_xcr0();
    if ((xcr0 & 0x6) == 0x6) found |= OS_YMM;
    if ((xcr0 & 0xe6) == 0xe6) found |= OS_ZMM;
    if ((xcr0 & 0x60000) == 0x60000) found |= OS_TILE;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    if (b & (1u << 5)) found |= HAS_AVX2;
    /* F, DQ, BW and VL together: what the avx512 tier is compiled for */
    if ((b & (1u << 16)) && (b & (1u << 17)) && (b & (1u << 30)) && (b & (1u << 31))) found |= HAS_AVX512;
    if (d & (1u << 22)) found |= HAS_AMX_BF16;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5))) found |= HAS_AVX512_BF16;
    return found;
}
#else
static int detect(void) { return 0; }
#endif

static int features(void) {
    static int cached = -1; /* every thread computes the same value: a race is harmless */
    if (cached < 0) cached = detect();
    return cached;
}

const char *fgd_cpu_features(void) {
    static char text[96];
    static const struct { int bit; const char *name; } names[] = {
        {HAS_AVX2, "avx2"}, {HAS_FMA, "fma"}, {HAS_AVX512, "avx512"}, {HAS_AVX512_BF16, "avx512_bf16"},
        {HAS_AMX_BF16, "amx_bf16"}, {OS_YMM, "os_ymm"}, {OS_ZMM, "os_zmm"}, {OS_TILE, "os_tile"}};
    if (!text[0])
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (features() & names[i].bit) {
                if (text[0]) strcat(text, " ");
                strcat(text, names[i].name);
            }
    return text;
}

const char *fgd_tier_name(int tier) { return tier >= 0 && tier < FGD_N_TIERS ? tiers[tier].name : 0; }

int fgd_tier_built(int tier) { return tier >= 0 && tier < FGD_N_TIERS && tiers[tier].table != 0; }

int fgd_tier_usable(int tier, const char **why) {
    int need = tier == FGD_TIER_AVX2 ? HAS_AVX2 | HAS_FMA : tier == FGD_TIER_AVX512 ? HAS_AVX2 | HAS_FMA | HAS_AVX512 : 0;
    int os = tier == FGD_TIER_AVX2 ? OS_YMM : tier == FGD_TIER_AVX512 ? OS_ZMM : 0;
    const char *reason = 0;
    if (!fgd_tier_built(tier)) reason = "not in this build";
    else if ((features() & need) != need) reason = "the CPU lacks the instructions";
    else if ((features() & os) != os) reason = "the operating system does not save the registers";
    if (why) *why = reason ? reason : "usable";
    return !reason;
}

static int current = -1;

fgd_status fgd_select_tier(const char *name) {
    const char *why;
    int tier;
    if (!name || !*name) {
        for (tier = FGD_N_TIERS - 1; tier > 0 && !fgd_tier_usable(tier, 0); tier--) {}
        current = tier;
        return FGD_OK;
    }
    for (tier = 0; tier < FGD_N_TIERS && strcmp(name, tiers[tier].name); tier++) {}
    if (tier == FGD_N_TIERS)
        return fgd_fail(FGD_VALUE, "FASTGD_ISA: expected one of scalar, avx2, avx512, amx, neon, got '%s'", name);
    if (!fgd_tier_usable(tier, &why)) return fgd_fail(FGD_VALUE, "FASTGD_ISA: tier '%s' cannot run here: %s", name, why);
    current = tier;
    return FGD_OK;
}

int fgd_current_tier(void) {
    if (current < 0) fgd_select_tier(0);
    return current;
}

const fgd_kernel *fgd_current_table(void) { return tiers[fgd_current_tier()].table; }
