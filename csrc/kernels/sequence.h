/* The loops over a schedule, forward and backward, for one member of the team.
 *
 *     forward, for each chunk of steps:         gather x, project it       (all rows of the chunk: one product)
 *         for each step:                        step_forward               (tiles of rows x unit blocks)
 *
 *     backward, for each chunk, last first:
 *         for each step, last first:            step_backward
 *         then dx, dw_ih, dw_hh, db             (large products over all rows of the chunk)
 *
 * A group of the team owns a range of sequences, a member a range of unit blocks; the states of the group's sequences
 * stay in scratch. In backward, rows of a chunk lie in the order of visit, so every sum over rows runs from the last
 * step to the first, whatever the chunk: gradients of a sequence fed in pieces, last piece first, have the bits of the
 * whole. The large products are split over all threads by what they write.
 */
#ifndef FASTRNN_SEQUENCE_H
#define FASTRNN_SEQUENCE_H

#include "step.h"

/* ---- states and rows ---- */

/* Rows of states between the user's (B, H) matrices and scratch, for some unit blocks. A null source is zero. */
static void load_state(const struct fastrnn_const_view from, const int64_t row, const struct team_range blocks,
                       const int64_t H, real *const to) {
    const real *const state = from.data && row >= 0 ? (const real *)from.data + row * from.stride_b : NULL;
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        vstore(to + block * VL, state ? vload_n(state + block * VL, lanes_of_block(block, H)) : vsplat(0));
    }
}

static void store_state(const struct fastrnn_view to, const int64_t row, const struct team_range blocks,
                        const int64_t H, const real *const from) {
    if (!to.data || row < 0) {
        return;
    }
    real *const state = (real *)to.data + row * to.stride_b;
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        vstore_n(state + block * VL, vload(from + block * VL), lanes_of_block(block, H));
    }
}

