/* Operands of products: weights, packed or in torch's layout (unpacked.h), and the gate gradients of backward. */
#ifndef FASTRNN_WEIGHTS_H
#define FASTRNN_WEIGHTS_H

#include <stdbool.h>

#include "pack.h"

/* Weights for forward: lanes are units. */
struct unit_weights {
    const real *packed; /* blocks from `first` on, laid out by `at`; null: not packed */
    int64_t first;
    real *room; /* of unpacked weights: memory for so many packed blocks */
    int64_t room_blocks;
    struct layout_weights at;
    struct unit_rows rows;
    const real *b_x, *b_apart; /* packed biases, [NB][G][VL], also of unpacked weights with room */
    const real *b_ih, *b_hh;   /* biases of unpacked weights; null: zero */
};

ALWAYS_INLINE const real *packed_block(const struct unit_weights *const w, const int64_t number) {
    return w->packed + (number - w->first) * w->at.block;
}

/* Weights for backward: lanes are inputs or earlier units. */
struct slot_weights {
    const real *packed; /* [block][slot][u][VL], blocks `block` reals apart; null: not packed */
    ptrdiff_t block;
    struct slot_rows rows;
    const int *gate; /* the gate of each slot */
};

/* Gate gradients of one side (input or hidden): [NB][slots][rows][VL], data at the side's first slot. */
struct gradient_slots {
    const real *data;
    int gates;
    ptrdiff_t block, slot;
};

/* Accumulators of a tile go to memory unchanged, or through a buffer in the first-level cache to a function that
 * finishes them: acc[(r*Q + q)*G + g] of R rows from `row` on and Q blocks from `block` on
 * (docs/decisions/0001). */
enum { TILE_VECTORS_MAX = 24 };
typedef void finish_function(const void *job, int R, int Q, const vreal *acc, int64_t row, int64_t block);

/* gates[row] = start[row] + a[row] w', for all rows and some unit blocks. */
struct unit_product {
    int G;
    unsigned apart;       /* bit g: the chain of gate g starts from its recurrent bias */
    unsigned skipped;     /* bit g: gate g has no product, and its accumulators are not set */
    unsigned start_apart; /* without `start`: gates that leave their recurrent bias to another product */
    const real *a;
    ptrdiff_t a_row;
    const struct unit_weights *w;
    const real *start; /* [NB][G][VL] in a row; null: unpacked biases */
    ptrdiff_t start_row;
    real *to; /* [NB][G][VL] in a row; or null */
    ptrdiff_t to_row;
    finish_function *finish; /* used if `to` is null */
    bool finishes_together;  /* finish receives many tiles at a time: all rows of a strip, or many blocks of few rows */
    const void *job;
};

/* start[row] + slots[row] w, for some rows and blocks. */
struct slot_product {
    struct gradient_slots d;
    int64_t d_row;
    const struct slot_weights *w;
    const real *start; /* null: zero */
    ptrdiff_t start_row;
    bool multiplies; /* false: the result is `start` */
    finish_function *finish;
    bool finishes_together; /* as above */
    const void *job;
};

#endif
