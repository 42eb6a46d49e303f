/* Values from the bytes of a fuzzer's input: numbers, and tensors with all kinds of strides. Every buffer has exactly
 * the needed size, so sanitizers see an overrun. */
#ifndef FASTRNN_TESTS_DRAWN_H
#define FASTRNN_TESTS_DRAWN_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum { BUFFERS_MAX = 1024, POISON = 0xA5 };

/* ---- bytes ---- */

struct bytes {
    const uint8_t *at, *end;
};

/* The next byte; zero after the last. */
static uint8_t draw_byte(struct bytes *const from) { return from->at < from->end ? *from->at++ : 0; }
static bool draw_bit(struct bytes *const from) { return draw_byte(from) & 1; }
static int64_t draw_below(struct bytes *const from, const int64_t n) { return draw_byte(from) % n; }

static int64_t draw_wide(struct bytes *const from) {
    uint64_t wide = 0;
    for (int j = 0; j < 8; j++) {
        wide = wide << 8 | draw_byte(from);
    }
    return (int64_t)wide;
}

/* ---- memory ---- */

static struct {
    void *buffers[BUFFERS_MAX];
    int count;
} taken;

/* A poisoned buffer that lives until release_all. */
static void *take(const size_t bytes) {
    void *const buffer = malloc(bytes);
    if ((!buffer && bytes > 0) || taken.count == BUFFERS_MAX) {
        abort();
    }
    taken.buffers[taken.count++] = buffer;
    return bytes ? memset(buffer, POISON, bytes) : buffer;
}

static void *take_copy(const void *const data, const size_t bytes) {
    void *const copy = take(bytes);
    return bytes ? memcpy(copy, data, bytes) : copy;
}

static int64_t *take_integers(const int64_t n) { return take((size_t)n * sizeof(int64_t)); }

static void release_all(void) {
    while (taken.count > 0) {
        free(taken.buffers[--taken.count]);
    }
}

static size_t real_bytes(const enum fastrnn_dtype dtype) {
    return dtype == FASTRNN_F32 ? sizeof(float) : sizeof(double);
}

/* ---- tensors ---- */

/* (T, B, n) in memory of its own; strides count reals. */
struct tensor {
    unsigned char *block;
    size_t bytes;
    int64_t T, B, n;
    ptrdiff_t first, stride_t, stride_b; /* first: of element (0, 0, 0) */
};

/* A tensor without memory, whose bytes say how its rows lie: batch first or not, with gaps, or backwards. */
static struct tensor draw_layout(struct bytes *const from, const enum fastrnn_dtype dtype, const int64_t T,
                                 const int64_t B, const int64_t n) {
    const uint8_t kind = draw_byte(from);
    const bool batch_first = kind & 1, t_backwards = kind & 2, b_backwards = kind & 4;
    const int64_t row = n + (kind >> 3) % 4, rows = T * B;
    struct tensor x = {.T = T, .B = B, .n = n};
    x.stride_t = batch_first ? row : B * row;
    x.stride_b = batch_first ? T * row : row;
    if (rows > 0) {
        x.bytes = (size_t)((rows - 1) * row + n) * real_bytes(dtype);
        x.first = (t_backwards ? (T - 1) * x.stride_t : 0) + (b_backwards ? (B - 1) * x.stride_b : 0);
    }
    x.stride_t *= t_backwards ? -1 : 1;
    x.stride_b *= b_backwards ? -1 : 1;
    return x;
}

static struct tensor with_memory(struct tensor layout) {
    layout.block = take(layout.bytes);
    return layout;
}

static unsigned char *row_of_tensor(const struct tensor *const x, const size_t size, const int64_t t, const int64_t b) {
    return x->block + (x->first + t * x->stride_t + b * x->stride_b) * (ptrdiff_t)size;
}

static struct fastrnn_view view_of(const struct tensor *const x, const size_t size) {
    if (!x->block) {
        return (struct fastrnn_view){0};
    }
    return (struct fastrnn_view){x->block + x->first * (ptrdiff_t)size, x->stride_t, x->stride_b};
}

static struct fastrnn_const_view const_view_of(const struct tensor *const x, const size_t size) {
    const struct fastrnn_view view = view_of(x, size);
    return (struct fastrnn_const_view){view.data, view.stride_t, view.stride_b};
}

/* Reals that a byte chooses: mostly in [-1, 1), some of them huge, tiny, infinite or NaN. */
static void draw_reals(struct bytes *const from, const enum fastrnn_dtype dtype, struct tensor *const x) {
    static const double special[] = {0x1p+1000, -0x1p-1000, 1 / 0.0, -1 / 0.0, 0 / 0.0, -0.0, 100, -100};
    const bool specials = draw_byte(from) % 8 == 7;
    uint64_t seed = draw_byte(from);
    for (size_t j = 0; j < x->bytes / real_bytes(dtype); j++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u; /* the generator of Knuth's MMIX */
        const double plain = (double)(seed >> 11) * 0x1p-52 - 1;
        const double value = specials && (seed >> 32) % 16 == 0 ? special[(seed >> 40) % 8] : plain;
        if (dtype == FASTRNN_F32) {
            ((float *)x->block)[j] = (float)value;
        } else {
            ((double *)x->block)[j] = value;
        }
    }
}

#endif
