/* The register tile: acc[r][q][g] += sum over k of a[r][k] * w[q][k][g], the only hot loop of the library.
 *
 * R rows of a are broadcast against P = Q*G panels of w: Q blocks, each with G vectors for every k.
 *
 *     a:  one real at  data[r*row + k*step]
 *     w:  one vector at data[q*block + (k*G + g)*VL]
 *
 *               g=0      g=1   …          R*P accumulators stay in registers; each k costs P loads of w and
 *     r=0     acc[0]   acc[1]             R broadcasts of a for R*P fused multiply-adds. Every accumulator is one
 *     r=1     acc[…]                      chain in ascending k: no other order is ever used, whatever the shape
 *     …                                   of the tile, so the tile's shape never shows in the result.
 *
 * R, Q and G must be compile-time constants after inlining.
 */
#ifndef FASTRNN_TILE_H
#define FASTRNN_TILE_H

#include <stdbool.h>

#include "simd.h"

enum {
    /* 32 registers hold 24 accumulators, four panel vectors and a broadcast; 16 registers hold 12. */
    TILE_ACCUMULATORS = VECTOR_REGISTERS == 32 ? 24 : 12,
    TILE_PANELS = 4,         /* panels of a tile with several rows; three gates leave room for three */
    TILE_PANELS_ONE_ROW = 8, /* one row needs the panels as independent chains: latency 4 x 2 units */
    TILE_ROWS_MAX = 8,
    TILE_PANELS_MAX = 9,
    /* How far ahead the panels of several rows are fetched: past L2's latency at 12 cycles a k. One row is read as fast
     * as the machine fetches by itself, and asking for more takes its place: LSTM forward at T=100, B=1, H=512
     * takes 3.7 ms without, 4.1 with it. */
    TILE_PREFETCH_K = 16,
};

/* Blocks side by side in a tile whose blocks have `gates` panels, and the most rows of such a tile. */
#define TILE_BLOCKS(gates) ((gates) >= TILE_PANELS - 1 ? 1 : TILE_PANELS / (gates))
#define TILE_BLOCKS_ONE_ROW(gates) (((gates)-1 + TILE_PANELS_ONE_ROW) / (gates))
#define TILE_ROWS(gates) (TILE_ACCUMULATORS / (TILE_BLOCKS(gates) * (gates)))

struct tile_shape {
    int R, Q, G;
};

struct tile_rows {
    const real *data;
    ptrdiff_t row, step;
};

struct tile_panels {
    const real *data;
    ptrdiff_t block;
};

struct tile {
    vreal acc[TILE_ROWS_MAX][TILE_PANELS_MAX]; /* panel q*G + g; only R x Q*G of them exist */
};

ALWAYS_INLINE void tile_clear(struct tile *const tile, const struct tile_shape shape) {
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.G; p++) {
            tile->acc[r][p] = vsplat(0);
        }
    }
}

/* acc[(r*Q + q)*G + g], for code that cannot be unrolled over the tile. */
ALWAYS_INLINE void tile_spill(const struct tile *const tile, const struct tile_shape shape, vreal *const acc) {
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.G; p++) {
            acc[r * shape.Q * shape.G + p] = vkeep(tile->acc[r][p]);
        }
    }
}

ALWAYS_INLINE void tile_move(struct tile *const to, const struct tile *const from, const struct tile_shape shape) {
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.G; p++) {
            to->acc[r][p] = vkeep(from->acc[r][p]);
        }
    }
}

ALWAYS_INLINE vreal tile_panel(const struct tile_panels w, const struct tile_shape shape, const int64_t k,
                               const int p) {
    const real *const at = w.data + p / shape.G * w.block + (k * shape.G + p % shape.G) * VL;
    if (shape.R > 1) {
        __builtin_prefetch(at + TILE_PREFETCH_K * shape.G * VL);
    }
    return vload(at);
}

