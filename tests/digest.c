/* Digests of all results of the C interface, over a fixed list of random problems: a line `name digest` for each.
 *
 *     digest [BACKEND] [THREADS] [PROBLEMS]        default: the best backend, one thread, all problems
 *
 * Inputs are exact and come from integer arithmetic, so machines can be compared: all backends with FMA print the same
 * lines, and generic prints the same lines everywhere. With several threads each problem also runs on one thread; the
 * status is 1 if the results differ. Status 2: bad usage or a failed call; 77: this machine cannot run the backend.
 * Buffers have exactly the requested size, so sanitizers see an overrun.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum { PROBLEMS = 480, B_MAX = 40, BUFFERS_MAX = 128, POISON = 0xFF };
enum { STATUS_DIFFERENT = 1, STATUS_FAILED = 2, STATUS_CANNOT_RUN = 77 };

enum pass { FORWARD, BACKWARD, PASSES };

/* Calls read a tensor and write its gradient, or the reverse. C, which is c after every step, has no gradient. */
enum tensor { X, H0, C0, W_IH, W_HH, B_IH, B_HH, Y, H_N, C_N, C, TENSORS };

struct drawn {
    char name[80];
    struct fastrnn_problem problem; /* without schedule */
    bool ragged, trains;            /* otherwise dense; otherwise only forward, without reserve */
    struct fastrnn_schedule schedules[PASSES];
    int64_t lengths[PASSES][B_MAX]; /* of the sequences, as far as the schedules go */
    size_t bytes[TENSORS];
    struct fastrnn_const_view given[TENSORS]; /* x, h0, c0, weights, dy, dh_n, dc_n */
    bool wanted[TENSORS];                     /* dx, dh0, dc0, weight gradients, y, h_n, c_n, c */
};

static void fail(const int status, const char *const what, const char *const why) {
    fprintf(stderr, "digest: %s: %s\n", what, why);
    exit(status);
}

static void require(const enum fastrnn_status status, const char *const call) {
    if (status != FASTRNN_OK) {
        fail(STATUS_FAILED, call, fastrnn_status_message(status));
    }
}

/* ---- memory ---- */

static struct {
    void *buffers[BUFFERS_MAX];
    int count;
} taken;

/* A poisoned buffer that lives until release_all. */
static void *take(const size_t bytes) {
    void *const buffer = malloc(bytes > 0 ? bytes : 1);
    if (!buffer || taken.count == BUFFERS_MAX) {
        fail(STATUS_FAILED, "take", "out of memory");
    }
    taken.buffers[taken.count++] = buffer;
    return memset(buffer, POISON, bytes);
}

static int64_t *take_integers(const int64_t n) { return take((size_t)n * sizeof(int64_t)); }

static const int64_t *copy_integers(const int64_t *const from, const int64_t n) {
    return memcpy(take_integers(n), from, (size_t)n * sizeof *from);
}

static void release_all(void) {
    while (taken.count > 0) {
        free(taken.buffers[--taken.count]);
    }
}

/* ---- problems ---- */

/* splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t draw(uint64_t *const seed) {
    uint64_t z = *seed += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int64_t draw_below(uint64_t *const seed, const int64_t n) { return (int64_t)(draw(seed) % (uint64_t)n); }
static bool draw_one_in(uint64_t *const seed, const int64_t n) { return draw_below(seed, n) == 0; }

/* Reals in [-scale, scale), a power of two, with full mantissas, so that products round. */
static void *draw_reals(uint64_t *const seed, const enum fastrnn_dtype dtype, const double scale, const size_t bytes) {
    void *const to = take(bytes);
    for (size_t j = 0; j < bytes / (dtype == FASTRNN_F32 ? sizeof(float) : sizeof(double)); j++) {
        const uint64_t bits = draw(seed);
        if (dtype == FASTRNN_F32) {
            ((float *)to)[j] = (float)(scale * ((double)(bits >> 40) * 0x1p-23 - 1));
        } else {
            ((double *)to)[j] = scale * ((double)(bits >> 11) * 0x1p-52 - 1);
        }
    }
    return to;
}

