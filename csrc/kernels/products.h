/* Backward's large products: everything that is not recurrent, over all rows of a chunk of steps.
 *
 *     dx = slots w_ih      dw_ih += slots' x      dw_hh += slots' h_prev      db += sum of slots
 *
 * All threads share these products; each thread writes a part of the outputs. Rows lie in the order of visit, last step
 * first, and every sum over rows runs in this order.
 */
#ifndef FASTRNN_PRODUCTS_H
#define FASTRNN_PRODUCTS_H

#include "../threads/cut.h"
#include "gathers.h"
#include "weight_gradients.h"

struct input_gradient_job {
    const struct layout_place *place; /* place of each row */
    struct fastrnn_view dx;
    struct blocks inputs;
};

static void finish_input_gradient(const void *const job, const int R, const int Q, const vreal *const acc,
                                  const int64_t row, const int64_t block) {
    const struct input_gradient_job *const p = job;
    for (int r = 0; r < R; r++) {
        const struct layout_place place = p->place[row + r];
        real *const dx = (real *)p->dx.data + place.t * p->dx.stride_t + place.b * p->dx.stride_b;
        for (int q = 0; q < Q; q++) {
            const struct block to = block_at(p->inputs, block + q, VL);
            vstore_n(dx + to.first, acc[r * Q + q], to.lanes);
        }
    }
}

static void input_gradient(const struct backward_pass *const pass, const int64_t rows) {
    const struct blocks inputs = pass->plan->shape.inputs;
    const struct input_gradient_job job = {.place = pass->place, .dx = pass->arrays->dx, .inputs = inputs};
    const struct slot_product product = {
        .d = slots_from(pass, pass->cell->input_slot, pass->cell->gates, pass->all_sequences),
        .w = &pass->w_ih,
        .multiplies = true,
        .finish = finish_input_gradient,
        .job = &job,
    };
    const struct team_range all_rows = {0, rows}, all_blocks = {0, block_count(inputs, VL)};
    const bool by_rows = rows >= (int64_t)CUT_SEQUENCES * team_size(pass->me);
    struct team_parts parts = by_rows ? team_parts(pass->me, TEAM_DX, rows, CUT_PIECE_ROWS)
                                      : team_parts(pass->me, TEAM_DX, all_blocks.end, CUT_PIECE_BLOCKS);
    struct team_range part;
    while (team_next(&parts, &part)) {
        slot_product(&product, by_rows ? part : all_rows, by_rows ? all_blocks : part);
    }
}

/* Bytes of the panels of x that are multiplied at a time; they stay in a second-level cache of 1 MiB. Gate gradients
 * are read once for each strip, and dw is written in rows (benchmarks/kernels.py). */
enum { STRIP_BYTES = 512 << 10 };
static int64_t strip_panels(const int64_t rows) {
    const int64_t tiles = STRIP_BYTES / (rows * TILE_PANELS * VL * (int64_t)sizeof(real));
    return (tiles > 1 ? tiles : 1) * TILE_PANELS;
}

/* The gradients of a matrix and its bias, or of some gates' rows of both, from `gates` slots at first_slot. */
struct parameter_gradients {
    int first_slot, gates;
    const real *x;         /* panels of the matrix's operand */
    struct blocks units;   /* of the matrix's product: k runs over the columns */
    struct blocks columns; /* the panels; rows of the matrix have the columns of one head */
    real *dw, *db;         /* may be null */
};

/* Whether a short call stores its gradients past the caches, so that the weights, which the next call reads, stay in
 * the caches (docs/decisions/0010). */
static bool gradients_stream(const struct backward_chunk *const chunk, const struct parameter_gradients *const p) {
    const int64_t H = p->units.n, n = p->columns.width;
    const bool whole = n % VL == 0 && (uintptr_t)p->dw % VECTOR_BYTES == 0;
    const bool is_short = chunk->accumulation == FASTRNN_OVERWRITE && chunk->rows <= THIN_ROWS;
    return is_short && whole && lie_far(p->gates * H, n);
}

