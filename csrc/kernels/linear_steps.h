/* The steps of a strip of lanes: h[t] = a[t] h[t-1] + b[t], and the product of backward, da[t] = g[t] h[t-1]. */
#ifndef FASTRNN_LINEAR_STEPS_H
#define FASTRNN_LINEAR_STEPS_H

#include "linear_lanes.h"

/* ---- the recurrence ---- */

/* The factors of vector v. */
ALWAYS_INLINE vreal load_factors(const struct linear_strip *const strip, const struct linear_step *const step,
                                 const int v, const int n, const enum linear_access access) {
    const ptrdiff_t lane = access == LINEAR_STRIDED ? strip->a.lane : access == LINEAR_SAME_FACTOR ? 0 : 1;
    return load_lanes(strip->a.data + (step->t + strip->a_shift) * strip->a.step + v * VL * lane, lane, n);
}

/* Runs vector v of one step and returns its states. */
ALWAYS_INLINE vreal recur_vector(const struct linear_strip *const strip, const struct linear_step *const step,
                                 const vreal states, const vinteger lengths, const int v, const int n,
                                 const enum linear_conditions conditions, const enum linear_access access) {
    const bool strided = access == LINEAR_STRIDED;
    const ptrdiff_t b_lane = strided ? strip->b.lane : 1, h_lane = strided ? strip->h.lane : 1;
    const real *const b = strip->b.data + step->t * strip->b.step + v * VL * b_lane;
    real *const h = strip->h.data + step->t * strip->h.step + v * VL * h_lane;
    vreal next = load_lanes(b, b_lane, n);
    if (conditions == LINEAR_BY_ROW) {
        next = row_starts(strip, step) ? next : vfma(load_factors(strip, step, v, n, access), states, next);
        store_lanes(h, h_lane, next, n);
        return next;
    }
    if (!step->is_outermost || strip->h0.data) {
        const vinteger starts = lanes_that_start(strip, step, lengths, v, n);
        next = vselect(starts, next, vfma(load_factors(strip, step, v, n, access), states, next));
    }
    if (step->t < strip->shortest) {
        store_lanes(h, h_lane, next, n);
        return next;
    }
    const vinteger valid = lengths > vsplat_integer(step->t);
    store_some(h, h_lane, next, valid, n);
    return vselect(valid, next, states);
}

/* Positions are steps in the order in which they run. */
ALWAYS_INLINE int64_t step_at(const struct linear_strip *const strip, const int64_t position) {
    return strip->direction > 0 ? position : strip->length - 1 - position;
}

/* A strip of 1, 2 or 4 vectors of n lanes. Their states stay in registers. */
ALWAYS_INLINE void recur_few(const struct linear_strip *const given, const struct team_range span,
                             struct linear_carry *const carry, const int vectors, const int n,
                             const enum linear_conditions conditions, const enum linear_access access) {
    const struct linear_strip local = *given, *const strip = &local; /* no store to h can change it */
    vreal states[4];
    UNROLL
    for (int v = 0; v < vectors; v++) {
        states[v] = carry->states[v];
    }
    for (int64_t position = span.begin; position < span.end; position++) {
        const struct linear_step step = linear_step(strip, step_at(strip, position));
        UNROLL
        for (int v = 0; v < vectors; v++) {
            states[v] = recur_vector(strip, &step, states[v], carry->lengths[v], v, n, conditions, access);
        }
    }
    UNROLL
    for (int v = 0; v < vectors; v++) {
        carry->states[v] = states[v];
    }
}

ALWAYS_INLINE void recur_many(const struct linear_strip *const given, const struct team_range span,
                              struct linear_carry *const carry, const enum linear_conditions conditions,
                              const enum linear_access access) {
    const struct linear_strip local = *given, *const strip = &local;
    for (int64_t position = span.begin; position < span.end; position++) {
        const struct linear_step step = linear_step(strip, step_at(strip, position));
        for (int v = 0; v < strip->vectors; v++) {
            carry->states[v] =
                recur_vector(strip, &step, carry->states[v], carry->lengths[v], v, VL, conditions, access);
        }
    }
}

ALWAYS_INLINE void recur_any(const struct linear_strip *const strip, const struct team_range span,
                             struct linear_carry *const carry, const enum linear_conditions conditions,
                             const enum linear_access access) {
    const bool is_fast = access != LINEAR_STRIDED, by_row = conditions == LINEAR_BY_ROW;
    if (is_fast && strip->vectors == 1 && strip->tail == VL) {
        recur_few(strip, span, carry, 1, VL, conditions, access);
    } else if (is_fast && by_row && strip->vectors == 1 && strip->tail == 1) {
        recur_few(strip, span, carry, 1, 1, conditions, access);
    } else if (strip->vectors == 1) {
        recur_few(strip, span, carry, 1, strip->tail, conditions, access);
    } else if (is_fast && by_row && strip->vectors == 2) {
        recur_few(strip, span, carry, 2, VL, conditions, access);
    } else if (is_fast && by_row && strip->vectors == 4) {
        recur_few(strip, span, carry, 4, VL, conditions, access);
    } else {
        recur_many(strip, span, carry, conditions, access);
    }
}

