/* Finds the fastest way to run a short call by trial. Two things decide whether a second thread pays for a few
 * microseconds of work, and whether threads should share rows or units: the cost of a barrier at this moment, and the
 * load from other programs. No constant predicts them. So calls of one kind (same sizes, same direction) are timed, and
 * a few of them take another way now and then. The bits of a result do not depend on the way.
 *
 * A trial that loses is repeated only after a pause, which doubles each time; the pauses keep the cost of trials below
 * two percent. A team that loses again before it has recovered the cost of its last loss gives way to one thread at
 * once: a neighbour probably uses the same cores.
 *
 * Calls that follow soon after one of their kind have slots of their own, since the team of a later call must first be
 * woken.
 *
 * Times are in nanoseconds; slots hold them per unit of the call's amount. If another caller holds a call's slot, the
 * call does not wait: it takes the cost model's guess.
 */
#ifndef FASTRNN_TRIALS_H
#define FASTRNN_TRIALS_H

#include <float.h>
#include <stddef.h>

#include "team.h"

enum {
    TRIAL_SETS = 64,
    TRIAL_SET_SLOTS = 4,
    TRIAL_CALLS_BEFORE = 6,       /* calls of the best way before the first trial of another */
    TRIAL_SETTLING = 4,           /* of the first calls, which warm up threads and caches, the shortest counts */
    TRIAL_COST = 64,              /* the pause after a losing trial, in multiples of the time that it lost */
    TRIAL_COST_OF_LOSS = 32,      /* the pause after a team's second lost call, in multiples of its duration */
    TRIAL_PAUSE_MAX = 1 << 28,    /* the longest pause after doubling: a quarter of a second */
    TRIAL_DISTRUST_MAX = 1 << 30, /* the longest pause after losses: a second */
    TRIAL_LOSS_NS = 1000000,      /* a team slower than one thread by this has lost a time slice of the scheduler */
    TRIAL_SLEEP_NS = 2000000,     /* idle threads fall asleep after about this time and must be woken */
    TRIAL_CALL_MAX_NS = 1 << 28,  /* a longer call counts as this long: the process or the machine was suspended */
    TRIAL_CALLS_OF_TRUST = 512,   /* so many good calls of a team halve the pause after its next losses */
};

/* The number of calls in a trial: short calls need several, since the first must wake the threads. */
static inline int trial_calls(const double ns) { return ns > 1e6 ? 1 : ns > 1e5 ? 2 : 4; }

/* Another way replaces the best one if it takes at most this share of the time. */
static const float trial_margin = 0.95F;

enum trial_way { TRIAL_ALONE, TRIAL_USUAL, TRIAL_OTHER, TRIAL_WAYS };

/* The record of the calls of a kind that follow the previous call soon, or of those that come later. */
struct trial_state {
    float ns[TRIAL_WAYS]; /* time of each way; 0: unknown */
    int best, trying, last_tried;
    int trials;           /* trials so far; the first trial of each way needs no pause */
    int left;             /* remaining calls of the current trial */
    int64_t calls;        /* calls of the best way since it became the best */
    int64_t calls_before; /* so many calls of the best way before the next trial */
    double debt;          /* time that the team has lost, less the time that it has gained since */
    float least;          /* shortest time in the current trial */
    double spent;         /* time that the current trial has lost */
    int64_t since, next;  /* start and end of the pause without trials */
    int64_t pause;        /* length of the pause after the last trial that lost */
    int64_t distrust;     /* length of the pause after the team's last losses; halved by good calls */
};

struct trial_slot {
    atomic_bool held;          /* a caller is reading or writing a state */
    _Atomic uint64_t kind;     /* the kind of the calls on record; 0: none */
    atomic_int_least64_t used; /* time of the last use */
    struct trial_state soon, late;
};

struct trials {
    struct trial_slot slots[TRIAL_SETS][TRIAL_SET_SLOTS];
    atomic_int_least64_t given_up; /* when a team was last given up: for a while, new kinds start with one thread */
};

struct trial_call {
    struct trial_slot *slot; /* null: the call is not recorded */
    struct trial_state *state;
    uint64_t kind;
    enum trial_way way;
    double amount;
    int64_t begin;
};

/* The exponent of the greatest power of two that is at most n; 0 for 0. */
static inline int64_t trial_log2(const int64_t n) { return 63 - __builtin_clzll((uint64_t)n | 1); }

/* A hash of the facts; not 0. Calls with equal facts are of one kind. */
static inline uint64_t trial_kind(const int64_t *const facts, const size_t n) {
    uint64_t kind = n;
    for (size_t j = 0; j < n; j++) {
        kind = (kind ^ (uint64_t)facts[j]) * 0x9E3779B97F4A7C15U;
        kind ^= kind >> 32;
    }
    return kind | 1;
}

