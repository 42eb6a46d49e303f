/* The simple recurrent network of Elman (1990), in torch.nn's form: h = tanh(a) or h = max(a, 0). */
#ifndef FASTRNN_CELLS_RNN_H
#define FASTRNN_CELLS_RNN_H

#include "../activations.h"
#include "../cell.h"

ALWAYS_INLINE void rnn_tanh_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    out->after[0] = vtanh(in->a[0]);
}

ALWAYS_INLINE void rnn_tanh_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    out->slots[0] = in->d_after[0] * vfma(-in->y, in->y, vsplat(1));
}

/* A NaN is kept, as torch does: a <= 0 is false for it. */
ALWAYS_INLINE void rnn_relu_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    const vreal zero = vsplat(0);
    out->after[0] = vselect(in->a[0] <= zero, zero, in->a[0]);
}

ALWAYS_INLINE void rnn_relu_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    const vreal zero = vsplat(0);
    out->slots[0] = vselect(in->y <= zero, zero, in->d_after[0]);
}

static const struct cell cell_rnn_tanh = {
    .row = ROW_OF(rnn_tanh),
    .saved_state = {NONE},
    .slots = 1,
    .reads_y = true,
    .forward = rnn_tanh_forward,
    .backward = rnn_tanh_backward,
};

static const struct cell cell_rnn_relu = {
    .row = ROW_OF(rnn_relu),
    .saved_state = {NONE},
    .slots = 1,
    .reads_y = true,
    .forward = rnn_relu_forward,
    .backward = rnn_relu_backward,
};

#endif
