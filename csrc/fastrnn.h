/* fastrnn: recurrent layers on a CPU. The C interface.
 *
 * A problem describes the computation: one layer in one direction over a schedule of sequences. fastrnn_make_plan
 * checks the problem and computes all sizes. fastrnn_run runs one pass of the plan on the caller's arrays: pack the
 * weights, forward, or backward. The caller owns all memory. Every function returns a status; nothing prints, aborts,
 * allocates or keeps a reference.
 *
 * Sizes: T time steps, B batch, I input size, H hidden size, G gates (LSTM 4: i,f,g,o; GRU 3: r,z,n; RNN 1).
 * Equations, weight layouts and gate order follow torch.nn (docs/math.md).
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fastrnn_status {
    FASTRNN_OK = 0,
    FASTRNN_BAD_CELL,     /* cell is not a fastrnn_cell */
    FASTRNN_BAD_DTYPE,    /* dtype is not a fastrnn_dtype */
    FASTRNN_BAD_BACKEND,  /* no such backend, or this CPU cannot run it, or FASTRNN_HIDE hides it */
    FASTRNN_BAD_SIZE,     /* a negative size or thread count, heads that do not divide H, or no fastrnn_cut */
    FASTRNN_BAD_SCHEDULE, /* active grows, or an entry of row, first, last or d_first is out of range or repeated */
    FASTRNN_NULL_POINTER, /* a required pointer is null */
    FASTRNN_TOO_LARGE,    /* a size in bytes overflows */
    FASTRNN_INTERRUPTED,  /* the problem's `interrupted` returned nonzero; the outputs are incomplete */
    FASTRNN_BAD_PLAN,     /* fastrnn_make_plan did not make the plan, or pass is not a fastrnn_pass */
    FASTRNN_BAD_ARRAYS,   /* struct_size is not sizeof(struct fastrnn_arrays) */
    FASTRNN_BAD_BATCH,    /* a length, truncation or enumerator of struct fastrnn_batch is out of range */
    FASTRNN_NO_ROOM,      /* the memory for schedules has fewer bytes than they need */
    FASTRNN_BAD_STAGE,    /* arrays.stage is negative or exceeds the number of stages */
    FASTRNN_BAD_INPUTS,   /* an input or options for a cell that has none */
    FASTRNN_BAD_PROGRAM,  /* fastrnn_program_error has a message */
};

/* Limits of all cells. */
enum {
    FASTRNN_GATES_MAX = 8,
    FASTRNN_STATES_MAX = 8,
    FASTRNN_PARAMETERS_MAX = 20,
    FASTRNN_INPUTS_MAX = 4,
    FASTRNN_OPTIONS_MAX = 8,
    FASTRNN_SAVED_MAX = 16, /* saved vectors */
    FASTRNN_PHASES_MAX = 8,
};

enum fastrnn_cell {
#define FASTRNN_CELL(name, gates, output, tables) FASTRNN_CELL_##name,
#include "cells.def"
    FASTRNN_CELL_COUNT
};

enum fastrnn_dtype { FASTRNN_F32, FASTRNN_F64, FASTRNN_DTYPE_COUNT };

/* The order of visit of the (t, b) rows (docs/architecture.md). Step s advances sequences 0 … active[s] - 1;
 * row t*B + b of the sequence tensors belongs to sequence i at step s where row[offset(s) + i] = t*B + b and
 * offset(s) = active[0] + … + active[s-1]. No row may be visited twice, and neither first nor last nor d_first may name
 * a state twice. Forward and backward check these two rules; fastrnn_make_plan has no memory to do so. The library
 * cannot check the lengths of the arrays, nor that backward reads the arrays that forward has filled. */