/* ---- before a call ---- */

static inline void trial_prefer(struct trial_state *const s, const int way) {
    s->best = way;
    s->calls = 0;
    s->calls_before = TRIAL_CALLS_BEFORE;
}

static inline void trial_wait(struct trial_state *const s, const int64_t now, const int64_t pause) {
    s->since = now;
    s->next = now + pause;
}

static inline void trial_reset(struct trial_state *const s, const enum trial_way guess) {
    for (int way = 0; way < TRIAL_WAYS; way++) {
        s->ns[way] = 0;
    }
    trial_prefer(s, (int)guess);
    s->last_tried = (int)guess;
    s->trying = -1;
    s->trials = 0;
    s->debt = 0;
    s->since = s->next = s->pause = s->distrust = 0;
}

static inline void trial_start(struct trial_state *const s, const unsigned ways, const double amount) {
    int way = s->last_tried;
    do {
        way = (way + 1) % TRIAL_WAYS;
    } while (way == s->best || !(ways >> way & 1));
    s->trying = s->last_tried = way;
    s->trials++;
    s->left = trial_calls(s->ns[s->best] * amount);
    s->least = FLT_MAX;
    s->spent = 0;
}

/* The slot of the kind, or the least recently used slot of its set. */
static inline struct trial_slot *trial_find(struct trials *const trials, const uint64_t kind) {
    struct trial_slot *const set = trials->slots[kind / 2 % TRIAL_SETS], *oldest = set;
    for (struct trial_slot *s = set; s < set + TRIAL_SET_SLOTS; s++) {
        if (atomic_load_explicit(&s->kind, memory_order_relaxed) == kind) {
            return s;
        }
        if (atomic_load_explicit(&s->used, memory_order_relaxed) <
            atomic_load_explicit(&oldest->used, memory_order_relaxed)) {
            oldest = s;
        }
    }
    return oldest;
}

/* Gives the slot to this kind. */
static inline void trial_take_slot(struct trials *const trials, struct trial_slot *const slot, const uint64_t kind,
                                   const enum trial_way guess, const int64_t now) {
    const int64_t given_up = atomic_load_explicit(&trials->given_up, memory_order_relaxed);
    const bool crowded = given_up > 0 && now >= given_up && now - given_up < TRIAL_DISTRUST_MAX;
    atomic_store_explicit(&slot->kind, kind, memory_order_relaxed);
    trial_reset(&slot->soon, crowded ? TRIAL_ALONE : guess);
    trial_reset(&slot->late, crowded ? TRIAL_ALONE : guess);
}

static inline enum trial_way trial_choose(struct trial_state *const s, const unsigned ways, const double amount,
                                          const int64_t now) {
    const bool waits = now < s->next && now >= s->since; /* unless a clock was set back */
    const bool is_new = s->trials < __builtin_popcount(ways) - 1;
    const bool is_due = is_new ? s->calls >= TRIAL_CALLS_BEFORE : s->calls >= s->calls_before && !waits;
    if (s->trying < 0 && is_due) {
        trial_start(s, ways, amount);
    }
    return (enum trial_way)(s->trying >= 0 ? s->trying : s->best);
}

/* Begins a call of `kind`. The bit set `ways` holds the ways that are allowed: `guess` and at least one more. */
static inline struct trial_call trial_begin(struct trials *const trials, const uint64_t kind, const double amount,
                                            const unsigned ways, const enum trial_way guess, const int64_t now) {
    struct trial_slot *const slot = trial_find(trials, kind);
    struct trial_call call = {.kind = kind, .way = guess, .amount = amount, .begin = now};
    if (atomic_exchange_explicit(&slot->held, true, memory_order_acquire)) {
        return call;
    }
    if (atomic_load_explicit(&slot->kind, memory_order_relaxed) != kind) {
        trial_take_slot(trials, slot, kind, guess, now);
    }
    const bool is_late = now - atomic_load_explicit(&slot->used, memory_order_relaxed) > TRIAL_SLEEP_NS;
    call.slot = slot;
    call.state = is_late ? &slot->late : &slot->soon;
    call.way = trial_choose(call.state, ways, amount, now);
    atomic_store_explicit(&slot->used, now, memory_order_relaxed);
    atomic_store_explicit(&slot->held, false, memory_order_release);
    return call;
}

/* ---- after a call ---- */

static inline int64_t trial_longer(const int64_t pause, const double most, const double least) {
    const double doubled = 2 * (double)pause < most ? 2 * (double)pause : most;
    return (int64_t)(doubled > least ? doubled : least);
}

/* Adds the gain or loss of a call of the best team to the record. Returns true if the call lost before the team had
 * recovered its last loss; a single loss is forgiven, since anything may disturb a single call. */
