/* The products: every one is a loop of tiles over rows and blocks, which says where its operands lie, what the
 * accumulators start from and where they go.
 *
 *     unit_product     gates[row] = start[row] + a[row] w'         forward: inputs of a chunk, or the state of a step
 *     slot_product     start[row] + slots[row] w                   backward: dx and dh; k over gates and units
 *     weight_gradient  dw[u] += sum over rows slots[row][u] x[row] k over rows, in the order backward visits them
 */
#ifndef FASTRNN_GEMM_H
#define FASTRNN_GEMM_H

#include "../team.h"
#include "unpacked.h"

/* Blocks side by side in a tile of one row: independent chains enough, and what is left. */
static inline int blocks_of_one_row(const int G, const int64_t left) {
    if (G == 4) {
        return left >= 2 ? 2 : 1;
    }
    if (G == 3) {
        return left == 4 ? 2 : left < 3 ? (int)left : 3; /* 2 + 2, not 3 + 1 */
    }
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The same in a tile of several rows, where single panels may stand side by side. */
static inline int blocks_of_rows(const int G, const int64_t left) {
    return G > 1 ? 1 : left >= TILE_PANELS ? (int)TILE_PANELS : left >= 2 ? 2 : 1;
}

static inline int rows_of_tile(const int panels) { return panels == 3 ? (int)TILE_ROWS_OF_THREE : (int)TILE_ROWS; }

/* ---- forward ---- */

/* The panels of Q blocks on R rows: TILE_PANELS at a time, or all if they are few, or of one row. */
static inline void run_unit_tile(const struct tile *const t, const int G, const int R, const int Q, const real *const a,
                                 const real *const w, const real *const start, const real *const apart,
                                 real *const to) {
    tile_function *const run = tiles_of_units[G][R][Q];
    if (R > 1 && G == 4) {
        for (int panel = 0; panel < 4; panel += TILE_PANELS) {
            run(t, a, w + panel * VL, start + panel * VL, apart, to + panel * VL);
        }
    } else {
        run(t, a, w, start, apart, to);
    }
}

static inline void unit_tile(const struct unit_product *const p, const struct tile *const t, const int R, const int Q,
                             const int64_t row, const int64_t block) {
    const int64_t panel = block * p->G * VL;
    vreal acc[TILE_VECTORS_MAX];
    run_unit_tile(t, p->G, R, Q, p->a + row * p->a_row, p->w->packed + block * p->w->block,
                  p->start + row * p->start_row + panel, p->w->b_apart + block * VL,
                  p->to ? p->to + row * p->to_row + panel : (real *)acc);
    if (!p->to) {
        p->finish(p->job, R, Q, acc, row, block);
    }
}

static void unit_product(const struct unit_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    if (!p->w->packed) {
        unpacked_unit_product(p, rows, blocks);
        return;
    }
    const int64_t n = rows.end - rows.begin;
    struct tile t = {
        .K = p->w->rows.K,
        .a_row = p->a_row,
        .w_block = p->w->block,
        .start_row = p->start_row,
        .apart = p->apart,
    };
    const struct tile_cut cut = tile_cut_rows(n, rows_of_tile(p->G));
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = n == 1 ? blocks_of_one_row(p->G, left) : blocks_of_rows(p->G, left);
        int64_t row = rows.begin;
        t.to_row = p->to ? p->to_row : Q * p->G * VL;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            unit_tile(p, &t, R, Q, row, block);
            row += R;
        }
        block += Q;
    }
}

/* ---- backward ---- */

static void slot_product(const struct slot_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    if (!p->w->packed) {
        unpacked_slot_product(p, rows, blocks);
        return;
    }
    const int64_t n = rows.end - rows.begin;
    struct tile t = {
        .K = p->d.H,
        .w_block = p->w->block,
        .start_row = p->start_row,
        .apart = NO_PANEL,
        .parts = p->multiplies ? p->d.gates : 0,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    const struct tile_cut cut = tile_cut_rows(n, rows_of_tile(1));
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = n == 1 ? blocks_of_one_row(1, left) : blocks_of_rows(1, left);
        const real *const w = p->w->packed + block * p->w->block;
        int64_t row = rows.begin;
        t.to_row = Q * VL;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            vreal acc[TILE_VECTORS_MAX];
            const real *const start = p->start ? p->start + row * p->start_row + block * VL : NULL;
            tiles_of_slots[R][Q](&t, p->d.data + (p->d_row + row) * VL, w, start, NULL, (real *)acc);
            p->finish(p->job, R, Q, acc, row, block);
            row += R;
        }
        block += Q;
    }
}

/* ---- weight gradients ---- */

/* dw[u][n] += sum over k of d[k][u] * x[k][n], for the units of one block and gate: a row of the tile is a lane of d.
 */
struct weight_gradient {
    const real *d; /* [k][VL] */
    const real *x; /* panels [block][k][VL], blocks x_block reals apart */
    real *dw;      /* row of the first unit */
    int units;
    enum fastrnn_accumulation accumulation;
    ptrdiff_t x_block;
    int64_t N, K;
    bool streams; /* whole vectors, aligned, that are stored past the caches */
};

