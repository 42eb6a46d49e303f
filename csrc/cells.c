/* The registry of cells, as tables. */
#include "cells.h"

/* A list that may be empty ends with an entry without a name. */
#define FASTRNN_CELL(name, gates, output, tables) static const struct fastrnn_state states_of_##name[] = {tables};
#define FASTRNN_STATE(name, start) {#name, start},
#include "cells.def"
#define FASTRNN_CELL(name, gates, output, tables) static const struct fastrnn_saved saved_of_##name[] = {tables{0}};
#define FASTRNN_SAVED(name, per_unit) {#name, per_unit},
#include "cells.def"
#define FASTRNN_CELL(name, gates, output, tables) static const struct fastrnn_input inputs_of_##name[] = {tables{0}};
#define FASTRNN_INPUT(name, columns) {#name, columns},
#include "cells.def"
#define FASTRNN_CELL(name, gates, output, tables) static const struct fastrnn_option options_of_##name[] = {tables{0}};
#define FASTRNN_OPTION(name) {#name},
#include "cells.def"

#define FASTRNN_CELL(name, gates, output, tables) \
    static const struct fastrnn_parameter parameters_of_##name[] = { \
        [FASTRNN_W_IH] = {"w_ih", gates, FASTRNN_COLUMNS_OF_INPUT, 1}, \
        [FASTRNN_W_HH] = {"w_hh", gates, FASTRNN_COLUMNS_OF_STATE, 1}, \
        [FASTRNN_B_IH] = {"b_ih", gates, FASTRNN_ONE_COLUMN, 0}, \
        [FASTRNN_B_HH] = {"b_hh", gates, FASTRNN_ONE_COLUMN, 0}, \
    };
#include "cells.def"

/* The phase of every compiled cell: w_hh times all of h. */
static const struct fastrnn_phase dense = {.parameter = FASTRNN_W_HH, .operand = 0, .support = FASTRNN_ALL_UNITS};

#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))
static const struct fastrnn_cell_table cells[] = {
#define FASTRNN_APART(gate) | 1U << (gate)
#define FASTRNN_CELL(cell, gate_count, output_state, tables) \
    [FASTRNN_CELL_##cell] = { \
        .name = #cell, \
        .gates = gate_count, \
        .output = output_state, \
        .apart = 0U tables, \
        .parameter_count = COUNT(parameters_of_##cell), \
        .state_count = COUNT(states_of_##cell), \
        .saved_count = COUNT(saved_of_##cell) - 1, \
        .input_count = COUNT(inputs_of_##cell) - 1, \
        .option_count = COUNT(options_of_##cell) - 1, \
        .parameters = parameters_of_##cell, \
        .states = states_of_##cell, \
        .saved = saved_of_##cell, \
        .inputs = inputs_of_##cell, \
        .options = options_of_##cell, \
        .phase_count = 1, \
        .phases = &dense, \
    },
#include "cells.def"
};

const struct fastrnn_cell_table *fastrnn_cell_table(const enum fastrnn_cell cell) {
    return (int)cell >= 0 && cell < FASTRNN_CELL_COUNT ? &cells[cell] : NULL;
}

const struct fastrnn_cell_table *cell_table_of(const struct fastrnn_problem *const problem) {
    return problem->program ? problem->program->table : fastrnn_cell_table(problem->cell);
}

int64_t cell_parameter_columns(const struct fastrnn_parameter *const parameter, const int64_t I, const int64_t width) {
    switch (parameter->columns) {
    case FASTRNN_COLUMNS_OF_INPUT:
        return I;
    case FASTRNN_COLUMNS_OF_STATE:
        return width;
    case FASTRNN_ONE_COLUMN:
        break;
    }
    return 1;
}
