/* Programs: their rules (fastrnn.h) and their shape. */
#ifndef FASTRNN_PROGRAM_H
#define FASTRNN_PROGRAM_H

#include "cell_shape.h"

/* The program must be sound. */
struct cell_shape program_shape(const struct fastrnn_program *program);

#endif
