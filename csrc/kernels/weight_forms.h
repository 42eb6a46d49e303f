/* The weights of a product, packed, or as torch has them: then they are packed piece by piece as they are read, so that
 * a call of few rows touches them once.
 *
 *     units (forward):      acc[r][q][g] += sum over k of a[r][k] * w[(g*H + u)*K + k]
 *     slots (backward):     acc[r][q]    += sum over gates and u of d[r][gate][u] * w[(gate*H + u)*N + n]
 *
 * The lanes are units u in the one, n in the other, where torch's rows are vectors already. Chains and their order are
 * those of packed weights.
 */
#ifndef FASTRNN_WEIGHT_FORMS_H
#define FASTRNN_WEIGHT_FORMS_H

#include "pack.h"
#include "tile.h"

struct unit_weights {
    struct tile_panels packed; /* data null: not packed */
    struct unit_rows rows;
    const real *b_x, *b_apart; /* packed biases */
    const real *b_ih, *b_hh;   /* those of weights that are not packed; null: zero */
};

/* What a pre-activation of panel `gate` starts from before the input product. */
ALWAYS_INLINE vreal bias_of_input(const struct unit_weights *const w, const int G, const int64_t block, const int gate,
                                  const int apart) {
    if (w->packed.data) {
        return vload(w->b_x + (block * G + gate) * VL);
    }
    return bias_sum(w->b_ih, gate == apart ? NULL : w->b_hh, gate * w->rows.H + block * VL,
                    lanes_of_block(block, w->rows.H));
}

/* What the recurrent half of the gate that stays apart starts from. */
ALWAYS_INLINE vreal bias_apart(const struct unit_weights *const w, const int64_t block, const int gate) {
    return w->packed.data ? vload(w->b_apart + block * VL)
                          : bias_sum(NULL, w->b_hh, gate * w->rows.H + block * VL, lanes_of_block(block, w->rows.H));
}

/* Weights that are not packed and take more than this come from beyond a core's caches, a line of each of many rows,
 * which the machine does not foresee: they are asked for early. Training at T=1, B=1, H=512, two threads, with
 * gradients stored past the caches: LSTM 0.61 of the time before that without, 0.50 with it, GRU 0.61 and 0.44. */
enum { NEAR_BYTES = 2 << 20 };
ALWAYS_INLINE bool lie_far(const int64_t rows, const int64_t columns) {
    return rows * columns * (int64_t)sizeof(real) > NEAR_BYTES;
}

ALWAYS_INLINE void prefetch_square(const struct unit_rows *const w, const int64_t first) {
    UNROLL
    for (int lane = 0; lane < VL; lane++) {
        __builtin_prefetch(w->w + first + lane * w->K);
        if (w->copy) {
            __builtin_prefetch(w->copy + first + lane * w->K, 1);
        }
    }
}

/* acc[r] += sum over some k of a[r][k] * w[u][k], where the lanes are the units of a square. */
ALWAYS_INLINE void multiply_square(const struct unit_rows *const w, const int64_t first, const int lanes,
                                   const int columns, const struct tile_rows a, const int R, vreal *const acc,
                                   const ptrdiff_t acc_step) {
    vreal square[VL];
    load_square(w, first, lanes, columns, square);
    for (int r = 0; r < R; r++) {
        vreal sum = acc[r * acc_step];
        UNROLL
        for (int column = 0; column < VL; column++) {
            if (column < columns) {
                sum = vfma(vsplat(a.data[r * a.row + column * a.step]), square[column], sum);
            }
        }
        acc[r * acc_step] = sum;
    }
}

/* The same over all k, for one gate of one block. Making a square takes as long as the chain of its products, which
 * run while the next one is made. `ahead`: where the panel lies that comes next, counted from this one, or 0. */
static void multiply_panel(const struct unit_rows *const w, const int gate, const int64_t block, const int64_t ahead,
                           struct tile_rows a, const int R, vreal *const acc, const ptrdiff_t acc_step) {
    const int lanes = lanes_of_block(block, w->H);
    const int64_t first = (gate * w->H + block * VL) * w->K, whole = lanes == VL ? w->K / VL * VL : 0;
    int64_t k = 0;
    for (; k < whole; k += VL) {
        if (ahead) {
            prefetch_square(w, first + ahead + k);
        }
        multiply_square(w, first + k, VL, VL, a, R, acc, acc_step);
        a.data += VL * a.step;
    }
    for (; k < w->K; k += VL) {
        const int columns = w->K - k < VL ? (int)(w->K - k) : VL;
        multiply_square(w, first + k, lanes, columns, a, R, acc, acc_step);
        a.data += VL * a.step;
    }
}

/* From a panel to the one after it, in reals; 0 if there is none, or no need to know. */
ALWAYS_INLINE int64_t next_panel(const struct unit_rows *const w, const struct tile_shape shape, const int64_t block,
                                 const int panel) {
    const int64_t row = panel % shape.G * w->H + (block + panel / shape.G) * VL, next = panel + 1;
    const int64_t next_row = next % shape.G * w->H + (block + next / shape.G) * VL;
    return lie_far(shape.G * w->H, w->K) && next_row + VL <= shape.G * w->H ? (next_row - row) * w->K : 0;
}

