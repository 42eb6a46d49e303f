/* The rules of programs. Each check returns the message of the first rule that is broken, or null. */
#include "program.h"

#include <stddef.h>

#include "program_code.h"

/* ---- the table ---- */

static const char *error_of_parameters(const struct fastrnn_cell_table *const t) {
    static const enum fastrnn_columns columns[CELL_VECTORS] = {
        [FASTRNN_W_IH] = FASTRNN_COLUMNS_OF_INPUT,
        [FASTRNN_W_HH] = FASTRNN_COLUMNS_OF_STATE,
        [FASTRNN_B_IH] = FASTRNN_ONE_COLUMN,
        [FASTRNN_B_HH] = FASTRNN_ONE_COLUMN,
    };
    if (!lies_in(t->parameter_count, CELL_VECTORS, FASTRNN_PARAMETERS_MAX + 1) || !t->parameters) {
        return "table: expected 4 to 20 parameters";
    }
    for (int j = 0; j < t->parameter_count; j++) {
        const struct fastrnn_parameter *const p = &t->parameters[j];
        const bool is_gate = j < CELL_VECTORS, is_required = j <= FASTRNN_W_HH || !is_gate;
        if (p->rows_per_unit != (is_gate ? t->gates : 1) || p->columns != (is_gate ? columns[j] : FASTRNN_ONE_COLUMN) ||
            !p->required == is_required) {
            return "table: expected the parameters w_ih, w_hh, b_ih, b_hh and then required vectors of H";
        }
    }
    return NULL;
}

static const char *error_of_states(const struct fastrnn_cell_table *const t) {
    if (!lies_in(t->state_count, 1, FASTRNN_STATES_MAX + 1) || !t->states || !lies_in(t->output, -1, t->state_count)) {
        return "table: expected 1 to 8 states, and an output that is a state or -1";
    }
    for (int j = 0; j < t->state_count; j++) {
        if (t->states[j].start != t->states[j].start) {
            return "table: the start value of a state is NaN";
        }
    }
    return NULL;
}

static const char *error_of_phases(const struct fastrnn_cell_table *const t) {
    if (t->phase_count != 1 || !t->phases) {
        return "table: expected one product";
    }
    const struct fastrnn_phase *const phase = t->phases;
    const bool is_dense =
        phase->parameter == FASTRNN_W_HH && phase->operand == 0 && phase->support == FASTRNN_ALL_UNITS;
    return is_dense ? NULL : "table: expected a product of w_hh and h";
}

static const char *error_of_table(const struct fastrnn_cell_table *const t) {
    if (!t) {
        return "table: it is missing";
    }
    if (!lies_in(t->gates, 1, FASTRNN_GATES_MAX + 1) || t->apart >> t->gates) {
        return "table: expected 1 to 8 gates, and only these in `apart`";
    }
    const bool has_lists = (t->saved || t->saved_count == 0) && (t->inputs || t->input_count == 0);
    if (!has_lists || t->saved_count < 0 || program_saved_vectors(t) > FASTRNN_SAVED_MAX ||
        !lies_in(t->input_count, 0, FASTRNN_INPUTS_MAX + 1) || !lies_in(t->option_count, 0, FASTRNN_OPTIONS_MAX + 1)) {
        return "table: expected at most 16 saved vectors, 4 inputs and 8 options";
    }
    for (int j = 0; j < t->input_count; j++) {
        const enum fastrnn_columns columns = t->inputs[j].columns;
        if (columns != FASTRNN_ONE_COLUMN && columns != FASTRNN_COLUMNS_OF_STATE) {
            return "table: expected inputs of H columns or of one";
        }
    }
    const char *error = error_of_parameters(t);
    error = error ? error : error_of_states(t);
    return error ? error : error_of_phases(t);
}

/* ---- slots and saved states ---- */

/* The first slot of a side; -1 unless the side has each gate once, in consecutive slots. h lacks the gates of second
 * products. */
static int side_of(const struct fastrnn_program *const p, const bool of_input) {
    unsigned gates = 0;
    int first = -1, count = 0;
    for (int j = 0; j < p->slot_count; j++) {
        const struct fastrnn_slot *const slot = &p->slots[j];
        if (of_input ? slot->to_input : slot->operand == FASTRNN_SLOT_OF_H) {
            first = first < 0 ? j : first;
            gates |= 1U << slot->gate;
            count++;
            if (j != first + count - 1) {
                return -1;
            }
        }
    }
    const unsigned all = (1U << p->table->gates) - 1, wanted = of_input ? all : all & ~program_product_gates(p);
    return gates == wanted && count == __builtin_popcount(wanted) ? first : -1;
}

