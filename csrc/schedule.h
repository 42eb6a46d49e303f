/* Reading a schedule: which sequences advance at a step, and which rows they read. A null schedule is dense. */
#ifndef FASTRNN_SCHEDULE_H
#define FASTRNN_SCHEDULE_H

#include "layout.h"

static inline int64_t schedule_steps(const struct fastrnn_problem *const p) {
    return p->schedule ? p->schedule->steps : p->T;
}

/* n[s]; zero after the last step. */
static inline int64_t schedule_active(const struct fastrnn_problem *const p, const int64_t s) {
    return s >= schedule_steps(p) ? 0 : p->schedule ? p->schedule->active[s] : p->B;
}

/* Sequences in all; a dense schedule of no steps still has B of them, whose states pass through. */
static inline int64_t schedule_sequences(const struct fastrnn_problem *const p) {
    return p->schedule ? schedule_active(p, 0) : p->B;
}

/* offset is n[0] + … + n[s-1]. */
static inline struct layout_place schedule_place(const struct fastrnn_problem *const p, const int64_t offset,
                                                 const int64_t s, const int64_t i) {
    if (!p->schedule) {
        return (struct layout_place){s, i};
    }
    const int64_t row = p->schedule->row[offset + i];
    return (struct layout_place){row / p->B, row % p->B};
}

/* The rows of h0 and h_n that sequence i starts from and ends in; -1: none. */
static inline int64_t schedule_first(const struct fastrnn_problem *const p, const int64_t i) {
    return p->schedule ? p->schedule->first[i] : i;
}
static inline int64_t schedule_last(const struct fastrnn_problem *const p, const int64_t i) {
    return p->schedule ? p->schedule->last[i] : i;
}

/* The sum of n[s]; false where it overflows. */
static inline bool schedule_rows(const struct fastrnn_problem *const p, int64_t *const rows) {
    if (!p->schedule) {
        return !__builtin_mul_overflow(p->T, p->B, rows);
    }
    *rows = 0;
    for (int64_t s = 0; s < p->schedule->steps; s++) {
        if (__builtin_add_overflow(*rows, p->schedule->active[s], rows)) {
            return false;
        }
    }
    return true;
}

#endif
