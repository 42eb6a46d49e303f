/* Every size and offset of packed weights, reserve and scratch; docs/memory-layout.md has the pictures. Offsets count
 * reals and are multiples of a cache line. All arithmetic is checked: if `overflowed` is set, the layout is unusable.
 *
 * NB blocks of VL units and NI blocks of inputs (blocks.h); the last lanes of a block may be padding.
 */
#ifndef FASTRNN_LAYOUT_H
#define FASTRNN_LAYOUT_H

#include "blocks.h"
#include "cell_shape.h"
#include "cursor.h"

enum {
    LAYOUT_SIZE_BITS = 52, /* I and H lie below 2^52, so that rounding up and doubling cannot overflow */
    /* Forward projects a chunk of steps at a time: as many as keep the projected gates near this size, so that they
     * leave room for the weights in the second-level cache. */
    LAYOUT_GATES_BYTES = 512 << 10,
    LAYOUT_GATES_ROWS_MIN = 128,
    LAYOUT_GATES_ROWS_MAX = 512,
    /* Backward collects the gate gradients of this many rows before the large products run over them: their k. */
    LAYOUT_GRADIENT_ROWS = 512,
    LAYOUT_SEGMENT = 64,     /* units of a segment of a sum over units */
    LAYOUT_UNIFORM_MAX = 24, /* values of a phase that are computed once for a row */
};

/* The sizes that determine a layout. */
struct layout_shape {
    const struct fastrnn_cell_table *table;
    int gates, slots; /* slots: with those of vectors */
    int hidden_gates; /* that multiply h */
    int products;     /* second products */
    int vl, real_bytes;
    bool multiplies_h; /* w_hh multiplies h in each step */
    struct cell_phases forward, backward;
    int64_t T, B, I, H;
    struct blocks projected;        /* of the input product: lanes are units, k runs over the inputs */
    struct blocks units;            /* of the recurrent product, both ways: lanes and k are units of a head */
    struct blocks inputs;           /* of backward's input product: lanes are inputs, k runs over the units */
    int64_t steps, sequences, rows; /* of the schedule: S, n[0], sum of n[s] */
    int share_blocks;               /* members of a group share blocks of units in runs of so many in a head */
    int threads;                    /* at most */
    size_t interpreter_bytes;       /* of a phase of a program; compiled cells: 0 */
};

/* The runs of blocks that the members of a group share. */
static inline int64_t layout_shares(const struct layout_shape *const s) {
    return block_heads(s->units) * layout_blocks(blocks_of_head(s->units, s->vl), s->share_blocks);
}

/* The first block of a run. */
static inline int64_t layout_share_begin(const struct layout_shape *const s, const int64_t share) {
    const int64_t each = blocks_of_head(s->units, s->vl), shares = layout_blocks(each, s->share_blocks);
    return shares == 0 ? 0 : share / shares * each + share % shares * s->share_blocks;
}

/* Whether so many members that share the units share them by whole heads. */
static inline bool layout_shares_heads(const struct layout_shape *const s, const int members) {
    return blocks_have_heads(s->units) && block_heads(s->units) % members == 0;
}

/* Segments of a sum over units. */
static inline int64_t layout_segments(const struct blocks units) {
    return block_heads(units) * layout_blocks(units.width, LAYOUT_SEGMENT);
}

static inline int layout_line(const struct layout_shape *const s) { return LAYOUT_LINE_BYTES / s->real_bytes; }

/* The reals of a row of whole vectors, padded to an odd number of cache lines, so that neighbouring rows do not fall
 * into the same cache sets. */
static inline int64_t layout_row(const int64_t vectors, const struct layout_shape *const s) {
    return (layout_blocks(vectors * s->vl, layout_line(s)) | 1) * layout_line(s);
}

/* Reals from one block of packed weights (K rows of G vectors) to the next. The distance is an odd number of cache
 * lines: a tile reads several blocks side by side, and a power of two would map them to the same cache sets. */
static inline int64_t layout_weight_block(const int64_t K, const int64_t G, const int vl, const int line) {
    const int64_t reals = K * G * vl;
    return reals == 0 ? 0 : (layout_blocks(reals, line) | 1) * line;
}

