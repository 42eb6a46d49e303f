/* Picks the threads of a call, and starts them: the one place where OpenMP does. */
#include <string.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "call.h"
#include "crowding.h"
#include "fork.h"
#include "schedule.h"
#include "thread_room.h"
#include "trials.h"

static void run_member(const struct team_call *const call, const struct team_member *const me) {
    if (call->forward) {
        call->backend->forward(call->problem, call->forward, me);
    } else {
        call->backend->backward(call->problem, call->backward, me);
    }
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

#if defined(_OPENMP)
/* Multiply-adds that a thread of the whole call, and a member at each step, must at least have: starting a team and a
 * barrier cost as much as some 50 000 and 11 000 of them, and a second thread has to win that back. Groups, which share
 * nothing but the call, need no work at each step. GRU forward at T=100, B=1, H=128 takes 275 us on one thread, 167 on
 * two. (LSTM at H=64 would win as well while a barrier is quick, and lose twice as much while it is not.) A member also
 * needs accumulators to fill the time that each takes: an RNN at H=128 has eight panels, and takes 94 us on one thread,
 * 165 on two. */
enum { WORK_PER_THREAD = 100000, STEP_WORK_PER_MEMBER = 22000, CHAINS_PER_MEMBER = 8 };

/* The multiply-adds of a forward call. */
static double call_work(const struct fastrnn_problem *const p, const int64_t rows) {
    return (double)fastrnn_cell_gates(p->cell) * (double)p->H * (double)(p->I + p->H) * (double)rows;
}

/* The threads that the work can feed: what a call takes until it is known better. */
static int worthwhile_threads(const struct fastrnn_problem *const p, const int vector_length, const int64_t rows) {
    const int64_t sequences = schedule_sequences(p);
    const int gates = fastrnn_cell_gates(p->cell);
    const double step_work = (double)gates * (double)p->H * (double)p->H * (double)sequences;
    const double chains = (double)gates * (double)layout_blocks(p->H, vector_length) * (double)sequences;
    double members = step_work / STEP_WORK_PER_MEMBER;
    members = members < chains / CHAINS_PER_MEMBER ? members : chains / CHAINS_PER_MEMBER;
    const double groups = (double)(sequences / team_rows(p, gates)), useful = groups > members ? groups : members;
    double threads = call_work(p, rows) / WORK_PER_THREAD;
    threads = threads < useful ? threads : useful;
    const int most = team_threads(p->threads);
    return p->team != FASTRNN_TEAM_PAYING ? most : threads < 2 ? 1 : threads < most ? (int)threads : most;
}

static struct crowding crowding;              /* of long calls */
static struct trial_slot trials[TRIAL_SLOTS]; /* of short ones */

/* How a call is run. */
struct call_way {
    int threads;
    enum fastrnn_team team;  /* what they share out */
    bool judged;             /* by `crowding` */
    struct trial_call trial; /* or its slot is null */
};

/* Calls of fewer multiply-adds take one thread. Those of more vector operations, some milliseconds, have work enough
 * for as many threads as they can feed, and a single one tried another way would show. */
enum { TRIED_WORK_MIN = 100000, TRIED_VECTORS_MAX = 8000000 };

/* What the time of a call depends on; of the number of rows, the power of two. */
static uint64_t kind_of_call(const struct team_call *const call, const int64_t rows) {
    const struct fastrnn_problem *const p = call->problem;
    const void *const packed = call->forward ? call->forward->packed : call->backward->packed;
    const bool saves = call->forward && call->forward->reserve;
    const int64_t small = (call->forward != NULL) | (packed != NULL) << 1 | saves << 2 |
                          (p->dtype == FASTRNN_F64) << 3 | (p->schedule != NULL) << 4 | (int)p->cell << 8 |
                          p->backend << 16;
    const int64_t sizes[] = {small, p->I, p->H, p->threads, schedule_sequences(p)};
    uint64_t kind = trial_power(rows);
    for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
        kind = trial_mix(kind, sizes[j]);
    }
    return kind;
}

