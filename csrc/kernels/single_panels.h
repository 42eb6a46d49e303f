/* Products of single panels, gate by gate: of cells without a tile of their own, and of those with second products. */
#ifndef FASTRNN_SINGLE_PANELS_H
#define FASTRNN_SINGLE_PANELS_H

#include "../threads/team.h"
#include "strips.h"

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

#endif
