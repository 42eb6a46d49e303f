/* Programs from the bytes of a fuzzer's input: sound by construction, and then perhaps with a wrong number. Every list
 * has a buffer of exactly its size. */
#ifndef FASTRNN_TESTS_DRAWN_PROGRAM_H
#define FASTRNN_TESTS_DRAWN_PROGRAM_H

#include "drawn.h"

struct drawn_program {
    struct fastrnn_program c;
    bool is_sound; /* false: unknown */
};

/* A code that grows; the lists are moved to their buffers at the end. */
struct growing_code {
    struct fastrnn_instruction instructions[FASTRNN_INSTRUCTIONS_MAX];
    struct fastrnn_read reads[FASTRNN_READS_MAX];
    struct fastrnn_write writes[FASTRNN_WRITES_MAX];
    double constants[FASTRNN_CONSTANTS_MAX];
    struct fastrnn_sum sums[FASTRNN_SUMS_MAX];
    int phase_ends[FASTRNN_PHASES_MAX];
    int instruction_count, read_count, write_count, constant_count, sum_count, phase_count, kept_count;
    uint16_t known[FASTRNN_INSTRUCTIONS_MAX + FASTRNN_READS_MAX + FASTRNN_CONSTANTS_MAX]; /* operands with numbers */
    int known_count;
    struct fastrnn_product *products; /* those from `multiplied` on have no phase yet */
    int product_count, multiplied;
    const int *product_slots; /* backward: the writes of their slots; else null */
    bool is_written[FASTRNN_WRITES_MAX];
};

/* ---- code ---- */

static void add_read(struct growing_code *const code, const enum fastrnn_read_kind kind, const int index) {
    code->known[code->known_count++] = (uint16_t)(FASTRNN_OPERAND_READ + code->read_count);
    code->reads[code->read_count++] = (struct fastrnn_read){kind, index};
}

static void add_reads(struct growing_code *const code, const enum fastrnn_read_kind kind, const int count) {
    for (int j = 0; j < count; j++) {
        add_read(code, kind, j);
    }
}

static void add_writes(struct growing_code *const code, const enum fastrnn_write_kind kind, const int first,
                       const int count) {
    for (int j = first; j < count; j++) {
        code->writes[code->write_count++] = (struct fastrnn_write){kind, j};
    }
}

static void add_constants(struct bytes *const from, struct growing_code *const code) {
    static const double values[] = {0, 1, -1, 0.5, 1 / 0.0, -1 / 0.0, -0.0};
    for (int64_t n = draw_below(from, 4); n > 0; n--) {
        code->known[code->known_count++] = (uint16_t)(FASTRNN_OPERAND_CONSTANT + code->constant_count);
        code->constants[code->constant_count++] = values[draw_below(from, 7)];
    }
}

static uint16_t draw_known(struct bytes *const from, const struct growing_code *const code) {
    return code->known[draw_below(from, code->known_count)];
}

/* An instruction that gives numbers. A selection has its comparison before it. */
static void add_instruction(struct bytes *const from, struct growing_code *const code, const uint16_t to) {
    int64_t operation = draw_below(from, FASTRNN_OPERATION_COUNT);
    struct fastrnn_instruction made = {.to = to};
    const bool makes_mask = operation >= FASTRNN_OPERATION_lt && operation <= FASTRNN_OPERATION_not;
    if (makes_mask || operation == FASTRNN_OPERATION_select) {
        const uint16_t mask = FASTRNN_REGISTERS_MAX - 1;
        const int64_t comparison = makes_mask ? operation % 4 : 0;
        code->instructions[code->instruction_count++] = (struct fastrnn_instruction){
            (uint16_t)(FASTRNN_OPERATION_lt + comparison), mask, draw_known(from, code), draw_known(from, code), 0};
        operation = FASTRNN_OPERATION_select;
        made.a = mask;
    }
    const int arguments = fastrnn_operation_arguments((int)operation);
    made.operation = (uint16_t)operation;
    made.a = operation == FASTRNN_OPERATION_select ? made.a : draw_known(from, code);
    made.b = arguments > 1 ? draw_known(from, code) : 0;
    made.c = arguments > 2 ? draw_known(from, code) : 0;
    code->instructions[code->instruction_count++] = made;
    code->known[code->known_count++] = to;
}

static void add_instructions(struct bytes *const from, struct growing_code *const code) {
    for (int64_t n = code->known_count > 0 ? draw_below(from, 16) : 0; n > 0; n--) {
        add_instruction(from, code, (uint16_t)draw_below(from, FASTRNN_REGISTERS_MAX - 1));
    }
}

