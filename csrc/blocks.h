/* The block table: hidden units and inputs are cut into blocks of VL lanes. An entry gives a block its first unit, its
 * lanes and its range of k; no other file computes these.
 *
 * Entries are computed where they are read. A table in memory would cost a load for each field, and the caller's
 * memory. Kernels know VL at compile time, and an entry costs a multiplication and a minimum.
 */
#ifndef FASTRNN_BLOCKS_H
#define FASTRNN_BLOCKS_H

#include <stdint.h>

/* The blocks of a product with n lanes (units or inputs) that run over an operand of K numbers. */
struct blocks {
    int64_t n, K;
};

/* An entry. Of the blocks with the same range of k, only the last may have fewer than VL lanes. */
struct block {
    int64_t first;          /* first unit or input, as the caller's arrays and the reserve count them */
    int64_t at;             /* first lane in rows of scratch and of packed biases, where each block has VL lanes */
    int lanes;              /* 1 … VL; the other lanes are padding */
    int64_t k_begin, k_end; /* the numbers of the operand that the block is multiplied by */
};

/* Blocks of `size` that n items fill. */
static inline int64_t layout_blocks(const int64_t n, const int size) { return n / size + (n % size != 0); }

static inline int64_t block_count(const struct blocks blocks, const int vl) { return layout_blocks(blocks.n, vl); }

/* Entry j of the table. Every block of a dense product runs over the whole operand. */
static inline struct block block_at(const struct blocks blocks, const int64_t j, const int vl) {
    const int64_t first = j * vl, left = blocks.n - first;
    return (struct block){
        .first = first,
        .at = first,
        .lanes = left < vl ? (int)left : vl,
        .k_begin = 0,
        .k_end = blocks.K,
    };
}

/* The length of a block's range of k. All blocks of a product have the same. */
static inline int64_t block_depth(const struct block block) { return block.k_end - block.k_begin; }

/* The number of the block that has lane `at` of a row of scratch, and of the block after lane `at - 1`. */
static inline int64_t block_from(const int64_t at, const int vl) { return at / vl; }
static inline int64_t block_until(const int64_t at, const int vl) { return layout_blocks(at, vl); }

/* The end of the blocks of [begin, end) that follow `begin` without a gap and have the same range of k: a tile may take
 * several of them. */
static inline int64_t block_run(const struct blocks blocks, const int64_t begin, const int64_t end, const int vl) {
    const struct block first = block_at(blocks, begin, vl);
    for (int64_t j = begin + 1; j < end; j++) {
        const struct block next = block_at(blocks, j, vl);
        if (next.k_begin != first.k_begin || next.k_end != first.k_end) {
            return j;
        }
    }
    return end;
}

/* The end of the blocks of a run up to `end` that have all their lanes. */
static inline int64_t block_whole_end(const struct blocks blocks, const int64_t end, const int vl) {
    return block_at(blocks, end - 1, vl).lanes == vl ? end : end - 1;
}

#endif
