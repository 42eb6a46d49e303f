/* exp, expm1, log, log1p, softplus and log_sigmoid, branch-free and the same bits on every backend with FMA. Like
 * activations.h, they use correctly rounded operations and bits of floats alone. docs/accuracy.md has their errors.
 *
 *     x = n ln 2 + r, |r| <= ln 2 / 2        e^x = S (1 + q),  e^x - 1 = (S - 1) + S q,     S = 2^n, q = e^r - 1
 *     x = 2^k m, sqrt(1/2) <= m < sqrt 2     log x = k ln 2 + log(1 + f)                    f = m - 1
 *
 *     log1p(x)       = log(u + c)            u is 1 + x rounded, and c is the error of its rounding
 *     softplus(x)    = log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
 *     log_sigmoid(x) = -softplus(-x)
 */
#ifndef FASTRNN_EXPONENTIALS_H
#define FASTRNN_EXPONENTIALS_H

#include "activations.h"

/* Minimax of the relative errors of these two on the reduced argument; s = f/(2 + f), |s| <= 0.1716:
 *
 *     e^r - 1  = r + r^2 (c[0] + c[1] r + …)
 *     log(1 + f) = 2 s + s^3 (c[0] + c[1] s^2 + …)
 *
 * Above EXP_MAX exp and expm1 overflow, and below EXPM1_MIN expm1 rounds to -1. */
#if FASTRNN_REAL_BITS == 32
typedef uint32_t natural;
static const real exp_c[] = {0x1.fffffep-2f, 0x1.5554b0p-3f, 0x1.555674p-5f, 0x1.1227b0p-7f,
                             0x1.6bec04p-10f};                                /* error 1.7e-8 */
static const real log_c[] = {0x1.55557ap-1f, 0x1.995ed8p-2f, 0x1.31e03cp-2f}; /* error 8.1e-10 */
#define EXP_MAX 89.0f
#define EXPM1_MIN (-20.0f)
#define SQRT_HALF_BITS ((integer)0x3F3504F3)
#else
typedef uint64_t natural;
static const real exp_c[] = {0x1.0000000000005p-1,  0x1.5555555555539p-3,  0x1.555555555228dp-5,  0x1.1111111119014p-7,
                             0x1.6c16c17ee7628p-10, 0x1.a01a0174f89dep-13, 0x1.a019a749dde32p-16, 0x1.71de882ceaa69p-19,
                             0x1.28a2070ffadc7p-22, 0x1.ae6b9c7b71d1bp-26}; /* error 3.3e-17 */
static const real log_c[] = {0x1.5555555555592p-1, 0x1.999999997ff4fp-2, 0x1.24924941dd124p-2, 0x1.c71c52183c96ep-3,
                             0x1.74663c16c870ep-3, 0x1.39a1fe763765dp-3, 0x1.2f02e442de056p-3}; /* error 1.2e-18 */
#define EXP_MAX 710.0
#define EXPM1_MIN (-40.0)
#define SQRT_HALF_BITS ((integer)0x3FE6A09E667F3BCD)
#endif
#define EXP_MIN SIGMOID_MIN /* below it exp rounds to 0 */
#define ONE_BITS ((integer)EXPONENT_BIAS << MANTISSA_BITS)
#define MANTISSA_MASK (((integer)1 << MANTISSA_BITS) - 1)
#define TWO_TO_MANTISSA ((real)((integer)1 << MANTISSA_BITS))
#define TWO_TO_LIFT ((real)((integer)1 << LIFT))
#define SMALLEST_NORMAL (FASTRNN_REAL_BITS == 32 ? (real)0x1p-126 : (real)0x1p-1022)
#define INFINITE ((real)__builtin_inf())

typedef natural vnatural __attribute__((vector_size(VECTOR_BYTES)));

/* Zeros enter from the left. A shift that copies the sign has no instruction for 64 bits before AVX-512. */
ALWAYS_INLINE vinteger vshift_right(const vinteger v, const int bits) { return (vinteger)((vnatural)v >> bits); }

