/* Runs a call on its threads: the one place where OpenMP starts them. */
#include <string.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "ways.h"

static void run_member(const struct team_call *const call, const struct team_member *const me) {
    call->plan->backend->passes[call->pass](call->plan, call->arrays, me);
}

static enum fastrnn_status status_after(struct team_interruption *const interruption) {
    return atomic_load_explicit(&interruption->given_up, memory_order_relaxed) ? FASTRNN_INTERRUPTED : FASTRNN_OK;
}

static enum fastrnn_status run_alone(const struct team_call *const call) {
    struct team_interruption interruption;
    interruption_init(&interruption, 1);
    run_member(call, &(struct team_member){.groups = 1, .members = 1, .interruption = &interruption});
    return status_after(&interruption);
}

static bool same_bytes(const char *const one, const char *const other, const size_t n) {
    return n == 0 || memcmp(one, other, n) == 0;
}

#if defined(_OPENMP)
/* State that the threads of a call share, besides the arguments. */
struct team_state {
    struct team_barrier groups[TEAM_THREADS_MAX], all;
    bool clocked;              /* whether to measure `busy` */
    atomic_int_least64_t busy; /* nanoseconds that all threads worked, in sum */
    struct team_interruption interruption;
};

/* Runs one thread of the region: finds its place, works, and records its time. */
static void join_team(const struct team_call *const call, const enum fastrnn_team cut, struct team_state *const team) {
    const struct layout_shape *const shape = &call->plan->shape;
    const struct team_split split = team_split(shape, cut, omp_get_num_threads());
    const int rank = omp_get_thread_num(), group = rank / split.members;
    if (group >= split.groups) {
        return;
    }
    int64_t waited = 0;
    const int64_t begin = team->clocked ? team_processor_clock() : 0;
    run_member(call, &(struct team_member){.group = group,
                                           .groups = split.groups,
                                           .member = rank % split.members,
                                           .members = split.members,
                                           .group_barrier = &team->groups[group],
                                           .team_barrier = &team->all,
                                           .waited = &waited,
                                           .interruption = &team->interruption});
    if (team->clocked) {
        const int64_t busy = team_processor_clock() - begin - waited;
        atomic_fetch_add_explicit(&team->busy, busy > 0 ? busy : 0, memory_order_relaxed);
    }
}

static enum fastrnn_status run_team(const struct team_call *const call, const struct call_way *const way) {
    struct team_state team; /* 32 KiB, mostly unused */
    for (int j = 0; j < way->threads; j++) {
        barrier_init(&team.groups[j]);
    }
    barrier_init(&team.all);
    team.clocked = way->judged;
    atomic_init(&team.busy, 0);
    interruption_init(&team.interruption, way->threads);
    const int64_t begin = way->judged ? team_clock() : 0;
#pragma omp parallel num_threads(way->threads)
    join_team(call, way->team, &team);
    if (way->judged) {
        const int64_t end = team_clock();
        way_judge(end, end - begin, atomic_load(&team.busy));
    }
    return status_after(&team.interruption);
}

/* Packing is a copy: the members share the blocks, and need no barrier. */
static enum fastrnn_status pack(const struct team_call *const call) {
    const struct call_way way = way_of_packing(call);
    if (way.threads == 1) {
        run_member(call, &(struct team_member){.groups = 1, .members = 1});
    } else {
#pragma omp parallel num_threads(way.threads)
        run_member(
            call, &(struct team_member){.groups = 1, .member = omp_get_thread_num(), .members = omp_get_num_threads()});
    }
    way_end(&way);
    return FASTRNN_OK;
}

enum fastrnn_status call_run(const struct team_call *const call) {
    if (call->pass == FASTRNN_PACK_FORWARD || call->pass == FASTRNN_PACK_BACKWARD) {
        return pack(call);
    }
    if (call->plan->shape.sequences == 0) {
        return FASTRNN_OK; /* however many steps there are */
    }
    const struct call_way way = way_of_call(call);
    const enum fastrnn_status status = way.threads == 1 ? run_alone(call) : run_team(call, &way);
    if (status == FASTRNN_OK) {
        way_end(&way);
    } else {
        way_abandon(&way);
    }
    return status;
}

static bool team_finds_same(const char *const one, const char *const other, const size_t n, const int threads) {
    atomic_bool same = true;
#pragma omp parallel num_threads(threads)
    {
        const struct team_range mine = team_share((int64_t)n, omp_get_thread_num(), omp_get_num_threads());
        if (!same_bytes(one + mine.begin, other + mine.begin, (size_t)(mine.end - mine.begin))) {
            atomic_store_explicit(&same, false, memory_order_relaxed);
        }
    }
    return atomic_load(&same);
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads) {
    const struct call_way way = way_of_comparison(n, threads);
    const bool same = way.threads == 1 ? same_bytes(one, other, n) : team_finds_same(one, other, n, way.threads);
    if (same) {
        way_end(&way);
    } else {
        way_abandon(&way); /* it ended early */
    }
    return same;
}
#else
enum fastrnn_status call_run(const struct team_call *const call) {
    const bool is_empty = call->pass >= FASTRNN_FORWARD && call->plan->shape.sequences == 0;
    return is_empty ? FASTRNN_OK : run_alone(call);
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads) {
    (void)threads;
    return same_bytes(one, other, n);
}
#endif
