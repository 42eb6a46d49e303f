/* Element-wise operations on vectors beside arithmetic: exact, and the same bits on every backend. Comparisons give
 * masks, which &, | and ~ combine and vselect reads.
 */
#ifndef FASTRNN_ELEMENTWISE_H
#define FASTRNN_ELEMENTWISE_H

#include "simd.h"

/* False where a lane has a NaN, except for vnot_equal. */
ALWAYS_INLINE vinteger vless(const vreal a, const vreal b) { return (vinteger)(a < b); }
ALWAYS_INLINE vinteger vless_equal(const vreal a, const vreal b) { return (vinteger)(a <= b); }
ALWAYS_INLINE vinteger vequal(const vreal a, const vreal b) { return (vinteger)(a == b); }
ALWAYS_INLINE vinteger vnot_equal(const vreal a, const vreal b) { return (vinteger)(a != b); }

/* NaN where a or b is NaN; a where they are equal, so for zeros of both signs too. */
ALWAYS_INLINE vreal vmin_nan(const vreal a, const vreal b) { return vselect(vnot_equal(b, b), b, vat_most(a, b)); }
ALWAYS_INLINE vreal vmax_nan(const vreal a, const vreal b) { return vselect(vnot_equal(b, b), b, vat_least(a, b)); }

/* x > 0 ? x : 0, and NaN stays. -0 becomes 0. */
ALWAYS_INLINE vreal vrelu(const vreal x) { return vselect(vless_equal(x, vsplat(0)), vsplat(0), x); }

ALWAYS_INLINE vreal vabs(const vreal x) { return vfrom_bits(vbits(x) & ~vbits(vsplat((real)-0.0))); }

/* 1, -1, or 0 for both zeros; NaN stays. */
ALWAYS_INLINE vreal vsign(const vreal x) {
    const vinteger one = vbits(vsplat(1));
    const vreal sign = vfrom_bits(vless(vsplat(0), x) & one) - vfrom_bits(vless(x, vsplat(0)) & one);
    return vselect(vnot_equal(x, x), x, sign);
}

/* Correctly rounded. Both compilers make one vector instruction of it. */
ALWAYS_INLINE vreal vsqrt(const vreal x) {
    vreal y = x;
    UNROLL
    for (int lane = 0; lane < VL; lane++) {
#if FASTRNN_REAL_BITS == 32
        y[lane] = __builtin_sqrtf(x[lane]);
#else
        y[lane] = __builtin_sqrt(x[lane]);
#endif
    }
    return y;
}

#endif
