/* Forward steps of programs: the operands of the forward program, and the function that finishes a product with it. */
#ifndef FASTRNN_PROGRAM_FORWARD_H
#define FASTRNN_PROGRAM_FORWARD_H

#include "crossing.h"
#include "step.h"

/* The parameters of a pass that are vectors of H: packed, where every block is whole, or as the user has them. */
struct program_vectors {
    const real *packed; /* null: not packed */
    const void *const *parameters;
};

/* A saved vector of the reserve. Its rows are padded to whole vectors; its heads are not. */
static struct far_operand far_saved(const int operand, const struct saved_rows *const saved, const int vector) {
    real *const data = saved->data ? saved->data + vector * saved->units : NULL; /* null: no rows */
    struct far_operand far = far_view(operand, data, saved->B * saved->row, saved->row);
    far.is_whole = saved->is_whole;
    return far;
}

static void add_vector(struct interpreter *const p, const struct program_vectors *const vectors, const int operand,
                       const int index) {
    const int64_t row = block_count(p->units, VL) * VL;
    const void *const data =
        vectors->packed ? vectors->packed + index * row : (const real *)vectors->parameters[CELL_VECTORS + index];
    struct far_operand far = far_view(operand, data, 0, 0);
    far.is_read = true;
    far.is_whole = far.is_packed = vectors->packed;
    add_far(p, far);
}

/* Vectors, inputs and options, which both directions read. */
static void add_given(struct interpreter *const p, const struct step_given *const given,
                      const struct program_vectors *const vectors, const int operand,
                      const struct fastrnn_read *const read) {
    if (read->kind == FASTRNN_READ_VECTOR) {
        add_vector(p, vectors, operand, read->index);
    } else if (read->kind == FASTRNN_READ_OPTION) {
        add_constant(p, operand, &p->options[read->index], given->options[read->index]);
    } else {
        const struct fastrnn_const_view view = given->inputs[read->index];
        struct far_operand far = far_view(operand, view.data, view.stride_t, view.stride_b);
        far.is_read = true;
        far.is_column = given->table[read->index].columns == FASTRNN_ONE_COLUMN;
        add_far(p, far);
    }
}

/* Kept vectors and sums, which both directions read. */
static void add_crossing(struct interpreter *const p, const struct crossing *const crossing, const int operand,
                         const struct fastrnn_read *const read) {
    if (read->kind == FASTRNN_READ_KEPT) {
        add_kept(p, crossing, operand, read->index);
    } else {
        add_total(p, crossing, operand, read->index, read->kind == FASTRNN_READ_VARIANCE);
    }
}