/* One k with all panels in registers, a broadcast at a time: a second one may have no register of its own. (Clang 19
 * would load it, and spill an accumulator: GRU forward with AVX2 at T=20, B=32, I=128, H=256 took twice the time.) */
ALWAYS_INLINE void tile_multiply_panels(struct tile *const tile, const struct tile_shape shape, const int64_t k,
                                        const struct tile_rows a, const struct tile_panels w) {
    const int P = shape.Q * shape.G;
    vreal panel[TILE_PANELS_MAX];
    UNROLL
    for (int p = 0; p < P; p++) {
        panel[p] = tile_panel(w, shape, k, p);
        panel[p] = shape.R > 1 ? vkeep(panel[p]) : panel[p];
    }
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        const vreal broadcast = vsplat(a.data[r * a.row + k * a.step]);
        UNROLL
        for (int p = 0; p < P; p++) {
            tile->acc[r][p] = vfma(broadcast, panel[p], tile->acc[r][p]);
        }
        if (shape.R > 1 && FASTRNN_HAS_FMA) {
            tile->acc[r][P - 1] = vbefore_loads(tile->acc[r][P - 1]);
        }
    }
}

/* One k with all broadcasts in registers, a panel at a time. */
ALWAYS_INLINE void tile_multiply_rows(struct tile *const tile, const struct tile_shape shape, const int64_t k,
                                      const struct tile_rows a, const struct tile_panels w) {
    vreal broadcast[TILE_ROWS_MAX];
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        broadcast[r] = vkeep(vsplat(a.data[r * a.row + k * a.step]));
    }
    UNROLL
    for (int p = 0; p < shape.Q * shape.G; p++) {
        const vreal panel = tile_panel(w, shape, k, p);
        UNROLL
        for (int r = 0; r < shape.R; r++) {
            tile->acc[r][p] = vfma(broadcast[r], panel, tile->acc[r][p]);
        }
    }
}

/* With 16 registers, 12 accumulators leave room for three operands and the fourth in turn: of 3 rows and 4 panels the
 * rows are kept. (Keeping 4 panels spills one in each k, and halves the speed of AVX2: LSTM forward at T=20, B=32,
 * I=64, H=256 takes 8.6 ms instead of 4.4.) Without FMA a product needs a register of its own, and either order spills.
 */
ALWAYS_INLINE void tile_multiply(struct tile *const tile, const struct tile_shape shape, const int64_t K,
                                 const struct tile_rows a, const struct tile_panels w) {
    const bool keeps_rows = VECTOR_REGISTERS == 16 && FASTRNN_HAS_FMA && shape.R > 1 && shape.R < shape.Q * shape.G;
    if (shape.R == 1) {
        /* Clang stores the accumulators of a single row at each k, unless they are the loop's own: RNN training at
         * T=100, B=1, H=64 took 1.14 of GCC's time, and takes 0.96. */
        struct tile sum;
        tile_move(&sum, tile, shape);
#pragma GCC unroll 1
        for (int64_t k = 0; k < K; k++) {
            tile_multiply_panels(&sum, shape, k, a, w);
        }
        tile_move(tile, &sum, shape);
        return;
    }
#pragma GCC unroll 1
    for (int64_t k = 0; k < K; k++) {
        if (keeps_rows) {
            tile_multiply_rows(tile, shape, k, a, w);
        } else {
            tile_multiply_panels(tile, shape, k, a, w);
        }
    }
}

/* n rows are cut into tiles of nearly equal height, so that a lone row at the end never wastes a pass. */
struct tile_cut {
    int64_t tiles, each, more; /* the first `more` tiles have each + 1 rows */
};

static inline struct tile_cut tile_cut_rows(const int64_t n, const int rows_max) {
    const int64_t tiles = (n + rows_max - 1) / rows_max;
    return tiles ? (struct tile_cut){tiles, n / tiles, n % tiles} : (struct tile_cut){0, 0, 0};
}

static inline int tile_cut_height(const struct tile_cut *const cut, const int64_t tile) {
    return (int)(cut->each + (tile < cut->more));
}

#endif
