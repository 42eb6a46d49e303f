/* One step of the time loop: tiles that end in the cell, forward and backward.
 *
 *     forward:   a = gates + h_prev w_hh'          h, c = cell(a, h_prev, c_prev)
 *     backward:  dh = dy + slots[s+1] w_hh         slots[s], dc_prev, dh_prev = cell'(dh, dc)
 *
 * Rows are the sequences of one group of the team. The accumulators never leave the registers between the product and
 * the cell.
 */
#ifndef FASTRNN_STEP_H
#define FASTRNN_STEP_H

#include "../schedule.h"
#include "cells.h"
#include "gemm.h"

/* ---- forward ---- */

struct step_forward_job {
    int64_t H, NB, B;
    const real *w, *b_apart;
    const real *gates, *h_prev;
    real *h, *c;
    ptrdiff_t gates_row, state_row;
    const struct layout_place *place;
    struct fastrnn_view y;
    real *reserve; /* or null */
};

ALWAYS_INLINE void step_forward_tile(const struct cell *const cell, const struct tile_shape shape,
                                     const void *const job, const int64_t row, const int64_t block) {
    const struct step_forward_job *const p = job;
    const int Q = shape.Q, G = shape.G;
    struct tile tile;
    const real *const gates = p->gates + row * p->gates_row + block * G * VL;
#pragma GCC unroll 16
    for (int r = 0; r < shape.R; r++) {
#pragma GCC unroll 16
        for (int panel = 0; panel < Q * G; panel++) {
            tile.acc[r][panel] = panel % G == cell->apart ? vload(p->b_apart + (block + panel / G) * VL)
                                                          : vload(gates + r * p->gates_row + panel * VL);
        }
    }
    tile_multiply(&tile, shape, p->H, (struct tile_rows){p->h_prev + row * p->state_row, p->state_row, 1},
                  (struct tile_panels){p->w + block * p->H * G * VL, p->H * G * VL});
#pragma GCC unroll 16
    for (int r = 0; r < shape.R; r++) {
        const struct layout_place place = p->place[row + r];
        real *const y = (real *)p->y.data + place.t * p->y.stride_t + place.b * p->y.stride_b;
        const ptrdiff_t state = (row + r) * p->state_row;
#pragma GCC unroll 16
        for (int q = 0; q < Q; q++) {
            const int64_t u = (block + q) * VL;
            struct cell_forward_in in;
            struct cell_forward_out out;
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) {
                in.a[g] = tile.acc[r][q * G + g];
            }
            in.x_apart = cell->apart == NO_GATE ? vsplat(0)
                                                : vload(gates + r * p->gates_row + (q * G + cell->apart) * VL);
            in.h_prev = vload(p->h_prev + state + u);
            in.c_prev = cell->saved_c == NO_GATE ? vsplat(0) : vload(p->c + state + u);
            cell->forward(&in, &out);
            vstore(p->h + state + u, out.h);
            vstore_n(y + u, out.h, lanes_of_block(block + q, p->H));
            if (cell->saved_c != NO_GATE) {
                vstore(p->c + state + u, out.c);
            }
            if (cell->saved && p->reserve) {
                real *const saved =
                    p->reserve + (((place.t * p->B + place.b) * p->NB + block + q) * cell->saved) * VL;
#pragma GCC unroll 8
                for (int j = 0; j < cell->saved; j++) {
                    vstore(saved + j * VL, out.saved[j]);
                }
            }
        }
    }
}

