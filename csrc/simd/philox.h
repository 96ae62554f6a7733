/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011), many blocks at a time; the same words as fgd_philox4x32.
 *
 * A 64-bit lane holds half a block's state: x = c0 | c1 << 32 and y = c2 | c3 << 32.  With the
 * full products p = c0 * M0 and q = c2 * M1 a round is then
 *     x' = rotate(q, 32) ^ (x >> 32) ^ k0        y' = rotate(p, 32) ^ (y >> 32) ^ k1
 * because the rotated product holds the high half below the low half, as the round wants them. */

enum { PHILOX_BLOCKS = 2 * f64_LANES, PHILOX_GRANULE = 4 * PHILOX_BLOCKS };

static inline nf64 philox_half_round(nf64 product, nf64 other, nf64 key)
{
    return f64_ixor3(f64_iswap_halves(product), f64_ishr(other, 32), key);
}

/* PHILOX_BLOCKS consecutive blocks -> PHILOX_GRANULE words */
static inline void philox_granule(uint64_t seed, uint64_t offset, uint64_t block, uint32_t *words)
{
    const nf64 m0 = f64_iset1(0xD2511F53), m1 = f64_iset1(0xCD9E8D57);
    nf64 x[2], y[2];
    for (int i = 0; i < 2; i++) {
        const int64_t first = (int64_t)(block + (uint64_t)i * f64_LANES);
        x[i] = f64_iadd(f64_iset1(first), f64_interleaved_numbers());
        y[i] = f64_iset1((int64_t)offset);
    }
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 2; i++) {
            nf64 p = f64_imul_low(x[i], m0), q = f64_imul_low(y[i], m1);
            x[i] = philox_half_round(q, x[i], f64_iset1(k0));
            y[i] = philox_half_round(p, y[i], f64_iset1(k1));
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    for (int i = 0; i < 2; i++) f64_istore_pairs(words + i * 4 * f64_LANES, x[i], y[i]);
}

/* Writes at least n words from the first word of `block` on, and at most PHILOX_GRANULE - 1
 * beyond. */
static inline void philox_words(uint64_t seed, uint64_t offset, uint64_t block, int64_t n,
                                uint32_t *words)
{
    for (int64_t i = 0; i < n; i += PHILOX_GRANULE, block += PHILOX_BLOCKS)
        philox_granule(seed, offset, block, words + i);
}
