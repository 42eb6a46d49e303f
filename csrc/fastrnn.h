/* fastrnn: recurrent layers on a CPU. The C interface.
 *
 * One call runs one layer in one direction over a whole schedule of sequences. The caller owns all memory: ask
 * fastrnn_query for the sizes, pack the weights, call forward, then backward. Every function returns a status;
 * nothing prints, aborts, allocates or keeps a reference.
 *
 * Sizes: T time steps, B batch, I input size, H hidden size, G gates (LSTM 4: i,f,g,o; GRU 3: r,z,n; RNN 1).
 * Equations, weight layouts and gate order are those of torch.nn (docs/math.md).
 */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fastrnn_status {
    FASTRNN_OK = 0,
    FASTRNN_BAD_CELL,     /* cell is not a fastrnn_cell */
    FASTRNN_BAD_DTYPE,    /* dtype is not a fastrnn_dtype */
    FASTRNN_BAD_BACKEND,  /* no such backend, or this CPU cannot run it, or FASTRNN_HIDE hides it */
    FASTRNN_BAD_SIZE,     /* a negative size or thread count, or team is not a fastrnn_team */
    FASTRNN_BAD_SCHEDULE, /* active grows, or an entry of row, first, last or d_first is out of range or there twice */
    FASTRNN_NULL_POINTER, /* a required pointer is null */
    FASTRNN_TOO_LARGE,    /* a size in bytes overflows */
    FASTRNN_INTERRUPTED,  /* the problem's `interrupted` said so; what the call writes is in pieces */
};

enum fastrnn_cell {
#define FASTRNN_CELL(name, gates, states) FASTRNN_CELL_##name,
#include "cells.def"
#undef FASTRNN_CELL
    FASTRNN_CELL_COUNT
};

enum fastrnn_dtype { FASTRNN_F32, FASTRNN_F64, FASTRNN_DTYPE_COUNT };

/* The order in which (t, b) rows are visited (docs/architecture.md). Step s advances sequences 0 … active[s] - 1;
 * row t*B + b of the sequence tensors belongs to sequence i at step s where row[offset(s) + i] = t*B + b and
 * offset(s) = active[0] + … + active[s-1]. No row may be visited twice, and no state be named twice by first, by last
 * or by d_first. fastrnn_query and the packing functions, which have no memory to find that out, leave it to the other
 * calls. The lengths of the arrays, and what forward has filled when backward reads it, are the caller's word. */
struct fastrnn_schedule {
    int64_t steps;         /* S */
    const int64_t *active; /* [S], never growing */
    const int64_t *row;    /* [sum of active], each in 0 … T*B - 1 */
    int64_t states; /* rows of h0, c0, h_n and c_n, and of their gradients without d_first; B in a dense schedule */
    const int64_t *first; /* [active[0]]: what the sequence starts from. Below states: this row of h0 (and c0); -1: the
                             zero state; states + r, in backward alone: the state after row r of y, a constant */
    const int64_t *last; /* [active[0]]: row of h_n that the sequence's last state goes to, in backward row of dh_n that
                            its gradient comes from; -1: nowhere, zero */
    /* Backward alone. Null: the gradient of a row of h0 goes to the same row of dh0, and no other goes anywhere. */
    const int64_t *d_first; /* [active[0]]: row of dh0 that the gradient of what the sequence starts from goes to, even
                               if that is the state after a row of y; -1: nowhere */
    int64_t d_states;       /* with d_first: rows of dh_n, dc_n, dh0 and dc0 */
};

/* How many of the threads a call takes, and what they share out. */
enum fastrnn_team {
    FASTRNN_TEAM_PAYING, /* as many as pay for this work, and one after calls in which they did not */
    /* For tests and benchmarks, all of them, cut … */
    FASTRNN_TEAM_ALL,      /* … as paying threads would be */
    FASTRNN_TEAM_BY_ROWS,  /* … by sequences, as far as there are enough */
    FASTRNN_TEAM_BY_UNITS, /* … by hidden units, as far as there are enough */
    FASTRNN_TEAM_COUNT
};

