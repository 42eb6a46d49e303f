#include "costs.h"

/* Nanoseconds of two threads' region in the upper half, of their barrier in the lower half; 0: not measured. A process
 * has one machine, so this is the same for all layers. */
static atomic_uint_least64_t measured;

struct cut_costs costs_now(void) {
    const uint64_t found = atomic_load_explicit(&measured, memory_order_relaxed);
    if (found == 0) {
        return (struct cut_costs){1, 1};
    }
    return (struct cut_costs){cut_cost((double)(found >> 32), CUT_REGION_NS),
                              cut_cost((double)(found & UINT32_MAX), CUT_BARRIER_NS)};
}

#if defined(_OPENMP)
#include <omp.h>

/* The shortest of several rounds counts: a round may be disturbed, and the first one starts the threads. */
enum { ROUNDS = 4, BARRIERS = 8, ROUNDS_NS_MAX = 1000000 };

/* Nanoseconds of a region in which the threads meet at so many barriers. */
static int64_t region_ns(const int threads, const int barriers) {
    struct team_barrier barrier;
    struct line_counter clusters[TEAM_THREADS_MAX / BARRIER_CLUSTER];
    barrier_init(&barrier);
    for (int j = 0; j < barrier_clusters(threads); j++) {
        atomic_init(&clusters[j].count, 0);
    }
    const int64_t begin = team_clock();
#pragma omp parallel num_threads(threads)
    {
        const struct barrier_place place = {&barrier, clusters, omp_get_thread_num(), omp_get_num_threads()};
        int64_t waited = 0;
        for (int j = 0; j < barriers; j++) {
            barrier_wait(&place, &waited);
        }
    }
    return team_clock() - begin;
}

/* Ends early where rounds take long, as on a crowded machine. */
static int64_t shortest_region_ns(const int threads, const int barriers) {
    const int64_t end = team_clock() + ROUNDS_NS_MAX;
    int64_t least = UINT32_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t ns = region_ns(threads, barriers);
        least = ns < least ? ns : least;
        if (team_clock() > end) {
            break;
        }
    }
    return least;
}

void costs_measure(const int threads) {
    if (atomic_load_explicit(&measured, memory_order_relaxed) != 0) {
        return;
    }
    region_ns(threads, 0);
    const int64_t region = shortest_region_ns(threads, 0), with_barriers = shortest_region_ns(threads, BARRIERS);
    const double barrier = with_barriers > region ? (double)(with_barriers - region) / BARRIERS : 0;
    const uint64_t of_two = (uint64_t)((double)region / cut_region_growth(threads));
    atomic_store_explicit(&measured, of_two << 32 | (uint64_t)(1 + barrier / cut_barrier_growth(threads)),
                          memory_order_relaxed);
}
#else
void costs_measure(const int threads) { (void)threads; }
#endif