/* Whether later phases have the operand. */
static bool lasts(const struct growing_code *const code, const int operand) {
    const enum fastrnn_read_kind kind = code->reads[operand & 0xFF].kind;
    return (operand & ~0xFF) == FASTRNN_OPERAND_CONSTANT ||
           ((operand & ~0xFF) == FASTRNN_OPERAND_READ && kind != FASTRNN_READ_GATE && kind != FASTRNN_READ_GATE_STATE &&
            kind != FASTRNN_READ_D_AFTER && kind != FASTRNN_READ_PRODUCT && kind != FASTRNN_READ_D_PRODUCT);
}

/* Up to two sums of the vectors that are kept. */
static void add_sums(struct bytes *const from, struct growing_code *const code) {
    for (int64_t n = draw_below(from, 3); n > 0; n--) {
        struct fastrnn_sum *const sum = &code->sums[code->sum_count];
        *sum = (struct fastrnn_sum){(enum fastrnn_sum_kind)draw_below(from, FASTRNN_SUM_KINDS),
                                    code->phase_count,
                                    1 + (int)draw_below(from, FASTRNN_TERMS_MAX),
                                    {0},
                                    (enum fastrnn_extent)draw_below(from, FASTRNN_EXTENTS)};
        for (int j = 0; j < sum->count; j++) {
            sum->kept[j] = (int)draw_below(from, code->kept_count);
        }
        add_read(code, FASTRNN_READ_SUM, code->sum_count);
        if (sum->kind == FASTRNN_MOMENTS) {
            add_read(code, FASTRNN_READ_VARIANCE, code->sum_count);
        }
        code->sum_count++;
    }
}

/* Before a phase: the vector or the slot that the next second product multiplies. After it: the product. */
static void prepare_product(struct bytes *const from, struct growing_code *const code) {
    if (code->product_slots) {
        const int write = code->product_slots[code->multiplied];
        add_instruction(from, code, (uint16_t)(FASTRNN_OPERAND_WRITE + write));
        code->is_written[write] = true;
    }
}

static void add_product(struct bytes *const from, struct growing_code *const code) {
    struct fastrnn_product *const product = &code->products[code->multiplied];
    if (code->product_slots) {
        product->backward_phase = code->phase_count;
        add_read(code, FASTRNN_READ_D_PRODUCT, code->multiplied++);
    } else {
        product->forward_phase = code->phase_count;
        product->kept = (int)draw_below(from, code->kept_count);
        add_read(code, FASTRNN_READ_PRODUCT, code->multiplied++);
    }
}

/* Keeps some vectors, and begins another phase. */
static void add_phase(struct bytes *const from, struct growing_code *const code) {
    const int first = code->kept_count;
    const bool multiplies = code->multiplied < code->product_count;
    if (multiplies) {
        prepare_product(from, code);
    }
    code->kept_count += 1 + (int)draw_below(from, 3);
    for (int j = first; j < code->kept_count; j++) {
        add_instruction(from, code, (uint16_t)(FASTRNN_OPERAND_WRITE + code->write_count));
        add_writes(code, FASTRNN_WRITE_KEPT, j, j + 1);
    }
    code->phase_ends[code->phase_count++] = code->instruction_count;
    int known = 0;
    for (int j = 0; j < code->known_count; j++) {
        if (lasts(code, code->known[j])) {
            code->known[known++] = code->known[j];
        }
    }
    code->known_count = known;
    for (int j = first; j < code->kept_count; j++) {
        add_read(code, FASTRNN_READ_KEPT, j);
    }
    add_sums(from, code);
    if (multiplies) {
        add_product(from, code);
    }
}

static struct fastrnn_code end_code(struct bytes *const from, struct growing_code *const code) {
    add_constants(from, code);
    add_instructions(from, code);
    for (int64_t n = draw_below(from, 4); n > 0 || code->multiplied < code->product_count; n--) {
        add_phase(from, code);
        add_instructions(from, code);
    }
    for (int j = 0; j < code->write_count; j++) {
        if (code->writes[j].kind != FASTRNN_WRITE_KEPT && !code->is_written[j]) {
            add_instruction(from, code, (uint16_t)(FASTRNN_OPERAND_WRITE + j));
        }
    }
    code->phase_ends[code->phase_count++] = code->instruction_count;
    const struct fastrnn_code made = {
        .instruction_count = code->instruction_count,
        .read_count = code->read_count,
        .constant_count = code->constant_count,
        .write_count = code->write_count,
        .phase_count = code->phase_count,
        .sum_count = code->sum_count,
        .instructions = take_copy(code->instructions, (size_t)code->instruction_count * sizeof *code->instructions),
        .reads = take_copy(code->reads, (size_t)code->read_count * sizeof *code->reads),
        .constants = take_copy(code->constants, (size_t)code->constant_count * sizeof *code->constants),
        .writes = take_copy(code->writes, (size_t)code->write_count * sizeof *code->writes),
        .phase_ends = take_copy(code->phase_ends, sizeof code->phase_ends),
        .sums = take_copy(code->sums, (size_t)code->sum_count * sizeof *code->sums),
    };
    return made;
}

