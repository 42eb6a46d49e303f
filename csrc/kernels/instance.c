/* The kernels of one instruction set and one real type: compiled once for each, with FASTRNN_REAL_BITS and
 * FASTRNN_BACKEND_SYMBOL given by the build and the instruction set by the compiler's flags. */
#include "../backend.h"
#include "../program.h"
#include "../threads/cut.h"

#include "backward.h"
#include "elementwise.h"
#include "exponentials.h"
#include "forward.h"
#include "linear.h"

static struct layout_shape shape_of(const struct fastrnn_problem *const problem,
                                    const struct fastrnn_cell_table *const table, const struct cell_shape *const cell) {
    struct layout_shape shape = {
        .table = table,
        .gates = table->gates,
        .slots = cell->slots + cell->vectors,
        .hidden_gates = cell->hidden_gates,
        .products = cell->products,
        .vl = VL,
        .real_bytes = sizeof(real),
        .T = problem->T,
        .B = problem->B,
        .I = problem->I,
        .H = problem->H,
        .units = blocks_of_units(problem->H, problem->heads),
        .steps = schedule_steps(problem),
        .sequences = schedule_sequences(problem),
        .share_blocks = cell->forward.sums + cell->backward.sums > 0 ? (int)LAYOUT_SEGMENT / (int)VL : 1,
        .multiplies_h = cell->multiplies_h,
        .threads = cut_threads_max(problem->threads),
        .interpreter_bytes = problem->program ? sizeof(struct interpreter) : 0,
        .forward = cell->forward,
        .backward = cell->backward,
    };
    shape.projected = blocks_of_projection(shape.units, problem->I);
    shape.inputs = blocks_of_inputs(shape.units, problem->I);
    schedule_rows(problem, &shape.rows); /* check.c has refused an overflow */
    if (problem->schedules) {            /* each part is at most so large */
        shape.steps = problem->schedules->steps;
        shape.sequences = problem->schedules->sequences;
        shape.rows = problem->schedules->rows;
    }
    return shape;
}

static size_t larger(const size_t a, const size_t b) { return a > b ? a : b; }

/* The most groups of any call. A part of schedules may be short where the largest part is long. */
static int most_groups(const struct fastrnn_problem *const problem, const struct layout_shape *const shape) {
    const bool may_be_short = problem->schedules && problem->cut == FASTRNN_CUT_AUTO;
    return cut_groups_max(shape, may_be_short ? FASTRNN_CUT_BY_SEQUENCES : problem->cut, problem->threads);
}

static enum fastrnn_status lay_out(struct plan *const plan) {
    const struct fastrnn_problem *const problem = &plan->problem;
    plan->cell = problem->program ? program_shape(problem->program) : compiled_shape(cell_of(problem->cell));
    const struct layout_shape shape = plan->shape = shape_of(problem, plan->table, &plan->cell);
    plan->packed_forward = layout_packed_forward(&shape);
    plan->packed_backward = layout_packed_backward(&shape);
    plan->forward_scratch = layout_forward_scratch(&shape, &plan->packed_forward, most_groups(problem, &shape));
    plan->backward_scratch = layout_backward_scratch(&shape);
    const size_t marks = layout_marks_bytes(problem);
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
    const struct layout_shape *const shape = &plan->shape;
    const struct cell_shape *const cell = &plan->cell;
    const void *const *const parameters = arrays->parameters;
    real *const to = aligned(arrays->packed);
    const struct unit_rows w_ih = {.w = parameters[FASTRNN_W_IH], .blocks = shape->projected};
    const struct unit_rows w_hh = {.w = parameters[plan->table->phases->parameter], .blocks = shape->units};
    struct team_parts parts = team_parts(me, TEAM_PACK_STATE, block_count(shape->units, VL), CUT_PIECE_BLOCKS);
    struct team_range units;
    while (team_next(&parts, &units)) {
        pack_units(cell->gates, &w_ih, to + layout->w_ih + units.begin * layout->of_input.block, layout->of_input,
                   units);
        if (layout_has_state(shape)) {
            pack_units(cell->gates, &w_hh, to + layout->w_hh + units.begin * layout->of_state.block, layout->of_state,
                       units);
        }
        pack_biases(cell, shape->units, parameters[FASTRNN_B_IH], parameters[FASTRNN_B_HH], to + layout->b_x,
                    to + layout->b_apart, units);
        pack_vectors(parameters + CELL_VECTORS, cell->vectors, shape->units, to + layout->vectors, units);
    }
}

