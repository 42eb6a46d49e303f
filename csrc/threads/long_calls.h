/* Long calls: whether they use several threads at the moment, and whether these take pieces of the work. */
#ifndef FASTRNN_LONG_CALLS_H
#define FASTRNN_LONG_CALLS_H

#include "calibration.h"

/* The times of a call of several threads. `work` is an upper bound of the sum of its threads' work, which is the time
 * of one thread. Without a neighbour `wall` is below `work`, however unevenly the work was shared. */
struct pace_times {
    int64_t wall, work;
    int64_t most, mean; /* wall time that a thread was busy: of the slowest thread, and on average */
};

/* The cut of a long call that the cost model gives to several threads: that cut, the same in pieces, or one thread. */
static inline enum fastrnn_cut pace_long_cut(struct pace_long *const l, const enum fastrnn_cut cut,
                                             const bool has_pieces, const int64_t now) {
    if (!pace_hold(&l->held)) {
        return cut;
    }
    const bool waits = pace_waits(&l->one_thread, now), uneven = pace_waits(&l->pieces, now);
    pace_let_go(&l->held);
    return waits ? FASTRNN_CUT_ONE_THREAD : has_pieces && uneven ? FASTRNN_CUT_BY_PIECES : cut;
}

static inline bool pace_has_lost(const struct pace_times *const t) {
    return t->wall > t->work / 100 * PACE_LOSS_PERCENT + PACE_START_NS;
}

/* After two losses in turn, calls use one thread for a while: the thread that lost its core kept the others waiting for
 * a slice of the scheduler (docs/decisions/0004). */
static inline void pace_judge_loss(struct pace_long *const l, const struct pace_times *const t, const int64_t now) {
    if (!pace_has_lost(t)) {
        l->suspected = false;
        l->one_thread.length /= 2;
    } else if (!l->suspected && pace_is_forgotten(&l->one_thread, now)) {
        l->suspected = true;
    } else {
        pace_back_off(&l->one_thread, now, PACE_COST_OF_LOSS * (double)(t->wall - t->work), PACE_FALLBACK_MAX);
    }
}

/* Equal shares that lose, or that end at different times, show cores of different speed: later calls take pieces. Now
 * and then a call tests equal shares again, which read the weights less often. */
static inline void pace_judge_shares(struct pace_long *const l, const struct pace_times *const t, const int64_t now) {
    if (pace_has_lost(t) || t->most > t->mean / 100 * PACE_UNEVEN_PERCENT + PACE_START_NS) {
        pace_back_off(&l->pieces, now, PACE_COST_OF_PIECES * (double)t->wall, PACE_FALLBACK_MAX);
    } else {
        l->pieces.length = 0;
    }
}

/* Records a long call of several threads. has_pieces: as for pace_long_cut. */
static inline void pace_judge(struct pace_long *const l, const enum fastrnn_cut cut, const bool has_pieces,
                              const struct pace_times *const t, const int64_t now) {
    if (!pace_hold(&l->held)) {
        return;
    }
    if (has_pieces && cut == FASTRNN_CUT_BY_SEQUENCES) {
        pace_judge_shares(l, t, now);
    } else {
        pace_judge_loss(l, t, now);
    }
    pace_let_go(&l->held);
}

#endif
