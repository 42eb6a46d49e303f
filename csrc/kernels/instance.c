/* The kernels of one instruction set and one real type: compiled once for each, with FASTRNN_REAL_BITS and
 * FASTRNN_BACKEND_SYMBOL given by the build and the instruction set by the compiler's flags. */
#include "../backend.h"
#include "../threads/cut.h"

#include "backward.h"
#include "forward.h"

static struct layout_shape shape_of(const struct fastrnn_problem *const problem) {
    const struct cell *const cell = cell_of(problem->cell);
    struct layout_shape shape = {
        .gates = cell->gates,
        .states = cell->states,
        .saved = cell->saved,
        .slots = cell->slots,
        .apart = cell->apart != 0,
        .vl = VL,
        .real_bytes = sizeof(real),
        .T = problem->T,
        .B = problem->B,
        .I = problem->I,
        .H = problem->H,
        .steps = schedule_steps(problem),
        .sequences = schedule_sequences(problem),
    };
    schedule_rows(problem, &shape.rows); /* check.c has refused an overflow */
    return shape;
}

static size_t larger(const size_t a, const size_t b) { return a > b ? a : b; }

static enum fastrnn_status lay_out(struct plan *const plan) {
    const struct layout_shape shape = plan->shape = shape_of(&plan->problem);
    plan->packed_forward = layout_packed_forward(&shape);
    plan->packed_backward = layout_packed_backward(&shape);
    const int groups = cut_groups_max(&shape, plan->problem.cut, plan->problem.threads);
    plan->forward_scratch = layout_forward_scratch(&shape, groups);
    plan->backward_scratch = layout_backward_scratch(&shape);
    const size_t marks = layout_marks_bytes(&plan->problem);
    bool overflowed;
    const size_t reserve = layout_reserve_bytes(&shape, &overflowed);
    overflowed |= plan->packed_forward.overflowed | plan->packed_backward.overflowed |
                  plan->forward_scratch.overflowed | plan->backward_scratch.overflowed |
                  (marks > (size_t)PTRDIFF_MAX / 4);
    plan->sizes = (struct fastrnn_sizes){
        .packed_forward = plan->packed_forward.bytes,
        .packed_backward = plan->packed_backward.bytes,
        .reserve = reserve,
        .reserve_row = (size_t)layout_reserve_row(&shape) * sizeof(real),
        .scratch_forward = larger(plan->forward_scratch.bytes, marks),
        .scratch_backward = larger(plan->backward_scratch.bytes, marks),
    };
    return overflowed ? FASTRNN_TOO_LARGE : FASTRNN_OK;
}

static void pack_forward(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                         const struct team_member *const me) {
    const struct layout_packed_forward *const layout = &plan->packed_forward;
    const struct cell *const cell = cell_of(plan->problem.cell);
    const int64_t I = plan->problem.I, H = plan->problem.H;
    const void *const *const parameters = arrays->parameters;
    real *const to = aligned(arrays->packed);
    const struct unit_rows w_ih = {parameters[FASTRNN_W_IH], H, I, NULL};
    const struct unit_rows w_hh = {parameters[FASTRNN_W_HH], H, H, NULL};
    struct team_parts parts = team_parts(me, TEAM_PACK_STATE, layout_blocks(H, VL), CUT_PIECE_BLOCKS);
    struct team_range units;
    while (team_next(&parts, &units)) {
        pack_units(cell->gates, &w_ih, to + layout->w_ih, layout->of_input, units);
        pack_units(cell->gates, &w_hh, to + layout->w_hh, layout->of_state, units);
        pack_biases(cell, H, parameters[FASTRNN_B_IH], parameters[FASTRNN_B_HH], to + layout->b_x, to + layout->b_apart,
                    units);
    }
}

static void pack_backward(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                          const struct team_member *const me) {
    const struct layout_packed_backward *const layout = &plan->packed_backward;
    const struct cell *const cell = cell_of(plan->problem.cell);
    const int64_t I = plan->problem.I, H = plan->problem.H;
    real *const to = aligned(arrays->packed);
    struct team_parts inputs = team_parts(me, TEAM_PACK_INPUT, layout_blocks(I, VL), CUT_PIECE_BLOCKS_TRANSPOSED);
    struct team_parts states = team_parts(me, TEAM_PACK_STATE, layout_blocks(H, VL), CUT_PIECE_BLOCKS_TRANSPOSED);
    struct team_range blocks;
    while (team_next(&inputs, &blocks)) {
        pack_transpose(cell, cell->input_slot, H, I, arrays->parameters[FASTRNN_W_IH], to + layout->w_ih,
                       layout->w_block, blocks);
    }
    while (team_next(&states, &blocks)) {
        pack_transpose(cell, cell->hidden_slot, H, H, arrays->parameters[FASTRNN_W_HH], to + layout->w_hh,
                       layout->w_block, blocks);
    }
}

static void activate(const enum fastrnn_activation activation, const int64_t n, const void *const x, void *const y) {
    for (int64_t j = 0; j < n; j += VL) {
        const int lanes = n - j < VL ? (int)(n - j) : VL;
        const vreal v = vload_n((const real *)x + j, lanes);
        vstore_n((real *)y + j, activation == FASTRNN_TANH ? vtanh(v) : vsigmoid(v), lanes);
    }
}

const struct backend FASTRNN_BACKEND_SYMBOL = {
    .needs = CPU_FEATURES_OF_THIS_BUILD,
    .vector_length = VL,
    .has_fma = FASTRNN_HAS_FMA,
    .lay_out = lay_out,
    .passes =
        {
            [FASTRNN_PACK_FORWARD] = pack_forward,
            [FASTRNN_PACK_BACKWARD] = pack_backward,
            [FASTRNN_FORWARD] = run_forward,
            [FASTRNN_BACKWARD] = run_backward,
        },
    .activate = activate,
};
