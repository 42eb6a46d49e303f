/* The interface of a cell: constants, and pure forward and backward steps on vectors of VL units.
 *
 * A cell knows no memory, loop or thread. Forward receives the pre-activations and the states before the step. Backward
 * receives the gradients of the states after the step and returns the gradients of the pre-activations in `slots`. A
 * cell has more slots than gates if the gradients towards the input and towards the hidden state differ (GRU): the
 * slots towards the input are slots[input_slot … input_slot + gates - 1], and the slots towards the hidden state start
 * at hidden_slot.
 *
 * State 0 is h, the operand of the recurrent product. The row in cells.def has the numbers of gates, states, saved
 * vectors, inputs of each step and options.
 */
#ifndef FASTRNN_CELL_H
#define FASTRNN_CELL_H

#include <stdbool.h>

#include "simd.h"

enum { GATES_MAX = 8, STATES_MAX = 4, SAVED_MAX = 8, INPUTS_MAX = 4, OPTIONS_MAX = 4, SLOTS_MAX = 8, NONE = -1 };

/* The numbers of each row of cells.def, for example GATES_lstm = 4 and SAVED_lstm = 5. APART_gru has bit g set if the
 * halves of gate g meet only in the step. */
enum {
#define FASTRNN_CELL(name, gates, output, tables) GATES_##name = gates, OUTPUT_##name = output,
#include "../cells.def"
#define FASTRNN_CELL(name, gates, output, tables) STATES_##name = 0 tables,
#define FASTRNN_STATE(name, start) +1
#include "../cells.def"
#define FASTRNN_CELL(name, gates, output, tables) APART_##name = 0 tables,
#define FASTRNN_APART(gate) | 1 << (gate)
#include "../cells.def"
#define FASTRNN_CELL(name, gates, output, tables) SAVED_##name = 0 tables,
#define FASTRNN_SAVED(name, per_unit) +(per_unit)
#include "../cells.def"
#define FASTRNN_CELL(name, gates, output, tables) INPUTS_##name = 0 tables,
#define FASTRNN_INPUT(name, columns) +1
#include "../cells.def"
#define FASTRNN_CELL(name, gates, output, tables) OPTIONS_##name = 0 tables,
#define FASTRNN_OPTION(name) +1
#include "../cells.def"
};
#define FASTRNN_CELL(name, gates, output, tables) \
    _Static_assert((int)GATES_##name >= 1 && (int)GATES_##name <= GATES_MAX, #name ": 1 to 8 gates"); \
    _Static_assert((int)APART_##name >> GATES_##name == 0, #name ": a gate that stays apart does not exist"); \
    _Static_assert((int)STATES_##name <= STATES_MAX, #name ": too many states"); \
    _Static_assert((int)SAVED_##name <= SAVED_MAX, #name ": too many saved vectors"); \
    _Static_assert((int)INPUTS_##name <= INPUTS_MAX, #name ": too many inputs of a step"); \
    _Static_assert((int)OPTIONS_##name <= OPTIONS_MAX, #name ": too many options");
#include "../cells.def"

/* The inputs of the step, and the options in all lanes. Forward and backward receive the same. */
struct cell_given {
    vreal inputs[INPUTS_MAX], options[OPTIONS_MAX];
};

struct cell_forward_in {
    vreal a[GATES_MAX];       /* pre-activations; for a gate that stays apart, the recurrent half … */
    vreal x_apart[GATES_MAX]; /* … and its input half */
    vreal before[STATES_MAX];
    struct cell_given given;
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
    struct cell_given given;
};

struct cell_backward_out {
    vreal slots[SLOTS_MAX];
    vreal d_before[STATES_MAX]; /* [0]: the part of dh that bypasses the recurrent product; only if carries_dh */
};

struct cell_row {
    int gates, output, states, saved, inputs, options;
    unsigned apart;
};
#define ROW_OF(name) \
    { \
        .gates = GATES_##name, .output = OUTPUT_##name, .states = STATES_##name, .saved = SAVED_##name, \
        .inputs = INPUTS_##name, .options = OPTIONS_##name, .apart = APART_##name, \
    }

struct cell {
    struct cell_row row;
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
