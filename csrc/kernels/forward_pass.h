/* The state of one member of the team during a forward pass, made once for the pass. */
#ifndef FASTRNN_FORWARD_PASS_H
#define FASTRNN_FORWARD_PASS_H

#include "program_forward.h"

/* A group of the team owns a range of sequences, and a member owns a range of unit blocks. All states of the group's
 * sequences are in scratch. h has two buffers, since every tile of a step reads all of the previous h. */
struct forward_pass {
    const struct plan *plan;
    const struct fastrnn_arrays *arrays;
    const struct team_member *me;
    const struct cell_shape *cell;
    bool by_pieces; /* `sequences` is a piece that the group has taken */
    struct team_range sequences, blocks;
    struct unit_weights w_ih, w_hh;
    real *h[2], *x, *gates; /* this group's rows */
    struct layout_place *place;
    struct unit_product projection, recurrence;
    struct step_forward_job job; /* the current step */
    struct interpreter *phases;  /* of a program; else null */
};

/* A chunk of steps [begin, end): their offsets in the schedule, and the group's number of rows. */
struct forward_chunk {
    int64_t begin, end, rows, offset, offset_end;
};

/* Gives unpacked weights the room of this thread, with the biases of its blocks. */
static void find_room(struct forward_pass *const pass) {
    const struct layout_forward_scratch *const layout = &pass->plan->forward_scratch;
    real *const room = aligned(pass->arrays->scratch) + layout->rooms + (size_t)team_rank(pass->me) * layout->room;
    struct unit_weights *const weights[] = {&pass->w_ih, &pass->w_hh};
    for (size_t j = 0; j < sizeof weights / sizeof *weights; j++) {
        weights[j]->room = room + layout->room_weights;
        weights[j]->room_blocks = layout->room_blocks;
        weights[j]->b_x = room;
        weights[j]->b_apart = room + layout->room_b_apart;
    }
    pack_biases(pass->cell, pass->plan->shape.units, pass->arrays->parameters[FASTRNN_B_IH],
                pass->arrays->parameters[FASTRNN_B_HH], room, room + layout->room_b_apart, pass->blocks);
}

static void find_unit_weights(struct forward_pass *const pass) {
    const struct layout_packed_forward *const layout = &pass->plan->packed_forward;
    const struct fastrnn_arrays *const arrays = pass->arrays;
    const struct layout_shape *const shape = &pass->plan->shape;
    const int recurrent = pass->plan->table->phases->parameter;
    pass->w_ih = (struct unit_weights){
        .at = layout->of_input,
        .rows = {arrays->parameters[FASTRNN_W_IH], shape->projected},
        .b_ih = arrays->parameters[FASTRNN_B_IH],
        .b_hh = arrays->parameters[FASTRNN_B_HH],
    };
    pass->w_hh = pass->w_ih;
    pass->w_hh.at = layout->of_state;
    pass->w_hh.rows = (struct unit_rows){arrays->parameters[recurrent], shape->units};
    if (arrays->packed) {
        const real *const packed = aligned_const(arrays->packed);
        pass->w_ih.packed = packed + layout->w_ih;
        pass->w_hh.packed = packed + layout->w_hh;
        pass->w_ih.b_x = pass->w_hh.b_x = packed + layout->b_x;
        pass->w_ih.b_apart = pass->w_hh.b_apart = packed + layout->b_apart;
    } else if (pass->plan->shape.rows > UNPACKED_ROWS) {
        find_room(pass);
    }
}

static void find_forward_scratch(struct forward_pass *const pass) {
    const struct layout_forward_scratch *const layout = &pass->plan->forward_scratch;
    real *const scratch = aligned(pass->arrays->scratch);
    const int64_t first_state = pass->sequences.begin * layout->state_row;
    /* A group that takes pieces has at most chunk_rows sequences; an equal share may have more. */
    const int64_t first_row = (pass->by_pieces ? 0 : pass->sequences.begin) + pass->me->group * layout->chunk_rows;
    pass->h[0] = scratch + layout->h[0] + first_state;
    pass->h[1] = scratch + layout->h[1] + first_state;
    pass->x = scratch + layout->x + first_row * layout->x_row;
    pass->gates = scratch + layout->gates + first_row * layout->gates_row;
    pass->place = (struct layout_place *)(scratch + layout->places) + first_row;
    for (int j = 1; j < pass->cell->states; j++) {
        pass->job.carried[j] = scratch + layout->states + (size_t)(j - 1) * layout->state + first_state;
    }
}

/* Sets the parts of the step's job and of both products that are constant for the pass. */
static void begin_forward_job(struct forward_pass *const pass) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const struct layout_shape *const shape = &pass->plan->shape;
    const struct layout_forward_scratch *const layout = &pass->plan->forward_scratch;
    pass->job.cell = problem->cell;
    pass->job.units = shape->units;
    pass->job.given = step_given(pass->plan->table, pass->arrays);
    pass->job.gates_row = layout->gates_row;
    pass->job.state_row = layout->state_row;
    pass->job.y = pass->arrays->y;
    pass->job.states = pass->arrays->states;
    pass->job.saved = saved_rows(shape, pass->arrays->reserve);
    pass->projection = (struct unit_product){
        .G = pass->cell->gates,
        .start_apart = pass->cell->apart,
        .a = pass->x,
        .a_row = layout->x_row,
        .w = &pass->w_ih,
        .start = pass->w_ih.b_x,
        .to = pass->gates,
        .to_row = layout->gates_row,
    };
    pass->recurrence = (struct unit_product){
        .G = pass->cell->gates,
        .apart = pass->cell->apart,
        .skipped = cell_product_gates(pass->cell),
        .a_row = layout->state_row,
        .w = &pass->w_hh,
        .start_row = layout->gates_row,
        .finish = pass->phases ? finish_forward_program : finish_forward,
        .finishes_together = pass->phases,
        .job = &pass->job,
    };
}

