/* The register tile, the only hot loop of the library:
 *
 *     to[r][p] = start[r][p] + sum over k of a[r][k] * w[p][k]
 *
 * R rows of a are broadcast against Q*P panels of w: P vectors of each of Q blocks for every k.
 *
 *               p=0      p=1   …          R*P accumulators stay in registers; each k costs P loads of w and
 *     r=0     acc[0]   acc[1]             R broadcasts of a for R*P fused multiply-adds. Every accumulator is one
 *     r=1     acc[…]                      chain in ascending k: no other order is ever used, whatever the shape
 *     …                                   of the tile, so the tile's shape never shows in the result.
 *
 * Every product of the library runs through one table of tiles with a function for each shape. `struct tile` describes
 * the operands; the shape is a compile-time constant in each function.
 */
#ifndef FASTRNN_TILE_H
#define FASTRNN_TILE_H

#include <stdbool.h>

#include "simd.h"

enum {
    /* Panels of a tile of several rows: 32 registers hold 6 x 4 accumulators, four panels and a broadcast; 16 hold
     * 6 x 2, two panels and a broadcast. Weights are read once for all rows of a tile, so that many rows matter more
     * than many panels (docs/decisions/0016). Three gates leave room for three. */
    TILE_PANELS = VECTOR_REGISTERS == 32 ? 4 : 2,
    TILE_ROWS = 6,
    TILE_ROWS_OF_THREE = VECTOR_REGISTERS == 32 ? 8 : 4,
    /* Tiles of at most so many rows take four panels: two rows of two panels would be four chains, which do not hide
     * the latency of a multiply-add. */
    TILE_ROWS_OF_FOUR_PANELS = VECTOR_REGISTERS == 32 ? (int)TILE_ROWS : 3,
    TILE_ROWS_MAX = TILE_ROWS > TILE_ROWS_OF_THREE ? (int)TILE_ROWS : (int)TILE_ROWS_OF_THREE,
    /* One row needs its panels as independent chains: latency 4 x 2 units. */
    TILE_PANELS_MAX = 9,
    /* How far ahead a lone tile of several rows fetches its panels: beyond the latency of the second-level cache. A
     * tile of one row fetches nothing: the hardware prefetcher keeps up, and more requests slow it down
     * (docs/decisions/0017). */
    TILE_PREFETCH_K = 16,
};

/* R rows; Q blocks side by side, P of the G panels of each. */
struct tile_shape {
    int R, Q, P, G;
};

/* The kinds of operand a, which differ in their constant strides. */
enum tile_operand {
    TILE_OF_ROWS,   /* a[r*a_row + k]: rows of x or h */
    TILE_OF_SLOTS,  /* a[r*VL + k], k over parts and blocks: gate gradients, units in a row */
    TILE_OF_COLUMNS /* a[r + k*VL]: gate gradients, units in a column */
};

/* The parameters that all tiles of a product share. */
struct tile {
    int64_t K;                   /* k in each part */
    ptrdiff_t a_row;             /* TILE_OF_ROWS */
    ptrdiff_t w_block;           /* a vector of w lies at w[q*w_block + (k*G + p)*VL] */
    ptrdiff_t start_row, to_row; /* start[r*start_row + (q*P + p)*VL], to likewise */
    unsigned apart;              /* bit p: panel p of each block starts from `apart` instead */
    int64_t parts, heads;        /* TILE_OF_SLOTS: k runs over so many parts of K, one for each head of each slot … */
    ptrdiff_t a_part, a_block;   /* … a_part from slot to slot, and each part in blocks of VL */
    const char *fetch;           /* this tile's part of the next chunk, which the strip's tiles fetch together … */
    ptrdiff_t fetch_step;        /* … so many bytes with each k. fetch null: tiles of several rows fetch their own */
};

/* One k: all panels are in registers, with one broadcast at a time; a second broadcast may find no free register. */
ALWAYS_INLINE void tile_multiply(vreal (*const acc)[TILE_PANELS_MAX], const struct tile_shape shape,
                                 const real *const a, const ptrdiff_t a_row, const real *const w,
                                 const ptrdiff_t w_block) {
    const int panels = shape.Q * shape.P;
    vreal panel[TILE_PANELS_MAX];
    if (shape.R > 1 && panels > shape.R && (shape.R + 1) * panels >= VECTOR_REGISTERS) {
        vreal row[TILE_ROWS_MAX];
        UNROLL
        for (int r = 0; r < shape.R; r++) {
            row[r] = vkeep(vsplat(a[r * a_row]));
        }
        UNROLL
        for (int p = 0; p < panels; p++) {
            const vreal one = vkeep(vload(w + p / shape.P * w_block + p % shape.P * VL));
            UNROLL
            for (int r = 0; r < shape.R; r++) {
                acc[r][p] = vfma(row[r], one, acc[r][p]);
            }
            acc[shape.R - 1][p] = vbefore_loads(acc[shape.R - 1][p]);
        }
        return;
    }
    UNROLL
    for (int p = 0; p < panels; p++) {
        const real *const at = w + p / shape.P * w_block + p % shape.P * VL;
        panel[p] = vload(at);
        panel[p] = shape.R > 1 ? vkeep(panel[p]) : panel[p];
    }
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        const vreal broadcast = vsplat(a[r * a_row]);
        UNROLL
        for (int p = 0; p < panels; p++) {
            acc[r][p] = vfma(broadcast, panel[p], acc[r][p]);
        }
        if (shape.R > 1 && FASTRNN_HAS_FMA) {
            acc[r][panels - 1] = vbefore_loads(acc[r][panels - 1]);
        }
    }
}

