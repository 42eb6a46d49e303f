/* The content of a plan: the problem, and the sizes and layouts that its calls share. */
#ifndef FASTRNN_PLAN_H
#define FASTRNN_PLAN_H

#include "cell_shape.h"
#include "layout.h"

struct backend;

struct plan {
    size_t struct_size;
    struct fastrnn_sizes sizes;
    struct fastrnn_problem problem;
    const struct backend *backend;
    const struct fastrnn_cell_table *table;
    struct cell_shape cell;
    struct layout_shape shape;
    struct layout_packed_forward packed_forward;
    struct layout_packed_backward packed_backward;
    struct layout_forward_scratch forward_scratch; /* for the largest number of groups */
    struct layout_backward_scratch backward_scratch;
} __attribute__((may_alias)); /* stored in a struct fastrnn_plan */

_Static_assert(sizeof(struct plan) <= sizeof(struct fastrnn_plan), "struct fastrnn_plan is too small");

/* Null if fastrnn_make_plan has not made the plan. */
static inline const struct plan *plan_of(const struct fastrnn_plan *const plan) {
    return plan && plan->struct_size == sizeof *plan ? (const struct plan *)plan : NULL;
}

#endif
