/* The backward loop over a schedule, for one member of the team.
 *
 *     for each chunk of steps, last first:
 *         for each step, last first:          the recurrent product    (tiles that end in the cell)
 *         multiply_chunk                      (dx, dw_ih, dw_hh, db over all rows of the chunk)
 *
 * Rows of a chunk lie in the order of visit, so every sum over rows runs from the last step to the first. A sequence
 * that is fed in pieces, last piece first, therefore has bitwise the gradients of the whole sequence.
 */
#ifndef FASTRNN_BACKWARD_H
#define FASTRNN_BACKWARD_H

#include "products.h"

/* Takes steps downwards from `end` while their rows fit the chunk, but at least one step. */
static struct backward_chunk backward_take_chunk(const struct backward_pass *const pass, const int64_t end,
                                                 const int64_t offset) {
    struct backward_chunk chunk = {.begin = end, .end = end, .offset = offset};
    chunk.accumulation = end == pass->plan->shape.steps ? pass->arrays->accumulation : FASTRNN_ADD;
    while (chunk.begin > 0) {
        const int64_t active = schedule_active(&pass->plan->problem, chunk.begin - 1);
        if (chunk.rows > 0 && chunk.rows + active > pass->plan->backward_scratch.chunk_rows) {
            break;
        }
        chunk.rows += active;
        chunk.begin--;
    }
    return chunk;
}

/* Each member fills its share of the places of the chunk and of the step before the chunk. */
static void backward_stage_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    int64_t row = 0, offset = chunk->offset;
    for (int64_t s = chunk->end - 1; s >= chunk->begin - 1 && s >= 0; s--) {
        const int64_t active = schedule_active(problem, s);
        offset -= active;
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        for (int64_t i = mine.begin; i < mine.end; i++) {
            pass->place[row + i] = schedule_place(problem, offset, s, i);
        }
        row += active;
    }
}

/* Sets the job to step s. `row` is the chunk row of the step's first sequence, not of the group's. The slots of the
 * later step lie before `row`; for the chunk's last step, they lie where the previous chunk left them. */
static void backward_job_at(struct backward_pass *const pass, const int64_t s, const int64_t row) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const int64_t N = pass->all_sequences, begin = pass->sequences.begin;
    pass->job.slots = pass->gradients + (N + row + begin) * VL;
    pass->job.place = pass->place + row + begin;
    pass->job.place_before = s > 0 ? pass->job.place + schedule_active(problem, s) : NULL;
    pass->continuing.d_row = row == 0 ? begin : N + row - schedule_active(problem, s + 1) + begin;
    for (int phase = 1; pass->phases && phase < pass->cell->backward.count; phase++) {
        pass->phases[phase].product.backward.d_row = N + row + begin;
    }
}

/* dh of step s, before dy is added, is the carried part plus the later step's slots times w_hh. In rows that end their
 * sequences, dh is the gradient of the final state. */
static void backward_step(struct backward_pass *const pass, const int64_t s, const int64_t row) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const int64_t continuing = active_in_group(problem, s + 1, pass->sequences);
    const int64_t active = active_in_group(problem, s, pass->sequences);
    backward_job_at(pass, s, row);
    if (pass->phases) {
        begin_step_of_phases(pass->phases, pass->cell->backward.count, active);
    }
    slot_product(&pass->continuing, (struct team_range){0, continuing}, pass->blocks);
    slot_product(&pass->ending, (struct team_range){continuing, active}, pass->blocks);
    if (pass->phases) {
        run_later_phases(pass->phases, &pass->job.crossing, pass->me, pass->blocks, active);
    }
}

/* Copies the chunk's last step to the rows where the next chunk reads its later step. These rows belong to this group
 * for any number of active sequences, since another group may still be reading its own rows. */
static void keep_slots_of_step(const struct backward_pass *const pass, const int64_t s, const int64_t row) {
    const int64_t active = active_in_group(&pass->plan->problem, s, pass->sequences), begin = pass->sequences.begin;
    const int64_t from = pass->all_sequences + row;
    for (int64_t block = pass->blocks.begin; block < pass->blocks.end; block++) {
        for (int slot = 0; slot < pass->cell->slots; slot++) {
            real *const gradients = pass->gradients + block * pass->gradient_block + slot * pass->gradient_slot;
            memmove(gradients + begin * VL, gradients + (from + begin) * VL, (size_t)(active * VL) * sizeof(real));
        }
    }
}