/* The panels of [begin, end) that the units of a block multiply: those of K numbers. May end before it begins. */
static struct team_range panels_of(const struct block *const block, const int64_t K, const int64_t begin,
                                   const int64_t end) {
    const int64_t first = block_from(block->k_at, VL), last = first + layout_blocks(K, VL);
    return (struct team_range){begin > first ? begin : first, end < last ? end : last};
}

/* dw [G*H, width] += slots' x for some unit blocks, where x are panels. Strips of x stay in cache while the gate rows
 * pass over them. */
static void weight_gradients(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                             const struct parameter_gradients *const p, const struct team_range units) {
    const struct gradient_slots d = slots_from(pass, p->first_slot, p->gates, pass->all_sequences);
    const int64_t panels = block_count(p->columns, VL), most = strip_panels(chunk->rows);
    const bool streams = gradients_stream(chunk, p);
    struct weight_gradient gradient = {
        .x = p->x,
        .accumulation = chunk->accumulation,
        .x_block = pass->plan->backward_scratch.chunk_rows * VL,
        .columns = p->columns,
        .K = chunk->rows,
        .streams = streams,
    };
    for (int64_t strip = 0; strip < panels; strip += most) {
        const int64_t strip_end = strip + most < panels ? strip + most : panels;
        for (int64_t number = units.begin; number < units.end; number++) {
            const struct block block = block_at(p->units, number, VL);
            const struct team_range multiplied = panels_of(&block, p->units.K, strip, strip_end);
            gradient.units = block.lanes;
            for (int slot = 0; multiplied.begin < multiplied.end && slot < d.gates; slot++) {
                const int64_t gate = pass->cell->slot_gate[p->first_slot + slot];
                gradient.d = d.data + number * d.block + slot * d.slot;
                gradient.dw = p->dw + (gate * p->units.n + block.first) * p->columns.width;
                weight_gradient_of_block(&gradient, multiplied);
            }
        }
    }
    if (streams) {
        vstream_end();
    }
}

static void bias_gradients(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                           const struct parameter_gradients *const p, const struct team_range units) {
    const struct gradient_slots d = slots_from(pass, p->first_slot, p->gates, pass->all_sequences);
    for (int64_t number = units.begin; number < units.end; number++) {
        const struct block block = block_at(p->units, number, VL);
        for (int slot = 0; slot < d.gates; slot++) {
            const int64_t gate = pass->cell->slot_gate[p->first_slot + slot];
            bias_gradient(d.data + number * d.block + slot * d.slot, chunk->rows,
                          p->db + gate * p->units.n + block.first, block.lanes, chunk->accumulation);
        }
    }
}

/* The sums of the vectors' slots over the chunk's rows, for a share of the blocks. */
static void vector_gradients(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct blocks units = pass->plan->shape.units;
    const struct team_range mine = share_of(units, pass->me);
    const struct gradient_slots d = slots_from(pass, pass->cell->slots, pass->cell->vectors, pass->all_sequences);
    for (int j = 0; j < pass->cell->vectors; j++) {
        real *const gradient = pass->arrays->gradients[CELL_VECTORS + j];
        for (int64_t number = mine.begin; gradient && number < mine.end; number++) {
            const struct block block = block_at(units, number, VL);
            bias_gradient(d.data + number * d.block + j * d.slot, chunk->rows, gradient + block.first, block.lanes,
                          chunk->accumulation);
        }
    }
}

/* The gradients of `count` matrices of the same units; a matrix with null gradients is left out. */
static void parameter_gradients(const struct backward_pass *const pass, const enum team_work work,
                                const struct backward_chunk *const chunk, const struct parameter_gradients *const p,
                                const int count) {
    const int64_t blocks = block_count(p->units, VL);
    struct team_parts parts = team_parts(pass->me, work, count * blocks, CUT_PIECE_BLOCKS);
    struct team_range part;
    while ((p->dw || p->db) && team_next(&parts, &part)) {
        while (part.begin < part.end) {
            const int64_t matrix = part.begin / blocks, first = matrix * blocks;
            const int64_t end = part.end < first + blocks ? part.end : first + blocks;
            const struct team_range units = {part.begin - first, end - first};
            if (p->dw) {
                weight_gradients(pass, chunk, &p[matrix], units);
            }
            if (p->db) {
                bias_gradients(pass, chunk, &p[matrix], units);
            }
            part.begin = end;
        }
    }
}