/* A short call: one thread, a team that is cut as usual, or one that is cut the other way. */
static struct call_way try_call(const struct team_call *const call, const int64_t rows, const int worthwhile) {
    const struct fastrnn_problem *const p = call->problem;
    const int64_t sequences = schedule_sequences(p), blocks = layout_blocks(p->H, call->backend->vector_length);
    const int threads = worthwhile > 1 ? worthwhile : 2;
    const bool by_rows = team_split(p, fastrnn_cell_gates(p->cell), threads, sequences, blocks).groups > 1;
    const bool has_other = by_rows ? blocks > 1 : sequences > 1;
    const struct trial_call trial =
        trial_begin(trials, kind_of_call(call, rows), (double)rows,
                    1U << TRIAL_ALONE | 1U << TRIAL_USUAL | (unsigned)has_other << TRIAL_OTHER,
                    worthwhile > 1 ? TRIAL_USUAL : TRIAL_ALONE, team_clock());
    return (struct call_way){
        .threads = trial.way == TRIAL_ALONE ? 1 : threads,
        .team = trial.way != TRIAL_OTHER ? p->team
                : by_rows                ? FASTRNN_TEAM_BY_UNITS
                                         : FASTRNN_TEAM_BY_ROWS,
        .trial = trial,
    };
}

static struct call_way choose_way(const struct team_call *const call, const int64_t rows) {
    const struct fastrnn_problem *const p = call->problem;
    const double work = (call->forward ? 1 : 2) * call_work(p, rows);
    if (fork_is_child() || p->threads == 1 || (p->team == FASTRNN_TEAM_PAYING && work < TRIED_WORK_MIN)) {
        return (struct call_way){.threads = 1};
    }
    const int threads = worthwhile_threads(p, call->backend->vector_length, rows);
    struct call_way way = {.threads = threads, .team = p->team};
    if (p->team == FASTRNN_TEAM_PAYING && work / call->backend->vector_length <= TRIED_VECTORS_MAX) {
        way = try_call(call, rows, threads);
    } else if (p->team == FASTRNN_TEAM_PAYING && threads > 1) {
        way.judged = true;
        way.threads = crowding_allows_team(&crowding, team_clock()) ? threads : 1;
    }
    if (way.threads > 1 && !thread_room_for(way.threads)) {
        return (struct call_way){.threads = 1};
    }
    return way;
}

/* What the threads of a call share beside its arguments. */
struct team_state {
    struct team_barrier groups[TEAM_THREADS_MAX], all;
    bool clocked;              /* whether to find `busy` */
    atomic_int_least64_t busy; /* nanoseconds that all threads worked, in sum */
    struct team_interruption interruption;
};