/* Rows of n reals, from the user's tensor into rows of padded vectors. */
static void gather_rows(const struct fastrnn_const_view from, const struct layout_place *const place,
                        const struct team_range rows, const int64_t n, real *const to, const ptrdiff_t to_row) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const real *const source =
            (const real *)from.data + place[row].t * from.stride_t + place[row].b * from.stride_b;
        for (int64_t block = 0; block < layout_blocks(n, VL); block++) {
            vstore(to + row * to_row + block * VL, vload_n(source + block * VL, lanes_of_block(block, n)));
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

/* ---- forward ---- */

/* Everything that one member's forward pass keeps. */
struct forward_pass {
    const struct fastrnn_problem *problem;
    const struct fastrnn_forward_args *args;
    const struct team_member *me;
    struct team_range sequences, blocks;
    struct layout_forward_scratch layout;
    struct layout_packed_forward packed_layout;
    const real *packed;
    real *h[2], *c, *x, *gates; /* of this group */
    struct layout_place *place;
};

/* Takes steps from s on while their rows fit the chunk (one step always does); returns the step after the last. */
static int64_t stage_chunk(const struct forward_pass *const pass, const int64_t s, const int64_t offset,
                           int64_t *const rows) {
    const struct fastrnn_problem *const problem = pass->problem;
    const struct team_member *const me = pass->me;
    int64_t end = s, at = offset;
    *rows = 0;
    for (; end < schedule_steps(problem); end++) {
        const int64_t active = active_in_group(problem, end, pass->sequences);
        if (end > s && *rows + active > pass->layout.chunk_rows) {
            break;
        }
        const struct team_range mine = team_share(active, me->member, me->members);
        for (int64_t i = mine.begin; i < mine.end; i++) {
            pass->place[*rows + i] = schedule_place(problem, at, end, pass->sequences.begin + i);
        }
        gather_rows(pass->args->x, pass->place + *rows, mine, problem->I, pass->x + *rows * pass->layout.x_row,
                    pass->layout.x_row);
        *rows += active;
        at += schedule_active(problem, end);
    }
    return end;
}

static void project_chunk(const struct forward_pass *const pass, const int G, const int64_t rows) {
    const struct project_job job = {
        .I = pass->problem->I,
        .x = pass->x,
        .w = pass->packed + pass->packed_layout.w_ih,
        .b = pass->packed + pass->packed_layout.b_x,
        .gates = pass->gates,
        .x_row = pass->layout.x_row,
        .gates_row = pass->layout.gates_row,
    };
    const struct team_range all = {0, rows};
    if (G == 4) {
        tile_each(4, project_tile, &job, all, pass->blocks);
    } else if (G == 3) {
        tile_each(3, project_tile, &job, all, pass->blocks);
    } else {
        tile_each(1, project_tile, &job, all, pass->blocks);
    }
}

/* Sequences [from, to) of the group have ended: their states go to the user. */
static void finish_sequences(const struct forward_pass *const pass, const real *const h, const int64_t from,
                             const int64_t to) {
    for (int64_t i = from; i < to; i++) {
        const int64_t last = schedule_last(pass->problem, pass->sequences.begin + i);
        const int64_t state = i * pass->layout.state_row;
        store_state(pass->args->h_n, last, pass->blocks, pass->problem->H, h + state);
        store_state(pass->args->c_n, last, pass->blocks, pass->problem->H, pass->c + state);
    }
}

static struct forward_pass begin_forward(const struct layout_shape *const shape,
                                         const struct fastrnn_problem *const problem,
                                         const struct fastrnn_forward_args *const args,
                                         const struct team_member *const me) {
    struct forward_pass pass = {
        .problem = problem,
        .args = args,
        .me = me,
        .sequences = team_share(shape->sequences, me->group, me->groups),
        .blocks = team_share(layout_blocks(problem->H, VL), me->member, me->members),
        .layout = layout_forward_scratch(shape, team_size(me)),
        .packed_layout = layout_packed_forward(shape),
        .packed = aligned_const(args->packed),
    };
    real *const scratch = aligned(args->scratch);
    const int64_t first_row = pass.sequences.begin + me->group * pass.layout.chunk_rows;
    pass.h[0] = scratch + pass.layout.h[0] + pass.sequences.begin * pass.layout.state_row;
    pass.h[1] = scratch + pass.layout.h[1] + pass.sequences.begin * pass.layout.state_row;
    pass.c = scratch + pass.layout.c + pass.sequences.begin * pass.layout.state_row;
    pass.x = scratch + pass.layout.x + first_row * pass.layout.x_row;
    pass.gates = scratch + pass.layout.gates + first_row * pass.layout.gates_row;
    pass.place = (struct layout_place *)(scratch + pass.layout.places) + first_row;
    for (int64_t i = 0; i < pass.sequences.end - pass.sequences.begin; i++) {
        const int64_t first = schedule_first(problem, pass.sequences.begin + i);
        load_state(args->h0, first, pass.blocks, problem->H, pass.h[0] + i * pass.layout.state_row);
        load_state(args->c0, first, pass.blocks, problem->H, pass.c + i * pass.layout.state_row);
    }
    return pass;
}

static void run_forward(const struct layout_shape *const shape, const struct fastrnn_problem *const problem,
                        const struct fastrnn_forward_args *const args, const struct team_member *const me) {
    const struct forward_pass pass = begin_forward(shape, problem, args, me);
    int64_t offset = 0, parity = 0;
    if (shape->steps == 0) {
        finish_sequences(&pass, pass.h[0], 0, pass.sequences.end - pass.sequences.begin);
    }
    for (int64_t s = 0; s < shape->steps;) {
        int64_t rows, row = 0;
        const int64_t chunk_end = stage_chunk(&pass, s, offset, &rows);
        group_wait(me);
        project_chunk(&pass, shape->gates, rows);
        for (; s < chunk_end; s++) {
            const int64_t active = active_in_group(problem, s, pass.sequences);
            const struct step_forward_job job = {
                .cell = problem->cell,
                .apart = cell_of(problem->cell)->apart,
                .H = problem->H,
                .NB = layout_blocks(problem->H, VL),
                .B = problem->B,
                .w = pass.packed + pass.packed_layout.w_hh,
                .b_apart = pass.packed + pass.packed_layout.b_apart,
                .gates = pass.gates + row * pass.layout.gates_row,
                .h_prev = pass.h[parity],
                .h = pass.h[parity ^ 1],
                .c = pass.c,
                .gates_row = pass.layout.gates_row,
                .state_row = pass.layout.state_row,
                .place = pass.place + row,
                .y = args->y,
                .reserve = args->reserve ? aligned(args->reserve) : NULL,
            };
            step_forward(&job, shape->gates, (struct team_range){0, active}, pass.blocks);
            parity ^= 1;
            finish_sequences(&pass, pass.h[parity], active_in_group(problem, s + 1, pass.sequences), active);
            row += active;
            offset += schedule_active(problem, s);
            group_wait(me);
        }
    }
}


/* ---- backward ---- */

/* Everything that one member's backward pass keeps. Chunk row 0 is row `sequences` of the gradient buffer; the rows
 * before it hold the step that the chunk before ended with. Places count from chunk row 0 and reach one step further
 * back than the chunk. */
struct backward_pass {
    const struct cell *cell;
    const struct fastrnn_problem *problem;
    const struct fastrnn_backward_args *args;
    const struct team_member *me;
    int64_t all_sequences;
    struct team_range sequences, blocks;
    struct layout_backward_scratch layout;
    struct layout_packed_backward packed_layout;
    const real *packed;
    real *dh, *dc; /* of this group */
    real *gradients, *x, *h_prev;
    struct layout_place *place;
    ptrdiff_t gradient_row, gradient_block;
};

/* A chunk of steps [begin, end), visited from the last to the first. */
struct backward_chunk {
    int64_t begin, end;
    int64_t rows;
    int64_t offset; /* of step `end` in the schedule */
};

static struct gradient_slots slots_from(const struct backward_pass *const pass, const int first_slot,
                                        const int64_t first_row) {
    return (struct gradient_slots){
        .data = pass->gradients + first_row * pass->gradient_row + first_slot * VL,
        .gates = pass->cell->gates,
        .slots = pass->cell->slots,
        .H = pass->problem->H,
        .block = pass->gradient_block,
    };
}

/* Takes steps downwards from `end` while their rows fit; one step always does. */
static struct backward_chunk take_chunk(const struct backward_pass *const pass, const int64_t end,
                                        const int64_t offset) {
    struct backward_chunk chunk = {.begin = end, .end = end, .rows = 0, .offset = offset};
    while (chunk.begin > 0) {
        const int64_t active = schedule_active(pass->problem, chunk.begin - 1);
        if (chunk.rows > 0 && chunk.rows + active > pass->layout.chunk_rows) {
            break;
        }
        chunk.rows += active;
        chunk.begin--;
    }
    return chunk;
}

/* Each member fills its share of the chunk's places, and of those of the step before the chunk. */
static void place_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    int64_t row = 0, offset = chunk->offset;
    for (int64_t s = chunk->end - 1; s >= chunk->begin - 1 && s >= 0; s--) {
        const int64_t active = schedule_active(pass->problem, s);
        offset -= active;
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        for (int64_t i = mine.begin; i < mine.end; i++) {
            pass->place[row + i] = schedule_place(pass->problem, offset, s, i);
        }
        row += active;
    }
}