/* Runs the steps of a chunk for the current sequences. Returns false if the call was interrupted. */
static bool backward_recur_sequences(struct backward_pass *const pass, const struct backward_chunk *const chunk,
                                     struct team_looks *const looks) {
    const bool waits = members_wait(&pass->plan->shape, &pass->cell->backward, pass->me);
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        backward_step(pass, s, row);
        row += schedule_active(&pass->plan->problem, s);
        if (waits ? step_wait(pass->me, looks) : step_pass(pass->me, looks)) {
            return false;
        }
    }
    keep_slots_of_step(pass, chunk->begin, row - schedule_active(&pass->plan->problem, chunk->begin));
    return true;
}

/* Runs the steps of a chunk for the group's share of the sequences, or for the pieces that it takes. Every chunk is cut
 * into the same pieces. */
static void backward_recur_chunk(struct backward_pass *const pass, const struct backward_chunk *const chunk,
                                 struct team_looks *const looks) {
    const struct plan *const plan = pass->plan;
    if (!pass->me->taken || pass->me->members > 1) {
        backward_recur_sequences(pass, chunk, looks);
        return;
    }
    struct team_range sequences;
    while (schedule_piece(&plan->problem, plan->shape.rows, pass->me->groups, CUT_PIECE_SEQUENCES,
                          team_take(pass->me, TEAM_SEQUENCES), &sequences)) {
        backward_set_sequences(pass, sequences);
        if (!backward_recur_sequences(pass, chunk, looks)) {
            break;
        }
    }
    backward_set_sequences(pass, pass->share);
}

/* The range of the group's sequences from the first to the last that needs gradients of its starting states. With many
 * windows the range is short. */
static struct team_range with_d_first(const struct backward_pass *const pass, const int64_t owned) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    struct team_range rows = {0, owned};
    while (rows.begin < rows.end && schedule_d_first(problem, pass->sequences.begin + rows.begin) < 0) {
        rows.begin++;
    }
    while (rows.begin < rows.end && schedule_d_first(problem, pass->sequences.begin + rows.end - 1) < 0) {
        rows.end--;
    }
    return rows;
}

/* Writes the gradients of the initial states. The gradient of h needs one more product; the others are complete. */
static void finish_states(struct backward_pass *const pass) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const int64_t owned = pass->sequences.end - pass->sequences.begin;
    if (pass->plan->shape.steps > 0 && pass->arrays->d_initial[0].data) {
        backward_job_at(pass, 0, 0);
        pass->continuing.finish = finish_initial;
        slot_product(&pass->continuing, with_d_first(pass, owned), pass->blocks);
    }
    for (int64_t i = 0; i < owned; i++) {
        const int64_t to = schedule_d_first(problem, pass->sequences.begin + i);
        for (int j = 0; j < pass->cell->states; j++) {
            store_state(pass->arrays->d_initial[j], to, pass->blocks, pass->plan->shape.units,
                        backward_state(pass, j, i));
        }
    }
}

static void run_backward(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                         const struct team_member *const me) {
    struct backward_pass pass;
    begin_backward(&pass, plan, arrays, me);
    const double work = cut_work(&plan->shape, pass.sequences.end - pass.sequences.begin);
    struct team_looks looks = team_looks(plan->problem.interrupted, work);
    int64_t offset = plan->shape.rows;
    for (int64_t end = plan->shape.steps; end > 0;) {
        const struct backward_chunk chunk = backward_take_chunk(&pass, end, offset);
        backward_stage_chunk(&pass, &chunk);
        team_wait(me);
        team_restart(me, TEAM_DX);
        team_restart(me, TEAM_DW_INPUT);
        team_restart(me, TEAM_DW_STATE);
        backward_recur_chunk(&pass, &chunk, &looks);
        if (!backward_multiply_chunk(&pass, &chunk)) {
            return;
        }
        end = chunk.begin;
        offset -= chunk.rows;
    }
    finish_states(&pass);
}

#endif
