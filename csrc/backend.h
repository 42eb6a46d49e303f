/* A backend is one table of functions: the kernels of one instruction set and one real type. instance.c defines
 * one; dispatch.c lists them, best first. */
#ifndef FASTRNN_BACKEND_H
#define FASTRNN_BACKEND_H

#include "cpu.h"
#include "plan.h"
#include "threads/team.h"

/* A member's part of a pass. */
typedef void pass_function(const struct plan *, const struct fastrnn_arrays *, const struct team_member *);

/* A member's part of a linear recurrence. */
typedef void linear_function(const struct fastrnn_linear *, enum fastrnn_linear_pass, const struct team_member *);

struct backend {
    cpu_features needs; /* from the compiler's predefined macros, so that flags and check cannot drift apart */
    int vector_length;  /* VL: reals in a vector */
    int has_fma;
    enum fastrnn_status (*lay_out)(struct plan *); /* shape, layouts and sizes of the plan's problem */
    pass_function *passes[FASTRNN_PASS_COUNT];
    linear_function *linear;
    void (*activate)(enum fastrnn_activation, int64_t n, const void *x, void *y);
};

#endif
