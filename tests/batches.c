/* Batches through the C interface alone, as a program without Python runs them: memory is taken before lengths and
 * resets are known, schedules are built in it, and fastrnn_run runs all parts and stages.
 *
 * Every part must satisfy the checks of an explicit schedule and have the same bits as a call of its own; all stages at
 * once those of one stage after the other. Buffers have exactly the size asked for, so that sanitizers see an overrun.
 *
 *     batches [COUNT]        status 1: something does not hold
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum { BATCHES = 200, I = 3, H = 5, GATES = 4, STATES = 2, PARAMETERS = 4, BUFFERS_MAX = 1024 };

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* ---- memory and numbers ---- */

static void *buffers[BUFFERS_MAX];
static int buffer_count;
static uint64_t random_state;

static void *take(const size_t bytes) {
    REQUIRE(buffer_count < BUFFERS_MAX);
    unsigned char *const buffer = malloc(bytes > 0 ? bytes : 1);
    REQUIRE(buffer);
    memset(buffer, 0xFF, bytes);
    return buffers[buffer_count++] = buffer;
}

static int64_t below(const int64_t limit) {
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (int64_t)((random_state >> 33) % (uint64_t)limit);
}

static float *take_reals(const int64_t n) {
    float *const reals = take((size_t)n * sizeof *reals);
    for (int64_t j = 0; j < n; j++) {
        reals[j] = (float)(below(2001) - 1000) / 1000;
    }
    return reals;
}

static float *take_zeros(const int64_t n) {
    float *const reals = take((size_t)n * sizeof *reals);
    memset(reals, 0, (size_t)n * sizeof *reals);
    return reals;
}

/* ---- batches ---- */

static struct fastrnn_batch draw_batch(void) {
    const int64_t T = below(4) ? below(9) : below(40), B = below(4) ? below(6) : below(300);
    struct fastrnn_batch batch = {.T = T, .B = B, .direction = (enum fastrnn_direction)below(2)};
    batch.rows = (enum fastrnn_rows)(below(3) == 0 && T > 0 && B > 0);
    if (below(3) || batch.rows == FASTRNN_PACKED) {
        int64_t *const lengths = take((size_t)B * sizeof *lengths), longest = T;
        for (int64_t b = 0; b < B; b++) {
            const int64_t least = batch.rows == FASTRNN_PACKED;
            lengths[b] = b == 0 && least ? T : least + below(longest - least + 1);
            longest = batch.rows == FASTRNN_PACKED ? lengths[b] : T;
        }
        batch.lengths = lengths;
    }
    if (below(3)) {
        unsigned char *const resets = take((size_t)(T * B));
        const int64_t every = 1 + below(20);
        for (int64_t j = 0; j < T * B; j++) {
            resets[j] = (unsigned char)(below(every) == 0 ? 1 + below(255) : 0);
        }
        batch.resets = resets;
        batch.resets_stride_t = below(2) ? B : 1;
        batch.resets_stride_b = batch.resets_stride_t == 1 ? T : 1;
    }
    return batch;
}

/* The same with sizes instead of numbers. */
static struct fastrnn_batch shape_of(const struct fastrnn_batch *const batch) {
    static const int64_t no_lengths;
    static const unsigned char no_resets;
    struct fastrnn_batch shape = *batch;
    shape.lengths = batch->lengths ? &no_lengths : NULL;
    shape.resets = batch->resets ? &no_resets : NULL;
    return shape;
}

/* ---- calls ---- */

struct call {
    struct fastrnn_schedules bound, built;
    struct fastrnn_plan plan;
    struct fastrnn_sizes sizes; /* of the bound */
    struct fastrnn_problem problem;
};

/* Builds schedules in memory for any batch of this shape. The grid of a packed batch is known from its lengths alone.
 */
static struct call *new_call(const struct fastrnn_batch *const batch) {
    struct call *const call = take(sizeof *call);
    const struct fastrnn_batch shape = shape_of(batch);
    struct fastrnn_schedules measured;
    REQUIRE(fastrnn_bound_schedules(&shape, &call->bound) == FASTRNN_OK);
    REQUIRE(fastrnn_measure_schedules(batch, &measured) == FASTRNN_OK);
    REQUIRE(measured.bytes <= call->bound.bytes);
    call->problem = (struct fastrnn_problem){.cell = FASTRNN_CELL_lstm,
                                             .dtype = FASTRNN_F32,
                                             .threads = 2,
                                             .I = I,
                                             .H = H,
                                             .cut = (enum fastrnn_cut)below(FASTRNN_CUT_COUNT)};
    call->problem.backend = fastrnn_best_backend();
    call->problem.T = call->bound.T, call->problem.B = call->bound.B, call->problem.schedules = &call->bound;
    REQUIRE(fastrnn_make_plan(&call->problem, &call->plan) == FASTRNN_OK);
    call->sizes = call->plan.sizes;
    REQUIRE(fastrnn_build_schedules(batch, take(measured.bytes), measured.bytes, &call->built) == FASTRNN_OK);
    call->problem.T = call->built.T, call->problem.B = call->built.B, call->problem.schedules = &call->built;
    REQUIRE(fastrnn_make_plan(&call->problem, &call->plan) == FASTRNN_OK);
    REQUIRE(call->plan.sizes.scratch_forward <= call->sizes.scratch_forward);
    REQUIRE(call->plan.sizes.scratch_backward <= call->sizes.scratch_backward);
    REQUIRE(call->plan.sizes.regions <= call->sizes.regions);
    return call;
}

