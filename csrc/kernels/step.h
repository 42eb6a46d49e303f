/* One step of the time loop: what finishes the tiles of its product, forward and backward.
 *
 *     forward:   a = gates + h_prev w_hh'          h, c = cell(a, h_prev, c_prev)
 *     backward:  dh = dy + slots[s+1] w_hh         slots[s], dc_prev, dh_prev = cell'(dh, dc)
 *
 * Rows are the sequences of one group of the team.
 */
#ifndef FASTRNN_STEP_H
#define FASTRNN_STEP_H

#include "cell_steps.h"
#include "gemm.h"
#include "rows.h"

/* Tiles exist for these numbers of gates. */
#define FASTRNN_CELL(name, gates, states) \
    _Static_assert(gates == 1 || gates == 3 || gates == 4, "no tile for a cell with this number of gates");
#include "../cells.def"
#undef FASTRNN_CELL

/* ---- forward ---- */

struct step_forward_job {
    enum fastrnn_cell cell;
    int64_t H, NB, B;
    const real *gates, *h_prev;
    real *h, *c;
    ptrdiff_t gates_row, state_row;
    const struct layout_place *place;
    struct fastrnn_view y, c_rows; /* c_rows.data null: not wanted */
    real *reserve;                 /* (T, B, reserve_row), or null */
    int64_t reserve_row, saved_units;
};

/* Zeros after the last block of each saved vector, whose vectors may be longer on another backend. */
ALWAYS_INLINE void clear_padding(const struct cell *const cell, real *const saved, const int64_t end,
                                 const int64_t saved_units) {
    for (int64_t u = end; u < saved_units; u += VL) {
        for (int j = 0; j < cell->saved; j++) {
            vstore(saved + j * saved_units + (u - end) + VL, vsplat(0));
        }
    }
}

/* The cell on the finished accumulators of one row and one block. */
ALWAYS_INLINE void step_forward_row(const struct cell *const cell, const vreal *const acc,
                                    const struct step_forward_job *const p, const int64_t row, const int64_t block) {
    const struct layout_place place = p->place[row];
    const int64_t u = block * VL;
    const ptrdiff_t state = row * p->state_row + u;
    const real *const gates = p->gates + row * p->gates_row + block * cell->gates * VL;
    struct cell_forward_in in = {.h_prev = vload(p->h_prev + state)};
    struct cell_forward_out out;
    UNROLL
    for (int g = 0; g < cell->gates; g++) {
        in.a[g] = acc[g];
    }
    if (cell->apart != NO_GATE) {
        in.x_apart = vload(gates + cell->apart * VL);
    }
    if (cell->saved_c != NO_GATE) {
        in.c_prev = vload(p->c + state);
    }
    cell->forward(&in, &out);
    vstore(p->h + state, out.h);
    vstore_n((real *)p->y.data + place.t * p->y.stride_t + place.b * p->y.stride_b + u, out.h,
             lanes_of_block(block, p->H));
    if (cell->saved_c != NO_GATE) {
        vstore(p->c + state, out.c);
        if (p->c_rows.data) {
            vstore_n((real *)p->c_rows.data + place.t * p->c_rows.stride_t + place.b * p->c_rows.stride_b + u, out.c,
                     lanes_of_block(block, p->H));
        }
    }
    if (cell->saved && p->reserve) {
        real *const saved = p->reserve + (place.t * p->B + place.b) * p->reserve_row + u;
        UNROLL
        for (int j = 0; j < cell->saved; j++) {
            vstore(saved + j * p->saved_units, out.saved[j]);
        }
        if (block == p->NB - 1) {
            clear_padding(cell, saved, u + VL, p->saved_units);
        }
    }
}

ALWAYS_INLINE void step_forward_rows(const struct cell *const cell, const struct step_forward_job *const p, const int R,
                                     const int Q, const vreal *const acc, const int64_t row, const int64_t block) {
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < Q; q++) {
            step_forward_row(cell, acc + (r * Q + q) * cell->gates, p, row + r, block + q);
        }
    }
}

