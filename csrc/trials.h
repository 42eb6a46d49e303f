/* Which way to run a short call is fastest, found by trying. Whether a second thread pays for work of some
 * microseconds, and whether threads should share rows or units, depends on what a barrier costs just now and on who
 * else uses the cores: no constant knows. So calls of one kind (same sizes, same direction) are timed, and now and then
 * a few of them take another way. Results have the same bits whatever the way.
 *
 * A way that was tried in vain is tried again after a pause that keeps what trials cost below two percent, and doubles.
 * A team that loses again before it has won back what the last loss cost, as beside a busy neighbour, gives way to one
 * thread at once.
 *
 * Times are nanoseconds, in slots per unit of the call's amount. A slot that another caller holds just then is passed
 * by.
 */
#ifndef FASTRNN_TRIALS_H
#define FASTRNN_TRIALS_H

#include <float.h>

#include "team.h"

enum {
    TRIAL_SLOTS = 256,
    TRIAL_CALLS_BEFORE = 6,     /* calls that a way gets before another is tried */
    TRIAL_SETTLING = 4,         /* the first calls start threads and fetch from far: the least of so many counts */
    TRIAL_COST = 64,            /* what was lost, so many times over, passes until the next trial */
    TRIAL_COST_OF_LOSS = 32,    /* the same for the second of two calls that a team lost */
    TRIAL_PAUSE_MAX = 1 << 30,  /* about a second, unless what was lost asks for more */
    TRIAL_LOSS_NS = 1000000,    /* a team that takes longer than one thread by this has lost a slice of the scheduler */
    TRIAL_CALLS_OF_TRUST = 512, /* of a team that does well halve the pause after its next losses */
};

/* A trial is no more than the first of these calls that are long; the threads of short ones must wake up first. */
static inline int trial_calls(const double ns) { return ns > 1e6 ? 1 : ns > 1e5 ? 2 : 4; }

/* Another way must be faster by this to be taken. */
static const float trial_margin = 0.95F;

enum trial_way { TRIAL_ALONE, TRIAL_USUAL, TRIAL_OTHER, TRIAL_WAYS };

struct trial_slot {
    atomic_bool held;
    uint64_t kind;        /* of the calls whose times these are */
    float ns[TRIAL_WAYS]; /* 0: not known */
    int best, trying, last_tried;
    int trials;          /* so far: until each way has had one, none is waited for */
    int left;            /* of the calls of the trial that goes on */
    int calls;           /* that went the best way since it is the best */
    double debt;         /* what its losses cost, without what it won since */
    float least;         /* of the trial that goes on */
    double spent;        /* by it */
    int64_t since, next; /* no other way is tried from … to */
    int64_t pause;       /* after the last trial in vain */
    int64_t distrust;    /* the pause after a team's last losses, halved while it does well */
};

struct trial_call {
    struct trial_slot *slot; /* null: not to be noted */
    uint64_t kind;
    enum trial_way way;
    double amount;
    int64_t begin;
};

static inline uint64_t trial_mix(const uint64_t kind, const int64_t value) {
    uint64_t mixed = (kind ^ (uint64_t)value) * 0x9E3779B97F4A7C15U;
    mixed ^= mixed >> 32;
    return mixed;
}

/* For a kind: the greatest power of two that is at most n. */
static inline uint64_t trial_power(const int64_t n) { return (uint64_t)(63 - __builtin_clzll((uint64_t)n | 1)); }

static inline void trial_prefer(struct trial_slot *const s, const int way) {
    s->best = way;
    s->calls = 0;
}

