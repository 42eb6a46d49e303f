/* Rows between the user's tensors and scratch: states, chunks of x, panels for the weight gradients. */
#ifndef FASTRNN_ROWS_H
#define FASTRNN_ROWS_H

#include "../schedule.h"
#include "pack.h"

/* Null where the tensor is absent. */
ALWAYS_INLINE const real *row_of(const struct fastrnn_const_view view, const struct layout_place place) {
    return view.data ? (const real *)view.data + place.t * view.stride_t + place.b * view.stride_b : NULL;
}

/* The row that a sequence starts from, out of states or of a sequence tensor; null for the start value. */
ALWAYS_INLINE const real *row_of_origin(const struct schedule_origin *const origin,
                                        const struct fastrnn_const_view states,
                                        const struct fastrnn_const_view sequences) {
    return origin->kind == ORIGIN_START ? NULL
                                        : row_of(origin->kind == ORIGIN_STATE ? states : sequences, origin->place);
}

/* Rows of states between the user's (B, H) matrices and scratch, for some unit blocks. A null source is `start`. */
static void load_state(const struct fastrnn_const_view from, const int64_t row, const real start,
                       const struct team_range blocks, const struct blocks units, real *const to) {
    const real *const state = from.data && row >= 0 ? (const real *)from.data + row * from.stride_b : NULL;
    for (int64_t j = blocks.begin; j < blocks.end; j++) {
        const struct block block = block_at(units, j, VL);
        vstore(to + block.at, state ? vload_n(state + block.first, block.lanes) : vsplat(start));
    }
}

static void store_state(const struct fastrnn_view to, const int64_t row, const struct team_range blocks,
                        const struct blocks units, const real *const from) {
    if (!to.data || row < 0) {
        return;
    }
    real *const state = (real *)to.data + row * to.stride_b;
    for (int64_t j = blocks.begin; j < blocks.end; j++) {
        const struct block block = block_at(units, j, VL);
        vstore_n(state + block.first, vload(from + block.at), block.lanes);
    }
}

/* Rows of x, from the user's tensor into rows of padded vectors. */
static void gather_rows(const struct fastrnn_const_view from, const struct layout_place *const place,
                        const struct team_range rows, const struct blocks inputs, real *const to,
                        const ptrdiff_t to_row) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const real *const source = row_of(from, place[row]);
        for (int64_t j = 0; j < block_count(inputs, VL); j++) {
            const struct block block = block_at(inputs, j, VL);
            vstore(to + row * to_row + block.at, vload_n(source + block.first, block.lanes));
        }
    }
}

/* The part of n[s] active sequences that a group owns. */
static inline int64_t active_in_group(const struct fastrnn_problem *const problem, const int64_t s,
                                      const struct team_range sequences) {
    const int64_t n = schedule_active(problem, s) - sequences.begin;
    const int64_t owned = sequences.end - sequences.begin;
    return n < 0 ? 0 : n < owned ? n : owned;
}

/* A row of a tensor into panels [block][chunk row][VL]; `to` points at its first vector. A null source is `start`. */
static void gather_panel_row(const real *const source, const real start, const struct blocks blocks,
                             const int64_t chunk_rows, real *const to) {
    for (int64_t j = 0; j < block_count(blocks, VL); j++) {
        const struct block block = block_at(blocks, j, VL);
        const vreal v = source ? vload_n(source + block.first, block.lanes) : vsplat(start);
        vstore(to + block.at * chunk_rows, v);
    }
}

/* The same for a share of the chunk's rows; `to` points at row 0. */
static void gather_panels(const struct fastrnn_const_view from, const struct layout_place *const place,
                          const struct team_range rows, const struct blocks blocks, const int64_t chunk_rows,
                          real *const to) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        gather_panel_row(row_of(from, place[row]), 0, blocks, chunk_rows, to + row * VL);
    }
}

#endif