struct drawn_products {
    struct fastrnn_product *products;
    int count, slots[FASTRNN_GATES_MAX];
    unsigned gates;
};

/* Reads of both directions. */
static void add_given(struct growing_code *const code, const struct fastrnn_cell_table *const t) {
    add_reads(code, FASTRNN_READ_BEFORE, t->state_count);
    add_reads(code, FASTRNN_READ_VECTOR, t->parameter_count - 4);
    add_reads(code, FASTRNN_READ_INPUT, t->input_count);
    add_reads(code, FASTRNN_READ_OPTION, t->option_count);
}

static struct fastrnn_code draw_forward(struct bytes *const from, const struct fastrnn_cell_table *const t,
                                        const bool multiplies_h, const struct drawn_products *const products) {
    struct growing_code code = {.products = products->products, .product_count = products->count};
    for (int g = 0; g < t->gates; g++) {
        const bool is_apart = t->apart >> g & 1;
        add_reads(&code, is_apart ? FASTRNN_READ_GATE_INPUT : FASTRNN_READ_GATE, 1);
        code.reads[code.read_count - 1].index = g;
        if (is_apart && multiplies_h && !(products->gates >> g & 1)) {
            add_reads(&code, FASTRNN_READ_GATE_STATE, 1);
            code.reads[code.read_count - 1].index = g;
        }
    }
    add_given(&code, t);
    add_writes(&code, FASTRNN_WRITE_Y, 0, t->output < 0);
    add_writes(&code, FASTRNN_WRITE_SAVED, t->state_count, t->saved_count);
    add_writes(&code, FASTRNN_WRITE_AFTER, 0, t->state_count);
    return end_code(from, &code);
}

static struct fastrnn_code draw_backward(struct bytes *const from, const struct fastrnn_cell_table *const t,
                                         const int slots, const struct drawn_products *const products) {
    struct growing_code code = {
        .products = products->products,
        .product_count = products->count,
        .product_slots = products->slots,
    };
    add_given(&code, t);
    add_reads(&code, FASTRNN_READ_Y, 1);
    add_reads(&code, FASTRNN_READ_DY, t->output < 0);
    add_reads(&code, FASTRNN_READ_D_AFTER, t->state_count);
    add_reads(&code, FASTRNN_READ_SAVED, t->saved_count);
    add_writes(&code, FASTRNN_WRITE_SLOT, 0, slots);
    add_writes(&code, FASTRNN_WRITE_D_BEFORE, draw_bit(from), t->state_count);
    add_writes(&code, FASTRNN_WRITE_D_VECTOR, 0, t->parameter_count - 4);
    add_writes(&code, FASTRNN_WRITE_D_INPUT, draw_bit(from), t->input_count);
    return end_code(from, &code);
}

/* ---- tables ---- */

static const struct fastrnn_parameter *take_parameters(const int gates, const int vectors) {
    struct fastrnn_parameter *const p = take((size_t)(4 + vectors) * sizeof *p);
    const enum fastrnn_columns columns[] = {FASTRNN_COLUMNS_OF_INPUT, FASTRNN_COLUMNS_OF_STATE, FASTRNN_ONE_COLUMN,
                                            FASTRNN_ONE_COLUMN};
    for (int j = 0; j < 4 + vectors; j++) {
        const bool is_gate = j < 4;
        p[j] = (struct fastrnn_parameter){"parameter", is_gate ? gates : 1, is_gate ? columns[j] : FASTRNN_ONE_COLUMN,
                                          j < 2 || !is_gate};
    }
    return p;
}

