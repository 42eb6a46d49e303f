/* The products: every one is a loop of tiles over rows and blocks. tile_each owns that loop; a product adds where its
 * operands lie, what the accumulators start from and where they go.
 *
 *     project        gates[row] = b + x[row] w_ih'             rows of a chunk of steps
 *     input_gradient dx[row] = slots[row] w_ih                 k over gates and units
 *     weight_gradient  dw[u] += sum over rows slots[row][u] x[row]   k over rows, in the order backward visits them
 */
#ifndef FASTRNN_GEMM_H
#define FASTRNN_GEMM_H

#include "../team.h"
#include "weight_forms.h"

/* One tile at (row, block) of `job`. */
typedef void tile_body(struct tile_shape shape, const void *job, int64_t row, int64_t block);

/* Blocks [begin, end) in strips of Q: a strip's panels are reused from cache by all its row tiles. */
ALWAYS_INLINE int64_t tile_strips(const int Q, const int G, tile_body *const body, const void *const job,
                                  const struct team_range rows, int64_t block, const int64_t end) {
    const struct tile_cut cut = tile_cut_rows(rows.end - rows.begin, TILE_ROWS(G));
    for (; block + Q <= end; block += Q) {
        int64_t row = rows.begin;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            switch (R) {
            case 2:
                UNMERGED body((struct tile_shape){2, Q, G}, job, row, block);
                break;
            case 3:
                UNMERGED body((struct tile_shape){3, Q, G}, job, row, block);
                break;
            case 4:
                if (TILE_ROWS(G) >= 4) {
                    UNMERGED body((struct tile_shape){4, Q, G}, job, row, block);
                }
                break;
            case 5:
                if (TILE_ROWS(G) >= 5) {
                    UNMERGED body((struct tile_shape){5, Q, G}, job, row, block);
                }
                break;
            case 6:
                if (TILE_ROWS(G) >= 6) {
                    UNMERGED body((struct tile_shape){6, Q, G}, job, row, block);
                }
                break;
            case 7:
                if (TILE_ROWS(G) >= 7) {
                    UNMERGED body((struct tile_shape){7, Q, G}, job, row, block);
                }
                break;
            case 8:
                if (TILE_ROWS(G) >= 8) {
                    UNMERGED body((struct tile_shape){8, Q, G}, job, row, block);
                }
                break;
            default:
                break;
            }
            row += R;
        }
    }
    return block;
}

ALWAYS_INLINE int64_t tile_strips_one_row(const int Q, const int G, tile_body *const body, const void *const job,
                                          const int64_t row, int64_t block, const int64_t end) {
    for (; block + Q <= end; block += Q) {
        body((struct tile_shape){1, Q, G}, job, row, block);
    }
    return block;
}

/* All tiles of rows x blocks, where a block has G panels. */
ALWAYS_INLINE void tile_each(const int G, tile_body *const body, const void *const job, const struct team_range rows,
                             const struct team_range blocks) {
    int64_t block = blocks.begin;
    if (rows.end - rows.begin == 1) {
        block = tile_strips_one_row(TILE_BLOCKS_ONE_ROW(G), G, body, job, rows.begin, block, blocks.end);
        if (G == 1) {
            block = tile_strips_one_row(4, G, body, job, rows.begin, block, blocks.end);
            block = tile_strips_one_row(2, G, body, job, rows.begin, block, blocks.end);
        }
        tile_strips_one_row(1, G, body, job, rows.begin, block, blocks.end);
        return;
    }
    block = tile_strips(TILE_BLOCKS(G), G, body, job, rows, block, blocks.end);
    if (G == 1) {
        block = tile_strips(2, G, body, job, rows, block, blocks.end);
        tile_strips(1, G, body, job, rows, block, blocks.end);
    }
}

/* ---- project ---- */

