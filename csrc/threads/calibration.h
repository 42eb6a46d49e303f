/* Calibration of short calls, packing and comparisons: which cut is the fastest (pace.h has the records). */
#ifndef FASTRNN_CALIBRATION_H
#define FASTRNN_CALIBRATION_H

#include "pace.h"

/* The question of a call: which of these cuts? */
struct pace_question {
    uint32_t key;
    unsigned cuts;               /* pace_bit of one thread, and of at least one more */
    enum fastrnn_cut guess;      /* the cost model's answer */
    enum fastrnn_cut of_threads; /* the cost model's answer for several threads */
    double amount;               /* rows or bytes */
};

/* A call that is timed. */
struct pace_call {
    struct pace_slot *slot; /* null: the call is not recorded */
    struct pace_state *state;
    enum fastrnn_cut cut;
    uint32_t key;
    double amount;
    int64_t begin;
};

static inline int pace_index(const enum fastrnn_cut cut) { return (int)cut - FASTRNN_CUT_ONE_THREAD; }
static inline enum fastrnn_cut pace_cut(const int index) { return (enum fastrnn_cut)(index + FASTRNN_CUT_ONE_THREAD); }

/* ---- before a call ---- */

static inline void pace_prefer(struct pace_state *const s, const int cut) {
    s->best = (int8_t)cut;
    s->calls = 0;
    s->calls_before = PACE_CALLS_BEFORE;
}

static inline void pace_reset(struct pace_state *const s, const struct pace_question *const q,
                              const enum fastrnn_cut guess) {
    *s = (struct pace_state){.probed = -1};
    pace_prefer(s, pace_index(guess));
    /* Probes go around; the first one is of the model's cut for several threads. */
    s->last_probed = guess != FASTRNN_CUT_ONE_THREAD             ? s->best
                     : q->of_threads == FASTRNN_CUT_BY_SEQUENCES ? (int8_t)pace_index(FASTRNN_CUT_ONE_THREAD)
                                                                 : (int8_t)pace_index(FASTRNN_CUT_BY_SEQUENCES);
}

static inline void pace_start_probe(struct pace_state *const s, const unsigned cuts, const double amount) {
    int cut = s->last_probed;
    do {
        cut = (cut + 1) % PACE_CUTS;
    } while (cut == s->best || !(cuts >> cut & 1));
    s->probed = s->last_probed = (int8_t)cut;
    s->probes += s->probes < UINT8_MAX;
    s->left = (int8_t)pace_probe_calls(s->ns[s->best] * amount);
    /* The threads may be asleep; a call of a millisecond hardly notices. */
    s->warms = s->best == pace_index(FASTRNN_CUT_ONE_THREAD) && s->left > 1;
    s->least = FLT_MAX;
    s->spent = 0;
}

static inline enum fastrnn_cut pace_choose(struct pace_state *const s, const struct pace_question *const q,
                                           const int64_t now) {
    const bool waits = pace_waits(&s->probe, now) || pace_waits(&s->fallback, now);
    const bool is_new = s->probes < __builtin_popcount(q->cuts) - 1;
    const bool is_due = is_new ? s->calls >= PACE_CALLS_BEFORE : s->calls >= s->calls_before && !waits;
    if (s->probed < 0 && is_due) {
        pace_start_probe(s, q->cuts, q->amount);
    }
    return pace_cut(s->probed >= 0 ? s->probed : s->best);
}

/* False for a call of another kind than those on record. The record goes to the other kind after several calls. */
static inline bool pace_admit(struct pace *const pace, struct pace_slot *const slot,
                              const struct pace_question *const q, const int64_t now) {
    if (slot->key == q->key) {
        slot->strangers = 0;
        return true;
    }
    if (slot->key != 0 && ++slot->strangers < PACE_STRANGERS) {
        return false;
    }
    const int64_t fallback = atomic_load_explicit(&pace->fallback, memory_order_relaxed);
    const bool crowded = fallback > 0 && now >= fallback && now - fallback < PACE_FALLBACK_MAX;
    const enum fastrnn_cut guess = crowded ? FASTRNN_CUT_ONE_THREAD : q->guess;
    slot->key = q->key;
    slot->strangers = 0;
    pace_reset(&slot->soon, q, guess);
    pace_reset(&slot->late, q, guess);
    return true;
}

static inline bool pace_hold(atomic_bool *const held) {
    return !atomic_exchange_explicit(held, true, memory_order_acquire);
}
static inline void pace_let_go(atomic_bool *const held) { atomic_store_explicit(held, false, memory_order_release); }

static inline struct pace_call pace_begin(struct pace *const pace, struct pace_slot *const slot,
                                          const struct pace_question *const q, const int64_t now) {
    struct pace_call call = {.cut = q->guess, .key = q->key, .amount = q->amount, .begin = now};
    if (!pace_hold(&slot->held)) {
        return call;
    }
    if (pace_admit(pace, slot, q, now)) {
        call.slot = slot;
        call.state = now - slot->used > PACE_SLEEP_NS ? &slot->late : &slot->soon;
        call.cut = pace_choose(call.state, q, now);
        slot->used = now;
    }
    pace_let_go(&slot->held);
    return call;
}

/* ---- after a call ---- */

/* Adds the gain or loss of a call on several threads to the record. Returns true if the call lost before the threads
 * had recovered their last loss; a single loss is forgiven, since anything may disturb a single call. */
