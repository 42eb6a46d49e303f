/* One step of the time loop: the functions that finish the tiles of its product, forward and backward.
 *
 *     forward:   a = gates + h w_hh'                states, y = cell(a, states)
 *     backward:  dh = dy + later slots w_hh         slots, d_states = cell'(dh, d_states)
 *
 * Rows are the sequences of one group of the team.
 */
#ifndef FASTRNN_STEP_H
#define FASTRNN_STEP_H

#include "cell_steps.h"
#include "interpreter.h"
#include "slot_product.h"

/* The reserve: an ordinary array (T, B, row). Each saved vector has `units` reals. */
struct saved_rows {
    real *data; /* may be null */
    int64_t B, row, units;
    bool is_whole; /* all blocks are whole vectors: only the last one has padding, which lies in the reserve */
};

static struct saved_rows saved_rows(const struct layout_shape *const s, void *const reserve) {
    return (struct saved_rows){reserve, s->B, layout_reserve_row(s), layout_saved_units(s->H),
                               !blocks_are_padded(s->units, VL)};
}

ALWAYS_INLINE real *saved_vector(const struct saved_rows *const saved, const struct layout_place place, const int j) {
    return saved->data + (place.t * saved->B + place.b) * saved->row + j * saved->units;
}

/* The inputs of each step and the options: the same for forward and backward. */
struct step_given {
    const struct fastrnn_const_view *inputs;
    const struct fastrnn_input *table;
    real options[FASTRNN_OPTIONS_MAX];
};

static struct step_given step_given(const struct fastrnn_cell_table *const table,
                                    const struct fastrnn_arrays *const arrays) {
    struct step_given given = {.inputs = arrays->inputs, .table = table->inputs};
    for (int j = 0; j < table->option_count; j++) {
        given.options[j] = (real)arrays->options[j];
    }
    return given;
}

ALWAYS_INLINE struct cell_given load_given(const struct cell *const cell, const struct step_given *const from,
                                           const struct layout_place place, const struct block *const block) {
    struct cell_given given;
    UNROLL
    for (int j = 0; j < cell->row.inputs; j++) {
        const real *const row = row_of(from->inputs[j], place);
        given.inputs[j] =
            from->table[j].columns == FASTRNN_ONE_COLUMN ? vsplat(*row) : vload_n(row + block->first, block->lanes);
    }
    UNROLL
    for (int j = 0; j < cell->row.options; j++) {
        given.options[j] = vsplat(from->options[j]);
    }
    return given;
}

/* ---- forward ---- */

/* A step: constant for a pass up to `saved`, then set for each step. */
struct step_forward_job {
    enum fastrnn_cell cell;
    struct interpreter *interpreter; /* of the first phase of a program; else null */
    struct crossing crossing;        /* of a program */
    struct blocks units;
    struct step_given given;
    ptrdiff_t gates_row, state_row;
    struct fastrnn_view y;
    const struct fastrnn_view *states; /* the user's arrays of states after each step; data may be null */
    real *carried[FASTRNN_STATES_MAX]; /* all states except h, updated in place */
    struct saved_rows saved;

    real *gates, *h_before, *h;
    const struct layout_place *place;
};

ALWAYS_INLINE void store_row(const struct fastrnn_view to, const struct layout_place place, const int64_t u,
                             const vreal v, const int lanes) {
    vstore_n((real *)to.data + place.t * to.stride_t + place.b * to.stride_b + u, v, lanes);
}

/* Zeroes the padding of each saved vector after the last block, since another backend may have longer vectors. */
ALWAYS_INLINE void clear_padding(const int vectors, real *const saved, const int64_t end, const int64_t saved_units) {
    for (int64_t u = end; u < saved_units; u += VL) {
        for (int j = 0; j < vectors; j++) {
            vstore(saved + j * saved_units + u, vsplat(0));
        }
    }
}

/* Applies the cell to the finished accumulators of one row and one block. */
ALWAYS_INLINE void step_forward_row(const struct cell *const cell, const vreal *const acc,
                                    const struct step_forward_job *const p, const int64_t row, const int64_t number) {
    const struct layout_place place = p->place[row];
    const struct block block = block_without_heads(p->units, number, VL);
    const int64_t u = block.first;
    const ptrdiff_t state = row * p->state_row + block.at;
    const int lanes = block.lanes;
    struct cell_forward_in in = {.before[0] = vload(p->h_before + state)};
    struct cell_forward_out out;
    UNROLL
    for (int g = 0; g < cell->row.gates; g++) {
        in.a[g] = acc[g];
        if (cell->row.apart >> g & 1) {
            in.x_apart[g] = vload(p->gates + row * p->gates_row + block.at * cell->row.gates + g * VL);
        }
    }
    UNROLL
    for (int j = 1; j < cell->row.states; j++) {
        in.before[j] = vload(p->carried[j] + state);
    }
    in.given = load_given(cell, &p->given, place, &block);
    cell->forward(&in, &out);
    vstore(p->h + state, out.after[0]);
    store_row(p->y, place, u, cell->row.output == NONE ? out.y : out.after[cell->row.output], lanes);
    UNROLL
    for (int j = 0; j < cell->row.states; j++) {
        if (j > 0) {
            vstore(p->carried[j] + state, out.after[j]);
        }
        if (j != cell->row.output && p->states[j].data) {
            store_row(p->states[j], place, u, out.after[j], lanes);
        }
    }
    if (cell->row.saved && p->saved.data) {
        real *const saved = saved_vector(&p->saved, place, 0);
        UNROLL
        for (int j = 0; j < cell->row.saved; j++) {
            vstore(saved + j * p->saved.units + u, out.saved[j]);
        }
        if (u + VL >= p->units.n) {
            clear_padding(cell->row.saved, saved, u + VL, p->saved.units);
        }
    }
}

