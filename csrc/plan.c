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

/* Unpacked weights are transposed in registers whenever they are read (unpacked.h), for up to eight rows at a time.
 * Packing costs as much as some such reads: few of them for weights in the caches, more for others
 * (docs/decisions/0010). Reading for more than four rows costs more. Backward reads rows of torch's layout as they are,
 * but in a pattern that only one step of few rows hides. */
enum {
    UNPACKED_ROWS = 8,
    UNPACKED_ROWS_CHEAP = 4,
    UNPACKED_BACKWARD_ROWS = 4,
    NEAR_WEIGHTS_BYTES = 4 << 20,
};
static const double unpacked_cost_of_more_rows = 1.5, unpacked_cost_near = 1.5, unpacked_cost_far = 5;

/* How often forward reads the weights of a dense problem, with the share of each matrix. */
static double unpacked_cost(const struct fastrnn_problem *const p) {
    const double rows = (double)p->T * (double)p->B;
    const int64_t of_step = (p->B + UNPACKED_ROWS - 1) / UNPACKED_ROWS;
    const double of_input = (double)((int64_t)(rows + UNPACKED_ROWS - 1) / UNPACKED_ROWS);
    const double reads =
        (of_input * (double)p->I + (double)p->T * (double)of_step * (double)p->H) / (double)(p->I + p->H + 1);
    return p->B > UNPACKED_ROWS_CHEAP ? unpacked_cost_of_more_rows * reads : reads;
}

int fastrnn_packing_pays(const struct fastrnn_plan *const plan, const enum fastrnn_pass pass) {
    const struct plan *const p = plan_of(plan);
    if (!p || p->problem.schedule || p->problem.schedules) {
        return 1;
    }
    if (pass == FASTRNN_BACKWARD) {
        return p->problem.T != 1 || p->problem.B > UNPACKED_BACKWARD_ROWS;
    }
    const bool is_near = p->sizes.packed_forward <= NEAR_WEIGHTS_BYTES;
    return unpacked_cost(&p->problem) > (is_near ? unpacked_cost_near : unpacked_cost_far);
}
