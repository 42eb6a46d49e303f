/* Limits of this machine: floating-point rate and read bandwidth of one core. machine.py compiles and loads this file
 * with the instruction set of the backend under test. Every function returns a rate. The compiler may fuse a*b + c,
 * since peaks promise no bits. */
#include <stddef.h>
#include <time.h>

#include <omp.h>

#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX2__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
typedef float vfloat __attribute__((vector_size(BYTES)));
enum { LANES = BYTES / sizeof(float), CHAINS = 12 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Keeps a value alive without storing it. */
static void keep(const vfloat v) {
#if defined(__x86_64__)
    __asm__ volatile("" ::"x"(v));
#else
    __asm__ volatile("" ::"w"(v));
#endif
}

/* Twelve independent chains: a latency of 4 on two units needs eight. */
double fma_gflops(const long rounds) {
    vfloat chain[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        chain[j] = (float)j - (vfloat){0};
    }
    const vfloat factor = 0.999f - (vfloat){0}, term = 1e-3f - (vfloat){0};
    const double begin = seconds();
    for (long k = 0; k < rounds; k++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) {
            chain[j] = chain[j] * factor + term;
        }
    }
    const double time = seconds() - begin;
    for (int j = 0; j < CHAINS; j++) {
        keep(chain[j]);
    }
    return 2.0 * CHAINS * LANES * (double)rounds / time * 1e-9;
}

/* Reads `bytes` at `data` once to warm the cache, then `rounds` times; bytes must be a multiple of 8*BYTES. */
double read_gigabytes(const float *const data, const size_t bytes, const long rounds) {
    enum { STREAMS = 8 };
    vfloat sum[STREAMS] = {0};
    double begin = 0;
    for (long k = -1; k < rounds; k++) {
        if (k == 0) {
            begin = seconds();
        }
        for (size_t at = 0; at < bytes / sizeof(float); at += STREAMS * LANES) {
#pragma GCC unroll 8
            for (int j = 0; j < STREAMS; j++) {
                vfloat v;
                __builtin_memcpy(&v, data + at + (size_t)(j * LANES), sizeof v);
                sum[j] += v;
            }
        }
    }
    const double time = seconds() - begin;
    for (int j = 0; j < STREAMS; j++) {
        keep(sum[j]);
    }
    return (double)bytes * (double)rounds / time * 1e-9;
}

/* Seconds of a barrier among the threads of a team. */
double barrier_seconds(const int threads, const long rounds) {
    double time = 0;
#pragma omp parallel num_threads(threads)
    {
        const double begin = seconds();
        for (long k = 0; k < rounds; k++) {
#pragma omp barrier
        }
#pragma omp single
        time = seconds() - begin;
    }
    return time / (double)rounds;
}

/* Seconds of an empty parallel region. */
double region_seconds(const int threads, const long rounds) {
    const double begin = seconds();
    for (long k = 0; k < rounds; k++) {
#pragma omp parallel num_threads(threads)
        keep((vfloat){0});
    }
    return (seconds() - begin) / (double)rounds;
}
