/* Runs a checked call on as many threads as make it faster. */
#ifndef FASTRNN_RUN_H
#define FASTRNN_RUN_H

#include "../backend.h"

struct run {
    const struct plan *plan;
    enum fastrnn_pass pass;
    const struct fastrnn_arrays *arrays;
};

enum fastrnn_status run_call(const struct run *run);

/* Runs a checked linear recurrence on so many threads. */
enum fastrnn_status run_linear(linear_function *function, const struct fastrnn_linear *linear,
                               enum fastrnn_linear_pass pass, int threads);

#endif