static enum linear_access recurrence_access(const struct linear_strip *const strip) {
    const bool adjacent = strip->b.lane == 1 && strip->h.lane == 1;
    return adjacent && strip->a.lane == 1   ? LINEAR_ADJACENT
           : adjacent && strip->a.lane == 0 ? LINEAR_SAME_FACTOR
                                            : LINEAR_STRIDED;
}

/* Runs a span of positions of a strip. */
static void recur(const struct linear_strip *const strip, const struct team_range span,
                  struct linear_carry *const carry) {
    const enum linear_access access = recurrence_access(strip);
    if (strip->conditions == LINEAR_BY_ROW) {
        switch (access) {
        case LINEAR_ADJACENT:
            recur_any(strip, span, carry, LINEAR_BY_ROW, LINEAR_ADJACENT);
            break;
        case LINEAR_SAME_FACTOR:
            recur_any(strip, span, carry, LINEAR_BY_ROW, LINEAR_SAME_FACTOR);
            break;
        case LINEAR_STRIDED:
            recur_any(strip, span, carry, LINEAR_BY_ROW, LINEAR_STRIDED);
        }
        return;
    }
    switch (access) {
    case LINEAR_ADJACENT:
        recur_any(strip, span, carry, LINEAR_BY_LANE, LINEAR_ADJACENT);
        break;
    case LINEAR_SAME_FACTOR:
        recur_any(strip, span, carry, LINEAR_BY_LANE, LINEAR_SAME_FACTOR);
        break;
    case LINEAR_STRIDED:
        recur_any(strip, span, carry, LINEAR_BY_LANE, LINEAR_STRIDED);
    }
}

/* ---- the gradient of a ---- */

/* da[t] = g[t] h[t-1], zero where t starts anew. strip: forward's, with its h; g: backward's states. */
ALWAYS_INLINE void multiply_vector(const struct linear_strip *const strip, const struct linear_step *const step,
                                   const struct linear_source *const g, const struct linear_target *const da,
                                   const vinteger lengths, const int v, const int n, const enum linear_access access) {
    const bool strided = access == LINEAR_STRIDED;
    const ptrdiff_t g_lane = strided ? g->lane : 1, h_lane = strided ? strip->h.lane : 1;
    const ptrdiff_t da_lane = strided ? da->lane : 1;
    const int64_t t = step->t, before = t - strip->direction;
    const vreal gradient = load_lanes(g->data + t * g->step + v * VL * g_lane, g_lane, n);
    real *const to = da->data + t * da->step + v * VL * da_lane;
    const bool has_h0 = strip->h0.data;
    vreal h = {0};
    if (!step->is_outermost) {
        h = load_lanes(strip->h.data + before * strip->h.step + v * VL * h_lane, h_lane, n);
    } else if (has_h0) {
        h = load_lanes(strip->h0.data + v * VL * strip->h0.lane, strip->h0.lane, n);
    }
    if (strip->conditions == LINEAR_BY_ROW) {
        store_lanes(to, da_lane, row_starts(strip, step) ? (vreal){0} : gradient * h, n);
        return;
    }
    if (has_h0 && strip->direction < 0 && t >= strip->shortest - 1) {
        const vreal h0 = load_lanes(strip->h0.data + v * VL * strip->h0.lane, strip->h0.lane, n);
        h = vselect(first_lanes(strip, step, lengths), h0, h);
    }
    const vreal product = vselect(lanes_that_start(strip, step, lengths, v, n), (vreal){0}, gradient * h);
    if (t < strip->shortest) {
        store_lanes(to, da_lane, product, n);
    } else {
        store_some(to, da_lane, product, lengths > vsplat_integer(t), n);
    }
}

ALWAYS_INLINE void multiply_all(const struct linear_strip *const given, const struct team_range steps,
                                const struct linear_source gradients, const struct linear_target products,
                                const struct linear_carry *const carry, const int n, const enum linear_access access) {
    const struct linear_strip local = *given, *const strip = &local; /* no store to da can change it */
    for (int64_t t = steps.begin; t < steps.end; t++) {
        const struct linear_step step = linear_step(strip, t);
        for (int v = 0; v < strip->vectors; v++) {
            multiply_vector(strip, &step, &gradients, &products, carry->lengths[v], v, n, access);
        }
    }
}

/* The steps begin … end - 1, in any order. */
static void multiply(const struct linear_strip *const strip, const struct team_range steps,
                     const struct linear_source gradients, const struct linear_target products,
                     const struct linear_carry *const carry) {
    if (gradients.lane != 1 || strip->h.lane != 1 || products.lane != 1) {
        multiply_all(strip, steps, gradients, products, carry, strip->tail, LINEAR_STRIDED);
    } else if (strip->tail == VL) {
        multiply_all(strip, steps, gradients, products, carry, VL, LINEAR_ADJACENT);
    } else if (strip->tail == 1) {
        multiply_all(strip, steps, gradients, products, carry, 1, LINEAR_ADJACENT);
    } else {
        multiply_all(strip, steps, gradients, products, carry, strip->tail, LINEAR_ADJACENT);
    }
}

#endif