struct fastrnn_schedule {
    int64_t steps;         /* S */
    const int64_t *active; /* [S], never growing */
    const int64_t *row;    /* [sum of active], each in 0 … T*B - 1 */
    int64_t states;        /* rows of initial and final states, and of their gradients without d_first; dense: B */
    const int64_t *first;  /* [active[0]]: the states that the sequence starts from. Below states: this row of the
                              initial states; -1: the cell's start values; states + r, in backward alone: the states
                              after row r of y, as constants */
    const int64_t *last; /* [active[0]]: row of the final states that receives the sequence's last states; in backward,
                            the row that holds their gradients. -1: no row; gradients are zero */
    /* Backward alone. Null: the gradient of a row of initial states goes to the same row of d_initial, and the
     * gradients of other starting states are dropped. */
    const int64_t *d_first; /* [active[0]]: row of d_initial that receives the gradient of the sequence's starting
                               states, also where they are the states after a row of y; -1: dropped */
    int64_t d_states;       /* with d_first: rows of d_final and d_initial */
};

/* ---- schedules of a batch ---- */

/* The step of a sequence that runs first. */
enum fastrnn_direction { FASTRNN_FROM_FIRST_STEP, FASTRNN_FROM_LAST_STEP };

/* The rows of the sequence tensors. Padded: row t*B + b. Packed: step after step, only the rows that exist; row
 * offset(t) + b, where offset(t) counts the rows of the steps before t. */
enum fastrnn_rows { FASTRNN_PADDED, FASTRNN_PACKED };

/* A batch of sequences, from which the library builds schedules (docs/schedules.md). Zero the struct first. A dense
 * batch in the first direction without truncation needs no schedule. */
struct fastrnn_batch {
    int64_t T, B;
    enum fastrnn_direction direction;
    enum fastrnn_rows rows;
    const int64_t *lengths;      /* [B], each in 0 … T; null: all T. Packed: never growing, the first T, none 0 */
    const unsigned char *resets; /* (T, B): nonzero if no state passes between steps t - 1 and t; null: no resets */
    ptrdiff_t resets_stride_t, resets_stride_b; /* in bytes */
    int64_t k1, k2; /* backward: loss windows of k1 steps, each reaching back k2 >= k1 steps from the end of its k1
                       steps; 0, 0: all steps */
};

/* Parts that run one after the other: schedules that visit no row twice. */
struct fastrnn_stage {
    const struct fastrnn_schedule *parts;
    int64_t part_count;
    const int64_t *initial; /* if windows overlap: the sequences that receive d_initial in this stage */
    int64_t initial_count;
};

/* The schedules of a batch, in the caller's memory. Forward, and backward without overlapping windows, has one stage.
 * Backward with overlapping windows has several. The last `whole_stages` of them compute dx and the gradients of the
 * parameters; earlier stages only hand gradients of states from region to region (docs/schedules.md). */
struct fastrnn_schedules {
    size_t struct_size;       /* set by the functions below */
    size_t bytes;             /* that fastrnn_build_schedules needs at most */
    int64_t T, B;             /* of the problem; packed: B is 1, and T is the number of rows */
    int64_t steps, sequences; /* the most of any part */
    int64_t rows;             /* the most of any part */
    int64_t states;           /* rows of initial and final states: B of the batch */
    int64_t d_states;         /* if windows overlap: rows of the states' gradients between stages; else 0 */
    int backward_only;        /* windows start from rows of y, which forward refuses */
    int64_t stage_count, whole_stages;
    const struct fastrnn_stage *stages; /* null: not built */
    const int64_t *empty;               /* the sequences of no steps */
    int64_t empty_count;
};

/* Both functions set `bytes`, and the largest sizes that fastrnn_make_plan needs to compute the sizes of its memory.
 * fastrnn_measure_schedules reads lengths and resets. fastrnn_bound_schedules only looks which pointers are null: its
 * result suffices for all lengths and resets of this T, B, k1 and k2. Use it if memory must be taken before they are
 * known. */
enum fastrnn_status fastrnn_measure_schedules(const struct fastrnn_batch *batch, struct fastrnn_schedules *schedules);
enum fastrnn_status fastrnn_bound_schedules(const struct fastrnn_batch *batch, struct fastrnn_schedules *schedules);

/* Builds the schedules in `bytes` of memory, of any alignment. They refer to this memory, but not to the batch. They
 * serve every problem with their T and B: all layers of a direction. Backward of a ragged batch without truncation
 * takes the schedules of forward. */
