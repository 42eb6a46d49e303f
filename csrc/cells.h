/* The registry of cells: names and sizes. kernels/cells/ has their steps. */
#ifndef FASTRNN_CELL_REGISTRY_H
#define FASTRNN_CELL_REGISTRY_H

#include <stdbool.h>

#include "fastrnn.h"

bool cell_exists(enum fastrnn_cell cell);

#endif
