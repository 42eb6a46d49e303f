/* The instructions of a phase, as the interpreter runs them.
 *
 * An instruction on sums over units and constants alone gives the same value for all units, such as the standard
 * deviation of a norm. It runs once for a row, with rows in the lanes, before the spans of the phase, which then read
 * the value as they read a sum. The bits are those of an instruction that runs for each unit.
 */
#ifndef FASTRNN_PHASE_CODE_H
#define FASTRNN_PHASE_CODE_H

#include "interpreter.h"

static int operand_number(const int operand) {
    const int index = operand & 0xFF;
    switch (operand & ~0xFF) {
    case FASTRNN_OPERAND_READ:
        return OPERAND_READS + index;
    case FASTRNN_OPERAND_CONSTANT:
        return OPERAND_CONSTANTS + index;
    case FASTRNN_OPERAND_WRITE:
        return OPERAND_WRITES + index;
    default:
        return index;
    }
}

static struct span_instruction span_instruction(const int operation, const int to, const int a, const int b,
                                                const int c) {
    return (struct span_instruction){(uint8_t)operation, (uint8_t)to, (uint8_t)a, (uint8_t)b, (uint8_t)c};
}

static void add_instruction(struct interpreter *const p, const int operation, const int to, const int a, const int b,
                            const int c) {
    p->code[p->instruction_count++] = span_instruction(operation, to, a, b, c);
}

/* Whether an instruction after the one that writes `write` reads `read`. */
static bool is_read_after(const struct fastrnn_code *const program, const int write, const int read) {
    bool is_written = false;
    for (int j = 0; j < program->instruction_count; j++) {
        const struct fastrnn_instruction *const i = &program->instructions[j];
        const int operand = FASTRNN_OPERAND_READ + read;
        if (is_written && (i->a == operand || i->b == operand || i->c == operand)) {
            return true;
        }
        is_written |= i->to == FASTRNN_OPERAND_WRITE + write;
    }
    return false;
}

/* Whether the program reads a vector after it has written `write`, which takes the place of the vector. */
static bool overwrites_early(const struct fastrnn_code *const program, const int write,
                             const enum fastrnn_read_kind kind, const int index) {
    for (int j = 0; j < program->read_count; j++) {
        if (program->reads[j].kind == kind && program->reads[j].index == index) {
            return is_read_after(program, write, j);
        }
    }
    return false;
}

/* ---- values that are the same for all units ---- */

/* While the instructions of a phase are split: the operand that holds the content of each operand. */
struct splitting {
    uint8_t place[OPERANDS];
};

/* A sum of all units. */
static bool is_sum(const struct fastrnn_code *const program, const int operand) {
    if (operand < OPERAND_READS || operand >= OPERAND_READS + program->read_count) {
        return false;
    }
    const enum fastrnn_read_kind kind = program->reads[operand - OPERAND_READS].kind;
    const int index = program->reads[operand - OPERAND_READS].index;
    return (kind == FASTRNN_READ_SUM || kind == FASTRNN_READ_VARIANCE) &&
           program->sums[index].extent == FASTRNN_SUM_OF_UNITS;
}

/* Whether an operand is a sum, or was computed from sums and constants. */
static bool is_uniform(const struct interpreter *const p, const int operand) {
    return operand >= OPERAND_UNIFORM || is_sum(p->program, operand);
}

static bool is_constant(const int operand) {
    return operand >= OPERAND_CONSTANTS && operand < OPERAND_CONSTANTS + FASTRNN_CONSTANTS_MAX;
}

static void split_instruction(struct interpreter *const p, struct splitting *const s,
                              const struct fastrnn_instruction *const from) {
    const int arguments = fastrnn_operation_arguments(from->operation), to = operand_number(from->to);
    const int given[] = {operand_number(from->a), operand_number(from->b), operand_number(from->c)};
    int operands[3] = {0};
    bool all = true, any = false;
    for (int j = 0; j < arguments; j++) {
        operands[j] = s->place[given[j]];
        any |= is_uniform(p, operands[j]);
        all &= is_uniform(p, operands[j]) || is_constant(operands[j]);
    }
    for (int j = arguments; j < 3; j++) {
        operands[j] = operands[0]; /* without effect, but loaded: it must have as many vectors as the others */
    }
    const int operation = from->operation;
    if (!any || !all || operation == FASTRNN_OPERATION_copy || p->uniform_count == LAYOUT_UNIFORM_MAX) {
        s->place[to] = (uint8_t)to;
        p->body[p->body_count++] = span_instruction(operation, to, operands[0], operands[1], operands[2]);
        return;
    }
    const int value = OPERAND_UNIFORM + p->uniform_count;
    s->place[to] = (uint8_t)value;
    p->uniform[p->uniform_count++] = span_instruction(operation, value, operands[0], operands[1], operands[2]);
    if (to >= OPERAND_WRITES) {
        p->body[p->body_count++] = span_instruction(FASTRNN_OPERATION_copy, to, value, 0, 0);
    }
}