enum fastrnn_status fastrnn_build_schedules(const struct fastrnn_batch *batch, void *memory, size_t bytes,
                                            struct fastrnn_schedules *schedules);

/* How many threads a call uses, and whether they share sequences or hidden units. Results are bitwise identical. */
enum fastrnn_cut {
    FASTRNN_CUT_AUTO, /* the fastest cut, as far as the cost model and the pace know it */
    /* For tests and benchmarks. All but the first use all threads of the problem, however small the work is. */
    FASTRNN_CUT_ONE_THREAD,
    FASTRNN_CUT_BY_SEQUENCES, /* groups of threads share the sequences; with too few of them, the members share units */
    FASTRNN_CUT_BY_UNITS,     /* all threads share the hidden units, as far as there are enough */
    FASTRNN_CUT_BY_PIECES,    /* as by sequences, but fast threads take more pieces of the work than slow ones */
    FASTRNN_CUT_ALL_THREADS,  /* by sequences or by units, as the cost model chooses */
    FASTRNN_CUT_COUNT
};

/* What earlier calls of a layer have shown about threads (docs/threads.md). It makes calls with FASTRNN_CUT_AUTO faster
 * and changes no result. The caller owns this plain memory and zeroes it. Use one for each layer: its cell,
 * dtype, I, H and heads stay the same. Calls in several threads may share it. Do not copy it while a call uses it, and
 * do not store it: it describes this process on this machine. */
struct fastrnn_pace {
    uint64_t rest[880]; /* private */
};

struct fastrnn_program; /* below */

struct fastrnn_problem {
    enum fastrnn_cell cell;
    const struct fastrnn_program *program; /* null, or a cell of the caller's in place of `cell` */
    enum fastrnn_dtype dtype;
    int backend; /* an index below fastrnn_backend_count() */
    int threads; /* at most this many threads; at least 1 */
    enum fastrnn_cut cut;
    int64_t T, B, I, H;
    /* Of a program: w_hh is block-diagonal. The H units form so many heads of H / heads units each, and a unit's
     * product reads the units of its head alone, so w_hh has H / heads columns. 0 or 1: a product reads all units. */
    int64_t heads;
    const struct fastrnn_schedule *schedule; /* null: dense, active[s] = B and row = s*B + i */
    /* Null, or the schedules of a batch in place of `schedule`. A plan of schedules that have not been built has
     * sizes, but does not run. */
    const struct fastrnn_schedules *schedules;
    struct fastrnn_pace *pace; /* null: the cost model alone chooses the cut. It must outlive the plan */
    /* May be null. The calling thread calls it every quarter of a second; a nonzero result stops the call. */
    int (*interrupted)(void);
};

/* Bytes that the caller provides. No alignment is required of any buffer. Packed weights, once filled, must not be
 * moved to an address that differs modulo 64. */
struct fastrnn_sizes {
    size_t packed_forward, packed_backward; /* do not depend on T, B, schedule and threads */
    size_t reserve;                         /* T*B*reserve_row: an ordinary array (T, B, R) of the real type */
    size_t reserve_row;                     /* depends on cell, dtype and H alone, not on the backend */
    size_t scratch_forward, scratch_backward;
    size_t regions; /* for the gradients of states between stages; 0 unless windows overlap */
};

/* A checked problem with its sizes and layouts. A plan is plain memory: it may be copied, and need not be released. It
 * refers to the problem's program and its schedule or schedules, which must outlive the plan and not change. */
struct fastrnn_plan {
    size_t struct_size; /* set by fastrnn_make_plan */
    struct fastrnn_sizes sizes;
    uint64_t rest[160]; /* private */
};

/* A (T, B, n) tensor or a (B, n) matrix with a contiguous last axis. Strides count elements and may be negative.
 * Element (t, b, j) lies at data[t*stride_t + b*stride_b + j]. */
struct fastrnn_view {
    void *data;
    ptrdiff_t stride_t, stride_b;
};

struct fastrnn_const_view {
    const void *data;
    ptrdiff_t stride_t, stride_b;
};

/* Whether backward adds to the gradients of the parameters or overwrites them. */
enum fastrnn_accumulation { FASTRNN_ADD, FASTRNN_OVERWRITE };

