/* Runs a call on its threads: OpenMP starts them here. */
#include "run.h"

#include <string.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "choice.h"

static void run_member(const struct run *const run, const struct team_member *const me) {
    run->plan->backend->passes[run->pass](run->plan, run->arrays, me);
}

static enum fastrnn_status status_after(struct team_interruption *const interruption) {
    return atomic_load_explicit(&interruption->given_up, memory_order_relaxed) ? FASTRNN_INTERRUPTED : FASTRNN_OK;
}

static enum fastrnn_status run_alone(const struct run *const run) {
    struct team_interruption interruption;
    atomic_int_least64_t last_look;
    interruption_init(&interruption, &last_look, 1);
    const struct barrier_place alone = {.members = 1};
    run_member(run, &(struct team_member){
                        .groups = 1, .members = 1, .in_group = alone, .in_team = alone, .interruption = &interruption});
    return status_after(&interruption);
}

static bool same_bytes(const char *const one, const char *const other, const size_t n) {
    return n == 0 || memcmp(one, other, n) == 0;
}

enum fastrnn_status run_linear(linear_function *const function, const struct fastrnn_linear *const linear,
                               const enum fastrnn_linear_pass pass, const int threads) {
    struct team_interruption interruption;
    atomic_int_least64_t last_look[TEAM_THREADS_MAX];
    interruption_init(&interruption, last_look, threads);
#if defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        function(linear, pass,
                 &(struct team_member){.group = omp_get_thread_num(),
                                       .groups = omp_get_num_threads(),
                                       .members = 1,
                                       .interruption = &interruption});
        return status_after(&interruption);
    }
#endif
    function(linear, pass, &(struct team_member){.groups = 1, .members = 1, .interruption = &interruption});
    return status_after(&interruption);
}

#if defined(_OPENMP)
/* ---- several threads ---- */

/* Times of the threads, in nanoseconds and in sum. */
struct team_clocks {
    bool used;
    atomic_int_least64_t work; /* processor time without waiting */
    atomic_int_least64_t busy; /* wall time without waiting */
    atomic_int_least64_t most; /* the largest of these wall times */
    atomic_int threads;
};

/* State that the threads of a call share, besides the arguments. */
struct team {
    struct team_barrier *groups; /* one for each group */
    struct team_barrier all;
    struct line_counter *group_clusters, *clusters; /* null for up to BARRIER_CLUSTER threads */
    struct line_counter taken[TEAM_WORKS];
    bool by_pieces;
    struct team_clocks clocks;
    struct team_interruption interruption;
};

/* The group's clusters lie after those of the groups before it. */
static struct barrier_place place_in_group(struct team *const team, const struct cut_split split, const int group,
                                           const int member) {
    const int clusters_before = group * split.members / BARRIER_CLUSTER + group;
    return (struct barrier_place){&team->groups[group],
                                  split.members > BARRIER_CLUSTER ? team->group_clusters + clusters_before : NULL,
                                  member, split.members};
}

static void add_times(struct team_clocks *const clocks, const int64_t work, const int64_t busy) {
    int64_t most = atomic_load_explicit(&clocks->most, memory_order_relaxed);
    while (busy > most && !atomic_compare_exchange_weak_explicit(&clocks->most, &most, busy, memory_order_relaxed,
                                                                 memory_order_relaxed)) {
    }
    atomic_fetch_add_explicit(&clocks->work, work > 0 ? work : 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&clocks->busy, busy > 0 ? busy : 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&clocks->threads, 1, memory_order_relaxed);
}

/* Runs one thread of the region: finds its place, works, and records its times. */
static void join_team(const struct run *const run, const enum fastrnn_cut cut, struct team *const team) {
    const struct cut_split split = cut_split(&run->plan->shape, cut, omp_get_num_threads());
    const int rank = omp_get_thread_num(), group = rank / split.members, member = rank % split.members;
    if (group >= split.groups) {
        return;
    }
    int64_t waited = 0;
    const int64_t wall = team->clocks.used ? team_clock() : 0;
    const int64_t processor = team->clocks.used ? team_processor_clock() : 0;
    run_member(run, &(struct team_member){
                        .group = group,
                        .groups = split.groups,
                        .member = member,
                        .members = split.members,
                        .taken = team->by_pieces ? team->taken : NULL,
                        .in_group = place_in_group(team, split, group, member),
                        .in_team = {&team->all, team->clusters, rank, split.groups * split.members},
                        .waited = &waited,
                        .interruption = &team->interruption,
                    });
    if (team->clocks.used) {
        add_times(&team->clocks, team_processor_clock() - processor - waited, team_clock() - wall - waited);
    }
}

static struct pace_times times_of(struct team_clocks *const clocks, const int64_t wall) {
    const int threads = atomic_load(&clocks->threads);
    return (struct pace_times){
        .wall = wall,
        .work = atomic_load(&clocks->work),
        .most = atomic_load(&clocks->most),
        .mean = atomic_load(&clocks->busy) / (threads > 0 ? threads : 1),
    };
}

