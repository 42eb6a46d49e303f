/* Chooses how a call is run: a cost model, what trials of short calls found (trials.h), and whether a neighbour makes
 * several threads lose in long ones (crowding.h). */
#include "ways.h"

#include "crowding.h"
#include "fork.h"
#include "schedule.h"
#include "thread_room.h"

static struct crowding crowding; /* of long calls */
static struct trials trials;     /* of short ones */

static const struct call_way one_thread = {.threads = 1};

/* ---- calls ---- */

/* Multiply-adds that a thread of the whole call, and a member at each step, must at least have: starting a team and a
 * barrier cost as much as some 50 000 and 11 000 of them, and a second thread has to win that back. Groups, which share
 * nothing but the call, need no work at each step. GRU forward at T=100, B=1, H=128 takes 275 us on one thread, 167 on
 * two. A member also needs accumulators to fill the time that each takes: an RNN at H=128 has eight panels. Short calls
 * begin with what this says, and then find out. */
enum { WORK_PER_THREAD = 100000, STEP_WORK_PER_MEMBER = 22000, CHAINS_PER_MEMBER = 8 };

/* The threads that the work can feed; all, if the caller says so. */
static int worthwhile_threads(const struct fastrnn_problem *const p, const int vector_length, const int64_t rows) {
    const int64_t sequences = schedule_sequences(p);
    const int gates = fastrnn_cell_gates(p->cell);
    const double step_work = (double)gates * (double)p->H * (double)p->H * (double)sequences;
    const double chains = (double)gates * (double)layout_blocks(p->H, vector_length) * (double)sequences;
    double members = step_work / STEP_WORK_PER_MEMBER;
    members = members < chains / CHAINS_PER_MEMBER ? members : chains / CHAINS_PER_MEMBER;
    const double groups = (double)(sequences / team_rows(p, gates)), useful = groups > members ? groups : members;
    double threads = team_work(p, gates, rows) / WORK_PER_THREAD;
    threads = threads < useful ? threads : useful;
    const int most = team_threads(p->threads);
    return p->team != FASTRNN_TEAM_PAYING ? most : threads < 2 ? 1 : threads < most ? (int)threads : most;
}

/* What the time of a call depends on, of rows and sequences about: a power of two, or a quarter of one. */
static uint64_t kind_of_call(const struct team_call *const call, const int64_t rows, const int threads) {
    const struct fastrnn_problem *const p = call->problem;
    const struct fastrnn_forward_args *const f = call->forward;
    const struct fastrnn_backward_args *const b = call->backward;
    const int64_t forward = f ? 1 | (f->packed != NULL) << 1 | (f->reserve != NULL) << 2 : 0;
    const int64_t backward = b ? (b->packed != NULL) | (b->dx.data != NULL) << 1 | (b->d.w_ih != NULL) << 2 |
                                     (b->d.w_hh != NULL) << 3 | (int)b->accumulation << 4
                               : 0;
    const int64_t sequences = schedule_sequences(p), power = trial_log2(sequences);
    const int64_t facts[] = {
        forward | backward << 3 | (p->schedule != NULL) << 9 | (int)p->cell << 12 | (int)p->dtype << 16,
        p->backend,
        p->I,
        p->H,
        threads,
        p->threads,
        trial_log2(rows),
        power < 3 ? sequences : power << 8 | sequences >> (power - 2),
    };
    return trial_kind(facts, sizeof facts / sizeof facts[0]);
}

/* A short call: one thread, a team that is cut as usual, or one that is cut the other way. */
static struct call_way try_call(const struct team_call *const call, const int64_t rows, const int worthwhile) {
    const struct fastrnn_problem *const p = call->problem;
    const int64_t sequences = schedule_sequences(p), blocks = layout_blocks(p->H, call->backend->vector_length);
    const int threads = worthwhile > 1 ? worthwhile : 2;
    const bool by_rows = team_split(p, fastrnn_cell_gates(p->cell), threads, sequences, blocks).groups > 1;
    const bool has_other = by_rows ? blocks > 1 : sequences > 1;
    const struct trial_call trial =
        trial_begin(&trials, kind_of_call(call, rows, threads), (double)rows,
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

/* The same way, if its threads can be had. */
static struct call_way with_room(const struct call_way way) {
    if (way.threads > 1 && !thread_room_for(way.threads)) {
        way_abandon(&way);
        return one_thread;
    }
    return way;
}

struct call_way way_of_call(const struct team_call *const call, const int64_t rows) {
    const struct fastrnn_problem *const p = call->problem;
    const int gates = fastrnn_cell_gates(p->cell), vector_length = call->backend->vector_length;
    if (fork_is_child() || p->threads == 1 ||
        (p->team == FASTRNN_TEAM_PAYING && team_work(p, gates, rows) < TEAM_TRIED_WORK_MIN)) {
        return one_thread;
    }
    const int threads = worthwhile_threads(p, vector_length, rows);
    struct call_way way = {.threads = threads, .team = p->team};
    if (p->team == FASTRNN_TEAM_PAYING && team_is_tried(p, gates, rows, vector_length)) {
        way = try_call(call, rows, threads);
    } else if (p->team == FASTRNN_TEAM_PAYING && threads > 1) {
        way.judged = true;
        way.threads = crowding_allows_team(&crowding, team_clock()) ? threads : 1;
    }
    return with_room(way);
}

void way_judge(const int64_t now, const int64_t wall, const int64_t busy) {
    crowding_judge(&crowding, now, wall, busy);
}

/* ---- copies ---- */

/* Bytes that each thread of a team packs or compares, until it is known better: at 30 GB/s, a team starts in the time
 * of some 64 KiB. Fewer than TRIED_BYTES_MIN take one thread. */
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

struct call_way way_of_packing(pack_function *const function, const struct fastrnn_problem *const p) {
    const int most = team_threads(p->threads);
    if (p->team != FASTRNN_TEAM_PAYING) {
        return fork_is_child() ? one_thread : with_room((struct call_way){.threads = most});
    }
    const double bytes =
        (double)fastrnn_cell_gates(p->cell) * (double)p->H * (double)(p->I + p->H) * (p->dtype == FASTRNN_F64 ? 8 : 4);
    const int64_t facts[] = {(int64_t)(intptr_t)function, p->cell, p->I, p->H, most};
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
