#include "program_code.h"

#include <stddef.h>

/* ---- lists ---- */

/* How many reads of a kind a direction has; those of gates are looked at one by one. */
static int reads_of_kind(const struct fastrnn_program *const p, const enum program_side side,
                         const enum fastrnn_read_kind kind) {
    const struct fastrnn_cell_table *const t = p->table;
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
    case FASTRNN_READ_KEPT:
        return FASTRNN_KEPT_MAX;
    case FASTRNN_READ_SUM:
    case FASTRNN_READ_VARIANCE:
        return FASTRNN_SUMS_MAX;
    case FASTRNN_READ_PRODUCT:
        return side == PROGRAM_FORWARD ? p->product_count : 0;
    case FASTRNN_READ_D_PRODUCT:
        return side == PROGRAM_BACKWARD ? p->product_count : 0;
    case FASTRNN_READ_KINDS:
        break;
    }
    return 0;
}

static bool is_read(const struct fastrnn_program *const p, const enum program_side side,
                    const struct fastrnn_read *const read) {
    const struct fastrnn_cell_table *const t = p->table;
    if (read->kind == FASTRNN_READ_GATE_STATE && (!program_multiplies_h(p) || program_has_product(p, read->index))) {
        return false;
    }
    if (!lies_in((int)read->kind, 0, FASTRNN_READ_KINDS) ||
        !lies_in(read->index, 0, reads_of_kind(p, side, read->kind))) {
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
    case FASTRNN_WRITE_KEPT:
        return FASTRNN_KEPT_MAX;
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
    return kind == FASTRNN_WRITE_D_INPUT || kind == FASTRNN_WRITE_KEPT ||
           (kind == FASTRNN_WRITE_D_BEFORE && index == 0);
}

const char *code_error_of_reads(const struct fastrnn_program *const p, const enum program_side side) {
    const struct fastrnn_code *const code = code_of(p, side);
    for (int j = 0; j < code->read_count; j++) {
        if (!is_read(p, side, &code->reads[j])) {
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
        !lies_in(code->write_count, 0, FASTRNN_WRITES_MAX + 1) || !lies_in(code->sum_count, 0, FASTRNN_SUMS_MAX + 1)) {
        return "code: expected at most 256 instructions, 64 reads, 64 constants, 64 writes and 16 sums";
    }
    if ((code->instruction_count && !code->instructions) || (code->read_count && !code->reads) ||
        (code->constant_count && !code->constants) || (code->write_count && !code->writes) ||
        (code->sum_count && !code->sums)) {
        return "code: a list is missing";
    }
    if (!lies_in(code->phase_count, 1, FASTRNN_PHASES_MAX + 1) || !code->phase_ends) {
        return "phases: expected 1 to 8";
    }
    for (int j = 0; j < code->phase_count; j++) {
        if (!lies_in(code->phase_ends[j], j ? code->phase_ends[j - 1] : 0, code->instruction_count + 1) ||
            (j == code->phase_count - 1 && code->phase_ends[j] != code->instruction_count)) {
            return "phases: expected their ends in order, up to the last instruction";
        }
    }
    for (int j = 0; j < code->constant_count; j++) {
        if (code->constants[j] != code->constants[j]) {
            return "constants: one is NaN";
        }
    }
    return NULL;
}

/* ---- everything ---- */

const char *code_error(const struct fastrnn_program *const program, const enum program_side side) {
    const char *error = code_error_of_reads(program, side);
    error = error ? error : error_of_writes(program, side);
    error = error ? error : code_error_of_sums(code_of(program, side));
    return error ? error : code_error_of_instructions(program, side);
}
