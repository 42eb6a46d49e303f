#include "parts.h"

#include <string.h>

#include "cells.h"

/* ---- one part ---- */

/* The plan of a part. Layouts for the largest part serve the others as well. */
static struct plan plan_of_part(const struct plan *const plan, const struct fastrnn_schedule *const schedule) {
    struct plan part = *plan;
    part.problem.schedules = NULL;
    part.problem.schedule = schedule;
    part.shape.steps = schedule->steps;
    part.shape.sequences = schedule->steps > 0 ? schedule->active[0] : 0;
    part.shape.rows = 0;
    for (int64_t s = 0; s < schedule->steps; s++) {
        part.shape.rows += schedule->active[s];
    }
    return part;
}

static enum fastrnn_status run_part(const struct run *const run, const struct fastrnn_schedule *const schedule,
                                    const struct fastrnn_arrays *const arrays) {
    const struct plan part = plan_of_part(run->plan, schedule);
    return run_call(&(struct run){&part, run->pass, arrays});
}

/* ---- rows of states ---- */

static char *row_of_state(const struct plan *const plan, const struct fastrnn_view view, const int64_t row) {
    return (char *)view.data + row * view.stride_b * plan->shape.real_bytes;
}

static size_t state_bytes(const struct plan *const plan) {
    return (size_t)plan->shape.H * (size_t)plan->shape.real_bytes;
}

static struct fastrnn_view without_const(const struct fastrnn_const_view view) {
    return (struct fastrnn_view){(void *)view.data, view.stride_t, view.stride_b};
}

/* Copies a row; a null view is a source of zeros, and a target that nobody wants. */
static void copy_row(const struct plan *const plan, const struct fastrnn_view from, const int64_t row,
                     const struct fastrnn_view to, const int64_t to_row) {
    if (!to.data || plan->shape.H == 0) {
        return;
    }
    if (from.data) {
        memcpy(row_of_state(plan, to, to_row), row_of_state(plan, from, row), state_bytes(plan));
    } else {
        memset(row_of_state(plan, to, to_row), 0, state_bytes(plan));
    }
}

static void fill_row(const struct plan *const plan, const struct fastrnn_view to, const int64_t row,
                     const double value) {
    char *const data = to.data ? row_of_state(plan, to, row) : NULL;
    for (int64_t j = 0; data && j < plan->shape.H; j++) {
        if (plan->problem.dtype == FASTRNN_F32) {
            ((float *)(void *)data)[j] = (float)value;
        } else {
            ((double *)(void *)data)[j] = value;
        }
    }
}

/* ---- forward ---- */

/* Sequences of no steps end in the states that they start from. */
static void pass_states_through(const struct run *const run) {
    const struct plan *const plan = run->plan;
    const struct fastrnn_schedules *const schedules = plan->problem.schedules;
    for (int k = 0; k < plan->table->state_count; k++) {
        const struct fastrnn_const_view initial = run->arrays->initial[k];
        for (int64_t j = 0; j < schedules->empty_count; j++) {
            if (initial.data) {
                copy_row(plan, without_const(initial), schedules->empty[j], run->arrays->final[k], schedules->empty[j]);
            } else {
                fill_row(plan, run->arrays->final[k], schedules->empty[j], plan->table->states[k].start);
            }
        }
    }
}

static enum fastrnn_status run_forward_parts(const struct run *const run) {
    const struct fastrnn_stage *const stage = run->plan->problem.schedules->stages;
    pass_states_through(run);
    enum fastrnn_status status = FASTRNN_OK;
    for (int64_t part = 0; part < stage->part_count && status == FASTRNN_OK; part++) {
        status = run_part(run, &stage->parts[part], run->arrays);
    }
    return status;
}

/* ---- backward ---- */

/* The matrix of gradients of state k that stage n reads, or, if `side` is 1, writes. */
static struct fastrnn_view region_matrix(const struct run *const run, const int64_t n, const int side, const int k) {
    const struct plan *const plan = run->plan;
    const int64_t which = ((n + side) & 1) * plan->table->state_count + k, line = LAYOUT_LINE_BYTES;
    const size_t bytes = (size_t)plan->problem.schedules->d_states * state_bytes(plan);
    char *const data =
        (char *)(((uintptr_t)run->arrays->regions + (uintptr_t)line - 1) / (uintptr_t)line * (uintptr_t)line);
    return (struct fastrnn_view){data + (size_t)which * bytes, 0, plan->shape.H};
}

/* Before the first stage. Gradients of initial states are zero, except for the gradient of a sequence of no steps,
 * which is the gradient of its final state. */
static void begin_states(const struct run *const run) {
    const struct plan *const plan = run->plan;
    const struct fastrnn_schedules *const schedules = plan->problem.schedules;
    const struct fastrnn_view none = {NULL, 0, 0};
    for (int k = 0; k < plan->table->state_count; k++) {
        const struct fastrnn_view d_final = without_const(run->arrays->d_final[k]);
        for (int64_t b = 0; b < schedules->states; b++) {
            copy_row(plan, none, 0, run->arrays->d_initial[k], b);
            for (int side = 0; side < 2 && schedules->d_states > 0; side++) {
                copy_row(plan, d_final, b, region_matrix(run, 0, side, k), b);
            }
        }
        for (int64_t j = 0; j < schedules->empty_count; j++) {
            copy_row(plan, d_final, schedules->empty[j], run->arrays->d_initial[k], schedules->empty[j]);
        }
    }
}