static struct fastrnn_arrays draw_arrays(const struct fastrnn_problem *const p, const int64_t states) {
    static const int64_t columns[PARAMETERS] = {I, H, 1, 1};
    struct fastrnn_arrays a = {.struct_size = sizeof a, .accumulation = FASTRNN_OVERWRITE};
    const ptrdiff_t B = p->B;
    for (int j = 0; j < PARAMETERS; j++) {
        a.parameters[j] = take_reals(GATES * H * columns[j]);
    }
    a.x = (struct fastrnn_const_view){take_reals(p->T * B * I), B * I, I};
    a.dy = (struct fastrnn_const_view){take_reals(p->T * B * H), B * H, H};
    for (int k = 0; k < STATES; k++) {
        a.initial[k] = (struct fastrnn_const_view){take_reals(states * H), 0, H};
        a.d_final[k] = (struct fastrnn_const_view){take_reals(states * H), 0, H};
    }
    return a;
}

/* New outputs, zeroed. */
static void take_outputs(const struct fastrnn_problem *const p, const int64_t states, struct fastrnn_arrays *const a) {
    static const int64_t columns[PARAMETERS] = {I, H, 1, 1};
    for (int j = 0; j < PARAMETERS; j++) {
        a->gradients[j] = take_zeros(GATES * H * columns[j]);
    }
    a->y = (struct fastrnn_view){take_zeros(p->T * p->B * H), p->B * H, H};
    a->dx = (struct fastrnn_view){take_zeros(p->T * p->B * I), p->B * I, I};
    for (int k = 0; k < STATES; k++) {
        a->final[k] = (struct fastrnn_view){take_reals(states * H), 0, H};
        a->d_initial[k] = (struct fastrnn_view){take_reals(states * H), 0, H};
    }
}

static bool same(const void *const a, const void *const b, const int64_t reals) {
    return reals == 0 || memcmp(a, b, (size_t)reals * sizeof(float)) == 0;
}

/* Both passes of all parts, and each part as an explicit schedule of its own, which is checked. */
static void try_forward(const struct fastrnn_batch *const batch, struct fastrnn_arrays *const arrays) {
    const struct call *const call = new_call(batch);
    const struct fastrnn_problem *const p = &call->problem;
    *arrays = draw_arrays(p, batch->B);
    take_outputs(p, batch->B, arrays);
    arrays->reserve = take(call->plan.sizes.reserve);
    arrays->scratch = take(call->sizes.scratch_forward);
    REQUIRE(fastrnn_run(&call->plan, FASTRNN_FORWARD, arrays) == FASTRNN_OK);
    struct fastrnn_arrays of_parts = *arrays;
    take_outputs(p, batch->B, &of_parts);
    REQUIRE(call->built.stage_count == 1 && call->built.whole_stages == 1);
    for (int64_t part = 0; part < call->built.stages->part_count; part++) {
        struct fastrnn_problem alone = *p;
        struct fastrnn_plan plan;
        alone.schedules = NULL, alone.schedule = &call->built.stages->parts[part];
        REQUIRE(fastrnn_make_plan(&alone, &plan) == FASTRNN_OK);
        of_parts.reserve = take(plan.sizes.reserve);
        of_parts.scratch = take(plan.sizes.scratch_forward);
        REQUIRE(fastrnn_run(&plan, FASTRNN_FORWARD, &of_parts) == FASTRNN_OK);
    }
    REQUIRE(same(arrays->y.data, of_parts.y.data, p->T * p->B * H));
    for (int64_t b = 0; b < batch->B; b++) {
        const bool is_empty = (batch->lengths ? batch->lengths[b] : batch->T) == 0;
        const void *const expected = is_empty ? arrays->initial[0].data : of_parts.final[0].data;
        REQUIRE(same((float *)arrays->final[0].data + b * H, (const float *)expected + b * H, H));
    }
}

