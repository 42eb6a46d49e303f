/* Backward's large products: everything that is not recurrent, over all rows of a chunk of steps.
 *
 *     dx = slots w_ih      dw_ih += slots' x      dw_hh += slots' h_prev      db += sum of slots
 *
 * They are split over all threads by what they write; rows lie in the order of visit, last step first, and every sum
 * over them takes that order.
 */
#ifndef FASTRNN_PRODUCTS_H
#define FASTRNN_PRODUCTS_H

#include "step.h"
#include "weight_gradients.h"

/* Everything that one member's backward pass keeps. Chunk row 0 is row `sequences` of the gradient buffer; the rows
 * before it hold the step that the chunk before ended with, each sequence at its own number. Places count from chunk
 * row 0 and reach one step further back than the chunk. */
struct backward_pass {
    const struct cell *cell;
    const struct fastrnn_problem *problem;
    const struct fastrnn_backward_args *args;
    const struct team_member *me;
    int64_t all_sequences;
    struct team_range sequences, blocks;
    struct layout_backward_scratch layout;
    struct slot_weights w_ih, w_hh;
    real *dh, *dc; /* of this group */
    real *gradients, *x, *h_prev;
    struct layout_place *place;
    ptrdiff_t gradient_slot, gradient_block;
    int64_t reserve_row;
};

/* A chunk of steps [begin, end), visited from the last to the first. */
struct backward_chunk {
    int64_t begin, end;
    int64_t rows;
    int64_t offset;                         /* of step `end` in the schedule */
    enum fastrnn_accumulation accumulation; /* of the call for its first chunk; later ones add */
};

static struct gradient_slots slots_from(const struct backward_pass *const pass, const int first_slot,
                                        const int64_t first_row) {
    return (struct gradient_slots){
        .data = pass->gradients + first_slot * pass->gradient_slot + first_row * VL,
        .gates = pass->cell->gates,
        .H = pass->problem->H,
        .block = pass->gradient_block,
        .slot = pass->gradient_slot,
    };
}

/* h_prev of the chunk's rows: y one step earlier; at the first step, what the sequence starts from. */
static void gather_h_prev(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_problem *const problem = pass->problem;
    int64_t row = 0;
    for (int64_t s = chunk->end - 1; s >= chunk->begin; s--) {
        const int64_t active = schedule_active(problem, s);
        const struct team_range mine = team_share(active, team_rank(pass->me), team_size(pass->me));
        real *const to = pass->h_prev + row * VL;
        if (s > 0) {
            gather_panels(pass->args->y, pass->place + row + active, mine, problem->H, pass->layout.chunk_rows, to);
        }
        for (int64_t i = mine.begin; s == 0 && i < mine.end; i++) {
            const struct schedule_origin origin = schedule_origin(problem, i);
            const real *const from = row_of_origin(&origin, pass->args->h0, pass->args->y);
            gather_panel_row(from, problem->H, pass->layout.chunk_rows, to + i * VL);
        }
        row += active;
    }
}

struct input_gradient_job {
    const struct layout_place *place; /* of each row */
    struct fastrnn_view dx;
    int64_t I;
};

static void finish_input_gradient(const void *const job, const int R, const int Q, const vreal *const acc,
                                  const int64_t row, const int64_t block) {
    const struct input_gradient_job *const p = job;
    for (int r = 0; r < R; r++) {
        const struct layout_place place = p->place[row + r];
        real *const dx = (real *)p->dx.data + place.t * p->dx.stride_t + place.b * p->dx.stride_b;
        for (int q = 0; q < Q; q++) {
            vstore_n(dx + (block + q) * VL, acc[r * Q + q], lanes_of_block(block + q, p->I));
        }
    }
}

static void input_gradient(const struct backward_pass *const pass, const int64_t rows) {
    const struct input_gradient_job job = {.place = pass->place, .dx = pass->args->dx, .I = pass->problem->I};
    const struct slot_product product = {
        .d = slots_from(pass, pass->cell->input_slot, pass->all_sequences),
        .w = &pass->w_ih,
        .multiplies = true,
        .finish = finish_input_gradient,
        .job = &job,
    };
    const int rank = team_rank(pass->me), size = team_size(pass->me);
    const struct team_range all_rows = {0, rows}, all_blocks = {0, layout_blocks(pass->problem->I, VL)};
    if (rows >= (int64_t)TEAM_ROWS * size) {
        slot_product(&product, team_share(rows, rank, size), all_blocks);
    } else {
        slot_product(&product, all_rows, team_share(all_blocks.end, rank, size));
    }
}

/* Panels of x that are passed over at a time, so many bytes of them, which a second-level cache of 1 MiB keeps: gate
 * gradients pass once for all of them, and dw is written in rows. LSTM, one thread, weight gradients, GFLOP/s, with a
 * tile's panels at a time and with these: T=50, B=64, H=1024 95 and 103; T=35, B=20, H=1500 88 and 101; T=8, B=64,
 * H=2048 87 and 104. */
