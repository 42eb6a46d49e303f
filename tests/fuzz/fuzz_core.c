/* A fuzz target for the C interface. An input is a problem with a schedule and tensors. Calls must refuse exactly those
 * schedules that the simple check here finds malformed. For valid schedules, the bits of all outputs must be the same
 * on several threads and on one, with an explicit and an implicit dense schedule, and for a sequence alone and in the
 * batch. Calls may write only rows that the schedule visits. Other inputs are programs (program_calls.h).
 */
#include "drawn_schedule.h"
#include "drawn_tensor.h"
#include "program_calls.h"
#include "required.h"

enum input { X, H0, C0, W_IH, W_HH, B_IH, B_HH, DY, DH_N, DC_N, INPUTS };
enum output { Y, C, H_N, C_N, DX, DH0, DC0, DW_IH, DW_HH, DB_IH, DB_HH, OUTPUTS };

struct drawn {
    struct fastrnn_problem problem; /* without schedule */
    struct drawn_schedule forward, backward;
    int64_t states; /* rows of h0 */
    size_t size;    /* of a real */
    bool trains;
    struct tensor inputs[INPUTS];   /* block null: absent */
    struct tensor outputs[OUTPUTS]; /* layouts */
    bool wanted[OUTPUTS];
};

/* The outputs of calls on the same inputs, in separate memory. */
struct written {
    struct tensor outputs[OUTPUTS];
};

/* ---- inputs ---- */

static void draw_tensors(struct bytes *const from, struct drawn *const d) {
    const struct fastrnn_problem *const p = &d->problem;
    const int64_t states = d->states, rows = fastrnn_cell_table(p->cell)->gates * p->H;
    const bool has_c = fastrnn_cell_table(p->cell)->state_count == 2;
    const int64_t shapes[INPUTS][3] = {
        {p->T, p->B, p->I}, {1, states, p->H}, {1, states, p->H},  {1, 1, rows * p->I}, {1, 1, rows * p->H},
        {1, 1, rows},       {1, 1, rows},      {p->T, p->B, p->H}, {1, states, p->H},   {1, states, p->H},
    };
    static const enum input like[OUTPUTS] = {DY, DY, H0, C0, X, H0, C0, W_IH, W_HH, B_IH, B_HH};
    for (enum input j = 0; j < INPUTS; j++) {
        const bool exists = has_c || (j != C0 && j != DC_N), required = j == X || j == W_IH || j == W_HH;
        d->inputs[j] = draw_layout(from, p->dtype, shapes[j][0], shapes[j][1], shapes[j][2]);
        if (exists && (required || draw_byte(from) % 4)) {
            d->inputs[j] = with_memory(d->inputs[j]);
            draw_reals(from, p->dtype, &d->inputs[j]);
        }
    }
    for (enum output j = 0; j < OUTPUTS; j++) {
        const int64_t *const shape = shapes[like[j]];
        const bool exists = has_c || (j != C && j != C_N && j != DC0);
        d->outputs[j] = draw_layout(from, p->dtype, shape[0], shape[1], shape[2]);
        d->wanted[j] = exists && (j == Y || draw_byte(from) % 4);
    }
}

static struct drawn draw_problem(struct bytes *const from) {
    struct drawn d = {0};
    struct fastrnn_problem *const p = &d.problem;
    p->cell = (enum fastrnn_cell)draw_below(from, FASTRNN_CELL_COUNT);
    p->dtype = (enum fastrnn_dtype)draw_below(from, FASTRNN_DTYPE_COUNT);
    p->backend = (int)draw_below(from, fastrnn_backend_count());
    p->backend = fastrnn_backend_runs_here(p->backend) ? p->backend : fastrnn_best_backend();
    p->threads = 1;
    p->T = draw_byte(from) % 16 == 15 ? draw_below(from, 70) : draw_below(from, 8);
    p->B = draw_byte(from) % 16 == 15 ? draw_below(from, 20) : draw_below(from, 8);
    p->I = draw_byte(from) % 16 == 15 ? draw_below(from, 36) : draw_below(from, 5);
    p->H = draw_byte(from) % 16 == 15 ? draw_below(from, 36) : draw_below(from, 5);
    d.size = real_bytes(p->dtype);
    d.trains = draw_byte(from) % 4;
    return d;
}

