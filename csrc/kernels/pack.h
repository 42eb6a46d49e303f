/* Packing: copies weights from torch's layout into the reading order of the tiles (layout.h). Lanes beyond the last
 * unit or input are zero. */
#ifndef FASTRNN_PACK_H
#define FASTRNN_PACK_H

#include "../layout.h"
#include "../threads/team.h"
#include "cell.h"

/* A member's share of the blocks, if the whole team shares them. */
static inline struct team_range share_of(const struct blocks blocks, const struct team_member *const me) {
    return team_share(block_count(blocks, VL), team_rank(me), team_size(me));
}

/* A member's share of the unit blocks, if its group shares them. */
static inline struct team_range blocks_of_member(const struct layout_shape *const s,
                                                 const struct team_member *const me) {
    const struct team_range share = team_share(layout_shares(s), me->member, me->members);
    return (struct team_range){layout_share_begin(s, share.begin), layout_share_begin(s, share.end)};
}

/* Whether the members of a group have to wait for each other after a step: they read what others wrote. */
static inline bool members_wait(const struct layout_shape *const s, const struct cell_phases *const phases,
                                const struct team_member *const me) {
    const bool crosses_heads = phases->sums > phases->head_sums;
    return crosses_heads || ((layout_has_state(s) || phases->sums > 0) && !layout_shares_heads(s, me->members));
}

ALWAYS_INLINE vreal load_n_or_zero(const real *const p, const int64_t u, const int n) {
    return p ? vload_n(p + u, n) : vsplat(0);
}

/* Weights of forward: of H units, w[(g*H + u)*K + k]; blocks.n is H, blocks.K is K. A row has the numbers k of its own
 * range. */
struct unit_rows {
    const real *w;
    struct blocks blocks;
};

/* The same weights for backward, where lanes are columns: w[(g*H + u)*N + n], blocks.K is the number of u. */
struct slot_rows {
    const real *w;
    int64_t H, N;
    struct blocks blocks;
};

/* A row has the columns of one head. */
static inline struct slot_rows slot_rows(const void *const w, const struct layout_shape *const s,
                                         const struct blocks blocks) {
    return (struct slot_rows){.w = w, .H = s->H, .N = blocks.width, .blocks = blocks};
}

/* Reals in a cache line. The rows of several units are read a line at a time, since lines of rows that lie a power of
 * two apart evict each other from the first-level cache. */
enum { LINE_BYTES = 64, LINE_REALS = LINE_BYTES / sizeof(real) };

/* A piece of each of PIECE rows, in every piece of the vectors: rows become columns within each piece. */
ALWAYS_INLINE void transpose_pieces(const vreal *const row, vreal *const column) {
#if FASTRNN_REAL_BITS == 32
    const vreal low = vzip_low(row[0], row[1]), high = vzip_high(row[0], row[1]);
    const vreal next_low = vzip_low(row[2], row[3]), next_high = vzip_high(row[2], row[3]);
    column[0] = vzip_pairs_low(low, next_low);
    column[1] = vzip_pairs_high(low, next_low);
    column[2] = vzip_pairs_low(high, next_high);
    column[3] = vzip_pairs_high(high, next_high);
#else
    column[0] = vzip_low(row[0], row[1]);
    column[1] = vzip_high(row[0], row[1]);
#endif
}

/* column[j] = the reals k + j of VL rows, `step` reals apart: half of a square. Each vector is loaded from halves of
 * two rows, VL / 2 rows apart, which saves shuffles between the pieces of a vector. */
enum { SQUARE_HALF = VECTOR_BYTES == 16 ? (int)VL : VL / 2 };
ALWAYS_INLINE void transpose_half(const real *const rows, const ptrdiff_t step, const int k, vreal *const column) {
    vreal row[SQUARE_HALF], turned[SQUARE_HALF];
    UNROLL
    for (int j = 0; j < SQUARE_HALF; j++) {
#if VECTOR_BYTES == 16
        row[j] = vload(rows + j * step + k);
#else
        row[j] = vload_halves(rows + j * step + k, SQUARE_HALF * step);
#endif
    }
    UNROLL
    for (int j = 0; j < SQUARE_HALF; j += PIECE) {
        transpose_pieces(row + j, turned + j);
    }
    UNROLL
    for (int j = 0; j < SQUARE_HALF; j++) {
#if VECTOR_BYTES == 64
        column[j] = j < PIECE ? vpieces_even(turned[j], turned[j + PIECE]) : vpieces_odd(turned[j - PIECE], turned[j]);
#else
        column[j] = turned[j];
#endif
    }
}