/* The job of step s, whose first row is chunk row `row` (of the whole step, not of the group). */
static struct step_backward_job step_job(const struct backward_pass *const pass, const int64_t s, const int64_t row) {
    const struct fastrnn_problem *const problem = pass->problem;
    const int64_t N = pass->all_sequences, begin = pass->sequences.begin;
    const int64_t active = schedule_active(problem, s);
    return (struct step_backward_job){
        .cell = problem->cell,
        .carries_dh = pass->cell->carries_dh,
        .H = problem->H,
        .NB = layout_blocks(problem->H, VL),
        .B = problem->B,
        .w = pass->packed + pass->packed_layout.w_hh,
        .later = slots_from(pass, pass->cell->hidden_slot, 0),
        .later_row = N + row - schedule_active(problem, s + 1) + begin,
        .slots = pass->gradients + (N + row + begin) * pass->gradient_row,
        .dh = pass->dh,
        .dc = pass->dc,
        .state_row = pass->layout.state_row,
        .place = pass->place + row + begin,
        .place_prev = s > 0 ? pass->place + row + active + begin : NULL,
        .first = problem->schedule ? problem->schedule->first : NULL,
        .first_sequence = begin,
        .dy = pass->args->dy,
        .y = pass->args->y,
        .h0 = pass->args->h0,
        .c0 = pass->args->c0,
        .reserve = aligned_const(pass->args->reserve),
    };
}

/* The steps of a chunk, for the group's sequences: those that end at a step start from dh_n alone. */
static void recur_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t continuing = active_in_group(pass->problem, s + 1, pass->sequences);
        const int64_t active = active_in_group(pass->problem, s, pass->sequences);
        struct step_backward_job job = step_job(pass, s, row);
        step_backward(&job, (struct team_range){0, continuing}, pass->blocks);
        job.starts = true;
        step_backward(&job, (struct team_range){continuing, active}, pass->blocks);
        row += schedule_active(pass->problem, s);
        group_wait(pass->me);
    }
    /* The chunk's last step moves to where the next chunk looks for the step after its own. */
    const int64_t active = active_in_group(pass->problem, chunk->begin, pass->sequences);
    const int64_t from = pass->all_sequences + row - schedule_active(pass->problem, chunk->begin);
    const int64_t to = pass->all_sequences - schedule_active(pass->problem, chunk->begin);
    for (int64_t block = pass->blocks.begin; block < pass->blocks.end; block++) {
        real *const gradients = pass->gradients + block * pass->gradient_block;
        memmove(gradients + (to + pass->sequences.begin) * pass->gradient_row,
                gradients + (from + pass->sequences.begin) * pass->gradient_row,
                (size_t)(active * pass->gradient_row) * sizeof(real));
    }
}

