/* Tensors with all kinds of strides, from the bytes of a fuzzer's input. */
#ifndef FASTRNN_TESTS_DRAWN_TENSOR_H
#define FASTRNN_TESTS_DRAWN_TENSOR_H

#include "drawn.h"

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

static void draw_reals(struct bytes *const from, const enum fastrnn_dtype dtype, struct tensor *const x) {
    draw_numbers(from, dtype, x->block, x->bytes);
}

#endif
