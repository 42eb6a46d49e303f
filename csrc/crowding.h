/* Whether several threads pay just now, in long calls (short ones: trials.h). On cores that a neighbour uses as well, a
 * thread that has lost its core keeps its team waiting for a slice of the scheduler: a call then takes up to fifty
 * times as long as on one thread, however its barriers wait. So each of these calls is judged by the clock. If two in
 * turn took clearly longer than one thread would have taken, calls run on one thread for a while, longer after each
 * attempt that fails; a call that goes well shortens the next pause. Results have the same bits either way.
 *
 * Times are nanoseconds. Races between callers do no harm: each field is valid by itself.
 */
#ifndef FASTRNN_CROWDING_H
#define FASTRNN_CROWDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CROWDING_LOSS_PERCENT = 125, /* a team's call may take this much of the time that one thread would have taken … */
    CROWDING_LOSS_NS = 10000,    /* … and this much more: starting a team is not free */
    CROWDING_PAUSE_CALLS = 20,   /* a pause is at least this many times the call that was lost: 5 % at most are */
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

/* A team took `wall` in all; its threads worked for `busy` in sum (or for less), which is what one thread would have
 * taken. Without a neighbour wall is below busy, however unevenly the work was shared. */
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
