/* The forward loop over a schedule, for one member of the team.
 *
 *     for each chunk of steps:    gather x, project it    (all rows of the chunk: one product)
 *         for each step:          unit_product            (tiles that end in the cell)
 *
 * A group of the team owns a range of sequences, a member a range of unit blocks. h and c of the group's sequences
 * stay in scratch; h is double-buffered, since every tile reads all of h_prev.
 */
#ifndef FASTRNN_SEQUENCE_FORWARD_H
#define FASTRNN_SEQUENCE_FORWARD_H

#include "step.h"

/* Everything that one member's forward pass keeps. */
struct forward_pass {
    const struct fastrnn_problem *problem;
    const struct fastrnn_forward_args *args;
    const struct team_member *me;
    struct team_range sequences, blocks;
    struct layout_forward_scratch layout;
    struct unit_weights w_ih, w_hh;
    real *h[2], *c, *x, *gates; /* of this group */
    struct layout_place *place;
    int64_t reserve_row;
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

static void project_chunk(const struct forward_pass *const pass, const int64_t rows) {
    const struct cell *const cell = cell_of(pass->problem->cell);
    const struct unit_product product = {
        .G = cell->gates,
        .apart = NO_GATE,
        .start_apart = cell->apart,
        .a = pass->x,
        .a_row = pass->layout.x_row,
        .w = &pass->w_ih,
        .start = pass->w_ih.b_x,
        .to = pass->gates,
        .to_row = pass->layout.gates_row,
    };
    unit_product(&product, (struct team_range){0, rows}, pass->blocks);
}

/* What a step of the group is made of; step_at fills in the rest. */
struct forward_step {
    struct step_forward_job job;
    struct unit_product product;
};

static struct forward_step begin_step(const struct forward_pass *const pass) {
    const struct fastrnn_problem *const problem = pass->problem;
    const struct cell *const cell = cell_of(problem->cell);
    return (struct forward_step){
        .job =
            {
                .cell = problem->cell,
                .H = problem->H,
                .NB = layout_blocks(problem->H, VL),
                .B = problem->B,
                .c = pass->c,
                .gates_row = pass->layout.gates_row,
                .state_row = pass->layout.state_row,
                .y = pass->args->y,
                .c_rows = pass->args->c,
                .reserve = pass->args->reserve,
                .reserve_row = pass->reserve_row,
                .saved_units = layout_saved_units(problem->H),
            },
        .product =
            {
                .G = cell->gates,
                .apart = cell->apart,
                .a_row = pass->layout.state_row,
                .w = &pass->w_hh,
                .start_row = pass->layout.gates_row,
                .finish = finish_forward,
            },
    };
}

/* Fills in a step: `row` is its first row in the chunk. The step reads h[parity] and writes h[parity ^ 1]. */
static void step_at(struct forward_step *const step, const struct forward_pass *const pass, const int64_t row,
                    const int64_t parity) {
    step->job.gates = step->product.start = pass->gates + row * pass->layout.gates_row;
    step->job.h_prev = step->product.a = pass->h[parity];
    step->job.h = pass->h[parity ^ 1];
    step->job.place = pass->place + row;
    step->product.job = &step->job;
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

static void find_unit_weights(struct forward_pass *const pass, const struct layout_shape *const shape) {
    const struct layout_packed_forward layout = layout_packed_forward(shape);
    const struct fastrnn_weights *const weights = &pass->args->weights;
    const struct fastrnn_weight_copies none = {NULL, NULL};
    const struct fastrnn_weight_copies copies = pass->me->group == 0 ? pass->args->copies : none; /* one is enough */
    const int64_t H = pass->problem->H;
    pass->w_ih = (struct unit_weights){.rows = {weights->w_ih, H, pass->problem->I, copies.w_ih}};
    pass->w_hh = (struct unit_weights){.rows = {weights->w_hh, H, H, copies.w_hh}};
    if (pass->args->packed) {
        const real *const packed = aligned_const(pass->args->packed);
        const real *const b_x = packed + layout.b_x, *const b_apart = packed + layout.b_apart;
        pass->w_ih.packed = packed + layout.w_ih;
        pass->w_ih.block = layout.w_ih_block;
        pass->w_hh.packed = packed + layout.w_hh;
        pass->w_hh.block = layout.w_hh_block;
        pass->w_ih.b_x = pass->w_hh.b_x = b_x;
        pass->w_ih.b_apart = pass->w_hh.b_apart = b_apart;
        return;
    }
    pass->w_ih.b_ih = pass->w_hh.b_ih = weights->b_ih;
    pass->w_ih.b_hh = pass->w_hh.b_hh = weights->b_hh;
}

static struct forward_pass begin_forward(const struct layout_shape *const shape,
                                         const struct fastrnn_problem *const problem,
                                         const struct fastrnn_forward_args *const args,
                                         const struct team_member *const me) {
    struct forward_pass pass = {
        .problem = problem,
        .args = args,
        .me = me,
        .sequences = schedule_share(problem, shape->rows, me->group, me->groups),
        .blocks = team_share(layout_blocks(problem->H, VL), me->member, me->members),
        .layout = layout_forward_scratch(shape, me->groups),
        .reserve_row = layout_reserve_row(shape),
    };
    find_unit_weights(&pass, shape);
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
    const int64_t owned = pass.sequences.end - pass.sequences.begin;
    struct forward_step step = begin_step(&pass);
    struct team_looks looks = team_looks(problem->interrupted, team_work(problem, shape->gates, owned));
    int64_t offset = 0, parity = 0;
    if (shape->steps == 0) {
        finish_sequences(&pass, pass.h[0], 0, owned);
    }
    for (int64_t s = 0; s < shape->steps;) {
        int64_t rows, row = 0;
        const int64_t chunk_end = stage_chunk(&pass, s, offset, &rows);
        group_wait(me);
        project_chunk(&pass, rows);
        for (; s < chunk_end; s++) {
            const int64_t active = active_in_group(problem, s, pass.sequences);
            step_at(&step, &pass, row, parity);
            unit_product(&step.product, (struct team_range){0, active}, pass.blocks);
            parity ^= 1;
            finish_sequences(&pass, pass.h[parity], active_in_group(problem, s + 1, pass.sequences), active);
            row += active;
            offset += schedule_active(problem, s);
            if (step_wait(me, &looks)) {
                return;
            }
        }
    }
}

#endif
