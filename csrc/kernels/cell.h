/* The interface of a cell: constants, and pure forward and backward steps on vectors of VL units.
 *
 * A cell knows no memory, loop or thread. Forward receives the pre-activations and the states before the step. Backward
 * receives the gradients of the states after the step and returns the gradients of the pre-activations in `slots`. A
 * cell has more slots than gates if the gradients towards the input and towards the hidden state differ (GRU): the
 * slots towards the input are slots[input_slot … input_slot + gates - 1], those towards the hidden state start at
 * hidden_slot.
 *
 * State 0 is h, the operand of the recurrent product.
 */
#ifndef FASTRNN_CELL_H
#define FASTRNN_CELL_H

#include <stdbool.h>

#include "simd.h"

enum { GATES_MAX = 8, STATES_MAX = 4, SAVED_MAX = 8, SLOTS_MAX = 8, NONE = -1 };

/* GATES_lstm = 4, OUTPUT_lstm = 0, STATES_lstm = 2, … */
#define FASTRNN_STATE(name, start) +1
enum {
#define FASTRNN_CELL(name, gates, output, states) \
    GATES_##name = gates, OUTPUT_##name = output, STATES_##name = 0 states,
#include "../cells.def"
#undef FASTRNN_CELL
};
#undef FASTRNN_STATE
#define FASTRNN_CELL(name, gates, output, states) \
    _Static_assert((int)GATES_##name <= GATES_MAX && (int)STATES_##name <= STATES_MAX, #name ": too many");
#include "../cells.def"
#undef FASTRNN_CELL

struct cell_forward_in {
    vreal a[GATES_MAX];       /* pre-activations; for a gate that stays apart, the recurrent half … */
    vreal x_apart[GATES_MAX]; /* … and its input half */
    vreal before[STATES_MAX];
};

struct cell_forward_out {
    vreal y; /* used if the output is not a state */
    vreal after[STATES_MAX];
    vreal saved[SAVED_MAX]; /* values for backward */
};

struct cell_backward_in {
    vreal dy; /* used if the output is not a state; otherwise d_after includes dy */
    vreal d_after[STATES_MAX];
    vreal saved[SAVED_MAX];
    vreal y, before[STATES_MAX]; /* set only if reads_y and reads_before ask for them */
};

struct cell_backward_out {
    vreal slots[SLOTS_MAX];
    vreal d_before[STATES_MAX]; /* [0]: the part of dh that bypasses the recurrent product; only if carries_dh */
};

struct cell {
    int gates;
    unsigned apart; /* bit g: the two halves of gate g meet only in the step */
    int states;
    int output;                  /* the state that is y, or NONE */
    int saved;                   /* saved vectors in a row of the reserve */
    int saved_state[STATES_MAX]; /* the saved vector that is this state after the step; may be NONE for the output */
    int slots, input_slot, hidden_slot;
    int slot_gate[SLOTS_MAX]; /* the gate of each slot */
    bool carries_dh;
    bool reads_y;          /* whether backward reads y … */
    unsigned reads_before; /* … and bit j: state j before the step */
    void (*forward)(const struct cell_forward_in *, struct cell_forward_out *);
    void (*backward)(const struct cell_backward_in *, struct cell_backward_out *);
};

#endif