/* Strides of packed weights in reals: in a block, the vector of gate g and number k lies at g*gate + k*step. If a tile
 * exists for the cell's number of gates, a block is [k][G][VL]; otherwise it consists of single panels, [G][k][VL]. So
 * does w_hh if the cell has second products, which read the panels of one gate. */
struct layout_weights {
    int64_t block, gate, step; /* from one block, gate or k to the next */
};

static inline bool layout_has_tile(const int gates) { return gates == 1 || gates == 3 || gates == 4; }

static inline struct layout_weights layout_weights(const struct layout_shape *const s, const int64_t K,
                                                   const bool has_tile) {
    const int line = layout_line(s);
    if (has_tile) {
        return (struct layout_weights){layout_weight_block(K, s->gates, s->vl, line), s->vl, s->gates * s->vl};
    }
    const int64_t panel = layout_weight_block(K, 1, s->vl, line);
    return (struct layout_weights){s->gates * panel, panel, s->vl};
}

/* The parameters of the table that are vectors of H. */
static inline int layout_vectors(const struct layout_shape *const s) {
    return s->table->parameter_count - CELL_VECTORS;
}

/* Whether w_hh multiplies anything in a step. */
static inline bool layout_has_state(const struct layout_shape *const s) { return s->multiplies_h || s->products > 0; }

/* The reals of b_apart. */
static inline int64_t layout_apart(const struct layout_shape *const s) {
    return s->table->apart ? (int64_t)(s->gates + s->products) * s->vl : 0;
}

/* Weights for forward, block by block, and biases [NB][G][VL]. b_x holds b_ih + b_hh. For gates that stay apart, b_x
 * holds b_ih alone, and b_apart [NB][G][VL] holds b_hh; after it lie the biases [NB][VL] of each second product.
 * Vectors are [vectors][NB][VL]. */
struct layout_packed_forward {
    struct layout_weights of_input, of_state;
    size_t w_ih, w_hh, b_x, b_apart, vectors, bytes;
    bool overflowed;
};

static inline struct layout_packed_forward layout_packed_forward(const struct layout_shape *const s) {
    struct layout_packed_forward l = {0};
    struct layout_cursor cursor = {0};
    const int line = layout_line(s);
    const int64_t NB = block_count(s->units, s->vl);
    const bool has_tile = layout_has_tile(s->gates);
    l.of_input = layout_weights(s, s->projected.K, has_tile);
    l.of_state = layout_weights(s, s->units.K, has_tile && s->products == 0);
    l.w_ih = layout_take(&cursor, line, NB, l.of_input.block, 1, 1);
    l.w_hh = layout_take(&cursor, line, layout_has_state(s) ? NB : 0, l.of_state.block, 1, 1);
    l.b_x = layout_take(&cursor, line, NB, s->gates, s->vl, 1);
    l.b_apart = layout_take(&cursor, line, NB, layout_apart(s), 1, 1);
    l.vectors = layout_take(&cursor, line, layout_vectors(s), NB, s->vl, 1);
    l.bytes = layout_bytes(&cursor, s->real_bytes);
    l.overflowed = cursor.overflowed;
    return l;
}

/* The transposes for backward: w_ih [NI][G][H][VL] and w_hh [NB][gates that multiply h][K][VL], k running over gates in
 * slot order; the rows [NB][K][VL] of each second product, `product` reals apart; and vectors as above. K is H, or the
 * width of a head. */
struct layout_packed_backward {
    int64_t w_ih_block, w_hh_block, product_block; /* reals from one block to the next */
    size_t w_ih, w_hh, products, product, vectors, bytes;
    bool overflowed;
};

