/* What a cell is to the loops around it: some constants, and a pure step forward and backward on vectors of VL units.
 *
 * A cell knows no memory, loop or thread. Forward receives the pre-activations and the states before the step; backward
 * receives the gradients of the states after it and returns those of the pre-activations in `slots`. A cell may have
 * more slots than gates where the gradients towards the input and towards the hidden state differ (GRU): the slots
 * towards the input are slots[input_slot … input_slot + gates - 1], those towards the hidden state start at
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
    vreal a[GATES_MAX];       /* pre-activations; of a gate that stays apart, the recurrent half alone … */
    vreal x_apart[GATES_MAX]; /* … and its input half */
    vreal before[STATES_MAX];
};

struct cell_forward_out {
    vreal y; /* of a cell whose output is no state */
    vreal after[STATES_MAX];
    vreal saved[SAVED_MAX]; /* what backward will want */
};

struct cell_backward_in {
    vreal dy; /* of a cell whose output is no state; else it is part of d_after */
    vreal d_after[STATES_MAX];
    vreal saved[SAVED_MAX];
    vreal y, before[STATES_MAX]; /* as far as the cell reads them */
};

struct cell_backward_out {
    vreal slots[SLOTS_MAX];
    vreal d_before[STATES_MAX]; /* [0]: what reaches h past the recurrent product; only if carries_dh */
};

struct cell {
    int gates;
    unsigned apart; /* bit g: the two halves of gate g meet only in the step */
    int states;
    int output;                  /* the state that is y, or NONE */
    int saved;                   /* vectors in reserve for each vector of units */
    int saved_state[STATES_MAX]; /* which of them is this state after the step; of the output it may be NONE */
    int slots, input_slot, hidden_slot;
    int slot_gate[SLOTS_MAX]; /* the gate that a slot is the gradient of */
    bool carries_dh;
    bool reads_y;          /* what backward wants: y, … */
    unsigned reads_before; /* … and bit j: state j before the step */
    void (*forward)(const struct cell_forward_in *, struct cell_forward_out *);
    void (*backward)(const struct cell_backward_in *, struct cell_backward_out *);
};

#endif
