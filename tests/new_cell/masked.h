/* A second cell that nobody wants, for .ci/new-cell: an input of each step for every unit, another for all units, and
 * an option.
 *
 *     q = tanh(a)    c = leak*c_prev + gain*q    t = tanh(c)    h = mask*t + (1 - mask)*h_prev
 */
#ifndef FASTRNN_CELLS_MASKED_H
#define FASTRNN_CELLS_MASKED_H

#include "../activations.h"
#include "../cell.h"

enum { MASKED_H, MASKED_C };       /* states */
enum { MASKED_MASK, MASKED_GAIN }; /* inputs; the only option is leak */

ALWAYS_INLINE void masked_forward(const struct cell_forward_in *const in, struct cell_forward_out *const out) {
    const vreal mask = in->given.inputs[MASKED_MASK], gain = in->given.inputs[MASKED_GAIN];
    const vreal leak = in->given.options[0];
    const vreal q = vtanh(in->a[0]), c = vfma(leak, in->before[MASKED_C], gain * q), t = vtanh(c);
    out->after[MASKED_H] = vfma(mask, t, (vsplat(1) - mask) * in->before[MASKED_H]);
    out->after[MASKED_C] = c;
    out->saved[0] = q;
    out->saved[1] = t;
    out->saved[2] = c;
}

ALWAYS_INLINE void masked_backward(const struct cell_backward_in *const in, struct cell_backward_out *const out) {
    const vreal one = vsplat(1);
    const vreal mask = in->given.inputs[MASKED_MASK], gain = in->given.inputs[MASKED_GAIN];
    const vreal leak = in->given.options[0];
    const vreal q = in->saved[0], t = in->saved[1];
    /* h = mask*t + (1 - mask)*h_prev, t = tanh(c) */
    const vreal dh = in->d_after[MASKED_H];
    const vreal dc = vfma(dh * mask, vfma(-t, t, one), in->d_after[MASKED_C]);
    out->d_before[MASKED_H] = dh * (one - mask);
    /* c = leak*c_prev + gain*q, q = tanh(a) */
    out->d_before[MASKED_C] = dc * leak;
    out->slots[0] = dc * gain * vfma(-q, q, one);
}

static const struct cell cell_masked = {
    .row = ROW_OF(masked),
    .saved_state = {NONE, 2},
    .slots = 1,
    .carries_dh = true,
    .forward = masked_forward,
    .backward = masked_backward,
};

#endif
