/* Programs run on the rows and blocks of a finished product, a span of n vectors at a time: rows of one block, or
 * blocks of one row. A span uses a far operand in place if its rows lie at equal distances and its blocks are whole and
 * have no gaps between them; otherwise the span has a copy.
 */
#ifndef FASTRNN_SPANS_H
#define FASTRNN_SPANS_H

#include "phase_code.h"

/* ---- rows ---- */

static struct even_rows even_rows(const struct layout_place *const place, const int64_t n) {
    struct even_rows rows = {.are_even = true};
    if (n > 1) {
        rows.t = place[1].t - place[0].t;
        rows.b = place[1].b - place[0].b;
    }
    for (int64_t j = 2; j < n && rows.are_even; j++) {
        rows.are_even = place[j].t - place[j - 1].t == rows.t && place[j].b - place[j - 1].b == rows.b;
    }
    return rows;
}

/* At every step, once its places are set. n: rows of the step. */
static void interpreter_begin_step(struct interpreter *const p, const int64_t n) {
    p->even = even_rows(*p->place, n);
    if (p->place_before) {
        p->even_before = *p->place_before ? even_rows(*p->place_before, n) : (struct even_rows){.are_even = false};
    }
}

/* ---- far operands ---- */

/* Vector j of the span lies in this row and block. */
ALWAYS_INLINE int64_t row_in_span(const struct span *const s, const int j) {
    return s->row + (s->along_blocks ? 0 : j);
}
ALWAYS_INLINE struct block block_in_span(const struct interpreter *const p, const struct span *const s, const int j) {
    return block_at(p->units, s->number + (s->along_blocks ? j : 0), VL);
}

ALWAYS_INLINE real *far_row(const struct far_operand *const far, const struct layout_place place) {
    return far->data + place.t * far->stride_t + place.b * far->stride_b;
}

static void load_copy(const struct interpreter *const p, const struct far_operand *const far,
                      const struct layout_place *const place, const struct span *const s, real *const copy) {
    for (int j = 0; j < s->n; j++) {
        const real *const row = far_row(far, place[row_in_span(s, j)]);
        const struct block block = block_in_span(p, s, j);
        const vreal v =
            far->is_column ? vsplat(*row) : vload_n(row + block.first, far->is_whole ? (int)VL : block.lanes);
        vstore(copy + j * VL, v);
    }
}

static void store_copy(const struct interpreter *const p, const struct far_operand *const far,
                       const struct span *const s, const struct span_operand from) {
    for (int j = 0; j < s->n; j++) {
        real *const row = far_row(far, (*p->place)[row_in_span(s, j)]);
        const struct block block = block_in_span(p, s, j);
        vstore_n(row + block.first, vload(from.at + j * from.step), far->is_whole ? (int)VL : block.lanes);
    }
}

static void bind_far(struct interpreter *const p, const struct far_operand *const far, const struct span *const s) {
    const bool is_before = far->state != NONE;
    const struct layout_place *const place = is_before ? *p->place_before : *p->place;
    const struct even_rows *const even = is_before ? &p->even_before : &p->even;
    const bool is_gapless = !p->is_padded || !s->along_blocks || s->n == 1;
    const bool are_whole = far->is_whole || (is_gapless && block_in_span(p, s, s->n - 1).lanes == VL);
    const bool are_even = even->are_even || (far->stride_t == 0 && far->stride_b == 0);
    if (place && are_whole && !far->is_column && (s->along_blocks || are_even)) {
        const ptrdiff_t step = even->t * far->stride_t + even->b * far->stride_b;
        const struct block block = block_in_span(p, s, 0);
        real *const at = far_row(far, place[s->row]) + (far->is_packed ? block.at : block.first);
        p->operands[far->operand] = (struct span_operand){at, s->along_blocks ? (ptrdiff_t)VL : step};
        return;
    }
    real *const copy = line_of(p, far->line);
    p->operands[far->operand] = (struct span_operand){copy, VL};
    if (!place) {
        p->load_starting(p->job, far, s, copy);
    } else if (far->is_read) {
        load_copy(p, far, place, s, copy);
    }
}

/* ---- spans ---- */