static inline bool pace_is_lost(struct pace_state *const s, const double ns, const double amount) {
    const float alone = s->ns[pace_index(FASTRNN_CUT_ONE_THREAD)];
    const double usual = alone > 0 ? alone : 3 * s->ns[s->best];
    const double over = usual > 0 ? (ns - usual) * amount : 0;
    const bool again = over > PACE_LOSS_NS && s->debt > 0;
    const double debt = s->debt + over < PACE_CALL_MAX_NS ? s->debt + over : PACE_CALL_MAX_NS;
    s->debt = debt > 0 ? (float)debt : 0;
    return again;
}

static inline void pace_fall_back(struct pace_state *const s, const double wall, const int64_t now) {
    for (int cut = 1; cut < PACE_CUTS; cut++) {
        s->ns[cut] = 0; /* only another probe can tell */
    }
    pace_prefer(s, pace_index(FASTRNN_CUT_ONE_THREAD));
    pace_back_off(&s->fallback, now, PACE_COST_OF_FALLBACK * wall, PACE_FALLBACK_MAX);
}

static inline void pace_end_probe(struct pace_state *const s, const double amount, const int64_t now) {
    const double known = s->ns[s->best];
    if (s->least < FLT_MAX) {
        s->ns[s->probed] = s->least;
    }
    if (s->least < pace_margin * known) {
        pace_prefer(s, s->probed);
        s->forgiven = false;
        s->probe = (struct pace_pause){.end = now + (int64_t)(PACE_COST * s->least * amount)};
    } else if (s->spent >= PACE_LOSS_NS && !s->forgiven) {
        s->forgiven = true; /* a lost slice of the scheduler may disturb any single call: probe once more */
        s->calls_before = s->calls + PACE_CALLS_BEFORE;
        s->last_probed = (int8_t)((s->probed + PACE_CUTS - 1) % PACE_CUTS);
    } else {
        s->calls_before = s->calls + PACE_COST * (uint32_t)pace_probe_calls(known * amount);
        pace_back_off(&s->probe, now, PACE_COST * (double)s->spent, PACE_PAUSE_MAX);
    }
    s->probed = -1;
}

/* Records a call of the probe. The call that wakes the threads says nothing about later calls, and does not end the
 * probe unless it lost a slice of the scheduler. */
static inline void pace_note_probe(struct pace_state *const s, const double ns, const double amount,
                                   const int64_t now) {
    const double known = s->ns[s->best], lost = (ns - known) * amount;
    const bool warmed = s->warms, slow = ns > 3 * known;
    s->spent += (float)lost;
    s->warms = false;
    if (!warmed) {
        s->least = ns < s->least ? (float)ns : s->least;
        s->left--;
    }
    if (lost >= PACE_LOSS_NS || (!warmed && (s->left <= 0 || slow))) {
        pace_end_probe(s, amount, now);
    }
}

static inline void pace_note_best(struct pace_state *const s, const double ns) {
    float *const known = &s->ns[s->best];
    s->calls += s->calls < UINT32_MAX / 2;
    if (s->calls <= PACE_SETTLING) {
        *known = *known == 0 || ns < *known ? (float)ns : *known;
        return;
    }
    *known += (float)(((ns < 1.25 * *known ? ns : 1.25 * *known) - *known) / 4); /* an outlier counts for little */
    for (int cut = 0; cut < PACE_CUTS; cut++) {
        if (s->ns[cut] > 0 && s->ns[cut] < pace_margin * *known) {
            pace_prefer(s, cut);
            return;
        }
    }
}

static inline void pace_note(struct pace *const pace, const struct pace_call *const call, const double wall,
                             const int64_t now) {
    struct pace_state *const s = call->state;
    const double ns = wall / call->amount;
    const int cut = pace_index(call->cut);
    if (cut == s->probed) {
        pace_note_probe(s, ns, call->amount, now);
    } else if (cut == s->best) {
        if (call->cut != FASTRNN_CUT_ONE_THREAD && pace_is_lost(s, ns, call->amount)) {
            pace_fall_back(s, wall, now);
            atomic_store_explicit(&pace->fallback, now, memory_order_relaxed);
        } else {
            pace_note_best(s, ns);
        }
    }
}

/* Records a call that has run to its end; its slot is not null. */
static inline void pace_end(struct pace *const pace, const struct pace_call *const call, const int64_t now) {
    struct pace_slot *const slot = call->slot;
    const double wall = (double)(now - call->begin);
    if (wall <= 0 || !pace_hold(&slot->held)) {
        return;
    }
    if (slot->key == call->key) {
        pace_note(pace, call, wall < PACE_CALL_MAX_NS ? wall : PACE_CALL_MAX_NS, now);
        slot->used = now;
    }
    pace_let_go(&slot->held);
}

/* Ends a call without a meaningful time; its slot is not null. A probe ends with it if it cannot run at all. */
static inline void pace_abandon(const struct pace_call *const call, const int64_t now) {
    struct pace_slot *const slot = call->slot;
    struct pace_state *const s = call->state;
    if (!pace_hold(&slot->held)) {
        return;
    }
    if (slot->key == call->key && pace_index(call->cut) == s->probed) {
        s->probed = -1;
        s->probe = (struct pace_pause){now + PACE_PAUSE_MAX, PACE_PAUSE_MAX};
    }
    pace_let_go(&slot->held);
}

#endif
