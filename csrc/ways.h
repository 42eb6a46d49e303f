/* How a call is run: on one thread, or on several, and what those share out. */
#ifndef FASTRNN_WAYS_H
#define FASTRNN_WAYS_H

#include "call.h"
#include "trials.h"

struct call_way {
    int threads;
    enum fastrnn_team team;  /* what several threads share out */
    bool judged;             /* tell way_judge how long it took */
    struct trial_call trial; /* or its slot is null */
};

/* For a call that is not empty. */
struct call_way way_of_call(const struct team_call *call);
struct call_way way_of_packing(const struct team_call *call);
struct call_way way_of_comparison(size_t bytes, int threads);

/* The call has been run, entirely, or not so that its time would tell anything. */
void way_end(const struct call_way *way);
void way_abandon(const struct call_way *way);

/* A judged call of several threads took `wall` nanoseconds until `now`, and its threads worked for `busy` in sum. */
void way_judge(int64_t now, int64_t wall, int64_t busy);

#endif