static inline struct layout_packed_backward layout_packed_backward(const struct layout_shape *const s) {
    struct layout_packed_backward l = {0};
    struct layout_cursor cursor = {0};
    const int line = layout_line(s);
    l.w_ih_block = layout_weight_block(s->inputs.K, s->gates, s->vl, line);
    l.w_hh_block = layout_weight_block(s->units.K, s->hidden_gates, s->vl, line);
    l.product_block = layout_weight_block(s->units.K, 1, s->vl, line);
    l.w_ih = layout_take(&cursor, line, block_count(s->inputs, s->vl), l.w_ih_block, 1, 1);
    l.w_hh = layout_take(&cursor, line, s->multiplies_h ? block_count(s->units, s->vl) : 0, l.w_hh_block, 1, 1);
    l.products = layout_take(&cursor, line, s->products, block_count(s->units, s->vl), l.product_block, 1);
    l.product = (size_t)block_count(s->units, s->vl) * (size_t)l.product_block;
    l.vectors = layout_take(&cursor, line, layout_vectors(s), block_count(s->units, s->vl), s->vl, 1);
    l.bytes = layout_bytes(&cursor, s->real_bytes);
    l.overflowed = cursor.overflowed;
    return l;
}

/* Reserve: an ordinary array (T, B, R). A row holds the saved vectors of the cell's table one after the other, each
 * padded to a multiple of LAYOUT_SAVED_UNITS units on every backend. */
enum { LAYOUT_SAVED_UNITS = 16 };
static inline int64_t layout_saved_units(const int64_t H) {
    return layout_blocks(H, LAYOUT_SAVED_UNITS) * LAYOUT_SAVED_UNITS;
}

/* The saved vectors of a row. */
static inline int layout_saved_vectors(const struct fastrnn_cell_table *const table) {
    int vectors = 0;
    for (int j = 0; j < table->saved_count; j++) {
        vectors += table->saved[j].per_unit;
    }
    return vectors;
}

/* R: reals in a row. */
static inline int64_t layout_reserve_row(const struct layout_shape *const s) {
    return layout_saved_vectors(s->table) * layout_saved_units(s->H);
}

static inline size_t layout_reserve_bytes(const struct layout_shape *const s, bool *const overflowed) {
    size_t bytes;
    *overflowed = __builtin_mul_overflow(s->T, s->B, &bytes);
    *overflowed |= __builtin_mul_overflow(bytes, (size_t)layout_saved_vectors(s->table), &bytes);
    *overflowed |= __builtin_mul_overflow(bytes, layout_saved_units(s->H), &bytes);
    *overflowed |= __builtin_mul_overflow(bytes, (size_t)s->real_bytes, &bytes);
    *overflowed |= bytes > (size_t)PTRDIFF_MAX / 4;
    return bytes;
}

/* The position of a row of the schedule in the sequence tensors. */
struct layout_place {
    int64_t t, b;
};

static inline int64_t layout_place_reals(const struct layout_shape *const s) {
    return (int64_t)sizeof(struct layout_place) / s->real_bytes;
}

/* What the phases of a program need in scratch; all empty for one phase without sums. Kept vectors are rows of units,
 * one for each sequence. Terms are [terms][segments][2][sums_row]: for each sequence the sum of a segment, and the
 * squares about its mean; the members of a group share them. A thread has its own totals [sums][2][heads][sums_row],
 * where `heads` is 1 unless there are sums of each head, followed by [LAYOUT_UNIFORM_MAX][sums_row] for values of a
 * phase that are the same for all units, and an interpreter for each phase. */
struct layout_crossing {
    size_t kept, kept_vector; /* kept_vector: reals from one vector to the next */
    size_t terms, totals, interpreters;
    int64_t sums_row, total_heads;
    size_t thread_totals, interpreter; /* reals of one thread; of one interpreter */
};

static inline struct layout_crossing layout_crossing(struct layout_cursor *const cursor,
                                                     const struct layout_shape *const s,
                                                     const struct cell_phases *const phases, const int64_t state_row) {
    const int line = layout_line(s);
    const int64_t segments = layout_segments(s->units);
    struct layout_crossing l = {0};
    l.kept = layout_take(cursor, line, phases->kept, s->sequences, state_row, 1);
    l.kept_vector = (size_t)s->sequences * (size_t)state_row;
    l.sums_row = layout_blocks(s->sequences, line) * line;
    l.terms = layout_take(cursor, line, phases->terms, segments, 2, l.sums_row);
    l.total_heads = phases->head_sums > 0 ? block_heads(s->units) : 1;
    const int64_t uniform = phases->sums > 0 ? LAYOUT_UNIFORM_MAX : 0;
    l.thread_totals = ((size_t)(2 * phases->sums) * (size_t)l.total_heads + (size_t)uniform) * (size_t)l.sums_row;
    l.totals = layout_take(cursor, line, s->threads, 2 * phases->sums, l.total_heads, l.sums_row);
    layout_take(cursor, line, s->threads, uniform, l.sums_row, 1);
    l.interpreter = s->interpreter_bytes / (size_t)s->real_bytes;
    l.interpreters = layout_take(cursor, line, s->threads, phases->count, (int64_t)l.interpreter, 1);
    return l;
}

