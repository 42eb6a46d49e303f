/* The lanes of linear recurrences: strips of them, loads and stores of any strides, and where a lane starts anew. */
#ifndef FASTRNN_LINEAR_LANES_H
#define FASTRNN_LINEAR_LANES_H

#include "../fastrnn.h"
#include "../threads/team.h"
#include "simd.h"

enum {
    LINEAR_VECTORS = 64,              /* of a strip at most */
    LINEAR_SPAN_BYTES = 32 << 10,     /* of a strip's states between two passes of backward: these stay in the cache */
    LINEAR_SPAN_STEPS = 16,           /* at least */
    LINEAR_STEPS_MAX = INT32_MAX / 2, /* with more steps, lengths do not fit the lanes of a vector */
    LINEAR_LINE_LANES = CACHE_LINE_BYTES / sizeof(real), /* two threads never write to the same cache line of a row */
};

/* Whether all lanes of a strip belong to one sequence, or each lane to a sequence of its own with its own length and
 * resets. */
enum linear_conditions { LINEAR_BY_ROW, LINEAR_BY_LANE };

/* How a strip's operands lie: a, b and h adjacent; the same with one a for all lanes; anything else. */
enum linear_access { LINEAR_ADJACENT, LINEAR_SAME_FACTOR, LINEAR_STRIDED };

/* An operand of a strip: its number for step t and lane j is data[t*step + j*lane]. */
struct linear_source {
    const real *data;
    ptrdiff_t step, lane;
};

struct linear_target {
    real *data;
    ptrdiff_t step, lane;
};

struct linear_strip {
    struct linear_source a, b;
    struct linear_target h;
    struct linear_source h0;     /* data null: the first step starts anew */
    int a_shift;                 /* step t reads a[t + a_shift] */
    int direction;               /* 1 or -1 */
    int vectors, tail;           /* all vectors have `tail` lanes: VL, unless there is one vector only */
    int64_t length, shortest;    /* steps of the longest and the shortest sequence */
    const unsigned char *resets; /* of step 0; may be null */
    ptrdiff_t resets_step, resets_lane;
    enum linear_conditions conditions;
};

/* The memory of a strip between two spans of steps. */
struct linear_carry {
    vreal states[LINEAR_VECTORS];
    vinteger lengths[LINEAR_VECTORS]; /* of the lanes' sequences */
};

/* ---- loads and stores ---- */

ALWAYS_INLINE vreal load_lanes(const real *const p, const ptrdiff_t lane, const int n) {
    if (lane == 1) {
        return vload_n(p, n);
    }
    vreal v = vsplat(*p);
    UNROLL
    for (int j = 1; j < VL; j++) {
        if (lane != 0 && j < n) {
            v[j] = p[j * lane];
        }
    }
    return v;
}

ALWAYS_INLINE void store_lanes(real *const p, const ptrdiff_t lane, const vreal v, const int n) {
    if (lane == 1) {
        vstore_n(p, v, n);
        return;
    }
    UNROLL
    for (int j = 0; j < VL; j++) {
        if (j < n) {
            p[j * lane] = v[j];
        }
    }
}

/* Stores the lanes of the mask. */
static void store_some(real *const p, const ptrdiff_t lane, const vreal v, const vinteger mask, const int n) {
    for (int j = 0; j < n; j++) {
        if (mask[j]) {
            p[j * lane] = v[j];
        }
    }
}

/* A mask of the nonzero bytes. */
ALWAYS_INLINE vinteger mask_of_bytes(const unsigned char *const p, const ptrdiff_t lane, const int n) {
    typedef signed char vbytes __attribute__((vector_size(VL)));
    vbytes bytes = {0};
    if (lane == 1 && n == VL) {
        memcpy(&bytes, p, sizeof bytes);
    } else {
        for (int j = 0; j < n; j++) {
            bytes[j] = (signed char)p[j * lane];
        }
    }
    return __builtin_convertvector(bytes != (vbytes){0}, vinteger);
}

ALWAYS_INLINE vinteger vsplat_integer(const int64_t n) { return (integer)n - (vinteger){0}; }

/* ---- where lanes start ---- */

/* One step of a strip. */
struct linear_step {
    int64_t t;
    bool is_outermost;           /* no lane has run a step before */
    const unsigned char *resets; /* between this step and the one that runs before it; null: none */
    int64_t resets_at;           /* the step that these resets belong to */
};

ALWAYS_INLINE struct linear_step linear_step(const struct linear_strip *const strip, const int64_t t) {
    const int64_t at = strip->direction > 0 ? t : t + 1;
    const bool has_resets = strip->resets && at < strip->length;
    return (struct linear_step){
        .t = t,
        .is_outermost = t == (strip->direction > 0 ? 0 : strip->length - 1),
        .resets = has_resets ? strip->resets + at * strip->resets_step : NULL,
        .resets_at = at,
    };
}

/* Whether a strip of one sequence starts anew. */
ALWAYS_INLINE bool row_starts(const struct linear_strip *const strip, const struct linear_step *const step) {
    return (step->is_outermost && !strip->h0.data) || (step->resets && *step->resets);
}

/* The lanes of vector v that run their first step here. */
ALWAYS_INLINE vinteger first_lanes(const struct linear_strip *const strip, const struct linear_step *const step,
                                   const vinteger lengths) {
    return strip->direction > 0 ? vsplat_integer(step->is_outermost ? -1 : 0) : lengths == vsplat_integer(step->t + 1);
}

/* The lanes of vector v that start anew. */
ALWAYS_INLINE vinteger lanes_that_start(const struct linear_strip *const strip, const struct linear_step *const step,
                                        const vinteger lengths, const int v, const int n) {
    vinteger starts = strip->h0.data ? (vinteger){0} : first_lanes(strip, step, lengths);
    if (step->resets) {
        starts |= mask_of_bytes(step->resets + v * VL * strip->resets_lane, strip->resets_lane, n) &
                  (lengths > vsplat_integer(step->resets_at));
    }
    return starts;
}

#endif
