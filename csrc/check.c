#include "check.h"

#include <string.h>

#include "cells.h"
#include "dispatch.h"
#include "schedule.h"

/* ---- problems ---- */

static enum fastrnn_status check_schedule(const struct fastrnn_problem *const p) {
    const struct fastrnn_schedule *const s = p->schedule;
    const struct fastrnn_schedules *const built = p->schedules; /* sound, as the library has built them */
    if (built && (s || built->struct_size != sizeof *built || built->T != p->T || built->B != p->B)) {
        return FASTRNN_BAD_SCHEDULE;
    }
    if (!s) {
        return FASTRNN_OK;
    }
    if (s->steps < 0 || s->states < 0 || s->states > INT64_MAX / 2 ||
        (s->d_first && (s->d_states < 0 || s->d_states > INT64_MAX / 2)) ||
        (s->steps > 0 && (!s->active || !s->row || !s->first || !s->last))) {
        return FASTRNN_BAD_SCHEDULE;
    }
    int64_t cells_of_grid, rows = 0;
    if (__builtin_mul_overflow(p->T, p->B, &cells_of_grid) || cells_of_grid > INT64_MAX / 2) {
        return FASTRNN_TOO_LARGE;
    }
    for (int64_t step = 0; step < s->steps; step++) {
        const int64_t n = s->active[step];
        if (n < 0 || (step > 0 && n > s->active[step - 1]) || n > cells_of_grid - rows) {
            return FASTRNN_BAD_SCHEDULE;
        }
        rows += n;
    }
    for (int64_t j = 0; j < rows; j++) {
        if (s->row[j] < 0 || s->row[j] >= cells_of_grid) {
            return FASTRNN_BAD_SCHEDULE;
        }
    }
    const int64_t ends = schedule_d_states(p);
    for (int64_t i = 0; s->steps > 0 && i < s->active[0]; i++) {
        if (s->first[i] < -1 || s->first[i] >= s->states + cells_of_grid || s->last[i] < -1 || s->last[i] >= ends ||
            (s->d_first && (s->d_first[i] < -1 || s->d_first[i] >= s->d_states))) {
            return FASTRNN_BAD_SCHEDULE;
        }
    }
    return FASTRNN_OK;
}

enum fastrnn_status check_problem(const struct fastrnn_problem *const p, const struct backend **const backend) {
    if (!p) {
        return FASTRNN_NULL_POINTER;
    }
    if (p->program && fastrnn_program_error(p->program)) {
        return FASTRNN_BAD_PROGRAM;
    }
    if (!cell_table_of(p)) {
        return FASTRNN_BAD_CELL;
    }
    if (p->dtype != FASTRNN_F32 && p->dtype != FASTRNN_F64) {
        return FASTRNN_BAD_DTYPE;
    }
    if (p->T < 0 || p->B < 0 || p->I < 0 || p->H < 0 || p->threads < 1 || (int)p->cut < 0 ||
        p->cut >= FASTRNN_CUT_COUNT) {
        return FASTRNN_BAD_SIZE;
    }
    if (p->heads < 0 || (p->heads > 1 && (!p->program || p->H % p->heads != 0))) {
        return FASTRNN_BAD_SIZE;
    }
    if ((p->I | p->H) >> LAYOUT_SIZE_BITS) {
        return FASTRNN_TOO_LARGE;
    }
    if (p->backend < 0 || p->backend >= fastrnn_backend_count() || !fastrnn_backend_runs_here(p->backend)) {
        return FASTRNN_BAD_BACKEND;
    }
    *backend = dispatch_backend(p->backend, p->dtype);
    const enum fastrnn_status status = check_schedule(p);
    int64_t rows;
    return status != FASTRNN_OK ? status : schedule_rows(p, &rows) ? FASTRNN_OK : FASTRNN_TOO_LARGE;
}

/* ---- schedules ---- */

/* Whether one of n numbers in 0 … limit - 1 occurs twice; others do not count. marks: a byte for each. */
static bool has_twice(const int64_t *const numbers, const int64_t n, const int64_t limit, unsigned char *const marks) {
    int64_t least = limit, most = -1;
    for (int64_t j = 0; j < n; j++) {
        const bool counts = numbers[j] >= 0 && numbers[j] < limit;
        least = counts && numbers[j] < least ? numbers[j] : least;
        most = counts && numbers[j] > most ? numbers[j] : most;
    }
    if (most < least) {
        return false;
    }
    memset(marks + least, 0, (size_t)(most - least + 1));
    unsigned char twice = 0;
    for (int64_t j = 0; j < n; j++) {
        if (numbers[j] >= 0 && numbers[j] < limit) {
            twice |= marks[numbers[j]];
            marks[numbers[j]] = 1;
        }
    }
    return twice;
}

