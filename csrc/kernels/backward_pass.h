/* The state of one member of the team during a backward pass, made once for the pass. */
#ifndef FASTRNN_BACKWARD_PASS_H
#define FASTRNN_BACKWARD_PASS_H

#include "program_backward.h"

/* Chunk row 0 is row `sequences` of the buffer of gate gradients. The rows before it hold the last step of the previous
 * chunk, in the order of the sequences. Places count from chunk row 0 and reach back one step beyond the chunk. */
struct backward_pass {
    const struct plan *plan;
    const struct fastrnn_arrays *arrays;
    const struct team_member *me;
    const struct cell_shape *cell;
    int64_t all_sequences;
    struct team_range share;             /* the group's equal share of the sequences */
    struct team_range sequences, blocks; /* sequences: the share, or a piece that the group has taken */
    struct slot_weights w_ih, w_hh;
    struct fastrnn_const_view y, h; /* after every step: h is y, or lies in the reserve */
    real *gradients, *x, *h_before;
    struct layout_place *place;
    ptrdiff_t gradient_slot, gradient_block;
    struct step_backward_job job;           /* the current step, for both products below */
    struct slot_product continuing, ending; /* rows that have a later step, rows that end their sequences */
    struct interpreter *phases;             /* of a program; else null */
};

/* A chunk of steps [begin, end), visited from the last to the first. */
struct backward_chunk {
    int64_t begin, end;
    int64_t rows;
    int64_t offset;                         /* offset of step `end` in the schedule */
    enum fastrnn_accumulation accumulation; /* first chunk: as the call asks; later chunks add */
};

static struct gradient_slots slots_from(const struct backward_pass *const pass, const int first_slot, const int slots,
                                        const int64_t first_row) {
    return (struct gradient_slots){
        .data = pass->gradients + first_slot * pass->gradient_slot + first_row * VL,
        .gates = slots,
        .block = pass->gradient_block,
        .slot = pass->gradient_slot,
    };
}

static void find_slot_weights(struct backward_pass *const pass) {
    const struct layout_packed_backward *const layout = &pass->plan->packed_backward;
    const struct layout_shape *const shape = &pass->plan->shape;
    const struct fastrnn_arrays *const arrays = pass->arrays;
    pass->w_ih = (struct slot_weights){
        .block = layout->w_ih_block,
        .rows = slot_rows(arrays->parameters[FASTRNN_W_IH], shape, shape->inputs),
        .gate = pass->cell->slot_gate + pass->cell->input_slot,
    };
    pass->w_hh = (struct slot_weights){
        .block = layout->w_hh_block,
        .rows = slot_rows(arrays->parameters[pass->plan->table->phases->parameter], shape, shape->units),
        .gate = pass->cell->slot_gate + pass->cell->hidden_slot,
    };
    if (arrays->packed) {
        const real *const packed = aligned_const(arrays->packed);
        pass->w_ih.packed = packed + layout->w_ih;
        pass->w_hh.packed = packed + layout->w_hh;
    }
}

static void find_backward_scratch(struct backward_pass *const pass) {
    const struct layout_backward_scratch *const layout = &pass->plan->backward_scratch;
    real *const scratch = aligned(pass->arrays->scratch);
    pass->gradients = scratch + layout->gradients;
    pass->x = scratch + layout->x;
    pass->h_before = scratch + layout->h_prev;
    pass->place = (struct layout_place *)(scratch + layout->places);
    pass->gradient_slot = layout->gradient_rows * VL;
    pass->gradient_block = (pass->cell->slots + pass->cell->vectors) * pass->gradient_slot;
}

/* Sets the pass to some sequences: those of the group, or a piece. */
static void backward_set_sequences(struct backward_pass *const pass, const struct team_range sequences) {
    const struct layout_backward_scratch *const layout = &pass->plan->backward_scratch;
    real *const scratch = aligned(pass->arrays->scratch);
    pass->sequences = sequences;
    pass->job.first_sequence = sequences.begin;
    for (int j = 0; j < pass->cell->states; j++) {
        pass->job.d_states[j] =
            scratch + layout->states + (size_t)j * layout->state + (size_t)(sequences.begin * layout->state_row);
    }
    if (pass->phases) {
        crossing_set_sequences(&pass->job.crossing, scratch, &layout->crossing, sequences.begin);
    }
    pass->continuing.start = pass->cell->carries_dh ? pass->job.d_states[0] : NULL;
    pass->ending.start = pass->job.d_states[0];
}

/* Sets y, and h: h is y, or, if the cell's output is not h, a saved vector of the reserve. */
static void find_outputs(struct backward_pass *const pass) {
    const struct fastrnn_view y = pass->arrays->y;
    pass->y = pass->h = (struct fastrnn_const_view){y.data, y.stride_t, y.stride_b};
    if (pass->cell->output != 0 && pass->cell->saved_state[0] != NONE) {
        const struct saved_rows *const saved = &pass->job.saved;
        const real *const h = saved->data ? saved->data + pass->cell->saved_state[0] * saved->units : NULL;
        pass->h = (struct fastrnn_const_view){h, saved->B * saved->row, saved->row};
    }
}

