/* Aligned memory: one caching allocator for tensors, arenas and scratch.
 *
 * A training step frees and asks for the same sizes again and again; giving large blocks back to
 * the system would mean unmapping them and faulting every page in anew.  Freed blocks are kept in
 * one list per size class (eight classes an octave, so at most 1/8 is wasted) up to a bound.
 * Blocks of 2 MB and more are aligned to 2 MB and offered to the kernel as huge pages. */
#include "core.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ALIGNMENT = 64, N_CLASSES = 512 };
static const int64_t HUGE = 2 << 20;
static const int64_t MAX_CACHED = (int64_t)1 << 30;

/* Stands in the 64 bytes before the pointer that the caller gets. */
typedef struct block {
    struct block *next;
    int64_t bytes; /* usable bytes: the size of the class */
    void *base;    /* what free() wants */
    int32_t size_class;
} block;
_Static_assert(sizeof(block) <= ALIGNMENT, "the header fits its alignment");

static block *cache[N_CLASSES];
static int64_t cached_bytes, live_bytes, peak_bytes;
static atomic_flag lock = ATOMIC_FLAG_INIT;
static _Atomic int64_t fail_at;

/* Held for a few instructions only, never while calling the system: a spin lock is enough. */
static void acquire(void) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {}
}
static void release(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

void fgd_arena_after_fork(void);
void fgd_arena_after_fork(void) { release(); }

/* Rounds up to (8 .. 15) * 2^k bytes, at least 64, and numbers the classes in order. */
static int size_class(int64_t bytes, int64_t *rounded) {
    int shift = 3;
    while ((bytes - 1) >> shift >= 16) shift++;
    int64_t steps = (bytes - 1) >> shift; /* 0 .. 15 */
    if (steps < 8) steps = 7;             /* only for bytes <= 64 */
    *rounded = (steps + 1) << shift;
    return (shift - 3) * 8 + (int)(steps - 7);
}

void fgd_alloc_fail_at(int64_t n) { atomic_store(&fail_at, n); }

static int hook_fails(void) {
    return atomic_load_explicit(&fail_at, memory_order_relaxed) > 0 && atomic_fetch_sub(&fail_at, 1) == 1;
}

static block *system_block(int64_t bytes, int cls) {
    int64_t align = bytes >= HUGE ? HUGE : ALIGNMENT;
    void *base;
    block *b;
    /* A large block starts a page-aligned region of its own, with the header in the bytes before it. */
    if (posix_memalign(&base, (size_t)align, (size_t)(bytes + align))) return 0;
    b = (block *)((char *)base + align - ALIGNMENT);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= HUGE) madvise((char *)base + align, (size_t)bytes, MADV_HUGEPAGE); /* advice: failing is fine */
#endif
    b->base = base, b->bytes = bytes, b->size_class = cls;
    return b;
}

void *fgd_alloc(int64_t bytes) {
    int64_t rounded;
    int cls;
    block *b;
    if (bytes < 0 || bytes > INT64_MAX / 4 || hook_fails()) {
        fgd_fail(FGD_NOMEM, "cannot allocate %lld bytes", (long long)bytes);
        return 0;
    }
    cls = size_class(bytes > 0 ? bytes : 1, &rounded);
    acquire();
    b = cache[cls];
    if (b) cache[cls] = b->next, cached_bytes -= b->bytes;
    release();
    if (!b) b = system_block(rounded, cls);
    if (!b) {
        fgd_alloc_trim();
        b = system_block(rounded, cls);
    }
    if (!b) {
        fgd_fail(FGD_NOMEM, "cannot allocate %lld bytes", (long long)bytes);
        return 0;
    }
    acquire();
    live_bytes += b->bytes;
    if (live_bytes > peak_bytes) peak_bytes = live_bytes;
    release();
    return (char *)b + ALIGNMENT;
}

void fgd_free(void *p) {
    block *b;
    if (!p) return;
    b = (block *)((char *)p - ALIGNMENT);
    acquire();
    live_bytes -= b->bytes;
    if (cached_bytes + b->bytes <= MAX_CACHED) {
        b->next = cache[b->size_class], cache[b->size_class] = b, cached_bytes += b->bytes;
        b = 0;
    }
    release();
    if (b) free(b->base);
}

void fgd_alloc_trim(void) {
    for (int cls = 0; cls < N_CLASSES; cls++) {
        block *list;
        acquire();
        list = cache[cls], cache[cls] = 0;
        for (block *b = list; b; b = b->next) cached_bytes -= b->bytes;
        release();
        while (list) {
            block *next = list->next;
            free(list->base);
            list = next;
        }
    }
}

int64_t fgd_alloc_live_bytes(void) { return live_bytes; }

int64_t fgd_alloc_peak_bytes(int reset) {
    int64_t peak = peak_bytes;
    if (reset) peak_bytes = live_bytes;
    return peak;
}
