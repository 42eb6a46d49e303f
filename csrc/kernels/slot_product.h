/* The products of backward, as loops of tiles:
 *
 *     slot_product     start[row] + slots[row] w                   dx and dh; k over gates and units
 */
#ifndef FASTRNN_SLOT_PRODUCT_H
#define FASTRNN_SLOT_PRODUCT_H

#include "gemm.h"

/* Q blocks of a run; k runs over the slots and the block's range of units in each slot. */
static void slot_strip(const struct slot_product *const p, const struct strip *const strip, const int64_t number,
                       const int Q, const real *const next) {
    const struct block block = block_at(p->w->blocks, number, VL);
    const int64_t whole = block_depth(block) * p->d.gates;
    const bool at_once = strip->chunk == whole || !p->multiplies;
    const bool keeps_sums = !at_once || p->finishes_together; /* of all rows */
    struct tile t = {
        .w_block = p->w->block,
        .to_row = Q * VL,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    vreal sums[STRIP_VECTORS];
    const real *w = p->w->packed + number * p->w->block;
    const real *d = p->d.data + p->d_row * VL;
    int part = 0;
    int64_t unit = block.k_begin;
    bool first = true, last;
    do {
        const real *const a = d + block_from(unit, VL) * p->d.block;
        if (at_once) {
            t.K = block_depth(block);
            t.parts = p->multiplies ? p->d.gates : 0;
            part = p->d.gates;
        } else {
            const int64_t left = block.k_end - unit;
            t.K = left < strip->chunk ? left : strip->chunk;
            t.parts = 1;
            unit += t.K;
            if (unit == block.k_end) {
                unit = block.k_begin;
                part++;
                d += p->d.slot;
            }
        }
        last = part == p->d.gates;
        const real *const after = last ? next : w + t.parts * t.K * VL;
        const struct fetches f = fetches_of(&t, strip->parts, t.parts * t.K, Q, 1, after);
        int64_t row = strip->rows.begin;
        for (int64_t tile = 0; tile < strip->cut.tiles; tile++) {
            const int R = tile_cut_height(&strip->cut, tile);
            vreal *const acc = keeps_sums ? sums + (row - strip->rows.begin) * Q : sums;
            const real *start = (const real *)acc;
            t.start_row = Q * VL;
            if (first) {
                start = p->start ? p->start + row * p->start_row + block.at : NULL;
                t.start_row = p->start_row;
            }
            t.fetch = fetch_from(&f, tile);
            tiles_of_slots[R][Q](&t, a + row * VL, w, start, NULL, (real *)acc);
            if (last && !p->finishes_together) {
                p->finish(p->job, R, Q, acc, row, number);
            }
            row += R;
        }
        w += t.parts * t.K * VL;
        first = false;
    } while (!last);
    if (p->finishes_together) {
        p->finish(p->job, (int)(strip->rows.end - strip->rows.begin), Q, sums, strip->rows.begin, number);
    }
}

/* The rows of a single tile over a run of blocks. */
static void slot_tile_alone(const struct slot_product *const p, const struct team_range rows,
                            const struct team_range blocks) {
    const int R = (int)(rows.end - rows.begin);
    const struct block first = block_at(p->w->blocks, blocks.begin, VL);
    struct tile t = {
        .K = block_depth(first),
        .w_block = p->w->block,
        .start_row = p->start_row,
        .parts = p->multiplies ? p->d.gates : 0,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    const real *const d = p->d.data + (p->d_row + rows.begin) * VL + block_from(first.k_begin, VL) * p->d.block;
    vreal sums[STRIP_VECTORS];
    int64_t batch = blocks.begin, batch_end = blocks.begin; /* the blocks that are finished together */
    for (int64_t block = blocks.begin; block < blocks.end;) {
        if (block == batch_end) {
            const int64_t left = blocks.end - block;
            batch = block;
            batch_end += p->finishes_together ? blocks_together(R, 1, left) : blocks_of_tile(1, R, left);
        }
        const int Q = blocks_of_tile(1, R, batch_end - block);
        const real *const w = p->w->packed + block * p->w->block;
        t.to_row = (batch_end - batch) * VL;
        const int64_t at = rows.begin * p->start_row + block_at(p->w->blocks, block, VL).at;
        tiles_of_slots[R][Q](&t, d, w, p->start ? p->start + at : NULL, NULL, (real *)(sums + block - batch));
        block += Q;
        if (block == batch_end) {
            p->finish(p->job, R, (int)(batch_end - batch), sums, rows.begin, batch);
        }
    }
}

/* For a run of blocks. */
static inline void slot_product_of_run(const struct slot_product *const p, const struct team_range rows,
                                       const struct team_range blocks) {
    if (!p->w->packed) {
        unpacked_slot_product(p, rows, blocks);
        return;
    }
    if (rows.end - rows.begin <= rows_of_tile(1)) {
        if (rows.end > rows.begin) {
            slot_tile_alone(p, rows, blocks);
        }
        return;
    }
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_ROWS);
    struct strip strip = {.rows = {rows.begin, rows.begin}};
    const int64_t K = block_depth(block_at(p->w->blocks, blocks.begin, VL)) * p->d.gates;
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = strip_after(&strip, &strips, j, rows_of_tile(1), K, TILE_PANELS, 1);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t left = blocks.end - block;
            const int Q = blocks_of_rows(1, TILE_ROWS, left);
            const int64_t next = left > Q ? block + Q : blocks.begin;
            slot_strip(p, &strip, block, Q, p->w->packed + next * p->w->block);
            block += Q;
        }
    }
}

static void slot_product(const struct slot_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    for (int64_t begin = blocks.begin; begin < blocks.end;) {
        const int64_t end = block_run(p->w->blocks, begin, blocks.end, VL);
        slot_product_of_run(p, rows, (struct team_range){begin, end});
        begin = end;
    }
}

#endif
