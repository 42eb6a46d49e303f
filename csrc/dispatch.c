#if defined(_WIN32)
#define _CRT_SECURE_NO_WARNINGS /* getenv */
#endif
#include "dispatch.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

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

static cpu_features needs_of(const int backend) { return dispatch_backend(backend, FASTRNN_F32)->needs; }

/* The features that this backend needs and the next one does not: a CPU without the instruction set lacks them. Each
 * backend also needs the features of the next one, so the better backends are hidden with it. Every CPU of the
 * architecture has the features of the last backend. */
static cpu_features features_hidden_with(const int backend) {
    return is_backend(backend + 1) ? needs_of(backend) & ~needs_of(backend + 1) : 0;
}

int fastrnn_backend_can_be_hidden(const int backend) { return is_backend(backend) && features_hidden_with(backend); }

/* Bits of the answer below, beside the bits of cpu.h. */
static const cpu_features asked = 1u << 31, hides_unknown = 1u << 30;

static cpu_features features_hidden_by(const char *const name, const size_t length) {
    for (int backend = 0; backend < fastrnn_backend_count(); backend++) {
        if (strlen(backends[backend].name) == length && strncmp(backends[backend].name, name, length) == 0) {
            return fastrnn_backend_can_be_hidden(backend) ? features_hidden_with(backend) : hides_unknown;
        }
    }
    return hides_unknown;
}

static cpu_features features_hidden_by_environment(void) {
    const char *name = getenv("FASTRNN_HIDE");
    cpu_features hidden = 0;
    while (name && *name) {
        const size_t length = strcspn(name, ",");
        hidden |= features_hidden_by(name, length);
        name += length;
        if (*name == ',' && !*++name) {
            hidden |= hides_unknown; /* nothing after the last comma */
        }
    }
    return hidden;
}

/* The features that calls may use: asked once, since cpuid traps in a virtual machine. */
static cpu_features usable_features(void) {
    static atomic_uint known;
    cpu_features usable = atomic_load_explicit(&known, memory_order_relaxed);
    if (!(usable & asked)) {
        const cpu_features hidden = features_hidden_by_environment();
        usable = (cpu_features_of_this_machine() & ~hidden) | (hidden & hides_unknown) | asked;
        atomic_store_explicit(&known, usable, memory_order_relaxed);
    }
    return usable;
}

int fastrnn_backend_runs_here(const int backend) {
    const cpu_features usable = usable_features();
    return is_backend(backend) && !(usable & hides_unknown) && !(needs_of(backend) & ~usable);
}

int fastrnn_backend_is_hidden(const int backend) {
    return is_backend(backend) && !fastrnn_backend_runs_here(backend) &&
           !(needs_of(backend) & ~cpu_features_of_this_machine());
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
    return -1; /* FASTRNN_HIDE is wrong: otherwise the last backend runs */
}