/* Rows of a user's tensor as panels [block][chunk row][VL], for a share of the chunk's rows. */
static void gather_panels(const struct fastrnn_const_view from, const struct layout_place *const place,
                          const struct team_range rows, const int64_t n, const int64_t chunk_rows, real *const to) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const real *const source = row_of(from, place[row]);
        for (int64_t block = 0; block < layout_blocks(n, VL); block++) {
            vstore(to + (block * chunk_rows + row) * VL,
                   load_n_or_zero(source, block * VL, lanes_of_block(block, n)));
        }
    }
}

/* h_prev of the chunk's rows: y one step earlier, or h0 at the first step. */
static void gather_h_prev(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = pass->problem;
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t active = schedule_active(problem, s);
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        real *const to = pass->h_prev + row * VL;
        if (s > 0) {
            gather_panels(pass->args->y, pass->place + row + active, mine, problem->H, pass->layout.chunk_rows, to);
        }
        for (int64_t i = mine.begin; s == 0 && i < mine.end; i++) {
            const int64_t first = schedule_first(problem, i);
            const struct fastrnn_const_view h0 = first < 0 ? (struct fastrnn_const_view){0} : pass->args->h0;
            const struct layout_place place = {0, first};
            gather_panels(h0, &place - i, (struct team_range){i, i + 1}, problem->H, pass->layout.chunk_rows, to);
        }
        row += active;
    }
}

static void input_gradient(const struct backward_pass *const pass, const int64_t rows) {
    const struct input_gradient_job job = {
        .d = slots_from(pass, pass->cell->input_slot, pass->all_sequences),
        .w = pass->packed + pass->packed_layout.w_ih,
        .place = pass->place,
        .dx = pass->args->dx,
        .I = pass->problem->I,
    };
    tile_each(1, input_gradient_tile, &job, team_share(rows, team_rank(pass->me), team_size(pass->me)),
              (struct team_range){0, layout_blocks(pass->problem->I, VL)});
}

/* dw [G*H, n] += slots' x, where x are panels. Strips of x stay in cache while all gate rows pass over them. */
static void weight_gradient(const struct backward_pass *const pass, const int first_slot, const real *const x,
                            const int64_t n, const int64_t rows, real *const dw) {
    const struct cell *const cell = pass->cell;
    const struct team_range units =
        team_share(layout_blocks(pass->problem->H, VL), team_rank(pass->me), team_size(pass->me));
    const struct gradient_slots d = slots_from(pass, first_slot, pass->all_sequences);
    const int64_t strips = layout_blocks(n, VL);
    for (int64_t k = 0; k < rows; k += WEIGHT_GRADIENT_K) {
        for (int64_t strip = 0; strip < strips; strip += TILE_PANELS) {
            const int64_t strip_end = strip + TILE_PANELS < strips ? strip + TILE_PANELS : strips;
            for (int64_t block = units.begin; block < units.end; block++) {
                const struct weight_gradient_job job = {
                    .d = d.data + block * d.block + k * pass->gradient_row,
                    .slot_gate = cell->slot_gate + first_slot,
                    .x = x + k * VL,
                    .dw = dw,
                    .d_row = pass->gradient_row,
                    .x_block = pass->layout.chunk_rows * VL,
                    .H = pass->problem->H,
                    .N = n,
                    .K = rows - k < WEIGHT_GRADIENT_K ? rows - k : WEIGHT_GRADIENT_K,
                    .unit = block * VL,
                };
                tile_each(1, weight_gradient_tile, &job, (struct team_range){0, cell->gates * VL},
                          (struct team_range){strip, strip_end});
            }
        }
    }
}

static void bias_gradients(const struct backward_pass *const pass, const int first_slot, const int64_t rows,
                           real *const db) {
    const int64_t H = pass->problem->H;
    const struct team_range units = team_share(layout_blocks(H, VL), team_rank(pass->me), team_size(pass->me));
    const struct gradient_slots d = slots_from(pass, first_slot, pass->all_sequences);
    for (int64_t block = units.begin; block < units.end; block++) {
        for (int slot = 0; slot < d.gates; slot++) {
            const int64_t gate = pass->cell->slot_gate[first_slot + slot];
            bias_gradient(d.data + block * d.block + slot * VL, pass->gradient_row, rows,
                          db + gate * H + block * VL, lanes_of_block(block, H));
        }
    }
}

