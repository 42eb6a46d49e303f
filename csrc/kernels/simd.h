/* Vectors of VL reals, written with the vector extensions of GCC and Clang. An instruction set adds its width, its
 * fused multiply-add and its partial loads and stores; nothing else in the kernels knows which one it is compiled for.
 *
 * FASTRNN_REAL_BITS (32 or 64) chooses the real type. Arithmetic on vreal is one rounding an operator: contraction is
 * off, and vfma is the only fused operation.
 */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The generic backend uses the compiler's vectors and nothing else. */
#if !defined(FASTRNN_GENERIC)
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if FASTRNN_REAL_BITS == 32
typedef float real;
typedef int32_t integer;
#elif FASTRNN_REAL_BITS == 64
typedef double real;
typedef int64_t integer;
#else
#error "FASTRNN_REAL_BITS must be 32 or 64"
#endif

typedef real vreal __attribute__((vector_size(VECTOR_BYTES)));
typedef integer vinteger __attribute__((vector_size(VECTOR_BYTES))); /* also a mask: 0 or -1 in each lane */
enum { VL = VECTOR_BYTES / sizeof(real) };

/* The number of vector registers, which determines the shape of tiles. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define VECTOR_REGISTERS 32
#else
#define VECTOR_REGISTERS 16
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Before a loop with bounds that are constant after inlining: its arrays become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Before a call through a pointer that is constant after inlining, if neighbouring calls differ only in constants:
 * Clang would otherwise merge the calls into one with variable arguments before it has resolved the pointer. */
#if defined(__clang__)
#define UNMERGED __attribute__((nomerge))
#else
#define UNMERGED
#endif

/* All lanes s. (s - 0 keeps the sign of -0, which s + 0 would not.) */
ALWAYS_INLINE vreal vsplat(const real s) { return s - (vreal){0}; }

ALWAYS_INLINE vreal vload(const real *const p) {
    vreal v;
    memcpy(&v, p, sizeof v);
    return v;
}

ALWAYS_INLINE void vstore(real *const p, const vreal v) { memcpy(p, &v, sizeof v); }

/* Stores past the caches where the machine can, at a p that is aligned to a vector; vstream_end before others may read.
 */
#if defined(__x86_64__) && !defined(FASTRNN_GENERIC)
#if VECTOR_BYTES == 64
ALWAYS_INLINE void vstream(real *const p, const vreal v) { _mm512_stream_si512((__m512i *)p, (__m512i)v); }
#elif VECTOR_BYTES == 32
ALWAYS_INLINE void vstream(real *const p, const vreal v) { _mm256_stream_si256((__m256i *)p, (__m256i)v); }
#else
ALWAYS_INLINE void vstream(real *const p, const vreal v) { _mm_stream_si128((__m128i *)p, (__m128i)v); }
#endif
ALWAYS_INLINE void vstream_end(void) { _mm_sfence(); }
#else
ALWAYS_INLINE void vstream(real *const p, const vreal v) { vstore(p, v); }
ALWAYS_INLINE void vstream_end(void) {}
#endif

/* v, held in a register from here on: a compiler would otherwise load it again for each use, or make a memcpy of a loop
 * that copies an array of them, which then stays in memory. */
