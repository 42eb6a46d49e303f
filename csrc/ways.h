/* How a call runs: on one thread, or on several threads, which share sequences or hidden units. */
#ifndef FASTRNN_WAYS_H
#define FASTRNN_WAYS_H

#include "call.h"
#include "trials.h"

struct call_way {
    int threads;
    enum fastrnn_team team;  /* whether several threads share sequences or units */
    bool judged;             /* report the times of the call to way_judge */
    struct trial_call trial; /* slot null: not a trial */
};

/* The call is not empty. */
struct call_way way_of_call(const struct team_call *call);
struct call_way way_of_packing(const struct team_call *call);
struct call_way way_of_comparison(size_t bytes, int threads);

/* Call one of these after a call: way_end if it ran to its end, way_abandon if its time is meaningless. */
void way_end(const struct call_way *way);
void way_abandon(const struct call_way *way);

/* Reports a judged call of several threads: it took `wall` nanoseconds until `now`, and its threads worked `busy`
 * nanoseconds in sum. */
void way_judge(int64_t now, int64_t wall, int64_t busy);

#endif