struct fastrnn_problem {
    enum fastrnn_cell cell;
    enum fastrnn_dtype dtype;
    int backend; /* an index below fastrnn_backend_count() */
    int threads; /* at most this many threads; at least 1 */
    enum fastrnn_team team;
    int64_t T, B, I, H;
    const struct fastrnn_schedule *schedule; /* null: dense, active[s] = B and row = s*B + i */
    /* Null, or asked by the calling thread after each quarter of a second of a call: nonzero gives the call up. */
    int (*interrupted)(void);
};

/* Bytes that the caller provides. No alignment is required of any buffer. Packed weights, once filled, must not be moved
 * to an address that differs modulo 64. */
struct fastrnn_sizes {
    size_t packed_forward, packed_backward; /* do not depend on T, B, schedule and threads */
    size_t reserve;                         /* T*B*reserve_row: an ordinary array (T, B, R) of the real type */
    size_t reserve_row;                     /* depends on cell, dtype and H alone, not on the backend */
    size_t scratch_forward, scratch_backward;
};

/* Weights in torch's layout, C-contiguous: w_ih [G*H, I], w_hh [G*H, H], b_ih and b_hh [G*H] or null for zero. */
struct fastrnn_weights {
    const void *w_ih, *w_hh, *b_ih, *b_hh;
};

/* Parameter gradients in the same layout, added to or overwritten (enum fastrnn_accumulation); null: not wanted. */
struct fastrnn_weight_gradients {
    void *w_ih, *w_hh, *b_ih, *b_hh;
};

/* A (T, B, n) tensor or a (B, n) matrix whose last axis is contiguous. Strides count elements and may be negative.
 * Element (t, b, j) lies at data[t*stride_t + b*stride_b + j]. */
struct fastrnn_view {
    void *data;
    ptrdiff_t stride_t, stride_b;
};

struct fastrnn_const_view {
    const void *data;
    ptrdiff_t stride_t, stride_b;
};

/* Where to copy the weights of a call that reads them as they are, for a backward after they may have changed; null:
 * not wanted. A call of no rows copies nothing. */
struct fastrnn_weight_copies {
    void *w_ih, *w_hh;
};

/* Outputs must not overlap each other or any input, except that h_n may be h0 and c_n may be c0 where every sequence
 * ends in the row that it starts from, as in a dense schedule. States are (B, H), or (states, H) with a schedule; c0
 * and c_n belong to the LSTM alone. Rows of y and dx that the schedule does not visit, of h_n and c_n that no `last`
 * names, and of dh0 and dc0 that no `first` names are left alone. */
struct fastrnn_forward_args {
    const void *packed;                  /* from fastrnn_pack_forward; null: the weights below are read as they are */
    struct fastrnn_weights weights;      /* of a call without packed ones */
    struct fastrnn_weight_copies copies; /* of the same */
    struct fastrnn_const_view x;         /* (T, B, I) */
    struct fastrnn_const_view h0, c0;    /* data null: zero */
    struct fastrnn_view y;               /* (T, B, H) */
    struct fastrnn_view c;               /* (T, B, H), of cells with c: c after every step; data null: not wanted */
    struct fastrnn_view h_n, c_n;        /* data null: not wanted */
    void *reserve;                       /* null: inference; else filled for fastrnn_backward */
    void *scratch;
};

/* What happens to gradients of weights that are there already. */
enum fastrnn_accumulation { FASTRNN_ADD, FASTRNN_OVERWRITE };

