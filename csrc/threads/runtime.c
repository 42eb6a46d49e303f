/* The OpenMP runtime under this library, and how the library was built: what show_config tells. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dladdr */
#endif
#include <stddef.h>

#include "fastrnn.h"
#include "fork.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(_OPENMP) && !defined(_WIN32)
#include <dlfcn.h>
#endif

int fastrnn_is_forked(void) { return fork_is_child(); }

const char *fastrnn_openmp_version(void) {
#if !defined(_OPENMP)
    return "none";
#elif _OPENMP >= 202011
    return "5.1";
#elif _OPENMP >= 201811
    return "5.0";
#elif _OPENMP >= 201511
    return "4.5";
#else
    return "4.0 or older";
#endif
}

const char *fastrnn_openmp_library(void) {
#if defined(_OPENMP) && !defined(_WIN32)
    Dl_info info;
    if (dladdr((const void *)(uintptr_t)omp_get_max_threads, &info)) {
        return info.dli_fname;
    }
#endif
    return NULL;
}

int fastrnn_max_threads(void) {
#if defined(_OPENMP)
    const int threads = omp_get_max_threads(); /* below 1 if OMP_NUM_THREADS does not fit an int */
    return fork_is_child() ? 1 : threads >= 1 ? threads : omp_get_num_procs();
#else
    return 1;
#endif
}

const char *fastrnn_build(void) { return FASTRNN_BUILD; }