static enum fastrnn_status run_team(const struct run *const run, const struct choice *const choice,
                                    struct team *const team, atomic_int_least64_t *const last_look) {
    for (int j = 0; j < choice->threads; j++) {
        barrier_init(&team->groups[j]);
    }
    barrier_init(&team->all);
    team->by_pieces = choice->cut == FASTRNN_CUT_BY_PIECES;
    for (int j = 0; team->by_pieces && j < TEAM_WORKS; j++) {
        atomic_init(&team->taken[j].count, 0);
    }
    team->clocks.used = choice->judged;
    atomic_init(&team->clocks.work, 0);
    atomic_init(&team->clocks.busy, 0);
    atomic_init(&team->clocks.most, 0);
    atomic_init(&team->clocks.threads, 0);
    interruption_init(&team->interruption, last_look, choice->threads);
    const int64_t begin = choice->judged ? team_clock() : 0;
#pragma omp parallel num_threads(choice->threads)
    join_team(run, choice->cut, team);
    const enum fastrnn_status status = status_after(&team->interruption);
    if (choice->judged && status == FASTRNN_OK) {
        const int64_t end = team_clock();
        const struct pace_times times = times_of(&team->clocks, end - begin);
        pace_judge(choice->judged, choice->cut, choice->has_pieces, &times, end);
    }
    return status;
}

/* Two amounts of memory on the stack: 2 KiB for few threads, 40 KiB for many. */
static enum fastrnn_status run_few(const struct run *const run, const struct choice *const choice) {
    struct team_barrier groups[BARRIER_CLUSTER];
    atomic_int_least64_t last_look[BARRIER_CLUSTER];
    struct team team = {.groups = groups};
    return run_team(run, choice, &team, last_look);
}

static enum fastrnn_status run_many(const struct run *const run, const struct choice *const choice) {
    enum { CLUSTERS = TEAM_THREADS_MAX / BARRIER_CLUSTER };
    struct team_barrier groups[TEAM_THREADS_MAX];
    struct line_counter clusters[CLUSTERS], group_clusters[2 * CLUSTERS + BARRIER_CLUSTER];
    atomic_int_least64_t last_look[TEAM_THREADS_MAX];
    struct team team = {.groups = groups, .group_clusters = group_clusters, .clusters = clusters};
    memset(clusters, 0, sizeof clusters);
    memset(group_clusters, 0, sizeof group_clusters);
    return run_team(run, choice, &team, last_look);
}

/* Packing is a copy: the threads share the blocks, and need no barrier. */
static enum fastrnn_status pack(const struct run *const run) {
    const struct choice choice = choice_of_packing(run);
    if (choice.threads == 1) {
        run_member(run, &(struct team_member){.groups = 1, .members = 1});
    } else {
        struct line_counter taken[TEAM_WORKS];
        memset(taken, 0, sizeof taken);
#pragma omp parallel num_threads(choice.threads)
        run_member(run,
                   &(struct team_member){
                       .groups = 1, .member = omp_get_thread_num(), .members = omp_get_num_threads(), .taken = taken});
    }
    choice_end(&choice);
    return FASTRNN_OK;
}

enum fastrnn_status run_call(const struct run *const run) {
    if (run->pass == FASTRNN_PACK_FORWARD || run->pass == FASTRNN_PACK_BACKWARD) {
        return pack(run);
    }
    if (run->plan->shape.sequences == 0) {
        return FASTRNN_OK; /* however many steps there are */
    }
    const struct choice choice = choice_of_call(run);
    const enum fastrnn_status status = choice.threads == 1                 ? run_alone(run)
                                       : choice.threads <= BARRIER_CLUSTER ? run_few(run, &choice)
                                                                           : run_many(run, &choice);
    if (status == FASTRNN_OK) {
        choice_end(&choice);
    } else {
        choice_abandon(&choice);
    }
    return status;
}

/* ---- comparisons ---- */

/* Threads take pieces, so that each reads at its own speed. */
enum { COMPARED_BYTES = 64 << 10 };

static bool threads_find_same(const char *const one, const char *const other, const size_t n, const int threads) {
    atomic_bool same = true;
    struct line_counter taken[1] = {{0}};
#pragma omp parallel num_threads(threads)
    {
        const struct team_member me = {
            .groups = 1, .member = omp_get_thread_num(), .members = omp_get_num_threads(), .taken = taken};
        struct team_parts parts = team_parts(&me, (enum team_work)0, (int64_t)n, COMPARED_BYTES);
        struct team_range part;
        while (team_next(&parts, &part)) {
            if (!same_bytes(one + part.begin, other + part.begin, (size_t)(part.end - part.begin))) {
                atomic_store_explicit(&same, false, memory_order_relaxed);
                break;
            }
        }
    }
    return atomic_load(&same);
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads,
                       struct fastrnn_pace *const pace) {
    const struct choice choice = choice_of_comparison(n, threads, pace);
    const bool same =
        choice.threads == 1 ? same_bytes(one, other, n) : threads_find_same(one, other, n, choice.threads);
    if (same) {
        choice_end(&choice);
    } else {
        choice_abandon(&choice); /* it ended early */
    }
    return same;
}
#else
enum fastrnn_status run_call(const struct run *const run) {
    const bool is_empty = run->pass >= FASTRNN_FORWARD && run->plan->shape.sequences == 0;
    return is_empty ? FASTRNN_OK : run_alone(run);
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads,
                       struct fastrnn_pace *const pace) {
    (void)threads, (void)pace;
    return same_bytes(one, other, n);
}
#endif
