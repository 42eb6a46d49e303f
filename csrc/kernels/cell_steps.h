/* The steps of all cells of the registry. */
#ifndef FASTRNN_CELL_STEPS_H
#define FASTRNN_CELL_STEPS_H

#include "cell_files.def" /* written by CMake: it includes all files of cells/ */
#include "../cell_shape.h"

static const struct cell *cell_of(const enum fastrnn_cell cell) {
    static const struct cell *const cells[] = {
#define FASTRNN_CELL(name, gates, output, tables) [FASTRNN_CELL_##name] = &cell_##name,
#include "../cells.def"
    };
    return cells[cell];
}

static struct cell_shape compiled_shape(const struct cell *const cell) {
    struct cell_shape shape = {
        .gates = cell->row.gates,
        .states = cell->row.states,
        .output = cell->row.output,
        .apart = cell->row.apart,
        .multiplies_h = true,
        .slots = cell->slots,
        .input_slot = cell->input_slot,
        .hidden_slot = cell->hidden_slot,
        .hidden_gates = cell->row.gates,
        .carries_dh = cell->carries_dh,
        .forward = {.count = 1},
        .backward = {.count = 1},
    };
    memcpy(shape.saved_state, cell->saved_state, sizeof cell->saved_state);
    memcpy(shape.slot_gate, cell->slot_gate, sizeof cell->slot_gate);
    return shape;
}

#endif
