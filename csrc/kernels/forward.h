/* The forward loop over a schedule, for one member of the team.
 *
 *     for each chunk of steps:    gather x, project it    (all rows of the chunk: one product)
 *         for each step:          the recurrent product   (tiles that end in the cell)
 */
#ifndef FASTRNN_FORWARD_H
#define FASTRNN_FORWARD_H

#include "../threads/cut.h"
#include "forward_pass.h"

/* Takes steps from `begin` on while their rows fit the chunk, but at least one step. */
static struct forward_chunk forward_take_chunk(const struct forward_pass *const pass, const int64_t begin,
                                               const int64_t offset) {
    struct forward_chunk chunk = {.begin = begin, .end = begin, .offset = offset, .offset_end = offset};
    for (; chunk.end < pass->plan->shape.steps; chunk.end++) {
        const int64_t active = active_in_group(&pass->plan->problem, chunk.end, pass->sequences);
        if (chunk.end > begin && chunk.rows + active > pass->plan->forward_scratch.chunk_rows) {
            break;
        }
        chunk.rows += active;
        chunk.offset_end += schedule_active(&pass->plan->problem, chunk.end);
    }
    return chunk;
}

/* Each member fills the places of its share of each step's rows, and gathers x from them. */
static void forward_stage_chunk(const struct forward_pass *const pass, const struct forward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const int64_t x_row = pass->plan->forward_scratch.x_row;
    int64_t row = 0, offset = chunk->offset;
    for (int64_t s = chunk->begin; s < chunk->end; s++) {
        const int64_t active = active_in_group(problem, s, pass->sequences);
        const struct team_range mine = team_share(active, pass->me->member, pass->me->members);
        for (int64_t i = mine.begin; i < mine.end; i++) {
            pass->place[row + i] = schedule_place(problem, offset, s, pass->sequences.begin + i);
        }
        gather_rows(pass->arrays->x, pass->place + row, mine, pass->plan->shape.inputs, pass->x + row * x_row, x_row);
        row += active;
        offset += schedule_active(problem, s);
    }
}

static void forward_project_chunk(const struct forward_pass *const pass, const struct forward_chunk *const chunk) {
    unit_product(&pass->projection, (struct team_range){0, chunk->rows}, pass->blocks);
}

/* Copies the states of the group's sequences [from, to), which have ended, to the user's arrays. */
static void finish_sequences(const struct forward_pass *const pass, real *const h, const int64_t from,
                             const int64_t to) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    for (int64_t i = from; i < to; i++) {
        const int64_t last = schedule_last(problem, pass->sequences.begin + i);
        for (int j = 0; j < pass->cell->states; j++) {
            store_state(pass->arrays->final[j], last, pass->blocks, pass->plan->shape.units,
                        forward_state(pass, h, j, i));
        }
    }
}

/* Runs step s. `row` is the chunk row of its first sequence. Reads h[s % 2] and writes the other buffer. */
static void forward_step(struct forward_pass *const pass, const int64_t s, const int64_t row, const int64_t active) {
    pass->job.gates = pass->gates + row * pass->job.gates_row;
    pass->recurrence.start = pass->job.gates;
    pass->job.h_before = pass->h[s & 1];
    pass->recurrence.a = pass->job.h_before;
    pass->job.h = pass->h[~s & 1];
    pass->job.place = pass->place + row;
    if (pass->phases) {
        begin_step_of_phases(pass->phases, pass->cell->forward.count, active);
    }
    if (pass->cell->multiplies_h) {
        unit_product(&pass->recurrence, (struct team_range){0, active}, pass->blocks);
    } else {
        run_first_phase(pass->phases, &pass->job, active, pass->blocks);
    }
    if (pass->phases) {
        run_later_phases(pass->phases, &pass->job.crossing, pass->me, pass->blocks, active);
    }
}

/* Returns false if the call was interrupted. */
static bool forward_recur_chunk(struct forward_pass *const pass, const struct forward_chunk *const chunk,
                                struct team_looks *const looks) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const bool waits = members_wait(&pass->plan->shape, &pass->cell->forward, pass->me);
    int64_t row = 0;
    for (int64_t s = chunk->begin; s < chunk->end; s++) {
        const int64_t active = active_in_group(problem, s, pass->sequences);
        forward_step(pass, s, row, active);
        finish_sequences(pass, pass->h[~s & 1], active_in_group(problem, s + 1, pass->sequences), active);
        row += active;
        if (waits ? step_wait(pass->me, looks) : step_pass(pass->me, looks)) {
            return false;
        }
    }
    return true;
}

/* Runs all steps of some sequences. Returns false if the call was interrupted. */
static bool forward_sequences(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                              const struct team_member *const me, const struct team_range sequences,
                              struct team_looks *const looks) {
    struct forward_pass pass;
    begin_forward(&pass, plan, arrays, me, sequences);
    if (plan->shape.steps == 0) {
        finish_sequences(&pass, pass.h[0], 0, sequences.end - sequences.begin);
    }
    int64_t offset = 0;
    for (int64_t s = 0; s < plan->shape.steps;) {
        const struct forward_chunk chunk = forward_take_chunk(&pass, s, offset);
        if (!members_wait(&plan->shape, &pass.cell->forward, me)) {
            group_wait(me); /* all members have ended the chunk before */
        }
        forward_stage_chunk(&pass, &chunk);
        group_wait(me);
        forward_project_chunk(&pass, &chunk);
        if (!forward_recur_chunk(&pass, &chunk, looks)) {
            return false;
        }
        s = chunk.end;
        offset = chunk.offset_end;
    }
    return true;
}

static void run_forward(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                        const struct team_member *const me) {
    const struct fastrnn_problem *const problem = &plan->problem;
    struct team_range sequences = schedule_share(problem, plan->shape.rows, me->group, me->groups);
    const double work = cut_work(&plan->shape, sequences.end - sequences.begin);
    struct team_looks looks = team_looks(problem->interrupted, work);
    if (!forward_takes_pieces(plan, arrays, me)) {
        forward_sequences(plan, arrays, me, sequences, &looks);
        return;
    }
    while (schedule_piece(problem, plan->shape.rows, me->groups, CUT_PIECE_SEQUENCES, team_take(me, TEAM_SEQUENCES),
                          &sequences) &&
           forward_sequences(plan, arrays, me, sequences, &looks)) {
    }
}

#endif
