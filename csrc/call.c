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

/* The threads that the work can feed. */
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

static struct crowding crowding;

/* Bytes that a thread must at least have to pack or to compare: at 30 GB/s, a team starts in the time of some 64 KiB.
 */
enum { BYTES_PER_THREAD = 256 << 10 };

static int threads_for_bytes(const double bytes, const int most) {
    const double threads = bytes / BYTES_PER_THREAD;
    return threads < 2 || !crowding_allows_team(&crowding, team_clock()) ? 1 : threads < most ? (int)threads : most;
}

static int packing_threads(const struct fastrnn_problem *const p) {
    const double bytes =
        (double)fastrnn_cell_gates(p->cell) * (double)p->H * (double)(p->I + p->H) * (p->dtype == FASTRNN_F64 ? 8 : 4);
    const int most = fork_is_child() ? 1 : team_threads(p->threads);
    return p->team != FASTRNN_TEAM_PAYING ? most : threads_for_bytes(bytes, most);
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

/* What one thread would take is known well enough for calls of few vector operations, since what a neighbour costs is
 * slices of the scheduler, of a millisecond: no more than this for each. Measuring it takes 1.7 us, a tenth of LSTM
 * forward at T=1, B=1, H=256. */
enum { CLOCKED_VECTORS = 400000, VECTOR_NS = 4 };

enum fastrnn_status call_run(const struct team_call *const call, const int64_t rows) {
    if (schedule_sequences(call->problem) == 0) {
        return FASTRNN_OK; /* however many steps there are */
    }
    const int threads = fork_is_child() ? 1 : worthwhile_threads(call->problem, call->backend->vector_length, rows);
    const int64_t begin = threads > 1 ? team_clock() : 0;
    const bool judged = call->problem->team == FASTRNN_TEAM_PAYING;
    if (threads == 1 || (judged && !crowding_allows_team(&crowding, begin)) || !thread_room_for(threads)) {
        return run_alone(call);
    }
    struct team_state team;
    for (int j = 0; j < threads; j++) {
        barrier_init(&team.groups[j]);
    }
    barrier_init(&team.all);
    const double vectors = call_work(call->problem, rows) / call->backend->vector_length;
    team.clocked = judged && vectors > CLOCKED_VECTORS;
    atomic_init(&team.busy, team.clocked ? 0 : (int64_t)(vectors * VECTOR_NS));
    interruption_init(&team.interruption, threads);
#pragma omp parallel num_threads(threads)
    join_team(call, &team);
    const int64_t end = team_clock();
    if (judged) {
        crowding_judge(&crowding, end, end - begin, atomic_load(&team.busy));
    }
    return status_after(&team.interruption);
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
    const int threads = packing_threads(problem);
    if (threads > 1 && thread_room_for(threads)) {
#pragma omp parallel num_threads(threads)
        function(problem, weights, packed,
                 &(struct team_member){.groups = 1, .member = omp_get_thread_num(), .members = omp_get_num_threads()});
        return;
    }
#endif
    function(problem, weights, packed, &(struct team_member){.groups = 1, .members = 1});
}

int fastrnn_same_bytes(const void *const one, const void *const other, const size_t n, const int threads) {
#if defined(_OPENMP)
    const int team = fork_is_child() ? 1 : threads_for_bytes((double)n, team_threads(threads));
    if (team > 1 && thread_room_for(team)) {
        atomic_bool same = true;
#pragma omp parallel num_threads(team)
        {
            const struct team_range mine = team_share((int64_t)n, omp_get_thread_num(), omp_get_num_threads());
            const size_t size = (size_t)(mine.end - mine.begin);
            if (memcmp((const char *)one + mine.begin, (const char *)other + mine.begin, size) != 0) {
                atomic_store_explicit(&same, false, memory_order_relaxed);
            }
        }
        return atomic_load(&same);
    }
#else
    (void)threads;
#endif
    return n == 0 || memcmp(one, other, n) == 0;
}