/* The arrays of stage n, except for the accumulation. */
static struct fastrnn_arrays arrays_of_stage(const struct run *const run, const int64_t n, const bool is_whole) {
    struct fastrnn_arrays arrays = *run->arrays;
    if (!is_whole) {
        memset(arrays.gradients, 0, sizeof arrays.gradients);
    }
    if (!is_whole && run->arrays->stage == 0) {
        arrays.dx = (struct fastrnn_view){NULL, 0, 0};
    }
    for (int k = 0; k < run->plan->table->state_count && run->plan->problem.schedules->d_states > 0; k++) {
        const struct fastrnn_view from = region_matrix(run, n, 0, k);
        arrays.d_final[k] = (struct fastrnn_const_view){from.data, 0, from.stride_b};
        arrays.d_initial[k] = region_matrix(run, n, 1, k);
    }
    return arrays;
}

/* Copies those gradients that belong to initial states. */
static void finish_stage(const struct run *const run, const int64_t n) {
    const struct fastrnn_stage *const stage = &run->plan->problem.schedules->stages[n];
    for (int k = 0; k < run->plan->table->state_count && stage->initial_count > 0; k++) {
        const struct fastrnn_view found = region_matrix(run, n, 1, k);
        for (int64_t j = 0; j < stage->initial_count; j++) {
            const int64_t b = stage->initial[j];
            copy_row(run->plan, found, run->plan->problem.schedules->states + b, run->arrays->d_initial[k], b);
        }
    }
}

/* The whole stages before stage n have parts. */
static bool has_written_gradients(const struct fastrnn_schedules *const schedules, const int64_t n) {
    for (int64_t stage = schedules->stage_count - schedules->whole_stages; stage < n; stage++) {
        if (schedules->stages[stage].part_count > 0) {
            return true;
        }
    }
    return false;
}

static enum fastrnn_status run_stage(const struct run *const run, const int64_t n) {
    const struct fastrnn_schedules *const schedules = run->plan->problem.schedules;
    const struct fastrnn_stage *const stage = &schedules->stages[n];
    struct fastrnn_arrays arrays = arrays_of_stage(run, n, n >= schedules->stage_count - schedules->whole_stages);
    if (has_written_gradients(schedules, n)) {
        arrays.accumulation = FASTRNN_ADD;
    }
    for (int64_t part = 0; part < stage->part_count; part++) {
        const enum fastrnn_status status = run_part(run, &stage->parts[part], &arrays);
        if (status != FASTRNN_OK) {
            return status;
        }
        arrays.accumulation = FASTRNN_ADD;
    }
    finish_stage(run, n);
    return FASTRNN_OK;
}

static enum fastrnn_status run_backward_stages(const struct run *const run) {
    const struct fastrnn_schedules *const schedules = run->plan->problem.schedules;
    const int64_t alone = run->arrays->stage, begin = alone ? alone - 1 : 0;
    const int64_t end = alone ? alone : schedules->stage_count;
    if (alone < 0 || alone > schedules->stage_count) {
        return FASTRNN_BAD_STAGE;
    }
    if (schedules->d_states > 0 && !run->arrays->regions) {
        return FASTRNN_NULL_POINTER;
    }
    if (begin == 0) {
        begin_states(run);
        if (run->arrays->accumulation == FASTRNN_OVERWRITE &&
            !has_written_gradients(schedules, schedules->stage_count)) {
            parts_clear_gradients(run->plan, run->arrays);
        }
    }
    enum fastrnn_status status = FASTRNN_OK;
    for (int64_t n = begin; n < end && status == FASTRNN_OK; n++) {
        status = run_stage(run, n);
    }
    return status;
}

enum fastrnn_status parts_run(const struct run *const run) {
    const struct fastrnn_schedules *const schedules = run->plan->problem.schedules;
    if (!schedules->stages) {
        return FASTRNN_BAD_PLAN;
    }
    if (run->pass == FASTRNN_FORWARD) {
        return schedules->backward_only ? FASTRNN_BAD_SCHEDULE : run_forward_parts(run);
    }
    return run_backward_stages(run);
}

void parts_clear_gradients(const struct plan *const plan, const struct fastrnn_arrays *const arrays) {
    const struct layout_shape *const s = &plan->shape;
    for (int j = 0; j < plan->table->parameter_count; j++) {
        const struct fastrnn_parameter *const parameter = &plan->table->parameters[j];
        if (arrays->gradients[j]) {
            const int64_t reals = parameter->rows_per_unit * s->H * cell_parameter_columns(parameter, s->I, s->units.K);
            memset(arrays->gradients[j], 0, (size_t)reals * (size_t)s->real_bytes);
        }
    }
}
