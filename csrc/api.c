/* The public functions: check every argument, then run the call on its team (call.c). */
#include <string.h>

#include "call.h"
#include "check.h"

/* ---- statuses ---- */

const char *fastrnn_status_message(const enum fastrnn_status status) {
    switch (status) {
    case FASTRNN_OK:
        return "ok";
    case FASTRNN_BAD_CELL:
        return "cell: not a cell of this library";
    case FASTRNN_BAD_DTYPE:
        return "dtype: expected float32 or float64";
    case FASTRNN_BAD_BACKEND:
        return "backend: no such backend, or this CPU cannot run it, or FASTRNN_HIDE hides it";
    case FASTRNN_BAD_SIZE:
        return "T, B, I, H: expected sizes of at least 0, and at least 1 thread";
    case FASTRNN_BAD_SCHEDULE:
        return "schedule: active must not grow, row, first, last and d_first must lie in range, and no row or state be "
               "there twice";
    case FASTRNN_NULL_POINTER:
        return "a required array is missing";
    case FASTRNN_TOO_LARGE:
        return "T, B, I, H: the arrays would exceed the address space";
    case FASTRNN_INTERRUPTED:
        return "interrupted";
    }
    return "unknown status";
}

/* ---- calls ---- */

enum fastrnn_status fastrnn_query(const struct fastrnn_problem *const problem, struct fastrnn_sizes *const sizes) {
    const struct backend *backend;
    const enum fastrnn_status status = check_problem(problem, &backend);
    return status != FASTRNN_OK ? status : !sizes ? FASTRNN_NULL_POINTER : backend->query(problem, sizes);
}

/* A single step of so many rows reads each unpacked weight once (unpacked.h); docs/decisions/0010 has the figures. */
enum { UNPACKED_ROWS_MAX = 8 };

int fastrnn_packing_pays(const struct fastrnn_problem *const problem) {
    return !problem || problem->schedule || problem->T != 1 || problem->B > UNPACKED_ROWS_MAX;
}

enum fastrnn_status fastrnn_pack_forward(const struct fastrnn_problem *const problem,
                                         const struct fastrnn_weights *const weights, void *const packed) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    status = status != FASTRNN_OK ? status : packed ? check_weights(problem, weights) : FASTRNN_NULL_POINTER;
    if (status == FASTRNN_OK) {
        call_pack(backend->pack_forward, problem, weights, packed);
    }
    return status;
}

enum fastrnn_status fastrnn_pack_backward(const struct fastrnn_problem *const problem,
                                          const struct fastrnn_weights *const weights, void *const packed) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    status = status != FASTRNN_OK ? status : packed ? check_weights(problem, weights) : FASTRNN_NULL_POINTER;
    if (status == FASTRNN_OK) {
        call_pack(backend->pack_backward, problem, weights, packed);
    }
    return status;
}

enum fastrnn_status fastrnn_forward(const struct fastrnn_problem *const problem,
                                    const struct fastrnn_forward_args *const args) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    status = status != FASTRNN_OK ? status : check_forward_schedule(problem);
    if (status != FASTRNN_OK) {
        return status;
    }
    int64_t rows;
    schedule_rows(problem, &rows);
    if (!args || (!args->packed && check_weights(problem, &args->weights) != FASTRNN_OK) || !args->scratch ||
        (rows > 0 && problem->I > 0 && !args->x.data) || (rows > 0 && problem->H > 0 && !args->y.data)) {
        return FASTRNN_NULL_POINTER;
    }
    status = check_visits(problem, rows, args->scratch);
    return status != FASTRNN_OK ? status : call_run(&(struct team_call){backend, problem, args, NULL}, rows);
}

/* Gradients that are to be overwritten, of no rows. */
static void clear_gradients(const struct fastrnn_problem *const p, const struct fastrnn_weight_gradients *const d) {
    const size_t rows = (size_t)fastrnn_cell_gates(p->cell) * (size_t)p->H * (p->dtype == FASTRNN_F64 ? 8 : 4);
    const struct {
        void *data;
        size_t bytes;
    } all[] = {{d->w_ih, rows * (size_t)p->I}, {d->w_hh, rows * (size_t)p->H}, {d->b_ih, rows}, {d->b_hh, rows}};
    for (size_t j = 0; j < sizeof all / sizeof all[0]; j++) {
        if (all[j].data) {
            memset(all[j].data, 0, all[j].bytes);
        }
    }
}

enum fastrnn_status fastrnn_backward(const struct fastrnn_problem *const problem,
                                     const struct fastrnn_backward_args *const args) {
    const struct backend *backend;
    enum fastrnn_status status = check_sizes(problem, &backend);
    if (status != FASTRNN_OK) {
        return status;
    }
    struct fastrnn_sizes sizes;
    backend->query(problem, &sizes);
    int64_t rows;
    schedule_rows(problem, &rows);
    if (!args || (!args->packed && check_weights(problem, &args->weights) != FASTRNN_OK) || !args->scratch ||
        (sizes.reserve > 0 && !args->reserve) || (rows > 0 && problem->H > 0 && !args->y.data) ||
        (rows > 0 && problem->I > 0 && args->d.w_ih && !args->x.data)) {
        return FASTRNN_NULL_POINTER;
    }
    status = check_visits(problem, rows, args->scratch);
    if (status != FASTRNN_OK) {
        return status;
    }
    if (rows == 0 && args->accumulation == FASTRNN_OVERWRITE) {
        clear_gradients(problem, &args->d);
    }
    return call_run(&(struct team_call){backend, problem, NULL, args}, rows);
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