/* Forward's scratch. State rows are sequences; x, gates and places are rows of the current chunk. Group g of the team
 * owns the chunk rows from  first sequence + g * chunk_rows  on. Each thread has a room for unpacked weights: biases
 * as in struct layout_packed_forward, and some packed blocks, for products of many rows. */
struct layout_forward_scratch {
    int64_t state_row, x_row, gates_row; /* reals in a row */
    int64_t chunk_rows;
    size_t h[2], states, x, gates, places, rooms, bytes; /* states: the cell's states after h, `state` reals apart */
    size_t state;                                        /* reals of one state */
    size_t room, room_b_apart, room_weights;             /* reals of a room, and offsets in it */
    int room_blocks;                                     /* packed blocks in a room */
    struct layout_crossing crossing;
    bool overflowed;
};

enum {
    LAYOUT_UNPACKED_ROWS = 8, /* products of at most so many rows transpose unpacked weights in registers */
    LAYOUT_ROOM_BLOCKS = 4,   /* blocks of one panel that make a tile */
};

/* The room of one thread. A block of several gates has enough panels for a tile. */
static inline void layout_room(struct layout_forward_scratch *const l, const struct layout_shape *const s,
                               const struct layout_packed_forward *const packed) {
    struct layout_cursor cursor = {0};
    const int line = layout_line(s);
    const int64_t NB = block_count(s->units, s->vl);
    const int64_t block =
        packed->of_input.block > packed->of_state.block ? packed->of_input.block : packed->of_state.block;
    l->room_blocks = s->gates == 1 ? LAYOUT_ROOM_BLOCKS : 1;
    layout_take(&cursor, line, NB, s->gates, s->vl, 1);
    l->room_b_apart = layout_take(&cursor, line, NB, layout_apart(s), 1, 1);
    l->room_weights = layout_take(&cursor, line, l->room_blocks, block, 1, 1);
    l->room = cursor.reals;
    l->overflowed |= cursor.overflowed;
}

static inline struct layout_forward_scratch layout_forward_scratch(const struct layout_shape *const s,
                                                                   const struct layout_packed_forward *const packed,
                                                                   const int groups) {
    struct layout_forward_scratch l = {0};
    struct layout_cursor cursor = {0};
    const int line = layout_line(s);
    l.state_row = layout_row(block_count(s->units, s->vl), s);
    l.x_row = layout_row(block_count(s->inputs, s->vl), s);
    l.gates_row = layout_row(block_count(s->units, s->vl) * s->gates, s);
    const int64_t fitting = LAYOUT_GATES_BYTES / s->real_bytes / l.gates_row;
    l.chunk_rows = fitting < LAYOUT_GATES_ROWS_MIN   ? LAYOUT_GATES_ROWS_MIN
                   : fitting > LAYOUT_GATES_ROWS_MAX ? LAYOUT_GATES_ROWS_MAX
                                                     : fitting;
    l.chunk_rows = l.chunk_rows < s->rows ? l.chunk_rows : s->rows;
    int64_t rows;
    cursor.overflowed |= __builtin_mul_overflow(l.chunk_rows, (int64_t)groups, &rows);
    cursor.overflowed |= __builtin_add_overflow(rows, s->sequences, &rows);
    l.h[0] = layout_take(&cursor, line, s->sequences, l.state_row, 1, 1);
    l.h[1] = layout_take(&cursor, line, s->sequences, l.state_row, 1, 1);
    l.state = l.h[1] - l.h[0];
    l.states = layout_take(&cursor, line, s->table->state_count - 1, s->sequences, l.state_row, 1);
    l.x = layout_take(&cursor, line, rows, l.x_row, 1, 1);
    l.gates = layout_take(&cursor, line, rows, l.gates_row, 1, 1);
    l.places = layout_take(&cursor, line, rows, layout_place_reals(s), 1, 1);
    if (s->rows > LAYOUT_UNPACKED_ROWS) {
        layout_room(&l, s, packed);
    }
    l.rooms = layout_take(&cursor, line, s->threads, (int64_t)l.room, 1, 1);
    l.crossing = layout_crossing(&cursor, s, &s->forward, l.state_row);
    l.bytes = layout_bytes(&cursor, s->real_bytes);
    l.overflowed |= cursor.overflowed;
    return l;
}

