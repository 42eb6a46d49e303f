/* The threads of one call. Rows of the batch are split over groups; the members of a group also split the hidden
 * units and meet at a barrier once a step. OpenMP starts the threads (call.c); the barriers are our own, since a group
 * is only a part of OpenMP's team, and since they must yield when a neighbour takes the core.
 */
#ifndef FASTRNN_TEAM_H
#define FASTRNN_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "layout.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

enum { TEAM_SPINS = 2000, TEAM_ROWS = 6, TEAM_ROWS_FAR = 24, TEAM_THREADS_MAX = 256, CACHE_LINE_BYTES = 64 };

/* Counts arrivals and generations; members wait for the generation to change. */
struct team_barrier {
    _Alignas(CACHE_LINE_BYTES) atomic_int arrived;
    _Alignas(CACHE_LINE_BYTES) atomic_uint generation;
};

/* Whether a call is to be given up: its own thread asks, see fastrnn_problem.interrupted. */
struct team_interruption {
    int64_t next_question; /* when to ask; 0: not yet known */
    atomic_bool given_up;
    atomic_int_least64_t last_look[TEAM_THREADS_MAX]; /* of each group: the look at which it gives up */
};

/* What one thread knows of its place: member `member` of `members` in group `group` of `groups`. */
struct team_member {
    int group, groups;
    int member, members;
    struct team_barrier *group_barrier; /* this group's */
    struct team_barrier *team_barrier;  /* all groups' */
    int64_t *waited;                    /* nanoseconds that this thread has yielded at barriers */
    struct team_interruption *interruption;
};

/* Nanoseconds of a clock that nobody sets. */
static inline int64_t team_clock(void) {
#if defined(_WIN32)
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&second);
    return ticks.QuadPart / second.QuadPart * 1000000000 +
           ticks.QuadPart % second.QuadPart * 1000000000 / second.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#endif
}

static inline int team_rank(const struct team_member *const m) { return m->group * m->members + m->member; }
static inline int team_size(const struct team_member *const m) { return m->groups * m->members; }

/* The processor time that this thread has used. Windows counts it in hundredths of a second only. */
static inline int64_t team_processor_clock(void) {
#if defined(CLOCK_THREAD_CPUTIME_ID) && !defined(_WIN32)
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
#else
    return team_clock();
#endif
}

static inline void team_yield(void) {
#if defined(_WIN32)
    SwitchToThread();
#else
    sched_yield();
#endif
}

static inline void team_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void barrier_init(struct team_barrier *const barrier) {
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->generation, 0);
}

static inline int barrier_is_closed(struct team_barrier *const barrier, const unsigned generation) {
    return atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation;
}

/* Spins for about as long as a step takes, then yields the core at every look. */
static inline void barrier_wait(struct team_barrier *const barrier, const int members, int64_t *const waited) {
    if (members == 1) {
        return;
    }
    const unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == members - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0; spins < TEAM_SPINS; spins++) {
        if (!barrier_is_closed(barrier, generation)) {
            return;
        }
        team_pause();
    }
    const int64_t begin = team_clock();
    while (barrier_is_closed(barrier, generation)) {
        team_yield();
    }
    *waited += team_clock() - begin;
}

static inline void group_wait(const struct team_member *const m) {
    barrier_wait(m->group_barrier, m->members, m->waited);
}
static inline void team_wait(const struct team_member *const m) {
    barrier_wait(m->team_barrier, team_size(m), m->waited);
}

/* When a thread looks up from its steps: after about TEAM_WORK_PER_LOOK multiply-adds of its group, some 0.1 ms, in
 * which reading the clock does not show. The members of a group look at the same steps. */
enum { TEAM_WORK_PER_LOOK = 4 << 20, TEAM_QUESTION_NS = 250 * 1000 * 1000 };

struct team_looks {
    int (*interrupted)(void); /* or null: never */
    int64_t every, left, number;
};