/* The tiles of one step, expanded for each cell. */
static void step_forward(const enum fastrnn_cell cell, const struct step_forward_job *const job,
                         const struct team_range rows, const struct team_range blocks) {
    switch (cell) {
#define FASTRNN_CELL(name, gates)                                                                                      \
    case FASTRNN_CELL_##name:                                                                                          \
        tile_each(&cell_##name, gates, step_forward_tile, job, rows, blocks);                                          \
        break;
#include "../cells.def"
#undef FASTRNN_CELL
    case FASTRNN_CELL_COUNT:
        break;
    }
}

/* ---- backward ---- */

/* One step of one group. Rows are the group's sequences, of which those below `continuing` have a later step. */
struct step_backward_job {
    int64_t H, NB, B;
    const real *w;
    struct gradient_slots later; /* of the step after, hidden side */
    int64_t later_row;           /* of the group's first sequence there */
    real *slots;                 /* of this step: [NB][…][slots][VL], blocks later.block reals apart */
    real *dh, *dc;
    ptrdiff_t state_row;
    bool starts; /* these rows end their sequences: dh is the final state's gradient, there is no later step */
    const struct layout_place *place, *place_prev; /* place_prev null: the first step, h0 and c0 come before */
    const int64_t *first;                          /* the rows of h0 and c0; null: the sequence's own number */
    int64_t first_sequence;
    struct fastrnn_const_view dy, y, h0, c0;
    const real *reserve;
};

/* Row r's h or c before the step: from the user's tensor or states, zero where there is none. */
ALWAYS_INLINE vreal load_n_or_zero(const real *const p, const int64_t u, const int n) {
    return p ? vload_n(p + u, n) : vsplat(0);
}

ALWAYS_INLINE const real *row_of(const struct fastrnn_const_view view, const struct layout_place place) {
    return view.data ? (const real *)view.data + place.t * view.stride_t + place.b * view.stride_b : NULL;
}

ALWAYS_INLINE const real *saved_row(const struct step_backward_job *const p, const struct cell *const cell,
                                    const struct layout_place place) {
    return p->reserve + (place.t * p->B + place.b) * p->NB * cell->saved * VL;
}

ALWAYS_INLINE struct layout_place initial_place(const struct step_backward_job *const p, const int64_t row) {
    const int64_t sequence = p->first_sequence + row;
    return (struct layout_place){0, p->first ? p->first[sequence] : sequence};
}

ALWAYS_INLINE void step_backward_row(const struct cell *const cell, const int Q, const struct tile *const tile,
                                     const int r, const struct step_backward_job *const p, const int64_t row,
                                     const int64_t block) {
    const struct layout_place none = {0, 0};
    const struct layout_place place = p->place[row];
    const struct layout_place initial = p->place_prev ? none : initial_place(p, row);
    const struct layout_place prev = p->place_prev ? p->place_prev[row] : none;
    const real *const dy = row_of(p->dy, place);
    const real *const h = cell->reads_h ? row_of(p->y, place) : NULL;
    const real *const h_prev = !cell->reads_h_prev  ? NULL
                               : p->place_prev      ? row_of(p->y, prev)
                               : initial.b < 0      ? NULL
                                                    : row_of(p->h0, initial);
    const real *const c0 = initial.b < 0 ? NULL : row_of(p->c0, initial);
    const real *const saved = cell->saved ? saved_row(p, cell, place) + block * cell->saved * VL : NULL;
#pragma GCC unroll 16
    for (int q = 0; q < Q; q++) {
        const int64_t u = (block + q) * VL;
        const int lanes = lanes_of_block(block + q, p->H);
        struct cell_backward_in in;
        struct cell_backward_out out;
        in.dh = tile->acc[r][q] + load_n_or_zero(dy, u, lanes);
#pragma GCC unroll 8
        for (int j = 0; j < cell->saved; j++) {
            in.saved[j] = vload(saved + (q * cell->saved + j) * VL);
        }
        if (cell->saved_c != NO_GATE) {
            in.dc = vload(p->dc + row * p->state_row + u);
            in.c_prev = p->place_prev
                            ? vload(saved_row(p, cell, prev) + ((block + q) * cell->saved + cell->saved_c) * VL)
                            : load_n_or_zero(c0, u, lanes);
        }
        if (cell->reads_h) {
            in.h = vload_n(h + u, lanes);
        }
        if (cell->reads_h_prev) {
            in.h_prev = load_n_or_zero(h_prev, u, lanes);
        }
        cell->backward(&in, &out);
#pragma GCC unroll 8
        for (int slot = 0; slot < cell->slots; slot++) {
            vstore(p->slots + (block + q) * p->later.block + (row * cell->slots + slot) * VL, out.slots[slot]);
        }
        if (cell->saved_c != NO_GATE) {
            vstore(p->dc + row * p->state_row + u, out.dc_prev);
        }
        if (cell->carries_dh) {
            vstore(p->dh + row * p->state_row + u, out.dh_prev);
        }
    }
}

/* acc = what reaches h[s] from later: the carried part, plus the later step's slots through w_hh. */
ALWAYS_INLINE void later_gradient(struct tile *const tile, const bool carried, const struct tile_shape shape,
                                  const struct step_backward_job *const p, const int64_t row, const int64_t block) {
#pragma GCC unroll 16
    for (int r = 0; r < shape.R; r++) {
#pragma GCC unroll 16
        for (int q = 0; q < shape.Q; q++) {
            tile->acc[r][q] = carried || p->starts ? vload(p->dh + (row + r) * p->state_row + (block + q) * VL)
                                                   : vsplat(0);
        }
    }
    if (!p->starts) {
        tile_multiply_slots(tile, shape, &p->later, p->later_row + row,
                            p->w + block * p->later.gates * p->later.H * VL);
    }
}

ALWAYS_INLINE void step_backward_tile(const struct cell *const cell, const struct tile_shape shape,
                                      const void *const job, const int64_t row, const int64_t block) {
    struct tile tile;
    later_gradient(&tile, cell->carries_dh, shape, job, row, block);
#pragma GCC unroll 16
    for (int r = 0; r < shape.R; r++) {
        step_backward_row(cell, shape.Q, &tile, r, job, row + r, block);
    }
}

/* After the first step: dh0, left in the carried dh. */
ALWAYS_INLINE void initial_gradient_tile(const struct cell *const cell, const struct tile_shape shape,
                                         const void *const job, const int64_t row, const int64_t block) {
    const struct step_backward_job *const p = job;
    struct tile tile;
    later_gradient(&tile, cell->carries_dh, shape, p, row, block);
#pragma GCC unroll 16
    for (int r = 0; r < shape.R; r++) {
#pragma GCC unroll 16
        for (int q = 0; q < shape.Q; q++) {
            vstore(p->dh + (row + r) * p->state_row + (block + q) * VL, tile.acc[r][q]);
        }
    }
}

static void step_backward(const enum fastrnn_cell cell, const struct step_backward_job *const job,
                          const struct team_range rows, const struct team_range blocks) {
    switch (cell) {
#define FASTRNN_CELL(name, gates)                                                                                      \
    case FASTRNN_CELL_##name:                                                                                          \
        tile_each(&cell_##name, 1, step_backward_tile, job, rows, blocks);                                             \
        break;
#include "../cells.def"
#undef FASTRNN_CELL
    case FASTRNN_CELL_COUNT:
        break;
    }
}


#endif