ALWAYS_INLINE void step_forward_rows(const struct cell *const cell, const struct step_forward_job *const p, const int R,
                                     const int Q, const vreal *const acc, const int64_t row, const int64_t block) {
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < Q; q++) {
            step_forward_row(cell, acc + (r * Q + q) * cell->row.gates, p, row + r, block + q);
        }
    }
}

/* Applies the cell to a finished tile. */
static void finish_forward(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                           const int64_t block) {
    const struct step_forward_job *const p = job;
    switch (p->cell) {
#define FASTRNN_CELL(name, gates, output, tables) \
    case FASTRNN_CELL_##name: \
        step_forward_rows(&cell_##name, p, R, Q, acc, row, block); \
        break;
#include "../cells.def"
    case FASTRNN_CELL_COUNT:
        break;
    }
}

/* ---- backward ---- */

/* A step: constant for a pass up to `saved`, then set for each step. */
struct step_backward_job {
    enum fastrnn_cell cell;
    struct interpreter *interpreter; /* of the first phase of a program; else null */
    struct crossing crossing;        /* of a program */
    struct blocks units;
    struct step_given given;
    ptrdiff_t slot, block; /* strides of the slots below */
    ptrdiff_t state_row;
    const struct fastrnn_problem *problem;
    const struct fastrnn_cell_table *table;
    int64_t first_sequence;
    struct fastrnn_const_view dy, y;
    const struct fastrnn_const_view *initial;
    real *d_states[FASTRNN_STATES_MAX];
    struct saved_rows saved; /* read only */

    real *slots;                                     /* [NB][slots][…][VL] */
    const struct layout_place *place, *place_before; /* place_before null: the first step */
};

/* The source of the states before a row's step: the states after the previous step, or the sequence's starting states.
 */
ALWAYS_INLINE struct schedule_origin origin_of(const struct step_backward_job *const p, const int64_t row) {
    return p->place_before ? (struct schedule_origin){ORIGIN_ROW, p->place_before[row]}
                           : schedule_origin(p->problem, p->first_sequence + row);
}

/* A block of state j that a sequence starts from, if it is not a row of y. */
ALWAYS_INLINE vreal starting_state(const struct step_backward_job *const p, const int j,
                                   const struct schedule_origin *const origin, const struct block *const block) {
    const real *const initial = origin->kind == ORIGIN_STATE ? row_of(p->initial[j], origin->place) : NULL;
    return initial ? vload_n(initial + block->first, block->lanes) : vsplat((real)p->table->states[j].start);
}

/* A block of state j before the step. */
ALWAYS_INLINE vreal state_before(const struct step_backward_job *const p, const struct cell *const cell, const int j,
                                 const struct schedule_origin *const origin, const struct block *const block) {
    if (origin->kind != ORIGIN_ROW) {
        return starting_state(p, j, origin, block);
    }
    return cell->row.output == j ? vload_n(row_of(p->y, origin->place) + block->first, block->lanes)
                                 : vload(saved_vector(&p->saved, origin->place, cell->saved_state[j]) + block->first);
}

/* Applies the cell to the finished accumulator of one row and one block. */
ALWAYS_INLINE void step_backward_row(const struct cell *const cell, const vreal acc,
                                     const struct step_backward_job *const p, const int64_t row, const int64_t number) {
    const struct layout_place place = p->place[row];
    const struct schedule_origin origin = origin_of(p, row);
    const struct block block = block_without_heads(p->units, number, VL);
    const int64_t u = block.first;
    const ptrdiff_t state = row * p->state_row + block.at;
    const int lanes = block.lanes;
    const vreal dy = load_n_or_zero(row_of(p->dy, place), u, lanes);
    struct cell_backward_in in = {.dy = dy};
    struct cell_backward_out out;
    UNROLL
    for (int j = 0; j < cell->row.states; j++) {
        in.d_after[j] = j == 0 ? acc : vload(p->d_states[j] + state);
        if (j == cell->row.output) {
            in.d_after[j] += dy;
        }
        if (cell->reads_before >> j & 1) {
            in.before[j] = state_before(p, cell, j, &origin, &block);
        }
    }
    UNROLL
    for (int j = 0; j < cell->row.saved; j++) {
        in.saved[j] = vload(saved_vector(&p->saved, place, j) + u);
    }
    if (cell->reads_y) {
        in.y = vload_n(row_of(p->y, place) + u, lanes);
    }
    in.given = load_given(cell, &p->given, place, &block);
    cell->backward(&in, &out);
    real *const slots = p->slots + number * p->block + row * VL;
    UNROLL
    for (int slot = 0; slot < cell->slots; slot++) {
        vstore(slots + slot * p->slot, out.slots[slot]);
    }
    UNROLL
    for (int j = cell->carries_dh ? 0 : 1; j < cell->row.states; j++) {
        vstore(p->d_states[j] + state, out.d_before[j]);
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
#define FASTRNN_CELL(name, gates, output, tables) \
    case FASTRNN_CELL_##name: \
        step_backward_rows(&cell_##name, p, R, Q, acc, row, block); \
        break;
#include "../cells.def"
    case FASTRNN_CELL_COUNT:
        break;
    }
}

/* Stores the gradient of the initial h. */
static void finish_initial(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                           const int64_t block) {
    const struct step_backward_job *const p = job;
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < Q; q++) {
            const int64_t at = block_at(p->units, block + q, VL).at;
            vstore(p->d_states[0] + (row + r) * p->state_row + at, acc[r * Q + q]);
        }
    }
}

#endif
