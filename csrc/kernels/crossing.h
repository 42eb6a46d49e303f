/* Between the phases of a step: sums over units of vectors that the phases before have kept.
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

#include "spans.h"

enum { SUM_LANES = 16, SUM_VECTORS = SUM_LANES / VL, SEGMENT_BLOCKS = LAYOUT_SEGMENT / VL };
_Static_assert(SUM_LANES % VL == 0, "a segment's sums are whole vectors");

/* Sixteen sums, which start at +0: adding the zeros of padding changes no bit. */
struct lane_sums {
    vreal of[SUM_VECTORS];
};

static real tree_of(const struct lane_sums *const sums) {
    struct lane_sums s = *sums;
    UNROLL
    for (int n = SUM_VECTORS / 2; n > 0; n /= 2) {
        for (int j = 0; j < n; j++) {
            s.of[j] += s.of[j + n];
        }
    }
    real lanes[VL];
    vstore(lanes, s.of[0]);
    UNROLL
    for (int n = VL / 2; n > 0; n /= 2) {
        for (int lane = 0; lane < n; lane++) {
            lanes[lane] += lanes[lane + n];
        }
    }
    return lanes[0];
}

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

/* The segment that begins with block `number` of a row: its sum and, if asked, the squares about its mean. */
static void sum_segment(const struct blocks units, const int64_t number, const bool has_squares, const real *const row,
                        real *const sum, real *const squares) {
    const int count = segment_blocks(units, number);
    const struct block last = block_at(units, number + count - 1, VL);
    const real *const x = row + block_at(units, number, VL).at;
    struct lane_sums sums = {{vsplat(0)}}, of_squares = {{vsplat(0)}};
    for (int j = 0; j < count; j++) {
        sums.of[j % SUM_VECTORS] += without_padding(vload(x + j * VL), j == count - 1 ? last.lanes : (int)VL);
    }
    *sum = tree_of(&sums);
    if (has_squares) {
        const vreal mean = vsplat(*sum / (real)((count - 1) * VL + last.lanes));
        for (int j = 0; j < count; j++) {
            const vreal away = without_padding(vload(x + j * VL) - mean, j == count - 1 ? last.lanes : (int)VL);
            of_squares.of[j % SUM_VECTORS] = vfma(away, away, of_squares.of[j % SUM_VECTORS]);
        }
        *squares = tree_of(&of_squares);
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

static void sum_member_segments(const struct crossing *const c, const struct fastrnn_sum *const sum, const int first,
                                const struct team_range blocks, const int64_t rows) {
    for (int k = 0; k < sum->count; k++) {
        int64_t segment = segment_at(c->units, blocks.begin);
        for (int64_t number = blocks.begin; number < blocks.end; number += segment_blocks(c->units, number)) {
            const real *const x = c->kept + sum->kept[k] * c->kept_vector;
            real *const to = segment_of(c, first + k, segment++);
            for (int64_t row = 0; row < rows; row++) {
                sum_segment(c->units, number, sum->kind == FASTRNN_MOMENTS, x + row * c->kept_row, to + row,
                            to + c->sums_row + row);
            }
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

/* Makes the sums of a phase, for the rows of the step. Returns to all members of the group after the same barriers. */
static void cross_units(const struct crossing *const c, const struct team_member *const me,
                        const struct team_range blocks, const int phase, const int64_t rows) {
    bool crosses = false;
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
        cross_units(c, me, blocks, phase, rows);
        interpret_rows(&phases[phase], rows, blocks);
    }
}

#endif
