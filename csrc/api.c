/* The public functions: check every argument, pick the threads, run the backend. The one place where OpenMP starts
 * threads. */
#include <string.h>

#if defined(_OPENMP)
#include <omp.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "backend.h"
#include "dispatch.h"
#include "schedule.h"

/* ---- names ---- */

const char *fastrnn_status_message(const enum fastrnn_status status) {
    switch (status) {
    case FASTRNN_OK:
        return "ok";
    case FASTRNN_BAD_CELL:
        return "cell: not a cell of this library";
    case FASTRNN_BAD_DTYPE:
        return "dtype: expected float32 or float64";
    case FASTRNN_BAD_BACKEND:
        return "backend: no such backend, or this CPU cannot run it";
    case FASTRNN_BAD_SIZE:
        return "T, B, I, H: expected sizes of at least 0, and at least 1 thread";
    case FASTRNN_BAD_SCHEDULE:
        return "schedule: active must not grow, and rows, first and last must lie in range";
    case FASTRNN_NULL_POINTER:
        return "a required array is missing";
    case FASTRNN_TOO_LARGE:
        return "T, B, I, H: the arrays would exceed the address space";
    }
    return "unknown status";
}

static const struct {
    const char *name;
    int gates;
} cells[] = {
#define FASTRNN_CELL(name, gates) [FASTRNN_CELL_##name] = {#name, gates},
#include "cells.def"
#undef FASTRNN_CELL
};

static int is_cell(const enum fastrnn_cell cell) { return (int)cell >= 0 && cell < FASTRNN_CELL_COUNT; }

const char *fastrnn_cell_name(const enum fastrnn_cell cell) { return is_cell(cell) ? cells[cell].name : NULL; }
int fastrnn_cell_gates(const enum fastrnn_cell cell) { return is_cell(cell) ? cells[cell].gates : 0; }

/* ---- threads ---- */

static int forked;

#if defined(_OPENMP) && !defined(_WIN32)
static void note_fork(void) { forked = 1; }

/* GNU OpenMP's pool does not survive fork(): a parallel region in the child would wait for threads that are gone. */
__attribute__((constructor)) static void watch_fork(void) { pthread_atfork(NULL, NULL, note_fork); }
#endif

int fastrnn_is_forked(void) { return forked; }

const char *fastrnn_openmp_version(void) {
#if !defined(_OPENMP)
    return "none";
#elif _OPENMP >= 202011
    return "5.1";
#elif _OPENMP >= 201811
    return "5.0";
#elif _OPENMP >= 201511
    return "4.5";
#else
    return "4.0 or older";
#endif
}

int fastrnn_max_threads(void) {
#if defined(_OPENMP)
    return forked ? 1 : omp_get_max_threads();
#else
    return 1;
#endif
}

/* Multiply-adds below which a second thread costs more than it brings: a region and its barriers are worth about
 * a microsecond, 50 000 multiply-adds. */
enum { WORK_PER_THREAD = 100000, STEP_WORK_PER_MEMBER = 30000 };

/* The threads that the work can feed. */
static int worthwhile_threads(const struct fastrnn_problem *const p, const int64_t rows) {
    const int64_t sequences = schedule_sequences(p);
    const double per_row = (double)cells[p->cell].gates * (double)p->H * (double)(p->I + p->H);
    const double step_work = (double)cells[p->cell].gates * (double)p->H * (double)p->H * (double)sequences;
    double threads = per_row * (double)rows / WORK_PER_THREAD;
    if (sequences < 2 * TEAM_ROWS) {
        const double members = step_work / STEP_WORK_PER_MEMBER;
        threads = threads < members ? threads : members;
    }
    const int most = p->threads < TEAM_THREADS_MAX ? p->threads : TEAM_THREADS_MAX;
    return fastrnn_is_forked() || threads < 2 ? 1 : threads < most ? (int)threads : most;
}

/* A call of either direction, so that one parallel region serves both. */
struct team_call {
    const struct backend *backend;
    const struct fastrnn_problem *problem;
    const struct fastrnn_forward_args *forward; /* or null */
    const struct fastrnn_backward_args *backward;
};