static void pack_backward(const struct plan *const plan, const struct fastrnn_arrays *const arrays,
                          const struct team_member *const me) {
    const struct layout_packed_backward *const layout = &plan->packed_backward;
    const struct layout_shape *const shape = &plan->shape;
    const struct cell_shape *const cell = &plan->cell;
    const void *const *const parameters = arrays->parameters;
    real *const to = aligned(arrays->packed);
    const struct slot_rows w_ih = slot_rows(parameters[FASTRNN_W_IH], shape, shape->inputs);
    const struct slot_rows w_hh = slot_rows(parameters[plan->table->phases->parameter], shape, shape->units);
    struct team_parts inputs =
        team_parts(me, TEAM_PACK_INPUT, block_count(shape->inputs, VL), CUT_PIECE_BLOCKS_TRANSPOSED);
    struct team_parts states =
        team_parts(me, TEAM_PACK_STATE, block_count(shape->units, VL), CUT_PIECE_BLOCKS_TRANSPOSED);
    struct team_range blocks;
    while (team_next(&inputs, &blocks)) {
        pack_transpose(cell->slot_gate + cell->input_slot, cell->gates, &w_ih, to + layout->w_ih, layout->w_ih_block,
                       blocks);
    }
    while (team_next(&states, &blocks)) {
        if (cell->multiplies_h) {
            pack_transpose(cell->slot_gate + cell->hidden_slot, cell->hidden_gates, &w_hh, to + layout->w_hh,
                           layout->w_hh_block, blocks);
        }
        for (int j = 0; j < cell->products; j++) {
            pack_transpose(cell->slot_gate + cell->product[j].slot, 1, &w_hh,
                           to + layout->products + (size_t)j * layout->product, layout->product_block, blocks);
        }
        pack_vectors(parameters + CELL_VECTORS, cell->vectors, shape->units, to + layout->vectors, blocks);
    }
}

ALWAYS_INLINE vreal vactivate(const enum fastrnn_activation activation, const vreal x) {
    switch (activation) {
    case FASTRNN_TANH:
        return vtanh(x);
    case FASTRNN_SIGMOID:
        return vsigmoid(x);
    case FASTRNN_EXP:
        return vexp(x);
    case FASTRNN_EXPM1:
        return vexpm1(x);
    case FASTRNN_LOG:
        return vlog(x);
    case FASTRNN_LOG1P:
        return vlog1p(x);
    case FASTRNN_SOFTPLUS:
        return vsoftplus(x);
    case FASTRNN_LOG_SIGMOID:
        return vlog_sigmoid(x);
    case FASTRNN_RELU:
        return vrelu(x);
    case FASTRNN_ABS:
        return vabs(x);
    case FASTRNN_SIGN:
        return vsign(x);
    case FASTRNN_SQRT:
        return vsqrt(x);
    default:
        return x; /* api.c has refused others */
    }
}

static void activate(const enum fastrnn_activation activation, const int64_t n, const void *const x, void *const y) {
    for (int64_t j = 0; j < n; j += VL) {
        const int lanes = n - j < VL ? (int)(n - j) : VL;
        const vreal v = vload_n((const real *)x + j, lanes);
        vstore_n((real *)y + j, vactivate(activation, v), lanes);
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
    .linear = run_linear_share,
    .activate = activate,
};
