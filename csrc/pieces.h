/* The pieces of a stage: the parts of regions that it runs, each as a sequence of its own. docs/schedules.md has the
 * pictures. */
#ifndef FASTRNN_PIECES_H
#define FASTRNN_PIECES_H

#include "regions.h"

/* Positions begin … end - 1 of sequence b. first, last and d_first: as in a schedule. */
struct piece {
    int64_t b, begin, end, first, last, d_first;
};

/* The parts of its regions that a stage runs. With m = ceil(k2 / k1), the last k2 - (m - 1)*k1 steps of a region
 * receive the losses of m windows, and the steps before them the losses of m - 1. */
enum stage_kind {
    STAGE_ALONE,       /* no windows overlap: whole regions, the only stage */
    STAGE_FIRST,       /* whole regions, from the gradients of the final states or from zero */
    STAGE_NEXT,        /* whole regions, from the gradients that the stage before left at the next region */
    STAGE_OPEN_END,    /* the last steps, as STAGE_FIRST if m is 2, else as STAGE_NEXT; no whole stage */
    STAGE_WHOLE,       /* whole regions, which receive all losses: the last stage if k1 divides k2 */
    STAGE_WHOLE_FRONT, /* otherwise the steps before the last steps … */
    STAGE_WHOLE_END,   /* … and then the last steps */
};

static inline bool stage_is_whole(const enum stage_kind kind) { return kind == STAGE_ALONE || kind >= STAGE_WHOLE; }

/* A batch with its regions, while schedules are built. */
struct building {
    const struct fastrnn_batch *batch;
    const int64_t *offset; /* packed: the row of (t, 0); else null */
    const struct region *regions;
    int64_t count, longest;
    int64_t windows; /* m */
};

/* The row of the sequence tensors at position p of sequence b. */
static inline int64_t row_at(const struct building *const s, const int64_t b, const int64_t p) {
    const struct fastrnn_batch *const batch = s->batch;
    const int64_t t = batch->direction == FASTRNN_FROM_LAST_STEP ? batch_length(batch, b) - 1 - p : p;
    return (s->offset ? s->offset[t] : t * batch->B) + b;
}

/* Fills the pieces of a stage, in the order of its regions. Returns how many there are. */
int64_t pieces_of_stage(const struct building *s, enum stage_kind kind, struct piece *pieces);

/* Orders pieces by length, longest first, then by position, then by b: sets order[j] to the number of the j-th piece.
 * spare: [n]; counts: [longest + 1]. */
void order_pieces(const struct building *s, const struct piece *pieces, int64_t n, int64_t *order, int64_t *spare,
                  int64_t *counts);

#endif
