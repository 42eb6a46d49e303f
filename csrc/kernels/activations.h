/* tanh and sigmoid, branch-free and the same bits on every backend with FMA. At most 2.6 ULP, measured over every
 * float32 and a dense sample of float64 (docs/accuracy.md).
 *
 * Both rest on one odd polynomial, u = tanh(v) for |v| <= ln 2 / 4, since e^2v = (1 + u)/(1 - u). With S = 2^n:
 *
 *     2|x| = n ln 2 + 2v     tanh |x|   = (e^2|x| - 1)/(e^2|x| + 1) = (S - 1 + (S + 1) u) / (S + 1 + (S - 1) u)
 *      -x  = n ln 2 - 2v     sigmoid(x) = 1/(1 + e^-x)              = (1 + u) / (1 + u + S (1 - u))
 *
 * Nothing cancels: n = 0 leaves tanh = 2u/2, and sigmoid adds positive numbers only. n comes from adding 1.5 * 2^M, M
 * being the bits of the mantissa: it is then the low bits of the sum, which shifted left by M are the exponent of S.
 */
#ifndef FASTRNN_ACTIVATIONS_H
#define FASTRNN_ACTIVATIONS_H

#include "simd.h"

/* tanh(v) = v (1 + c[0] v^2 + c[1] v^4 + …): minimax of the relative error on |v| <= 0.17335. Below SIGMOID_MIN
 * sigmoid rounds to 0, above SIGMOID_MAX and TANH_MAX it and tanh round to 1. */
#if FASTRNN_REAL_BITS == 32
enum { MANTISSA_BITS = 23, EXPONENT_BIAS = 127, LIFT = 26 };
static const real tanh_c[] = {-0x1.554fecp-2f, 0x1.0c80d8p-3f}; /* error 5.6e-8 */
#define LN2_HIGH 0x1.62e4p-1f                                   /* 15 bits: n * LN2_HIGH is exact without FMA too */
#define LN2_LOW 0x1.7f7d1cp-20f                                 /* ln 2 - LN2_HIGH */
#define TANH_MAX 10.0f
#define SIGMOID_MIN (-104.0f)
#define SIGMOID_MAX 20.0f
#else
enum { MANTISSA_BITS = 52, EXPONENT_BIAS = 1023, LIFT = 56 };
static const real tanh_c[] = {-0x1.55555555554bcp-2, 0x1.11111110e0990p-3,  -0x1.ba1ba116baf5ep-5,
                              0x1.664ec9cd695edp-6,  -0x1.223c707eda880p-7, 0x1.c38306822c310p-9}; /* error 4.2e-18 */
#define LN2_HIGH 0x1.62e42feep-1 /* 32 bits */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define TANH_MAX 20.0
#define SIGMOID_MIN (-746.0)
#define SIGMOID_MAX 40.0
#endif
#define LN2 ((real)0x1.62e42fefa39efp-1)
#define LOG2_E ((real)0x1.71547652b82fep+0)
#define ROUNDER ((real)1.5 * (real)((integer)1 << MANTISSA_BITS) + (real)EXPONENT_BIAS)

enum { TANH_TERMS = sizeof tanh_c / sizeof *tanh_c };

/* tanh(s r)/s for |s r| <= ln 2 / 4, given s^2, a power of two: it scales the coefficients, without an instruction. */
ALWAYS_INLINE vreal vtanh_reduced(const vreal r, const real s2) {
    const vreal r2 = r * r;
    real power = s2;
    for (int j = 1; j < TANH_TERMS; j++) {
        power *= s2;
    }
    vreal q = vsplat(tanh_c[TANH_TERMS - 1] * power);
    UNROLL
    for (int j = TANH_TERMS - 2; j >= 0; j--) {
        power /= s2;
        q = vfma(q, r2, vsplat(tanh_c[j] * power));
    }
    return vfma(r * r2, q, r);
}

/* One constant for ln 2 is enough: its error grows with n, as the slope of tanh falls. */
ALWAYS_INLINE vreal vtanh(const vreal x) {
    const vinteger sign = vbits(vsplat((real)-0.0));
    const vreal magnitude = vat_most(vfrom_bits(vbits(x) & ~sign), vsplat(TANH_MAX));
    const vreal rounder = vsplat(ROUNDER);
    const vreal rounded = vfma(magnitude, vsplat(2 * LOG2_E), rounder);
    const vreal v = vfma(rounded - rounder, vsplat(-LN2 / 2), magnitude);
    const vreal u = vtanh_reduced(v, 1);
    const vreal scale = vfrom_bits(vbits(rounded) << MANTISSA_BITS);
    const vreal below = scale - vsplat(1), above = scale + vsplat(1);
    const vreal t = vfma(above, u, below) / vfma(below, u, above);
    return vfrom_bits(vbits(t) | (vbits(x) & sign));
}

/* Numerator and denominator carry a factor 2^-LIFT, so that S stays finite down to the last subnormal result, which
 * the division rounds once. */
ALWAYS_INLINE vreal vsigmoid(const vreal x) {
    const vreal z = vat_most(vat_least(x, vsplat(SIGMOID_MIN)), vsplat(SIGMOID_MAX));
    const vreal rounder = vsplat(ROUNDER - LIFT);
    const vreal rounded = vfma(z, vsplat(-LOG2_E), rounder);
    const vreal n = rounded - rounder;
    const vreal two_v = vfma(n, vsplat(LN2_LOW), vfma(n, vsplat(LN2_HIGH), z));
    const vreal two_u = vtanh_reduced(two_v, (real)0.25);
    const vreal scale = vfrom_bits(vbits(rounded) << MANTISSA_BITS);
    const real lift = (real)1 / (real)((integer)1 << LIFT);
    const vreal numerator = vfma(two_u, vsplat(lift), vsplat(2 * lift));
    return numerator / vfma(scale, vsplat(2) - two_u, numerator);
}

#endif
