/* The registry of cells: their tables (fastrnn.h). kernels/cells/ has their steps. */
#ifndef FASTRNN_CELL_REGISTRY_H
#define FASTRNN_CELL_REGISTRY_H

#include "fastrnn.h"

/* The table of the problem's cell or program. */
const struct fastrnn_cell_table *cell_table_of(const struct fastrnn_problem *problem);

/* width: the units of a head; without heads, H. */
int64_t cell_parameter_columns(const struct fastrnn_parameter *parameter, int64_t I, int64_t width);

#endif
