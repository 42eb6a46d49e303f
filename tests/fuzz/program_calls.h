/* Calls of drawn programs. Sound programs must run, all others be refused or run, and no call may leave its memory. The
 * bits of all outputs must be the same on several threads and on one, with packed weights and without. */
#ifndef FASTRNN_TESTS_PROGRAM_CALLS_H
#define FASTRNN_TESTS_PROGRAM_CALLS_H

#include "drawn_program.h"
#include "drawn_tensor.h"

enum { TENSORS_MAX = 64 };

/* The inputs and outputs of a call, in separate memory, as far as calls differ in them. */
struct program_tensors {
    struct tensor all[TENSORS_MAX];
    int count;
};

static struct tensor *next_tensor(struct program_tensors *const in, const struct tensor layout) {
    struct tensor *const made = &in->all[in->count++];
    *made = with_memory(layout);
    return made;
}

/* Drawn numbers; the bytes are null for an output. */
static struct fastrnn_view new_view(struct program_tensors *const in, struct bytes *const from,
                                    const struct fastrnn_problem *const p, const struct tensor layout) {
    struct tensor *const x = next_tensor(in, layout);
    if (from) {
        draw_reals(from, p->dtype, x);
    }
    return view_of(x, real_bytes(p->dtype));
}

static struct fastrnn_const_view read_only(const struct fastrnn_view view) {
    return (struct fastrnn_const_view){view.data, view.stride_t, view.stride_b};
}

static struct tensor plain_layout(const enum fastrnn_dtype dtype, const int64_t T, const int64_t B, const int64_t n) {
    struct bytes none = {0};
    return draw_layout(&none, dtype, T, B, n);
}

static int64_t parameter_reals(const struct fastrnn_parameter *const one, const struct fastrnn_problem *const p) {
    const int64_t width = p->heads ? p->H / p->heads : p->H;
    const int64_t columns[] = {
        [FASTRNN_ONE_COLUMN] = 1, [FASTRNN_COLUMNS_OF_INPUT] = p->I, [FASTRNN_COLUMNS_OF_STATE] = width};
    return one->rows_per_unit * p->H * columns[one->columns];
}

/* Everything that calls only read. */
static struct fastrnn_arrays draw_program_inputs(struct bytes *const from, const struct fastrnn_problem *const p,
                                                 struct program_tensors *const in) {
    static const double options[FASTRNN_OPTIONS_MAX] = {0.5, -2};
    const struct fastrnn_cell_table *const t = p->program->table;
    const enum fastrnn_dtype dtype = p->dtype;
    struct fastrnn_arrays a = {.struct_size = sizeof a, .options = t->option_count ? options : NULL};
    for (int j = 0; j < t->parameter_count; j++) {
        const bool is_given = t->parameters[j].required || draw_bit(from);
        const struct tensor layout = plain_layout(dtype, 1, 1, parameter_reals(&t->parameters[j], p));
        a.parameters[j] = is_given ? new_view(in, from, p, layout).data : NULL;
    }
    a.x = read_only(new_view(in, from, p, draw_layout(from, dtype, p->T, p->B, p->I)));
    for (int j = 0; j < t->input_count; j++) {
        const int64_t columns = t->inputs[j].columns == FASTRNN_ONE_COLUMN ? 1 : p->H;
        a.inputs[j] = read_only(new_view(in, from, p, draw_layout(from, dtype, p->T, p->B, columns)));
    }
    if (draw_bit(from)) {
        a.dy = read_only(new_view(in, from, p, draw_layout(from, dtype, p->T, p->B, p->H)));
    }
    for (int j = 0; j < t->state_count; j++) {
        if (draw_bit(from)) {
            a.initial[j] = read_only(new_view(in, from, p, plain_layout(dtype, 1, p->B, p->H)));
        }
        if (draw_bit(from)) {
            a.d_final[j] = read_only(new_view(in, from, p, plain_layout(dtype, 1, p->B, p->H)));
        }
    }
    return a;
}

static void add_program_outputs(const struct fastrnn_problem *const p, struct fastrnn_arrays *const a,
                                struct program_tensors *const out) {
    const struct fastrnn_cell_table *const t = p->program->table;
    const struct tensor sequence = plain_layout(p->dtype, p->T, p->B, p->H);
    const struct tensor state = plain_layout(p->dtype, 1, p->B, p->H);
    a->y = new_view(out, NULL, p, sequence);
    a->dx = new_view(out, NULL, p, plain_layout(p->dtype, p->T, p->B, p->I));
    a->accumulation = FASTRNN_OVERWRITE;
    for (int j = 0; j < t->parameter_count; j++) {
        const struct tensor layout = plain_layout(p->dtype, 1, 1, parameter_reals(&t->parameters[j], p));
        a->gradients[j] = new_view(out, NULL, p, layout).data;
    }
    for (int j = 0; j < t->state_count; j++) {
        a->states[j] = j == t->output ? a->states[j] : new_view(out, NULL, p, sequence);
        a->final[j] = new_view(out, NULL, p, state);
        a->d_initial[j] = new_view(out, NULL, p, state);
    }
    for (int j = 0; j < t->input_count; j++) {
        a->d_inputs[j] = new_view(out, NULL, p, sequence);
    }
}

/* Forward and backward; the sizes are those of a plan. */
static enum fastrnn_status run_program(const struct fastrnn_problem *const p, const struct fastrnn_arrays *const inputs,
                                       const bool packs, struct program_tensors *const out) {
    struct fastrnn_plan plan;
    struct fastrnn_arrays a = *inputs;
    enum fastrnn_status status = fastrnn_make_plan(p, &plan);
    if (status != FASTRNN_OK) {
        return status;
    }
    add_program_outputs(p, &a, out);
    a.reserve = take(plan.sizes.reserve);
    for (int backward = 0; backward < 2 && status == FASTRNN_OK; backward++) {
        const size_t packed = backward ? plan.sizes.packed_backward : plan.sizes.packed_forward;
        a.packed = packs ? take(packed) : NULL;
        a.scratch = take(backward ? plan.sizes.scratch_backward : plan.sizes.scratch_forward);
        if (packs) {
            status = fastrnn_run(&plan, backward ? FASTRNN_PACK_BACKWARD : FASTRNN_PACK_FORWARD, &a);
        }
        status = status == FASTRNN_OK ? fastrnn_run(&plan, backward ? FASTRNN_BACKWARD : FASTRNN_FORWARD, &a) : status;
    }
    return status;
}

#endif
