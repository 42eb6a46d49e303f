/* Linear recurrences: the checks, and the number of threads. */
#include "dispatch.h"
#include "threads/choice.h"

static enum fastrnn_status check_sizes(const struct fastrnn_linear *const p) {
    int64_t rows, numbers;
    if (p->T < 0 || p->B < 0 || p->H < 0 || p->threads < 1 || (int)p->cut < 0 || p->cut >= FASTRNN_CUT_COUNT) {
        return FASTRNN_BAD_SIZE;
    }
    if (__builtin_mul_overflow(p->T > 0 ? p->T : 1, p->B, &rows) || __builtin_mul_overflow(rows, p->H, &numbers) ||
        rows > PTRDIFF_MAX / 64 || numbers > PTRDIFF_MAX / 64) {
        return FASTRNN_TOO_LARGE;
    }
    if (p->direction != FASTRNN_FROM_FIRST_STEP && p->direction != FASTRNN_FROM_LAST_STEP) {
        return FASTRNN_BAD_BATCH;
    }
    for (int64_t b = 0; p->lengths && b < p->B; b++) {
        if (p->lengths[b] < 0 || p->lengths[b] > p->T) {
            return FASTRNN_BAD_BATCH;
        }
    }
    return FASTRNN_OK;
}

static enum fastrnn_status check_tensors(const struct fastrnn_linear *const p, const enum fastrnn_linear_pass pass) {
    if (p->T == 0 || p->B == 0 || p->H == 0) {
        return FASTRNN_OK;
    }
    const bool has_all = pass == FASTRNN_LINEAR_FORWARD
                             ? p->a.data && p->b.data && p->h.data
                             : p->a.data && p->dh.data && p->db.data && (p->h.data || !p->da.data);
    return has_all ? FASTRNN_OK : FASTRNN_NULL_POINTER;
}

static enum fastrnn_status check_linear(const struct fastrnn_linear *const p, const enum fastrnn_linear_pass pass) {
    if (!p) {
        return FASTRNN_NULL_POINTER;
    }
    if (p->struct_size != sizeof *p) {
        return FASTRNN_BAD_ARRAYS;
    }
    if ((int)pass < 0 || pass >= FASTRNN_LINEAR_PASS_COUNT) {
        return FASTRNN_BAD_PLAN;
    }
    if (p->dtype != FASTRNN_F32 && p->dtype != FASTRNN_F64) {
        return FASTRNN_BAD_DTYPE;
    }
    if (p->backend < 0 || p->backend >= fastrnn_backend_count() || !fastrnn_backend_runs_here(p->backend)) {
        return FASTRNN_BAD_BACKEND;
    }
    const enum fastrnn_status status = check_sizes(p);
    return status == FASTRNN_OK ? check_tensors(p, pass) : status;
}

/* The bytes of a pass: a, b, h, or a, dh, db, h, da. */
static double bytes_of(const struct fastrnn_linear *const p, const enum fastrnn_linear_pass pass) {
    const int tensors = pass == FASTRNN_LINEAR_FORWARD ? 3 : p->da.data ? 5 : 3;
    return (double)p->T * (double)p->B * (double)p->H * tensors *
           (double)(p->dtype == FASTRNN_F32 ? sizeof(float) : sizeof(double));
}

enum fastrnn_status fastrnn_run_linear(const struct fastrnn_linear *const linear, const enum fastrnn_linear_pass pass) {
    const enum fastrnn_status status = check_linear(linear, pass);
    if (status != FASTRNN_OK || linear->B == 0 || linear->H == 0) {
        return status;
    }
    const int threads = choice_of_elements(linear->cut, bytes_of(linear, pass), linear->threads);
    return run_linear(dispatch_backend(linear->backend, linear->dtype)->linear, linear, pass, threads);
}