/* ---- calls ---- */

static struct written new_outputs(const struct drawn *const d) {
    struct written w;
    for (enum output j = 0; j < OUTPUTS; j++) {
        w.outputs[j] = d->wanted[j] ? with_memory(d->outputs[j]) : d->outputs[j];
    }
    return w;
}

/* Arrays that are the same for every schedule of a problem. */
static size_t reserve_bytes(const struct fastrnn_problem *const p) {
    struct fastrnn_plan plan;
    REQUIRE(fastrnn_make_plan(p, &plan) == FASTRNN_OK);
    return plan.sizes.reserve;
}

/* Inputs of both passes. */
static struct fastrnn_arrays arrays_of(const struct drawn *const d, const struct written *const w,
                                       void *const reserve) {
    const struct tensor *const inputs = d->inputs;
    return (struct fastrnn_arrays){
        .struct_size = sizeof(struct fastrnn_arrays),
        .parameters = {inputs[W_IH].block, inputs[W_HH].block, inputs[B_IH].block, inputs[B_HH].block},
        .x = const_view_of(&inputs[X], d->size),
        .y = view_of(&w->outputs[Y], d->size),
        .initial = {const_view_of(&inputs[H0], d->size), const_view_of(&inputs[C0], d->size)},
        .reserve = reserve,
    };
}

static enum fastrnn_status run_forward(const struct drawn *const d, const struct fastrnn_problem *const p,
                                       struct written *const w, void *const reserve) {
    struct fastrnn_plan plan;
    struct fastrnn_arrays arrays = arrays_of(d, w, reserve);
    const enum fastrnn_status status = fastrnn_make_plan(p, &plan);
    if (status != FASTRNN_OK) {
        return status;
    }
    arrays.packed = take(plan.sizes.packed_forward);
    arrays.scratch = take(plan.sizes.scratch_forward);
    arrays.states[1] = view_of(&w->outputs[C], d->size);
    arrays.final[0] = view_of(&w->outputs[H_N], d->size);
    arrays.final[1] = view_of(&w->outputs[C_N], d->size);
    REQUIRE(fastrnn_run(&plan, FASTRNN_PACK_FORWARD, &arrays) == FASTRNN_OK);
    return fastrnn_run(&plan, FASTRNN_FORWARD, &arrays);
}

static enum fastrnn_status run_backward(const struct drawn *const d, const struct fastrnn_problem *const p,
                                        struct written *const w, void *const reserve) {
    struct fastrnn_plan plan;
    struct fastrnn_arrays arrays = arrays_of(d, w, reserve);
    const enum fastrnn_status status = fastrnn_make_plan(p, &plan);
    if (status != FASTRNN_OK) {
        return status;
    }
    arrays.packed = take(plan.sizes.packed_backward);
    arrays.scratch = take(plan.sizes.scratch_backward);
    arrays.dy = const_view_of(&d->inputs[DY], d->size);
    arrays.d_final[0] = const_view_of(&d->inputs[DH_N], d->size);
    arrays.d_final[1] = const_view_of(&d->inputs[DC_N], d->size);
    arrays.dx = view_of(&w->outputs[DX], d->size);
    arrays.d_initial[0] = view_of(&w->outputs[DH0], d->size);
    arrays.d_initial[1] = view_of(&w->outputs[DC0], d->size);
    arrays.accumulation = FASTRNN_OVERWRITE;
    for (int j = 0; j < 4; j++) {
        arrays.gradients[j] = w->outputs[DW_IH + j].block;
    }
    REQUIRE(fastrnn_run(&plan, FASTRNN_PACK_BACKWARD, &arrays) == FASTRNN_OK);
    return fastrnn_run(&plan, FASTRNN_BACKWARD, &arrays);
}

