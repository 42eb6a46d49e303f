/* A plan from the inside: the problem, and all that every call of it would otherwise compute again. */
#ifndef FASTRNN_PLAN_H
#define FASTRNN_PLAN_H

#include "layout.h"

struct backend;

struct plan {
    size_t struct_size;
    struct fastrnn_sizes sizes;
    struct fastrnn_problem problem;
    const struct backend *backend;
    const struct fastrnn_cell_table *table;
    struct layout_shape shape;
    struct layout_packed_forward packed_forward;
    struct layout_packed_backward packed_backward;
    struct layout_forward_scratch forward_scratch; /* for as many groups as any cut has */
    struct layout_backward_scratch backward_scratch;
} __attribute__((may_alias)); /* it lies in a struct fastrnn_plan */

_Static_assert(sizeof(struct plan) <= sizeof(struct fastrnn_plan), "struct fastrnn_plan is too small");

/* Null for what fastrnn_make_plan has not made. */
static inline const struct plan *plan_of(const struct fastrnn_plan *const plan) {
    return plan && plan->struct_size == sizeof *plan ? (const struct plan *)plan : NULL;
}

#endif