enum fastrnn_pass {
    FASTRNN_PACK_FORWARD,  /* parameters to packed, in the order of forward's reads */
    FASTRNN_PACK_BACKWARD, /* the same for backward */
    FASTRNN_FORWARD,
    FASTRNN_BACKWARD,
    FASTRNN_PASS_COUNT
};

/* The arrays of a pass. Zero the struct first: null data means a zero input, or an output that is not computed.
 * Parameters, states and their gradients are in the order of the cell's table.
 *
 * Outputs must not overlap each other or any input, except that `final` may be `initial` where every sequence ends in
 * the row that it starts from, as in a dense schedule. States are (B, H), or (states, H) with a schedule. The library
 * does not write rows of y, states and dx that the schedule does not visit, rows of `final` that no `last` names, and
 * rows of d_initial that no `first` names. With the schedules of a batch, it writes all rows of `final` and d_initial:
 * sequences of no steps pass the states and gradients through. */
struct fastrnn_arrays {
    size_t struct_size; /* sizeof(struct fastrnn_arrays) */

    /* C-contiguous, in torch's layout. Read by the packing passes, and by forward and backward if `packed` is null. */
    const void *parameters[FASTRNN_PARAMETERS_MAX];
    /* Backward: gradients in the same layout. */
    void *gradients[FASTRNN_PARAMETERS_MAX];
    enum fastrnn_accumulation accumulation; /* of the gradients */

    void *packed; /* written by a packing pass, then read by the pass of the same direction */

    struct fastrnn_const_view x; /* (T, B, I) */

    /* The cell's inputs of each step, (T, B, H) or (T, B, 1), and its options, in the order of its table. Forward and
     * backward need all of them, with equal values. Null for every input and option that the table does not have. */
    struct fastrnn_const_view inputs[FASTRNN_INPUTS_MAX];
    const double *options;

    struct fastrnn_view y;                                 /* (T, B, H), written by forward, read by backward */
    struct fastrnn_const_view initial[FASTRNN_STATES_MAX]; /* data null: the cell's start value */
    struct fastrnn_view final[FASTRNN_STATES_MAX];         /* written by forward */
    struct fastrnn_view states[FASTRNN_STATES_MAX];        /* (T, B, H), written by forward: after each step */

    struct fastrnn_const_view dy; /* (T, B, H) */
    struct fastrnn_view dx;       /* (T, B, I), overwritten */
    struct fastrnn_const_view d_final[FASTRNN_STATES_MAX];
    struct fastrnn_view d_initial[FASTRNN_STATES_MAX]; /* overwritten */
    /* (T, B, H), written by programs that have these gradients. The gradient of an input of one column is the sum of a
     * row. The library does not write rows that the schedule does not visit. */
    struct fastrnn_view d_inputs[FASTRNN_INPUTS_MAX];

    void *reserve; /* forward: null for inference, else filled; backward reads it and leaves it unchanged */
    void *scratch;

    /* Backward with overlapping windows. The regions' gradients stay in `regions` from stage to stage. */
    void *regions;
    int64_t stage; /* 0: all stages. n: the n-th alone, which then writes dx even if it is not a whole stage: in a stack
                      of one direction, each stage goes down all layers before the next stage starts */
};

enum fastrnn_status fastrnn_make_plan(const struct fastrnn_problem *problem, struct fastrnn_plan *plan);
enum fastrnn_status fastrnn_run(const struct fastrnn_plan *plan, enum fastrnn_pass pass,
                                const struct fastrnn_arrays *arrays);

/* Nonzero if packing the weights before this pass, forward or backward, is faster than leaving `packed` null. Results
 * are bitwise identical. Nonzero for a null plan. */
int fastrnn_packing_pays(const struct fastrnn_plan *plan, enum fastrnn_pass pass);

/* ---- linear recurrences ---- */

/* A (T, B, H) tensor or a (B, H) matrix. Strides count elements; 0 repeats a value along an axis. Element (t, b, j)
 * lies at data[t*stride_t + b*stride_b + j*stride_h]. */
struct fastrnn_tensor {
    void *data;
    ptrdiff_t stride_t, stride_b, stride_h;
};