/* One thread of the region: finds its place, works, and notes how long. */
static void join_team(const struct team_call *const call, struct team_state *const team) {
    const int64_t blocks = layout_blocks(call->problem->H, call->backend->vector_length);
    const struct team_split split = team_split(call->problem, fastrnn_cell_gates(call->problem->cell),
                                               omp_get_num_threads(), schedule_sequences(call->problem), blocks);
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

static void end_trial(const struct call_way *const way) {
    if (way->trial.slot) {
        trial_end(&way->trial, team_clock());
    }
}

static enum fastrnn_status run_team(const struct team_call *const call, const struct call_way *const way) {
    struct fastrnn_problem problem = *call->problem;
    problem.team = way->team;
    const struct team_call cut = {call->backend, &problem, call->forward, call->backward};
    struct team_state team = {.clocked = way->judged};
    for (int j = 0; j < way->threads; j++) {
        barrier_init(&team.groups[j]);
    }
    barrier_init(&team.all);
    atomic_init(&team.busy, 0);
    interruption_init(&team.interruption, way->threads);
    const int64_t begin = way->judged ? team_clock() : 0;
#pragma omp parallel num_threads(way->threads)
    join_team(&cut, &team);
    if (way->judged) {
        const int64_t end = team_clock();
        crowding_judge(&crowding, end, end - begin, atomic_load(&team.busy));
    }
    return status_after(&team.interruption);
}

enum fastrnn_status call_run(const struct team_call *const call, const int64_t rows) {
    if (schedule_sequences(call->problem) == 0) {
        return FASTRNN_OK; /* however many steps there are */
    }
    const struct call_way way = choose_way(call, rows);
    const enum fastrnn_status status = way.threads == 1 ? run_alone(call) : run_team(call, &way);
    if (status == FASTRNN_OK) {
        end_trial(&way);
    }
    return status;
}

/* Bytes that each thread of a team packs or compares, until it is known better: at 30 GB/s, a team starts in the time
 * of some 64 KiB. Fewer than TRIED_BYTES_MIN take one thread. */
enum { BYTES_PER_THREAD = 256 << 10, TRIED_BYTES_MIN = 128 << 10 };

static struct call_way try_bytes(const uint64_t kind, const double bytes, const int most) {
    if (fork_is_child() || most == 1 || bytes < TRIED_BYTES_MIN) {
        return (struct call_way){.threads = 1};
    }
    const double worthwhile = bytes / BYTES_PER_THREAD;
    const int threads = worthwhile < 2 ? 2 : worthwhile < most ? (int)worthwhile : most;
    if (!thread_room_for(threads)) {
        return (struct call_way){.threads = 1};
    }
    const struct trial_call trial = trial_begin(trials, kind, bytes, 1U << TRIAL_ALONE | 1U << TRIAL_USUAL,
                                                worthwhile < 2 ? TRIAL_ALONE : TRIAL_USUAL, team_clock());
    return (struct call_way){.threads = trial.way == TRIAL_ALONE ? 1 : threads, .trial = trial};
}

static struct call_way packing_way(pack_function *const function, const struct fastrnn_problem *const p) {
    const int most = team_threads(p->threads);
    if (p->team != FASTRNN_TEAM_PAYING) {
        const bool fits = !fork_is_child() && thread_room_for(most);
        return (struct call_way){.threads = fits ? most : 1};
    }
    const double bytes =
        (double)fastrnn_cell_gates(p->cell) * (double)p->H * (double)(p->I + p->H) * (p->dtype == FASTRNN_F64 ? 8 : 4);
    const uint64_t kind = trial_mix(trial_mix((uint64_t)(uintptr_t)function, p->threads), p->cell);
    return try_bytes(trial_mix(trial_mix(kind, p->I), p->H), bytes, most);
}
#else
enum fastrnn_status call_run(const struct team_call *const call, const int64_t rows) {
    (void)rows;
    return schedule_sequences(call->problem) > 0 ? run_alone(call) : FASTRNN_OK;
}
#endif

/* Packing is a copy: the members share the blocks, and need no barrier. */
void call_pack(pack_function *const function, const struct fastrnn_problem *const problem,
               const struct fastrnn_weights *const weights, void *const packed) {
#if defined(_OPENMP)
    const struct call_way way = packing_way(function, problem);
    if (way.threads > 1) {
#pragma omp parallel num_threads(way.threads)
        function(problem, weights, packed,
                 &(struct team_member){.groups = 1, .member = omp_get_thread_num(), .members = omp_get_num_threads()});
    } else {
        function(problem, weights, packed, &(struct team_member){.groups = 1, .members = 1});
    }
    end_trial(&way);
#else
    function(problem, weights, packed, &(struct team_member){.groups = 1, .members = 1});
#endif
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads) {
#if defined(_OPENMP)
    const uint64_t kind = trial_mix(trial_power((int64_t)n), threads);
    const struct call_way way = try_bytes(kind, (double)n, team_threads(threads));
    if (way.threads > 1) {
        atomic_bool same = true;
#pragma omp parallel num_threads(way.threads)
        {
            const struct team_range mine = team_share((int64_t)n, omp_get_thread_num(), omp_get_num_threads());
            const size_t size = (size_t)(mine.end - mine.begin);
            if (memcmp((const char *)one + mine.begin, (const char *)other + mine.begin, size) != 0) {
                atomic_store_explicit(&same, false, memory_order_relaxed);
            }
        }
        if (atomic_load(&same)) { /* else it ended early */
            end_trial(&way);
        }
        return atomic_load(&same);
    }
#else
    (void)threads;
#endif
    const bool same = n == 0 || memcmp(one, other, n) == 0;
#if defined(_OPENMP)
    if (same) {
        end_trial(&way);
    }
#endif
    return same;
}
