/* The products of forward. Each product is a loop of tiles over rows and blocks; it sets the operands, the start values
 * and the destination of the accumulators. slot_product.h has the products of backward, and weight_gradients.h those
 * that are summed over rows.
 *
 *     unit_product     gates[row] = start[row] + a[row] w'         inputs of a chunk, or the state of a step
 */
#ifndef FASTRNN_GEMM_H
#define FASTRNN_GEMM_H

#include "../threads/team.h"
#include "single_panels.h"
#include "unpacked.h"

/* The panels of Q blocks on R rows: TILE_PANELS at a time, or all of them if they are few or R is 1. */
static inline void run_unit_tile(struct tile *const t, const struct fetches *const f, const int64_t number, const int G,
                                 const int R, const real *const a, const real *const w, const real *const start,
                                 const real *const apart, real *const to) {
    tile_function *const run = tiles_of_units[G][R][f->Q];
    if (R > TILE_ROWS_OF_FOUR_PANELS && G == 4) {
        const unsigned all = t->apart;
        for (int pass = 0; pass < PASSES_OF_FOUR; pass++) {
            const int panel = pass * TILE_PANELS;
            t->fetch = fetch_from(f, number * PASSES_OF_FOUR + pass);
            t->apart = all >> panel;
            run(t, a, w + panel * VL, start + panel * VL, apart + panel * VL, to + panel * VL);
        }
        t->apart = all;
    } else {
        t->fetch = fetch_from(f, number);
        run(t, a, w, start, apart, to);
    }
}

/* Q blocks of a head; `next` comes after them. */
static inline void unit_strip(const struct unit_product *const p, const struct strip *const strip, const int64_t number,
                              const int Q, const real *const next) {
    const int panels = Q * p->G;
    const struct block block = block_at(p->w->rows.blocks, number, VL);
    const int64_t K = p->w->rows.blocks.K, panel = block.at * p->G;
    struct tile t = {.a_row = p->a_row, .w_block = p->w->at.block};
    const bool at_once = strip->chunk == K && !p->finishes_together;
    vreal sums[STRIP_VECTORS];
    const real *const a = p->a + block.k_at, *w = packed_block(p->w, number);
    int64_t k = 0;
    do {
        const bool first = k == 0, last = K - k <= strip->chunk;
        t.K = last ? K - k : strip->chunk;
        t.start_row = first ? p->start_row : panels * VL;
        t.apart = first ? p->apart : 0;
        t.to_row = last && p->to ? p->to_row : panels * VL;
        const real *const after = last ? next : w + t.K * p->G * VL;
        const struct fetches f = fetches_of(&t, strip->parts, t.K, Q, p->G, after);
        int64_t row = strip->rows.begin;
        for (int64_t tile = 0; tile < strip->cut.tiles; tile++) {
            const int R = tile_cut_height(&strip->cut, tile);
            vreal *const acc = at_once ? sums : sums + (row - strip->rows.begin) * panels;
            run_unit_tile(&t, &f, tile, p->G, R, a + row * p->a_row + k, w,
                          first ? p->start + row * p->start_row + panel : (const real *)acc, p->w->b_apart + panel,
                          last && p->to ? p->to + row * p->to_row + panel : (real *)acc);
            if (last && !p->to && !p->finishes_together) {
                p->finish(p->job, R, Q, acc, row, number);
            }
            row += R;
        }
        w += t.K * p->G * VL;
        k += strip->chunk;
    } while (k < K);
    if (p->finishes_together) {
        p->finish(p->job, (int)(strip->rows.end - strip->rows.begin), Q, sums, strip->rows.begin, number);
    }
}