struct fastrnn_const_tensor {
    const void *data;
    ptrdiff_t stride_t, stride_b, stride_h;
};

enum fastrnn_linear_pass { FASTRNN_LINEAR_FORWARD, FASTRNN_LINEAR_BACKWARD, FASTRNN_LINEAR_PASS_COUNT };

/* h[t] = a[t] h[t-1] + b[t] for each sequence and unit, one fused multiply-add each, and its gradients. Zero the struct
 * first. Neither a, b and the gradients of h nor the outputs are read or written beyond the lengths.
 *
 * No state passes to a step with a reset, as in struct fastrnn_batch; if h0 is null, none passes to the first step
 * either. There h is b and da is zero, even if a or the earlier state is infinite or NaN. */
struct fastrnn_linear {
    size_t struct_size; /* sizeof(struct fastrnn_linear) */
    enum fastrnn_dtype dtype;
    int backend;
    int threads; /* at most this many threads; at least 1 */
    enum fastrnn_cut cut;
    int64_t T, B, H;
    enum fastrnn_direction direction;
    const int64_t *lengths;                     /* [B], each in 0 … T; null: all T */
    const unsigned char *resets;                /* (T, B); null: no resets */
    ptrdiff_t resets_stride_t, resets_stride_b; /* in bytes */
    int (*interrupted)(void);                   /* as in struct fastrnn_problem */

    struct fastrnn_const_tensor a;  /* (T, B, H); both passes */
    struct fastrnn_const_tensor b;  /* (T, B, H); forward */
    struct fastrnn_const_tensor h0; /* (B, H); null: the first step starts anew; both passes */
    /* (T, B, H), written by forward; read by backward for da. With stride_t 0, forward leaves the last states alone. */
    struct fastrnn_tensor h;

    struct fastrnn_const_tensor dh; /* (T, B, H) */
    struct fastrnn_tensor da;       /* (T, B, H), overwritten; may be null */
    struct fastrnn_tensor db;       /* (T, B, H), overwritten; required, since da and dh0 are computed from it */
    struct fastrnn_tensor dh0;      /* (B, H), overwritten; may be null */
};

/* Outputs must not overlap each other or any input, and their elements must not overlap. */
enum fastrnn_status fastrnn_run_linear(const struct fastrnn_linear *linear, enum fastrnn_linear_pass pass);

const char *fastrnn_status_message(enum fastrnn_status status);

/* Cells. A parameter has rows_per_unit*H rows, and 1, I or H columns, or H / heads; a null optional parameter is zero.
 */
enum fastrnn_columns { FASTRNN_ONE_COLUMN, FASTRNN_COLUMNS_OF_INPUT /* I */, FASTRNN_COLUMNS_OF_STATE /* H */ };

struct fastrnn_parameter {
    const char *name;
    int rows_per_unit;
    enum fastrnn_columns columns;
    int required;
};

/* The parameters of the compiled cells. Each has G parts of H rows, one for each gate. */
enum fastrnn_gate_parameter { FASTRNN_W_IH, FASTRNN_W_HH, FASTRNN_B_IH, FASTRNN_B_HH };

struct fastrnn_state {
    const char *name;
    double start; /* start value of a sequence without an initial state */
};

/* Vectors of H units that forward leaves in a row of the reserve for backward. */
struct fastrnn_saved {
    const char *name;
    int per_unit; /* number of vectors */
};

/* An input of each step that no parameter multiplies, for example a mask. It has a gradient in programs alone. */
struct fastrnn_input {
    const char *name;
    enum fastrnn_columns columns; /* H: a value for each unit; one: the value of all units */
};

/* A number that is constant for a call. */
struct fastrnn_option {
    const char *name;
};

/* The units that a unit's product reads: all units, or those of its head in a problem with heads. */
enum fastrnn_support { FASTRNN_ALL_UNITS };

/* A part of a step: a product, then an element-wise part. */
struct fastrnn_phase {
    enum fastrnn_gate_parameter parameter; /* the matrix */
    int operand;                           /* the state before the step that the matrix multiplies */
    enum fastrnn_support support;
};