/* Sets up second product `number`. It runs like the product of a cell with one gate: the rows of its gate in w_hh. */
static void begin_second_product(struct forward_pass *const pass, const int number) {
    const struct cell_product *const product = &pass->cell->product[number];
    struct interpreter *const phase = &pass->phases[product->forward_phase];
    struct phase_product *const to = &phase->product;
    const struct blocks units = pass->plan->shape.units;
    struct unit_weights *const w = &to->unit_weights;
    *w = pass->w_hh;
    if (w->packed) {
        w->packed += product->gate * w->at.gate;
    } else {
        w->at.block = w->at.gate; /* in the room */
        w->room_blocks *= pass->cell->gates;
        w->rows.w += product->gate * units.n * units.K;
    }
    w->b_hh = w->b_hh ? w->b_hh + product->gate * units.n : NULL;
    w->b_apart = w->b_apart ? w->b_apart + product_biases(pass->cell, units, number) : NULL;
    to->exists = true;
    to->interpreter = phase;
    to->forward = (struct unit_product){
        .G = 1,
        .apart = 1,
        .a_row = pass->job.state_row,
        .a = pass->job.crossing.kept + product->kept * pass->job.crossing.kept_vector,
        .w = w,
        .finish = finish_phase,
        .finishes_together = true,
        .job = to,
    };
}

static void begin_phases_of_forward(struct forward_pass *const pass) {
    const struct layout_forward_scratch *const layout = &pass->plan->forward_scratch;
    const void *const packed = pass->arrays->packed;
    const struct program_vectors vectors = {
        packed ? (const real *)aligned_const(packed) + pass->plan->packed_forward.vectors : NULL,
        pass->arrays->parameters,
    };
    pass->job.interpreter = pass->phases;
    real *const scratch = aligned(pass->arrays->scratch);
    real *const totals =
        scratch + layout->crossing.totals + (size_t)team_rank(pass->me) * layout->crossing.thread_totals;
    pass->job.crossing = crossing_of(&layout->crossing, &pass->plan->problem.program->forward, &pass->plan->shape,
                                     pass->me, layout->state_row, totals);
    crossing_set_sequences(&pass->job.crossing, scratch, &layout->crossing, pass->sequences.begin);
    for (int phase = 0; phase < pass->cell->forward.count; phase++) {
        begin_forward_program(&pass->phases[phase], phase, pass->cell, &pass->job, &vectors);
    }
    for (int product = 0; product < pass->cell->products; product++) {
        begin_second_product(pass, product);
    }
}

/* The address of state j of the group's sequence i. */
static real *forward_state(const struct forward_pass *const pass, real *const h, const int j, const int64_t i) {
    return (j == 0 ? h : pass->job.carried[j]) + i * pass->plan->forward_scratch.state_row;
}

static void load_initial_states(const struct forward_pass *const pass) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    for (int64_t i = 0; i < pass->sequences.end - pass->sequences.begin; i++) {
        const int64_t first = schedule_first(problem, pass->sequences.begin + i);
        for (int j = 0; j < pass->cell->states; j++) {
            load_state(pass->arrays->initial[j], first, (real)pass->plan->table->states[j].start, pass->blocks,
                       pass->plan->shape.units, forward_state(pass, pass->h[0], j, i));
        }
    }
}

/* Whether groups take pieces of the sequences: each group is one thread, and every piece fits its buffers. Small pieces
 * would read unpacked weights too often. */
static inline bool forward_takes_pieces(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                                        const struct team_member *const me) {
    return me->taken && me->members == 1 && arrays->packed && plan->shape.sequences <= plan->forward_scratch.chunk_rows;
}

/* sequences: an equal share, or a piece. The caller owns `pass`, and must not move it. */
static void begin_forward(struct forward_pass *const pass, const struct plan *const plan,
                          const struct fastrnn_arrays *const arrays, const struct team_member *const me,
                          const struct team_range sequences) {
    *pass = (struct forward_pass){
        .plan = plan,
        .arrays = arrays,
        .me = me,
        .cell = &plan->cell,
        .by_pieces = forward_takes_pieces(plan, arrays, me),
        .sequences = sequences,
        .phases = plan->problem.program ? phases_in(aligned(arrays->scratch), &plan->forward_scratch.crossing,
                                                    plan->cell.forward.count, me)
                                        : NULL,
        .blocks = blocks_of_member(&plan->shape, me),
    };
    find_unit_weights(pass);
    find_forward_scratch(pass);
    begin_forward_job(pass);
    if (pass->phases) {
        begin_phases_of_forward(pass);
    }
    load_initial_states(pass);
}

#endif
