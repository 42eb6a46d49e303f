/* The rules of the code of a direction. The table of the program has been checked. */
#ifndef FASTRNN_PROGRAM_CODE_H
#define FASTRNN_PROGRAM_CODE_H

#include "program.h"

enum program_side { PROGRAM_FORWARD, PROGRAM_BACKWARD };

static inline bool lies_in(const int number, const int begin, const int end) { return number >= begin && number < end; }

static inline const struct fastrnn_code *code_of(const struct fastrnn_program *const p, const enum program_side side) {
    return side == PROGRAM_FORWARD ? &p->forward : &p->backward;
}

/* The saved vectors of the table; more than the limit for a malformed table. */
static inline int program_saved_vectors(const struct fastrnn_cell_table *const t) {
    int vectors = 0;
    for (int j = 0; j < t->saved_count && vectors <= FASTRNN_SAVED_MAX; j++) {
        const int more = t->saved[j].per_unit;
        vectors += lies_in(more, 1, FASTRNN_SAVED_MAX + 1) ? more : FASTRNN_SAVED_MAX + 1;
    }
    return vectors;
}

/* Whether the step has a product of w_hh and h. The slots' number has been checked. */
static inline bool program_multiplies_h(const struct fastrnn_program *const p) {
    for (int j = 0; j < p->slot_count; j++) {
        if (p->slots[j].operand == FASTRNN_SLOT_OF_H) {
            return true;
        }
    }
    return false;
}

/* Whether a gate has a second product. The list of products has been checked. */
static inline bool program_has_product(const struct fastrnn_program *const p, const int gate) {
    for (int j = 0; j < p->product_count; j++) {
        if (p->products[j].gate == gate) {
            return true;
        }
    }
    return false;
}

/* How often the code lists a vector. */
static inline int code_reads(const struct fastrnn_code *const code, const enum fastrnn_read_kind kind,
                             const int index) {
    int times = 0;
    for (int j = 0; j < code->read_count; j++) {
        times += code->reads[j].kind == kind && code->reads[j].index == index;
    }
    return times;
}

static inline int code_writes(const struct fastrnn_code *const code, const enum fastrnn_write_kind kind,
                              const int index) {
    int times = 0;
    for (int j = 0; j < code->write_count; j++) {
        times += code->writes[j].kind == kind && code->writes[j].index == index;
    }
    return times;
}

/* Second products. Bit g: gate g has one; the slot with one, -1 unless there is exactly one; whether a factor is this
 * state before the step. */
unsigned program_product_gates(const struct fastrnn_program *program);
int program_slot_of_product(const struct fastrnn_program *program, int product);
bool program_has_factor_before(const struct fastrnn_program *program, int state);

/* A message about the first rule of second products that is broken, or null: after the table; and of their phases,
 * after the slots and the lists of both directions. */
const char *program_error_of_products(const struct fastrnn_program *program);
const char *program_error_of_product_phases(const struct fastrnn_program *program);

/* The phase that writes a vector: as the instructions say, before they are checked; -1: none. */
int code_phase_of_write(const struct fastrnn_code *code, enum fastrnn_write_kind kind, int index);

/* A message about the first rule that is broken, or null: of the lists and their lengths; of the reads, after the
 * lists; of sums and of instructions, after the reads and writes; and of everything after the lists. */
const char *code_error_of_lists(const struct fastrnn_code *code);
const char *code_error_of_reads(const struct fastrnn_program *program, enum program_side side);
const char *code_error_of_sums(const struct fastrnn_code *code);
const char *code_error_of_instructions(const struct fastrnn_program *program, enum program_side side);
const char *code_error(const struct fastrnn_program *program, enum program_side side);

#endif
