/* Between the phases of a step: second products, and sums over units of vectors that the phases before have kept.
 *
 * A segment of 64 units of a head: sum_l = x_l + x_(l+16) + x_(l+32) + x_(l+48) for 16 lanes l, then the tree of these
 * sums; of moments also the squares about the segment's mean, in the same order. A sum: its segments in ascending
 * order, vector after vector; the squares by Chan's formula.
 *
 * A member adds up its own segments, and after a barrier of the group all of the segments' sums; of a sum of each head,
 * the segments of its heads. The order does not depend on the members nor on VL. Padding counts as nothing.
 */
#ifndef FASTRNN_CROSSING_H
#define FASTRNN_CROSSING_H

#include "gemm.h"
#include "slot_product.h"
#include "spans.h"

enum { SUM_LANES = 16, SUM_VECTORS = SUM_LANES / VL, SEGMENT_BLOCKS = LAYOUT_SEGMENT / VL };
_Static_assert(SUM_LANES % VL == 0, "a segment's sums are whole vectors");

ALWAYS_INLINE vreal without_padding(const vreal v, const int lanes) {
    if (lanes == VL) {
        return v;
    }
    real copy[VL];
    vstore(copy, v);
    return vload_n(copy, lanes);
}

/* The blocks of the segment that begins with block `number`. */
static int segment_blocks(const struct blocks units, const int64_t number) {
    const int64_t all = block_count(units, VL), end = number + SEGMENT_BLOCKS;
    return (int)(block_run(units, number, end < all ? end : all, VL) - number);
}

/* A segment of a row: its blocks, and where its sum and, of moments, the squares about its mean go. */
struct segment {
    const real *x;
    real *sum, *squares;
};

/* Up to VL segments of the same blocks, which share the work of the trees. */
struct segment_batch {
    int blocks, last_lanes; /* of each segment */
    bool has_squares;
    int count;
    struct segment segments[VL];
};

/* The sums of a segment's lanes, or of the squares of their distances from `mean`, in one vector. */
ALWAYS_INLINE vreal lane_sums(const struct segment_batch *const batch, const real *const x, const bool of_squares,
                              const vreal mean) {
    vreal sums[SUM_VECTORS];
    for (int j = 0; j < SUM_VECTORS; j++) {
        sums[j] = vsplat(0); /* +0: adding the zeros of padding changes no bit */
    }
    for (int j = 0; j < batch->blocks; j++) {
        const int lanes = j == batch->blocks - 1 ? batch->last_lanes : (int)VL;
        vreal *const sum = &sums[j % SUM_VECTORS];
        if (of_squares) {
            const vreal away = without_padding(vload(x + j * VL) - mean, lanes);
            *sum = vfma(away, away, *sum);
        } else {
            *sum += without_padding(vload(x + j * VL), lanes);
        }
    }
    UNROLL
    for (int n = SUM_VECTORS / 2; n > 0; n /= 2) {
        for (int j = 0; j < n; j++) {
            sums[j] += sums[j + n];
        }
    }
    return sums[0];
}

/* totals[j] = the tree of vector j's lanes. */
static void trees_of(const real *const vectors, real *const totals) {
    vreal lanes[VL];
    transpose_square(vectors, VL, lanes);
    UNROLL
    for (int n = VL / 2; n > 0; n /= 2) {
        for (int lane = 0; lane < n; lane++) {
            lanes[lane] += lanes[lane + n];
        }
    }
    vstore(totals, lanes[0]);
}

static void sum_batch(struct segment_batch *const batch) {
    const real units = (real)((batch->blocks - 1) * VL + batch->last_lanes);
    real vectors[VL * VL] = {0}, totals[VL];
    for (int j = 0; j < batch->count; j++) {
        vstore(vectors + j * VL, lane_sums(batch, batch->segments[j].x, false, vsplat(0)));
    }
    trees_of(vectors, totals);
    for (int j = 0; j < batch->count; j++) {
        *batch->segments[j].sum = totals[j];
        if (batch->has_squares) {
            vstore(vectors + j * VL, lane_sums(batch, batch->segments[j].x, true, vsplat(totals[j] / units)));
        }
    }
    if (batch->has_squares) {
        trees_of(vectors, totals);
        for (int j = 0; j < batch->count; j++) {
            *batch->segments[j].squares = totals[j];
        }
    }
    batch->count = 0;
}