/* The cell on a finished tile. */
static void finish_forward(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                           const int64_t block) {
    const struct step_forward_job *const p = job;
    switch (p->cell) {
#define FASTRNN_CELL(name, gates, states) \
    case FASTRNN_CELL_##name: \
        step_forward_rows(&cell_##name, p, R, Q, acc, row, block); \
        break;
#include "../cells.def"
#undef FASTRNN_CELL
    case FASTRNN_CELL_COUNT:
        break;
    }
}

/* ---- backward ---- */

/* Some rows of one step of one group: its sequences that have a later step, or those that end here. */
struct step_backward_job {
    enum fastrnn_cell cell;
    int64_t H, NB;
    real *slots; /* of this step: [NB][slots][…][VL] */
    ptrdiff_t slot, block;
    real *dh, *dc;
    ptrdiff_t state_row;
    const struct layout_place *place, *place_prev; /* place_prev null: the first step */
    const struct fastrnn_problem *problem;
    int64_t first_sequence;
    struct fastrnn_const_view dy, y, h0, c0;
    const real *reserve;
    int64_t reserve_row, saved_units;
};

/* A block of saved vector j. */
ALWAYS_INLINE const real *saved_block(const struct step_backward_job *const p, const struct layout_place place,
                                      const int j, const int64_t block) {
    return p->reserve + (place.t * p->problem->B + place.b) * p->reserve_row + j * p->saved_units + block * VL;
}

/* Where the state before a row's step is: the step before, or what the sequence starts from. */
ALWAYS_INLINE struct schedule_origin origin_of(const struct step_backward_job *const p, const int64_t row) {
    return p->place_prev ? (struct schedule_origin){ORIGIN_ROW, p->place_prev[row]}
                         : schedule_origin(p->problem, p->first_sequence + row);
}

ALWAYS_INLINE vreal c_before(const struct step_backward_job *const p, const struct cell *const cell,
                             const struct schedule_origin *const origin, const int64_t block, const int lanes) {
    switch (origin->kind) {
    case ORIGIN_ROW:
        return vload(saved_block(p, origin->place, cell->saved_c, block));
    case ORIGIN_STATE:
        return load_n_or_zero(row_of(p->c0, origin->place), block * VL, lanes);
    case ORIGIN_ZERO:
        break;
    }
    return vsplat(0);
}

/* The cell on the finished accumulator of one row and one block. */
ALWAYS_INLINE void step_backward_row(const struct cell *const cell, const vreal acc,
                                     const struct step_backward_job *const p, const int64_t row, const int64_t block) {
    const struct layout_place place = p->place[row];
    const struct schedule_origin origin = origin_of(p, row);
    const int64_t u = block * VL;
    const ptrdiff_t state = row * p->state_row + u;
    const int lanes = lanes_of_block(block, p->H);
    struct cell_backward_in in = {.dh = acc + load_n_or_zero(row_of(p->dy, place), u, lanes)};
    struct cell_backward_out out;
    UNROLL
    for (int j = 0; j < cell->saved; j++) {
        in.saved[j] = vload(saved_block(p, place, j, block));
    }
    if (cell->saved_c != NO_GATE) {
        in.dc = vload(p->dc + state);
        in.c_prev = c_before(p, cell, &origin, block, lanes);
    }
    if (cell->reads_h) {
        in.h = vload_n(row_of(p->y, place) + u, lanes);
    }
    if (cell->reads_h_prev) {
        in.h_prev = load_n_or_zero(row_of_origin(&origin, p->h0, p->y), u, lanes);
    }
    cell->backward(&in, &out);
    real *const slots = p->slots + block * p->block + row * VL;
    UNROLL
    for (int slot = 0; slot < cell->slots; slot++) {
        vstore(slots + slot * p->slot, out.slots[slot]);
    }
    if (cell->saved_c != NO_GATE) {
        vstore(p->dc + state, out.dc_prev);
    }
    if (cell->carries_dh) {
        vstore(p->dh + state, out.dh_prev);
    }
}

ALWAYS_INLINE void step_backward_rows(const struct cell *const cell, const struct step_backward_job *const p,
                                      const int R, const int Q, const vreal *const acc, const int64_t row,
                                      const int64_t block) {
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < Q; q++) {
            step_backward_row(cell, acc[r * Q + q], p, row + r, block + q);
        }
    }
}

static void finish_backward(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                            const int64_t block) {
    const struct step_backward_job *const p = job;
    switch (p->cell) {
#define FASTRNN_CELL(name, gates, states) \
    case FASTRNN_CELL_##name: \
        step_backward_rows(&cell_##name, p, R, Q, acc, row, block); \
        break;
#include "../cells.def"
#undef FASTRNN_CELL
    case FASTRNN_CELL_COUNT:
        break;
    }
}

/* What reaches the initial state goes to dh. */
static void finish_initial(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                           const int64_t block) {
    const struct step_backward_job *const p = job;
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < Q; q++) {
            vstore(p->dh + (row + r) * p->state_row + (block + q) * VL, acc[r * Q + q]);
        }
    }
}

#endif
