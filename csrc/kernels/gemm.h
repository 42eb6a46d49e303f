/* The products of forward. Each product is a loop of tiles over rows and blocks; it sets the operands, the start values
 * and the destination of the accumulators. slot_product.h has the products of backward, and weight_gradients.h those
 * that are summed over rows.
 *
 *     unit_product     gates[row] = start[row] + a[row] w'         inputs of a chunk, or the state of a step
 */
#ifndef FASTRNN_GEMM_H
#define FASTRNN_GEMM_H

#include "../threads/team.h"
#include "strips.h"
#include "unpacked.h"

/* The number of blocks in a tile of one row: enough for independent chains, or all that are left. */
static inline int blocks_of_one_row(const int G, const int64_t left) {
    if (G == 4) {
        return left >= 2 ? 2 : 1;
    }
    if (G == 3) {
        return left == 4 ? 2 : left < 3 ? (int)left : 3; /* 2 + 2, not 3 + 1 */
    }
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The same for a tile of several rows. Its single panels may stand side by side. */
static inline int blocks_of_rows(const int G, const int R, const int64_t left) {
    const int most = R <= TILE_ROWS_OF_FOUR_PANELS ? 4 : (int)TILE_PANELS;
    return G > 1 ? 1 : left >= most ? most : left >= 2 ? 2 : 1;
}

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

static inline int blocks_of_tile(const int G, const int R, const int64_t left) {
    return R == 1 ? blocks_of_one_row(G, left) : blocks_of_rows(G, R, left);
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

/* The panels of a block, for cells without a tile of their own: as many at a time as lie between gates that stay apart
 * or are skipped. */
static void single_panel_tile(const struct unit_product *const p, const int R, const int64_t row, const int64_t number,
                              real *const to, const ptrdiff_t to_row) {
    const struct block block = block_at(p->w->rows.blocks, number, VL);
    const int64_t panel = block.at * p->G;
    const real *const a = p->a + row * p->a_row + block.k_at, *const w = packed_block(p->w, number);
    const real *const start = p->start + row * p->start_row + panel;
    const unsigned alone = p->apart | p->skipped;
    struct tile t = {.K = p->w->rows.blocks.K, .a_row = p->a_row, .w_block = p->w->at.gate, .to_row = to_row};
    for (int g = 0; g < p->G;) {
        const bool is_apart = p->apart >> g & 1;
        if (p->skipped >> g & 1) {
            g++;
            continue;
        }
        int Q = is_apart ? 1 : blocks_of_rows(1, R, p->G - g);
        while (Q > 1 && alone >> g & ((1U << Q) - 1)) {
            Q /= 2;
        }
        t.start_row = is_apart ? 0 : p->start_row;
        tiles_of_units[1][R][Q](&t, a, w + g * p->w->at.gate, (is_apart ? p->w->b_apart + panel : start) + g * VL, NULL,
                                to + g * VL);
        g += Q;
    }
}

/* A gate of so few rows that the panels of a block are too few chains: several blocks at a time. `to` has rows of
 * blocks of G panels. */
enum { FEW_ROWS = 3 };
static void single_gate_of_few_rows(const struct unit_product *const p, const int g, const struct team_range rows,
                                    const struct team_range blocks, real *const to, const ptrdiff_t to_row) {
    const int R = (int)(rows.end - rows.begin);
    const struct blocks units = p->w->rows.blocks;
    const bool is_apart = p->apart >> g & 1;
    const real *const start = is_apart ? p->w->b_apart : p->start + rows.begin * p->start_row;
    const ptrdiff_t start_row = is_apart ? 0 : p->start_row;
    vreal sums[TILE_VECTORS_MAX];
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int Q = blocks_of_tile(1, R, block_run(units, block, blocks.end, VL) - block);
        const real *const a = p->a + rows.begin * p->a_row + block_at(units, block, VL).k_at;
        const struct tile t = {
            .K = units.K,
            .a_row = p->a_row,
            .w_block = p->w->at.block,
            .start_row = Q * VL,
            .to_row = Q * VL,
        };
        const ptrdiff_t from = block_lane(block, VL) * p->G + g * VL;
        real *const panel = to + (block - blocks.begin) * p->G * VL + g * VL;
        for (int j = 0; j < R * Q; j++) {
            sums[j] = vload(start + j / Q * start_row + from + j % Q * p->G * VL);
        }
        tiles_of_units[1][R][Q](&t, a, packed_block(p->w, block) + g * p->w->at.gate, (const real *)sums, NULL,
                                (real *)sums);
        for (int j = 0; j < R * Q; j++) {
            vstore(panel + j / Q * to_row + j % Q * p->G * VL, sums[j]);
        }
        block += Q;
    }
}

/* The tiles of a strip of rows over some blocks, into a buffer of the product's rows and blocks, or into `to`. */
static void single_panel_strip(const struct unit_product *const p, const struct team_range rows,
                               const struct team_range blocks) {
    const int64_t R = rows.end - rows.begin, Q = blocks.end - blocks.begin, block_reals = p->G * VL;
    const struct tile_cut cut = tile_cut_rows(R, rows_of_tile(1));
    const ptrdiff_t to_row = p->to ? p->to_row : Q * block_reals;
    vreal sums[STRIP_VECTORS];
    real *const to =
        p->to ? p->to + rows.begin * to_row + block_at(p->w->rows.blocks, blocks.begin, VL).at * p->G : (real *)sums;
    const bool are_few = R <= FEW_ROWS && Q > 1;
    for (int g = 0; are_few && g < p->G; g++) {
        if (!(p->skipped >> g & 1)) {
            single_gate_of_few_rows(p, g, rows, blocks, to, to_row);
        }
    }
    for (int64_t q = 0; !are_few && q < Q; q++) {
        int64_t row = 0;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int height = tile_cut_height(&cut, tile);
            real *const at = to + row * to_row + q * block_reals;
            single_panel_tile(p, height, rows.begin + row, blocks.begin + q, at, to_row);
            row += height;
        }
    }
    if (!p->to) {
        p->finish(p->job, (int)R, (int)Q, sums, rows.begin, blocks.begin);
    }
}

static void single_panel_product(const struct unit_product *const p, const struct team_range rows,
                                 const struct team_range blocks) {
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_VECTORS / p->G);
    struct team_range strip = {rows.begin, rows.begin};
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = (struct team_range){strip.end, strip.end + tile_cut_height(&strips, j)};
        const int R = (int)(strip.end - strip.begin);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t end = block + blocks_together(R, p->G, blocks.end - block);
            single_panel_strip(p, strip, (struct team_range){block, end});
            block = end;
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