static void run_member(const struct team_call *const call, const struct team_member *const me) {
    if (call->forward) {
        call->backend->forward(call->problem, call->forward, me);
    } else {
        call->backend->backward(call->problem, call->backward, me);
    }
}

static void run_team(const struct team_call *const call, const int64_t rows) {
    struct team_barrier barriers[TEAM_THREADS_MAX + 1];
    const int threads = worthwhile_threads(call->problem, rows);
    if (threads == 1) {
        run_member(call, &(struct team_member){0, 1, 0, 1, NULL, NULL});
        return;
    }
    for (int j = 0; j <= threads; j++) {
        atomic_init(&barriers[j].arrived, 0);
        atomic_init(&barriers[j].generation, 0);
    }
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
    {
        const struct team_split split = team_split(omp_get_num_threads(), schedule_sequences(call->problem));
        const int rank = omp_get_thread_num(), group = rank / split.members;
        if (group < split.groups) {
            run_member(call, &(struct team_member){.group = group,
                                                   .groups = split.groups,
                                                   .member = rank % split.members,
                                                   .members = split.members,
                                                   .group_barrier = &barriers[group],
                                                   .team_barrier = &barriers[threads]});
        }
    }
#endif
}

/* ---- checks ---- */

static enum fastrnn_status check_schedule(const struct fastrnn_problem *const p) {
    const struct fastrnn_schedule *const s = p->schedule;
    if (!s) {
        return FASTRNN_OK;
    }
    if (s->steps < 0 || (s->steps > 0 && (!s->active || !s->row || !s->first || !s->last))) {
        return FASTRNN_BAD_SCHEDULE;
    }
    int64_t cells_of_grid, rows = 0;
    if (__builtin_mul_overflow(p->T, p->B, &cells_of_grid)) {
        return FASTRNN_TOO_LARGE;
    }
    for (int64_t step = 0; step < s->steps; step++) {
        const int64_t n = s->active[step];
        if (n < 0 || (step > 0 && n > s->active[step - 1]) || n > cells_of_grid - rows) {
            return FASTRNN_BAD_SCHEDULE;
        }
        rows += n;
    }
    for (int64_t j = 0; j < rows; j++) {
        if (s->row[j] < 0 || s->row[j] >= cells_of_grid) {
            return FASTRNN_BAD_SCHEDULE;
        }
    }
    for (int64_t i = 0; s->steps > 0 && i < s->active[0]; i++) {
        if (s->first[i] < -1 || s->first[i] >= p->B || s->last[i] < -1 || s->last[i] >= p->B) {
            return FASTRNN_BAD_SCHEDULE;
        }
    }
    return FASTRNN_OK;
}

static enum fastrnn_status check_problem(const struct fastrnn_problem *const p, const struct backend **const backend) {
    if (!p) {
        return FASTRNN_NULL_POINTER;
    }
    if (!is_cell(p->cell)) {
        return FASTRNN_BAD_CELL;
    }
    if (p->dtype != FASTRNN_F32 && p->dtype != FASTRNN_F64) {
        return FASTRNN_BAD_DTYPE;
    }
    if (p->T < 0 || p->B < 0 || p->I < 0 || p->H < 0 || p->threads < 1) {
        return FASTRNN_BAD_SIZE;
    }
    if (p->backend < 0 || p->backend >= fastrnn_backend_count() || !fastrnn_backend_runs_here(p->backend)) {
        return FASTRNN_BAD_BACKEND;
    }
    *backend = dispatch_backend(p->backend, p->dtype);
    const enum fastrnn_status status = check_schedule(p);
    int64_t rows;
    return status != FASTRNN_OK ? status : schedule_rows(p, &rows) ? FASTRNN_OK : FASTRNN_TOO_LARGE;
}

static enum fastrnn_status check_weights(const struct fastrnn_problem *const p,
                                         const struct fastrnn_weights *const weights, const void *const packed) {
    const int w_ih_missing = p->I > 0 && p->H > 0 && weights && !weights->w_ih;
    const int w_hh_missing = p->H > 0 && weights && !weights->w_hh;
    return !weights || !packed || w_ih_missing || w_hh_missing ? FASTRNN_NULL_POINTER : FASTRNN_OK;
}

