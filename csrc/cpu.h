/* Which instruction sets this CPU and its operating system can run. */
#ifndef FASTRNN_CPU_H
#define FASTRNN_CPU_H

#include <stdint.h>

typedef uint32_t cpu_features;

enum {
    CPU_SSE2 = 1 << 0,
    CPU_AVX2 = 1 << 1,
    CPU_FMA = 1 << 2,
    CPU_AVX512F = 1 << 3,
    CPU_AVX512VL = 1 << 4,
    CPU_AVX512DQ = 1 << 5,
    CPU_AVX512BW = 1 << 6,
    CPU_NEON = 1 << 7,
};

/* The features that the compiler may use with the current flags: a constant that differs between kernels. */
enum {
    CPU_FEATURES_OF_THIS_BUILD = 0
#if defined(__SSE2__)
                                 | CPU_SSE2
#endif
#if defined(__AVX2__)
                                 | CPU_AVX2
#endif
#if defined(__FMA__)
                                 | CPU_FMA
#endif
#if defined(__AVX512F__)
                                 | CPU_AVX512F
#endif
#if defined(__AVX512VL__)
                                 | CPU_AVX512VL
#endif
#if defined(__AVX512DQ__)
                                 | CPU_AVX512DQ
#endif
#if defined(__AVX512BW__)
                                 | CPU_AVX512BW
#endif
#if defined(__ARM_NEON)
                                 | CPU_NEON
#endif
};

/* The features of this machine. Registers that the operating system does not save count as absent. */
cpu_features cpu_features_of_this_machine(void);

#endif