ALWAYS_INLINE void tile_start(vreal (*const acc)[TILE_PANELS_MAX], const struct tile_shape shape,
                              const struct tile *const t, const real *const start, const real *const apart) {
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.P; p++) {
            if (!start) {
                acc[r][p] = vsplat(0);
            } else if (shape.G > 1 && (t->apart >> (p % shape.P) & 1)) {
                acc[r][p] = vload(apart + p * VL);
            } else {
                acc[r][p] = vload(start + r * t->start_row + p * VL);
            }
        }
    }
}

/* Fetches the lines of a tile's rows in the next block, which lies too far away for the hardware prefetcher
 * (docs/decisions/0017). */
ALWAYS_INLINE void tile_prefetch_rows(const struct tile_shape shape, const real *const at) {
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        __builtin_prefetch(at + r * VL);
    }
}

/* The data that a tile fetches with each k. */
enum tile_fetching {
    FETCH_NOTHING,
    FETCH_OWN,   /* its own panels, TILE_PREFETCH_K ahead */
    FETCH_SHARED /* a line of the chunk that the tiles of a strip fetch together */
};

ALWAYS_INLINE void tile_fetch(const enum tile_fetching fetching, const struct tile_shape shape,
                              const struct tile *const t, const real *const w, const char **const shared) {
    if (fetching == FETCH_SHARED) {
        __builtin_prefetch(*shared, 0, 2); /* into the second-level cache: the first would evict it before use */
        *shared += t->fetch_step;
    }
    if (fetching == FETCH_OWN) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.P; p++) {
            __builtin_prefetch(w + p / shape.P * t->w_block + p % shape.P * VL + TILE_PREFETCH_K * shape.G * VL);
        }
    }
}

/* Where a part of TILE_OF_SLOTS begins. */
ALWAYS_INLINE ptrdiff_t part_of_slots(const struct tile *const t, const int64_t part) {
    if (__builtin_expect(t->heads == 1, 1)) {
        return part * t->a_part;
    }
    const int64_t blocks = (t->K + VL - 1) / VL;
    return part / t->heads * t->a_part + part % t->heads * blocks * t->a_block;
}

ALWAYS_INLINE void tile_loop(vreal (*const acc)[TILE_PANELS_MAX], const enum tile_operand operand,
                             const struct tile_shape shape, const struct tile *const t, const real *const a,
                             const real *w, const enum tile_fetching fetching) {
    const ptrdiff_t a_row = operand == TILE_OF_ROWS ? t->a_row : operand == TILE_OF_SLOTS ? VL : 1;
    const ptrdiff_t w_block = t->w_block;
    const char *shared = t->fetch;
    if (operand == TILE_OF_SLOTS) {
        for (int64_t part = 0; part < t->parts; part++) {
            const real *block = a + part_of_slots(t, part);
            for (int64_t left = t->K; left > 0; left -= VL) {
                const real *at = block;
                block += t->a_block;
                tile_prefetch_rows(shape, block);
#pragma GCC unroll 1
                for (int k = left < VL ? (int)left : VL; k > 0; k--) {
                    tile_fetch(fetching, shape, t, w, &shared);
                    tile_multiply(acc, shape, at, a_row, w, w_block);
                    at++;
                    w += VL;
                }
            }
        }
    } else {
        const real *at = a;
#pragma GCC unroll 1
        for (int64_t k = t->K; k > 0; k--) {
            tile_fetch(fetching, shape, t, w, &shared);
            tile_multiply(acc, shape, at, a_row, w, w_block);
            at += operand == TILE_OF_COLUMNS ? VL : 1;
            w += shape.G * VL;
        }
    }
}

ALWAYS_INLINE void tile_run(const enum tile_operand operand, const struct tile_shape shape, const struct tile *const t,
                            const real *const a, const real *const w, const real *const start, const real *const apart,
                            real *const to) {
    vreal acc[TILE_ROWS_MAX][TILE_PANELS_MAX];
    if (start) {
        tile_start(acc, shape, t, start, apart);
    } else {
        tile_start(acc, shape, t, NULL, NULL);
    }
    if (shape.R == 1 || operand == TILE_OF_COLUMNS) {
        tile_loop(acc, operand, shape, t, a, w, FETCH_NOTHING);
    } else if (t->fetch) {
        tile_loop(acc, operand, shape, t, a, w, FETCH_SHARED);
    } else {
        tile_loop(acc, operand, shape, t, a, w, FETCH_OWN);
    }
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int p = 0; p < shape.Q * shape.P; p++) {
            vstore(to + r * t->to_row + p * VL, acc[r][p]);
        }
    }
}