static void add_forward_read(struct interpreter *const p, struct step_forward_job *const job,
                             const struct program_vectors *const vectors, const int gates, const int operand,
                             const struct fastrnn_read *const read) {
    switch (read->kind) {
    case FASTRNN_READ_GATE:
    case FASTRNN_READ_GATE_STATE:
        add_accumulator(p, operand, read->index);
        break;
    case FASTRNN_READ_PRODUCT:
        add_accumulator(p, operand, 0);
        break;
    case FASTRNN_READ_GATE_INPUT:
        add_near(p, operand, &job->gates, read->index * VL, job->gates_row, gates * VL);
        break;
    case FASTRNN_READ_BEFORE:
        add_near(p, operand, read->index ? &job->carried[read->index] : &job->h_before, 0, job->state_row, VL);
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

static void add_forward_write(struct interpreter *const p, struct step_forward_job *const job, const int number,
                              const struct fastrnn_write *const write) {
    const int operand = OPERAND_WRITES + number, j = write->index;
    if (write->kind == FASTRNN_WRITE_Y) {
        add_far(p, far_view(operand, job->y.data, job->y.stride_t, job->y.stride_b));
    } else if (write->kind == FASTRNN_WRITE_SAVED && job->saved.data) {
        add_far(p, far_saved(operand, &job->saved, j));
    } else if (write->kind == FASTRNN_WRITE_SAVED) {
        add_held(p, operand);
    } else if (write->kind == FASTRNN_WRITE_KEPT) {
        add_kept(p, &job->crossing, operand, j);
    } else if (j == 0) {
        add_near(p, operand, &job->h, 0, job->state_row, VL);
    } else if (overwrites_early(p->program, number, FASTRNN_READ_BEFORE, j)) {
        add_late(p, operand, &job->carried[j], job->state_row);
    } else {
        add_near(p, operand, &job->carried[j], 0, job->state_row, VL);
    }
}

/* Copies of a state after the step: to y, to the user's states, to the reserve. */
static void add_state_copies(struct interpreter *const p, const struct step_forward_job *const job,
                             const struct cell_shape *const cell, const int operand, const int j) {
    const struct fastrnn_view to = j == cell->output ? job->y : job->states[j];
    if (to.data) {
        add_copy(p, far_view(operand, to.data, to.stride_t, to.stride_b));
    }
    if (cell->saved_state[j] != NONE && job->saved.data) {
        add_copy(p, far_saved(operand, &job->saved, cell->saved_state[j]));
    }
}

/* The second product of a phase, or null. */
static const struct cell_product *product_of_phase(const struct cell_shape *const cell, const int phase,
                                                   const bool is_forward) {
    for (int j = 0; phase > 0 && j < cell->products; j++) {
        const struct cell_product *const product = &cell->product[j];
        if ((is_forward ? product->forward_phase : product->backward_phase) == phase) {
            return product;
        }
    }
    return NULL;
}

/* The accumulators of a phase. `first`: those of the first phase. */
static int panels_of_phase(const struct cell_shape *const cell, const int phase, const int first,
                           const bool is_forward) {
    return phase == 0 ? first : product_of_phase(cell, phase, is_forward) ? 1 : 0;
}

/* The job must stay where it is. */
static void begin_forward_program(struct interpreter *const p, const int phase, const struct cell_shape *const cell,
                                  struct step_forward_job *const job, const struct program_vectors *const vectors) {
    const struct fastrnn_code *const program = job->crossing.code;
    const int panels = panels_of_phase(cell, phase, cell->multiplies_h ? cell->gates : 0, true);
    begin_interpreter(p, program, phase, job->units, panels, job);
    p->place = &job->place;
    p->place_before = NULL;
    for (int j = 0; j < program->read_count; j++) {
        if (p->uses[OPERAND_READS + j]) {
            add_forward_read(p, job, vectors, cell->gates, OPERAND_READS + j, &program->reads[j]);
        }
    }
    for (int j = 0; j < program->write_count; j++) {
        if (!p->uses[OPERAND_WRITES + j]) {
            continue;
        }
        add_forward_write(p, job, j, &program->writes[j]);
        if (program->writes[j].kind == FASTRNN_WRITE_AFTER) {
            add_state_copies(p, job, cell, OPERAND_WRITES + j, program->writes[j].index);
        }
    }
    add_uniform_values(p, &job->crossing);
    complete_interpreter(p);
}

/* The padding of the reserve after the last unit that the program has stored. */
static void clear_padding_of_rows(const struct step_forward_job *const job, const int R, const int64_t row) {
    const struct saved_rows *const saved = &job->saved;
    const int64_t end = saved->is_whole ? block_count(job->units, VL) * VL : job->units.n;
    const size_t padding = (size_t)(saved->units - end) * sizeof(real);
    for (int r = 0; r < R && end < saved->units; r++) {
        for (int64_t j = 0; j < saved->row / saved->units; j++) {
            memset(saved_vector(saved, job->place[row + r], (int)j) + end, 0, padding);
        }
    }
}

/* Applies the program to a finished product. */
static void finish_forward_program(const void *const job, const int R, const int Q, const vreal *const acc,
                                   const int64_t row, const int64_t block) {
    const struct step_forward_job *const p = job;
    interpret_product(p->interpreter, R, Q, acc, row, block);
    if (p->saved.data && p->saved.row && block + Q == block_count(p->units, VL)) {
        clear_padding_of_rows(p, R, row);
    }
}

/* The first phase of a cell without a product. */
static void run_first_phase(struct interpreter *const p, const struct step_forward_job *const job, const int64_t rows,
                            const struct team_range blocks) {
    interpret_rows(p, rows, blocks);
    for (int64_t row = 0; job->saved.data && job->saved.row && blocks.end == block_count(job->units, VL) && row < rows;
         row++) {
        clear_padding_of_rows(job, 1, row);
    }
}

#endif
