/* Linear recurrences, h[t] = a[t] h[t-1] + b[t], and their gradients.
 *
 * A lane is one recurrence: a (b, h) pair. Threads share the lanes. Strips of neighbouring lanes go through all steps,
 * one after the other. Each state is one vfma of its lane, so no result depends on strips, threads or strides.
 * A state that starts anew is b itself: a and the earlier state do not count there, even if they are infinite or NaN.
 *
 * Backward: g[t] = dh[t] + a[t+1] g[t+1] is the same recurrence in the other direction; db = g, da[t] = g[t] h[t-1].
 */
#ifndef FASTRNN_LINEAR_H
#define FASTRNN_LINEAR_H

#include "linear_steps.h"

/* The lanes of a call: rows of neighbouring lanes. */
struct linear_lanes {
    const struct fastrnn_linear *given;
    int64_t rows, lanes;
    enum linear_conditions conditions;
};

static bool is_merged(const struct fastrnn_linear *const p, const ptrdiff_t stride_b, const ptrdiff_t stride_h) {
    return p->B == 1 || p->H == 1 || stride_b == p->H * stride_h;
}

#define IS_MERGED(tensor) (!given->tensor.data || is_merged(given, given->tensor.stride_b, given->tensor.stride_h))

static struct linear_lanes linear_lanes(const struct fastrnn_linear *const given) {
    const bool are_merged = IS_MERGED(a) && IS_MERGED(b) && IS_MERGED(h0) && IS_MERGED(h) && IS_MERGED(dh) &&
                            IS_MERGED(da) && IS_MERGED(db) && IS_MERGED(dh0);
    const bool by_sequence = given->lengths || given->resets;
    const bool by_lane = by_sequence && given->H == 1 && given->B > 1 && given->T <= LINEAR_STEPS_MAX;
    const bool one_row = by_lane || (!by_sequence && are_merged);
    return (struct linear_lanes){
        .given = given,
        .rows = one_row ? 1 : given->B,
        .lanes = one_row ? given->B * given->H : given->H,
        .conditions = by_lane ? LINEAR_BY_LANE : LINEAR_BY_ROW,
    };
}
#undef IS_MERGED

/* A strip of a call: `lanes` lanes of a row from lane `first` on. */
struct linear_place {
    const struct linear_lanes *of;
    int64_t row, first;
};

/* Where the place's first lane lies, and the distance of lanes. */
static ptrdiff_t lane_stride(const struct linear_place *const at, const ptrdiff_t stride_b, const ptrdiff_t stride_h) {
    return at->of->given->H == 1 ? stride_b : stride_h;
}

static ptrdiff_t first_lane(const struct linear_place *const at, const ptrdiff_t stride_b, const ptrdiff_t stride_h) {
    return (at->of->rows > 1 ? at->row * stride_b : 0) +
           (at->of->rows > 1 && at->of->given->H == 1 ? 0 : at->first * lane_stride(at, stride_b, stride_h));
}

static struct linear_source source_at(const struct linear_place *const at, const struct fastrnn_const_tensor from) {
    const real *const data = from.data;
    return (struct linear_source){data ? data + first_lane(at, from.stride_b, from.stride_h) : NULL, from.stride_t,
                                  lane_stride(at, from.stride_b, from.stride_h)};
}

static struct linear_target target_at(const struct linear_place *const at, const struct fastrnn_tensor to) {
    real *const data = to.data;
    return (struct linear_target){data ? data + first_lane(at, to.stride_b, to.stride_h) : NULL, to.stride_t,
                                  lane_stride(at, to.stride_b, to.stride_h)};
}

static struct linear_source as_source(const struct linear_target t) {
    return (struct linear_source){t.data, t.step, t.lane};
}

static int lanes_of(const struct linear_strip *const strip) { return (strip->vectors - 1) * VL + strip->tail; }

