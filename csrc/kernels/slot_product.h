/* The products of backward, as loops of tiles:
 *
 *     slot_product     start[row] + slots[row] w                   dx and dh; k over gates and units
 */
#ifndef FASTRNN_SLOT_PRODUCT_H
#define FASTRNN_SLOT_PRODUCT_H

#include "gemm.h"

/* Q blocks of a head; k runs over the slots and the block's range of units in each slot. */
static void slot_strip(const struct slot_product *const p, const struct strip *const strip, const int64_t number,
                       const int Q, const real *const next) {
    const struct blocks blocks = p->w->rows.blocks;
    const struct block block = block_at(blocks, number, VL);
    const int64_t width = blocks.k_width, heads = block_k_heads(blocks);
    const bool at_once = strip->chunk == blocks.K * p->d.gates || !p->multiplies;
    const bool keeps_sums = !at_once || p->finishes_together; /* of all rows */
    struct tile t = {
        .w_block = p->w->block,
        .to_row = Q * VL,
        .heads = at_once ? heads : 1,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    vreal sums[STRIP_VECTORS];
    const real *w = p->w->packed + number * p->w->block;
    const real *d = p->d.data + block_from(block.k_at, VL) * p->d.block + p->d_row * VL;
    int part = 0;
    int64_t head = 0, unit = 0; /* where a chunk begins that does not take all at once */
    bool first = true, last;
    do {
        const real *const a = d + (head * block_k_step(blocks, VL) + unit) / VL * p->d.block;
        if (at_once) {
            t.K = width;
            t.parts = p->multiplies ? p->d.gates * heads : 0;
            part = p->d.gates;
        } else {
            const int64_t left = width - unit;
            t.K = left < strip->chunk ? left : strip->chunk;
            t.parts = 1;
            unit += t.K;
            if (unit == width) {
                unit = 0;
                head++;
            }
            if (head == heads) {
                head = 0;
                part++;
                d += p->d.slot;
            }
        }
        last = part == p->d.gates;
        const int64_t K = t.parts * t.K;
        const struct fetches f = fetches_of(&t, strip->parts, K, Q, 1, last ? next : w + K * VL);
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
        w += K * VL;
        first = false;
    } while (!last);
    if (p->finishes_together) {
        p->finish(p->job, (int)(strip->rows.end - strip->rows.begin), Q, sums, strip->rows.begin, number);
    }
}

/* The rows of a single tile. */
static void slot_tile_alone(const struct slot_product *const p, const struct team_range rows,
                            const struct team_range blocks) {
    const int R = (int)(rows.end - rows.begin);
    const struct blocks all = p->w->rows.blocks;
    struct tile t = {
        .K = all.k_width,
        .w_block = p->w->block,
        .start_row = p->start_row,
        .parts = p->multiplies ? p->d.gates * block_k_heads(all) : 0,
        .heads = block_k_heads(all),
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    const real *d = NULL;
    vreal sums[STRIP_VECTORS];
    int64_t batch = blocks.begin, batch_end = blocks.begin; /* the blocks that are finished together */
    int64_t run_end = blocks.begin;                         /* of blocks with the same range of k */
    for (int64_t block = blocks.begin; block < blocks.end;) {
        if (block == run_end) {
            run_end = block_run(all, block, blocks.end, VL);
            const int64_t first = block_from(block_at(all, block, VL).k_at, VL);
            d = p->d.data + first * p->d.block + (p->d_row + rows.begin) * VL;
        }
        if (block == batch_end) {
            batch = block;
            batch_end += p->finishes_together ? blocks_together(R, 1, blocks.end - block)
                                              : blocks_of_tile(1, R, run_end - block);
        }
        const int Q = blocks_of_tile(1, R, (run_end < batch_end ? run_end : batch_end) - block);
        const real *const w = p->w->packed + block * p->w->block;
        t.to_row = (batch_end - batch) * VL;
        const int64_t at = rows.begin * p->start_row + block_lane(block, VL);
        tiles_of_slots[R][Q](&t, d, w, p->start ? p->start + at : NULL, NULL, (real *)(sums + block - batch));
        block += Q;
        if (block == batch_end) {
            p->finish(p->job, R, (int)(batch_end - batch), sums, rows.begin, batch);
        }
    }
}

/* For packed weights. */
static inline void packed_slot_product(const struct slot_product *const p, const struct team_range rows,
                                       const struct team_range blocks) {
    if (rows.end - rows.begin <= rows_of_tile(1)) {
        if (rows.end > rows.begin) {
            slot_tile_alone(p, rows, blocks);
        }
        return;
    }
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_ROWS);
    struct strip strip = {.rows = {rows.begin, rows.begin}};
    const int64_t K = p->w->rows.blocks.K * p->d.gates;
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = strip_after(&strip, &strips, j, rows_of_tile(1), K, TILE_PANELS, 1);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t run = block_run(p->w->rows.blocks, block, blocks.end, VL) - block;
            const int Q = blocks_of_rows(1, TILE_ROWS, run);
            const int64_t next = block + Q < blocks.end ? block + Q : blocks.begin;
            slot_strip(p, &strip, block, Q, p->w->packed + next * p->w->block);
            block += Q;
        }
    }
}

static void slot_product(const struct slot_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    if (blocks.begin < blocks.end && p->w->packed) {
        packed_slot_product(p, rows, blocks);
        return;
    }
    for (int64_t begin = blocks.begin; begin < blocks.end;) {
        const int64_t end = block_run(p->w->rows.blocks, begin, blocks.end, VL);
        unpacked_slot_product(p, rows, (struct team_range){begin, end});
        begin = end;
    }
}

#endif