/* The products of a chunk: everything that is not recurrent. */
static void multiply_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_backward_args *const args = pass->args;
    const struct cell *const cell = pass->cell;
    const int64_t rows = chunk->rows;
    if (args->d.w_ih) {
        gather_panels(args->x, pass->place, team_share(rows, team_rank(pass->me), team_size(pass->me)),
                      pass->problem->I, pass->layout.chunk_rows, pass->x);
    }
    if (args->d.w_hh) {
        gather_h_prev(pass, chunk);
    }
    team_wait(pass->me);
    if (args->dx.data) {
        input_gradient(pass, rows);
    }
    if (args->d.w_ih) {
        weight_gradient(pass, cell->input_slot, pass->x, pass->problem->I, rows, args->d.w_ih);
    }
    if (args->d.w_hh) {
        weight_gradient(pass, cell->hidden_slot, pass->h_prev, pass->problem->H, rows, args->d.w_hh);
    }
    if (args->d.b_ih) {
        bias_gradients(pass, cell->input_slot, rows, args->d.b_ih);
    }
    if (args->d.b_hh) {
        bias_gradients(pass, cell->hidden_slot, rows, args->d.b_hh);
    }
    team_wait(pass->me);
}

/* What reaches the initial states: dc is there already, dh takes one more product. */
static void finish_states(const struct backward_pass *const pass, const int64_t steps) {
    const int64_t owned = pass->sequences.end - pass->sequences.begin;
    if (steps > 0 && pass->args->dh0.data) {
        struct step_backward_job job = step_job(pass, 0, 0);
        job.later_row = pass->sequences.begin; /* where recur_chunk left the first step */
        const struct team_range rows = {0, owned};
        job.initial = true;
        step_backward(&job, rows, pass->blocks);
    }
    for (int64_t i = 0; i < owned; i++) {
        const int64_t first = schedule_first(pass->problem, pass->sequences.begin + i);
        const int64_t state = i * pass->layout.state_row;
        store_state(pass->args->dh0, first, pass->blocks, pass->problem->H, pass->dh + state);
        store_state(pass->args->dc0, first, pass->blocks, pass->problem->H, pass->dc + state);
    }
}

static struct backward_pass begin_backward(const struct cell *const cell, const struct layout_shape *const shape,
                                           const struct fastrnn_problem *const problem,
                                           const struct fastrnn_backward_args *const args,
                                           const struct team_member *const me) {
    struct backward_pass pass = {
        .cell = cell,
        .problem = problem,
        .args = args,
        .me = me,
        .all_sequences = shape->sequences,
        .sequences = team_share(shape->sequences, me->group, me->groups),
        .blocks = team_share(layout_blocks(problem->H, VL), me->member, me->members),
        .layout = layout_backward_scratch(shape),
        .packed_layout = layout_packed_backward(shape),
        .packed = aligned_const(args->packed),
    };
    real *const scratch = aligned(args->scratch);
    pass.dh = scratch + pass.layout.dh + pass.sequences.begin * pass.layout.state_row;
    pass.dc = scratch + pass.layout.dc + pass.sequences.begin * pass.layout.state_row;
    pass.gradients = scratch + pass.layout.gradients;
    pass.x = scratch + pass.layout.x;
    pass.h_prev = scratch + pass.layout.h_prev;
    pass.place = (struct layout_place *)(scratch + pass.layout.places);
    pass.gradient_row = cell->slots * VL;
    pass.gradient_block = pass.layout.gradient_rows * pass.gradient_row;
    for (int64_t i = 0; i < pass.sequences.end - pass.sequences.begin; i++) {
        const int64_t last = schedule_last(problem, pass.sequences.begin + i);
        load_state(args->dh_n, last, pass.blocks, problem->H, pass.dh + i * pass.layout.state_row);
        load_state(args->dc_n, last, pass.blocks, problem->H, pass.dc + i * pass.layout.state_row);
    }
    return pass;
}

static void run_backward(const struct layout_shape *const shape, const struct fastrnn_problem *const problem,
                         const struct fastrnn_backward_args *const args, const struct team_member *const me) {
    const struct backward_pass pass = begin_backward(cell_of(problem->cell), shape, problem, args, me);
    int64_t offset = shape->rows;
    for (int64_t end = shape->steps; end > 0;) {
        const struct backward_chunk chunk = take_chunk(&pass, end, offset);
        place_chunk(&pass, &chunk);
        team_wait(me);
        recur_chunk(&pass, &chunk);
        multiply_chunk(&pass, &chunk);
        end = chunk.begin;
        offset -= chunk.rows;
    }
    finish_states(&pass, shape->steps);
}

#endif
