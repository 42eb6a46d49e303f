/* The operands of w_hh in the large products of backward, gathered into panels: h before each step, and the vectors of
 * second products, which are computed again as products of vectors that backward has.
 */
#ifndef FASTRNN_GATHERS_H
#define FASTRNN_GATHERS_H

#include "backward_pass.h"

/* h before the steps of the chunk's rows: h of the previous step; at the first step, the sequence's starting state. */
static void gather_h_before(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = &pass->plan->problem;
    const struct blocks units = pass->plan->shape.units;
    const int64_t chunk_rows = pass->plan->backward_scratch.chunk_rows;
    const int operand = pass->plan->table->phases->operand;
    const real start = (real)pass->plan->table->states[operand].start;
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t active = schedule_active(problem, s);
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        real *const to = pass->h_before + row * VL;
        if (s > 0) {
            gather_panels(pass->h, pass->place + row + active, mine, units, chunk_rows, to);
        }
        for (int64_t i = mine.begin; s == 0 && i < mine.end; i++) {
            const struct schedule_origin origin = schedule_origin(problem, i);
            const real *const from = row_of_origin(&origin, pass->arrays->initial[operand], pass->h);
            gather_panel_row(from, start, units, chunk_rows, to + i * VL);
        }
        row += active;
    }
}

/* A vector that backward finds in tensors or in the reserve, at a row of the chunk. */
struct factor {
    struct fastrnn_const_view rows;
    bool is_before; /* of the step before, or of the states that the sequence starts from */
    struct fastrnn_const_view initial;
    real start;
};

static struct fastrnn_const_view view_of_saved(const struct backward_pass *const pass, const int vector) {
    const struct saved_rows *const saved = &pass->job.saved;
    return (struct fastrnn_const_view){saved->data + vector * saved->units, saved->B * saved->row, saved->row};
}

static struct factor factor_of(const struct backward_pass *const pass, const struct fastrnn_read *const read) {
    if (read->kind == FASTRNN_READ_Y) {
        return (struct factor){.rows = pass->y};
    }
    if (read->kind == FASTRNN_READ_SAVED) {
        return (struct factor){.rows = view_of_saved(pass, read->index)};
    }
    return (struct factor){
        .rows = read->index == pass->cell->output ? pass->y : view_of_saved(pass, pass->cell->saved_state[read->index]),
        .is_before = true,
        .initial = pass->arrays->initial[read->index],
        .start = (real)pass->plan->table->states[read->index].start,
    };
}

/* Null: the start value. before: the number of rows to the same sequence's row of the step before; 0: the first step.
 */
static const real *row_of_factor(const struct backward_pass *const pass, const struct factor *const factor,
                                 const int64_t row, const int64_t before, const int64_t sequence) {
    if (!factor->is_before || before > 0) {
        return row_of(factor->rows, pass->place[row + (factor->is_before ? before : 0)]);
    }
    const struct schedule_origin origin = schedule_origin(&pass->plan->problem, sequence);
    return row_of_origin(&origin, factor->initial, factor->rows);
}

/* The vectors of a second product, into panels. */
static void gather_operand(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                           const struct fastrnn_product *const product, real *const to) {
    const struct blocks units = pass->plan->shape.units;
    const int64_t panel = pass->plan->backward_scratch.chunk_rows;
    struct factor factors[FASTRNN_FACTORS_MAX];
    for (int j = 0; j < product->factor_count; j++) {
        factors[j] = factor_of(pass, &product->factors[j]);
    }
    int64_t first = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t active = schedule_active(&pass->plan->problem, s);
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        for (int64_t i = mine.begin; i < mine.end; i++) {
            const real *rows[FASTRNN_FACTORS_MAX];
            for (int j = 0; j < product->factor_count; j++) {
                rows[j] = row_of_factor(pass, &factors[j], first + i, s > 0 ? active : 0, i);
            }
            for (int64_t number = 0; number < block_count(units, VL); number++) {
                const struct block block = block_at(units, number, VL);
                vreal v = vsplat(1);
                for (int j = 0; j < product->factor_count; j++) {
                    const vreal factor =
                        rows[j] ? vload_n(rows[j] + block.first, block.lanes) : vsplat(factors[j].start);
                    v = j == 0 ? factor : v * factor;
                }
                vstore(to + block.at * panel + (first + i) * VL, v);
            }
        }
        first += active;
    }
}

/* Gathers the operands of w_hh: h before the steps, and the vectors of second products. */
static void gather_state_operands(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    if (pass->cell->multiplies_h) {
        gather_h_before(pass, chunk);
    }
    for (int j = 0; j < pass->cell->products; j++) {
        gather_operand(pass, chunk, &pass->plan->problem.program->products[j],
                       pass->h_before + (size_t)(j + 1) * pass->plan->backward_scratch.h_prev_panels);
    }
}

#endif
