/* What a cell is to the loops around it: some constants, and a pure step forward and backward on vectors of VL units.
 *
 * A cell knows no memory, loop or thread. Forward receives the pre-activations, backward receives dh and dc and
 * returns the gradients of the pre-activations in `slots`: a cell may have more slots than gates where the gradient
 * towards the input and towards the hidden state differ (GRU). The slots towards the input are
 * slots[input_slot … input_slot + gates - 1], those towards the hidden state start at hidden_slot.
 */
#ifndef FASTRNN_CELL_H
#define FASTRNN_CELL_H

#include <stdbool.h>

#include "simd.h"

enum { GATES_MAX = 4, SAVED_MAX = 5, SLOTS_MAX = 4, NO_GATE = -1 };

/* GATES_lstm = 4, … */
enum {
#define FASTRNN_CELL(name, gates, states) GATES_##name = gates,
#include "../cells.def"
#undef FASTRNN_CELL
};

struct cell_forward_in {
    vreal a[GATES_MAX]; /* pre-activations; for the gate that stays apart, the recurrent half alone */
    vreal x_apart;      /* … and its input half */
    vreal h_prev, c_prev;
};

struct cell_forward_out {
    vreal h, c;
    vreal saved[SAVED_MAX]; /* what backward will want */
};

struct cell_backward_in {
    vreal dh, dc;
    vreal saved[SAVED_MAX];
    vreal h, h_prev, c_prev;
};

struct cell_backward_out {
    vreal slots[SLOTS_MAX];
    vreal dh_prev; /* what reaches h_prev past the recurrent product; only if carries_dh */
    vreal dc_prev;
};

struct cell {
    int gates;
    int apart;   /* the gate whose two halves meet only in the step, or NO_GATE */
    int saved;   /* vectors in reserve for each vector of units */
    int saved_c; /* which of them is c, or NO_GATE */
    int slots, input_slot, hidden_slot;
    int slot_gate[SLOTS_MAX]; /* the gate that a slot is the gradient of */
    bool carries_dh;
    bool reads_h, reads_h_prev; /* what backward wants from y */
    void (*forward)(const struct cell_forward_in *, struct cell_forward_out *);
    void (*backward)(const struct cell_backward_in *, struct cell_backward_out *);
};

#endif
