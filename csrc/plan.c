/* Makes plans. */
#include "plan.h"

#include <string.h>

#include "cells.h"
#include "check.h"

enum fastrnn_status fastrnn_make_plan(const struct fastrnn_problem *const problem, struct fastrnn_plan *const plan) {
    if (!plan) {
        return FASTRNN_NULL_POINTER;
    }
    struct plan *const made = (struct plan *)plan;
    memset(made, 0, sizeof *made); /* struct_size 0: not a plan */
    enum fastrnn_status status = check_problem(problem, &made->backend);
    if (status != FASTRNN_OK) {
        return status;
    }
    made->problem = *problem;
    made->table = cell_table_of(problem);
    status = made->backend->lay_out(made);
    bool overflowed = false;
    if (problem->schedules) {
        made->sizes.regions = layout_region_bytes(&made->shape, problem->schedules->d_states, &overflowed);
    }
    status = overflowed ? FASTRNN_TOO_LARGE : status;
    if (status == FASTRNN_OK) {
        made->struct_size = sizeof *plan;
    }
    return status;
}

/* Unpacked weights are transposed whenever they are read: in registers for up to LAYOUT_UNPACKED_ROWS rows, in the
 * caches for more (unpacked.h, gemm.h). Packing costs as much as some such reads: few of them for weights in the
 * caches, more for others (docs/decisions/0020). Reading for more than four rows costs more. Backward reads rows of
 * torch's layout as they are, which is slower than packed reading; only for few rows it costs less than packing. */
enum {
    UNPACKED_ROWS_CHEAP = 4,
    UNPACKED_BACKWARD_ROWS = 4,
    UNPACKED_BACKWARD_ROWS_FAR = 3,
    FAR_WEIGHTS_BYTES = 8 << 20,
    NEAR_WEIGHTS_BYTES = 4 << 20,
};
static const double unpacked_cost_of_more_rows = 1.5, unpacked_cost_near = 1.5, unpacked_cost_far = 5;

/* How often forward reads the weights of a dense problem, with the share of each matrix. */
static double unpacked_cost(const struct plan *const plan) {
    const struct fastrnn_problem *const p = &plan->problem;
    const int64_t rows = plan->shape.rows, chunk_rows = plan->forward_scratch.chunk_rows;
    const double of_input = rows > 0 ? (double)layout_blocks(rows, (int)chunk_rows) : 0;
    const double I = (double)p->I, K = (double)plan->shape.units.K;
    const double reads = (of_input * I + (double)p->T * K) / (I + K + 1);
    return p->B > UNPACKED_ROWS_CHEAP ? unpacked_cost_of_more_rows * reads : reads;
}

int fastrnn_packing_pays(const struct fastrnn_plan *const plan, const enum fastrnn_pass pass) {
    const struct plan *const p = plan_of(plan);
    if (!p || p->problem.schedule || p->problem.schedules) {
        return 1;
    }
    if (pass == FASTRNN_BACKWARD) {
        const bool is_far = p->sizes.packed_backward > FAR_WEIGHTS_BYTES;
        return p->shape.rows > (is_far ? UNPACKED_BACKWARD_ROWS_FAR : UNPACKED_BACKWARD_ROWS);
    }
    const bool is_near = p->sizes.packed_forward <= NEAR_WEIGHTS_BYTES;
    return unpacked_cost(p) > (is_near ? unpacked_cost_near : unpacked_cost_far);
}
