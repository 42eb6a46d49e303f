/* What a problem, a schedule and arrays must satisfy before any work is done. */
#ifndef FASTRNN_CHECK_H
#define FASTRNN_CHECK_H

#include "backend.h"

/* The problem and its schedule, as far as that needs no memory; finds the backend. */
enum fastrnn_status check_problem(const struct fastrnn_problem *problem, const struct backend **backend);

/* That required arrays are there. */
enum fastrnn_status check_arrays(const struct plan *plan, enum fastrnn_pass pass, const struct fastrnn_arrays *arrays);

/* What a schedule must satisfy besides, for this pass; scratch is free for marks. */
enum fastrnn_status check_visits(const struct plan *plan, enum fastrnn_pass pass, void *scratch);

#endif
