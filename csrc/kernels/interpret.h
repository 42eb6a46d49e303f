/* The instructions of programs, run over spans.
 *
 * A span is up to SPAN_MAX vectors: rows of one block, or blocks of one row. Vector j of an operand lies at
 * at + j*step, and a constant has step 0. Every instruction runs over the whole span before the next one, so the cost
 * of its decoding is shared, and the registers of a span stay in the first-level cache. A result may replace an
 * operand.
 */
#ifndef FASTRNN_INTERPRET_H
#define FASTRNN_INTERPRET_H

#include "../fastrnn.h"
#include "elementwise.h"
#include "exponentials.h"

enum { SPAN_MAX = 32, SPAN_MIN = 4 }; /* vectors */

struct span_operand {
    real *at;
    ptrdiff_t step;
};

/* to = operation(a, b, c), as numbers of operands. */
struct span_instruction {
    uint8_t operation, to, a, b, c;
};

ALWAYS_INLINE vreal vnegate(const vreal x) { return vfrom_bits(vbits(x) ^ vbits(vsplat((real)-0.0))); }
ALWAYS_INLINE vreal vdsigmoid(const vreal s) { return s * (vsplat(1) - s); }
ALWAYS_INLINE vreal vdtanh(const vreal t) { return vfma(-t, t, vsplat(1)); }

/* Sets `to` to the value of every vector of the span; x, y and z are vectors of a, b and c. */
#define EACH(value) \
    for (int left = n; left > 0; left--) { \
        const vreal x = vload(a), y = vload(b), z = vload(c); \
        (void)x, (void)y, (void)z; \
        vstore(to, (value)); \
        to += to_step, a += a_step, b += b_step, c += c_step; \
    } \
    break;

/* Runs the instructions over a span of n vectors. */
static __attribute__((noinline)) void run_span(const struct span_instruction *const code, const int count,
                                               const struct span_operand *const operands, const int n) {
    for (int j = 0; j < count; j++) {
        const struct span_instruction i = code[j];
        real *to = operands[i.to].at;
        const real *a = operands[i.a].at, *b = operands[i.b].at, *c = operands[i.c].at;
        const ptrdiff_t to_step = operands[i.to].step, a_step = operands[i.a].step;
        const ptrdiff_t b_step = operands[i.b].step, c_step = operands[i.c].step;
        switch ((enum fastrnn_operation)i.operation) {
        case FASTRNN_OPERATION_add:
            EACH(x + y)
        case FASTRNN_OPERATION_sub:
            EACH(x - y)
        case FASTRNN_OPERATION_mul:
            EACH(x * y)
        case FASTRNN_OPERATION_div:
            EACH(x / y)
        case FASTRNN_OPERATION_neg:
            EACH(vnegate(x))
        case FASTRNN_OPERATION_fma:
            EACH(vfma(x, y, z))
        case FASTRNN_OPERATION_fms:
            EACH(vfma(x, y, -z))
        case FASTRNN_OPERATION_fnma:
            EACH(vfma(-x, y, z))
        case FASTRNN_OPERATION_min:
            EACH(vmin_nan(x, y))
        case FASTRNN_OPERATION_max:
            EACH(vmax_nan(x, y))
        case FASTRNN_OPERATION_clip:
            EACH(vmin_nan(vmax_nan(x, y), z))
        case FASTRNN_OPERATION_abs:
            EACH(vabs(x))
        case FASTRNN_OPERATION_sign:
            EACH(vsign(x))
        case FASTRNN_OPERATION_sqrt:
            EACH(vsqrt(x))
        case FASTRNN_OPERATION_reciprocal:
            EACH(vsplat(1) / x)
        case FASTRNN_OPERATION_exp:
            EACH(vexp(x))
        case FASTRNN_OPERATION_expm1:
            EACH(vexpm1(x))
        case FASTRNN_OPERATION_log:
            EACH(vlog(x))
        case FASTRNN_OPERATION_log1p:
            EACH(vlog1p(x))
        case FASTRNN_OPERATION_tanh:
            EACH(vtanh(x))
        case FASTRNN_OPERATION_sigmoid:
            EACH(vsigmoid(x))
        case FASTRNN_OPERATION_relu:
            EACH(vrelu(x))
        case FASTRNN_OPERATION_softplus:
            EACH(vsoftplus(x))
        case FASTRNN_OPERATION_log_sigmoid:
            EACH(vlog_sigmoid(x))
        case FASTRNN_OPERATION_lt:
            EACH(vfrom_bits(vless(x, y)))
        case FASTRNN_OPERATION_le:
            EACH(vfrom_bits(vless_equal(x, y)))
        case FASTRNN_OPERATION_eq:
            EACH(vfrom_bits(vequal(x, y)))
        case FASTRNN_OPERATION_ne:
            EACH(vfrom_bits(vnot_equal(x, y)))
        case FASTRNN_OPERATION_and:
            EACH(vfrom_bits(vbits(x) & vbits(y)))
        case FASTRNN_OPERATION_or:
            EACH(vfrom_bits(vbits(x) | vbits(y)))
        case FASTRNN_OPERATION_not:
            EACH(vfrom_bits(~vbits(x)))
        case FASTRNN_OPERATION_select:
            EACH(vselect(vbits(x), y, z))
        case FASTRNN_OPERATION_one_minus:
            EACH(vsplat(1) - x)
        case FASTRNN_OPERATION_dsigmoid:
            EACH(x * vdsigmoid(y))
        case FASTRNN_OPERATION_dtanh:
            EACH(x * vdtanh(y))
        case FASTRNN_OPERATION_mul3:
            EACH(x * y * z)
        case FASTRNN_OPERATION_fma_dtanh:
            EACH(vfma(x, vdtanh(y), z))
        case FASTRNN_OPERATION_copy:
            EACH(x)
        case FASTRNN_OPERATION_mul_dsigmoid:
            EACH(x * y * vdsigmoid(z))
        case FASTRNN_OPERATION_mul_dtanh:
            EACH(x * y * vdtanh(z))
        case FASTRNN_OPERATION_mul_tanh:
            EACH(x * vtanh(y))
        case FASTRNN_OPERATION_COUNT:
            break;
        }
    }
}
#undef EACH

#endif
