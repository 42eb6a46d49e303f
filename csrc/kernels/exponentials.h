/* exp, expm1, log, log1p, softplus and log_sigmoid, branch-free and the same bits on every backend with FMA. At most
 * 2 ULP, measured over every float32 and a dense sample of float64 (docs/accuracy.md). docs/math.md derives them.
 *
 *     x = n ln 2 + r, |r| <= ln 2 / 2        e^x = S (1 + q),  e^x - 1 = (S - 1) + S q,     S = 2^n, q = e^r - 1
 *     x = 2^k m, sqrt(1/2) <= m < sqrt 2     log x = k ln 2 + log(1 + f)                    f = m - 1
 *
 *     log1p(x)       = log(u + c)            u is 1 + x rounded, c = x - (u - 1) the rest
 *     softplus(x)    = log(1 + e^x) = max(x, 0) + log1p(e^-|x|)
 *     log_sigmoid(x) = -softplus(-x)
 */
#ifndef FASTRNN_EXPONENTIALS_H
#define FASTRNN_EXPONENTIALS_H

#include "activations.h"

/* Minimax of the relative errors on the reduced argument, with s = f/(2 + f), |s| <= 0.1716:
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

/* Bits to shift to the right: before AVX-512 no instruction copies the sign of 64 bits. */
typedef natural vnatural __attribute__((vector_size(VECTOR_BYTES)));

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

/* r. Only the last operation rounds: n LN2_HIGH is exact, since LN2_HIGH has few bits, and so close to x that the
 * difference is exact too. */
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
    const vnatural fields = (vnatural)vbits(rounded), half = fields >> 1; /* n plus two biases, and half of it */
    const vreal one_factor = vfrom_bits((vinteger)(half << MANTISSA_BITS));
    const vreal other_factor = vfrom_bits((vinteger)((fields - half) << MANTISSA_BITS));
    return one_plus_q * one_factor * other_factor;
}

ALWAYS_INLINE vreal vexp(const vreal x) {
    return vexp_in_range(vat_most(vat_least(x, vsplat(EXP_MIN)), vsplat(EXP_MAX)));
}

/* S - 1 + S r is exact or nearly exact, and S times the tail is small, so the last sum makes most of the error. S of
 * the largest n is no finite number: half of it replaces S, and the result is doubled. The last line keeps -0. */
ALWAYS_INLINE vreal vexpm1(const vreal x) {
    const vreal z = vat_most(vat_least(x, vsplat(EXPM1_MIN)), vsplat(EXP_MAX));
    const vreal rounder = vsplat(ROUNDER);
    const vreal rounded = vfma(z, vsplat(LOG2_E), rounder);
    const vreal n = rounded - rounder;
    const vreal r = vexp_remainder(z, n);
    const vinteger largest = (vinteger)(n > vsplat((real)EXPONENT_BIAS)); /* a mask */
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
    const vnatural above = (vnatural)vbits(u) + (natural)(ONE_BITS - SQRT_HALF_BITS);
    const vinteger field = (vinteger)(above >> MANTISSA_BITS);
    return (struct log_split){
        .field = field,
        .k = vfrom_bits(field | vbits(vsplat(TWO_TO_MANTISSA))) - vsplat(TWO_TO_MANTISSA + (real)EXPONENT_BIAS),
        .m = vfrom_bits((vinteger)((above & (natural)MANTISSA_MASK) + (natural)SQRT_HALF_BITS)),
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

/* log(u + c) for a positive, normal u and a |c| of at most half the spacing at u. Where u is so large that c does not
 * matter, 2^-k may be no normal number. */
ALWAYS_INLINE vreal vlog_of_sum(const vreal u, const vreal c) {
    const struct log_split split = vlog_split(u);
    const vinteger scale = ((integer)2 * EXPONENT_BIAS - split.field) << MANTISSA_BITS; /* 2^-k */
    const vinteger matters = (vinteger)(u < vsplat(TWO_TO_LIFT));
    return vlog_reduced(vfma(c, vfrom_bits(scale & matters), split.m - vsplat(1)), split.k);
}

/* y, but -inf where u is 0, infinity where u is infinite, and NaN where u is negative or NaN. */
ALWAYS_INLINE vreal vlog_ends(const vreal y, const vreal u) {
    const vreal finite = vselect((vinteger)(u < vsplat(INFINITE)), y, u);
    const vreal all = vselect((vinteger)(u == vsplat(0)), vsplat(-INFINITE), finite);
    return vfrom_bits(vbits(all) | (vinteger)(u < vsplat(0)));
}

/* A product makes a subnormal x normal. */
ALWAYS_INLINE vreal vlog(const vreal x) {
    const vinteger subnormal = (vinteger)(x < vsplat(SMALLEST_NORMAL));
    const struct log_split split = vlog_split(x * vselect(subnormal, vsplat(TWO_TO_LIFT), vsplat(1)));
    const vreal k = split.k - vfrom_bits(subnormal & vbits(vsplat(LIFT)));
    return vlog_ends(vlog_reduced(split.m - vsplat(1), k), x);
}

/* The sign of x is the sign of the result, which keeps -0. */
ALWAYS_INLINE vreal vlog1p(const vreal x) {
    const vreal u = vsplat(1) + x;
    const vreal y = vlog_of_sum(u, x - (u - vsplat(1)));
    return vlog_ends(vfrom_bits(vbits(y) | (vbits(x) & vbits(vsplat((real)-0.0)))), u);
}

/* log(1 + e), e = e^-|x|. f is exact: it is e, or (1 + e)/2 - 1 if 1 + e > sqrt 2. */
ALWAYS_INLINE vreal vsoftplus_of_minus_abs(const vreal x) {
    const vreal below = vfrom_bits(vbits(x) | vbits(vsplat((real)-0.0)));
    const vreal e = vexp_in_range(vat_least(below, vsplat(EXP_MIN)));
    const vinteger large = (vinteger)(e > vsplat((real)0.41421356237309505));
    const vreal f = vselect(large, vfma(e, vsplat((real)0.5), vsplat((real)-0.5)), e);
    return vlog_reduced(f, vfrom_bits(large & vbits(vsplat(1))));
}

ALWAYS_INLINE vreal vsoftplus(const vreal x) { return vat_least(x, vsplat(0)) + vsoftplus_of_minus_abs(x); }

/* -vsoftplus(-x) in every bit, so -0 for infinity. */
ALWAYS_INLINE vreal vlog_sigmoid(const vreal x) { return vat_most(x, vsplat((real)-0.0)) - vsoftplus_of_minus_abs(x); }

#endif
