/* The steps of all cells of the registry. */
#ifndef FASTRNN_CELL_STEPS_H
#define FASTRNN_CELL_STEPS_H

#include "cell_files.def" /* written by CMake: it includes all files of cells/ */
#include "fastrnn.h"

static const struct cell *cell_of(const enum fastrnn_cell cell) {
    static const struct cell *const cells[] = {
#define FASTRNN_CELL(name, gates, output, tables) [FASTRNN_CELL_##name] = &cell_##name,
#include "../cells.def"
    };
    return cells[cell];
}

#endif
