/* What the fuzz targets require: a condition, or the same bits. */
#ifndef FASTRNN_TESTS_REQUIRED_H
#define FASTRNN_TESTS_REQUIRED_H

#include "drawn.h"

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

/* Equal in every bit; for a NaN, the other value must be a NaN too. */
static bool same_reals(const unsigned char *const a, const unsigned char *const b, const size_t bytes,
                       const enum fastrnn_dtype dtype) {
    if (bytes == 0 || memcmp(a, b, bytes) == 0) {
        return true;
    }
    for (size_t at = 0; at < bytes; at += real_bytes(dtype)) {
        const bool both_nan = dtype == FASTRNN_F32 ? *(const float *)(a + at) != *(const float *)(a + at) &&
                                                         *(const float *)(b + at) != *(const float *)(b + at)
                                                   : *(const double *)(a + at) != *(const double *)(a + at) &&
                                                         *(const double *)(b + at) != *(const double *)(b + at);
        if (memcmp(a + at, b + at, real_bytes(dtype)) != 0 && !both_nan) {
            return false;
        }
    }
    return true;
}

#endif
