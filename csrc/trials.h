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
 * Times are in nanoseconds; slots hold them per unit of the call's amount. A call whose slot is held by another caller
 * does not wait: it takes the cost model's guess.
 */
#ifndef FASTRNN_TRIALS_H
#define FASTRNN_TRIALS_H

#include <float.h>
#include <stddef.h>

#include "team.h"

enum {
    TRIAL_SETS = 64,
    TRIAL_SET_SLOTS = 4,
    TRIAL_CALLS_BEFORE = 6,       /* calls that a way gets before another is tried */
    TRIAL_SETTLING = 4,           /* the first calls start threads and fetch from far: the least of so many counts */
    TRIAL_COST = 64,              /* what was lost, so many times over, passes until the next trial */
    TRIAL_COST_OF_LOSS = 32,      /* the same for the second of two calls that a team lost */
    TRIAL_PAUSE_MAX = 1 << 28,    /* of the doubled pause: a quarter of a second */
    TRIAL_DISTRUST_MAX = 1 << 30, /* after losses: a second */
    TRIAL_LOSS_NS = 1000000,  /* a team that takes longer than one thread by this has lost a slice of the scheduler */
    TRIAL_SLEEP_NS = 2000000, /* threads that have nothing to do for so long go to sleep, and must be woken */
    TRIAL_CALL_MAX_NS = 1 << 28, /* a call that takes longer was stopped, or its machine was: no more counts */
    TRIAL_CALLS_OF_TRUST = 512,  /* of a team that does well halve the pause after its next losses */
};

/* The calls of a trial: short ones have to wake the threads up first. */
static inline int trial_calls(const double ns) { return ns > 1e6 ? 1 : ns > 1e5 ? 2 : 4; }

/* Another way must be faster by this to be taken. */
static const float trial_margin = 0.95F;

enum trial_way { TRIAL_ALONE, TRIAL_USUAL, TRIAL_OTHER, TRIAL_WAYS };

/* What is known of calls that come soon after one of their kind, or later. */
struct trial_state {
    float ns[TRIAL_WAYS]; /* 0: not known */
    int best, trying, last_tried;
    int trials;           /* so far: until each way has had one, none is waited for */
    int left;             /* of the calls of the trial that goes on */
    int64_t calls;        /* that went the best way since it is the best */
    int64_t calls_before; /* that must go it before another is tried */
    double debt;          /* what the team's losses cost, without what it won since */
    float least;          /* of the trial that goes on */
    double spent;         /* by it */
    int64_t since, next;  /* no other way is tried from … to */
    int64_t pause;        /* after the last trial in vain */
    int64_t distrust;     /* the pause after a team's last losses, halved while it does well */
};

struct trial_slot {
    atomic_bool held;          /* by the caller that reads or writes a state */
    _Atomic uint64_t kind;     /* of the calls whose times these are; 0: none */
    atomic_int_least64_t used; /* when it last was */
    struct trial_state soon, late;
};

struct trials {
    struct trial_slot slots[TRIAL_SETS][TRIAL_SET_SLOTS];
    atomic_int_least64_t given_up; /* when the last team was: for a while, new kinds begin with one thread */
};

struct trial_call {
    struct trial_slot *slot; /* null: not to be noted */
    struct trial_state *state;
    uint64_t kind;
    enum trial_way way;
    double amount;
    int64_t begin;
};

/* The exponent of the greatest power of two that is at most n; 0 for 0. */
static inline int64_t trial_log2(const int64_t n) { return 63 - __builtin_clzll((uint64_t)n | 1); }

/* A number for calls of which all these facts are equal; not 0. */
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

/* The slot of the kind, or the one of its set that was not used for longest. */
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

/* The slot begins to be used for this kind. */
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

/* A call of `kind`, for which the ways of the bit set `ways` are open, `guess` and at least one more. */
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

/* Counts what a call of the best team won or lost, and says whether it lost before the last loss was won back. Anything
 * may disturb a single call. */
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

/* Whether the caller now holds the call's slot, which still is of its kind. */
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

/* The call, whose slot is not null, has been run. */
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

/* The call, whose slot is not null, was not run this way, or not to its end. If that was a trial, it is over. */
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
