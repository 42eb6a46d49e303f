/* A checked call, and how it is run: on as many threads as pay for it. */
#ifndef FASTRNN_CALL_H
#define FASTRNN_CALL_H

#include "backend.h"

/* A call of either direction, so that one parallel region serves both. */
struct team_call {
    const struct backend *backend;
    const struct fastrnn_problem *problem;
    const struct fastrnn_forward_args *forward; /* or null */
    const struct fastrnn_backward_args *backward;
};

/* `rows` is the sum of the schedule's n[s]. */
enum fastrnn_status call_run(const struct team_call *call, int64_t rows);

typedef void pack_function(const struct fastrnn_problem *, const struct fastrnn_weights *, void *packed,
                           const struct team_member *);

void call_pack(pack_function *function, const struct fastrnn_problem *problem, const struct fastrnn_weights *weights,
               void *packed);

#endif