/* Rows of h0: one for each sequence and, in a schedule, one more on either side and one for each row's gradient. */
static int64_t states_of(const struct drawn *const d) {
    return d->problem.B + (d->ragged ? 2 + d->problem.T * d->problem.B : 0);
}

/* Cuts sequences into pieces, the longest first; each piece starts where the previous one ended. In forward, a later
 * piece starts from zero; in backward, from zero or from the row before it, and backward visits only rows that forward
 * visited. */
static struct fastrnn_schedule draw_schedule(uint64_t *const seed, const enum pass pass, struct drawn *const d) {
    const int64_t T = d->problem.T, B = d->problem.B, states = states_of(d);
    int64_t *const start = take_integers(T * B), *const first = take_integers(T * B);
    int64_t *const last = take_integers(T * B), *const d_first = take_integers(T * B);
    int64_t *const active = memset(take_integers(T), 0, (size_t)T * sizeof *active);
    int64_t n = 0, rows = 0;
    for (int64_t length = pass == FORWARD ? T : T / 2 + 1; length > 0; length--) {
        for (int64_t b = 0; b < B; b++) {
            const int64_t done = d->lengths[pass][b], limit = pass == FORWARD ? T : d->lengths[FORWARD][b];
            if (done + length > limit || !draw_one_in(seed, T / 4 + 1)) {
                continue;
            }
            const int64_t state = done == 0 ? b + 1 : pass == FORWARD ? -1 : states + (done - 1) * B + b;
            start[n] = done * B + b;
            first[n] = draw_one_in(seed, 4) ? -1 : state;
            last[n] = draw_one_in(seed, 4) || done > 0 ? -1 : b + 1;
            d_first[n] = draw_one_in(seed, 4) ? -1 : B + 2 + start[n];
            n++;
            d->lengths[pass][b] += length;
            rows += length;
            for (int64_t s = 0; s < length; s++) {
                active[s]++;
            }
        }
    }
    int64_t *const row = take_integers(rows);
    for (int64_t s = 0, at = 0; s < T; s++) {
        for (int64_t i = 0; i < active[s]; i++) {
            row[at++] = start[i] + s * B;
        }
    }
    return (struct fastrnn_schedule){
        .steps = T,
        .active = active,
        .row = row,
        .states = states,
        .first = copy_integers(first, n),
        .last = copy_integers(last, n),
        .d_first = pass == BACKWARD ? copy_integers(d_first, n) : NULL,
        .d_states = states,
    };
}

static bool is_weight(const enum tensor tensor) { return tensor >= W_IH && tensor <= B_HH; }

static void draw_tensors(uint64_t *const seed, struct drawn *const d) {
    const struct fastrnn_problem *const p = &d->problem;
    const int64_t x = p->T * p->B * p->I, y = p->T * p->B * p->H, state = states_of(d) * p->H;
    const struct fastrnn_cell_table *const table = fastrnn_cell_table(p->cell);
    const int64_t gates = table->gates * p->H, w_ih = gates * p->I, w_hh = gates * p->H;
    const int64_t reals[TENSORS] = {x, state, state, w_ih, w_hh, gates, gates, y, state, state, y};
    for (enum tensor tensor = 0; tensor < TENSORS; tensor++) {
        const bool exists = table->state_count == 2 || (tensor != C0 && tensor != C_N && tensor != C);
        const bool required = tensor == X || tensor == W_IH || tensor == W_HH;
        const double scale = tensor == X ? 8 : is_weight(tensor) ? 0.25 : 1;
        const ptrdiff_t row = tensor == X ? p->I : p->H;
        d->bytes[tensor] = (size_t)reals[tensor] * (p->dtype == FASTRNN_F32 ? sizeof(float) : sizeof(double));
        d->wanted[tensor] = exists && (!draw_one_in(seed, 4) || tensor == Y);
        d->given[tensor] = (struct fastrnn_const_view){.stride_t = p->B * row, .stride_b = row};
        if (exists && (!draw_one_in(seed, 4) || required)) {
            d->given[tensor].data = draw_reals(seed, p->dtype, scale, d->bytes[tensor]);
        }
    }
}