/* Runs forward and backward; stops at a status other than FASTRNN_OK. `dense`: with the core's implicit schedule. */
static enum fastrnn_status run_both(const struct drawn *const d, const bool dense, const int threads,
                                    struct written *const w) {
    struct fastrnn_problem p = d->problem;
    *w = new_outputs(d);
    p.threads = threads;
    const enum fastrnn_cut cuts[] = {FASTRNN_CUT_ALL_THREADS, FASTRNN_CUT_BY_SEQUENCES, FASTRNN_CUT_BY_UNITS,
                                     FASTRNN_CUT_BY_PIECES};
    p.cut = threads > 1 ? cuts[p.H % 4] : FASTRNN_CUT_AUTO;
    void *const reserve = d->trains ? take(reserve_bytes(&p)) : NULL;
    p.schedule = dense ? NULL : &d->forward.c;
    const enum fastrnn_status status = run_forward(d, &p, w, reserve);
    p.schedule = dense ? NULL : &d->backward.c;
    return status != FASTRNN_OK || !d->trains ? status : run_backward(d, &p, w, reserve);
}

/* ---- properties ---- */

static void require_same(const struct drawn *const d, const struct written *const a, const struct written *const b) {
    for (enum output j = 0; j < OUTPUTS; j++) {
        if (a->outputs[j].block) {
            REQUIRE(same_reals(a->outputs[j].block, b->outputs[j].block, a->outputs[j].bytes, d->problem.dtype));
        }
    }
}

/* Excludes the rows (t*B + b) that may be written; all other rows and all gaps must be unchanged. */
static void require_rest_untouched(const struct tensor *const x, const size_t size, const int64_t *const rows,
                                   const int64_t count) {
    if (!x->block) {
        return;
    }
    struct tensor rest = *x;
    rest.block = take(x->bytes);
    if (x->bytes) {
        memcpy(rest.block, x->block, x->bytes);
    }
    for (int64_t j = 0; j < count; j++) {
        if (rows[j] >= 0 && rows[j] < x->T * x->B) {
            memset(row_of_tensor(&rest, size, rows[j] / x->B, rows[j] % x->B), POISON, (size_t)x->n * size);
        }
    }
    for (size_t j = 0; j < x->bytes; j++) {
        REQUIRE(rest.block[j] == POISON);
    }
}

static void require_only_named_rows_written(const struct drawn *const d, const struct written *const w) {
    const struct drawn_schedule *const f = &d->forward, *const b = &d->backward;
    const int64_t b_rows = d->trains ? b->rows : 0; /* otherwise the schedule may be invalid: nothing is written */
    const int64_t n = f->rows ? f->c.active[0] : 0, m = b_rows ? b->c.active[0] : 0;
    const int64_t *const d_first = b->c.d_first ? b->c.d_first : b->c.first;
    require_rest_untouched(&w->outputs[Y], d->size, f->c.row, f->rows);
    require_rest_untouched(&w->outputs[C], d->size, f->c.row, f->rows);
    require_rest_untouched(&w->outputs[H_N], d->size, f->c.last, n);
    require_rest_untouched(&w->outputs[C_N], d->size, f->c.last, n);
    require_rest_untouched(&w->outputs[DX], d->size, b->c.row, b_rows);
    require_rest_untouched(&w->outputs[DH0], d->size, d_first, m);
    require_rest_untouched(&w->outputs[DC0], d->size, d_first, m);
}

