#include "dispatch.h"

#include <stdatomic.h>
#include <stddef.h>

/* backends.def is written by CMake from its list of instruction sets: FASTRNN_BACKEND(name), best first. */
#define FASTRNN_BACKEND(name) extern const struct backend backend_##name##_f32, backend_##name##_f64;
#include "backends.def"
#undef FASTRNN_BACKEND

static const struct {
    const char *name;
    const struct backend *of_dtype[FASTRNN_DTYPE_COUNT];
} backends[] = {
#define FASTRNN_BACKEND(name) {#name, {&backend_##name##_f32, &backend_##name##_f64}},
#include "backends.def"
#undef FASTRNN_BACKEND
};

static int is_backend(const int index) { return index >= 0 && index < fastrnn_backend_count(); }

const struct backend *dispatch_backend(const int index, const enum fastrnn_dtype dtype) {
    return backends[index].of_dtype[dtype];
}

int fastrnn_backend_count(void) { return (int)(sizeof backends / sizeof *backends); }

const char *fastrnn_backend_name(const int backend) { return is_backend(backend) ? backends[backend].name : NULL; }

int fastrnn_backend_runs_here(const int backend) {
    /* cpuid traps in a virtual machine: ask once. */
    static atomic_uint known;
    const unsigned asked = 1u << 31;
    unsigned machine = atomic_load_explicit(&known, memory_order_relaxed);
    if (!(machine & asked)) {
        machine = cpu_features_of_this_machine() | asked;
        atomic_store_explicit(&known, machine, memory_order_relaxed);
    }
    return is_backend(backend) && !(dispatch_backend(backend, FASTRNN_F32)->needs & ~machine);
}

int fastrnn_backend_has_fma(const int backend) {
    return is_backend(backend) && dispatch_backend(backend, FASTRNN_F32)->has_fma;
}

int fastrnn_backend_vector_length(const int backend, const enum fastrnn_dtype dtype) {
    const int known = is_backend(backend) && (dtype == FASTRNN_F32 || dtype == FASTRNN_F64);
    return known ? dispatch_backend(backend, dtype)->vector_length : 0;
}

int fastrnn_best_backend(void) {
    for (int backend = 0; backend < fastrnn_backend_count(); backend++) {
        if (fastrnn_backend_runs_here(backend)) {
            return backend;
        }
    }
    return -1; /* never: every build has the generic backend */
}