static void split_instructions(struct interpreter *const p, const int phase) {
    const int begin = phase ? p->program->phase_ends[phase - 1] : 0;
    struct splitting s;
    for (int j = 0; j < OPERANDS; j++) {
        s.place[j] = (uint8_t)j;
    }
    p->body_count = p->uniform_count = 0;
    for (int j = begin; j < p->program->phase_ends[phase]; j++) {
        split_instruction(p, &s, &p->program->instructions[j]);
    }
}

/* The values that the spans of the phase read. */
static void add_uniform_values(struct interpreter *const p, const struct crossing *const c) {
    for (int j = 0; j < p->uniform_count; j++) {
        if (p->uses[OPERAND_UNIFORM + j]) {
            add_total_at(p, c, OPERAND_UNIFORM + j, c->uniform + j * c->sums_row, 0);
        }
    }
}

/* The operand of an instruction that runs once for a row. */
static void bind_of_rows(struct interpreter *const p, const struct crossing *const c, const int operand) {
    if (operand >= OPERAND_UNIFORM) {
        real *const at = c->totals + c->uniform + (operand - OPERAND_UNIFORM) * c->sums_row;
        p->operands[operand] = (struct span_operand){at, VL};
    } else if (is_sum(p->program, operand)) {
        const struct fastrnn_read *const read = &p->program->reads[operand - OPERAND_READS];
        const ptrdiff_t offset = total_offset(c, read->index, read->kind == FASTRNN_READ_VARIANCE);
        p->operands[operand] = (struct span_operand){c->totals + offset, VL};
    }
}

/* For the rows of the step, after its sums. */
static void run_uniform(struct interpreter *const p, const struct crossing *const c, const int64_t rows) {
    for (int j = 0; j < p->uniform_count; j++) {
        const struct span_instruction *const i = &p->uniform[j];
        bind_of_rows(p, c, i->to);
        bind_of_rows(p, c, i->a);
        bind_of_rows(p, c, i->b);
        bind_of_rows(p, c, i->c);
    }
    if (p->uniform_count > 0) {
        run_span(p->uniform, p->uniform_count, p->operands, (int)layout_blocks(rows, VL));
    }
}

/* ---- a phase ---- */

/* Before the operands are listed. */
static void begin_interpreter(struct interpreter *const p, const struct fastrnn_code *const program, const int phase,
                              const struct blocks units, const int panels, const void *const job) {
    p->program = program;
    p->units = units;
    p->is_padded = blocks_are_padded(units, VL);
    p->panels = panels;
    p->product.exists = false;
    p->job = job;
    p->near_count = p->far_count = p->held_count = p->late_count = p->copy_count = p->total_count = 0;
    p->accumulator_count = p->instruction_count = 0;
    split_instructions(p, phase);
    memset(p->uses, 0, sizeof p->uses);
    int registers = 1; /* operands that an instruction does not have are register 0 */
    for (int j = 0; j < p->body_count; j++) {
        const struct span_instruction *const i = &p->body[j];
        registers = i->to < FASTRNN_REGISTERS_MAX && i->to >= registers ? i->to + 1 : registers;
        p->uses[i->to] = p->uses[i->a] = p->uses[i->b] = p->uses[i->c] = true;
    }
    p->lines = registers;
    for (int j = 0; j < registers; j++) {
        p->operands[j] = (struct span_operand){NULL, VL};
    }
    p->zero = vsplat(0);
    for (int j = 0; j < program->constant_count; j++) {
        add_constant(p, OPERAND_CONSTANTS + j, &p->constants[j], (real)program->constants[j]);
    }
}

static real *line_of(struct interpreter *const p, const int line) { return (real *)(p->memory + line * p->length); }

/* After the operands are listed. */
static void complete_interpreter(struct interpreter *const p) {
    const int registers = p->lines - p->far_count - p->held_count - p->total_count,
              fitting = FITTING_VECTORS / p->lines;
    p->length = fitting < SPAN_MIN ? (int)SPAN_MIN : fitting > SPAN_MAX ? (int)SPAN_MAX : fitting;
    for (int j = 0; j < registers; j++) {
        p->operands[j].at = line_of(p, j);
    }
    for (int j = 0; j < p->held_count; j++) {
        p->operands[p->held[j].operand] = (struct span_operand){line_of(p, p->held[j].line), VL};
    }
    memcpy(p->code + p->instruction_count, p->body, (size_t)p->body_count * sizeof *p->body);
    p->instruction_count += p->body_count;
}

#endif
