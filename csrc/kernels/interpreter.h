/* The operands of a program in a pass, listed once before its steps.
 *
 * An operand in scratch is near: each of its blocks is a whole vector, and its rows lie at equal distances. An operand
 * in a tensor or in the reserve is far: its rows lie where the schedule says, and its last block may be partial. Other
 * operands lie in lines of the interpreter's memory.
 */
#ifndef FASTRNN_INTERPRETER_H
#define FASTRNN_INTERPRETER_H

#include "interpret.h"
#include "rows.h"
#include "weights.h"

/* Numbers of operands: registers, then the lists of the program, then operands of the library. */
enum {
    OPERAND_READS = FASTRNN_REGISTERS_MAX,
    OPERAND_CONSTANTS = OPERAND_READS + FASTRNN_READS_MAX,
    OPERAND_WRITES = OPERAND_CONSTANTS + FASTRNN_CONSTANTS_MAX,
    OPERAND_D_OUTPUT = OPERAND_WRITES + FASTRNN_WRITES_MAX, /* backward: the gradient of the output without dy … */
    OPERAND_DY,                                             /* … and dy */
    OPERAND_UNIFORM,                                        /* values that are the same for all units of a row */
    OPERANDS = OPERAND_UNIFORM + LAYOUT_UNIFORM_MAX
};
_Static_assert(OPERANDS <= UINT8_MAX, "operands are bytes");

enum {
    NEAR_MAX = FASTRNN_READS_MAX + FASTRNN_WRITES_MAX,
    FAR_MAX = 56,
    HELD_MAX = FASTRNN_SAVED_MAX + FASTRNN_STATES_MAX + 1,
    LATE_MAX = FASTRNN_STATES_MAX,
    COPIES_MAX = 2 * FASTRNN_STATES_MAX + 1,
    TOTALS_MAX = 2 * FASTRNN_SUMS_MAX + LAYOUT_UNIFORM_MAX,
    LINES_MAX = FASTRNN_REGISTERS_MAX + FAR_MAX + HELD_MAX + TOTALS_MAX,
};

/* The registers and copies of a span take about so many bytes, which leaves room for its other operands in the
 * first-level cache. */
enum {
    SPAN_BYTES = 16 << 10,
    FITTING_VECTORS = SPAN_BYTES / VECTOR_BYTES,
    LEAST_VECTORS = SPAN_MIN * LINES_MAX,
    SPAN_VECTORS = FITTING_VECTORS > LEAST_VECTORS ? (int)FITTING_VECTORS : (int)LEAST_VECTORS,
};

/* n vectors: rows of one block, or blocks of one row. */
struct span {
    int64_t row, number; /* of the first row and block */
    int n;
    bool along_blocks;
};

/* In scratch: row r of block j lies at *base + offset + r*row + j*block. The step sets *base. */
struct near_operand {
    uint8_t operand;
    real *const *base;
    ptrdiff_t offset, row, block;
};

struct far_operand {
    uint8_t operand;
    bool is_read;   /* else a result */
    bool is_whole;  /* all of its blocks are whole vectors in memory, too */
    bool is_packed; /* its blocks lie as in scratch, and are whole */
    bool is_column; /* one number for all units of a row */
    int state;      /* of a state before the step: its number; else NONE */
    int line;       /* of a span's copy */
    real *data;
    ptrdiff_t stride_t, stride_b;
};

/* An operand in a line. */
struct held_operand {
    uint8_t operand;
    int line;
};

/* A number of each row, the same for all units of a head: row r has (*base)[offset + head*head_step + r]. */
struct total_operand {
    uint8_t operand;
    int line; /* of a span's copy */
    real *const *base;
    ptrdiff_t offset, head_step; /* head_step 0: the same for all units */
};

/* What crosses phases, of one member of the team (layout.h). The rows are those of a step. */
struct crossing {
    const struct fastrnn_code *code;
    struct blocks units;
    real *kept, *terms, *totals;
    ptrdiff_t kept_vector, kept_row, sums_row, total_heads, uniform; /* uniform: from totals to the values of a phase */
    bool shares_heads; /* the members of the group share the units by whole heads */
};

/* The accumulators of a gate, where the product left them. */
struct accumulator {
    uint8_t operand;
    int gate;
};

/* Rows at equal distances: from one to the next, t and b grow by so much. */
struct even_rows {
    bool are_even;
    int64_t t, b;
};

/* Loads a state before the first step of sequences into the copy of `far`. */
typedef void starting_function(const void *job, const struct far_operand *far, const struct span *span, real *copy);

/* The second product of a phase, in its direction; `interpreter` finishes it. */
struct phase_product {
    bool exists;
    struct interpreter *interpreter;
    struct unit_weights unit_weights;
    struct unit_product forward;
    struct slot_weights slot_weights;
    struct slot_product backward;
};

