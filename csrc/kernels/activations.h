/* tanh and sigmoid, at most 4 ULP over all inputs, branch-free and the same bits on every backend with FMA.
 *
 * Both start from one reduction of a z <= 0,  z = n ln 2 + r  with |r| <= ln 2 / 2:
 *
 *     e^z = 2^n (1 + p)         p = e^r - 1 = r + r^2 q(r)
 *
 *     sigmoid(x) = (x >= 0 ? 1 : e) / (1 + e)         e = exp(-|x|)
 *     tanh(|x|)  = -m / (2 + m)                       m = expm1(-2|x|) = 2^n p + (2^n - 1)
 *
 * so that denominators lie in [1, 2] and nothing cancels. q is the minimax polynomial of (e^r - 1 - r)/r^2, weighted
 * for the relative error of p. n comes from adding 1.5 * 2^mantissa: it is then the low bits of the sum, and a shift
 * puts 2^n together. 2^n multiplies rather than being added to an exponent, so that a NaN stays one.
 */
#ifndef FASTRNN_ACTIVATIONS_H
#define FASTRNN_ACTIVATIONS_H

#include "simd.h"

#if FASTRNN_REAL_BITS == 32
enum { MANTISSA_BITS = 23, EXPONENT_BIAS = 127, SCALE_BITS = 32 };
#define LN2_HIGH 0x1.63p-1f          /* 9 bits: n * LN2_HIGH is exact without FMA too */
#define LN2_LOW (-0x1.bd0106p-13f)   /* ln 2 - LN2_HIGH */
#define SIGMOID_FLOOR (-104.0f)      /* e^z rounds to 0 below -103.98 */
#define TANH_FLOOR (-20.0f)          /* 2^n - 1 rounds to -1 below -17.4 */
/* |error of e^r| < 5e-9 on |r| < 0.347 */
static const real expm1_q[] = {0x1p-1f, 0x1.5554b6p-3f, 0x1.55549p-5f, 0x1.122434p-7f, 0x1.6d9362p-10f};
#else
enum { MANTISSA_BITS = 52, EXPONENT_BIAS = 1023, SCALE_BITS = 64 };
#define LN2_HIGH 0x1.62e42feep-1     /* 32 bits */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define SIGMOID_FLOOR (-746.0)       /* … below -745.14 */
#define TANH_FLOOR (-44.0)           /* … below -37.5 */
/* |error of e^r| < 1e-17 on |r| < 0.347 */
static const real expm1_q[] = {0x1.0000000000003p-1,  0x1.555555555555bp-3,  0x1.55555555529abp-5,
                               0x1.111111110eb4bp-7,  0x1.6c16c17d6bfaap-10, 0x1.a01a01b470a42p-13,
                               0x1.a019ab18738ccp-16, 0x1.71ddecf1d2903p-19, 0x1.289eb20e07375p-22,
                               0x1.af725796b2d1bp-26};
#endif
#define LOG2_E ((real)0x1.71547652b82fep+0)

enum { EXPM1_DEGREE = sizeof expm1_q / sizeof *expm1_q - 1 };

ALWAYS_INLINE vinteger vsign_bit(void) { return vbits(vsplat((real)-0.0)); }

struct reduced {
    vreal scale; /* 2^(n + lift) */
    vreal p;     /* e^r - 1 */
};

/* z <= 0 or NaN, cut off at `floor`; `lift` keeps 2^(n + lift) a normal number. */
ALWAYS_INLINE struct reduced vreduce(const vreal z, const real floor, const int lift) {
    const vreal low = vsplat(floor);
    const vreal cut = vselect(z < low, low, z);
    const vreal round = vsplat((real)1.5 * (real)((integer)1 << MANTISSA_BITS) + (real)(EXPONENT_BIAS + lift));
    const vreal shifted = vfma(cut, vsplat(LOG2_E), round);
    const vreal n = shifted - round;
    const vreal r = vfma(n, vsplat(-LN2_LOW), vfma(n, vsplat(-LN2_HIGH), cut));
    vreal q = vsplat(expm1_q[EXPM1_DEGREE]);
#pragma GCC unroll 16
    for (int j = EXPM1_DEGREE - 1; j >= 0; j--) {
        q = vfma(q, r, vsplat(expm1_q[j]));
    }
    return (struct reduced){
        .scale = vfrom_bits(vbits(shifted) << MANTISSA_BITS),
        .p = vfma(r * r, q, r),
    };
}

ALWAYS_INLINE vreal vsigmoid(const vreal x) {
    const vreal one = vsplat(1);
    const struct reduced z = vreduce(vfrom_bits(vbits(x) | vsign_bit()), SIGMOID_FLOOR, SCALE_BITS);
    /* Lowered in a second step: only there can e become subnormal, and it is rounded once. */
    const vreal e = (z.scale * (one + z.p)) * vsplat((real)1 / (real)((uint64_t)1 << (SCALE_BITS - 1)) / 2);
    return vselect(x < vsplat(0), e, one) / (one + e);
}

ALWAYS_INLINE vreal vtanh(const vreal x) {
    const struct reduced z = vreduce(vsplat(2) * vfrom_bits(vbits(x) | vsign_bit()), TANH_FLOOR, 0);
    const vreal m = vfma(z.scale, z.p, z.scale - vsplat(1));
    const vreal t = m / (vsplat(2) + m);
    return vfrom_bits((vbits(t) & ~vsign_bit()) | (vbits(x) & vsign_bit()));
}

#endif