/* All stages at once, and one after the other. */
static void try_backward(const struct fastrnn_batch *const batch, const struct fastrnn_arrays *const of_forward) {
    const struct call *const call = new_call(batch);
    const struct fastrnn_problem *const p = &call->problem;
    struct fastrnn_arrays once = *of_forward, staged;
    take_outputs(p, batch->B, &once);
    once.y = of_forward->y;
    once.scratch = take(call->sizes.scratch_backward);
    once.regions = call->sizes.regions ? take(call->sizes.regions) : NULL;
    staged = once;
    take_outputs(p, batch->B, &staged);
    staged.y = of_forward->y;
    REQUIRE(fastrnn_run(&call->plan, FASTRNN_BACKWARD, &once) == FASTRNN_OK);
    const struct fastrnn_view dx = staged.dx;
    for (staged.stage = 1; staged.stage <= call->built.stage_count; staged.stage++) {
        const bool is_whole = staged.stage > call->built.stage_count - call->built.whole_stages;
        staged.dx = is_whole ? dx : (struct fastrnn_view){NULL, 0, 0};
        REQUIRE(fastrnn_run(&call->plan, FASTRNN_BACKWARD, &staged) == FASTRNN_OK);
    }
    REQUIRE(fastrnn_run(&call->plan, FASTRNN_BACKWARD, &staged) == FASTRNN_BAD_STAGE);
    REQUIRE(same(once.dx.data, dx.data, p->T * p->B * I));
    REQUIRE(same(once.gradients[0], staged.gradients[0], GATES * H * I));
    REQUIRE(same(once.gradients[1], staged.gradients[1], GATES * H * H));
    for (int k = 0; k < STATES; k++) {
        REQUIRE(same(once.d_initial[k].data, staged.d_initial[k].data, batch->B * H));
    }
    once.stage = -1;
    REQUIRE(fastrnn_run(&call->plan, FASTRNN_BACKWARD, &once) == FASTRNN_BAD_STAGE);
    once.stage = 0, once.regions = NULL;
    REQUIRE(!call->built.d_states || fastrnn_run(&call->plan, FASTRNN_BACKWARD, &once) == FASTRNN_NULL_POINTER);
    REQUIRE(!call->built.backward_only || fastrnn_run(&call->plan, FASTRNN_FORWARD, &once) == FASTRNN_BAD_SCHEDULE);
}

/* ---- what is refused ---- */

static void try_misuse(void) {
    const struct fastrnn_batch batch = {.T = 4, .B = 2, .k1 = 1, .k2 = 3};
    struct call *const call = new_call(&batch);
    struct fastrnn_schedules schedules;
    struct fastrnn_plan plan;
    struct fastrnn_arrays arrays = draw_arrays(&call->problem, batch.B);
    take_outputs(&call->problem, batch.B, &arrays);
    arrays.reserve = take(call->plan.sizes.reserve);
    arrays.scratch = take(call->plan.sizes.scratch_backward);
    REQUIRE(fastrnn_measure_schedules(NULL, &schedules) == FASTRNN_NULL_POINTER);
    REQUIRE(fastrnn_measure_schedules(&batch, NULL) == FASTRNN_NULL_POINTER);
    REQUIRE(fastrnn_bound_schedules(NULL, &schedules) == FASTRNN_NULL_POINTER);
    REQUIRE(fastrnn_build_schedules(&batch, NULL, 0, &schedules) == FASTRNN_NULL_POINTER);
    REQUIRE(fastrnn_build_schedules(&batch, take(1), 1, &schedules) == FASTRNN_NO_ROOM);
    struct fastrnn_problem p = call->problem;
    p.schedules = &schedules; /* not built */
    REQUIRE(fastrnn_make_plan(&p, &plan) == FASTRNN_OK);
    REQUIRE(fastrnn_run(&plan, FASTRNN_BACKWARD, &arrays) == FASTRNN_BAD_PLAN);
    p.T = 5;
    REQUIRE(fastrnn_make_plan(&p, &plan) == FASTRNN_BAD_SCHEDULE);
    p.T = 4, p.schedule = call->built.stages->parts;
    REQUIRE(fastrnn_make_plan(&p, &plan) == FASTRNN_BAD_SCHEDULE);
}

static void release_all(void) {
    while (buffer_count > 0) {
        free(buffers[--buffer_count]);
    }
}

int main(const int count, char *const *const arguments) {
    const uint64_t batches = count > 1 ? strtoull(arguments[1], NULL, 10) : BATCHES;
    try_misuse();
    release_all();
    for (random_state = 1; random_state <= batches;) {
        const uint64_t seed = random_state;
        struct fastrnn_batch batch = draw_batch();
        struct fastrnn_arrays arrays;
        try_forward(&batch, &arrays);
        try_backward(&batch, &arrays);
        for (int times = 0; times < 3; times++) {
            batch.k1 = 1 + below(5), batch.k2 = batch.k1 + below(8);
            try_backward(&batch, &arrays);
        }
        release_all();
        random_state = seed + 1;
    }
    return 0;
}