static inline bool trial_is_lost(struct trial_state *const s, const double ns, const double amount) {
    const double usual = s->ns[TRIAL_ALONE] > 0 ? s->ns[TRIAL_ALONE] : 3 * s->ns[s->best];
    const double over = usual > 0 ? (ns - usual) * amount : 0;
    const bool again = over > TRIAL_LOSS_NS && s->debt > 0;
    const double debt = s->debt + over < TRIAL_CALL_MAX_NS ? s->debt + over : TRIAL_CALL_MAX_NS;
    s->debt = debt > 0 ? debt : 0;
    return again;
}

static inline void trial_give_up_team(struct trial_state *const s, const double wall, const int64_t now) {
    s->ns[TRIAL_USUAL] = s->ns[TRIAL_OTHER] = 0; /* only another trial can tell */
    trial_prefer(s, TRIAL_ALONE);
    s->distrust = trial_longer(s->distrust, TRIAL_DISTRUST_MAX, TRIAL_COST_OF_LOSS * wall);
    trial_wait(s, now, s->distrust);
}

static inline void note_trial(struct trial_state *const s, const double ns, const double amount, const int64_t now) {
    const double known = s->ns[s->best];
    s->least = ns < s->least ? (float)ns : s->least;
    s->spent += (ns - known) * amount;
    if (--s->left > 0 && ns < 4 * known && (ns - known) * amount < TRIAL_LOSS_NS) {
        return;
    }
    s->ns[s->trying] = s->least;
    if (s->least < trial_margin * known) {
        trial_prefer(s, s->trying);
        s->pause = (int64_t)(TRIAL_COST * ns * amount);
    } else {
        s->pause = trial_longer(s->pause, TRIAL_PAUSE_MAX, TRIAL_COST * s->spent);
        s->calls_before = s->calls + TRIAL_COST * trial_calls(known * amount);
    }
    trial_wait(s, now, s->pause);
    s->trying = -1;
}

static inline void note_best(struct trial_state *const s, const double ns) {
    float *const known = &s->ns[s->best];
    s->calls++;
    if (s->calls <= TRIAL_SETTLING) {
        *known = *known == 0 || ns < *known ? (float)ns : *known;
        return;
    }
    *known += (float)(((ns < 1.25 * *known ? ns : 1.25 * *known) - *known) / 4); /* an outlier counts for little */
    if (s->best != TRIAL_ALONE && s->debt == 0 && s->calls % TRIAL_CALLS_OF_TRUST == 0) {
        s->distrust /= 2;
    }
    for (int way = 0; way < TRIAL_WAYS; way++) {
        if (s->ns[way] > 0 && s->ns[way] < trial_margin * *known) {
            trial_prefer(s, way);
            return;
        }
    }
}

/* Locks the call's slot. False if another caller holds it, or if it now belongs to another kind. */
static inline bool trial_hold(const struct trial_call *const call) {
    if (atomic_exchange_explicit(&call->slot->held, true, memory_order_acquire)) {
        return false;
    }
    if (atomic_load_explicit(&call->slot->kind, memory_order_relaxed) == call->kind) {
        return true;
    }
    atomic_store_explicit(&call->slot->held, false, memory_order_release);
    return false;
}

/* Records a call that has run to its end; its slot is not null. */
static inline void trial_end(struct trials *const trials, const struct trial_call *const call, const int64_t now) {
    struct trial_state *const s = call->state;
    double wall = (double)(now - call->begin);
    if (wall <= 0 || !trial_hold(call)) {
        return;
    }
    wall = wall < TRIAL_CALL_MAX_NS ? wall : TRIAL_CALL_MAX_NS;
    const double ns = wall / call->amount;
    if ((int)call->way == s->trying) {
        note_trial(s, ns, call->amount, now);
    } else if ((int)call->way == s->best) {
        if (call->way != TRIAL_ALONE && trial_is_lost(s, ns, call->amount)) {
            trial_give_up_team(s, wall, now);
            atomic_store_explicit(&trials->given_up, now, memory_order_relaxed);
        } else {
            note_best(s, ns);
        }
    }
    atomic_store_explicit(&call->slot->used, now, memory_order_relaxed);
    atomic_store_explicit(&call->slot->held, false, memory_order_release);
}

/* Ends a call that did not run this way, or not to its end; its slot is not null. A trial ends with it. */
static inline void trial_abandon(const struct trial_call *const call, const int64_t now) {
    struct trial_state *const s = call->state;
    if (!trial_hold(call)) {
        return;
    }
    if ((int)call->way == s->trying) {
        s->trying = -1;
        trial_wait(s, now, TRIAL_PAUSE_MAX);
    }
    atomic_store_explicit(&call->slot->held, false, memory_order_release);
}

#endif
