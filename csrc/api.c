/* The public functions that run something: they check every argument first. */
#include "check.h"
#include "parts.h"

/* ---- statuses ---- */

const char *fastrnn_status_message(const enum fastrnn_status status) {
    switch (status) {
    case FASTRNN_OK:
        return "ok";
    case FASTRNN_BAD_CELL:
        return "cell: not a cell of this library";
    case FASTRNN_BAD_DTYPE:
        return "dtype: expected float32 or float64";
    case FASTRNN_BAD_BACKEND:
        return "backend: no such backend, or this CPU cannot run it, or FASTRNN_HIDE hides it";
    case FASTRNN_BAD_SIZE:
        return "T, B, I, H: expected sizes of at least 0, at least 1 thread, and an H that is a multiple of heads";
    case FASTRNN_BAD_SCHEDULE:
        return "schedule: active must not grow, row, first, last and d_first must lie in range, and no row or state be "
               "there twice";
    case FASTRNN_NULL_POINTER:
        return "a required array is missing";
    case FASTRNN_TOO_LARGE:
        return "T, B, I, H: the arrays would exceed the address space";
    case FASTRNN_INTERRUPTED:
        return "interrupted";
    case FASTRNN_BAD_PLAN:
        return "plan: fastrnn_make_plan did not make it, or there is no such pass";
    case FASTRNN_BAD_ARRAYS:
        return "arrays: expected struct_size to be sizeof(struct fastrnn_arrays); the program was compiled with "
               "another "
               "version of fastrnn.h";
    case FASTRNN_BAD_BATCH:
        return "batch: expected lengths from 0 to T (packed: from T on, never growing, none 0), k2 >= k1 >= 1 or "
               "neither, "
               "and a known direction and kind of rows";
    case FASTRNN_NO_ROOM:
        return "memory: fewer bytes than the schedules need";
    case FASTRNN_BAD_STAGE:
        return "stage: expected 0, or a stage of the schedules";
    case FASTRNN_BAD_PROGRAM:
        return "program: it breaks a rule; fastrnn_program_error says which";
    case FASTRNN_BAD_INPUTS:
        return "inputs, options: the cell has no such input of a step, or no options";
    }
    return "unknown status";
}

/* ---- calls ---- */

enum fastrnn_status fastrnn_run(const struct fastrnn_plan *const plan, const enum fastrnn_pass pass,
                                const struct fastrnn_arrays *const arrays) {
    const struct run run = {plan_of(plan), pass, arrays};
    enum fastrnn_status status = check_arrays(run.plan, pass, arrays);
    if (status == FASTRNN_OK && pass >= FASTRNN_FORWARD && run.plan->problem.schedules) {
        return parts_run(&run);
    }
    if (status == FASTRNN_OK && pass >= FASTRNN_FORWARD) {
        status = check_visits(run.plan, pass, arrays->scratch);
    }
    if (status != FASTRNN_OK) {
        return status;
    }
    if (pass == FASTRNN_BACKWARD && run.plan->shape.rows == 0 && arrays->accumulation == FASTRNN_OVERWRITE) {
        parts_clear_gradients(run.plan, arrays);
    }
    return run_call(&run);
}

enum fastrnn_status fastrnn_activate(const int backend, const enum fastrnn_dtype dtype,
                                     const enum fastrnn_activation activation, const int64_t n, const void *const x,
                                     void *const y) {
    const struct fastrnn_problem problem = {.dtype = dtype, .backend = backend, .threads = 1};
    const struct backend *chosen;
    const enum fastrnn_status status = check_problem(&problem, &chosen);
    if (status != FASTRNN_OK) {
        return status;
    }
    if (n < 0 || (int)activation < 0 || activation >= FASTRNN_ACTIVATION_COUNT) {
        return FASTRNN_BAD_SIZE;
    }
    if (n > 0 && (!x || !y)) {
        return FASTRNN_NULL_POINTER;
    }
    chosen->activate(activation, n, x, y);
    return FASTRNN_OK;
}
