/* LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), in torch.nn's form:
 *
 *     i, f, o = sigmoid(a_i, a_f, a_o)    g = tanh(a_g)    c = f*c_prev + i*g    h = o*tanh(c)
 */
#ifndef FASTRNN_CELLS_LSTM_H
#define FASTRNN_CELLS_LSTM_H

#include "../activations.h"
#include "../cell.h"

enum { LSTM_H, LSTM_C }; /* states */

ALWAYS_INLINE void lstm_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    const vreal i = vsigmoid(in->a[0]);
    const vreal f = vsigmoid(in->a[1]);
    const vreal g = vtanh(in->a[2]);
    const vreal o = vsigmoid(in->a[3]);
    const vreal c = vfma(f, in->before[LSTM_C], i * g);
    out->after[LSTM_C] = c;
    out->after[LSTM_H] = o * vtanh(c);
    out->saved[0] = i;
    out->saved[1] = f;
    out->saved[2] = g;
    out->saved[3] = o;
    out->saved[4] = c;
}

ALWAYS_INLINE void lstm_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    const vreal one = vsplat(1);
    const vreal i = in->saved[0], f = in->saved[1], g = in->saved[2], o = in->saved[3];
    const vreal tanh_c = vtanh(in->saved[4]);
    /* h = o*tanh(c) */
    const vreal dh = in->d_after[LSTM_H];
    const vreal d_o = dh * tanh_c;
    const vreal dc = vfma(dh * o, vfma(-tanh_c, tanh_c, one), in->d_after[LSTM_C]);
    /* c = f*c_prev + i*g */
    const vreal di = dc * g;
    const vreal df = dc * in->before[LSTM_C];
    const vreal dg = dc * i;
    out->d_before[LSTM_C] = dc * f;
    /* i, f, o = sigmoid(a); g = tanh(a) */
    out->slots[0] = di * (i * (one - i));
    out->slots[1] = df * (f * (one - f));
    out->slots[2] = dg * vfma(-g, g, one);
    out->slots[3] = d_o * (o * (one - o));
}

static const struct cell cell_lstm = {
    .row = ROW_OF(lstm),
    .saved_state = {NONE, 4},
    .slots = 4,
    .input_slot = 0,
    .hidden_slot = 0,
    .slot_gate = {0, 1, 2, 3},
    .reads_before = 1U << LSTM_C,
    .forward = lstm_forward,
    .backward = lstm_backward,
};

#endif
