/* The backward loop over a schedule, for one member of the team.
 *
 *     for each chunk of steps, last first:
 *         for each step, last first:          slot_product    (tiles that end in the cell)
 *         multiply_chunk                      (dx, dw_ih, dw_hh, db over all rows of the chunk)
 *
 * Rows of a chunk lie in the order of visit, so every sum over rows runs from the last step to the first, whatever the
 * chunk: gradients of a sequence fed in pieces, last piece first, have the bits of the whole.
 */
#ifndef FASTRNN_SEQUENCE_BACKWARD_H
#define FASTRNN_SEQUENCE_BACKWARD_H

#include "products.h"

/* Takes steps downwards from `end` while their rows fit; one step always does. */
static struct backward_chunk take_chunk(const struct backward_pass *const pass, const int64_t end,
                                        const int64_t offset) {
    struct backward_chunk chunk = {.begin = end, .end = end, .rows = 0, .offset = offset};
    chunk.accumulation = end == schedule_steps(pass->problem) ? pass->args->accumulation : FASTRNN_ADD;
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
        .H = problem->H,
        .NB = layout_blocks(problem->H, VL),
        .slots = pass->gradients + (N + row + begin) * VL,
        .slot = pass->gradient_slot,
        .block = pass->gradient_block,
        .dh = pass->dh,
        .dc = pass->dc,
        .state_row = pass->layout.state_row,
        .place = pass->place + row + begin,
        .place_prev = s > 0 ? pass->place + row + active + begin : NULL,
        .problem = problem,
        .first_sequence = begin,
        .dy = pass->args->dy,
        .y = pass->args->y,
        .h0 = pass->args->h0,
        .c0 = pass->args->c0,
        .reserve = pass->args->reserve,
        .reserve_row = pass->reserve_row,
        .saved_units = layout_saved_units(problem->H),
    };
}

/* dh of step s before its own dy: the carried part, plus the later step's slots through w_hh. Rows that end their
 * sequences have the final state's gradient alone, since there is no later step. */
static struct slot_product later_gradient(const struct backward_pass *const pass, const int64_t s, const int64_t row,
                                          const struct step_backward_job *const job, const bool ends) {
    const int64_t N = pass->all_sequences, begin = pass->sequences.begin;
    return (struct slot_product){
        .d = slots_from(pass, pass->cell->hidden_slot, 0),
        .d_row = row == 0 ? begin : N + row - schedule_active(pass->problem, s + 1) + begin,
        .w = &pass->w_hh,
        .start = ends || pass->cell->carries_dh ? pass->dh : NULL,
        .start_row = pass->layout.state_row,
        .multiplies = !ends,
        .finish = finish_backward,
        .job = job,
    };
}

/* The steps of a chunk, for the group's sequences. */
static void recur_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                        struct team_looks *const looks) {
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t continuing = active_in_group(pass->problem, s + 1, pass->sequences);
        const int64_t active = active_in_group(pass->problem, s, pass->sequences);
        const struct step_backward_job job = step_job(pass, s, row);
        const struct slot_product product = later_gradient(pass, s, row, &job, false);
        const struct slot_product ending = later_gradient(pass, s, row, &job, true);
        slot_product(&product, (struct team_range){0, continuing}, pass->blocks);
        slot_product(&ending, (struct team_range){continuing, active}, pass->blocks);
        row += schedule_active(pass->problem, s);
        if (step_wait(pass->me, looks)) {
            return;
        }
    }
    /* The chunk's last step moves to where the next chunk looks for the step after its own: to rows that belong to this
     * group whatever the number of active sequences, since another group may still be reading its own. */
    const int64_t active = active_in_group(pass->problem, chunk->begin, pass->sequences);
    const int64_t from = pass->all_sequences + row - schedule_active(pass->problem, chunk->begin);
    for (int64_t block = pass->blocks.begin; block < pass->blocks.end; block++) {
        for (int slot = 0; slot < pass->cell->slots; slot++) {
            real *const gradients = pass->gradients + block * pass->gradient_block + slot * pass->gradient_slot;
            memmove(gradients + pass->sequences.begin * VL, gradients + (from + pass->sequences.begin) * VL,
                    (size_t)(active * VL) * sizeof(real));
        }
    }
}

