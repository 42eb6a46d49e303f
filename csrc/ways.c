/* Chooses how a call runs, from a cost model, from trials of short calls (trials.h), and from the times of long calls,
 * which a neighbour may make slow on several threads (crowding.h). */
#include "ways.h"

#include "crowding.h"
#include "fork.h"
#include "thread_room.h"

static struct crowding crowding; /* of long calls */
static struct trials trials;     /* of short ones */

static const struct call_way one_thread = {.threads = 1};

/* ---- calls ---- */

/* The least number of multiply-adds for a thread of the whole call, and for a member at each step
 * (docs/decisions/0014): starting a team costs as much as some 50 000 of them and a barrier as some 11 000, and a
 * second thread has to win that back. Groups meet only at the end of the call and need no work at each step. A member
 * also needs enough independent accumulators to hide the latency of each: an RNN at H=128 has eight panels. Short calls
 * start from this model and are then timed. */
enum { WORK_PER_THREAD = 100000, STEP_WORK_PER_MEMBER = 22000, CHAINS_PER_MEMBER = 8 };

/* The number of threads that the work can keep busy; all threads if the caller asks for them. */
static int worthwhile_threads(const struct plan *const plan) {
    const struct layout_shape *const s = &plan->shape;
    const double sequences = (double)s->sequences;
    const double step_work = (double)s->gates * (double)s->H * (double)s->H * sequences;
    const double chains = (double)s->gates * (double)layout_blocks(s->H, s->vl) * sequences;
    double members = step_work / STEP_WORK_PER_MEMBER;
    members = members < chains / CHAINS_PER_MEMBER ? members : chains / CHAINS_PER_MEMBER;
    const double groups = (double)(s->sequences / team_rows(s)), useful = groups > members ? groups : members;
    double threads = team_work(s, s->rows) / WORK_PER_THREAD;
    threads = threads < useful ? threads : useful;
    const int most = team_threads(plan->problem.threads);
    return plan->problem.team != FASTRNN_TEAM_PAYING ? most : threads < 2 ? 1 : threads < most ? (int)threads : most;
}

/* Bit j: pointer j is not null. */
static int64_t present(void *const *const pointers) {
    int64_t bits = 0;
    for (int j = 0; j < FASTRNN_PARAMETERS_MAX; j++) {
        bits |= (int64_t)(pointers[j] != NULL) << j;
    }
    return bits;
}

/* The hash of the facts that determine the time of a call; rows and sequences are rounded to a power of two, or to a
 * quarter of one. */
static uint64_t kind_of_call(const struct team_call *const call, const int threads) {
    const struct plan *const plan = call->plan;
    const struct fastrnn_problem *const p = &plan->problem;
    const struct fastrnn_arrays *const a = call->arrays;
    const int64_t sequences = plan->shape.sequences, power = trial_log2(sequences);
    const int64_t facts[] = {
        (int)call->pass | (int)p->cell << 4 | (int)p->dtype << 12 | (p->schedule != NULL) << 16 |
            (a->packed != NULL) << 17 | (a->reserve != NULL) << 18 | (a->dx.data != NULL) << 19 |
            (int)a->accumulation << 20,
        call->pass == FASTRNN_BACKWARD ? present(a->gradients) : 0,
        p->backend,
        p->I,
        p->H,
        threads,
        p->threads,
        trial_log2(plan->shape.rows),
        power < 3 ? sequences : power << 8 | sequences >> (power - 2),
    };
    return trial_kind(facts, sizeof facts / sizeof facts[0]);
}

/* A short call: one thread, a team that is cut as usual, or one that is cut the other way. */
static struct call_way try_call(const struct team_call *const call, const int worthwhile) {
    const struct layout_shape *const shape = &call->plan->shape;
    const enum fastrnn_team team = call->plan->problem.team;
    const int threads = worthwhile > 1 ? worthwhile : 2;
    const bool by_rows = team_split(shape, team, threads).groups > 1;
    const bool has_other = by_rows ? layout_blocks(shape->H, shape->vl) > 1 : shape->sequences > 1;
    const struct trial_call trial =
        trial_begin(&trials, kind_of_call(call, threads), (double)shape->rows,
                    1U << TRIAL_ALONE | 1U << TRIAL_USUAL | (unsigned)has_other << TRIAL_OTHER,
                    worthwhile > 1 ? TRIAL_USUAL : TRIAL_ALONE, team_clock());
    return (struct call_way){
        .threads = trial.way == TRIAL_ALONE ? 1 : threads,
        .team = trial.way != TRIAL_OTHER ? team
                : by_rows                ? FASTRNN_TEAM_BY_UNITS
                                         : FASTRNN_TEAM_BY_ROWS,
        .trial = trial,
    };
}

