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

/* Registers that hold vectors: what the tile's shape is chosen from. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { VECTOR_REGISTERS = 32 };
#else
enum { VECTOR_REGISTERS = 16 };
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Before a loop whose bounds are constant after inlining: its arrays become registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Before a call through a pointer that is constant after inlining, where its neighbours differ from it in constants
 * alone: Clang would make one call of them all, whose constants are variables, before it knows whom they call. */
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

/* The lanes of a and b in turn: those of their lower halves, and those of their upper halves. */
#if VECTOR_BYTES * 8 / FASTRNN_REAL_BITS == 16
#define FASTRNN_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FASTRNN_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES * 8 / FASTRNN_REAL_BITS == 8
#define FASTRNN_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define FASTRNN_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES * 8 / FASTRNN_REAL_BITS == 4
#define FASTRNN_LOW 0, 4, 1, 5
#define FASTRNN_HIGH 2, 6, 3, 7
#else
#define FASTRNN_LOW 0, 2
#define FASTRNN_HIGH 1, 3
#endif
#if defined(__clang__)
ALWAYS_INLINE vreal vinterleave_low(const vreal a, const vreal b) { return __builtin_shufflevector(a, b, FASTRNN_LOW); }
ALWAYS_INLINE vreal vinterleave_high(const vreal a, const vreal b) {
    return __builtin_shufflevector(a, b, FASTRNN_HIGH);
}
#else
ALWAYS_INLINE vreal vinterleave_low(const vreal a, const vreal b) {
    return __builtin_shuffle(a, b, (vinteger){FASTRNN_LOW});
}
ALWAYS_INLINE vreal vinterleave_high(const vreal a, const vreal b) {
    return __builtin_shuffle(a, b, (vinteger){FASTRNN_HIGH});
}
#endif

/* a*b + c, rounded once where the machine has it (FASTRNN_HAS_FMA), twice elsewhere.
 * vload_n and vstore_n touch the first n lanes only, 1 <= n <= VL; the other lanes load as zero. */
#if defined(__AVX512F__) && FASTRNN_REAL_BITS == 32
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm512_fmadd_ps(a, b, c); }
ALWAYS_INLINE __mmask16 vmask_n(const int n) { return (__mmask16)(0xFFFFu >> (VL - n)); }
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) { return _mm512_maskz_loadu_ps(vmask_n(n), p); }
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) { _mm512_mask_storeu_ps(p, vmask_n(n), v); }
#elif defined(__AVX512F__)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm512_fmadd_pd(a, b, c); }
ALWAYS_INLINE __mmask8 vmask_n(const int n) { return (__mmask8)(0xFFu >> (VL - n)); }
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) { return _mm512_maskz_loadu_pd(vmask_n(n), p); }
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) { _mm512_mask_storeu_pd(p, vmask_n(n), v); }
#elif defined(__AVX2__) && defined(__FMA__)
#define FASTRNN_HAS_FMA 1
ALWAYS_INLINE __m256i vmask_n(const int n) {
    static const integer lanes[2 * VL] = {[0 ... VL - 1] = -1};
    return _mm256_loadu_si256((const __m256i *)(lanes + VL - n));
}
#if FASTRNN_REAL_BITS == 32
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm256_fmadd_ps(a, b, c); }
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) { return _mm256_maskload_ps(p, vmask_n(n)); }
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) { _mm256_maskstore_ps(p, vmask_n(n), v); }
#else
ALWAYS_INLINE vreal vfma(const vreal a, const vreal b, const vreal c) { return _mm256_fmadd_pd(a, b, c); }
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) { return _mm256_maskload_pd(p, vmask_n(n)); }
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) { _mm256_maskstore_pd(p, vmask_n(n), v); }
#endif
#else
#if defined(__aarch64__) && defined(__ARM_NEON) && FASTRNN_REAL_BITS == 32 && !defined(FASTRNN_GENERIC)
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
/* Whole vectors are common, and a copy of unknown length is a call. */
ALWAYS_INLINE vreal vload_n(const real *const p, const int n) {
    if (n == VL) {
        return vload(p);
    }
    vreal v = {0};
    memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
ALWAYS_INLINE void vstore_n(real *const p, const vreal v, const int n) {
    if (n == VL) {
        vstore(p, v);
    } else {
        memcpy(p, &v, (size_t)n * sizeof(real));
    }
}
#endif

#endif