/* column[k] = the reals k of VL rows. */
ALWAYS_INLINE void transpose_square(const real *const rows, const ptrdiff_t step, vreal *const column) {
    UNROLL
    for (int k = 0; k < VL; k += SQUARE_HALF) {
        transpose_half(rows, step, k, column + k);
    }
}

/* The same for fewer rows or reals; other elements are zero. */
static void transpose_partial_square(const real *const rows, const ptrdiff_t step, const int lanes, const int columns,
                                     vreal *const column) {
    real square[VL * VL] = {0};
    for (int lane = 0; lane < lanes; lane++) {
        memcpy(square + lane * VL, rows + lane * step, (size_t)columns * sizeof(real));
    }
    transpose_square(square, VL, column);
}

/* to[j*step] = column j of a square. */
ALWAYS_INLINE void pack_square(const real *const rows, const ptrdiff_t row_step, const int lanes, const int columns,
                               real *const to, const ptrdiff_t step) {
    vreal column[VL];
    if (lanes == VL && columns == VL) {
        transpose_square(rows, row_step, column);
        UNROLL
        for (int j = 0; j < VL; j++) {
            vstore(to + j * step, column[j]);
        }
        return;
    }
    transpose_partial_square(rows, row_step, lanes, columns, column);
    for (int j = 0; j < columns; j++) {
        vstore(to + j * step, column[j]);
    }
}

/* Packs w[(g*H + u)*K + k] to a vector for each block, each k of its range and each gate, laid out by `at`; `to` takes
 * the first of the blocks. Reads a line of each row at a time, for as many gates as fill a line of the result. */
static void pack_units(const int G, const struct unit_rows *const from, real *const to, const struct layout_weights at,
                       const struct team_range blocks) {
    enum { GATES = LINE_REALS / VL };
    for (int64_t j = blocks.begin; j < blocks.end; j++) {
        const struct block block = block_at(from->blocks, j, VL);
        for (int gates = 0; gates < G; gates += GATES) {
            for (int64_t line = 0; line < from->blocks.K; line += LINE_REALS) {
                for (int g = gates; g < gates + GATES && g < G; g++) {
                    const int64_t first = (g * from->blocks.n + block.first) * from->blocks.K;
                    for (int64_t k = line; k < line + LINE_REALS && k < from->blocks.K; k += VL) {
                        const int64_t left = from->blocks.K - k;
                        const int columns = left < VL ? (int)left : VL;
                        pack_square(from->w + first + k, from->blocks.K, block.lanes, columns,
                                    to + (j - blocks.begin) * at.block + g * at.gate + k * at.step, at.step);
                    }
                }
            }
        }
    }
}

/* to[u] = a vector of each of `units` rows, N reals apart. */
ALWAYS_INLINE void copy_column(const real *const rows, const int64_t N, const int units, const int lanes,
                               real *const to) {
    for (int u = 0; u < units; u++) {
        vstore(to + u * VL, vload_n(rows + u * N, lanes));
    }
}

/* Packs w[(gate*H + u)*N + n] to to[block][slot][u][VL] for blocks with the same range of u. `gate` has the gates of G
 * slots. Reads some rows at a time, from end to end. */