/* A sequence of the schedule as the only one of a dense problem. */
static void require_same_alone(const struct drawn *const d, const struct written *const w, const int64_t i) {
    const struct drawn_schedule *const s = &d->forward;
    struct fastrnn_problem p = d->problem;
    struct drawn alone = *d;
    int64_t steps = 0;
    while (steps < s->c.steps && s->c.active[steps] > i) {
        steps++;
    }
    p.T = steps, p.B = 1, p.schedule = NULL;
    const size_t x_row = (size_t)p.I * d->size, y_row = (size_t)p.H * d->size;
    struct bytes none = {0};
    alone.inputs[X] = with_memory(draw_layout(&none, p.dtype, steps, 1, p.I));
    for (enum input j = H0; j <= C0; j++) {
        alone.inputs[j].block = NULL;
        if (s->c.first[i] >= 0 && d->inputs[j].block) {
            alone.inputs[j] = with_memory(draw_layout(&none, p.dtype, 1, 1, p.H));
            memcpy(alone.inputs[j].block, row_of_tensor(&d->inputs[j], d->size, 0, s->c.first[i]), y_row);
        }
    }
    memset(alone.wanted, 0, sizeof alone.wanted);
    alone.wanted[Y] = true;
    alone.outputs[Y] = draw_layout(&none, p.dtype, steps, 1, p.H);
    for (int64_t step = 0, offset = i; step < steps; offset += s->c.active[step++]) {
        const int64_t row = s->c.row[offset];
        memcpy(alone.inputs[X].block + (size_t)step * x_row,
               row_of_tensor(&d->inputs[X], d->size, row / d->problem.B, row % d->problem.B), x_row);
    }
    struct written of_alone = new_outputs(&alone);
    REQUIRE(run_forward(&alone, &p, &of_alone, NULL) == FASTRNN_OK);
    for (int64_t step = 0, offset = i; step < steps; offset += s->c.active[step++]) {
        const int64_t row = s->c.row[offset];
        REQUIRE(same_reals(of_alone.outputs[Y].block + (size_t)step * y_row,
                           row_of_tensor(&w->outputs[Y], d->size, row / d->problem.B, row % d->problem.B), y_row,
                           p.dtype));
    }
}

/* The explicit schedule of a dense problem. */
static struct drawn_schedule dense_schedule(const int64_t T, const int64_t B) {
    int64_t *const active = take_integers(T), *const row = take_integers(T * B), *const each = take_integers(B);
    for (int64_t t = 0; t < T; t++) {
        active[t] = B;
    }
    for (int64_t j = 0; j < T * B; j++) {
        row[j] = j;
    }
    for (int64_t b = 0; b < B; b++) {
        each[b] = b;
    }
    const struct fastrnn_schedule c = {
        .steps = T, .active = active, .row = row, .states = B, .first = each, .last = each};
    return (struct drawn_schedule){.c = c, .rows = T * B};
}

/* ---- the target ---- */

/* Arbitrary numbers: they must be refused or give usable sizes. */
static void try_any_numbers(struct bytes *const from) {
    struct fastrnn_problem p = {0};
    struct fastrnn_plan plan;
    p.cell = (enum fastrnn_cell)draw_wrong(from, 0, FASTRNN_CELL_COUNT);
    p.dtype = (enum fastrnn_dtype)draw_wrong(from, 0, FASTRNN_DTYPE_COUNT);
    p.backend = (int)draw_wrong(from, 0, fastrnn_backend_count());
    p.threads = (int)draw_wrong(from, 1, 256);
    p.cut = (enum fastrnn_cut)draw_wrong(from, 0, FASTRNN_CUT_COUNT);
    p.T = draw_wrong(from, 1, 1 << 20);
    p.B = draw_wrong(from, 1, 1 << 20);
    p.I = draw_wrong(from, 1, 1 << 20);
    p.H = draw_wrong(from, 1, 1 << 20);
    p.heads = draw_wrong(from, 0, 2);
    if (fastrnn_make_plan(&p, &plan) == FASTRNN_OK) {
        const struct fastrnn_sizes sizes = plan.sizes;
        REQUIRE(p.heads == 0 || p.heads == 1); /* compiled cells have one head */
        REQUIRE(sizes.packed_forward <= PTRDIFF_MAX && sizes.packed_backward <= PTRDIFF_MAX);
        REQUIRE(sizes.reserve <= PTRDIFF_MAX && sizes.scratch_forward <= PTRDIFF_MAX);
        REQUIRE(sizes.scratch_backward <= PTRDIFF_MAX);
    }
}