static inline void trial_reset(struct trial_slot *const s, const uint64_t kind, const enum trial_way guess) {
    s->kind = kind;
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

static inline void trial_start(struct trial_slot *const s, const unsigned ways, const double amount) {
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

/* A call of `kind`, for which the ways of the bit set `ways` are open, `guess` and at least one more. */
static inline struct trial_call trial_begin(struct trial_slot *const slots, const uint64_t kind, const double amount,
                                            const unsigned ways, const enum trial_way guess, const int64_t now) {
    struct trial_slot *const s = &slots[kind % TRIAL_SLOTS];
    struct trial_call call = {.slot = s, .kind = kind, .way = guess, .amount = amount, .begin = now};
    if (atomic_exchange_explicit(&s->held, true, memory_order_acquire)) {
        call.slot = NULL;
        return call;
    }
    if (s->kind != kind) {
        trial_reset(s, kind, guess);
    }
    const bool waits = now < s->next && now >= s->since; /* unless a clock was set back */
    const bool is_new = s->trials < __builtin_popcount(ways) - 1;
    if (s->trying < 0 && s->calls >= TRIAL_CALLS_BEFORE && (is_new || !waits)) {
        trial_start(s, ways, amount);
    }
    call.way = (enum trial_way)(s->trying >= 0 ? s->trying : s->best);
    atomic_store_explicit(&s->held, false, memory_order_release);
    return call;
}

static inline int64_t trial_longer(const int64_t pause, const double least) {
    const double doubled = 2 * (double)pause < TRIAL_PAUSE_MAX ? 2 * (double)pause : TRIAL_PAUSE_MAX;
    return (int64_t)(doubled > least ? doubled : least);
}

static inline void trial_wait(struct trial_slot *const s, const int64_t now, const int64_t pause) {
    s->since = now;
    s->next = now + pause;
}

/* Counts what a call of a team won or lost, and says whether it has lost once too often: shortly after the last time,
 * or before it has won back what that cost. */
static inline bool trial_is_lost(struct trial_slot *const s, const double ns, const double amount) {
    const double usual = s->ns[TRIAL_ALONE] > 0 ? s->ns[TRIAL_ALONE] : 3 * s->ns[s->best];
    const double over = usual > 0 ? (ns - usual) * amount : 0;
    const bool again = over > TRIAL_LOSS_NS && s->debt > 0;
    s->debt = s->debt + over > 0 ? s->debt + over : 0;
    return again;
}

static inline void trial_give_up_team(struct trial_slot *const s, const double wall, const int64_t now) {
    s->ns[TRIAL_USUAL] = s->ns[TRIAL_OTHER] = 0; /* only another trial can tell */
    trial_prefer(s, TRIAL_ALONE);
    s->trying = -1;
    s->distrust = trial_longer(s->distrust, TRIAL_COST_OF_LOSS * wall);
    trial_wait(s, now, s->distrust);
}

static inline void note_trial(struct trial_slot *const s, const double ns, const double amount, const int64_t now) {
    const double known = s->ns[s->best];
    s->least = ns < s->least ? (float)ns : s->least;
    s->spent += (ns - known) * amount;
    if (--s->left > 0 && ns < 4 * known) {
        return;
    }
    s->ns[s->trying] = s->least;
    if (s->least < trial_margin * known) {
        trial_prefer(s, s->trying);
        s->pause = (int64_t)(TRIAL_COST * ns * amount);
    } else {
        s->pause = trial_longer(s->pause, TRIAL_COST * s->spent);
    }
    trial_wait(s, now, s->pause);
    s->trying = -1;
}

static inline void note_best(struct trial_slot *const s, const double ns) {
    float *const known = &s->ns[s->best];
    s->calls++;
    if (s->calls <= TRIAL_SETTLING) {
        *known = *known == 0 || ns < *known ? (float)ns : *known;
        return;
    }
    *known += (float)(((ns < 2 * *known ? ns : 2 * *known) - *known) / 4);
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

static inline void trial_end(const struct trial_call *const call, const int64_t now) {
    struct trial_slot *const s = call->slot;
    const double wall = (double)(now - call->begin);
    if (!s || wall <= 0 || atomic_exchange_explicit(&s->held, true, memory_order_acquire)) {
        return;
    }
    const double ns = wall / call->amount;
    if (s->kind == call->kind && call->way != TRIAL_ALONE && trial_is_lost(s, ns, call->amount)) {
        trial_give_up_team(s, wall, now);
    } else if (s->kind == call->kind && (int)call->way == s->trying) {
        note_trial(s, ns, call->amount, now);
    } else if (s->kind == call->kind && (int)call->way == s->best) {
        note_best(s, ns);
    }
    atomic_store_explicit(&s->held, false, memory_order_release);
}

#endif