/* A function for each shape: tiles of 1 to TILE_ROWS_MAX rows and 1 to 8 blocks. */
typedef void tile_function(const struct tile *, const real *a, const real *w, const real *start, const real *apart,
                           real *to);
#define TILE(name, operand, R, Q, P, G) \
    static __attribute__((noinline)) void tile_##name##_##R##x##Q(const struct tile *const t, const real *const a, \
                                                                  const real *const w, const real *const start, \
                                                                  const real *const apart, real *const to) { \
        tile_run(operand, (struct tile_shape){R, Q, P, G}, t, a, w, start, apart, to); \
    }
#define TILES_OF_ONE_ROW(of) of(1, 1) of(1, 2) of(1, 4) of(1, 8)
#define TILES_OF_ROWS(Q, of) of(2, Q) of(3, Q) of(4, Q) of(5, Q) of(6, Q)
#define TILES_OF_FOUR(of) of(1, 1) of(1, 2) TILES_OF_ROWS(1, of)
#if VECTOR_REGISTERS == 32
#define TILES_OF_THREE(of) of(1, 1) of(1, 2) of(1, 3) of(2, 1) of(3, 1) of(4, 1) of(5, 1) of(6, 1) of(7, 1) of(8, 1)
#define TILES_OF_SINGLES(of) TILES_OF_ONE_ROW(of) TILES_OF_ROWS(1, of) TILES_OF_ROWS(2, of) TILES_OF_ROWS(4, of)
#define TILES_OF_COLUMNS(of) of(1, 1) of(1, 2) of(1, 4) TILES_OF_ROWS(1, of) TILES_OF_ROWS(2, of) TILES_OF_ROWS(4, of)
#else
#define TILES_OF_THREE(of) of(1, 1) of(1, 2) of(1, 3) of(2, 1) of(3, 1) of(4, 1)
#define TILES_OF_SINGLES(of) TILES_OF_ONE_ROW(of) TILES_OF_ROWS(1, of) TILES_OF_ROWS(2, of) of(2, 4) of(3, 4)
#define TILES_OF_COLUMNS(of) \
    of(1, 1) of(1, 2) of(1, 3) of(2, 1) of(2, 2) of(2, 3) of(3, 1) of(3, 2) of(3, 3) of(4, 1) of(4, 2) of(4, 3)
#endif
#define UNITS_4(R, Q) TILE(units_4, TILE_OF_ROWS, R, Q, (R) > TILE_ROWS_OF_FOUR_PANELS ? TILE_PANELS : 4, 4)
#define UNITS_3(R, Q) TILE(units_3, TILE_OF_ROWS, R, Q, 3, 3)
#define UNITS_1(R, Q) TILE(units_1, TILE_OF_ROWS, R, Q, 1, 1)
#define SLOTS(R, Q) TILE(slots, TILE_OF_SLOTS, R, Q, 1, 1)
#define COLUMNS(R, Q) TILE(columns, TILE_OF_COLUMNS, R, Q, 1, 1)
TILES_OF_FOUR(UNITS_4)
TILES_OF_THREE(UNITS_3)
TILES_OF_SINGLES(UNITS_1)
TILES_OF_SINGLES(SLOTS)
TILES_OF_COLUMNS(COLUMNS)

typedef tile_function *tile_table[TILE_ROWS_MAX + 1][9];
#define ENTRY_4(R, Q) [R][Q] = tile_units_4_##R##x##Q,
#define ENTRY_3(R, Q) [R][Q] = tile_units_3_##R##x##Q,
#define ENTRY_1(R, Q) [R][Q] = tile_units_1_##R##x##Q,
#define ENTRY_SLOTS(R, Q) [R][Q] = tile_slots_##R##x##Q,
#define ENTRY_COLUMNS(R, Q) [R][Q] = tile_columns_##R##x##Q,
static const tile_table tiles_of_slots = {TILES_OF_SINGLES(ENTRY_SLOTS)};
static const tile_table tiles_of_columns = {TILES_OF_COLUMNS(ENTRY_COLUMNS)};
/* The table by the number of gates of a block. */
static const tile_table tiles_of_units[] = {
    [1] = {TILES_OF_SINGLES(ENTRY_1)},
    [3] = {TILES_OF_THREE(ENTRY_3)},
    [4] = {TILES_OF_FOUR(ENTRY_4)},
};

/* n rows are cut into tiles of nearly equal height, so that a lone row at the end never wastes a pass. */
struct tile_cut {
    int64_t tiles, each, more; /* the first `more` tiles have each + 1 rows */
};

static inline struct tile_cut tile_cut_rows(const int64_t n, const int rows_max) {
    if (n <= rows_max) {
        return (struct tile_cut){n > 0, n, 0}; /* without a division */
    }
    const int64_t tile_count = (n + rows_max - 1) / rows_max;
    return (struct tile_cut){tile_count, n / tile_count, n % tile_count};
}

static inline int tile_cut_height(const struct tile_cut *const cut, const int64_t tile) {
    return (int)(cut->each + (tile < cut->more));
}

#endif