ALWAYS_INLINE vreal vkeep(vreal v) {
#if defined(__x86_64__)
    __asm__("" : "+v"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
    return v;
}

/* v, computed before anything is loaded that comes later in the source. */
ALWAYS_INLINE vreal vbefore_loads(vreal v) {
#if defined(__x86_64__)
    __asm__ volatile("" : "+v"(v) : : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("" : "+w"(v) : : "memory");
#endif
    return v;
}

/* Same bits, other type. */
ALWAYS_INLINE vinteger vbits(const vreal v) { return (vinteger)v; }
ALWAYS_INLINE vreal vfrom_bits(const vinteger v) { return (vreal)v; }

/* Lane by lane: mask ? a : b, for a mask that a comparison made. */
ALWAYS_INLINE vreal vselect(const vinteger mask, const vreal a, const vreal b) {
    return vfrom_bits((mask & vbits(a)) | (~mask & vbits(b)));
}

/* x, but at most (at least) the bound. A NaN stays: x86 gives the second operand where one is a NaN. */
#if defined(__AVX512F__) && FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm512_min_ps(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm512_max_ps(bound, x); }
#elif defined(__AVX512F__)
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm512_min_pd(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm512_max_pd(bound, x); }
#elif defined(__AVX2__) && FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm256_min_ps(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm256_max_ps(bound, x); }
#elif defined(__AVX2__)
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm256_min_pd(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm256_max_pd(bound, x); }
#elif defined(__x86_64__) && FASTRNN_REAL_BITS == 32 && !defined(FASTRNN_GENERIC)
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm_min_ps(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm_max_ps(bound, x); }
#elif defined(__x86_64__) && !defined(FASTRNN_GENERIC)
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return _mm_min_pd(bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return _mm_max_pd(bound, x); }
#else
ALWAYS_INLINE vreal vat_most(const vreal x, const vreal bound) { return vselect(x > bound, bound, x); }
ALWAYS_INLINE vreal vat_least(const vreal x, const vreal bound) { return vselect(x < bound, bound, x); }
#endif

/* A vector is made of pieces of 16 bytes. Within each piece, the elements of a and b in turn: first from the
 * lower half of the piece, then from the upper half. Elements are reals, or pairs of reals. */
enum { PIECE = 16 / sizeof(real) };
#if defined(__clang__)
#define SHUFFLE __builtin_shufflevector
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vinteger){__VA_ARGS__})
#endif
#if VECTOR_BYTES * 8 / FASTRNN_REAL_BITS == 16
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
ALWAYS_INLINE vreal vzip_pairs_low(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
}
ALWAYS_INLINE vreal vzip_pairs_high(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
#elif VECTOR_BYTES == 64
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15); }
#elif VECTOR_BYTES * 8 / FASTRNN_REAL_BITS == 8
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
ALWAYS_INLINE vreal vzip_pairs_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13); }
ALWAYS_INLINE vreal vzip_pairs_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15); }
#elif VECTOR_BYTES == 32
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 4, 2, 6); }
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 1, 5, 3, 7); }
#elif FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 4, 1, 5); }
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 2, 6, 3, 7); }
ALWAYS_INLINE vreal vzip_pairs_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 1, 4, 5); }
ALWAYS_INLINE vreal vzip_pairs_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 2, 3, 6, 7); }
#else
ALWAYS_INLINE vreal vzip_low(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 2); }
ALWAYS_INLINE vreal vzip_high(const vreal a, const vreal b) { return SHUFFLE(a, b, 1, 3); }
#endif

/* Two halves of a vector, `step` reals apart in memory. */
#if VECTOR_BYTES == 64
ALWAYS_INLINE vreal vload_halves(const real *const p, const ptrdiff_t step) {
    const __m512d low = _mm512_castpd256_pd512(_mm256_loadu_pd((const double *)(const void *)p));
    return (vreal)_mm512_insertf64x4(low, _mm256_loadu_pd((const double *)(const void *)(p + step)), 1);
}
#if FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vpieces_even(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
}
ALWAYS_INLINE vreal vpieces_odd(const vreal a, const vreal b) {
    return SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}
#else
ALWAYS_INLINE vreal vpieces_even(const vreal a, const vreal b) { return SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13); }
ALWAYS_INLINE vreal vpieces_odd(const vreal a, const vreal b) { return SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15); }
#endif
#elif VECTOR_BYTES == 32
ALWAYS_INLINE vreal vload_halves(const real *const p, const ptrdiff_t step) {
    const __m256d low = _mm256_castpd128_pd256(_mm_loadu_pd((const double *)(const void *)p));
    return (vreal)_mm256_insertf128_pd(low, _mm_loadu_pd((const double *)(const void *)(p + step)), 1);
}
#endif