struct project_job {
    int apart;     /* the gate that stays apart, or NO_GATE */
    const real *x; /* rows of x_row reals */
    struct unit_weights w;
    real *gates; /* rows of gates_row reals: [NB][G][VL] */
    ptrdiff_t x_row, gates_row;
};

ALWAYS_INLINE void project_tile(const struct tile_shape shape, const void *const job, const int64_t row,
                                const int64_t block) {
    const struct project_job *const p = job;
    const int P = shape.Q * shape.G;
    struct tile tile;
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int panel = 0; panel < P; panel++) {
            tile.acc[r][panel] = bias_of_input(&p->w, shape.G, block + panel / shape.G, panel % shape.G, p->apart);
        }
    }
    tile_multiply_units(&tile, shape, (struct tile_rows){p->x + row * p->x_row, p->x_row, 1}, &p->w, block);
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int panel = 0; panel < P; panel++) {
            vstore(p->gates + (row + r) * p->gates_row + (block * shape.G + panel) * VL, tile.acc[r][panel]);
        }
    }
}

/* ---- products with gate gradients ---- */

struct input_gradient_job {
    struct gradient_slots d;
    struct slot_weights w;
    const struct layout_place *place; /* of each row */
    struct fastrnn_view dx;
    int64_t I;
};

ALWAYS_INLINE void input_gradient_tile(const struct tile_shape shape, const void *const job, const int64_t row,
                                       const int64_t block) {
    const struct input_gradient_job *const p = job;
    struct tile tile;
    tile_clear(&tile, shape);
    tile_multiply_slots(&tile, shape, &p->d, row, &p->w, block);
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        const struct layout_place place = p->place[row + r];
        real *const dx = (real *)p->dx.data + place.t * p->dx.stride_t + place.b * p->dx.stride_b;
        UNROLL
        for (int q = 0; q < shape.Q; q++) {
            vstore_n(dx + (block + q) * VL, tile.acc[r][q], lanes_of_block(block + q, p->I));
        }
    }
}

/* dw[u][n] += sum over k of d[k][u] * x[k][n], for the units of one block and gate. A row of the tile is a lane of d.
 */
struct weight_gradient_job {
    const real *d; /* [k][VL] */
    const real *x; /* panels [block][k][VL], blocks x_block reals apart */
    real *dw;      /* the gate's rows */
    enum fastrnn_accumulation accumulation;
    ptrdiff_t x_block;
    int64_t H, N, K;
    int64_t unit; /* the unit block's first */
    bool streams; /* whole vectors, aligned, that are stored past the caches */
};

ALWAYS_INLINE real *weight_gradient_row(const struct weight_gradient_job *const p, const int64_t row) {
    return p->unit + row < p->H ? p->dw + (p->unit + row) * p->N : NULL;
}

ALWAYS_INLINE void weight_gradient_tile(const struct tile_shape shape, const void *const job, const int64_t row,
                                        const int64_t block) {
    const struct weight_gradient_job *const p = job;
    struct tile tile;
    tile_clear(&tile, shape);
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        const real *const dw = weight_gradient_row(p, row + r);
        if (dw && p->accumulation == FASTRNN_ADD) {
            UNROLL
            for (int q = 0; q < shape.Q; q++) {
                tile.acc[r][q] = vload_n(dw + (block + q) * VL, lanes_of_block(block + q, p->N));
            }
        }
    }
    tile_multiply(&tile, shape, p->K, (struct tile_rows){p->d + row, 1, VL},
                  (struct tile_panels){p->x + block * p->x_block, p->x_block});
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        real *const dw = weight_gradient_row(p, row + r);
        if (dw) {
            UNROLL
            for (int q = 0; q < shape.Q; q++) {
                real *const to = dw + (block + q) * VL;
                if (p->streams) {
                    vstream(to, tile.acc[r][q]);
                } else {
                    vstore_n(to, tile.acc[r][q], lanes_of_block(block + q, p->N));
                }
            }
        }
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