/* The gradients of the rows of w_hh and b_hh of a gate that multiplies nothing. */
static void clear_state_gradients(const struct backward_pass *const pass, const int gate, real *const dw,
                                  real *const db) {
    const int64_t H = pass->plan->shape.H, K = pass->plan->shape.units.K;
    const struct team_range rows = team_share(H, team_rank(pass->me), team_size(pass->me));
    const size_t count = (size_t)(rows.end - rows.begin);
    if (dw) {
        memset(dw + (gate * H + rows.begin) * K, 0, count * (size_t)K * sizeof(real));
    }
    if (db) {
        memset(db + gate * H + rows.begin, 0, count * sizeof(real));
    }
}

/* The gradients of w_hh and b_hh: of the product of h, and of second products. */
static void state_gradients(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                            const struct parameter_gradients *const of_h) {
    const struct cell_shape *const cell = pass->cell;
    struct parameter_gradients matrices[1 + FASTRNN_PRODUCTS_MAX];
    int count = 0;
    if (cell->multiplies_h) {
        matrices[count++] = *of_h;
    }
    for (int j = 0; j < cell->products; j++) {
        matrices[count] = *of_h;
        matrices[count].first_slot = cell->product[j].slot;
        matrices[count].gates = 1;
        matrices[count++].x += (size_t)(j + 1) * pass->plan->backward_scratch.h_prev_panels;
    }
    if (count > 0) {
        parameter_gradients(pass, TEAM_DW_STATE, chunk, matrices, count);
    }
    const unsigned multiplied = cell->multiplies_h ? (1U << cell->gates) - 1 : cell_product_gates(cell);
    for (int gate = 0; gate < cell->gates && chunk->accumulation == FASTRNN_OVERWRITE; gate++) {
        if (!(multiplied >> gate & 1)) {
            clear_state_gradients(pass, gate, of_h->dw, of_h->db);
        }
    }
}

/* Runs the products of a chunk: everything that is not recurrent. If the call was interrupted, returns false and does
 * nothing. */
static bool backward_multiply_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const struct layout_shape *const shape = &pass->plan->shape;
    void *const *const gradients = pass->arrays->gradients;
    const int recurrent = pass->plan->table->phases->parameter;
    const struct parameter_gradients of_input = {
        .first_slot = pass->cell->input_slot,
        .gates = pass->cell->gates,
        .x = pass->x,
        .units = shape->projected,
        .columns = shape->inputs,
        .dw = gradients[FASTRNN_W_IH],
        .db = gradients[FASTRNN_B_IH],
    };
    const struct parameter_gradients of_state = {
        .first_slot = pass->cell->hidden_slot,
        .gates = pass->cell->hidden_gates,
        .x = pass->h_before,
        .units = shape->units,
        .columns = shape->units,
        .dw = gradients[recurrent],
        .db = gradients[FASTRNN_B_HH],
    };
    const int64_t rows = chunk->rows;
    if (of_input.dw) {
        gather_panels(pass->arrays->x, pass->place, team_share(rows, team_rank(pass->me), team_size(pass->me)),
                      shape->inputs, pass->plan->backward_scratch.chunk_rows, pass->x);
    }
    if (of_state.dw) {
        gather_state_operands(pass, chunk);
    }
    team_wait(pass->me);
    if (problem->interrupted && team_has_given_up(pass->me)) {
        return false; /* nobody asks between this barrier and the next, so that all threads agree */
    }
    team_restart(pass->me, TEAM_SEQUENCES);
    if (pass->arrays->dx.data) {
        input_gradient(pass, rows);
    }
    parameter_gradients(pass, TEAM_DW_INPUT, chunk, &of_input, 1);
    state_gradients(pass, chunk, &of_state);
    vector_gradients(pass, chunk);
    team_wait(pass->me);
    return true;
}

#endif
