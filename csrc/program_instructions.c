/* The rules of instructions: every operand has its content when an instruction reads it. */
#include <stddef.h>
#include <string.h>

#include "program_code.h"

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

/* ---- phases ---- */

int code_phase_of_write(const struct fastrnn_code *const code, const enum fastrnn_write_kind kind, const int index) {
    int number = 0;
    while (number < code->write_count && (code->writes[number].kind != kind || code->writes[number].index != index)) {
        number++;
    }
    for (int j = 0, phase = 0; number < code->write_count && j < code->instruction_count; j++) {
        while (j >= code->phase_ends[phase]) {
            phase++;
        }
        if (code->instructions[j].to == FASTRNN_OPERAND_WRITE + number) {
            return phase;
        }
    }
    return -1;
}

const char *code_error_of_sums(const struct fastrnn_code *const code) {
    for (int j = 0; j < code->sum_count; j++) {
        const struct fastrnn_sum *const sum = &code->sums[j];
        if (!lies_in((int)sum->kind, 0, FASTRNN_SUM_KINDS) || !lies_in(sum->phase, 1, code->phase_count) ||
            !lies_in((int)sum->extent, 0, FASTRNN_EXTENTS) || !lies_in(sum->count, 1, FASTRNN_TERMS_MAX + 1)) {
            return "sums: expected a kind, an extent, a phase after the first, and 1 to 8 vectors";
        }
        for (int k = 0; k < sum->count; k++) {
            const int phase = code_phase_of_write(code, FASTRNN_WRITE_KEPT, sum->kept[k]);
            if (phase < 0 || phase >= sum->phase) {
                return "sums: a vector is not kept by an earlier phase";
            }
        }
    }
    return NULL;
}

/* Whether the instructions of a phase may use a read. */
static bool is_readable(const struct fastrnn_program *const p, const enum program_side side, const int phase,
                        const struct fastrnn_read *const read) {
    const struct fastrnn_code *const code = code_of(p, side);
    int written;
    switch (read->kind) {
    case FASTRNN_READ_GATE:
    case FASTRNN_READ_GATE_STATE:
    case FASTRNN_READ_D_AFTER:
        return phase == 0;
    case FASTRNN_READ_BEFORE:
        return side == PROGRAM_BACKWARD || read->index == 0 ||
               phase <= code_phase_of_write(code, FASTRNN_WRITE_AFTER, read->index);
    case FASTRNN_READ_KEPT:
        written = code_phase_of_write(code, FASTRNN_WRITE_KEPT, read->index);
        return written >= 0 && written < phase;
    case FASTRNN_READ_SUM:
    case FASTRNN_READ_VARIANCE:
        return read->index < code->sum_count && code->sums[read->index].phase <= phase &&
               (read->kind == FASTRNN_READ_SUM || code->sums[read->index].kind == FASTRNN_MOMENTS);
    case FASTRNN_READ_PRODUCT:
        return p->products[read->index].forward_phase == phase;
    case FASTRNN_READ_D_PRODUCT:
        return phase > 0 && p->products[read->index].backward_phase == phase;
    default:
        return true;
    }
}

/* ---- instructions ---- */

/* The contents of registers and writes. */
enum content { NOTHING, REALS, MASK };

struct contents {
    const struct fastrnn_program *program;
    const struct fastrnn_code *code;
    enum program_side side;
    int phase;
    enum content registers[FASTRNN_REGISTERS_MAX]; /* of this phase */
    enum content writes[FASTRNN_WRITES_MAX];
    bool is_of_phase[FASTRNN_WRITES_MAX];
};

static enum content content_of(const struct contents *const c, const int operand) {
    const int kind = operand & ~0xFF, index = operand & 0xFF;
    switch (kind) {
    case FASTRNN_OPERAND_REGISTER:
        return index < FASTRNN_REGISTERS_MAX ? c->registers[index] : NOTHING;
    case FASTRNN_OPERAND_READ:
        return index < c->code->read_count && is_readable(c->program, c->side, c->phase, &c->code->reads[index])
                   ? REALS
                   : NOTHING;
    case FASTRNN_OPERAND_CONSTANT:
        return index < c->code->constant_count ? REALS : NOTHING;
    case FASTRNN_OPERAND_WRITE:
        return index < c->code->write_count && c->is_of_phase[index] ? c->writes[index] : NOTHING;
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
            return "instructions: an operand does not exist, is read before it is written, or is of another phase";
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
    c->is_of_phase[index] = true;
    return NULL;
}

static void begin_phase(struct contents *const c) {
    c->phase++;
    memset(c->registers, 0, sizeof c->registers);
    memset(c->is_of_phase, 0, sizeof c->is_of_phase);
}

const char *code_error_of_instructions(const struct fastrnn_program *const program, const enum program_side side) {
    const struct fastrnn_code *const code = code_of(program, side);
    struct contents contents = {.program = program, .code = code, .side = side};
    for (int j = 0; j < code->instruction_count; j++) {
        while (j >= code->phase_ends[contents.phase]) {
            begin_phase(&contents);
        }
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