/* Sets the lengths of the strip's lanes, and its longest and shortest. */
static void set_lengths(struct linear_strip *const strip, const int64_t *const lengths, const int64_t T,
                        struct linear_carry *const carry) {
    const int lanes = lanes_of(strip);
    strip->length = strip->shortest = lengths ? lengths[0] : T;
    if (strip->conditions == LINEAR_BY_ROW) {
        return;
    }
    for (int j = 0; j < strip->vectors * VL; j++) {
        const int64_t length = j >= lanes ? 0 : lengths ? lengths[j] : T;
        carry->lengths[j / VL][j % VL] = (integer)length;
        if (j < lanes) {
            strip->length = length > strip->length ? length : strip->length;
            strip->shortest = length < strip->shortest ? length : strip->shortest;
        }
    }
}

/* The strip of forward. */
static struct linear_strip linear_strip(const struct linear_place *const at, const int lanes,
                                        struct linear_carry *const carry) {
    const struct fastrnn_linear *const given = at->of->given;
    const int64_t sequence = at->of->conditions == LINEAR_BY_LANE ? at->first : at->row;
    struct linear_strip strip = {
        .a = source_at(at, given->a),
        .b = source_at(at, given->b),
        .h = target_at(at, given->h),
        .h0 = source_at(at, given->h0),
        .direction = given->direction == FASTRNN_FROM_FIRST_STEP ? 1 : -1,
        .vectors = (lanes + VL - 1) / VL,
        .tail = (lanes - 1) % VL + 1,
        .resets = given->resets ? given->resets + sequence * given->resets_stride_b : NULL,
        .resets_step = given->resets_stride_t,
        .resets_lane = given->resets_stride_b,
        .conditions = at->of->conditions,
    };
    set_lengths(&strip, given->lengths ? given->lengths + sequence : NULL, given->T, carry);
    return strip;
}

static void load_states(const struct linear_strip *const strip, struct linear_carry *const carry) {
    for (int v = 0; v < strip->vectors; v++) {
        const real *const h0 = strip->h0.data;
        carry->states[v] = h0 ? load_lanes(h0 + v * VL * strip->h0.lane, strip->h0.lane, strip->tail) : (vreal){0};
    }
}

static int64_t span_steps(const struct linear_strip *const strip) {
    const int steps = LINEAR_SPAN_BYTES / (strip->vectors * VECTOR_BYTES);
    return steps > LINEAR_SPAN_STEPS ? steps : LINEAR_SPAN_STEPS;
}

static bool gives_up(const struct team_member *const me, const struct team_looks *const looks) {
    if (looks->interrupted) {
        take_look(me, looks);
    }
    return team_has_given_up(me);
}

/* The next span of positions; false after the last one, and if the call stops. */
static bool next_span(const struct linear_strip *const strip, const struct team_member *const me,
                      const struct team_looks *const looks, struct team_range *const span) {
    const int64_t begin = span->end, end = begin + span_steps(strip);
    *span = (struct team_range){begin, end < strip->length ? end : strip->length};
    return begin < strip->length && (begin == 0 || !gives_up(me, looks));
}

static void strip_forward(const struct linear_strip *const strip, const struct team_member *const me,
                          const struct team_looks *const looks, struct linear_carry *const carry) {
    struct team_range span = {0, 0};
    load_states(strip, carry);
    while (next_span(strip, me, looks, &span)) {
        recur(strip, span, carry);
    }
}

/* The gradients of the initial states: a g of each lane's first step, zero if it has none or starts anew. */
static void initial_gradients(const struct linear_strip *const strip, const struct linear_source *const g,
                              const struct linear_target *const dh0, const struct linear_carry *const carry) {
    const int lanes = lanes_of(strip);
    for (int j = 0; j < lanes; j++) {
        const bool by_lane = strip->conditions == LINEAR_BY_LANE;
        const int64_t length = by_lane ? carry->lengths[j / VL][j % VL] : strip->length;
        const int64_t t = strip->direction > 0 ? 0 : length - 1;
        const unsigned char *const reset = strip->direction > 0 ? strip->resets : NULL;
        const bool passes = length > 0 && strip->h0.data && !(reset && reset[by_lane ? j * strip->resets_lane : 0]);
        dh0->data[j * dh0->lane] =
            passes ? strip->a.data[t * strip->a.step + j * strip->a.lane] * g->data[t * g->step + j * g->lane] : 0;
    }
}