static const char *error_of_slots(const struct fastrnn_program *const p) {
    if (!lies_in(p->slot_count, 1, FASTRNN_SLOTS_MAX + 1) || !p->slots) {
        return "slots: expected 1 to 16";
    }
    for (int j = 0; j < p->slot_count; j++) {
        const struct fastrnn_slot *const slot = &p->slots[j];
        const bool has_operand = slot->operand != FASTRNN_SLOT_WITHOUT_OPERAND;
        if (!lies_in(slot->gate, 0, p->table->gates) ||
            !lies_in(slot->operand, FASTRNN_SLOT_WITHOUT_OPERAND, FASTRNN_SLOT_OF_PRODUCT + p->product_count) ||
            (!has_operand && !slot->to_input)) {
            return "slots: expected a gate, and a product with w_ih, with an operand or with both";
        }
        const int product = slot->operand - FASTRNN_SLOT_OF_PRODUCT;
        if (product >= 0 && slot->gate != p->products[product].gate) {
            return "slots: a slot with a second product is not of the product's gate";
        }
    }
    const bool has_state_side =
        program_multiplies_h(p) ? side_of(p, false) >= 0 : p->table->apart == (1U << p->table->gates) - 1;
    const bool are_sides = side_of(p, true) >= 0 && has_state_side;
    return are_sides ? NULL
                     : "slots: expected each gate once on either side, in consecutive slots, or all gates apart and no "
                       "operand h";
}

/* Backward's reads have been checked. */
static const char *error_of_saved_states(const struct fastrnn_program *const p) {
    const int saved = program_saved_vectors(p->table);
    unsigned taken = 0;
    for (int j = 0; j < p->table->state_count; j++) {
        const int vector = p->saved_state[j];
        if (!lies_in(vector, -1, saved) || (vector >= 0 && taken >> vector & 1)) {
            return "saved_state: expected a saved vector of its own for each state, or -1";
        }
        taken |= vector >= 0 ? 1U << vector : 0;
        const bool is_operand = j == 0 && program_multiplies_h(p);
        const bool is_needed =
            j != p->table->output &&
            (is_operand || code_reads(&p->backward, FASTRNN_READ_BEFORE, j) || program_has_factor_before(p, j));
        if (is_needed && vector < 0) {
            return "saved_state: backward needs a state that is neither the output nor saved";
        }
    }
    return NULL;
}

/* ---- the whole program ---- */

const char *fastrnn_program_error(const struct fastrnn_program *const program) {
    if (!program || program->struct_size != sizeof *program) {
        return "program: expected struct_size to be sizeof(struct fastrnn_program)";
    }
    const char *error = error_of_table(program->table);
    error = error ? error : program_error_of_products(program);
    error = error ? error : error_of_slots(program);
    error = error ? error : code_error_of_lists(&program->forward);
    error = error ? error : code_error_of_lists(&program->backward);
    error = error ? error : program_error_of_product_phases(program);
    error = error ? error : code_error_of_reads(program, PROGRAM_BACKWARD);
    error = error ? error : error_of_saved_states(program);
    error = error ? error : code_error(program, PROGRAM_FORWARD);
    return error ? error : code_error(program, PROGRAM_BACKWARD);
}

static struct cell_phases phases_of(const struct fastrnn_code *const code) {
    struct cell_phases phases = {.count = code->phase_count, .sums = code->sum_count};
    for (int j = 0; j < code->write_count; j++) {
        const struct fastrnn_write *const write = &code->writes[j];
        if (write->kind == FASTRNN_WRITE_KEPT && write->index >= phases.kept) {
            phases.kept = write->index + 1;
        }
    }
    for (int j = 0; j < code->sum_count; j++) {
        phases.terms += code->sums[j].count;
        phases.head_sums += code->sums[j].extent == FASTRNN_SUM_OF_HEAD;
    }
    return phases;
}

struct cell_shape program_shape(const struct fastrnn_program *const p) {
    struct cell_shape shape = {
        .gates = p->table->gates,
        .states = p->table->state_count,
        .output = p->table->output,
        .apart = p->table->apart,
        .slots = p->slot_count,
        .input_slot = side_of(p, true),
        .multiplies_h = program_multiplies_h(p),
        .hidden_slot = program_multiplies_h(p) ? side_of(p, false) : 0,
        .hidden_gates = program_multiplies_h(p) ? p->table->gates - p->product_count : 0,
        .products = p->product_count,
        .vectors = p->table->parameter_count - CELL_VECTORS,
        .carries_dh = code_writes(&p->backward, FASTRNN_WRITE_D_BEFORE, 0) > 0,
        .forward = phases_of(&p->forward),
        .backward = phases_of(&p->backward),
    };
    for (int j = 0; j < p->table->state_count; j++) {
        shape.saved_state[j] = p->saved_state[j];
    }
    for (int j = 0; j < p->slot_count; j++) {
        shape.slot_gate[j] = p->slots[j].gate;
    }
    for (int j = 0; j < p->product_count; j++) {
        const struct fastrnn_product *const product = &p->products[j];
        shape.product[j] = (struct cell_product){
            .gate = (int8_t)product->gate,
            .slot = (int8_t)program_slot_of_product(p, j),
            .forward_phase = (int8_t)product->forward_phase,
            .backward_phase = (int8_t)product->backward_phase,
            .kept = (int8_t)product->kept,
        };
    }
    return shape;
}