/* The check of a schedule needs one byte of scratch for each row that the schedule may visit, and then one for each
 * state that a sequence may start from or end in: nonzero once the schedule has named it. The caller has checked that
 * these numbers are below 2^62. */
static inline size_t layout_marks_bytes(const struct fastrnn_problem *const p) {
    if (!p->schedule) {
        return 0;
    }
    const int64_t rows = p->T * p->B, d_states = p->schedule->d_first ? p->schedule->d_states : 0;
    const int64_t states = d_states > p->schedule->states ? d_states : p->schedule->states;
    return (size_t)(rows > states ? rows : states);
}

/* The gradients of states between stages of backward: for each state two matrices of so many rows. A stage reads one
 * and writes the other. */
static inline size_t layout_region_bytes(const struct layout_shape *const s, const int64_t rows,
                                         bool *const overflowed) {
    struct layout_cursor cursor = {0};
    layout_take(&cursor, 1, 2 * s->table->state_count, rows, s->H, 1);
    const size_t bytes = rows ? layout_bytes(&cursor, s->real_bytes) : 0;
    *overflowed = cursor.overflowed;
    return bytes;
}

/* Backward's scratch. Gate gradients are [NB][slots][gradient_rows][VL]. The first `sequences` rows hold the last step
 * of the previous chunk, in the order of the sequences. x and h_prev are panels [NI or NB][chunk_rows][VL]; after
 * h_prev lie the vectors of second products, `h_prev_panels` reals apart. */
struct layout_backward_scratch {
    int64_t state_row;
    int64_t chunk_rows, gradient_rows;
    size_t states, gradients, x, h_prev, places, bytes; /* states: their gradients, `state` reals apart */
    size_t state, h_prev_panels;
    struct layout_crossing crossing;
    bool overflowed;
};

static inline struct layout_backward_scratch layout_backward_scratch(const struct layout_shape *const s) {
    struct layout_backward_scratch l = {0};
    struct layout_cursor cursor = {0};
    const int line = layout_line(s);
    l.state_row = layout_row(block_count(s->units, s->vl), s);
    l.chunk_rows = LAYOUT_GRADIENT_ROWS < s->rows ? LAYOUT_GRADIENT_ROWS : s->rows;
    l.chunk_rows = l.chunk_rows < s->sequences ? s->sequences : l.chunk_rows;
    cursor.overflowed |= __builtin_add_overflow(l.chunk_rows, s->sequences, &l.gradient_rows);
    l.gradient_rows |= 1; /* an odd distance between slots spreads them over the cache sets */
    l.states = layout_take(&cursor, line, s->table->state_count, s->sequences, l.state_row, 1);
    l.state = (size_t)s->sequences * (size_t)l.state_row;
    l.gradients = layout_take(&cursor, line, block_count(s->units, s->vl), s->slots, l.gradient_rows, s->vl);
    l.x = layout_take(&cursor, line, block_count(s->inputs, s->vl), l.chunk_rows, s->vl, 1);
    l.h_prev = layout_take(&cursor, line, block_count(s->units, s->vl), l.chunk_rows, s->vl, 1 + s->products);
    l.h_prev_panels = (size_t)block_count(s->units, s->vl) * (size_t)l.chunk_rows * (size_t)s->vl;
    l.places = layout_take(&cursor, line, l.gradient_rows, layout_place_reals(s), 1, 1);
    l.crossing = layout_crossing(&cursor, s, &s->backward, l.state_row);
    l.bytes = layout_bytes(&cursor, s->real_bytes);
    l.overflowed = cursor.overflowed;
    return l;
}

#endif
