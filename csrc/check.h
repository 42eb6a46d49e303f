/* What a problem and its arguments must satisfy before any work is done. */
#ifndef FASTRNN_CHECK_H
#define FASTRNN_CHECK_H

#include <string.h>

#include "cells.h"
#include "dispatch.h"
#include "schedule.h"

static enum fastrnn_status check_schedule(const struct fastrnn_problem *const p) {
    const struct fastrnn_schedule *const s = p->schedule;
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

/* What a sound schedule must satisfy besides; scratch is free for marks. */
static enum fastrnn_status check_visits(const struct fastrnn_problem *const p, const int64_t rows,
                                        void *const scratch) {
    const struct fastrnn_schedule *const s = p->schedule;
    if (rows == 0 || !s) {
        return FASTRNN_OK;
    }
    const int64_t sequences = schedule_sequences(p);
    return has_twice(s->row, rows, p->T * p->B, scratch) || has_twice(s->first, sequences, s->states, scratch) ||
                   has_twice(s->last, sequences, schedule_d_states(p), scratch) ||
                   (s->d_first && has_twice(s->d_first, sequences, s->d_states, scratch))
               ? FASTRNN_BAD_SCHEDULE
               : FASTRNN_OK;
}

/* Forward has no states to start from but those of h0, and no gradients. */
static enum fastrnn_status check_forward_schedule(const struct fastrnn_problem *const p) {
    for (int64_t i = 0; p->schedule && i < schedule_sequences(p); i++) {
        if (p->schedule->first[i] >= p->schedule->states || p->schedule->d_first) {
            return FASTRNN_BAD_SCHEDULE;
        }
    }
    return FASTRNN_OK;
}

static enum fastrnn_status check_problem(const struct fastrnn_problem *const p, const struct backend **const backend) {
    if (!p) {
        return FASTRNN_NULL_POINTER;
    }
    if (!cell_exists(p->cell)) {
        return FASTRNN_BAD_CELL;
    }
    if (p->dtype != FASTRNN_F32 && p->dtype != FASTRNN_F64) {
        return FASTRNN_BAD_DTYPE;
    }
    if (p->T < 0 || p->B < 0 || p->I < 0 || p->H < 0 || p->threads < 1 || (int)p->team < 0 ||
        p->team >= FASTRNN_TEAM_COUNT) {
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

static enum fastrnn_status check_weights(const struct fastrnn_problem *const p,
                                         const struct fastrnn_weights *const weights) {
    const int w_ih_missing = p->I > 0 && p->H > 0 && weights && !weights->w_ih;
    const int w_hh_missing = p->H > 0 && weights && !weights->w_hh;
    return !weights || w_ih_missing || w_hh_missing ? FASTRNN_NULL_POINTER : FASTRNN_OK;
}

/* A problem whose sizes are sound; the calls below check it before they touch memory. */
static enum fastrnn_status check_sizes(const struct fastrnn_problem *const problem,
                                       const struct backend **const backend) {
    struct fastrnn_sizes sizes;
    const enum fastrnn_status status = check_problem(problem, backend);
    return status != FASTRNN_OK ? status : (*backend)->query(problem, &sizes);
}

#endif
