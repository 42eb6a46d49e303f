/* Checks of a problem, its schedule and its arrays, before any work. */
#ifndef FASTRNN_CHECK_H
#define FASTRNN_CHECK_H

#include "backend.h"

/* Checks the problem, and its schedule as far as no memory is needed. Sets *backend. */
enum fastrnn_status check_problem(const struct fastrnn_problem *problem, const struct backend **backend);

/* Checks that the required arrays are not null. */
enum fastrnn_status check_arrays(const struct plan *plan, enum fastrnn_pass pass, const struct fastrnn_arrays *arrays);

/* Checks the rules of the schedule that need memory, for this pass; overwrites scratch. */
enum fastrnn_status check_visits(const struct plan *plan, enum fastrnn_pass pass, void *scratch);

#endif