/* Cells and dtypes in turn. */
static struct drawn draw_problem(const int backend, const int number) {
    static const int64_t T[] = {1, 6, 60}, B[] = {1, 5, 13, B_MAX}, I[] = {0, 3, 17}, H[] = {1, 7, 16, 33, 100};
    uint64_t seed = (uint64_t)number;
    struct drawn d = {0};
    struct fastrnn_problem *const p = &d.problem;
    p->backend = backend;
    p->cell = (enum fastrnn_cell)(number % FASTRNN_CELL_COUNT);
    p->dtype = (enum fastrnn_dtype)(number / FASTRNN_CELL_COUNT % FASTRNN_DTYPE_COUNT);
    p->T = T[draw_below(&seed, 3)];
    p->B = B[draw_below(&seed, 4)];
    p->I = I[draw_below(&seed, 3)];
    p->H = H[draw_below(&seed, 5)];
    d.ragged = !draw_one_in(&seed, 3);
    d.trains = !draw_one_in(&seed, 6);
    snprintf(d.name, sizeof d.name, "%d-%s-f%d-T%d-B%d-I%d-H%d%s%s", number, fastrnn_cell_table(p->cell)->name,
             p->dtype == FASTRNN_F32 ? 32 : 64, (int)p->T, (int)p->B, (int)p->I, (int)p->H, d.ragged ? "-ragged" : "",
             d.trains ? "" : "-inference");
    for (enum pass pass = 0; d.ragged && pass < PASSES; pass++) {
        d.schedules[pass] = draw_schedule(&seed, pass, &d);
    }
    draw_tensors(&seed, &d);
    return d;
}

/* ---- calls ---- */

static struct fastrnn_plan plan_of(const struct fastrnn_problem *const p) {
    struct fastrnn_plan plan;
    require(fastrnn_make_plan(p, &plan), "fastrnn_make_plan");
    return plan;
}

/* Inputs of every pass. */
static struct fastrnn_arrays arrays_of(const struct fastrnn_const_view *const given,
                                       const struct fastrnn_view *const found, void *const reserve) {
    return (struct fastrnn_arrays){
        .struct_size = sizeof(struct fastrnn_arrays),
        .parameters = {given[W_IH].data, given[W_HH].data, given[B_IH].data, given[B_HH].data},
        .x = given[X],
        .y = found[Y],
        .initial = {given[H0], given[C0]},
        .reserve = reserve,
    };
}

static void run_forward(const struct fastrnn_plan *const plan, const struct fastrnn_const_view *const given,
                        void *const reserve, const struct fastrnn_view *const found) {
    struct fastrnn_arrays arrays = arrays_of(given, found, reserve);
    arrays.packed = take(plan->sizes.packed_forward);
    arrays.scratch = take(plan->sizes.scratch_forward);
    arrays.states[1] = found[C];
    arrays.final[0] = found[H_N];
    arrays.final[1] = found[C_N];
    require(fastrnn_run(plan, FASTRNN_PACK_FORWARD, &arrays), "FASTRNN_PACK_FORWARD");
    require(fastrnn_run(plan, FASTRNN_FORWARD, &arrays), "FASTRNN_FORWARD");
}

static void run_backward(const struct fastrnn_plan *const plan, const struct fastrnn_const_view *const given,
                         void *const reserve, const struct fastrnn_view *const found) {
    struct fastrnn_arrays arrays = arrays_of(given, found, reserve);
    arrays.packed = take(plan->sizes.packed_backward);
    arrays.scratch = take(plan->sizes.scratch_backward);
    arrays.dy = given[Y];
    arrays.d_final[0] = given[H_N];
    arrays.d_final[1] = given[C_N];
    arrays.dx = found[X];
    arrays.d_initial[0] = found[H0];
    arrays.d_initial[1] = found[C0];
    for (int j = 0; j < 4; j++) {
        arrays.gradients[j] = found[W_IH + j].data;
    }
    require(fastrnn_run(plan, FASTRNN_PACK_BACKWARD, &arrays), "FASTRNN_PACK_BACKWARD");
    require(fastrnn_run(plan, FASTRNN_BACKWARD, &arrays), "FASTRNN_BACKWARD");
}