/* R rows and Q blocks of dw, through a buffer of whole vectors. The last block has `lanes` lanes. */
static void partial_weight_gradient_tile(const struct weight_gradient *const p, const int R, const int Q,
                                         const real *const d, const real *const x, real *const dw, const int lanes) {
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = Q * VL, .to_row = Q * VL, .apart = NO_PANEL};
    const bool adds = p->accumulation == FASTRNN_ADD;
    vreal acc[TILE_VECTORS_MAX];
    for (int j = 0; adds && j < R * Q; j++) {
        acc[j] = vload_n(dw + j / Q * p->N + j % Q * VL, j % Q == Q - 1 ? lanes : VL);
    }
    tiles_of_columns[R][Q](&t, d, x, adds ? (real *)acc : NULL, NULL, (real *)acc);
    for (int j = 0; j < R * Q; j++) {
        vstore_n(dw + j / Q * p->N + j % Q * VL, acc[j], j % Q == Q - 1 ? lanes : VL);
    }
}

static void weight_gradient_tiles(const struct weight_gradient *const p, const struct team_range blocks) {
    const int panels = VECTOR_REGISTERS == 32 ? 4 : 3; /* the units of a block are eight rows at most: 4 x 3 twice */
    const struct tile_cut cut = tile_cut_rows(p->units, rows_of_tile(panels));
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = p->N, .to_row = p->N, .apart = NO_PANEL};
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = left >= panels ? panels : left >= 2 ? 2 : 1;
        const int lanes = lanes_of_block(block + Q - 1, p->N);
        const real *const x = p->x + block * p->x_block;
        int row = 0;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            real *const dw = p->dw + row * p->N + block * VL;
            if (lanes == VL) {
                tiles_of_columns[R][Q](&t, p->d + row, x, p->accumulation == FASTRNN_ADD ? dw : NULL, NULL, dw);
            } else {
                partial_weight_gradient_tile(p, R, Q, p->d + row, x, dw, lanes);
            }
            row += R;
        }
        block += Q;
    }
}

/* R rows of dw at a time from K rows of x, so few that dw is written as fast as it can be stored. */
ALWAYS_INLINE void thin_weight_gradient_rows(const struct weight_gradient *const p, const int K, const int R,
                                             const int row, const struct team_range blocks) {
    vreal d[TILE_ROWS_MAX * 2];
    UNROLL
    for (int j = 0; j < R * K; j++) {
        d[j] = vsplat(p->d[j / R * VL + row + j % R]);
    }
    const bool adds = p->accumulation == FASTRNN_ADD;
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        const int lanes = lanes_of_block(block, p->N);
        const real *const x = p->x + block * p->x_block;
        real *const dw = p->dw + row * p->N + block * VL;
        vreal sum[4];
        UNROLL
        for (int r = 0; r < R; r++) {
            sum[r] = adds ? vload_n(dw + r * p->N, lanes) : vsplat(0);
        }
        UNROLL
        for (int k = 0; k < K; k++) {
            const vreal panel = vload(x + k * VL);
            UNROLL
            for (int r = 0; r < R; r++) {
                sum[r] = vfma(d[k * R + r], panel, sum[r]);
            }
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            if (p->streams) {
                vstream(dw + r * p->N, sum[r]);
            } else {
                vstore_n(dw + r * p->N, sum[r], lanes);
            }
        }
    }
}

ALWAYS_INLINE void thin_weight_gradient(const struct weight_gradient *const p, const int K,
                                        const struct team_range blocks) {
    const int R = K <= 2 ? 4 : 2;
    int row = 0;
    for (; row + R <= p->units; row += R) {
        UNMERGED thin_weight_gradient_rows(p, K, R, row, blocks);
    }
    for (; row < p->units; row++) {
        UNMERGED thin_weight_gradient_rows(p, K, 1, row, blocks);
    }
}

static void weight_gradient_of_block(const struct weight_gradient *const p, const struct team_range blocks) {
    switch (p->K) {
#define THIN(K) \
    case K: \
        UNMERGED thin_weight_gradient(p, K, blocks); \
        break;
        THIN(1)
        THIN(2)
        THIN(3)
        THIN(4)
        THIN(5)
        THIN(6)
#undef THIN
    default:
        weight_gradient_tiles(p, blocks);
    }
}

/* db[u] += sum over k of d[k][u], for the units of one block and gate; k ascending. */
static void bias_gradient(const real *const d, const int64_t K, real *const db, const int lanes,
                          const enum fastrnn_accumulation accumulation) {
    vreal sum = accumulation == FASTRNN_ADD ? vload_n(db, lanes) : vsplat(0);
    for (int64_t k = 0; k < K; k++) {
        sum += vload(d + k * VL);
    }
    vstore_n(db, sum, lanes);
}

#endif