ALWAYS_INLINE void pack_transpose_of_run(const int *const gate, const int G, const struct slot_rows *const from,
                                         real *const to, const ptrdiff_t to_block, const struct team_range run) {
    enum { UNITS = 8 };
    const int64_t K = from->blocks.K, N = from->N, first = block_at(from->blocks, run.begin, VL).k_first;
    for (int slot = 0; slot < G; slot++) {
        for (int64_t u = 0; u < K; u += UNITS) {
            const real *const rows = from->w + (gate[slot] * from->H + first + u) * N;
            const int units = K - u < UNITS ? (int)(K - u) : (int)UNITS;
            for (int64_t j = run.begin; j < run.end; j++) {
                const struct block block = block_at(from->blocks, j, VL);
                real *const panel = to + j * to_block + (slot * K + u) * VL;
                if (units == UNITS && block.lanes == VL) { /* with constants the compiler drops the tests */
                    copy_column(rows + block.column, N, UNITS, VL, panel);
                } else {
                    copy_column(rows + block.column, N, units, block.lanes, panel);
                }
            }
        }
    }
}

static void pack_transpose(const int *const gate, const int G, const struct slot_rows *const from, real *const to,
                           const ptrdiff_t to_block, const struct team_range share) {
    for (int64_t begin = share.begin; begin < share.end;) {
        const int64_t end = block_run(from->blocks, begin, share.end, VL);
        pack_transpose_of_run(gate, G, from, to, to_block, (struct team_range){begin, end});
        begin = end;
    }
}

/* b_ih + b_hh of some units; a null bias is zero. */
ALWAYS_INLINE vreal bias_sum(const real *const b_ih, const real *const b_hh, const int64_t at, const int lanes) {
    return load_n_or_zero(b_ih, at, lanes) + load_n_or_zero(b_hh, at, lanes);
}

/* Where the biases of a second product lie after those of the gates that stay apart. */
ALWAYS_INLINE int64_t product_biases(const struct cell_shape *const cell, const struct blocks units,
                                     const int product) {
    return block_count(units, VL) * (cell->gates + product) * VL;
}

/* to[block][g][VL] = b_ih + b_hh. For gates that stay apart, `to` holds b_ih and apart[block][g][VL] holds b_hh,
 * followed by [block][VL] for each second product. */
static void pack_biases(const struct cell_shape *const cell, const struct blocks units, const real *const b_ih,
                        const real *const b_hh, real *const to, real *const apart, const struct team_range blocks) {
    for (int64_t j = blocks.begin; j < blocks.end; j++) {
        const struct block block = block_at(units, j, VL);
        for (int g = 0; g < cell->gates; g++) {
            const int64_t u = g * units.n + block.first, at = block.at * cell->gates + g * VL;
            const vreal x = load_n_or_zero(b_ih, u, block.lanes), h = load_n_or_zero(b_hh, u, block.lanes);
            const bool is_apart = cell->apart >> g & 1;
            vstore(to + at, is_apart ? x : x + h);
            if (cell->apart) {
                vstore(apart + at, is_apart ? h : vsplat(0));
            }
        }
        for (int product = 0; product < cell->products; product++) {
            const vreal h = load_n_or_zero(b_hh, cell->product[product].gate * units.n + block.first, block.lanes);
            vstore(apart + product_biases(cell, units, product) + block.at, h);
        }
    }
}

/* to[vector][block][VL] = vectors of H. */
static void pack_vectors(const void *const *const vectors, const int count, const struct blocks units, real *const to,
                         const struct team_range blocks) {
    for (int j = 0; j < count; j++) {
        for (int64_t number = blocks.begin; number < blocks.end; number++) {
            const struct block block = block_at(units, number, VL);
            vstore(to + (j * block_count(units, VL) + number) * VL,
                   vload_n((const real *)vectors[j] + block.first, block.lanes));
        }
    }
}

/* The first cache line at or after p: callers need not align their buffers. */
ALWAYS_INLINE real *aligned(void *const p) {
    return (real *)(((uintptr_t)p + LAYOUT_LINE_BYTES - 1) & ~(uintptr_t)(LAYOUT_LINE_BYTES - 1));
}
ALWAYS_INLINE const real *aligned_const(const void *const p) {
    return (const real *)(((uintptr_t)p + LAYOUT_LINE_BYTES - 1) & ~(uintptr_t)(LAYOUT_LINE_BYTES - 1));
}

#endif
