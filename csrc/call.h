/* A checked call, and how it is run: on as many threads as pay for it. */
#ifndef FASTRNN_CALL_H
#define FASTRNN_CALL_H

#include "backend.h"

struct team_call {
    const struct plan *plan;
    enum fastrnn_pass pass;
    const struct fastrnn_arrays *arrays;
};

enum fastrnn_status call_run(const struct team_call *call);

#endif
