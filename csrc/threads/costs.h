/* The costs of starting threads and of a barrier on this machine, for the cost model. They are measured once in a
 * process, before the first call on several threads. */
#ifndef FASTRNN_COSTS_H
#define FASTRNN_COSTS_H

#include "cut.h"

/* Before the measurement: those of the reference machine. */
struct cut_costs costs_now(void);

/* Measures the costs of so many threads if that has not happened yet; takes some tens of microseconds. */
void costs_measure(int threads);

#endif
