/* The kernels of one instruction set and one real type: compiled once for each, with FASTRNN_REAL_BITS and
 * FASTRNN_BACKEND_SYMBOL given by the build and the instruction set by the compiler's flags. */
#include "../backend.h"

#include "sequence_backward.h"
#include "sequence_forward.h"

static struct layout_shape shape_of(const struct fastrnn_problem *const problem) {
    const struct cell *const cell = cell_of(problem->cell);
    struct layout_shape shape = {
        .gates = cell->gates,
        .saved = cell->saved,
        .slots = cell->slots,
        .apart = cell->apart != NO_GATE,
        .vl = VL,
        .real_bytes = sizeof(real),
        .T = problem->T,
        .B = problem->B,
        .I = problem->I,
        .H = problem->H,
        .steps = schedule_steps(problem),
        .sequences = schedule_sequences(problem),
    };
    schedule_rows(problem, &shape.rows); /* api.c has refused an overflow */
    return shape;
}

static size_t larger(const size_t a, const size_t b) { return a > b ? a : b; }

/* The groups of the cut that has most. */
static int most_groups(const struct fastrnn_problem *const problem, const struct layout_shape *const shape) {
    struct fastrnn_problem cut = *problem;
    if (problem->team == FASTRNN_TEAM_PAYING && team_is_tried(problem, shape->gates, shape->rows, VL)) {
        cut.team = FASTRNN_TEAM_BY_ROWS;
    }
    return team_split(&cut, shape->gates, team_threads(problem->threads), shape->sequences,
                      layout_blocks(problem->H, VL))
        .groups;
}

static enum fastrnn_status query(const struct fastrnn_problem *const problem, struct fastrnn_sizes *const sizes) {
    const struct layout_shape shape = shape_of(problem);
    const struct layout_packed_forward packed_forward = layout_packed_forward(&shape);
    const struct layout_packed_backward packed_backward = layout_packed_backward(&shape);
    const struct layout_forward_scratch forward_scratch = layout_forward_scratch(&shape, most_groups(problem, &shape));
    const struct layout_backward_scratch backward_scratch = layout_backward_scratch(&shape);
    const size_t marks = layout_marks_bytes(problem);
    bool overflowed;
    const size_t reserve = layout_reserve_bytes(&shape, &overflowed);
    overflowed |= packed_forward.overflowed | packed_backward.overflowed | forward_scratch.overflowed |
                  backward_scratch.overflowed | (marks > (size_t)PTRDIFF_MAX / 4);
    *sizes = (struct fastrnn_sizes){
        .packed_forward = packed_forward.bytes,
        .packed_backward = packed_backward.bytes,
        .reserve = reserve,
        .reserve_row = (size_t)layout_reserve_row(&shape) * sizeof(real),
        .scratch_forward = larger(forward_scratch.bytes, marks),
        .scratch_backward = larger(backward_scratch.bytes, marks),
    };
    return overflowed ? FASTRNN_TOO_LARGE : FASTRNN_OK;
}

static struct team_range blocks_of(const int64_t n, const struct team_member *const me) {
    return team_share(layout_blocks(n, VL), team_rank(me), team_size(me));
}

static void pack_forward(const struct fastrnn_problem *const problem, const struct fastrnn_weights *const weights,
                         void *const packed, const struct team_member *const me) {
    const struct layout_shape shape = shape_of(problem);
    const struct layout_packed_forward layout = layout_packed_forward(&shape);
    const struct cell *const cell = cell_of(problem->cell);
    const struct team_range units = blocks_of(problem->H, me);
    real *const to = aligned(packed);
    const struct unit_rows w_ih = {weights->w_ih, problem->H, problem->I, NULL};
    const struct unit_rows w_hh = {weights->w_hh, problem->H, problem->H, NULL};
    pack_units(cell->gates, &w_ih, to + layout.w_ih, layout.w_ih_block, units);
    pack_units(cell->gates, &w_hh, to + layout.w_hh, layout.w_hh_block, units);
    pack_biases(cell, problem->H, weights->b_ih, weights->b_hh, to + layout.b_x, to + layout.b_apart, units);
}

static void pack_backward(const struct fastrnn_problem *const problem, const struct fastrnn_weights *const weights,
                          void *const packed, const struct team_member *const me) {
    const struct layout_shape shape = shape_of(problem);
    const struct layout_packed_backward layout = layout_packed_backward(&shape);
    const struct cell *const cell = cell_of(problem->cell);
    real *const to = aligned(packed);
    pack_transpose(cell, cell->input_slot, problem->H, problem->I, weights->w_ih, to + layout.w_ih, layout.w_block,
                   blocks_of(problem->I, me));
    pack_transpose(cell, cell->hidden_slot, problem->H, problem->H, weights->w_hh, to + layout.w_hh, layout.w_block,
                   blocks_of(problem->H, me));
}

static void forward(const struct fastrnn_problem *const problem, const struct fastrnn_forward_args *const args,
                    const struct team_member *const me) {
    const struct layout_shape shape = shape_of(problem);
    run_forward(&shape, problem, args, me);
}

static void backward(const struct fastrnn_problem *const problem, const struct fastrnn_backward_args *const args,
                     const struct team_member *const me) {
    const struct layout_shape shape = shape_of(problem);
    run_backward(&shape, problem, args, me);
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
    .query = query,
    .pack_forward = pack_forward,
    .pack_backward = pack_backward,
    .forward = forward,
    .backward = backward,
    .activate = activate,
};