static void strip_backward(const struct linear_place *const at, const struct linear_strip *const strip,
                           const struct team_member *const me, const struct team_looks *const looks,
                           struct linear_carry *const carry) {
    const struct fastrnn_linear *const given = at->of->given;
    const struct linear_target da = target_at(at, given->da), dh0 = target_at(at, given->dh0);
    struct linear_strip back = *strip;
    back.b = source_at(at, given->dh);
    back.h = target_at(at, given->db);
    back.h0.data = NULL;
    back.a_shift = strip->direction;
    back.direction = -strip->direction;
    const struct linear_source g = as_source(back.h);
    struct team_range span = {0, 0};
    while (next_span(&back, me, looks, &span)) {
        recur(&back, span, carry);
        const int64_t one = step_at(&back, span.begin), other = step_at(&back, span.end - 1);
        if (da.data) {
            multiply(strip, (struct team_range){one < other ? one : other, (one < other ? other : one) + 1}, g, da,
                     carry);
        }
    }
    if (dh0.data && !team_has_given_up(me)) {
        initial_gradients(strip, &g, &dh0, carry);
    }
}

/* The most vectors of a strip: one where the steps of a lane are closer than neighbouring lanes, since a strip then
 * reads a cache line of each lane in several steps, and the lines of many lanes would displace each other. */
static int most_vectors(const struct linear_place *const at, const enum fastrnn_linear_pass pass) {
    const struct fastrnn_linear *const given = at->of->given;
    const struct linear_source b = source_at(at, pass == FASTRNN_LINEAR_FORWARD ? given->b : given->dh);
    const ptrdiff_t step = b.step < 0 ? -b.step : b.step, lane = b.lane < 0 ? -b.lane : b.lane;
    return step < lane ? 1 : LINEAR_VECTORS;
}

/* The lanes of the next strip out of `left` neighbours. Few vectors stay in registers; a rest of fewer lanes than a
 * vector has is a strip of its own, so that all others are whole vectors. */
static int strip_lanes(const int64_t left, const int most) {
    const int64_t vectors = left / VL;
    const int64_t whole = vectors > most ? most : vectors == 3 ? 2 : vectors;
    return whole == 0 ? (int)left : (int)whole * VL;
}

/* The lanes of a row from `at` to `end`. */
static void run_row(struct linear_place at, const int64_t end, const struct team_member *const me,
                    const struct team_looks *const looks, const enum fastrnn_linear_pass pass) {
    const int most = most_vectors(&at, pass);
    struct linear_carry carry;
    while (at.first < end) {
        const int lanes = strip_lanes(end - at.first, most);
        const struct linear_strip strip = linear_strip(&at, lanes, &carry);
        if (pass == FASTRNN_LINEAR_FORWARD) {
            strip_forward(&strip, me, looks, &carry);
        } else {
            strip_backward(&at, &strip, me, looks, &carry);
        }
        at.first += lanes;
    }
}

/* The member's share of the lanes. */
static void run_linear_share(const struct fastrnn_linear *const given, const enum fastrnn_linear_pass pass,
                             const struct team_member *const me) {
    const struct linear_lanes of = linear_lanes(given);
    const struct team_looks looks = team_looks(given->interrupted, 0);
    const int64_t lines = (of.lanes + LINEAR_LINE_LANES - 1) / LINEAR_LINE_LANES;
    const struct team_range share = team_share(of.rows * lines, team_rank(me), team_size(me));
    for (int64_t line = share.begin; line < share.end;) {
        const int64_t of_row = line % lines, in_row = lines - of_row, left = share.end - line;
        const int64_t n = left < in_row ? left : in_row;
        const struct linear_place at = {&of, line / lines, of_row * LINEAR_LINE_LANES};
        run_row(at, n < in_row ? at.first + n * LINEAR_LINE_LANES : of.lanes, me, &looks, pass);
        line += n;
        if (line < share.end && gives_up(me, &looks)) {
            return;
        }
    }
}

#endif