enum { STRIP_BYTES = 512 << 10 };
static int64_t strip_panels(const int64_t rows) {
    const int64_t tiles = STRIP_BYTES / (rows * TILE_PANELS * VL * (int64_t)sizeof(real));
    return (tiles > 1 ? tiles : 1) * TILE_PANELS;
}

/* Whether a short call's gradients are stored past the caches, which they would fill: what the next call reads, the
 * weights and their copies, stays there. Training at T=1, B=1, H=512, two threads (with prefetch_square): LSTM 3.1 to
 * 1.5 ms, GRU 2.2 to 1.0. */
static bool gradients_stream(const struct backward_pass *const pass, const struct backward_chunk *const chunk,
                             const int64_t n, const real *const dw) {
    const bool whole = n % VL == 0 && (uintptr_t)dw % VECTOR_BYTES == 0;
    const bool is_short = !pass->w_hh.packed && chunk->accumulation == FASTRNN_OVERWRITE && chunk->rows <= THIN_ROWS;
    return is_short && whole && lie_far(pass->cell->gates * pass->problem->H, n);
}

/* dw [G*H, n] += slots' x, where x are panels. Strips of x stay in cache while all gate rows pass over them. */
static void weight_gradients(const struct backward_pass *const pass, const int first_slot, const real *const x,
                             const int64_t n, const struct backward_chunk *const chunk, real *const dw) {
    const struct cell *const cell = pass->cell;
    const struct team_range units =
        team_share(layout_blocks(pass->problem->H, VL), team_rank(pass->me), team_size(pass->me));
    const struct gradient_slots d = slots_from(pass, first_slot, pass->all_sequences);
    const int64_t panels = layout_blocks(n, VL), most = strip_panels(chunk->rows);
    const bool streams = gradients_stream(pass, chunk, n, dw);
    for (int64_t strip = 0; strip < panels; strip += most) {
        const int64_t strip_end = strip + most < panels ? strip + most : panels;
        for (int64_t at = units.begin * cell->gates; at < units.end * cell->gates; at++) {
            const int64_t block = at / cell->gates, slot = at % cell->gates;
            const int64_t H = pass->problem->H;
            const struct weight_gradient gradient = {
                .d = d.data + block * d.block + slot * d.slot,
                .x = x,
                .dw = dw + (cell->slot_gate[first_slot + slot] * H + block * VL) * n,
                .units = lanes_of_block(block, H),
                .accumulation = chunk->accumulation,
                .x_block = pass->layout.chunk_rows * VL,
                .N = n,
                .K = chunk->rows,
                .streams = streams,
            };
            weight_gradient_of_block(&gradient, (struct team_range){strip, strip_end});
        }
    }
    if (streams) {
        vstream_end();
    }
}

static void bias_gradients(const struct backward_pass *const pass, const int first_slot,
                           const struct backward_chunk *const chunk, real *const db) {
    const int64_t H = pass->problem->H;
    const struct team_range units = team_share(layout_blocks(H, VL), team_rank(pass->me), team_size(pass->me));
    const struct gradient_slots d = slots_from(pass, first_slot, pass->all_sequences);
    for (int64_t block = units.begin; block < units.end; block++) {
        for (int slot = 0; slot < d.gates; slot++) {
            const int64_t gate = pass->cell->slot_gate[first_slot + slot];
            bias_gradient(d.data + block * d.block + slot * d.slot, chunk->rows, db + gate * H + block * VL,
                          lanes_of_block(block, H), chunk->accumulation);
        }
    }
}

/* The products of a chunk: everything that is not recurrent. False, and nothing done, if the call is given up. */
static bool multiply_chunk(const struct backward_pass *const pass, const struct backward_chunk *const chunk) {
    const struct fastrnn_backward_args *const args = pass->args;
    const struct cell *const cell = pass->cell;
    const int64_t rows = chunk->rows;
    if (args->d.w_ih) {
        gather_panels(args->x, pass->place, team_share(rows, team_rank(pass->me), team_size(pass->me)),
                      pass->problem->I, pass->layout.chunk_rows, pass->x);
    }
    if (args->d.w_hh) {
        gather_h_prev(pass, chunk);
    }
    team_wait(pass->me);
    if (pass->problem->interrupted && team_has_given_up(pass->me)) {
        return false; /* nobody asks between this barrier and the next, so that all threads agree */
    }
    if (args->dx.data) {
        input_gradient(pass, rows);
    }
    if (args->d.w_ih) {
        weight_gradients(pass, cell->input_slot, pass->x, pass->problem->I, chunk, args->d.w_ih);
    }
    if (args->d.w_hh) {
        weight_gradients(pass, cell->hidden_slot, pass->h_prev, pass->problem->H, chunk, args->d.w_hh);
    }
    if (args->d.b_ih) {
        bias_gradients(pass, cell->input_slot, chunk, args->d.b_ih);
    }
    if (args->d.b_hh) {
        bias_gradients(pass, cell->hidden_slot, chunk, args->d.b_hh);
    }
    team_wait(pass->me);
    return true;
}

#endif