static void sum_later(struct segment_batch *const batch, const struct segment segment) {
    batch->segments[batch->count++] = segment;
    if (batch->count == VL) {
        sum_batch(batch);
    }
}

/* The number of the segment that begins with block `number`. */
static int64_t segment_at(const struct blocks units, const int64_t number) {
    const int64_t head = block_head(units, number, VL), segments = layout_blocks(units.width, LAYOUT_SEGMENT);
    return head * segments + (number - head * blocks_of_head(units, VL)) / SEGMENT_BLOCKS;
}

/* The sums of a segment of a term, by row; the squares follow. */
static real *segment_of(const struct crossing *const c, const int term, const int64_t segment) {
    return c->terms + (term * layout_segments(c->units) + segment) * 2 * c->sums_row;
}

/* For the segments that begin with block `number` of a row. */
static struct segment_batch batch_of(const struct crossing *const c, const int64_t number, const bool has_squares) {
    const int blocks = segment_blocks(c->units, number);
    const int lanes = block_at(c->units, number + blocks - 1, VL).lanes;
    return (struct segment_batch){.blocks = blocks, .last_lanes = lanes, .has_squares = has_squares};
}

static void sum_member_segments(const struct crossing *const c, const struct fastrnn_sum *const sum, const int first,
                                const struct team_range blocks, const int64_t rows) {
    for (int64_t number = blocks.begin; number < blocks.end; number += segment_blocks(c->units, number)) {
        struct segment_batch batch = batch_of(c, number, sum->kind == FASTRNN_MOMENTS);
        const int64_t segment = segment_at(c->units, number);
        for (int k = 0; k < sum->count; k++) {
            const real *const x = c->kept + sum->kept[k] * c->kept_vector + block_at(c->units, number, VL).at;
            real *const to = segment_of(c, first + k, segment);
            for (int64_t row = 0; row < rows; row++) {
                sum_later(&batch, (struct segment){x + row * c->kept_row, to + row, to + c->sums_row + row});
            }
        }
        if (batch.count > 0) {
            sum_batch(&batch);
        }
    }
}

/* Adds some segments of so many rows from `row` on: the sums and, of moments, the squares about the mean of all. */
static void add_segments(const struct crossing *const c, const struct fastrnn_sum *const sum, const int first,
                         const struct team_range segments, const int64_t row, const int lanes, real *const to) {
    vreal total = vsplat(0), squares = vsplat(0);
    int64_t n = 0;
    for (int k = 0; k < sum->count; k++) {
        for (int64_t number = segments.begin, unit = 0; number < segments.end; number++) {
            const int64_t left = c->units.width - unit, m = left < LAYOUT_SEGMENT ? left : (int64_t)LAYOUT_SEGMENT;
            const real *const segment = segment_of(c, first + k, number) + row;
            unit = m < left ? unit + m : 0;
            const vreal own = vload_n(segment, lanes);
            if (sum->kind == FASTRNN_MOMENTS) {
                squares += vload_n(segment + c->sums_row, lanes);
            }
            if (sum->kind == FASTRNN_MOMENTS && n > 0) {
                const vreal away = own / vsplat((real)m) - total / vsplat((real)n);
                squares += away * away * vsplat((real)((double)n * (double)m / (double)(n + m)));
            }
            total += own;
            n += m;
        }
    }
    vstore(to + row, sum->kind == FASTRNN_SUM ? total : total / vsplat((real)n));
    vstore(to + c->total_heads * c->sums_row + row, squares / vsplat((real)n));
}

