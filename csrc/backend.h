/* A backend is one table of functions: the kernels of one instruction set and one real type. instance.c defines
 * one; dispatch.c lists them, best first. */
#ifndef FASTRNN_BACKEND_H
#define FASTRNN_BACKEND_H

#include "cpu.h"
#include "fastrnn.h"
#include "team.h"

struct backend {
    cpu_features needs; /* from the compiler's predefined macros, so that flags and check cannot drift apart */
    int vector_length;  /* VL: reals in a vector */
    int has_fma;
    enum fastrnn_status (*query)(const struct fastrnn_problem *, struct fastrnn_sizes *);
    void (*pack_forward)(const struct fastrnn_problem *, const struct fastrnn_weights *, void *packed,
                         const struct team_member *);
    void (*pack_backward)(const struct fastrnn_problem *, const struct fastrnn_weights *, void *packed,
                          const struct team_member *);
    void (*forward)(const struct fastrnn_problem *, const struct fastrnn_forward_args *, const struct team_member *);
    void (*backward)(const struct fastrnn_problem *, const struct fastrnn_backward_args *, const struct team_member *);
    void (*activate)(enum fastrnn_activation, int64_t n, const void *x, void *y);
};

#endif
