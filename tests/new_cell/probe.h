/* A cell without practical use, for .ci/new-cell: two gates that both stay apart, three states with different start
 * values, and an output that is not a state.
 *
 *     p = sigmoid(x_p + t)    t = tanh(a_p)    q = tanh(x_q*a_q)
 *     c = p*c_prev + q    m = q*m_prev + p    h = p*tanh(c)    y = h + m*c_prev
 */
#ifndef FASTRNN_CELLS_PROBE_H
#define FASTRNN_CELLS_PROBE_H

#include "../activations.h"
#include "../cell.h"

enum { PROBE_H, PROBE_C, PROBE_M }; /* states */

ALWAYS_INLINE void probe_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    const vreal t = vtanh(in->a[0]), p = vsigmoid(in->x_apart[0] + t), q = vtanh(in->x_apart[1] * in->a[1]);
    const vreal c = vfma(p, in->before[PROBE_C], q), m = vfma(q, in->before[PROBE_M], p), h = p * vtanh(c);
    out->after[PROBE_H] = h;
    out->after[PROBE_C] = c;
    out->after[PROBE_M] = m;
    out->y = vfma(m, in->before[PROBE_C], h);
    const vreal saved[] = {p, q, h, c, m, t, in->x_apart[1], in->a[1]};
    UNROLL
    for (int j = 0; j < 8; j++) {
        out->saved[j] = saved[j];
    }
}

ALWAYS_INLINE void probe_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    const vreal one = vsplat(1);
    const vreal p = in->saved[0], q = in->saved[1], m = in->saved[4], t = in->saved[5], tanh_c = vtanh(in->saved[3]);
    /* y = h + m*c_prev */
    const vreal dh = in->d_after[PROBE_H] + in->dy;
    const vreal dm = vfma(in->dy, in->before[PROBE_C], in->d_after[PROBE_M]);
    /* h = p*tanh(c) */
    const vreal dc = vfma(dh * p, vfma(-tanh_c, tanh_c, one), in->d_after[PROBE_C]);
    /* m = q*m_prev + p, c = p*c_prev + q */
    const vreal dp = vfma(dh, tanh_c, vfma(dc, in->before[PROBE_C], dm));
    const vreal dq = vfma(dm, in->before[PROBE_M], dc);
    out->d_before[PROBE_M] = dm * q;
    out->d_before[PROBE_C] = vfma(in->dy, m, dc * p);
    /* p = sigmoid(x_p + tanh(a_p)), q = tanh(x_q*a_q) */
    const vreal ds = dp * (p * (one - p)), dz = dq * vfma(-q, q, one);
    out->slots[0] = ds;
    out->slots[1] = dz * in->saved[7];
    out->slots[2] = ds * vfma(-t, t, one);
    out->slots[3] = dz * in->saved[6];
}

static const struct cell cell_probe = {
    .row = ROW_OF(probe),
    .saved_state = {2, 3, 4},
    .slots = 4,
    .input_slot = 0,
    .hidden_slot = 2,
    .slot_gate = {0, 1, 0, 1},
    .reads_before = 1U << PROBE_C | 1U << PROBE_M,
    .forward = probe_forward,
    .backward = probe_backward,
};

#endif