/* The group's sequences from the first to the last whose starting states' gradients are wanted: of many windows, a few.
 */
static struct team_range with_d_first(const struct backward_pass *const pass, const int64_t owned) {
    struct team_range rows = {0, owned};
    while (rows.begin < rows.end && schedule_d_first(pass->problem, pass->sequences.begin + rows.begin) < 0) {
        rows.begin++;
    }
    while (rows.begin < rows.end && schedule_d_first(pass->problem, pass->sequences.begin + rows.end - 1) < 0) {
        rows.end--;
    }
    return rows;
}

/* What reaches the initial states: dc is there already, dh takes one more product. */
static void finish_states(const struct backward_pass *const pass, const int64_t steps) {
    const int64_t owned = pass->sequences.end - pass->sequences.begin;
    if (steps > 0 && pass->args->dh0.data) {
        const struct step_backward_job job = step_job(pass, 0, 0);
        struct slot_product product = later_gradient(pass, 0, 0, &job, false);
        product.finish = finish_initial;
        slot_product(&product, with_d_first(pass, owned), pass->blocks);
    }
    for (int64_t i = 0; i < owned; i++) {
        const int64_t to = schedule_d_first(pass->problem, pass->sequences.begin + i);
        const int64_t state = i * pass->layout.state_row;
        store_state(pass->args->dh0, to, pass->blocks, pass->problem->H, pass->dh + state);
        store_state(pass->args->dc0, to, pass->blocks, pass->problem->H, pass->dc + state);
    }
}

static void find_weights(struct backward_pass *const pass, const struct layout_shape *const shape) {
    const struct layout_packed_backward layout = layout_packed_backward(shape);
    const struct fastrnn_backward_args *const args = pass->args;
    const real *const packed = args->packed ? aligned_const(args->packed) : NULL;
    pass->w_ih = (struct slot_weights){
        .packed = packed ? packed + layout.w_ih : NULL,
        .block = layout.w_block,
        .w = args->weights.w_ih,
        .N = pass->problem->I,
        .gate = pass->cell->slot_gate + pass->cell->input_slot,
    };
    pass->w_hh = (struct slot_weights){
        .packed = packed ? packed + layout.w_hh : NULL,
        .block = layout.w_block,
        .w = args->weights.w_hh,
        .N = pass->problem->H,
        .gate = pass->cell->slot_gate + pass->cell->hidden_slot,
    };
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
        .sequences = schedule_share(problem, shape->rows, me->group, me->groups),
        .blocks = team_share(layout_blocks(problem->H, VL), me->member, me->members),
        .layout = layout_backward_scratch(shape),
        .reserve_row = layout_reserve_row(shape),
    };
    find_weights(&pass, shape);
    real *const scratch = aligned(args->scratch);
    pass.dh = scratch + pass.layout.dh + pass.sequences.begin * pass.layout.state_row;
    pass.dc = scratch + pass.layout.dc + pass.sequences.begin * pass.layout.state_row;
    pass.gradients = scratch + pass.layout.gradients;
    pass.x = scratch + pass.layout.x;
    pass.h_prev = scratch + pass.layout.h_prev;
    pass.place = (struct layout_place *)(scratch + pass.layout.places);
    pass.gradient_slot = pass.layout.gradient_rows * VL;
    pass.gradient_block = cell->slots * pass.gradient_slot;
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
    const double work = team_work(problem, shape->gates, pass.sequences.end - pass.sequences.begin);
    struct team_looks looks = team_looks(problem->interrupted, work);
    int64_t offset = shape->rows;
    for (int64_t end = shape->steps; end > 0;) {
        const struct backward_chunk chunk = take_chunk(&pass, end, offset);
        place_chunk(&pass, &chunk);
        team_wait(me);
        recur_chunk(&pass, &chunk, &looks);
        if (!multiply_chunk(&pass, &chunk)) {
            return;
        }
        end = chunk.begin;
        offset -= chunk.rows;
    }
    finish_states(&pass, shape->steps);
}

#endif