/* The rows of a single tile: weights are read once, and the hardware prefetcher keeps up. */
static void unit_tile_alone(const struct unit_product *const p, const struct team_range rows,
                            const struct team_range blocks) {
    const int R = (int)(rows.end - rows.begin);
    struct tile t = {
        .K = p->w->rows.blocks.K,
        .a_row = p->a_row,
        .w_block = p->w->at.block,
        .start_row = p->start_row,
        .to_row = p->to_row,
        .apart = p->apart,
    };
    const struct blocks all = p->w->rows.blocks;
    const real *a = NULL, *const start = p->start + rows.begin * p->start_row;
    vreal sums[STRIP_VECTORS];
    int64_t batch = blocks.begin, batch_end = blocks.begin; /* the blocks that are finished together */
    int64_t run_end = blocks.begin;                         /* of blocks with the same range of k */
    for (int64_t block = blocks.begin; block < blocks.end;) {
        if (block == run_end) {
            run_end = block_run(all, block, blocks.end, VL);
            a = p->a + rows.begin * p->a_row + block_at(all, block, VL).k_at;
        }
        if (block == batch_end) {
            batch = block;
            batch_end += p->finishes_together ? blocks_together(R, p->G, blocks.end - block)
                                              : blocks_of_tile(p->G, R, run_end - block);
        }
        const int Q = blocks_of_tile(p->G, R, (run_end < batch_end ? run_end : batch_end) - block);
        const int64_t panel = block_lane(block, VL) * p->G;
        const struct fetches own = {.Q = Q};
        real *to = (real *)(sums + (block - batch) * p->G);
        if (p->to) {
            to = p->to + rows.begin * p->to_row + panel;
        } else {
            t.to_row = (batch_end - batch) * p->G * VL;
        }
        run_unit_tile(&t, &own, 0, p->G, R, a, packed_block(p->w, block), start + panel, p->w->b_apart + panel, to);
        block += Q;
        if (!p->to && block == batch_end) {
            p->finish(p->job, R, (int)(batch_end - batch), sums, rows.begin, batch);
        }
    }
}

/* For packed weights. */
static inline void packed_unit_product(const struct unit_product *const p, const struct team_range rows,
                                       const struct team_range blocks) {
    if (p->G > 1 && p->w->at.step == VL) {
        single_panel_product(p, rows, blocks);
        return;
    }
    if (rows.end - rows.begin <= rows_of_tile(p->G)) {
        if (rows.end > rows.begin) {
            unit_tile_alone(p, rows, blocks);
        }
        return;
    }
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_ROWS);
    struct strip strip = {.rows = {rows.begin, rows.begin}};
    const int panels = p->G > 1 ? p->G : (int)TILE_PANELS, passes = p->G == 4 ? (int)PASSES_OF_FOUR : 1;
    const int64_t K = p->w->rows.blocks.K;
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = strip_after(&strip, &strips, j, rows_of_tile(p->G), K, panels, passes);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t run = block_run(p->w->rows.blocks, block, blocks.end, VL) - block;
            const int Q = blocks_of_rows(p->G, TILE_ROWS, run);
            const int64_t next = block + Q < blocks.end ? block + Q : blocks.begin;
            unit_strip(p, &strip, block, Q, packed_block(p->w, next));
            block += Q;
        }
    }
}

/* Packs some blocks at a time, and multiplies many rows by them while they are in the cache. */
static void packing_unit_product(const struct unit_product *const p, const struct team_range rows,
                                 const struct team_range blocks) {
    struct unit_weights some = *p->w;
    struct unit_product part = *p;
    some.packed = some.room;
    part.w = &some;
    for (int64_t begin = blocks.begin; begin < blocks.end; begin += some.room_blocks) {
        const int64_t end = begin + some.room_blocks;
        const struct team_range packed = {begin, end < blocks.end ? end : blocks.end};
        some.first = begin;
        pack_units(p->G, &some.rows, some.room, some.at, packed);
        packed_unit_product(&part, rows, packed);
    }
}

static void unit_product_of_whole(const struct unit_product *const p, const struct team_range rows,
                                  const struct team_range blocks) {
    if (blocks.begin == blocks.end) {
        return;
    }
    if (p->w->packed) {
        packed_unit_product(p, rows, blocks);
    } else if (rows.end - rows.begin > UNPACKED_ROWS) {
        packing_unit_product(p, rows, blocks);
    } else {
        unpacked_unit_product(p, rows, blocks);
    }
}

/* The recurrent half of a single gate: tiles of one panel know no bias apart, so all rows start from it. */
static void unit_product_of_half(const struct unit_product *const p, const struct team_range rows,
                                 const struct team_range blocks) {
    struct unit_product product = *p;
    product.start = p->w->b_apart;
    product.start_row = 0;
    product.apart = 0;
    unit_product_of_whole(&product, rows, blocks);
}

static void unit_product(const struct unit_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    const bool packs = p->w->packed || rows.end - rows.begin > UNPACKED_ROWS;
    if (p->G == 1 && p->apart && packs) {
        unit_product_of_half(p, rows, blocks);
    } else {
        unit_product_of_whole(p, rows, blocks);
    }
}

#endif
