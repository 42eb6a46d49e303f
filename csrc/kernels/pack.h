/* Weights from torch's layout into the order in which the tile streams them (layout.h). Lanes beyond the last unit or
 * input are zero. */
#ifndef FASTRNN_PACK_H
#define FASTRNN_PACK_H

#include "../layout.h"
#include "../team.h"
#include "cell.h"

static inline int lanes_of_block(const int64_t block, const int64_t n) {
    const int64_t left = n - block * VL;
    return left < VL ? (int)left : VL;
}

ALWAYS_INLINE vreal load_n_or_zero(const real *const p, const int64_t u, const int n) {
    return p ? vload_n(p + u, n) : vsplat(0);
}

/* VL rows of VL reals become columns: each of log2(VL) rounds of interleaving moves one bit of an element's place from
 * its row to its lane. */
ALWAYS_INLINE void transpose(vreal *const rows) {
    UNROLL
    for (int round = 1; round < VL; round *= 2) {
        vreal next[VL];
        UNROLL
        for (int j = 0; j < VL / 2; j++) {
            next[2 * j] = vinterleave_low(rows[j], rows[j + VL / 2]);
            next[2 * j + 1] = vinterleave_high(rows[j], rows[j + VL / 2]);
        }
        UNROLL
        for (int j = 0; j < VL; j++) {
            rows[j] = next[j];
        }
    }
}

/* Weights of H units, w[(g*H + u)*K + k]. */
struct unit_rows {
    const real *w;
    int64_t H, K;
    real *copy; /* what is read is also written here; null: not wanted */
};

/* The vectors of `columns` k, from the rows of `lanes` units that begin at `first`. */
ALWAYS_INLINE void load_square(const struct unit_rows *const from, const int64_t first, const int lanes,
                               const int columns, vreal *const square) {
    UNROLL
    for (int lane = 0; lane < VL; lane++) {
        square[lane] = load_n_or_zero(lane < lanes ? from->w + first + lane * from->K : NULL, 0, columns);
    }
    if (from->copy) {
        UNROLL
        for (int lane = 0; lane < VL; lane++) {
            if (lane < lanes) {
                vstore_n(from->copy + first + lane * from->K, square[lane], columns);
            }
        }
    }
    transpose(square);
}

ALWAYS_INLINE void pack_square(const struct unit_rows *const from, const int64_t first, const int lanes,
                               const int columns, real *const to, const ptrdiff_t to_step) {
    vreal square[VL];
    load_square(from, first, lanes, columns, square);
    UNROLL
    for (int column = 0; column < VL; column++) {
        if (column < columns) {
            vstore(to + column * to_step, square[column]);
        }
    }
}

/* to[block][k][g][VL] from w[(g*H + u)*K + k]: a transpose, VL by VL elements at a time. */
static void pack_units(const int G, const struct unit_rows *const from, real *const to, const ptrdiff_t to_block,
                       const struct team_range blocks) {
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        const int lanes = lanes_of_block(block, from->H);
        for (int g = 0; g < G; g++) {
            const int64_t first = (g * from->H + block * VL) * from->K;
            for (int64_t k = 0; k < from->K; k += VL) {
                const int columns = from->K - k < VL ? (int)(from->K - k) : VL;
                real *const panel = to + block * to_block + (k * G + g) * VL;
                if (lanes == VL && columns == VL) { /* constants, which spare the tests and the masks */
                    pack_square(from, first + k, VL, VL, panel, G * VL);
                } else {
                    pack_square(from, first + k, lanes, columns, panel, G * VL);
                }
            }
        }
    }
}

/* to[block][slot][u][VL] from w[(gate*H + u)*N + n]: a copy, block by block. */
static void pack_transpose(const struct cell *const cell, const int first_slot, const int64_t H, const int64_t N,
                           const real *const w, real *const to, const ptrdiff_t to_block,
                           const struct team_range blocks) {
    for (int64_t block = blocks.begin; H > 0 && block < blocks.end; block++) {
        const int lanes = lanes_of_block(block, N);
        for (int slot = 0; slot < cell->gates; slot++) {
            const real *const from = w + cell->slot_gate[first_slot + slot] * H * N + block * VL;
            real *const panel = to + block * to_block + slot * H * VL;
            for (int64_t u = 0; u < H; u++) {
                vstore(panel + u * VL, vload_n(from + u * N, lanes));
            }
        }
    }
}

/* b_ih + b_hh of some units; a null one is zero. */
ALWAYS_INLINE vreal bias_sum(const real *const b_ih, const real *const b_hh, const int64_t at, const int lanes) {
    return load_n_or_zero(b_ih, at, lanes) + load_n_or_zero(b_hh, at, lanes);
}

/* to[block][g][VL] = b_ih + b_hh, leaving b_hh of the gate that stays apart to `apart` [block][VL]. */
static void pack_biases(const struct cell *const cell, const int64_t H, const real *const b_ih, const real *const b_hh,
                        real *const to, real *const apart, const struct team_range blocks) {
    const vreal zero = {0};
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        const int lanes = lanes_of_block(block, H);
        for (int g = 0; g < cell->gates; g++) {
            const int64_t at = g * H + block * VL;
            const vreal x = b_ih ? vload_n(b_ih + at, lanes) : zero;
            const vreal h = b_hh ? vload_n(b_hh + at, lanes) : zero;
            vstore(to + (block * cell->gates + g) * VL, g == cell->apart ? x : x + h);
            if (g == cell->apart) {
                vstore(apart + block * VL, h);
            }
        }
    }
}

/* The first cache line at or after p: callers need not align what they provide. */
ALWAYS_INLINE real *aligned(void *const p) {
    return (real *)(((uintptr_t)p + LAYOUT_LINE_BYTES - 1) & ~(uintptr_t)(LAYOUT_LINE_BYTES - 1));
}
ALWAYS_INLINE const real *aligned_const(const void *const p) {
    return (const real *)(((uintptr_t)p + LAYOUT_LINE_BYTES - 1) & ~(uintptr_t)(LAYOUT_LINE_BYTES - 1));
}

#endif
