/* Whether several threads pay just now. On cores that a neighbour uses as well, a thread that has lost its core keeps
 * its team waiting for a slice of the scheduler: a call then takes up to fifty times as long as on one thread, however
 * its barriers wait. So every call of a team is judged by the clock. If it took twice as long as one thread would have
 * taken, calls run on one thread for a while, longer after each attempt that fails; a call that goes well shortens the
 * next pause. Results have the same bits either way.
 *
 * Times are nanoseconds. Races between callers do no harm: each field is valid by itself.
 */
#ifndef FASTRNN_CROWDING_H
#define FASTRNN_CROWDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CROWDING_LOSS = 2,            /* a team's call may take this many times the work of all its threads */
    CROWDING_PAUSE_CALLS = 20,    /* a pause is at least this many times the call that was lost: 5 % at most are */
    CROWDING_PAUSE_MAX = 1 << 30, /* about a second */
};

struct crowding {
    atomic_int_least64_t until; /* one thread up to this time */
    atomic_int_least64_t pause; /* the last pause, halved at each call that went well */
};

static inline bool crowding_allows_team(struct crowding *const c, const int64_t now) {
    return now >= atomic_load_explicit(&c->until, memory_order_relaxed);
}

/* A team of `threads` took `wall` in all; the thread that worked least was busy for `least`. Work is shared evenly, so
 * that one thread would have taken about threads * least. */
static inline void crowding_judge(struct crowding *const c, const int64_t now, const int threads, const int64_t wall,
                                  const int64_t least) {
    const int64_t before = atomic_load_explicit(&c->pause, memory_order_relaxed);
    if (wall <= CROWDING_LOSS * threads * least) {
        if (before) {
            atomic_store_explicit(&c->pause, before / 2, memory_order_relaxed);
        }
        return;
    }
    int64_t pause = 2 * before > CROWDING_PAUSE_CALLS * wall ? 2 * before : CROWDING_PAUSE_CALLS * wall;
    pause = pause < CROWDING_PAUSE_MAX ? pause : CROWDING_PAUSE_MAX;
    atomic_store_explicit(&c->pause, pause, memory_order_relaxed);
    atomic_store_explicit(&c->until, now + pause, memory_order_relaxed);
}

#endif