struct fastrnn_cell_table {
    const char *name; /* "lstm", … */
    int gates;
    int output;     /* the state that is y, or -1 */
    unsigned apart; /* bit g: the halves of gate g, of x and of h, meet only in the step */
    int parameter_count, state_count, saved_count, input_count, option_count;
    const struct fastrnn_parameter *parameters;
    const struct fastrnn_state *states; /* h is the first */
    const struct fastrnn_saved *saved;  /* in the order of a row of the reserve */
    const struct fastrnn_input *inputs;
    const struct fastrnn_option *options;
    int phase_count; /* 1: there are no others yet */
    const struct fastrnn_phase *phases;
};

const struct fastrnn_cell_table *fastrnn_cell_table(enum fastrnn_cell cell); /* null: no such cell */

/* ---- programs ---- */

/* A program is a cell of the caller's: a table, and for each direction a straight list of instructions that run on
 * vectors of units in every step. It is plain data. fastrnn_make_plan checks it, so no program can make a call read or
 * write out of bounds.
 *
 * The table has the parameters w_ih, w_hh, b_ih, b_hh of the compiled cells, and then vectors of H, which are required.
 * A step is the product of w_hh and h, if a slot has the operand h, and then one or more phases. A phase runs
 * over all units before the next one begins, so it can use sums over units of vectors that earlier phases have kept,
 * and a product of such a vector. */
enum {
    FASTRNN_REGISTERS_MAX = 32,
    FASTRNN_INSTRUCTIONS_MAX = 256, /* in a direction */
    FASTRNN_READS_MAX = 64,
    FASTRNN_CONSTANTS_MAX = 64,
    FASTRNN_WRITES_MAX = 64,
    FASTRNN_SLOTS_MAX = 2 * FASTRNN_GATES_MAX,
    FASTRNN_KEPT_MAX = 32,                 /* vectors that cross phases */
    FASTRNN_SUMS_MAX = 16,                 /* in a direction */
    FASTRNN_TERMS_MAX = FASTRNN_GATES_MAX, /* vectors of a sum */
    FASTRNN_PRODUCTS_MAX = FASTRNN_PHASES_MAX - 1,
    FASTRNN_FACTORS_MAX = 2,
};

enum fastrnn_operation {
#define FASTRNN_OPERATION(number, name, arguments, masks, makes_mask) FASTRNN_OPERATION_##name = number,
#include "operations.def"
    FASTRNN_OPERATION_COUNT
};

const char *fastrnn_operation_name(int operation); /* null: no such operation */
int fastrnn_operation_arguments(int operation);    /* 0: no such operation */

/* An operand is the number of a register, read, constant or write, plus one of these. A write is an operand once it has
 * been written, up to the end of the phase. Registers are empty when a phase begins. */
enum fastrnn_operand {
    FASTRNN_OPERAND_REGISTER = 0,
    FASTRNN_OPERAND_READ = 0x100,
    FASTRNN_OPERAND_CONSTANT = 0x200,
    FASTRNN_OPERAND_WRITE = 0x300,
};

/* to = operation(a, b, c). `to` is a register or a write. Operands that the operation does not have are 0. */
struct fastrnn_instruction {
    uint16_t operation, to, a, b, c;
};

/* A vector that instructions read. `index` counts gates, states, saved vectors, vectors (from the first parameter after
 * b_hh), inputs, options, kept vectors, sums or second products; 0 for y and its gradient. */
