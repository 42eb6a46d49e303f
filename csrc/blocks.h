/* The block table: hidden units and inputs are cut into blocks of VL lanes. An entry gives a block its first unit, its
 * lanes and its range of k; no other file computes these.
 *
 * Units may form heads of equal width. Each head has blocks of its own, so the last block of each head may have
 * padding:
 *
 *     heads of 5 units, VL = 4       block 0      block 1      block 2      block 3
 *                                    0 1 2 3      4 - - -      5 6 7 8      9 - - -
 *
 * Entries are computed where they are read. A table in memory would cost a load for each field, and the caller's
 * memory. Kernels know VL at compile time. An entry costs a multiplication and a minimum, and with heads a division.
 */
#ifndef FASTRNN_BLOCKS_H
#define FASTRNN_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

/* The blocks of a product with n lanes (units or inputs) that run over an operand. */
struct blocks {
    int64_t n, width;   /* n lanes, in heads of `width`; without heads, `width` is n */
    int64_t K, k_width; /* numbers of the operand that a block is multiplied by; they form heads of k_width */
    bool of_head;       /* the numbers are those of the head that the block belongs to; else all of the operand */
};

/* An entry. Of the blocks of a head, only the last may have fewer than VL lanes. */
struct block {
    int64_t first;         /* first unit or input, as the caller's arrays and the reserve count them */
    int64_t column;        /* the same, counted from the first unit of its head */
    int64_t at;            /* first lane in rows of scratch and of packed biases, where each block has VL lanes */
    int lanes;             /* 1 … VL; the other lanes are padding */
    int64_t k_first, k_at; /* its range of k: first number of the operand, and the number's lane in rows of scratch */
};

/* Blocks of `size` that n items fill. */
static inline int64_t layout_blocks(const int64_t n, const int size) { return n / size + (n % size != 0); }

/* The blocks of the recurrent product in either direction, for H units in so many heads. */
static inline struct blocks blocks_of_units(const int64_t H, const int64_t heads) {
    const int64_t width = heads > 1 ? H / heads : H;
    return (struct blocks){.n = H, .width = width, .K = width, .k_width = width, .of_head = true};
}

/* The blocks of the input product: units, which run over I inputs. */
static inline struct blocks blocks_of_projection(const struct blocks units, const int64_t I) {
    return (struct blocks){.n = units.n, .width = units.width, .K = I, .k_width = I};
}

/* The blocks of backward's input product: I inputs, which run over all units. */
static inline struct blocks blocks_of_inputs(const struct blocks units, const int64_t I) {
    return (struct blocks){.n = I, .width = I, .K = units.n, .k_width = units.width};
}

static inline bool blocks_have_heads(const struct blocks blocks) { return blocks.width < blocks.n; }

static inline int64_t block_heads(const struct blocks blocks) {
    return blocks_have_heads(blocks) ? blocks.n / blocks.width : 1;
}

/* Blocks of a head. */
static inline int64_t blocks_of_head(const struct blocks blocks, const int vl) {
    return layout_blocks(blocks.width, vl);
}

static inline int64_t block_count(const struct blocks blocks, const int vl) {
    return block_heads(blocks) * blocks_of_head(blocks, vl);
}

/* Whether a block that is not the last has padding, so that lanes of scratch and units differ. */
static inline bool blocks_are_padded(const struct blocks blocks, const int vl) {
    return blocks_have_heads(blocks) && blocks.width % vl != 0;
}

/* Entry j of the table without heads. */
static inline struct block block_without_heads(const struct blocks blocks, const int64_t j, const int vl) {
    const int64_t first = j * vl, left = blocks.n - first;
    return (struct block){.first = first, .column = first, .at = first, .lanes = left < vl ? (int)left : vl};
}

/* Entry j of the table. */
static inline struct block block_at(const struct blocks blocks, const int64_t j, const int vl) {
    if (!blocks_have_heads(blocks)) {
        return block_without_heads(blocks, j, vl);
    }
    const int64_t each = blocks_of_head(blocks, vl), head = j / each;
    const int64_t column = (j - head * each) * vl, left = blocks.width - column;
    return (struct block){
        .first = head * blocks.width + column,
        .column = column,
        .at = j * vl,
        .lanes = left < vl ? (int)left : vl,
        .k_first = blocks.of_head ? head * blocks.width : 0,
        .k_at = blocks.of_head ? head * each * vl : 0,
    };
}

/* The heads of a block's range of k, and the lanes of scratch from one of them to the next. */
static inline int64_t block_k_heads(const struct blocks blocks) {
    return blocks.k_width < blocks.K ? blocks.K / blocks.k_width : 1;
}
static inline int64_t block_k_step(const struct blocks blocks, const int vl) {
    return layout_blocks(blocks.k_width, vl) * vl;
}

/* The head that block j belongs to. */
static inline int64_t block_head(const struct blocks blocks, const int64_t j, const int vl) {
    return blocks_have_heads(blocks) ? j / blocks_of_head(blocks, vl) : 0;
}

/* The first lane of block j in rows of scratch, and the block that has a lane. */
static inline int64_t block_lane(const int64_t j, const int vl) { return j * vl; }
static inline int64_t block_from(const int64_t at, const int vl) { return at / vl; }

/* The end of the blocks of [begin, end) that are of the head of `begin`: a tile may take several of them. */
static inline int64_t block_run(const struct blocks blocks, const int64_t begin, const int64_t end, const int vl) {
    if (!blocks_have_heads(blocks)) {
        return end;
    }
    const int64_t of_head = (block_head(blocks, begin, vl) + 1) * blocks_of_head(blocks, vl);
    return of_head < end ? of_head : end;
}

/* The end of the blocks of a run up to `end` that have all their lanes. */
static inline int64_t block_whole_end(const struct blocks blocks, const int64_t end, const int vl) {
    return block_at(blocks, end - 1, vl).lanes == vl ? end : end - 1;
}

#endif