/* Every state is saved, in the first saved vectors. */
static struct fastrnn_cell_table *draw_table(struct bytes *const from) {
    static const struct fastrnn_phase dense = {FASTRNN_W_HH, 0, FASTRNN_ALL_UNITS};
    struct fastrnn_cell_table *const t = take(sizeof *t);
    const int gates = 1 + (int)draw_below(from, 5), states = 1 + (int)draw_below(from, 3);
    const int vectors = (int)draw_below(from, 3), saved = states + (int)draw_below(from, 3);
    const int inputs = (int)draw_below(from, 3);
    struct fastrnn_state *const of_states = take((size_t)states * sizeof *of_states);
    struct fastrnn_saved *const of_saved = take((size_t)saved * sizeof *of_saved);
    struct fastrnn_input *const of_inputs = take((size_t)inputs * sizeof *of_inputs);
    for (int j = 0; j < states; j++) {
        of_states[j] = (struct fastrnn_state){"state", draw_bit(from) ? -1 / 0.0 : 0.5};
    }
    for (int j = 0; j < saved; j++) {
        of_saved[j] = (struct fastrnn_saved){"saved", 1};
    }
    for (int j = 0; j < inputs; j++) {
        of_inputs[j] = (struct fastrnn_input){"input", draw_bit(from) ? FASTRNN_ONE_COLUMN : FASTRNN_COLUMNS_OF_STATE};
    }
    *t = (struct fastrnn_cell_table){
        .name = "drawn",
        .gates = gates,
        .output = (int)draw_below(from, states + 1) - 1,
        .apart = (unsigned)draw_below(from, 1 << gates),
        .parameter_count = 4 + vectors,
        .state_count = states,
        .saved_count = saved,
        .input_count = inputs,
        .option_count = (int)draw_below(from, 2),
        .parameters = take_parameters(gates, vectors),
        .states = of_states,
        .saved = of_saved,
        .inputs = of_inputs,
        .phase_count = 1,
        .phases = &dense,
    };
    return t;
}

/* Second products of up to two of the gates that stay apart. */
static struct drawn_products draw_products(struct bytes *const from, const struct fastrnn_cell_table *const t) {
    static const enum fastrnn_read_kind kinds[] = {FASTRNN_READ_Y, FASTRNN_READ_SAVED, FASTRNN_READ_BEFORE};
    struct drawn_products drawn = {.products = take(2 * sizeof *drawn.products)};
    for (int g = 0; g < t->gates && drawn.count < 2; g++) {
        if (!(t->apart >> g & 1) || !draw_bit(from)) {
            continue;
        }
        struct fastrnn_product *const product = &drawn.products[drawn.count++];
        *product = (struct fastrnn_product){.gate = g, .factor_count = 1 + draw_bit(from)};
        for (int j = 0; j < product->factor_count; j++) {
            const enum fastrnn_read_kind kind = kinds[draw_below(from, 3)];
            const int most = kind == FASTRNN_READ_Y ? 1 : kind == FASTRNN_READ_SAVED ? t->saved_count : t->state_count;
            product->factors[j] = (struct fastrnn_read){kind, (int)draw_below(from, most)};
        }
        drawn.gates |= 1U << g;
    }
    return drawn;
}

/* Input slots of gates that stay apart, then slots of both sides, then the other slots of gates that stay apart, and
 * last the slots of second products. */
static int set_slots(const struct fastrnn_cell_table *const t, const bool multiplies_h,
                     struct drawn_products *const products, struct fastrnn_slot *const slots) {
    int count = 0;
    for (int part = 0; part < (multiplies_h ? 3 : 2); part++) {
        for (int g = 0; g < t->gates; g++) {
            if ((t->apart >> g & 1) == (part != 1) && !(part == 2 && products->gates >> g & 1)) {
                slots[count++] =
                    (struct fastrnn_slot){g, part<2, part> 0 ? FASTRNN_SLOT_OF_H : FASTRNN_SLOT_WITHOUT_OPERAND};
            }
        }
    }
    for (int j = 0; j < products->count; j++) {
        products->slots[j] = count;
        slots[count++] = (struct fastrnn_slot){products->products[j].gate, 0, FASTRNN_SLOT_OF_PRODUCT + j};
    }
    return count;
}

/* ---- wrong numbers ---- */

static int draw_odd(struct bytes *const from) {
    static const int odd[] = {-1,  0,   1,   2,   7,   8,    16,    31,        32,       64,
                              255, 256, 257, 512, 768, 1024, 65535, INT32_MAX, INT32_MIN};
    return odd[draw_below(from, sizeof odd / sizeof *odd)];
}

