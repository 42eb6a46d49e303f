/* The registry of cells, as tables. */
#include "cells.h"

#define FASTRNN_STATE(name, start) {#name, start},
#define FASTRNN_CELL(name, gates, output, states) \
    _Static_assert(gates >= 1 && gates <= FASTRNN_GATES_MAX, #name ": too many gates"); \
    static const struct fastrnn_state states_of_##name[] = {states}; \
    static const struct fastrnn_parameter parameters_of_##name[] = { \
        [FASTRNN_W_IH] = {"w_ih", gates, FASTRNN_COLUMNS_OF_INPUT, 1}, \
        [FASTRNN_W_HH] = {"w_hh", gates, FASTRNN_COLUMNS_OF_STATE, 1}, \
        [FASTRNN_B_IH] = {"b_ih", gates, FASTRNN_ONE_COLUMN, 0}, \
        [FASTRNN_B_HH] = {"b_hh", gates, FASTRNN_ONE_COLUMN, 0}, \
    };
#include "cells.def"
#undef FASTRNN_CELL

enum { BYTES_OF_PARAMETERS = sizeof(struct fastrnn_parameter), BYTES_OF_STATES = sizeof(struct fastrnn_state) };

static const struct fastrnn_cell_table cells[] = {
#define FASTRNN_CELL(name, gates, output, states) \
    [FASTRNN_CELL_##name] = { \
        #name, \
        gates, \
        output, \
        sizeof parameters_of_##name / BYTES_OF_PARAMETERS, \
        sizeof states_of_##name / BYTES_OF_STATES, \
        parameters_of_##name, \
        states_of_##name, \
    },
#include "cells.def"
#undef FASTRNN_CELL
};

const struct fastrnn_cell_table *fastrnn_cell_table(const enum fastrnn_cell cell) {
    return (int)cell >= 0 && cell < FASTRNN_CELL_COUNT ? &cells[cell] : NULL;
}

int64_t cell_parameter_columns(const struct fastrnn_parameter *const parameter, const int64_t I, const int64_t H) {
    switch (parameter->columns) {
    case FASTRNN_COLUMNS_OF_INPUT:
        return I;
    case FASTRNN_COLUMNS_OF_STATE:
        return H;
    case FASTRNN_ONE_COLUMN:
        break;
    }
    return 1;
}