/* The status that both directions must give, if forward is the first to fail. */
static enum fastrnn_status status_due(const struct drawn *const d, const bool dense) {
    const int64_t grid = d->problem.T * d->problem.B;
    const bool sound = dense || (is_sound(&d->forward, grid, 0) && (!d->trains || is_sound(&d->backward, grid, grid)));
    return sound ? FASTRNN_OK : FASTRNN_BAD_SCHEDULE;
}

static void try_problem(struct bytes *const from) {
    struct drawn d = draw_problem(from);
    const int64_t grid = d.problem.T * d.problem.B;
    const bool dense = draw_bit(from);
    d.forward = dense ? dense_schedule(d.problem.T, d.problem.B) : draw_schedule(from, d.problem.T, d.problem.B);
    d.backward = d.forward;
    d.states = d.forward.c.states;
    if (!dense) {
        d.backward = starting_from_rows(from, &d.forward, grid);
        spoil_schedule(from, &d.forward, grid);
        spoil_schedule(from, &d.backward, grid);
    }
    draw_tensors(from, &d);
    const int threads = (int)(2 + draw_below(from, 3));
    struct written one, other;
    const enum fastrnn_status due = status_due(&d, dense);
    REQUIRE(run_both(&d, dense, 1, &one) == due);
    REQUIRE(run_both(&d, dense, threads, &other) == due);
    require_same(&d, &one, &other);
    if (due != FASTRNN_OK || grid == 0) {
        return;
    }
    REQUIRE(run_both(&d, false, threads, &other) == FASTRNN_OK);
    require_same(&d, &one, &other);
    require_only_named_rows_written(&d, &one);
    for (int64_t i = 0; d.forward.rows && i < d.forward.c.active[0] && i < 3; i++) {
        require_same_alone(&d, &one, i);
    }
}

static void try_program(struct bytes *const from) {
    struct fastrnn_problem p = {.threads = 1, .backend = fastrnn_best_backend()};
    const int backend = (int)draw_below(from, fastrnn_backend_count());
    p.backend = fastrnn_backend_runs_here(backend) ? backend : p.backend;
    p.dtype = (enum fastrnn_dtype)draw_below(from, FASTRNN_DTYPE_COUNT);
    p.T = draw_below(from, 4), p.B = draw_below(from, 9), p.I = draw_below(from, 5), p.H = draw_below(from, 36);
    const int64_t heads = draw_below(from, 5);
    p.heads = heads;
    p.H *= heads > 1 ? heads : 1;
    const struct drawn_program drawn = draw_program(from);
    p.program = &drawn.c;
    struct fastrnn_plan plan;
    const enum fastrnn_status status = fastrnn_make_plan(&p, &plan);
    REQUIRE((status == FASTRNN_OK) == !fastrnn_program_error(&drawn.c));
    REQUIRE(status == FASTRNN_OK || (status == FASTRNN_BAD_PROGRAM && !drawn.is_sound));
    if (status != FASTRNN_OK) {
        return;
    }
    struct program_tensors inputs = {0}, one = {0}, other = {0};
    const struct fastrnn_arrays arrays = draw_program_inputs(from, &p, &inputs);
    const bool packs = draw_bit(from);
    REQUIRE(run_program(&p, &arrays, true, &one) == FASTRNN_OK);
    p.threads = (int)(1 + draw_below(from, 4));
    p.cut = (enum fastrnn_cut)draw_below(from, FASTRNN_CUT_COUNT);
    REQUIRE(run_program(&p, &arrays, packs, &other) == FASTRNN_OK);
    for (int j = 0; j < one.count; j++) {
        REQUIRE(same_reals(one.all[j].block, other.all[j].block, one.all[j].bytes, p.dtype));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *const data, const size_t bytes) {
    struct bytes from = {data, data + bytes};
    const int kind = draw_byte(&from) % 16;
    if (kind == 15) {
        try_any_numbers(&from);
    } else if (kind >= 11) {
        try_program(&from);
    } else {
        try_problem(&from);
    }
    release_all();
    return 0;
}