/* The totals of a sum: of all units, or of each head that has some of the blocks. */
static void add_totals(const struct crossing *const c, const int j, const int first, const struct team_range blocks,
                       const int64_t rows) {
    const struct fastrnn_sum *const sum = &c->code->sums[j];
    const bool of_head = sum->extent == FASTRNN_SUM_OF_HEAD;
    const int64_t each = layout_segments(c->units) / (of_head ? block_heads(c->units) : 1);
    const int64_t begin = of_head ? block_head(c->units, blocks.begin, VL) : 0;
    const int64_t end = of_head ? block_head(c->units, blocks.end - 1, VL) + 1 : 1;
    for (int64_t head = begin; head < end; head++) {
        real *const to = c->totals + (2 * j * c->total_heads + head) * c->sums_row;
        for (int64_t row = 0; row < rows; row += VL) {
            const int lanes = rows - row < VL ? (int)(rows - row) : (int)VL;
            add_segments(c, sum, first, (struct team_range){head * each, (head + 1) * each}, row, lanes, to);
        }
    }
}

/* Makes the sums of a phase, for the rows of the step. All members of the group pass the same barriers. multiplies: the
 * phase has a second product. */
static void cross_units(const struct crossing *const c, const struct team_member *const me,
                        const struct team_range blocks, const int phase, const int64_t rows, const bool multiplies) {
    bool crosses = multiplies && !c->shares_heads;
    for (int j = 0, first = 0; j < c->code->sum_count; first += c->code->sums[j++].count) {
        if (c->code->sums[j].phase == phase) {
            sum_member_segments(c, &c->code->sums[j], first, blocks, rows);
            crosses |= c->code->sums[j].extent == FASTRNN_SUM_OF_UNITS || !c->shares_heads;
        }
    }
    if (crosses) {
        group_wait(me);
    }
    for (int j = 0, first = 0; j < c->code->sum_count; first += c->code->sums[j++].count) {
        if (c->code->sums[j].phase == phase && blocks.begin < blocks.end) {
            add_totals(c, j, first, blocks, rows);
        }
    }
}

/* The interpreters of a thread, in scratch. */
static struct interpreter *phases_in(real *const scratch, const struct layout_crossing *const layout, const int count,
                                     const struct team_member *const me) {
    const size_t first = (size_t)team_rank(me) * (size_t)count * layout->interpreter;
    return (struct interpreter *)(void *)(scratch + layout->interpreters + first);
}

/* Sets what crosses phases to the sequences from `begin` on. */
static void crossing_set_sequences(struct crossing *const c, real *const scratch,
                                   const struct layout_crossing *const layout, const int64_t begin) {
    c->kept = scratch + layout->kept + begin * c->kept_row;
    c->terms = scratch + layout->terms + begin;
}

/* Without its sequences. */
static struct crossing crossing_of(const struct layout_crossing *const layout, const struct fastrnn_code *const code,
                                   const struct layout_shape *const shape, const struct team_member *const me,
                                   const int64_t state_row, real *const totals) {
    return (struct crossing){
        .code = code,
        .units = shape->units,
        .shares_heads = layout_shares_heads(shape, me->members),
        .total_heads = layout->total_heads,
        .totals = totals,
        .kept_vector = (ptrdiff_t)layout->kept_vector,
        .kept_row = state_row,
        .sums_row = layout->sums_row,
        .uniform = 2 * code->sum_count * (ptrdiff_t)layout->total_heads * layout->sums_row,
    };
}

static void begin_step_of_phases(struct interpreter *const phases, const int count, const int64_t rows) {
    interpreter_begin_step(&phases[0], rows);
    for (int phase = 1; phase < count; phase++) {
        phases[phase].even = phases[0].even;
        phases[phase].even_before = phases[0].even_before;
    }
}

/* Runs the phases after the first, for a member's blocks and all rows of the step. */
static void run_later_phases(struct interpreter *const phases, const struct crossing *const c,
                             const struct team_member *const me, const struct team_range blocks, const int64_t rows) {
    for (int phase = 1; phase < c->code->phase_count; phase++) {
        const struct phase_product *const product = &phases[phase].product;
        cross_units(c, me, blocks, phase, rows, product->exists);
        run_uniform(&phases[phase], c, rows);
        if (product->exists && product->forward.finish) {
            unit_product(&product->forward, (struct team_range){0, rows}, blocks);
        } else if (product->exists) {
            slot_product(&product->backward, (struct team_range){0, rows}, blocks);
        } else {
            interpret_rows(&phases[phase], rows, blocks);
        }
    }
}

#endif