ALWAYS_INLINE void tile_multiply_units(struct tile *const tile, const struct tile_shape shape, const struct tile_rows a,
                                       const struct unit_weights *const w, const int64_t block) {
    const int P = shape.Q * shape.G;
    if (w->packed.data) {
        tile_multiply(tile, shape, w->rows.K, a,
                      (struct tile_panels){w->packed.data + block * w->packed.block, w->packed.block});
        return;
    }
    vreal acc[TILE_ROWS_MAX * TILE_PANELS_MAX];
    tile_spill(tile, shape, acc);
    for (int panel = 0; panel < P; panel++) {
        multiply_panel(&w->rows, panel % shape.G, block + panel / shape.G, next_panel(&w->rows, shape, block, panel), a,
                       shape.R, acc + panel, P);
    }
    UNROLL
    for (int r = 0; r < shape.R; r++) {
        UNROLL
        for (int panel = 0; panel < P; panel++) {
            tile->acc[r][panel] = acc[r * P + panel];
        }
    }
}

/* Gate gradients of one side (input or hidden): [NB][slots][rows][VL], data at the side's first slot. */
struct gradient_slots {
    const real *data;
    int gates;
    int64_t H;
    ptrdiff_t block, slot;
};

struct slot_weights {
    struct tile_panels packed; /* data null: not packed */
    const real *w;             /* [gates*H, N] */
    int64_t N;
    const int *gate; /* of each slot */
};

/* The lines of a tile's rows in the next block, which lies too far away for the machine to foresee: dx at T=20, B=32,
 * H=512 runs at 52 to 58 % of the FMA peak without, at 79 to 82 % with it. */
ALWAYS_INLINE void prefetch_rows(const real *const at, const int R) {
    UNROLL
    for (int r = 0; r < R; r++) {
        __builtin_prefetch(at + r * VL);
    }
}

/* Packed: k runs over the gates and, within a gate, over the units. */
ALWAYS_INLINE void tile_multiply_packed_slots(struct tile *const tile, const struct tile_shape shape,
                                              const struct gradient_slots *const d, const int64_t row, const real *w,
                                              const ptrdiff_t panel) {
    const int64_t whole = d->H / VL;
    for (int gate = 0; gate < d->gates; gate++) {
        const real *at = d->data + gate * d->slot + row * VL;
        for (int64_t block = 0; block < whole; block++) {
            prefetch_rows(at + d->block, shape.R);
            tile_multiply(tile, shape, VL, (struct tile_rows){at, VL, 1}, (struct tile_panels){w, panel});
            at += d->block;
            w += VL * VL;
        }
        tile_multiply(tile, shape, d->H % VL, (struct tile_rows){at, VL, 1}, (struct tile_panels){w, panel});
        w += d->H % VL * VL;
    }
}

/* acc[r][q] += sum over u < units of a[r][u] * w[u*N + …]: rows of N as they are; the last vector of them has `lanes`.
 * Those `ahead` reals further on are asked for, if that is not 0. */
ALWAYS_INLINE void tile_multiply_plain(struct tile *const tile, const struct tile_shape shape, const int units,
                                       const real *const a, const real *const w, const int64_t N, const int lanes,
                                       const int64_t ahead) {
#pragma GCC unroll 1
    for (int u = 0; u < units; u++) {
        vreal panel[TILE_PANELS_MAX];
        if (ahead) {
            UNROLL
            for (int q = 0; q < shape.Q; q++) {
                __builtin_prefetch(w + ahead + u * N + q * VL);
            }
        }
        UNROLL
        for (int q = 0; q < shape.Q; q++) {
            panel[q] = q + 1 < shape.Q ? vload(w + u * N + q * VL) : vload_n(w + u * N + q * VL, lanes);
        }
        UNROLL
        for (int r = 0; r < shape.R; r++) {
            const vreal broadcast = vsplat(a[r * VL + u]);
            UNROLL
            for (int q = 0; q < shape.Q; q++) {
                tile->acc[r][q] = vfma(broadcast, panel[q], tile->acc[r][q]);
            }
        }
    }
}

/* acc += slots[row …] w for blocks from `block` on. */
ALWAYS_INLINE void tile_multiply_slots(struct tile *const tile, const struct tile_shape shape,
                                       const struct gradient_slots *const d, const int64_t row,
                                       const struct slot_weights *const w, const int64_t block) {
    if (w->packed.data) {
        tile_multiply_packed_slots(tile, shape, d, row, w->packed.data + block * w->packed.block, w->packed.block);
        return;
    }
    const int lanes = lanes_of_block(block + shape.Q - 1, w->N);
    const int64_t ahead = lie_far(d->gates * d->H, w->N) ? VL * w->N : 0;
    for (int slot = 0; slot < d->gates; slot++) {
        const real *const first = w->w + w->gate[slot] * d->H * w->N + block * VL;
        const real *const at = d->data + slot * d->slot + row * VL;
        for (int64_t units = 0; units < layout_blocks(d->H, VL); units++) {
            const bool last = (units + 2) * VL > d->H;
            tile_multiply_plain(tile, shape, lanes_of_block(units, d->H), at + units * d->block,
                                first + units * VL * w->N, w->N, lanes, last ? 0 : ahead);
        }
    }
}

#endif
