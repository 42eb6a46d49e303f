/* Backward steps of programs: the operands of the backward program, and the function that finishes a product with it.
 */
#ifndef FASTRNN_PROGRAM_BACKWARD_H
#define FASTRNN_PROGRAM_BACKWARD_H

#include "program_forward.h"

/* The states before the first step of sequences, which have no rows in the chunk. */
static void load_starting(const void *const job, const struct far_operand *const far, const struct span *const s,
                          real *const copy) {
    const struct step_backward_job *const p = job;
    for (int j = 0; j < s->n; j++) {
        const struct schedule_origin origin = origin_of(p, row_in_span(s, j));
        const struct block block = block_in_span(p->interpreter, s, j);
        const vreal v = origin.kind == ORIGIN_ROW
                            ? vload_n(far_row(far, origin.place) + block.first, far->is_whole ? (int)VL : block.lanes)
                            : starting_state(p, far->state, &origin, &block);
        vstore(copy + j * VL, v);
    }
}

/* State j before the step lies in y or in the reserve. */
static void add_state_before(struct interpreter *const p, const struct step_backward_job *const job,
                             const struct cell_shape *const cell, const int operand, const int j) {
    struct far_operand far = j == cell->output ? far_view(operand, job->y.data, job->y.stride_t, job->y.stride_b)
                                               : far_saved(operand, &job->saved, cell->saved_state[j]);
    far.is_read = true;
    far.state = j;
    add_far(p, far);
}

/* An absent tensor is zero. */
static void add_sequence(struct interpreter *const p, const int operand, const struct fastrnn_const_view view) {
    if (view.data) {
        struct far_operand far = far_view(operand, view.data, view.stride_t, view.stride_b);
        far.is_read = true;
        add_far(p, far);
    } else {
        add_constant(p, operand, &p->zero, 0);
    }
}

/* The gradient of state j after the step, where the product or the step after this one left it. */
static void add_gradient_after(struct interpreter *const p, struct step_backward_job *const job, const int operand,
                               const int j) {
    if (j == 0) {
        add_accumulator(p, operand, 0);
    } else {
        add_near(p, operand, &job->d_states[j], 0, job->state_row, VL);
    }
}

static void add_backward_read(struct interpreter *const p, struct step_backward_job *const job,
                              const struct cell_shape *const cell, const struct program_vectors *const vectors,
                              const int operand, const struct fastrnn_read *const read) {
    struct far_operand saved;
    switch (read->kind) {
    case FASTRNN_READ_BEFORE:
        add_state_before(p, job, cell, operand, read->index);
        break;
    case FASTRNN_READ_Y:
        add_sequence(p, operand, job->y);
        break;
    case FASTRNN_READ_DY:
        add_sequence(p, operand, job->dy);
        break;
    case FASTRNN_READ_D_AFTER:
        if (read->index == cell->output) {
            add_gradient_after(p, job, OPERAND_D_OUTPUT, read->index);
            add_sequence(p, OPERAND_DY, job->dy);
            add_held(p, operand);
            add_instruction(p, FASTRNN_OPERATION_add, operand, OPERAND_D_OUTPUT, OPERAND_DY, 0);
        } else {
            add_gradient_after(p, job, operand, read->index);
        }
        break;
    case FASTRNN_READ_D_PRODUCT:
        add_accumulator(p, operand, 0);
        break;
    case FASTRNN_READ_SAVED:
        saved = far_saved(operand, &job->saved, read->index);
        saved.is_read = true;
        add_far(p, saved);
        break;
    case FASTRNN_READ_KEPT:
    case FASTRNN_READ_SUM:
    case FASTRNN_READ_VARIANCE:
        add_crossing(p, &job->crossing, operand, read);
        break;
    default:
        add_given(p, &job->given, vectors, operand, read);
        break;
    }
}

static void add_backward_write(struct interpreter *const p, struct step_backward_job *const job,
                               const struct cell_shape *const cell, const struct fastrnn_view *const d_inputs,
                               const int number, const struct fastrnn_write *const write) {
    const int operand = OPERAND_WRITES + number, j = write->index;
    const bool is_slot = write->kind == FASTRNN_WRITE_SLOT;
    if (is_slot || write->kind == FASTRNN_WRITE_D_VECTOR) {
        add_near(p, operand, &job->slots, (is_slot ? j : cell->slots + j) * job->slot, VL, job->block);
    } else if (write->kind == FASTRNN_WRITE_D_INPUT && d_inputs[j].data) {
        add_far(p, far_view(operand, d_inputs[j].data, d_inputs[j].stride_t, d_inputs[j].stride_b));
    } else if (write->kind == FASTRNN_WRITE_D_INPUT) {
        add_held(p, operand);
    } else if (write->kind == FASTRNN_WRITE_KEPT) {
        add_kept(p, &job->crossing, operand, j);
    } else if (j > 0 && j != cell->output && overwrites_early(p->program, number, FASTRNN_READ_D_AFTER, j)) {
        add_late(p, operand, &job->d_states[j], job->state_row);
    } else {
        add_near(p, operand, &job->d_states[j], 0, job->state_row, VL);
    }
}

/* The job must stay where it is. */
static void begin_backward_program(struct interpreter *const p, const int phase, const struct cell_shape *const cell,
                                   struct step_backward_job *const job, const struct program_vectors *const vectors,
                                   const struct fastrnn_view *const d_inputs) {
    const struct fastrnn_code *const program = job->crossing.code;
    begin_interpreter(p, program, phase, job->units, panels_of_phase(cell, phase, 1, false), job);
    p->place = &job->place;
    p->place_before = &job->place_before;
    p->load_starting = load_starting;
    for (int j = 0; j < program->read_count; j++) {
        if (p->uses[OPERAND_READS + j]) {
            add_backward_read(p, job, cell, vectors, OPERAND_READS + j, &program->reads[j]);
        }
    }
    for (int j = 0; j < program->write_count; j++) {
        if (p->uses[OPERAND_WRITES + j]) {
            add_backward_write(p, job, cell, d_inputs, j, &program->writes[j]);
        }
    }
    add_uniform_values(p, &job->crossing);
    complete_interpreter(p);
}

/* Applies the program to a finished product. */
static void finish_backward_program(const void *const job, const int R, const int Q, const vreal *const acc,
                                    const int64_t row, const int64_t block) {
    interpret_product(((const struct step_backward_job *)job)->interpreter, R, Q, acc, row, block);
}

#endif