ALWAYS_INLINE struct span_operand near_in_span(const struct near_operand *const near, const struct span *const s) {
    real *const at = *near->base + near->offset + s->row * near->row + s->number * near->block;
    return (struct span_operand){at, s->along_blocks ? near->block : near->row};
}

static void bind_total(struct interpreter *const p, const struct total_operand *const total,
                       const struct span *const s) {
    real *const copy = line_of(p, total->line);
    const real *const from = *total->base + total->offset + s->row;
    const bool is_constant = s->along_blocks && total->head_step == 0;
    for (int j = 0; j < (is_constant ? 1 : s->n); j++) {
        const int64_t head = total->head_step ? block_head(p->units, s->number + (s->along_blocks ? j : 0), VL) : 0;
        vstore(copy + j * VL, vsplat(from[head * total->head_step + (s->along_blocks ? 0 : j)]));
    }
    p->operands[total->operand] = (struct span_operand){copy, is_constant ? 0 : (ptrdiff_t)VL};
}

/* acc: the accumulators of the span's first vector; a row and a block on, they lie so many reals further. */
static void interpret_span(struct interpreter *const p, const struct span *const s, const vreal *const acc,
                           const ptrdiff_t acc_row, const ptrdiff_t acc_block) {
    for (int j = 0; j < p->accumulator_count; j++) {
        p->operands[p->accumulators[j].operand] =
            (struct span_operand){(real *)(acc + p->accumulators[j].gate), s->along_blocks ? acc_block : acc_row};
    }
    for (int j = 0; j < p->near_count; j++) {
        p->operands[p->near[j].operand] = near_in_span(&p->near[j], s);
    }
    for (int j = 0; j < p->far_count; j++) {
        bind_far(p, &p->far[j], s);
    }
    for (int j = 0; j < p->total_count; j++) {
        bind_total(p, &p->totals[j], s);
    }
    run_span(p->code, p->instruction_count, p->operands, s->n);
    for (int j = 0; j < p->late_count; j++) {
        const struct span_operand from = p->operands[p->late[j].operand], to = near_in_span(&p->late[j], s);
        for (int k = 0; k < s->n; k++) {
            vstore(to.at + k * to.step, vload(from.at + k * from.step));
        }
    }
    for (int j = 0; j < p->far_count; j++) {
        const struct span_operand *const operand = &p->operands[p->far[j].operand];
        if (!p->far[j].is_read && operand->at == line_of(p, p->far[j].line)) {
            store_copy(p, &p->far[j], s, *operand);
        }
    }
    for (int j = 0; j < p->copy_count; j++) {
        store_copy(p, &p->copies[j], s, p->operands[p->copies[j].operand]);
    }
}

/* Runs the program on R rows and Q blocks. acc[(r*Q + q)*panels + g] are their accumulators. */
static void interpret_product(struct interpreter *const p, const int R, const int Q, const vreal *const acc,
                              const int64_t row, const int64_t number) {
    const bool along_blocks = Q > R;
    const int spans = along_blocks ? R : Q, vectors = along_blocks ? Q : R;
    for (int span = 0; span < spans; span++) {
        for (int first = 0; first < vectors; first += p->length) {
            const int r = along_blocks ? span : first, q = along_blocks ? first : span, left = vectors - first;
            const struct span s = {row + r, number + q, left < p->length ? left : p->length, along_blocks};
            interpret_span(p, &s, acc + (r * Q + q) * p->panels, (ptrdiff_t)Q * p->panels * VL,
                           (ptrdiff_t)p->panels * VL);
        }
    }
}

/* Applies the program of a later phase to its second product. */
static void finish_phase(const void *const job, const int R, const int Q, const vreal *const acc, const int64_t row,
                         const int64_t block) {
    interpret_product(((const struct phase_product *)job)->interpreter, R, Q, acc, row, block);
}

/* Runs a phase without accumulators. */
static void interpret_rows(struct interpreter *const p, const int64_t rows, const struct team_range blocks) {
    enum { ROWS = 1024 }; /* at a time */
    for (int64_t row = 0; row < rows; row += ROWS) {
        const int R = rows - row < ROWS ? (int)(rows - row) : (int)ROWS;
        interpret_product(p, R, (int)(blocks.end - blocks.begin), &p->zero, row, blocks.begin);
    }
}

#endif
