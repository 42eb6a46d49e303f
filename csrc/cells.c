/* The registry of cells, as a table. */
#include "cells.h"

static const struct {
    const char *name;
    int gates, states;
} cells[] = {
#define FASTRNN_CELL(name, gates, states) [FASTRNN_CELL_##name] = {#name, gates, states},
#include "cells.def"
#undef FASTRNN_CELL
};

bool cell_exists(const enum fastrnn_cell cell) { return (int)cell >= 0 && cell < FASTRNN_CELL_COUNT; }

const char *fastrnn_cell_name(const enum fastrnn_cell cell) { return cell_exists(cell) ? cells[cell].name : NULL; }
int fastrnn_cell_gates(const enum fastrnn_cell cell) { return cell_exists(cell) ? cells[cell].gates : 0; }
int fastrnn_cell_states(const enum fastrnn_cell cell) { return cell_exists(cell) ? cells[cell].states : 0; }
