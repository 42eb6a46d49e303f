/* Offsets in a region of memory, one after the other, with checked arithmetic. */
#ifndef FASTRNN_CURSOR_H
#define FASTRNN_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAYOUT_LINE_BYTES = 64 };

struct layout_cursor {
    size_t reals;
    bool overflowed;
};

/* Reserves a*b*c*d reals and returns their offset. */
static inline size_t layout_take(struct layout_cursor *const cursor, const int line, const int64_t a, const int64_t b,
                                 const int64_t c, const int64_t d) {
    const size_t at = cursor->reals;
    size_t n, end;
    bool overflowed = __builtin_mul_overflow(a, b, &n);
    overflowed |= __builtin_mul_overflow(n, c, &n);
    overflowed |= __builtin_mul_overflow(n, d, &n);
    overflowed |= __builtin_add_overflow(n, (size_t)line - 1, &n);
    overflowed |= __builtin_add_overflow(at, n & ~((size_t)line - 1), &end);
    cursor->reals = end;
    cursor->overflowed |= overflowed;
    return at;
}

/* The bytes that the caller provides for a region: with room to align it, and below a limit that keeps every later sum
 * of offsets exact. */
static inline size_t layout_bytes(struct layout_cursor *const cursor, const int real_bytes) {
    size_t bytes;
    cursor->overflowed |= __builtin_mul_overflow(cursor->reals, (size_t)real_bytes, &bytes);
    cursor->overflowed |= __builtin_add_overflow(bytes, (size_t)LAYOUT_LINE_BYTES, &bytes);
    cursor->overflowed |= bytes > (size_t)PTRDIFF_MAX / 4;
    return bytes;
}

#endif