/* Forward has no states to start from but the initial ones, and no gradients. */
static bool is_of_forward(const struct fastrnn_schedule *const s, const int64_t sequences) {
    for (int64_t i = 0; i < sequences; i++) {
        if (s->first[i] >= s->states || s->d_first) {
            return false;
        }
    }
    return true;
}

enum fastrnn_status check_visits(const struct plan *const plan, const enum fastrnn_pass pass, void *const scratch) {
    const struct fastrnn_problem *const p = &plan->problem;
    const struct fastrnn_schedule *const s = p->schedule;
    const int64_t rows = plan->shape.rows, sequences = plan->shape.sequences;
    if (!s) {
        return FASTRNN_OK;
    }
    const bool is_bad = (pass == FASTRNN_FORWARD && !is_of_forward(s, sequences)) ||
                        (rows > 0 && (has_twice(s->row, rows, p->T * p->B, scratch) ||
                                      has_twice(s->first, sequences, s->states, scratch) ||
                                      has_twice(s->last, sequences, schedule_d_states(p), scratch) ||
                                      (s->d_first && has_twice(s->d_first, sequences, s->d_states, scratch))));
    return is_bad ? FASTRNN_BAD_SCHEDULE : FASTRNN_OK;
}

/* ---- arrays ---- */

static bool has_parameters(const struct plan *const plan, const struct fastrnn_arrays *const a) {
    const struct layout_shape *const s = &plan->shape;
    for (int j = 0; j < plan->table->parameter_count; j++) {
        const struct fastrnn_parameter *const parameter = &plan->table->parameters[j];
        const bool is_empty = s->H == 0 || cell_parameter_columns(parameter, s->I, s->units.K) == 0;
        if (parameter->required && !is_empty && !a->parameters[j]) {
            return false;
        }
    }
    return true;
}

/* Whether a gradient is wanted that takes x. */
static bool reads_x_in_backward(const struct plan *const plan, const struct fastrnn_arrays *const a) {
    for (int j = 0; j < plan->table->parameter_count; j++) {
        if (a->gradients[j] && plan->table->parameters[j].columns == FASTRNN_COLUMNS_OF_INPUT) {
            return true;
        }
    }
    return false;
}

/* Checks that the inputs of each step and the options are exactly those of the cell's table. */
static enum fastrnn_status check_inputs(const struct plan *const plan, const struct fastrnn_arrays *const a) {
    const struct fastrnn_cell_table *const table = plan->table;
    const bool are_read = plan->shape.rows > 0 && plan->shape.H > 0;
    for (int j = 0; j < FASTRNN_INPUTS_MAX; j++) {
        const bool has_data = a->inputs[j].data, is_known = j < table->input_count;
        if (has_data != is_known && (has_data || are_read)) {
            return has_data ? FASTRNN_BAD_INPUTS : FASTRNN_NULL_POINTER;
        }
    }
    if (!a->options == (table->option_count == 0)) {
        return FASTRNN_OK;
    }
    return a->options ? FASTRNN_BAD_INPUTS : FASTRNN_NULL_POINTER;
}

enum fastrnn_status check_arrays(const struct plan *const plan, const enum fastrnn_pass pass,
                                 const struct fastrnn_arrays *const a) {
    if (!plan || (int)pass < 0 || pass >= FASTRNN_PASS_COUNT) {
        return FASTRNN_BAD_PLAN;
    }
    if (!a) {
        return FASTRNN_NULL_POINTER;
    }
    if (a->struct_size != sizeof *a) {
        return FASTRNN_BAD_ARRAYS;
    }
    if (pass == FASTRNN_PACK_FORWARD || pass == FASTRNN_PACK_BACKWARD) {
        return a->packed && has_parameters(plan, a) ? FASTRNN_OK : FASTRNN_NULL_POINTER;
    }
    const bool has_rows = plan->shape.rows > 0, reads_x = pass == FASTRNN_FORWARD || reads_x_in_backward(plan, a);
    const bool lacks_x = has_rows && plan->shape.I > 0 && reads_x && !a->x.data;
    const bool lacks_y = has_rows && plan->shape.H > 0 && !a->y.data;
    const bool lacks_reserve = pass == FASTRNN_BACKWARD && plan->sizes.reserve > 0 && !a->reserve;
    const bool lacks_weights = !a->packed && !has_parameters(plan, a);
    if (lacks_x || lacks_y || lacks_reserve || lacks_weights || !a->scratch) {
        return FASTRNN_NULL_POINTER;
    }
    return check_inputs(plan, a);
}