enum fastrnn_read_kind {
    /* forward */
    FASTRNN_READ_GATE,       /* the pre-activation of a gate that does not stay apart; in the first phase alone */
    FASTRNN_READ_GATE_INPUT, /* the halves of a gate that stays apart: w_ih x + b_ih … */
    FASTRNN_READ_GATE_STATE, /* … and w_hh h + b_hh; in the first phase alone, if the gate's rows multiply h */
    /* both directions */
    FASTRNN_READ_BEFORE, /* a state before the step; forward, except for h, up to the phase that writes its successor */
    FASTRNN_READ_VECTOR,
    FASTRNN_READ_INPUT,
    FASTRNN_READ_OPTION,
    /* backward */
    FASTRNN_READ_Y,
    FASTRNN_READ_DY,      /* only if the output is not a state */
    FASTRNN_READ_D_AFTER, /* the gradient of a state after the step, with dy if it is the output; in the first phase */
    FASTRNN_READ_SAVED,
    /* both directions */
    FASTRNN_READ_KEPT,     /* a vector that an earlier phase has kept */
    FASTRNN_READ_SUM,      /* a sum or a mean, from its phase on: the same for all units of its extent */
    FASTRNN_READ_VARIANCE, /* of moments */
    /* forward */
    FASTRNN_READ_PRODUCT, /* w_hh v + b_hh of the gate of a second product, in its phase alone */
    /* backward */
    FASTRNN_READ_D_PRODUCT, /* the gradient of its vector v, in its phase alone */
    FASTRNN_READ_KINDS
};

struct fastrnn_read {
    enum fastrnn_read_kind kind;
    int index;
};

/* A vector that instructions write, each once. A direction writes all that it has, except that D_BEFORE of h, D_INPUT
 * and KEPT are optional. */
enum fastrnn_write_kind {
    /* forward */
    FASTRNN_WRITE_Y,     /* only if the output is not a state */
    FASTRNN_WRITE_AFTER, /* a state after the step */
    FASTRNN_WRITE_SAVED, /* a saved vector that is not a state */
    /* backward */
    FASTRNN_WRITE_SLOT,
    FASTRNN_WRITE_D_BEFORE, /* the gradient of a state before the step; of h, the part that bypasses the product */
    FASTRNN_WRITE_D_VECTOR, /* the contribution of a row to the gradient of a vector */
    FASTRNN_WRITE_D_INPUT,  /* the gradient of an input; of an input of one column, the part of each unit */
    /* both directions */
    FASTRNN_WRITE_KEPT, /* for later phases */
    FASTRNN_WRITE_KINDS
};

struct fastrnn_write {
    enum fastrnn_write_kind kind;
    int index;
};

/* The mean and the biased variance are MOMENTS. */
enum fastrnn_sum_kind { FASTRNN_SUM, FASTRNN_MEAN, FASTRNN_MOMENTS, FASTRNN_SUM_KINDS };

/* The units of a sum: all of them, or those of each head, which gives each head a sum of its own. */
enum fastrnn_extent { FASTRNN_SUM_OF_UNITS, FASTRNN_SUM_OF_HEAD, FASTRNN_EXTENTS };

/* A sum over units of several kept vectors. It is made before its phase. The order is fixed, so the bits do not depend
 * on threads and vector lengths: vector after vector, each in segments of 64 units, which begin anew with each head; in
 * a segment, a sum of every sixteenth unit, and then the tree of these sixteen sums. The squares of moments are about
 * the mean of each segment. */
struct fastrnn_sum {
    enum fastrnn_sum_kind kind;
    int phase;                   /* not the first */
    int count;                   /* 1 … FASTRNN_TERMS_MAX */
    int kept[FASTRNN_TERMS_MAX]; /* written in earlier phases */
    enum fastrnn_extent extent;
};

/* The program of a direction. Phase p has the instructions from phase_ends[p - 1] on; the last phase ends the list. */
struct fastrnn_code {
    int instruction_count, read_count, constant_count, write_count, phase_count, sum_count;
    const struct fastrnn_instruction *instructions;
    const struct fastrnn_read *reads;
    const double *constants; /* no NaN */
    const struct fastrnn_write *writes;
    const int *phase_ends;
    const struct fastrnn_sum *sums;
};

/* A second product: the rows of w_hh and b_hh of a gate on a vector v of the step in place of h. The gate stays apart.
 * A phase has at most one. Before it, forward has kept v, and backward has written the slot with this operand. */
struct fastrnn_product {
    int gate; /* each product has its own */
    int forward_phase, kept;
    int backward_phase; /* 0: backward does not read the gradient of v */
    int factor_count;   /* 1 or 2 */
    struct fastrnn_read
        factors[FASTRNN_FACTORS_MAX]; /* v is their product: Y, SAVED or BEFORE, as backward reads them */
};

