/* The threads of one call. Groups of threads share the rows of the batch; the members of a group also share the hidden
 * units and meet at a barrier once a step. OpenMP starts the threads (call.c). The barriers are our own for two
 * reasons: a group is only a part of OpenMP's team, and a waiting thread must yield when a neighbour takes the core.
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

/* State of the question whether to stop a call (fastrnn_problem.interrupted), which the calling thread asks. */
struct team_interruption {
    int64_t next_question; /* the time of the next question; 0: not set yet */
    atomic_bool given_up;
    atomic_int_least64_t last_look[TEAM_THREADS_MAX]; /* for each group, the number of the look at which it stops */
};

/* The place of one thread: member `member` of `members` in group `group` of `groups`. */
struct team_member {
    int group, groups;
    int member, members;
    struct team_barrier *group_barrier; /* this group's */
    struct team_barrier *team_barrier;  /* all groups' */
    int64_t *waited;                    /* nanoseconds that this thread has yielded at barriers */
    struct team_interruption *interruption;
};

/* Nanoseconds of a monotonic clock. */
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

/* Spins for about the duration of a step, then yields the core between looks. */
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

/* The least number of sequences for each thread when threads share sequences (docs/decisions/0014,
 * benchmarks/splits.py). With fewer sequences a thread reads all recurrent weights for little work; members that share
 * units read a part of the weights each, but meet at a barrier in every step. Weights beyond one core's caches are best
 * read once for all threads. */
static inline int64_t team_rows(const struct layout_shape *const s) {
    const double weights = (double)s->gates * (double)s->H * (double)s->H * s->real_bytes;
    return weights <= 64 << 10 ? 1 : weights <= 256 << 10 ? 3 : weights <= 2 << 20 ? TEAM_ROWS : TEAM_ROWS_FAR;
}

/* The multiply-adds of a forward call, or of a step, with so many rows. */
static inline double team_work(const struct layout_shape *const s, const int64_t rows) {
    return (double)s->gates * (double)s->H * (double)(s->I + s->H) * (double)rows;
}

/* Limits of short calls, which find the fastest way by trial (trials.h). Calls below the first limit, in multiply-adds,
 * use one thread. Calls above the second, in vector operations, take milliseconds: the cost model is reliable there,
 * and a single losing trial would be noticed. */
enum { TEAM_TRIED_WORK_MIN = 80000, TEAM_TRIED_VECTORS_MAX = 8000000 };

static inline bool team_is_tried(const struct layout_shape *const s) {
    return team_work(s, s->rows) / s->vl <= TEAM_TRIED_VECTORS_MAX;
}

/* Cuts a team of `threads` into groups and members. Groups share the sequences, as long as each has enough (team_rows).
 * Members of a group share the units, at least one block each. Threads beyond groups*members are idle. */
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

/* The share [begin, end) of part `part` of `parts` in n items. Shares are in order and differ by one item at most. */
struct team_range {
    int64_t begin, end;
};

static inline struct team_range team_share(const int64_t n, const int part, const int parts) {
    const int64_t each = n / parts, more = n % parts;
    const int64_t begin = part * each + (part < more ? part : more);
    return (struct team_range){begin, begin + each + (part < more)};
}

#endif
