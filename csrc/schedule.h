/* Reading a schedule: which sequences advance at a step, and which rows they read. A null schedule is dense. */
#ifndef FASTRNN_SCHEDULE_H
#define FASTRNN_SCHEDULE_H

#include "layout.h"
#include "threads/team.h"

/* The most pieces of a batch that run side by side in a part (docs/schedules.md): enough rows for any product, and few
 * enough for their states to stay in cache. */
enum { SCHEDULE_PIECES_MAX = 256 };

static inline int64_t schedule_steps(const struct fastrnn_problem *const p) {
    return p->schedule ? p->schedule->steps : p->T;
}

/* n[s]; zero after the last step. */
static inline int64_t schedule_active(const struct fastrnn_problem *const p, const int64_t s) {
    return s >= schedule_steps(p) ? 0 : p->schedule ? p->schedule->active[s] : p->B;
}

/* The number of sequences. A dense schedule of no steps still has B sequences: their states pass through. */
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

/* The source of a sequence's starting states. */
struct schedule_origin {
    enum { ORIGIN_START, ORIGIN_STATE, ORIGIN_ROW } kind; /* start values, a row of initial states, a row of y */
    struct layout_place place;                            /* of a state: b alone */
};

static inline struct schedule_origin schedule_origin(const struct fastrnn_problem *const p, const int64_t i) {
    const int64_t first = p->schedule ? p->schedule->first[i] : i;
    if (first < 0) {
        return (struct schedule_origin){.kind = ORIGIN_START};
    }
    const int64_t states = p->schedule ? p->schedule->states : p->B;
    if (first < states) {
        return (struct schedule_origin){ORIGIN_STATE, {0, first}};
    }
    return (struct schedule_origin){ORIGIN_ROW, {(first - states) / p->B, (first - states) % p->B}};
}

/* The rows of initial and final states that sequence i starts from and ends in; -1: none. */
static inline int64_t schedule_first(const struct fastrnn_problem *const p, const int64_t i) {
    const struct schedule_origin origin = schedule_origin(p, i);
    return origin.kind == ORIGIN_STATE ? origin.place.b : -1;
}
static inline int64_t schedule_last(const struct fastrnn_problem *const p, const int64_t i) {
    return p->schedule ? p->schedule->last[i] : i;
}

/* The row of d_initial that receives the gradient of sequence i's starting states; -1: none. */
static inline int64_t schedule_d_first(const struct fastrnn_problem *const p, const int64_t i) {
    return p->schedule && p->schedule->d_first ? p->schedule->d_first[i] : schedule_first(p, i);
}

/* The rows of the sequences before i. */
static inline int64_t schedule_rows_before(const struct fastrnn_problem *const p, const int64_t i) {
    int64_t rows = 0;
    for (int64_t s = 0; s < p->schedule->steps; s++) {
        rows += i < p->schedule->active[s] ? i : p->schedule->active[s];
    }
    return rows;
}

/* Rows of the states' gradients in backward. */
static inline int64_t schedule_d_states(const struct fastrnn_problem *const p) {
    return !p->schedule ? p->B : p->schedule->d_first ? p->schedule->d_states : p->schedule->states;
}

/* The first sequence that has at least part/parts of all rows before it. */
static inline int64_t schedule_cut(const struct fastrnn_problem *const p, const int64_t rows, const int part,
                                   const int parts) {
    const int64_t wanted = rows / parts * part + rows % parts * part / parts;
    int64_t low = 0, high = schedule_sequences(p);
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (schedule_rows_before(p, middle) < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Whether all sequences have the same number of steps. */
static inline bool schedule_is_even(const struct fastrnn_problem *const p) {
    const int64_t sequences = schedule_sequences(p);
    return !p->schedule || sequences == 0 || schedule_active(p, schedule_steps(p) - 1) == sequences;
}

/* The sequences of part `part` of `parts`, with about as many of all rows as any other part. */
static inline struct team_range schedule_share(const struct fastrnn_problem *const p, const int64_t rows,
                                               const int part, const int parts) {
    if (parts == 1 || schedule_is_even(p)) {
        return team_share(schedule_sequences(p), part, parts);
    }
    return (struct team_range){schedule_cut(p, rows, part, parts), schedule_cut(p, rows, part + 1, parts)};
}

/* Sets *range to the sequences of piece `piece` that `threads` threads take one after another (team_piece). Pieces have
 * at least `least` sequences if all sequences have the same number of steps. Otherwise they are cut by rows, and may be
 * empty. False after the last piece. */
static inline bool schedule_piece(const struct fastrnn_problem *const p, const int64_t rows, const int threads,
                                  const int64_t least, const int piece, struct team_range *const range) {
    enum { PARTS = 64 };
    const int64_t sequences = schedule_sequences(p);
    if (schedule_is_even(p)) {
        *range = team_piece(sequences, threads, least, piece);
        return range->begin < range->end;
    }
    const struct team_range parts = team_piece(PARTS, threads, 1 + PARTS * least / sequences, piece);
    *range = (struct team_range){schedule_cut(p, rows, (int)parts.begin, PARTS),
                                 schedule_cut(p, rows, (int)parts.end, PARTS)};
    return parts.begin < parts.end;
}

/* Sets *rows to the sum of n[s]; false if it overflows. */
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