static inline struct team_looks team_looks(int (*const interrupted)(void), const double work_per_step) {
    const double every = TEAM_WORK_PER_LOOK / (work_per_step + 1);
    const int64_t steps = !interrupted ? INT64_MAX : every > 1 ? (int64_t)every : 1;
    return (struct team_looks){.interrupted = interrupted, .every = steps, .left = steps};
}

static inline void interruption_init(struct team_interruption *const i, const int groups) {
    i->next_question = 0;
    atomic_init(&i->given_up, false);
    for (int group = 0; group < groups; group++) {
        atomic_init(&i->last_look[group], INT64_MAX);
    }
}

static inline bool team_has_given_up(const struct team_member *const m) {
    return atomic_load_explicit(&m->interruption->given_up, memory_order_relaxed);
}

/* The group's first member learns what the call's own thread was told, and tells the others. */
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

/* The group's barrier after a step; true where its members, all of them, give the call up. A slow member may see the
 * answer to a later look, hence its number. */
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

/* How many sequences keep a thread busy by rows alone, where fewer would read all recurrent weights for little work:
 * the members of a group read a part each, but meet at a barrier in every step (measured by benchmarks/splits.py).
 * Weights that do not fit the caches of one core are best read once for all threads. */
static inline int64_t team_rows(const struct layout_shape *const s) {
    const double weights = (double)s->gates * (double)s->H * (double)s->H * s->real_bytes;
    return weights <= 64 << 10 ? 1 : weights <= 256 << 10 ? 3 : weights <= 2 << 20 ? TEAM_ROWS : TEAM_ROWS_FAR;
}

/* The multiply-adds of so many rows: of a forward call, or of a step. */
static inline double team_work(const struct layout_shape *const s, const int64_t rows) {
    return (double)s->gates * (double)s->H * (double)(s->I + s->H) * (double)rows;
}

/* Short calls try how they are best run (trials.h). Calls of fewer multiply-adds take one thread. Those of more vector
 * operations, some milliseconds, have work enough for as many threads as they can feed, and a single one that is run
 * another way would show. */
enum { TEAM_TRIED_WORK_MIN = 80000, TEAM_TRIED_VECTORS_MAX = 8000000 };

static inline bool team_is_tried(const struct layout_shape *const s) {
    return team_work(s, s->rows) / s->vl <= TEAM_TRIED_VECTORS_MAX;
}

/* How many groups and members a team of `threads` is cut into: by rows as far as they keep threads busy; with fewer,
 * members of a group share the units, of which each takes a block at least. Threads beyond groups*members have nothing
 * to do. */
struct team_split {
    int groups, members;
};

static inline int team_threads(const int wanted) { return wanted < TEAM_THREADS_MAX ? wanted : TEAM_THREADS_MAX; }

static inline struct team_split team_split(const struct layout_shape *const s, const enum fastrnn_team cut,
                                           const int threads) {
    const int64_t blocks = layout_blocks(s->H, s->vl);
    const int64_t busy = cut == FASTRNN_TEAM_BY_ROWS    ? s->sequences
                         : cut == FASTRNN_TEAM_BY_UNITS ? 1
                                                        : s->sequences / team_rows(s);
    const int64_t groups = busy < 1 ? 1 : busy;
    const int g = groups < threads ? (int)groups : threads;
    const int members = threads / g;
    return (struct team_split){g, members <= blocks ? members : blocks < 1 ? 1 : (int)blocks};
}

/* The share [begin, end) of n items that falls to part `part` of `parts`, as even as can be, in order. */
struct team_range {
    int64_t begin, end;
};

static inline struct team_range team_share(const int64_t n, const int part, const int parts) {
    const int64_t each = n / parts, more = n % parts;
    const int64_t begin = part * each + (part < more ? part : more);
    return (struct team_range){begin, begin + each + (part < more)};
}

#endif
