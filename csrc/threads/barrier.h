/* Barriers and clocks of the threads of one call. The barriers are our own for two reasons: a group is only a part of
 * OpenMP's team, and a waiting thread must yield when a neighbour takes the core.
 */
#ifndef FASTRNN_BARRIER_H
#define FASTRNN_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

enum {
    CACHE_LINE_BYTES = 64,
    BARRIER_SPINS = 2000, /* looks at a closed barrier before a thread yields its core: about the duration of a step */
    BARRIER_CLUSTER = 16, /* with more members, each cluster of so many counts its own arrivals */
};

/* A counter in a cache line of its own. */
struct line_counter {
    _Alignas(CACHE_LINE_BYTES) atomic_int count;
};

/* Counts arrivals and generations; members wait for the generation to change. */
struct team_barrier {
    struct line_counter arrived;
    _Alignas(CACHE_LINE_BYTES) atomic_uint generation;
};

/* A barrier and its place in it. With more than BARRIER_CLUSTER members a single counter would move from core to core
 * once for each member. So each cluster of members counts its own arrivals, and its last arrival counts for all. */
struct barrier_place {
    struct team_barrier *barrier;
    struct line_counter *clusters; /* barrier_clusters(members); null for few members */
    int member, members;
};

static inline int barrier_clusters(const int members) { return (members + BARRIER_CLUSTER - 1) / BARRIER_CLUSTER; }

static inline void barrier_init(struct team_barrier *const barrier) {
    atomic_init(&barrier->arrived.count, 0);
    atomic_init(&barrier->generation, 0);
}

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

static inline bool barrier_is_closed(struct team_barrier *const barrier, const unsigned generation) {
    return atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation;
}

/* Counts an arrival. Returns true, and resets the counter, if it is the last of `all`. */
static inline bool line_counter_arrive(struct line_counter *const counter, const int all) {
    if (atomic_fetch_add_explicit(&counter->count, 1, memory_order_acq_rel) < all - 1) {
        return false;
    }
    atomic_store_explicit(&counter->count, 0, memory_order_relaxed);
    return true;
}

static inline bool barrier_arrive(const struct barrier_place *const p) {
    if (p->members <= BARRIER_CLUSTER) {
        return line_counter_arrive(&p->barrier->arrived, p->members);
    }
    const int cluster = p->member / BARRIER_CLUSTER, left = p->members - cluster * BARRIER_CLUSTER;
    return line_counter_arrive(&p->clusters[cluster], left < BARRIER_CLUSTER ? left : (int)BARRIER_CLUSTER) &&
           line_counter_arrive(&p->barrier->arrived, barrier_clusters(p->members));
}

/* Spins first, then yields the core between looks, and adds the nanoseconds of the yields to *waited. */
static inline void barrier_wait(const struct barrier_place *const p, int64_t *const waited) {
    if (p->members == 1) {
        return;
    }
    struct team_barrier *const barrier = p->barrier;
    const unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (barrier_arrive(p)) {
        atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0; spins < BARRIER_SPINS; spins++) {
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

#endif