/* FNV-1a. */
static uint64_t add_to_digest(uint64_t digest, const unsigned char *const bytes, const size_t n) {
    for (size_t j = 0; j < n; j++) {
        digest = (digest ^ bytes[j]) * 0x100000001B3u;
    }
    return digest;
}

static uint64_t digest_of(const struct drawn *const d, const int threads) {
    struct fastrnn_problem p = d->problem;
    struct fastrnn_view found[TENSORS];
    uint64_t seed = 0, digest = 0xCBF29CE484222325u;
    p.threads = threads;
    const enum fastrnn_cut cuts[] = {FASTRNN_CUT_ALL_THREADS, FASTRNN_CUT_BY_SEQUENCES, FASTRNN_CUT_BY_UNITS,
                                     FASTRNN_CUT_BY_PIECES};
    p.cut = threads > 1 ? cuts[p.H % 4] : FASTRNN_CUT_AUTO;
    for (enum tensor tensor = 0; tensor < TENSORS; tensor++) { /* gradients of weights are added to what is there */
        const size_t bytes = d->bytes[tensor];
        found[tensor] = (struct fastrnn_view){NULL, d->given[tensor].stride_t, d->given[tensor].stride_b};
        if (d->wanted[tensor]) {
            found[tensor].data = is_weight(tensor) ? draw_reals(&seed, p.dtype, 1, bytes) : take(bytes);
        }
    }
    p.schedule = d->ragged ? &d->schedules[FORWARD] : NULL;
    struct fastrnn_plan plan = plan_of(&p);
    void *const reserve = d->trains ? take(plan.sizes.reserve) : NULL;
    run_forward(&plan, d->given, reserve, found);
    if (d->trains) {
        p.schedule = d->ragged ? &d->schedules[BACKWARD] : NULL;
        plan = plan_of(&p);
        run_backward(&plan, d->given, reserve, found);
    }
    for (enum tensor tensor = 0; tensor < TENSORS; tensor++) {
        digest = add_to_digest(digest, found[tensor].data, d->wanted[tensor] ? d->bytes[tensor] : 0);
    }
    return digest;
}

static int backend_from(const char *const name) {
    int backend = 0;
    while (backend < fastrnn_backend_count() && strcmp(name, fastrnn_backend_name(backend)) != 0) {
        backend++;
    }
    if (backend == fastrnn_backend_count()) {
        fail(STATUS_FAILED, name, "no such backend");
    }
    if (!fastrnn_backend_runs_here(backend)) {
        fail(STATUS_CANNOT_RUN, name, "this machine cannot run it");
    }
    return backend;
}

int main(const int argc, char **const argv) {
    const int backend = argc > 1 ? backend_from(argv[1]) : fastrnn_best_backend();
    const int threads = argc > 2 ? atoi(argv[2]) : 1, problems = argc > 3 ? atoi(argv[3]) : PROBLEMS;
    int status = EXIT_SUCCESS;
    if (backend < 0) {
        fail(STATUS_CANNOT_RUN, "FASTRNN_HIDE", "expected names of backends that can be hidden");
    }
    if (argc > 4 || threads < 1 || problems < 0 || problems > PROBLEMS) {
        fail(STATUS_FAILED, "usage", "digest [BACKEND] [THREADS] [PROBLEMS]");
    }
    if (threads > 1 && strcmp(fastrnn_openmp_version(), "none") == 0) {
        fail(STATUS_FAILED, argv[2], "this build has one thread");
    }
    for (int number = 0; number < problems; number++) {
        const struct drawn d = draw_problem(backend, number);
        const uint64_t digest = digest_of(&d, 1);
        printf("%s %016" PRIx64 "\n", d.name, digest);
        if (threads > 1 && digest_of(&d, threads) != digest) {
            fprintf(stderr, "digest: %s: differs on %d threads\n", d.name, threads);
            status = STATUS_DIFFERENT;
        }
        release_all();
    }
    return status;
}