/* Sets the parts of the step's job and of both products that are constant for the pass. */
static void begin_backward_job(struct backward_pass *const pass) {
    const struct plan *const plan = pass->plan;
    const struct fastrnn_problem *const problem = &plan->problem;
    pass->job.cell = problem->cell;
    pass->job.units = plan->shape.units;
    pass->job.given = step_given(plan->table, pass->arrays);
    pass->job.slot = pass->gradient_slot;
    pass->job.block = pass->gradient_block;
    pass->job.state_row = plan->backward_scratch.state_row;
    pass->job.problem = problem;
    pass->job.table = plan->table;
    pass->job.dy = pass->arrays->dy;
    pass->job.initial = pass->arrays->initial;
    pass->job.saved = saved_rows(&plan->shape, pass->arrays->reserve);
    find_outputs(pass);
    pass->job.y = pass->y;
    pass->continuing = (struct slot_product){
        .d = slots_from(pass, pass->cell->hidden_slot, pass->cell->hidden_gates, 0),
        .w = &pass->w_hh,
        .start_row = pass->job.state_row,
        .multiplies = pass->cell->multiplies_h,
        .finish = pass->phases ? finish_backward_program : finish_backward,
        .finishes_together = pass->phases,
        .job = &pass->job,
    };
    pass->ending = pass->continuing;
    pass->ending.multiplies = false;
}

/* The gradient of the vector of second product `number`: the product of its slot. */
static void begin_product_gradient(struct backward_pass *const pass, const int number) {
    const struct layout_packed_backward *const layout = &pass->plan->packed_backward;
    const struct cell_product *const product = &pass->cell->product[number];
    if (product->backward_phase == 0) {
        return;
    }
    struct interpreter *const phase = &pass->phases[product->backward_phase];
    struct phase_product *const to = &phase->product;
    to->exists = true;
    to->interpreter = phase;
    to->slot_weights = pass->w_hh;
    to->slot_weights.block = layout->product_block;
    to->slot_weights.gate = pass->cell->slot_gate + product->slot;
    if (pass->arrays->packed) {
        const real *const packed = aligned_const(pass->arrays->packed);
        to->slot_weights.packed = packed + layout->products + (size_t)number * layout->product;
    }
    to->forward.finish = NULL;
    to->backward = (struct slot_product){
        .d = slots_from(pass, product->slot, 1, 0),
        .w = &to->slot_weights,
        .multiplies = true,
        .finish = finish_phase,
        .finishes_together = true,
        .job = to,
    };
}

static void begin_phases_of_backward(struct backward_pass *const pass) {
    const struct layout_backward_scratch *const layout = &pass->plan->backward_scratch;
    const void *const packed = pass->arrays->packed;
    const struct program_vectors vectors = {
        packed ? (const real *)aligned_const(packed) + pass->plan->packed_backward.vectors : NULL,
        pass->arrays->parameters,
    };
    pass->job.interpreter = pass->phases;
    real *const scratch = aligned(pass->arrays->scratch);
    real *const totals =
        scratch + layout->crossing.totals + (size_t)team_rank(pass->me) * layout->crossing.thread_totals;
    pass->job.crossing = crossing_of(&layout->crossing, &pass->plan->problem.program->backward, &pass->plan->shape,
                                     pass->me, layout->state_row, totals);
    for (int phase = 0; phase < pass->cell->backward.count; phase++) {
        begin_backward_program(&pass->phases[phase], phase, pass->cell, &pass->job, &vectors, pass->arrays->d_inputs);
    }
    for (int product = 0; product < pass->cell->products; product++) {
        begin_product_gradient(pass, product);
    }
}

/* The gradient of state j of the group's sequence i. */
static real *backward_state(const struct backward_pass *const pass, const int j, const int64_t i) {
    return pass->job.d_states[j] + i * pass->job.state_row;
}

static void load_final_gradients(const struct backward_pass *const pass) {
    for (int64_t i = 0; i < pass->sequences.end - pass->sequences.begin; i++) {
        const int64_t last = schedule_last(&pass->plan->problem, pass->sequences.begin + i);
        for (int j = 0; j < pass->cell->states; j++) {
            load_state(pass->arrays->d_final[j], last, 0, pass->blocks, pass->plan->shape.units,
                       backward_state(pass, j, i));
        }
    }
}

/* The caller owns `pass`, and must not move it. */
static void begin_backward(struct backward_pass *const pass, const struct plan *const plan,
                           const struct fastrnn_arrays *const arrays, const struct team_member *const me) {
    const struct fastrnn_problem *const problem = &plan->problem;
    *pass = (struct backward_pass){
        .plan = plan,
        .arrays = arrays,
        .me = me,
        .cell = &plan->cell,
        .all_sequences = plan->shape.sequences,
        .phases = problem->program ? phases_in(aligned(arrays->scratch), &plan->backward_scratch.crossing,
                                               plan->cell.backward.count, me)
                                   : NULL,
        .share = schedule_share(problem, plan->shape.rows, me->group, me->groups),
        .blocks = blocks_of_member(&plan->shape, me),
    };
    find_slot_weights(pass);
    find_backward_scratch(pass);
    begin_backward_job(pass);
    if (pass->phases) {
        begin_phases_of_backward(pass);
    }
    backward_set_sequences(pass, pass->share);
    load_final_gradients(pass);
}

#endif
