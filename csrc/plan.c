/* Makes plans. */
#include "plan.h"

#include <string.h>

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
    made->table = fastrnn_cell_table(problem->cell);
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

/* A single step of so many rows reads each unpacked weight once (unpacked.h); docs/decisions/0010 has the figures. */
enum { UNPACKED_ROWS_MAX = 8 };

int fastrnn_packing_pays(const struct fastrnn_plan *const plan) {
    const struct plan *const p = plan_of(plan);
    return !p || p->problem.schedule || p->problem.schedules || p->problem.T != 1 || p->problem.B > UNPACKED_ROWS_MAX;
}
