/* The steps of all cells of the registry. */
#ifndef FASTRNN_CELL_STEPS_H
#define FASTRNN_CELL_STEPS_H

#include "cells/gru.h"
#include "cells/lstm.h"
#include "cells/rnn.h"

static const struct cell *cell_of(const enum fastrnn_cell cell) {
    static const struct cell *const cells[] = {
#define FASTRNN_CELL(name, gates, states) [FASTRNN_CELL_##name] = &cell_##name,
#include "../cells.def"
#undef FASTRNN_CELL
    };
    return cells[cell];
}

#endif