struct fastrnn_backward_args {
    const void *packed;                     /* from fastrnn_pack_backward; null: the weights below are read */
    struct fastrnn_weights weights;         /* of a call without packed ones; no biases */
    struct fastrnn_const_view x, h0, c0, y; /* as given to and written by fastrnn_forward */
    const void *reserve;                    /* as written by fastrnn_forward; only read */
    struct fastrnn_const_view dy;           /* (T, B, H); data null: zero */
    struct fastrnn_const_view dh_n, dc_n;   /* data null: zero */
    struct fastrnn_view dx;                 /* (T, B, I), overwritten; data null: not wanted */
    struct fastrnn_view dh0, dc0;           /* overwritten; data null: not wanted */
    struct fastrnn_weight_gradients d;
    enum fastrnn_accumulation accumulation; /* of d */
    void *scratch;
};

/* Nonzero if packing first is faster; if zero, leave `packed` null. Results are bitwise identical. Nonzero for null. */
int fastrnn_packing_pays(const struct fastrnn_problem *problem);

enum fastrnn_status fastrnn_query(const struct fastrnn_problem *problem, struct fastrnn_sizes *sizes);
enum fastrnn_status fastrnn_pack_forward(const struct fastrnn_problem *problem, const struct fastrnn_weights *weights,
                                         void *packed);
enum fastrnn_status fastrnn_pack_backward(const struct fastrnn_problem *problem, const struct fastrnn_weights *weights,
                                          void *packed);
enum fastrnn_status fastrnn_forward(const struct fastrnn_problem *problem, const struct fastrnn_forward_args *args);
enum fastrnn_status fastrnn_backward(const struct fastrnn_problem *problem, const struct fastrnn_backward_args *args);

const char *fastrnn_status_message(enum fastrnn_status status);

/* Cells: their names ("lstm", …), numbers of gates, and states (1: h; 2: h and c). */
const char *fastrnn_cell_name(enum fastrnn_cell cell);
int fastrnn_cell_gates(enum fastrnn_cell cell);
int fastrnn_cell_states(enum fastrnn_cell cell);

/* Backends, best first. One that this CPU cannot run is listed all the same.
 *
 * The environment variable FASTRNN_HIDE names backends, separated by commas, that do not run, as on a CPU without their
 * instruction set: better backends, which need it too, do not run either. It is read once, by the first of these
 * functions or calls. If it has a name that cannot be hidden, nothing runs: fastrnn_best_backend returns -1. */
int fastrnn_backend_count(void);
const char *fastrnn_backend_name(int backend);
int fastrnn_backend_runs_here(int backend);
int fastrnn_backend_is_hidden(int backend);     /* it would run here without FASTRNN_HIDE */
int fastrnn_backend_can_be_hidden(int backend); /* FASTRNN_HIDE may name it: not every such CPU runs it */
int fastrnn_backend_has_fma(int backend);       /* backends with FMA agree in every bit */
int fastrnn_backend_vector_length(int backend, enum fastrnn_dtype dtype);
int fastrnn_best_backend(void);

/* Threads. */
const char *fastrnn_openmp_version(void); /* "none" in a build without OpenMP */
const char *fastrnn_openmp_library(void); /* the file of its runtime; null without OpenMP, or where it is unknown */
int fastrnn_max_threads(void);            /* what OpenMP would use now; 1 in a child of fork() and without OpenMP */
int fastrnn_is_forked(void);              /* this process is a fork of one that had loaded fastrnn */

/* Whether n bytes are equal, read by as many of `threads` threads as pay. */
int fastrnn_same_bytes(const void *one, const void *other, size_t n, int threads);

const char *fastrnn_build(void); /* the compiler, and the flags that it was given for every file */

/* The activations that the cells use, for tests: y[j] = f(x[j]) for j < n. */
enum fastrnn_activation { FASTRNN_TANH, FASTRNN_SIGMOID, FASTRNN_ACTIVATION_COUNT };
enum fastrnn_status fastrnn_activate(int backend, enum fastrnn_dtype dtype, enum fastrnn_activation activation,
                                     int64_t n, const void *x, void *y);

#ifdef __cplusplus
}
#endif

#endif
