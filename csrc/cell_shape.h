/* The numbers of a cell that the loops over a schedule need, of compiled cells and programs alike. */
#ifndef FASTRNN_CELL_SHAPE_H
#define FASTRNN_CELL_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "fastrnn.h"

/* The first parameter that is a vector of H, of a program. */
enum { CELL_VECTORS = FASTRNN_B_HH + 1, CELL_VECTORS_MAX = FASTRNN_PARAMETERS_MAX - CELL_VECTORS };

/* The phases of a direction. Compiled cells have one. */
struct cell_phases {
    int count;
    int kept;        /* vectors that cross phases */
    int sums, terms; /* sums over units, and the vectors of all of them */
    int head_sums;   /* sums that are of each head */
};

/* A second product. */
struct cell_product {
    int8_t gate, slot;
    int8_t forward_phase, backward_phase; /* backward: 0 if there is none */
    int8_t kept;                          /* the vector that it multiplies */
};

struct cell_shape {
    int gates, states;
    int output;                          /* the state that is y, or -1 */
    unsigned apart;                      /* bit g: the halves of gate g meet only in the step */
    int saved_state[FASTRNN_STATES_MAX]; /* the saved vector that is this state after the step, or -1 */
    bool multiplies_h;                   /* w_hh multiplies h in each step */
    int slots, input_slot, hidden_slot;  /* slots of the products; the slots of vectors follow */
    int hidden_gates;                    /* the gates that multiply h, with slots from hidden_slot on */
    int slot_gate[FASTRNN_SLOTS_MAX];
    int vectors;
    bool carries_dh;
    struct cell_phases forward, backward;
    int products;
    struct cell_product product[FASTRNN_PRODUCTS_MAX];
};

/* The gates with second products. */
static inline unsigned cell_product_gates(const struct cell_shape *const cell) {
    unsigned gates = 0;
    for (int j = 0; j < cell->products; j++) {
        gates |= 1U << cell->product[j].gate;
    }
    return gates;
}

#endif
