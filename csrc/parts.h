/* Runs a plan of the schedules of a batch: part after part, and in backward stage after stage. */
#ifndef FASTRNN_PARTS_H
#define FASTRNN_PARTS_H

#include "threads/run.h"

/* The arrays have been checked. */
enum fastrnn_status parts_run(const struct run *run);

/* Zeroes the gradients of the parameters: they are overwritten, and there are no rows. */
void parts_clear_gradients(const struct plan *plan, const struct fastrnn_arrays *arrays);

#endif
