/* Products of backward that are summed over rows: gradients of weights and biases. */
#ifndef FASTRNN_WEIGHT_GRADIENTS_H
#define FASTRNN_WEIGHT_GRADIENTS_H

#include "../threads/team.h"
#include "strips.h"

/* dw[u][n] += sum over k of d[k][u] * x[k][n], for the units of one block and gate: a row of the tile is a lane of d.
 */
struct weight_gradient {
    const real *d; /* [k][VL] */
    const real *x; /* panels [block][k][VL], blocks x_block reals apart */
    real *dw;      /* row of the first unit */
    int units;
    enum fastrnn_accumulation accumulation;
    ptrdiff_t x_block;
    struct blocks columns; /* the panels; a row of dw has the columns of one head */
    int64_t K;
    bool streams; /* store past the caches; dw consists of whole, aligned vectors */
};

/* R rows and Q blocks of dw, through a buffer of whole vectors. The last block has `lanes` lanes. */
static void partial_weight_gradient_tile(const struct weight_gradient *const p, const int R, const int Q,
                                         const real *const d, const real *const x, real *const dw, const int lanes) {
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = Q * VL, .to_row = Q * VL};
    const bool adds = p->accumulation == FASTRNN_ADD;
    vreal acc[TILE_VECTORS_MAX];
    for (int j = 0; adds && j < R * Q; j++) {
        acc[j] = vload_n(dw + j / Q * p->columns.width + j % Q * VL, j % Q == Q - 1 ? lanes : VL);
    }
    tiles_of_columns[R][Q](&t, d, x, adds ? (real *)acc : NULL, NULL, (real *)acc);
    for (int j = 0; j < R * Q; j++) {
        vstore_n(dw + j / Q * p->columns.width + j % Q * VL, acc[j], j % Q == Q - 1 ? lanes : VL);
    }
}

static void weight_gradient_tiles(const struct weight_gradient *const p, const struct team_range blocks) {
    const int panels = VECTOR_REGISTERS == 32 ? 4 : 3; /* the units of a block are eight rows at most: 4 x 3 twice */
    const struct tile_cut cut = tile_cut_rows(p->units, rows_of_tile(panels));
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = p->columns.width, .to_row = p->columns.width};
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = left >= panels ? panels : left >= 2 ? 2 : 1;
        const int lanes = block_at(p->columns, block + Q - 1, VL).lanes;
        const int64_t first = block_at(p->columns, block, VL).column;
        const real *const x = p->x + block * p->x_block;
        int row = 0;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            real *const dw = p->dw + row * p->columns.width + first;
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

/* R rows of dw at a time from K rows of x, for so few K that storing dw is the limit. */
enum { THIN_ROWS = VECTOR_REGISTERS == 32 ? 4 : 6, THIN_VECTORS = VECTOR_REGISTERS == 32 ? 16 : 12 };
ALWAYS_INLINE void thin_weight_gradient_rows(const struct weight_gradient *const p, const int K, const int R,
                                             const int row, const struct team_range blocks) {
    vreal d[THIN_VECTORS];
    UNROLL
    for (int j = 0; j < R * K; j++) {
        d[j] = vsplat(p->d[j / R * VL + row + j % R]);
    }
    const bool adds = p->accumulation == FASTRNN_ADD;
    for (int64_t number = blocks.begin; number < blocks.end; number++) {
        const struct block block = block_at(p->columns, number, VL);
        const int lanes = block.lanes;
        const real *const x = p->x + number * p->x_block;
        real *const dw = p->dw + row * p->columns.width + block.column;
        vreal sum[4];
        UNROLL
        for (int r = 0; r < R; r++) {
            sum[r] = adds ? vload_n(dw + r * p->columns.width, lanes) : vsplat(0);
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
                vstream(dw + r * p->columns.width, sum[r]);
            } else {
                vstore_n(dw + r * p->columns.width, sum[r], lanes);
            }
        }
    }
}

ALWAYS_INLINE void thin_weight_gradient(const struct weight_gradient *const p, const int K,
                                        const struct team_range blocks) {
    const int R = K <= 2 || VECTOR_REGISTERS == 32 ? 4 : 2;
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
#if VECTOR_REGISTERS < 32
        THIN(5)
        THIN(6)
#endif
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