/* The same way, if its threads can be had. */
static struct call_way with_room(const struct call_way way) {
    if (way.threads > 1 && !thread_room_for(way.threads)) {
        way_abandon(&way);
        return one_thread;
    }
    return way;
}

struct call_way way_of_call(const struct team_call *const call) {
    const struct layout_shape *const shape = &call->plan->shape;
    const enum fastrnn_team team = call->plan->problem.team;
    if (fork_is_child() || call->plan->problem.threads == 1 ||
        (team == FASTRNN_TEAM_PAYING && team_work(shape, shape->rows) < TEAM_TRIED_WORK_MIN)) {
        return one_thread;
    }
    const int threads = worthwhile_threads(call->plan);
    struct call_way way = {.threads = threads, .team = team};
    if (team == FASTRNN_TEAM_PAYING && team_is_tried(shape)) {
        way = try_call(call, threads);
    } else if (team == FASTRNN_TEAM_PAYING && threads > 1) {
        way.judged = true;
        way.threads = crowding_allows_team(&crowding, team_clock()) ? threads : 1;
    }
    return with_room(way);
}

void way_judge(const int64_t now, const int64_t wall, const int64_t busy) {
    crowding_judge(&crowding, now, wall, busy);
}

/* ---- copies ---- */

/* The least number of bytes that each thread of a team packs or compares, until trials have timed it. A team starts in
 * the time that one thread needs for some 64 KiB. Fewer bytes than TRIED_BYTES_MIN always take one thread. */
enum { BYTES_PER_THREAD = 256 << 10, TRIED_BYTES_MIN = 128 << 10 };

static struct call_way try_bytes(const uint64_t kind, const double bytes, const int most) {
    if (fork_is_child() || most == 1 || bytes < TRIED_BYTES_MIN) {
        return one_thread;
    }
    const double worthwhile = bytes / BYTES_PER_THREAD;
    const int threads = worthwhile < 2 ? 2 : worthwhile < most ? (int)worthwhile : most;
    const struct trial_call trial = trial_begin(&trials, kind, bytes, 1U << TRIAL_ALONE | 1U << TRIAL_USUAL,
                                                worthwhile < 2 ? TRIAL_ALONE : TRIAL_USUAL, team_clock());
    return with_room((struct call_way){.threads = trial.way == TRIAL_ALONE ? 1 : threads, .trial = trial});
}

struct call_way way_of_packing(const struct team_call *const call) {
    const struct fastrnn_problem *const p = &call->plan->problem;
    const struct layout_shape *const shape = &call->plan->shape;
    const int most = team_threads(p->threads);
    if (p->team != FASTRNN_TEAM_PAYING) {
        return fork_is_child() ? one_thread : with_room((struct call_way){.threads = most});
    }
    const double bytes = team_work(shape, 1) * shape->real_bytes;
    const int64_t facts[] = {(int)call->pass | (int)p->dtype << 4, p->backend, p->cell, p->I, p->H, most};
    return try_bytes(trial_kind(facts, sizeof facts / sizeof facts[0]), bytes, most);
}

struct call_way way_of_comparison(const size_t bytes, const int threads) {
    const int64_t facts[] = {trial_log2((int64_t)bytes), threads};
    return try_bytes(trial_kind(facts, sizeof facts / sizeof facts[0]), (double)bytes, team_threads(threads));
}

/* ---- afterwards ---- */

void way_end(const struct call_way *const way) {
    if (way->trial.slot) {
        trial_end(&trials, &way->trial, team_clock());
    }
}

void way_abandon(const struct call_way *const way) {
    if (way->trial.slot) {
        trial_abandon(&way->trial, team_clock());
    }
}