/* A phase of the program of a direction, with its operands in a pass of one member of the team. */
struct interpreter {
    const struct fastrnn_code *program;
    /* Instructions of the phase: those that run for every unit, and those with a result that is the same for all units.
     */
    int body_count, uniform_count;
    struct span_instruction body[FASTRNN_INSTRUCTIONS_MAX], uniform[LAYOUT_UNIFORM_MAX];
    struct blocks units;
    bool is_padded; /* blocks inside a row have padding, which tensors do not have */
    /* Accumulators of a row and block. First phase: one for each gate; in backward, one. Later phases: one with a
     * second product, else none. */
    int panels;
    const struct layout_place *const *place, *const *place_before; /* of the step's rows, and of the rows before them */
    struct even_rows even, even_before;
    starting_function *load_starting;
    const void *job;

    int near_count, far_count, held_count, late_count, copy_count, total_count, accumulator_count, instruction_count;
    int lines, length; /* lines of `memory`; the vectors of each */
    struct near_operand near[NEAR_MAX];
    struct far_operand far[FAR_MAX];
    struct held_operand held[HELD_MAX];
    struct near_operand late[LATE_MAX];    /* results that go to scratch after the span */
    struct far_operand copies[COPIES_MAX]; /* results that also go to a tensor */
    struct total_operand totals[TOTALS_MAX];
    struct accumulator accumulators[FASTRNN_GATES_MAX];
    bool uses[OPERANDS]; /* whether an instruction has the operand */
    struct span_instruction code[FASTRNN_INSTRUCTIONS_MAX + 1];
    struct span_operand operands[OPERANDS];
    struct phase_product product;
    vreal zero, constants[FASTRNN_CONSTANTS_MAX], options[FASTRNN_OPTIONS_MAX], memory[SPAN_VECTORS];
};

/* ---- lists of operands ---- */

static void add_near(struct interpreter *const p, const int operand, real *const *const base, const ptrdiff_t offset,
                     const ptrdiff_t row, const ptrdiff_t block) {
    p->near[p->near_count++] = (struct near_operand){(uint8_t)operand, base, offset, row, block};
}

static void add_held(struct interpreter *const p, const int operand) {
    p->held[p->held_count++] = (struct held_operand){(uint8_t)operand, p->lines++};
}

/* A result that would overwrite an operand too early. */
static void add_late(struct interpreter *const p, const int operand, real *const *const base, const ptrdiff_t row) {
    p->late[p->late_count++] = (struct near_operand){(uint8_t)operand, base, 0, row, VL};
    add_held(p, operand);
}

static void add_far(struct interpreter *const p, const struct far_operand far) {
    p->far[p->far_count] = far;
    p->far[p->far_count++].line = p->lines++;
}

static void add_copy(struct interpreter *const p, const struct far_operand far) { p->copies[p->copy_count++] = far; }

static ptrdiff_t total_offset(const struct crossing *const c, const int sum, const bool is_variance) {
    return (2 * sum + is_variance) * c->total_heads * c->sums_row;
}

static void add_total_at(struct interpreter *const p, const struct crossing *const c, const int operand,
                         const ptrdiff_t offset, const ptrdiff_t head_step) {
    p->totals[p->total_count++] = (struct total_operand){(uint8_t)operand, p->lines++, &c->totals, offset, head_step};
}

/* A sum; of moments, also their variance. */
static void add_total(struct interpreter *const p, const struct crossing *const c, const int operand, const int sum,
                      const bool is_variance) {
    const bool of_head = c->code->sums[sum].extent == FASTRNN_SUM_OF_HEAD;
    add_total_at(p, c, operand, total_offset(c, sum, is_variance), of_head ? c->sums_row : 0);
}

static void add_kept(struct interpreter *const p, const struct crossing *const c, const int operand, const int index) {
    add_near(p, operand, &c->kept, index * c->kept_vector, c->kept_row, VL);
}

static void add_accumulator(struct interpreter *const p, const int operand, const int gate) {
    p->accumulators[p->accumulator_count++] = (struct accumulator){(uint8_t)operand, gate};
}

static void add_constant(struct interpreter *const p, const int operand, vreal *const to, const real value) {
    *to = vsplat(value);
    p->operands[operand] = (struct span_operand){(real *)to, 0};
}

/* A tensor; the caller sets the other fields. */
static struct far_operand far_view(const int operand, const void *const data, const ptrdiff_t stride_t,
                                   const ptrdiff_t stride_b) {
    return (struct far_operand){
        .operand = (uint8_t)operand, .state = NONE, .data = (real *)data, .stride_t = stride_t, .stride_b = stride_b};
}

#endif
