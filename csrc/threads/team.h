/* The threads of one call. Groups of threads share the sequences of the batch; the members of a group also share the
 * hidden units and meet at a barrier once a step. OpenMP starts the threads (run.c).
 *
 * Parts of the work are equal shares in order, or pieces that threads take from a shared counter, so that a fast thread
 * does more of them. A result has the same bits either way.
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include "barrier.h"

enum { TEAM_THREADS_MAX = 256 };

/* ---- shares ---- */

/* The share [begin, end) of part `part` of `parts` in n items. Shares are in order and differ by one item at most. */
struct team_range {
    int64_t begin, end;
};

static inline struct team_range team_share(const int64_t n, const int part, const int parts) {
    const int64_t each = n / parts, more = n % parts;
    const int64_t begin = part * each + (part < more ? part : more);
    return (struct team_range){begin, begin + each + (part < more)};
}

/* Piece number `piece` of n items that `threads` threads take one after another: each is half of an equal share of the
 * items that are left, and at least `least`. So the first pieces are large, which is efficient, and the last ones are
 * small, which lets all threads end at about the same time. Empty after the last piece. */
static inline struct team_range team_piece(const int64_t n, const int threads, const int64_t least, const int piece) {
    struct team_range range = {0, 0};
    for (int j = 0; j <= piece; j++) {
        const int64_t half = (n - range.end) / (2 * threads), size = half > least ? half : least;
        range = (struct team_range){range.end, size < n - range.end ? range.end + size : n};
    }
    return range;
}

/* ---- members ---- */

/* State of the question whether to stop a call (fastrnn_problem.interrupted), which the calling thread asks. */
struct team_interruption {
    int64_t next_question; /* the time of the next question; 0: not set yet */
    atomic_bool given_up;
    atomic_int_least64_t *last_look; /* for each group, the number of the look at which it stops */
};

/* The work that threads take in pieces. Each kind of work has a counter. */
enum team_work { TEAM_SEQUENCES, TEAM_DX, TEAM_DW_INPUT, TEAM_DW_STATE, TEAM_PACK_INPUT, TEAM_PACK_STATE, TEAM_WORKS };

/* The place of one thread: member `member` of `members` in group `group` of `groups`. */
struct team_member {
    int group, groups;
    int member, members;
    struct line_counter *taken; /* [TEAM_WORKS] pieces that threads have taken; null: equal shares */
    struct barrier_place in_group, in_team;
    int64_t *waited; /* nanoseconds that this thread has yielded at barriers */
    struct team_interruption *interruption;
};

static inline int team_rank(const struct team_member *const m) { return m->group * m->members + m->member; }
static inline int team_size(const struct team_member *const m) { return m->groups * m->members; }

static inline void group_wait(const struct team_member *const m) { barrier_wait(&m->in_group, m->waited); }
static inline void team_wait(const struct team_member *const m) { barrier_wait(&m->in_team, m->waited); }

/* ---- parts ---- */

/* The parts of n items that a thread does: its equal share, or pieces as it takes them. */
struct team_parts {
    const struct team_member *member;
    struct line_counter *taken; /* null: an equal share, which is the only part */
    int64_t n, least;
    bool done;
};

/* Pieces have at least `least` items. All threads of the team go through the parts of a kind of work once; then
 * team_restart prepares the next time. */
static inline struct team_parts team_parts(const struct team_member *const m, const enum team_work work,
                                           const int64_t n, const int64_t least) {
    return (struct team_parts){m, m->taken ? &m->taken[work] : NULL, n, least, false};
}

/* The number of the next piece of this work. */
static inline int team_take(const struct team_member *const m, const enum team_work work) {
    return atomic_fetch_add_explicit(&m->taken[work].count, 1, memory_order_relaxed);
}

/* Sets *range to the next part; false if there is none. */
static inline bool team_next(struct team_parts *const p, struct team_range *const range) {
    if (p->taken) {
        const int piece = atomic_fetch_add_explicit(&p->taken->count, 1, memory_order_relaxed);
        *range = team_piece(p->n, team_size(p->member), p->least, piece);
        return range->begin < range->end;
    }
    const bool found = !p->done;
    *range = team_share(p->n, team_rank(p->member), team_size(p->member));
    p->done = true;
    return found;
}

/* Call it in one thread, between two barriers of the team between which no thread takes this work. */
static inline void team_restart(const struct team_member *const m, const enum team_work work) {
    if (m->taken && team_rank(m) == 0) {
        atomic_store_explicit(&m->taken[work].count, 0, memory_order_relaxed);
    }
}

/* ---- interruptions ---- */

/* How often a thread checks for an interruption: after about TEAM_WORK_PER_LOOK multiply-adds of its group, so rarely
 * that the cost of reading the clock is negligible. The members of a group look at the same steps. */
enum { TEAM_WORK_PER_LOOK = 4 << 20, TEAM_QUESTION_NS = 250 * 1000 * 1000 };

struct team_looks {
    int (*interrupted)(void); /* null: never looks */
    int64_t every, left, number;
};

static inline struct team_looks team_looks(int (*const interrupted)(void), const double work_per_step) {
    const double every = TEAM_WORK_PER_LOOK / (work_per_step + 1);
    const int64_t steps = !interrupted ? INT64_MAX : every > 1 ? (int64_t)every : 1;
    return (struct team_looks){.interrupted = interrupted, .every = steps, .left = steps};
}

/* last_look: one for each group. */
static inline void interruption_init(struct team_interruption *const i, atomic_int_least64_t *const last_look,
                                     const int groups) {
    i->next_question = 0;
    i->last_look = last_look;
    atomic_init(&i->given_up, false);
    for (int group = 0; group < groups; group++) {
        atomic_init(&last_look[group], INT64_MAX);
    }
}

static inline bool team_has_given_up(const struct team_member *const m) {
    return atomic_load_explicit(&m->interruption->given_up, memory_order_relaxed);
}

/* The calling thread asks whether to stop; the first member of each group passes the answer to its group. */
static inline void take_look(const struct team_member *const m, const struct team_looks *const looks) {
    if (team_rank(m) == 0) {
        const int64_t now = team_clock();
        if (m->interruption->next_question == 0) {
            m->interruption->next_question = now + TEAM_QUESTION_NS;
        } else if (now >= m->interruption->next_question) {
            if (looks->interrupted()) {
                atomic_store_explicit(&m->interruption->given_up, true, memory_order_relaxed);
            }
            m->interruption->next_question = team_clock() + TEAM_QUESTION_NS;
        }
    }
    if (m->member == 0 && team_has_given_up(m)) {
        atomic_store_explicit(&m->interruption->last_look[m->group], looks->number, memory_order_relaxed);
    }
}

/* The group's barrier after a step. Returns true if the group stops; all its members return the same. Looks are
 * numbered, since a slow member may already see the answer to a later look. */
static inline bool step_wait(const struct team_member *const m, struct team_looks *const looks) {
    const bool looks_now = --looks->left == 0;
    if (looks_now) {
        take_look(m, looks);
    }
    group_wait(m);
    if (!looks_now) {
        return false;
    }
    looks->left = looks->every;
    return atomic_load_explicit(&m->interruption->last_look[m->group], memory_order_relaxed) <= looks->number++;
}

/* As step_wait, if the members need not wait for each other: only a look has a barrier. */
static inline bool step_pass(const struct team_member *const m, struct team_looks *const looks) {
    if (looks->left > 1) {
        looks->left--;
        return false;
    }
    return step_wait(m, looks);
}

#endif