/* ---- calls ---- */

enum fastrnn_status fastrnn_query(const struct fastrnn_problem *const problem, struct fastrnn_sizes *const sizes) {
    const struct backend *backend;
    const enum fastrnn_status status = check_problem(problem, &backend);
    return status != FASTRNN_OK ? status : !sizes ? FASTRNN_NULL_POINTER : backend->query(problem, sizes);
}

/* A problem whose sizes are sound; the calls below check it before they touch memory. */
static enum fastrnn_status check_sizes(const struct fastrnn_problem *const problem,
                                       const struct backend **const backend) {
    struct fastrnn_sizes sizes;
    const enum fastrnn_status status = check_problem(problem, backend);
    return status != FASTRNN_OK ? status : (*backend)->query(problem, &sizes);
}

enum fastrnn_status fastrnn_pack_forward(const struct fastrnn_problem *const problem,
                                         const struct fastrnn_weights *const weights, void *const packed) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    status = status != FASTRNN_OK ? status : check_weights(problem, weights, packed);
    if (status == FASTRNN_OK) {
        backend->pack_forward(problem, weights, packed);
    }
    return status;
}

enum fastrnn_status fastrnn_pack_backward(const struct fastrnn_problem *const problem,
                                          const struct fastrnn_weights *const weights, void *const packed) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    status = status != FASTRNN_OK ? status : check_weights(problem, weights, packed);
    if (status == FASTRNN_OK) {
        backend->pack_backward(problem, weights, packed);
    }
    return status;
}

enum fastrnn_status fastrnn_forward(const struct fastrnn_problem *const problem,
                                    const struct fastrnn_forward_args *const args) {
    const struct backend *backend;
    const enum fastrnn_status status = check_sizes(problem, &backend);
    if (status != FASTRNN_OK) {
        return status;
    }
    int64_t rows;
    schedule_rows(problem, &rows);
    if (!args || !args->packed || !args->scratch || (rows > 0 && problem->I > 0 && !args->x.data) ||
        (rows > 0 && problem->H > 0 && !args->y.data)) {
        return FASTRNN_NULL_POINTER;
    }
    run_team(&(struct team_call){backend, problem, args, NULL}, rows);
    return FASTRNN_OK;
}

enum fastrnn_status fastrnn_backward(const struct fastrnn_problem *const problem,
                                     const struct fastrnn_backward_args *const args) {
    const struct backend *backend;
    const enum fastrnn_status status = check_sizes(problem, &backend);
    if (status != FASTRNN_OK) {
        return status;
    }
    struct fastrnn_sizes sizes;
    backend->query(problem, &sizes);
    int64_t rows;
    schedule_rows(problem, &rows);
    if (!args || !args->packed || !args->scratch || (sizes.reserve > 0 && !args->reserve) ||
        (rows > 0 && problem->H > 0 && !args->y.data) ||
        (rows > 0 && problem->I > 0 && args->d.w_ih && !args->x.data)) {
        return FASTRNN_NULL_POINTER;
    }
    run_team(&(struct team_call){backend, problem, NULL, args}, rows);
    return FASTRNN_OK;
}

enum fastrnn_status fastrnn_activate(const int backend, const enum fastrnn_dtype dtype,
                                     const enum fastrnn_activation activation, const int64_t n, const void *const x,
                                     void *const y) {
    const struct fastrnn_problem problem = {.dtype = dtype, .backend = backend, .threads = 1};
    const struct backend *chosen;
    const enum fastrnn_status status = check_problem(&problem, &chosen);
    if (status != FASTRNN_OK) {
        return status;
    }
    if (n < 0 || (int)activation < 0 || activation >= FASTRNN_ACTIVATION_COUNT) {
        return FASTRNN_BAD_SIZE;
    }
    if (n > 0 && (!x || !y)) {
        return FASTRNN_NULL_POINTER;
    }
    chosen->activate(activation, n, x, y);
    return FASTRNN_OK;
}