/* c[0] + c[1] x + … + c[terms - 1] x^(terms - 1). */
ALWAYS_INLINE vreal vpolynomial(const real *const c, const int terms, const vreal x) {
    vreal sum = vsplat(c[terms - 1]);
    UNROLL
    for (int j = terms - 2; j >= 0; j--) {
        sum = vfma(sum, x, vsplat(c[j]));
    }
    return sum;
}

/* ---- exponentials ---- */

/* r. Only the last operation rounds: LN2_HIGH has few bits, and then x and n LN2_HIGH are close. */
ALWAYS_INLINE vreal vexp_remainder(const vreal x, const vreal n) {
    return vfma(n, vsplat(-LN2_LOW), vfma(n, vsplat(-LN2_HIGH), x));
}

/* e^r - 1 - r. */
ALWAYS_INLINE vreal vexp_tail(const vreal r) { return r * r * vpolynomial(exp_c, sizeof exp_c / sizeof *exp_c, r); }

/* e^x for EXP_MIN <= x <= EXP_MAX, or NaN. S is a product of two powers of two, since n leaves the range of exponents
 * at both ends: the first product is exact, and the second overflows or rounds to a subnormal once. */
ALWAYS_INLINE vreal vexp_in_range(const vreal x) {
    const vreal rounder = vsplat(ROUNDER + (real)EXPONENT_BIAS);
    const vreal rounded = vfma(x, vsplat(LOG2_E), rounder);
    const vreal r = vexp_remainder(x, rounded - rounder);
    const vreal one_plus_q = vsplat(1) + (r + vexp_tail(r));
    const vinteger fields = vbits(rounded), half = vshift_right(fields, 1); /* n plus both biases, and half of it */
    return one_plus_q * vfrom_bits(half << MANTISSA_BITS) * vfrom_bits((fields - half) << MANTISSA_BITS);
}

ALWAYS_INLINE vreal vexp(const vreal x) {
    return vexp_in_range(vat_most(vat_least(x, vsplat(EXP_MIN)), vsplat(EXP_MAX)));
}

/* S - 1 + S r is exact or nearly so, and S times the tail small, so that one rounding remains. The largest n has no S:
 * it takes half of it, and twice the result. The sign is the one of x, also for -0. */
ALWAYS_INLINE vreal vexpm1(const vreal x) {
    const vreal z = vat_most(vat_least(x, vsplat(EXPM1_MIN)), vsplat(EXP_MAX));
    const vreal rounder = vsplat(ROUNDER);
    const vreal rounded = vfma(z, vsplat(LOG2_E), rounder);
    const vreal n = rounded - rounder;
    const vreal r = vexp_remainder(z, n);
    const vinteger largest = (vinteger)(n > vsplat((real)EXPONENT_BIAS)); /* -1 there */
    const vreal scale = vfrom_bits((vbits(rounded) + largest) << MANTISSA_BITS);
    const vreal y = vfma(scale, vexp_tail(r), vfma(scale, r, scale - vsplat(1)));
    const vreal doubled = y + vfrom_bits(vbits(y) & largest);
    return vfrom_bits(vbits(doubled) | (vbits(x) & vbits(vsplat((real)-0.0))));
}

/* ---- logarithms ---- */

/* u = 2^k m for positive, normal u: k + EXPONENT_BIAS as an integer, k as a real, and m. */
struct log_split {
    vinteger field;
    vreal k, m;
};
ALWAYS_INLINE struct log_split vlog_split(const vreal u) {
    const vinteger above = vbits(u) + (ONE_BITS - SQRT_HALF_BITS);
    const vinteger field = vshift_right(above, MANTISSA_BITS);
    return (struct log_split){
        .field = field,
        .k = vfrom_bits(field | vbits(vsplat(TWO_TO_MANTISSA))) - vsplat(TWO_TO_MANTISSA + (real)EXPONENT_BIAS),
        .m = vfrom_bits((above & MANTISSA_MASK) + SQRT_HALF_BITS),
    };
}

