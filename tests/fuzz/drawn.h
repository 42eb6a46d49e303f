/* Values from the bytes of a fuzzer's input. Every buffer has exactly the needed size, so sanitizers see an overrun. */
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

/* Reals that a byte chooses: mostly in [-1, 1), some of them huge, tiny, infinite or NaN. */
static void draw_numbers(struct bytes *const from, const enum fastrnn_dtype dtype, void *const block,
                         const size_t bytes) {
    static const double special[] = {0x1p+1000, -0x1p-1000, 1 / 0.0, -1 / 0.0, 0 / 0.0, -0.0, 100, -100};
    const bool specials = draw_byte(from) % 8 == 7;
    uint64_t seed = draw_byte(from);
    for (size_t j = 0; j < bytes / real_bytes(dtype); j++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u; /* the generator of Knuth's MMIX */
        const double plain = (double)(seed >> 11) * 0x1p-52 - 1;
        const double value = specials && (seed >> 32) % 16 == 0 ? special[(seed >> 40) % 8] : plain;
        if (dtype == FASTRNN_F32) {
            ((float *)block)[j] = (float)value;
        } else {
            ((double *)block)[j] = value;
        }
    }
}

#endif