static void spoil_code(struct bytes *const from, struct fastrnn_code *const code) {
    /* The buffers belong to this input. */
    struct fastrnn_instruction *const instruction =
        (struct fastrnn_instruction *)code->instructions + draw_below(from, code->instruction_count);
    uint16_t *const fields[] = {&instruction->operation, &instruction->to, &instruction->a, &instruction->b,
                                &instruction->c};
    switch (draw_below(from, 7)) {
    case 0:
        ((struct fastrnn_write *)code->writes)[draw_below(from, code->write_count)] =
            (struct fastrnn_write){(enum fastrnn_write_kind)draw_below(from, 10), draw_odd(from)};
        break;
    case 1:
        if (code->read_count) {
            ((struct fastrnn_read *)code->reads)[draw_below(from, code->read_count)] =
                (struct fastrnn_read){(enum fastrnn_read_kind)draw_below(from, 18), draw_odd(from)};
        }
        break;
    case 2:
        if (code->constant_count) {
            ((double *)code->constants)[draw_below(from, code->constant_count)] = 0 / 0.0;
        }
        break;
    case 3:
        ((int *)code->phase_ends)[draw_below(from, code->phase_count)] = draw_odd(from);
        break;
    case 4:
        if (code->sum_count) {
            struct fastrnn_sum *const sum = (struct fastrnn_sum *)code->sums + draw_below(from, code->sum_count);
            int *const numbers[] = {&sum->phase, &sum->count, &sum->kept[draw_below(from, FASTRNN_TERMS_MAX)]};
            switch (draw_below(from, 5)) {
            case 3:
                sum->kind = (enum fastrnn_sum_kind)draw_odd(from);
                break;
            case 4:
                sum->extent = (enum fastrnn_extent)draw_odd(from);
                break;
            default:
                *numbers[draw_below(from, 3)] = draw_odd(from);
            }
        }
        break;
    default:
        *fields[draw_below(from, 5)] = (uint16_t)draw_odd(from);
        break;
    }
}

static void spoil_product(struct bytes *const from, struct fastrnn_product *const product) {
    struct fastrnn_read *const factor = &product->factors[draw_below(from, FASTRNN_FACTORS_MAX)];
    int *const numbers[] = {&product->gate,           &product->forward_phase, &product->kept,
                            &product->backward_phase, &product->factor_count,  &factor->index};
    if (draw_bit(from)) {
        factor->kind = (enum fastrnn_read_kind)draw_below(from, 18);
    } else {
        *numbers[draw_below(from, sizeof numbers / sizeof *numbers)] = draw_odd(from);
    }
}

static void spoil_program(struct bytes *const from, struct fastrnn_program *const p, struct fastrnn_cell_table *const t,
                          struct fastrnn_slot *const slots) {
    struct fastrnn_slot *const slot = slots + draw_below(from, p->slot_count);
    int *const numbers[] = {&t->gates,         &t->output,
                            &t->phase_count,   &p->saved_state[0],
                            &slot->gate,       &slot->to_input,
                            &slot->operand,    &p->forward.phase_count,
                            &p->product_count, &p->saved_state[draw_below(from, FASTRNN_STATES_MAX)]};
    switch (draw_below(from, p->product_count ? 5 : 4)) {
    case 0:
        *numbers[draw_below(from, sizeof numbers / sizeof *numbers)] = draw_odd(from);
        break;
    case 1:
        t->apart = (unsigned)draw_odd(from);
        break;
    case 2:
        spoil_code(from, &p->forward);
        break;
    case 3:
        spoil_code(from, &p->backward);
        break;
    default:
        spoil_product(from, (struct fastrnn_product *)p->products + draw_below(from, p->product_count));
        break;
    }
}

static struct drawn_program draw_program(struct bytes *const from) {
    struct fastrnn_cell_table *const table = draw_table(from);
    struct fastrnn_slot all[FASTRNN_SLOTS_MAX];
    const bool multiplies_h = table->apart != (1U << table->gates) - 1 || draw_bit(from);
    struct drawn_products products = draw_products(from, table);
    const int slot_count = set_slots(table, multiplies_h, &products, all);
    struct fastrnn_slot *const slots = take_copy(all, (size_t)slot_count * sizeof *slots);
    struct drawn_program drawn = {
        .c =
            {
                .struct_size = sizeof(struct fastrnn_program),
                .table = table,
                .slot_count = slot_count,
                .slots = slots,
                .product_count = products.count,
                .products = products.products,
            },
        .is_sound = true,
    };
    drawn.c.forward = draw_forward(from, table, multiplies_h, &products);
    drawn.c.backward = draw_backward(from, table, slot_count, &products);
    for (int j = 0; j < FASTRNN_STATES_MAX; j++) {
        drawn.c.saved_state[j] = j < table->state_count ? j : -1;
    }
    if (draw_below(from, 4) == 3) {
        drawn.is_sound = false;
        spoil_program(from, &drawn.c, table, slots);
    }
    return drawn;
}

#endif
