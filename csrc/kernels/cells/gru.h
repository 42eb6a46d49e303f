/* GRU (Cho et al. 2014), in torch.nn's form, where the reset gate acts after the recurrent product:
 *
 *     r, z = sigmoid(a_r, a_z)    n = tanh(x_n + r*a_n)    h = (1 - z)*n + z*h_prev
 *
 * with x_n = w_in x + b_in and a_n = w_hn h_prev + b_hn. Their gradients differ by the factor r, so there are four
 * slots, ordered x_n, r, z, a_n: the first three go to the input, the last three to the hidden state.
 */
#ifndef FASTRNN_CELLS_GRU_H
#define FASTRNN_CELLS_GRU_H

#include "../activations.h"
#include "../cell.h"

ALWAYS_INLINE void gru_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    const vreal r = vsigmoid(in->a[0]);
    const vreal z = vsigmoid(in->a[1]);
    const vreal a_n = in->a[2];
    const vreal n = vtanh(vfma(r, a_n, in->x_apart[2]));
    out->after[0] = vfma(z, in->before[0] - n, n);
    out->saved[0] = r;
    out->saved[1] = z;
    out->saved[2] = n;
    out->saved[3] = a_n;
}

ALWAYS_INLINE void gru_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    const vreal one = vsplat(1);
    const vreal r = in->saved[0], z = in->saved[1], n = in->saved[2], a_n = in->saved[3];
    /* h = (1 - z)*n + z*h_prev */
    const vreal dh = in->d_after[0];
    const vreal dz = dh * (in->before[0] - n);
    const vreal dn = dh * (one - z);
    out->d_before[0] = dh * z;
    /* n = tanh(x_n + r*a_n) */
    const vreal dx_n = dn * vfma(-n, n, one);
    const vreal dr = dx_n * a_n;
    /* r, z = sigmoid(a) */
    out->slots[0] = dx_n;
    out->slots[1] = dr * (r * (one - r));
    out->slots[2] = dz * (z * (one - z));
    out->slots[3] = dx_n * r;
}

static const struct cell cell_gru = {
    .row = ROW_OF(gru),
    .saved_state = {NONE},
    .slots = 4,
    .input_slot = 0,
    .hidden_slot = 1,
    .slot_gate = {2, 0, 1, 2},
    .carries_dh = true,
    .reads_before = 1U << 0,
    .forward = gru_forward,
    .backward = gru_backward,
};

#endif
