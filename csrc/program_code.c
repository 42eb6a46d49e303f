#include "program_code.h"

#include <stddef.h>

/* ---- operations ---- */

struct operation {
    const char *name;
    int arguments;
    unsigned masks;
    bool makes_mask;
};

static const struct operation operations[] = {
#define FASTRNN_OPERATION(number, name, arguments, masks, makes_mask) \
    [FASTRNN_OPERATION_##name] = {#name, arguments, masks, makes_mask},
#include "operations.def"
};

static const struct operation *operation_of(const int number) {
    return number >= 0 && number < FASTRNN_OPERATION_COUNT ? &operations[number] : NULL;
}

const char *fastrnn_operation_name(const int operation) {
    const struct operation *const found = operation_of(operation);
    return found ? found->name : NULL;
}

int fastrnn_operation_arguments(const int operation) {
    const struct operation *const found = operation_of(operation);
    return found ? found->arguments : 0;
}

/* ---- lists ---- */

/* How many reads of a kind a direction has; those of gates are looked at one by one. */
static int reads_of_kind(const struct fastrnn_cell_table *const t, const enum program_side side,
                         const enum fastrnn_read_kind kind) {
    switch (kind) {
    case FASTRNN_READ_GATE:
    case FASTRNN_READ_GATE_INPUT:
    case FASTRNN_READ_GATE_STATE:
        return side == PROGRAM_FORWARD ? t->gates : 0;
    case FASTRNN_READ_BEFORE:
        return t->state_count;
    case FASTRNN_READ_VECTOR:
        return t->parameter_count - CELL_VECTORS;
    case FASTRNN_READ_INPUT:
        return t->input_count;
    case FASTRNN_READ_OPTION:
        return t->option_count;
    case FASTRNN_READ_Y:
        return side == PROGRAM_BACKWARD;
    case FASTRNN_READ_DY:
        return side == PROGRAM_BACKWARD && t->output < 0;
    case FASTRNN_READ_D_AFTER:
        return side == PROGRAM_BACKWARD ? t->state_count : 0;
    case FASTRNN_READ_SAVED:
        return side == PROGRAM_BACKWARD ? program_saved_vectors(t) : 0;
    case FASTRNN_READ_KINDS:
        break;
    }
    return 0;
}

static bool is_read(const struct fastrnn_cell_table *const t, const enum program_side side,
                    const struct fastrnn_read *const read) {
    if (!lies_in((int)read->kind, 0, FASTRNN_READ_KINDS) ||
        !lies_in(read->index, 0, reads_of_kind(t, side, read->kind))) {
        return false;
    }
    const bool is_half = read->kind == FASTRNN_READ_GATE_INPUT || read->kind == FASTRNN_READ_GATE_STATE;
    return (read->kind != FASTRNN_READ_GATE && !is_half) || (t->apart >> read->index & 1) == is_half;
}

/* How many writes of a kind a direction has. */
static int writes_of_kind(const struct fastrnn_program *const p, const enum program_side side,
                          const enum fastrnn_write_kind kind) {
    const struct fastrnn_cell_table *const t = p->table;
    switch (kind) {
    case FASTRNN_WRITE_Y:
        return side == PROGRAM_FORWARD && t->output < 0;
    case FASTRNN_WRITE_AFTER:
        return side == PROGRAM_FORWARD ? t->state_count : 0;
    case FASTRNN_WRITE_SAVED:
        return side == PROGRAM_FORWARD ? program_saved_vectors(t) : 0;
    case FASTRNN_WRITE_SLOT:
        return side == PROGRAM_BACKWARD ? p->slot_count : 0;
    case FASTRNN_WRITE_D_BEFORE:
        return side == PROGRAM_BACKWARD ? t->state_count : 0;
    case FASTRNN_WRITE_D_VECTOR:
        return side == PROGRAM_BACKWARD ? t->parameter_count - CELL_VECTORS : 0;
    case FASTRNN_WRITE_D_INPUT:
        return side == PROGRAM_BACKWARD ? t->input_count : 0;
    case FASTRNN_WRITE_KINDS:
        break;
    }
    return 0;
}

static bool is_saved_state(const struct fastrnn_program *const p, const int vector) {
    for (int j = 0; j < p->table->state_count; j++) {
        if (p->saved_state[j] == vector) {
            return true;
        }
    }
    return false;
}

/* The library writes the saved vectors of states. */
static bool may_be_written(const struct fastrnn_program *const p, const enum fastrnn_write_kind kind, const int index) {
    return kind != FASTRNN_WRITE_SAVED || !is_saved_state(p, index);
}

static bool is_optional(const enum fastrnn_write_kind kind, const int index) {
    return kind == FASTRNN_WRITE_D_INPUT || (kind == FASTRNN_WRITE_D_BEFORE && index == 0);
}

static const struct fastrnn_code *code_of(const struct fastrnn_program *const p, const enum program_side side) {
    return side == PROGRAM_FORWARD ? &p->forward : &p->backward;
}

const char *code_error_of_reads(const struct fastrnn_program *const p, const enum program_side side) {
    const struct fastrnn_code *const code = code_of(p, side);
    for (int j = 0; j < code->read_count; j++) {
        if (!is_read(p->table, side, &code->reads[j])) {
            return "reads: the direction has no such vector";
        }
        if (code_reads(code, code->reads[j].kind, code->reads[j].index) > 1) {
            return "reads: a vector is listed twice";
        }
    }
    return NULL;
}

static const char *error_of_writes(const struct fastrnn_program *const p, const enum program_side side) {
    const struct fastrnn_code *const code = code_of(p, side);
    int listed = 0;
    for (int kind = 0; kind < FASTRNN_WRITE_KINDS; kind++) {
        const int count = writes_of_kind(p, side, (enum fastrnn_write_kind)kind);
        for (int index = 0; index < count; index++) {
            const int times = code_writes(code, (enum fastrnn_write_kind)kind, index);
            const bool may_be = may_be_written(p, (enum fastrnn_write_kind)kind, index);
            const bool must_be = may_be && !is_optional((enum fastrnn_write_kind)kind, index);
            if (times > may_be || times < must_be) {
                return times > may_be ? "writes: a vector is listed twice or the library writes it"
                                      : "writes: an output is missing";
            }
            listed += times;
        }
    }
    return listed == code->write_count ? NULL : "writes: the direction has no such vector";
}

const char *code_error_of_lists(const struct fastrnn_code *const code) {
    if (!lies_in(code->instruction_count, 0, FASTRNN_INSTRUCTIONS_MAX + 1) ||
        !lies_in(code->read_count, 0, FASTRNN_READS_MAX + 1) ||
        !lies_in(code->constant_count, 0, FASTRNN_CONSTANTS_MAX + 1) ||
        !lies_in(code->write_count, 0, FASTRNN_WRITES_MAX + 1)) {
        return "code: expected at most 256 instructions, 64 reads, 64 constants and 64 writes";
    }
    if ((code->instruction_count && !code->instructions) || (code->read_count && !code->reads) ||
        (code->constant_count && !code->constants) || (code->write_count && !code->writes)) {
        return "code: a list is missing";
    }
    if (code->phase_count != 1 || !code->phase_ends || code->phase_ends[0] != code->instruction_count) {
        return "code: expected one phase, which has all instructions";
    }
    for (int j = 0; j < code->constant_count; j++) {
        if (code->constants[j] != code->constants[j]) {
            return "constants: one is NaN";
        }
    }
    return NULL;
}

/* ---- instructions ---- */

/* The contents of registers and writes. */
enum content { NOTHING, REALS, MASK };

struct contents {
    const struct fastrnn_code *code;
    enum content registers[FASTRNN_REGISTERS_MAX], writes[FASTRNN_WRITES_MAX];
};

static enum content content_of(const struct contents *const c, const int operand) {
    const int kind = operand & ~0xFF, index = operand & 0xFF;
    switch (kind) {
    case FASTRNN_OPERAND_REGISTER:
        return index < FASTRNN_REGISTERS_MAX ? c->registers[index] : NOTHING;
    case FASTRNN_OPERAND_READ:
        return index < c->code->read_count ? REALS : NOTHING;
    case FASTRNN_OPERAND_CONSTANT:
        return index < c->code->constant_count ? REALS : NOTHING;
    case FASTRNN_OPERAND_WRITE:
        return index < c->code->write_count ? c->writes[index] : NOTHING;
    default:
        return NOTHING;
    }
}

static const char *error_of_operands(const struct contents *const c, const struct fastrnn_instruction *const i,
                                     const struct operation *const operation) {
    const int operands[] = {i->a, i->b, i->c};
    for (int j = 0; j < 3; j++) {
        if (j >= operation->arguments) {
            if (operands[j] != 0) {
                return "instructions: an operand that the operation does not have is not 0";
            }
            continue;
        }
        const enum content found = content_of(c, operands[j]);
        if (found == NOTHING) {
            return "instructions: an operand does not exist or is read before it is written";
        }
        if ((found == MASK) != (operation->masks >> j & 1)) {
            return "instructions: an operand is a mask in place of numbers, or numbers in place of a mask";
        }
    }
    return NULL;
}

static const char *write_result(struct contents *const c, const int to, const enum content content) {
    const int kind = to & ~0xFF, index = to & 0xFF;
    if (kind == FASTRNN_OPERAND_REGISTER && index < FASTRNN_REGISTERS_MAX) {
        c->registers[index] = content;
        return NULL;
    }
    if (kind != FASTRNN_OPERAND_WRITE || index >= c->code->write_count) {
        return "instructions: a result is neither a register nor a write";
    }
    if (content == MASK || c->writes[index] != NOTHING) {
        return content == MASK ? "instructions: an output is a mask" : "instructions: an output is written twice";
    }
    c->writes[index] = content;
    return NULL;
}

static const char *error_of_instructions(const struct fastrnn_code *const code) {
    struct contents contents = {.code = code};
    for (int j = 0; j < code->instruction_count; j++) {
        const struct fastrnn_instruction *const instruction = &code->instructions[j];
        const struct operation *const operation = operation_of(instruction->operation);
        if (!operation) {
            return "instructions: there is no such operation";
        }
        const char *error = error_of_operands(&contents, instruction, operation);
        error = error ? error : write_result(&contents, instruction->to, operation->makes_mask ? MASK : REALS);
        if (error) {
            return error;
        }
    }
    for (int j = 0; j < code->write_count; j++) {
        if (contents.writes[j] == NOTHING) {
            return "instructions: an output is not written";
        }
    }
    return NULL;
}

/* ---- everything ---- */

const char *code_error(const struct fastrnn_program *const program, const enum program_side side) {
    const char *error = code_error_of_lists(code_of(program, side));
    error = error ? error : code_error_of_reads(program, side);
    error = error ? error : error_of_writes(program, side);
    return error ? error : error_of_instructions(code_of(program, side));
}