/* The operand of a slot's product. That of second product n is FASTRNN_SLOT_OF_PRODUCT + n. */
enum fastrnn_slot_operand { FASTRNN_SLOT_WITHOUT_OPERAND = -1, FASTRNN_SLOT_OF_H, FASTRNN_SLOT_OF_PRODUCT };

/* The gradient of a gate, towards the input, towards an operand or both. */
struct fastrnn_slot {
    int gate;
    int to_input; /* nonzero: multiplied by w_ih */
    int operand;  /* from enum fastrnn_slot_operand on */
};

struct fastrnn_program {
    size_t struct_size; /* sizeof(struct fastrnn_program) */
    const struct fastrnn_cell_table *table;
    /* The saved vector that is this state after the step, which the library writes; -1: none. Required of a state that
     * is not the output if it is h and w_hh multiplies it, or if backward or a factor reads it before the step. */
    int saved_state[FASTRNN_STATES_MAX];
    /* In the order of the products' sums. The slots towards the input are consecutive and have each gate once, and so
     * do those with the operand h, without the gates of second products. If all gates stay apart, no slot needs the
     * operand h: then w_hh does not multiply h, and gradients of its rows are zero outside second products. */
    int slot_count;
    const struct fastrnn_slot *slots;
    int product_count;
    const struct fastrnn_product *products;
    struct fastrnn_code forward, backward;
};

/* A message about the first rule that the program breaks; null if it is sound. */
const char *fastrnn_program_error(const struct fastrnn_program *program);

/* ---- backends ---- */

/* Backends, best first. Some of them may not run on this CPU.
 *
 * The environment variable FASTRNN_HIDE lists backends to hide, separated by commas. A hidden backend does not run, as
 * on a CPU without its instruction set, and neither do better backends that need the same instruction set. The variable
 * is read once, by the first of these functions or calls. If it lists a name that cannot be hidden, no backend runs:
 * fastrnn_best_backend returns -1. */
int fastrnn_backend_count(void);
const char *fastrnn_backend_name(int backend);
int fastrnn_backend_runs_here(int backend);
int fastrnn_backend_is_hidden(int backend);     /* would run here without FASTRNN_HIDE */
int fastrnn_backend_can_be_hidden(int backend); /* FASTRNN_HIDE may list it; not for the baseline */
int fastrnn_backend_has_fma(int backend);       /* backends with FMA agree in every bit */
int fastrnn_backend_vector_length(int backend, enum fastrnn_dtype dtype);
int fastrnn_best_backend(void);

/* Threads. */
const char *fastrnn_openmp_version(void); /* "none" in a build without OpenMP */
const char *fastrnn_openmp_library(void); /* file of OpenMP's runtime; null if unknown or without OpenMP */
int fastrnn_max_threads(void);            /* OpenMP's current number; 1 in a child of fork() and without OpenMP */
int fastrnn_is_forked(void);              /* the parent had loaded fastrnn before it forked this process */

/* Nonzero if n bytes are equal. Up to `threads` threads read them, as many as make it faster. pace: as in a problem. */
int fastrnn_same_bytes(const void *one, const void *other, size_t n, int threads, struct fastrnn_pace *pace);

const char *fastrnn_build(void); /* the compiler, and the flags of every file */

/* The functions of one number that cells use, for tests: y[j] = f(x[j]) for j < n. */
enum fastrnn_activation {
    FASTRNN_TANH,
    FASTRNN_SIGMOID,
    FASTRNN_EXP,
    FASTRNN_EXPM1,
    FASTRNN_LOG,
    FASTRNN_LOG1P,
    FASTRNN_SOFTPLUS,
    FASTRNN_LOG_SIGMOID,
    FASTRNN_RELU,
    FASTRNN_ABS,
    FASTRNN_SIGN,
    FASTRNN_SQRT,
    FASTRNN_ACTIVATION_COUNT
};
enum fastrnn_status fastrnn_activate(int backend, enum fastrnn_dtype dtype, enum fastrnn_activation activation,
                                     int64_t n, const void *x, void *y);

#ifdef __cplusplus
}
#endif

#endif