/* k ln 2 + log(1 + f). Since 2 s = f - s f, log(1 + f) = f - s (f - s^2 (c[0] + …)): all terms but f are small, and so
 * are their rounding errors. */
ALWAYS_INLINE vreal vlog_reduced(const vreal f, const vreal k) {
    const vreal s = f / (vsplat(2) + f);
    const vreal s2 = s * s;
    const vreal tail = s2 * vpolynomial(log_c, sizeof log_c / sizeof *log_c, s2);
    const vreal below_f = vfma(k, vsplat(-LN2_LOW), s * (f - tail));
    return vfma(k, vsplat(LN2_HIGH), f - below_f);
}

/* log(u + c) for positive, normal u and |c| of at most half the spacing at u. */
ALWAYS_INLINE vreal vlog_of_sum(const vreal u, const vreal c) {
    const struct log_split split = vlog_split(u);
    const vinteger scale = ((integer)2 * EXPONENT_BIAS - split.field) << MANTISSA_BITS; /* 2^-k */
    const vinteger matters = (vinteger)(u < vsplat(TWO_TO_LIFT));
    return vlog_reduced(vfma(c, vfrom_bits(scale & matters), split.m - vsplat(1)), split.k);
}

/* y = log u, and where u is not positive and finite: log 0 = -inf, log inf = inf, log of a negative number or NaN is
 * NaN. */
ALWAYS_INLINE vreal vlog_ends(const vreal y, const vreal u) {
    const vreal finite = vselect((vinteger)(u < vsplat(INFINITE)), y, u);
    const vreal all = vselect((vinteger)(u == vsplat(0)), vsplat(-INFINITE), finite);
    return vfrom_bits(vbits(all) | (vinteger)(u < vsplat(0)));
}

/* A subnormal x becomes normal first. */
ALWAYS_INLINE vreal vlog(const vreal x) {
    const vinteger subnormal = (vinteger)(x < vsplat(SMALLEST_NORMAL));
    const struct log_split split = vlog_split(x * vselect(subnormal, vsplat(TWO_TO_LIFT), vsplat(1)));
    const vreal k = split.k - vfrom_bits(subnormal & vbits(vsplat(LIFT)));
    return vlog_ends(vlog_reduced(split.m - vsplat(1), k), x);
}

/* The sign is the one of x, also for -0. */
ALWAYS_INLINE vreal vlog1p(const vreal x) {
    const vreal u = vsplat(1) + x;
    const vreal y = vlog_of_sum(u, x - (u - vsplat(1)));
    return vlog_ends(vfrom_bits(vbits(y) | (vbits(x) & vbits(vsplat((real)-0.0)))), u);
}

/* log(1 + e^-|x|), which lies between 0 and log 2. f is exact: e, or e/2 - 1/2 from sqrt 2 - 1 on. */
ALWAYS_INLINE vreal vsoftplus_of_minus_abs(const vreal x) {
    const vreal below = vfrom_bits(vbits(x) | vbits(vsplat((real)-0.0)));
    const vreal e = vexp_in_range(vat_least(below, vsplat(EXP_MIN)));
    const vinteger large = (vinteger)(e > vsplat((real)0.41421356237309505));
    const vreal f = vselect(large, vfma(e, vsplat((real)0.5), vsplat((real)-0.5)), e);
    return vlog_reduced(f, vfrom_bits(large & vbits(vsplat(1))));
}

ALWAYS_INLINE vreal vsoftplus(const vreal x) { return vat_least(x, vsplat(0)) + vsoftplus_of_minus_abs(x); }

/* -vsoftplus(-x) in every bit: log_sigmoid(inf) = -0. */
ALWAYS_INLINE vreal vlog_sigmoid(const vreal x) { return vat_most(x, vsplat((real)-0.0)) - vsoftplus_of_minus_abs(x); }

#endif