/* a*b + c, rounded once where the machine has it (FASTRNN_HAS_FMA), twice elsewhere. */
#if defined(__AVX512F__) && FASTRNN_REAL_BITS == 32
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX512F__)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__AVX2__) && defined(__FMA__) && FASTRNN_REAL_BITS == 32
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm256_fmadd_ps(a, b, c); }
#elif defined(__AVX2__) && defined(__FMA__)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm256_fmadd_pd(a, b, c); }
#elif defined(__aarch64__) && defined(__ARM_NEON) && FASTRNN_REAL_BITS == 32 && !defined(FASTRNN_GENERIC)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) {
    return (vreal)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(FASTRNN_GENERIC)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) {
    return (vreal)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
#define FASTRNN_HAS_FMA 0
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return a * b + c; }
#endif

/* The first n lanes in memory, 1 <= n < VL: the other lanes load as zero, and are not stored. */
#if defined(__AVX512F__) && FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vload_partial(const real *const p, const int n) {
    return _mm512_maskz_loadu_ps((__mmask16)(0xFFFFu >> (VL - n)), p);
}
ALWAYS_INLINE void vstore_partial(real *const p, const vreal v, const int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)(0xFFFFu >> (VL - n)), v);
}
#elif defined(__AVX512F__)
ALWAYS_INLINE vreal vload_partial(const real *const p, const int n) {
    return _mm512_maskz_loadu_pd((__mmask8)(0xFFu >> (VL - n)), p);
}
ALWAYS_INLINE void vstore_partial(real *const p, const vreal v, const int n) {
    _mm512_mask_storeu_pd(p, (__mmask8)(0xFFu >> (VL - n)), v);
}
#elif defined(__AVX2__)
/* vstore_partial uses narrower stores: a masked store is slow on the processors of AMD. */
ALWAYS_INLINE vreal vload_partial(const real *const p, const int n) {
    static const integer lanes[2 * VL] = {[0 ... VL - 1] = -1};
    const __m256i mask = _mm256_loadu_si256((const __m256i *)(lanes + VL - n));
#if FASTRNN_REAL_BITS == 32
    return _mm256_maskload_ps(p, mask);
#else
    return _mm256_maskload_pd(p, mask);
#endif
}
ALWAYS_INLINE void vstore_partial(real *const p, const vreal v, const int n) {
    const __m256d wide = (__m256d)v;
    __m128d left = _mm256_castpd256_pd128(wide);
    char *to = (char *)p;
    const int floats = n * (int)(sizeof(real) / sizeof(float));
    if (floats & 4) {
        memcpy(to, &left, 4 * sizeof(float));
        left = _mm256_extractf128_pd(wide, 1);
        to += 4 * sizeof(float);
    }
    if (floats & 2) {
        const double two = _mm_cvtsd_f64(left);
        memcpy(to, &two, sizeof two);
        left = _mm_unpackhi_pd(left, left);
        to += sizeof two;
    }
    if (floats & 1) {
        const float one = _mm_cvtss_f32((__m128)left);
        memcpy(to, &one, sizeof one);
    }
}
#else
ALWAYS_INLINE vreal vload_partial(const real *const p, const int n) {
    vreal v = {0};
    UNROLL
    for (int lane = 0; lane < VL - 1; lane++) {
        if (lane < n) {
            v[lane] = p[lane];
        }
    }
    return v;
}
ALWAYS_INLINE void vstore_partial(real *const p, const vreal v, const int n) {
    UNROLL
    for (int lane = 0; lane < VL - 1; lane++) {
        if (lane < n) {
            p[lane] = v[lane];
        }
    }
}
#endif

/* The same for 1 <= n <= VL. Whole vectors are common, and partial accesses are slow on some processors. */
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) { return n == VL ? vload(p) : vload_partial(p, n); }
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) {
    if (n == VL) {
        vstore(p, v);
    } else {
        vstore_partial(p, v, n);
    }
}

#endif
