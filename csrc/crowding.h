/* Decides whether long calls use several threads at the moment (short calls: trials.h). A thread that loses its core to
 * a neighbour keeps its team waiting for a time slice of the scheduler, and the call can take far longer than on one
 * thread (docs/decisions/0004). So each long call is timed. After two calls in turn that took clearly longer than one
 * thread would have taken, calls run on one thread for a while. The pause grows with each attempt that fails and
 * shrinks with each call that goes well. The bits of a result do not depend on the number of threads.
 *
 * Times are in nanoseconds. Races between callers are harmless: each field is valid by itself.
 */
#ifndef FASTRNN_CROWDING_H
#define FASTRNN_CROWDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CROWDING_LOSS_PERCENT = 125,  /* a team's call may take this share of one thread's time … */
    CROWDING_LOSS_NS = 10000,     /* … and this much more, for starting the team */
    CROWDING_PAUSE_CALLS = 20,    /* the shortest pause, in durations of the call that lost (at most 5 % lose) */
    CROWDING_PAUSE_MAX = 1 << 30, /* about a second */
};

struct crowding {
    atomic_int_least64_t until; /* one thread up to this time */
    atomic_int_least64_t pause; /* the last pause, halved at each call that went well */
    atomic_bool suspected;      /* the call before was lost, the first for long: anything may disturb a single one */
};

static inline bool crowding_allows_team(struct crowding *const c, const int64_t now) {
    const int64_t left = atomic_load_explicit(&c->until, memory_order_relaxed) - now;
    return left <= 0 || left > CROWDING_PAUSE_MAX; /* more than a pause is left only after a clock was set back */
}

/* Records a team's call: `wall` is its duration, `busy` an upper bound of the sum of its threads' work, which is the
 * time of one thread. Without a neighbour `wall` is below `busy`, however unevenly the work was shared. */
static inline void crowding_judge(struct crowding *const c, const int64_t now, const int64_t wall, const int64_t busy) {
    const int64_t before = atomic_load_explicit(&c->pause, memory_order_relaxed);
    if (wall <= busy / 100 * CROWDING_LOSS_PERCENT + CROWDING_LOSS_NS) {
        atomic_store_explicit(&c->suspected, false, memory_order_relaxed);
        if (before) {
            atomic_store_explicit(&c->pause, before / 2, memory_order_relaxed);
        }
        return;
    }
    if (before == 0 && !atomic_exchange_explicit(&c->suspected, true, memory_order_relaxed)) {
        return;
    }
    int64_t pause = 2 * before > CROWDING_PAUSE_CALLS * wall ? 2 * before : CROWDING_PAUSE_CALLS * wall;
    pause = pause < CROWDING_PAUSE_MAX ? pause : CROWDING_PAUSE_MAX;
    atomic_store_explicit(&c->pause, pause, memory_order_relaxed);
    atomic_store_explicit(&c->until, now + pause, memory_order_relaxed);
}

#endif
