/* Calibration: what earlier calls of a layer have shown about threads. docs/threads.md has the picture.
 *
 * Two things decide whether several threads pay for a few microseconds of work, and whether they should share sequences
 * or units: the cost of a barrier at this moment, and the load from other programs. No constant predicts them. So short
 * calls are timed, and now and then a probe, a few calls, uses another cut. Long calls follow the cost model (cut.h)
 * and are judged: several threads that took clearly longer than one thread would have taken are a loss. The bits of a
 * result do not depend on the cut.
 *
 * One back-off serves all: whatever fails is repeated only after a pause, which doubles each time and is forgotten
 * after a longer time without failure.
 *
 * The caller owns the memory, zeroed at first. Several calls may run at once. A call that finds a record held by
 * another call does not wait: it follows the cost model and leaves no record. Times are in nanoseconds.
 */
#ifndef FASTRNN_PACE_H
#define FASTRNN_PACE_H

#include <float.h>
#include <stddef.h>

#include "../fastrnn.h"
#include "barrier.h"

enum {
    PACE_CALLS_BEFORE = 6,       /* calls of the best cut before the first probe of another */
    PACE_SETTLING = 4,           /* of the first calls, which warm up threads and caches, the shortest counts */
    PACE_COST = 64,              /* the pause after a losing probe, in multiples of the time that it lost */
    PACE_COST_OF_FALLBACK = 32,  /* the pause after a fallback to one thread, in durations of the call that lost */
    PACE_COST_OF_LOSS = 20,      /* the pause after a long call that lost, in multiples of the time that it lost */
    PACE_COST_OF_PIECES = 32,    /* long calls use pieces for so many durations before equal shares are tested again */
    PACE_PAUSE_MAX = 1 << 28,    /* the longest pause between probes: a quarter of a second */
    PACE_FALLBACK_MAX = 1 << 30, /* the longest other pause: a second */
    PACE_FORGET = 4,             /* a pause is forgotten after so many of its durations without failure */
    PACE_LOSS_NS = 1000000,     /* threads that are slower than one thread by this have lost a slice of the scheduler */
    PACE_SLEEP_NS = 2000000,    /* idle threads fall asleep after about this time and must be woken */
    PACE_CALL_MAX_NS = 1 << 28, /* a longer call counts as this long: the process or the machine was suspended */
    PACE_LOSS_PERCENT = 125,    /* a long call may take this share of one thread's time … */
    PACE_START_NS = 10000,      /* … and this much more, for starting the threads */
    PACE_UNEVEN_PERCENT = 115,  /* threads are uneven if the call takes this share of the threads' mean time */
    PACE_STRANGERS = 8,         /* a record goes to another kind of call after so many of its calls in turn */
};

/* Another cut replaces the best one if it takes at most this share of the time. */
static const float pace_margin = 0.95F;

/* The number of measured calls in a probe. */
static inline int pace_probe_calls(const double ns) { return ns > 1e6 ? 1 : ns > 1e5 ? 2 : 4; }

/* ---- records ---- */

/* Cuts that calibration compares, as bits and as indices of times. */
enum { PACE_CUTS = 3 };
_Static_assert(FASTRNN_CUT_ONE_THREAD == 1 && FASTRNN_CUT_BY_SEQUENCES == 2 && FASTRNN_CUT_BY_UNITS == 3, "");
static inline unsigned pace_bit(const enum fastrnn_cut cut) { return 1U << (cut - FASTRNN_CUT_ONE_THREAD); }

struct pace_pause {
    int64_t end;
    int32_t length; /* of the last pause; 0: none for long */
};

/* Times of the calls that follow the previous call soon, or of calls that come later. Times are per row or byte. */
struct pace_state {
    float ns[PACE_CUTS];              /* 0: unknown */
    int8_t best, probed, last_probed; /* indices of cuts; probed -1: no probe runs */
    int8_t left;                      /* remaining measured calls of the probe */
    bool warms;                       /* the next call of the probe only wakes the threads */
    bool forgiven;                    /* a lost slice of the scheduler was forgiven since the last probe that won */
    uint8_t probes;                   /* so far, up to 255; the first probe of each cut needs no pause */
    uint32_t calls;                   /* of the best cut since it became the best */
    uint32_t calls_before;            /* so many calls of the best cut before the next probe */
    float debt;  /* time that several threads have lost, less the time that they have gained since */
    float least; /* shortest time in the probe */
    float spent; /* time that the probe has lost */
    struct pace_pause probe, fallback;
};

/* Calls of one pass and one power of two of rows. */
struct pace_slot {
    atomic_bool held; /* a call reads or writes the record */
    uint8_t strangers;
    uint32_t key; /* the calls on record; 0: none */
    int64_t used; /* time of the last use */
    struct pace_state soon, late;
};

/* Long calls of a pass. */
struct pace_long {
    atomic_bool held;
    bool suspected; /* the call before lost, the first for long: anything may disturb a single call */
    struct pace_pause one_thread, pieces;
};

enum pace_kind { PACE_INFERENCE, PACE_TRAINING, PACE_BACKWARD, PACE_KINDS };
enum { PACE_ROWS = 12, PACE_SIZES = 4, PACE_PACKING = 2 };

struct pace {
    atomic_int_least64_t fallback; /* time of the last fallback: for a while, new records start with one thread */
    struct pace_long longs[PACE_KINDS];
    struct pace_slot slots[PACE_KINDS][PACE_ROWS];
    struct pace_slot packing[PACE_PACKING], comparison[PACE_SIZES];
} __attribute__((may_alias)); /* stored in a struct fastrnn_pace */

_Static_assert(sizeof(struct pace) <= sizeof(struct fastrnn_pace), "struct fastrnn_pace is too small");

/* The exponent of the greatest power of two that is at most n; 0 for 0. */
static inline int64_t pace_log2(const int64_t n) { return 63 - __builtin_clzll((uint64_t)n | 1); }

/* Calls with equal facts have equal keys; not 0. */
static inline uint32_t pace_key(const int64_t *const facts, const size_t n) {
    uint64_t key = n;
    for (size_t j = 0; j < n; j++) {
        key = (key ^ (uint64_t)facts[j]) * 0x9E3779B97F4A7C15U;
        key ^= key >> 32;
    }
    return (uint32_t)key | 1;
}

/* ---- the back-off ---- */

/* More than the longest pause is left only after a clock was set back. */
static inline bool pace_waits(const struct pace_pause *const pause, const int64_t now) {
    return now < pause->end && pause->end - now <= PACE_FALLBACK_MAX;
}

/* Nothing has failed for long. */
static inline bool pace_is_forgotten(const struct pace_pause *const pause, const int64_t now) {
    return pause->length == 0 || now < pause->end - PACE_FALLBACK_MAX ||
           now - pause->end > PACE_FORGET * (int64_t)pause->length;
}

/* Starts a pause of at least `least` and at most `most`: twice the last one. */
static inline void pace_back_off(struct pace_pause *const pause, const int64_t now, const double least,
                                 const double most) {
    const double doubled = pace_is_forgotten(pause, now) ? 0 : 2 * (double)pause->length;
    const double length = doubled > least ? doubled : least;
    pause->length = (int32_t)(length < most ? length : most);
    pause->end = now + pause->length;
}

#endif
