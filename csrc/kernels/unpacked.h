/* Products with unpacked weights, which a call of few rows reads only once. Chains and their order are those of packed
 * weights.
 *
 *     units (forward):      acc[r][g] += sum over k of a[r][k] * w[(g*H + u)*K + k]
 *     slots (backward):     acc[r]    += sum over gates and u of d[r][gate][u] * w[(gate*H + u)*N + n]
 *
 * Forward's lanes are units u: squares of weights are transposed in registers. Backward's lanes are inputs n, and
 * torch's rows are vectors already.
 */
#ifndef FASTRNN_UNPACKED_H
#define FASTRNN_UNPACKED_H

#include "tile.h"
#include "weights.h"

/* Unpacked weights of more bytes than this come from beyond a core's caches. Backward reads a part of each row, which
 * the machine does not foresee, and fetches the next rows early (docs/decisions/0010). */
enum { NEAR_BYTES = 2 << 20 };
ALWAYS_INLINE bool lie_far(const int64_t rows, const int64_t columns) {
    return rows * columns * (int64_t)sizeof(real) > NEAR_BYTES;
}

/* ---- units ---- */

enum { UNPACKED_ROWS = 8 }; /* rows of a that share one transposed square */

/* What a pre-activation starts from before the input product. */
ALWAYS_INLINE vreal bias_of_input(const struct unit_weights *const w, const int64_t block, const int gate,
                                  const int apart) {
    return bias_sum(w->b_ih, gate == apart ? NULL : w->b_hh, gate * w->rows.H + block * VL,
                    lanes_of_block(block, w->rows.H));
}

/* What the recurrent half of the gate that stays apart starts from. */
ALWAYS_INLINE vreal bias_apart(const struct unit_weights *const w, const int64_t block, const int gate) {
    return bias_sum(NULL, w->b_hh, gate * w->rows.H + block * VL, lanes_of_block(block, w->rows.H));
}

/* The rows of a gate's units, and their accumulators. */
struct unpacked_panel {
    const real *w;
    int lanes;
    vreal *acc; /* of the first row of a */
};

/* acc[r] += sum over the columns of a square. */
ALWAYS_INLINE void multiply_square(const vreal *const square, const int columns, const real *const a,
                                   const ptrdiff_t a_row, const int R, vreal *const acc, const ptrdiff_t acc_row) {
    for (int r = 0; r < R; r++) {
        vreal sum = acc[r * acc_row];
        UNROLL
        for (int column = 0; column < VL; column++) {
            if (column < columns) {
                sum = vfma(vsplat(a[r * a_row + column]), square[column], sum);
            }
        }
        acc[r * acc_row] = sum;
    }
}

/* From k on: a square that is not whole, or several. */
static void multiply_rest(const struct unpacked_panel *const panel, const int64_t K, int64_t k, const real *const a,
                          const ptrdiff_t a_row, const int R, const ptrdiff_t acc_row) {
    for (; k < K; k += VL) {
        const int columns = K - k < VL ? (int)(K - k) : VL;
        vreal square[VL];
        transpose_partial_square(panel->w + k, K, panel->lanes, columns, square);
        multiply_square(square, columns, a + k, a_row, R, panel->acc, acc_row);
    }
}

/* Whole lines of all panels, from k = 0 on, while there are such. Returns the k after the last. A function of its own,
 * so that squares stay in registers. */
static __attribute__((noinline)) int64_t multiply_lines(const struct unpacked_panel *const panel, const int panels,
                                                        const int64_t K, const real *const a, const ptrdiff_t a_row,
                                                        const int R, const ptrdiff_t acc_row) {
    const int64_t end = K / LINE_REALS * LINE_REALS;
    for (int64_t line = 0; line < end; line += LINE_REALS) {
        for (int j = 0; j < panels; j++) {
            for (int64_t k = line; k < line + LINE_REALS; k += VL) {
                vreal square[VL];
                transpose_square(panel[j].w + k, K, square);
                multiply_square(square, VL, a + k, a_row, R, panel[j].acc, acc_row);
            }
        }
    }
    return end;
}

/* The same on one row: its accumulators stay in registers. */
ALWAYS_INLINE int64_t multiply_lines_of_one_row(const struct unpacked_panel *const panel, const int panels,
                                                const int64_t K, const real *const a) {
    const int64_t end = K / LINE_REALS * LINE_REALS;
    vreal acc[4];
    UNROLL
    for (int j = 0; j < panels; j++) {
        acc[j] = *panel[j].acc;
    }
    for (int64_t line = 0; line < end; line += LINE_REALS) {
        UNROLL
        for (int j = 0; j < panels; j++) {
            const real *const rows = panel[j].w + line;
            UNROLL
            for (int k = 0; k < LINE_REALS; k += VL) {
                vreal square[VL];
                transpose_square(rows + k, K, square);
                UNROLL
                for (int column = 0; column < VL; column++) {
                    acc[j] = vfma(vsplat(a[line + k + column]), square[column], acc[j]);
                }
            }
        }
    }
    UNROLL
    for (int j = 0; j < panels; j++) {
        *panel[j].acc = acc[j];
    }
    return end;
}

/* All gates of a block, two or three at a time. */
static void multiply_unpacked(const struct unit_product *const p, const int64_t block, const int64_t row, const int R,
                              vreal *const acc) {
    const struct unit_rows *const w = &p->w->rows;
    const int lanes = lanes_of_block(block, w->H);
    const real *const a = p->a + row * p->a_row;
    const int most = p->G == 3 && R == 1 ? 3 : 2; /* squares of one gate are made while the chains of another run */
    for (int gate = 0; gate < p->G; gate += most) {
        const int panels = p->G - gate < most ? p->G - gate : most;
        struct unpacked_panel panel[3];
        for (int j = 0; j < panels; j++) {
            const int64_t first = ((gate + j) * w->H + block * VL) * w->K;
            panel[j] = (struct unpacked_panel){w->w + first, lanes, acc + gate + j};
        }
        int64_t k = 0;
        if (lanes == VL) {
            k = R > 1         ? multiply_lines(panel, panels, w->K, a, p->a_row, R, p->G)
                : panels == 3 ? multiply_lines_of_one_row(panel, 3, w->K, a)
                : panels == 2 ? multiply_lines_of_one_row(panel, 2, w->K, a)
                              : multiply_lines_of_one_row(panel, 1, w->K, a);
        }
        for (int j = 0; j < panels; j++) {
            multiply_rest(&panel[j], w->K, k, a, p->a_row, R, p->G);
        }
        for (int j = 0; w->copy && j < panels; j++) {
            memcpy(w->copy + (panel[j].w - w->w), panel[j].w, (size_t)(lanes * w->K) * sizeof(real));
        }
    }
}

static void unpacked_unit_product(const struct unit_product *const p, const struct team_range rows,
                                  const struct team_range blocks) {
    for (int64_t row = rows.begin; row < rows.end; row += UNPACKED_ROWS) {
        const int R = rows.end - row < UNPACKED_ROWS ? (int)(rows.end - row) : (int)UNPACKED_ROWS;
        for (int64_t block = blocks.begin; block < blocks.end; block++) {
            vreal acc[UNPACKED_ROWS * GATES_MAX];
            for (int r = 0; r < R; r++) {
                for (int g = 0; g < p->G; g++) {
                    acc[r * p->G + g] = g == p->apart ? bias_apart(p->w, block, g)
                                        : p->start
                                            ? vload(p->start + (row + r) * p->start_row + (block * p->G + g) * VL)
                                            : bias_of_input(p->w, block, g, p->start_apart);
                }
            }
            multiply_unpacked(p, block, row, R, acc);
            if (p->to) {
                for (int r = 0; r < R; r++) {
                    memcpy(p->to + (row + r) * p->to_row + block * p->G * VL, acc + r * p->G,
                           (size_t)p->G * sizeof(vreal));
                }
            } else {
                p->finish(p->job, R, 1, acc, row, block);
            }
        }
    }
}

/* ---- slots ---- */

/* acc[r][q] += sum over u < units of a[r][u] * w[u*N + …]: rows of N as they lie; the last vector of them has `lanes`.
 * Those `ahead` reals further on are fetched, if that is not 0. */
ALWAYS_INLINE void multiply_plain(vreal (*const acc)[8], const int R, const int Q, const int units, const real *a,
                                  const real *w, const int64_t N, const int lanes, const int64_t ahead) {
#pragma GCC unroll 1
    for (int u = 0; u < units; u++) {
        vreal panel[8];
        UNROLL
        for (int q = 0; q < Q; q++) {
            if (ahead) {
                __builtin_prefetch(w + ahead + q * VL);
            }
            panel[q] = Q == 1 ? vload_n(w, lanes) : vload(w + q * VL);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            const vreal broadcast = vsplat(a[r * VL]);
            UNROLL
            for (int q = 0; q < Q; q++) {
                acc[r][q] = vfma(broadcast, panel[q], acc[r][q]);
            }
        }
        a++;
        w += N;
    }
}

ALWAYS_INLINE void unpacked_slot_tile(const struct slot_product *const p, const int R, const int Q, const int64_t row,
                                      const int64_t block) {
    vreal acc[TILE_ROWS_MAX][8], finished[TILE_VECTORS_MAX];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int q = 0; q < Q; q++) {
            acc[r][q] = p->start ? vload(p->start + (row + r) * p->start_row + (block + q) * VL) : vsplat(0);
        }
    }
    const struct gradient_slots *const d = &p->d;
    const int64_t N = p->w->N, ahead = lie_far(d->gates * d->H, N) ? VL * N : 0;
    for (int slot = 0; slot < (p->multiplies ? d->gates : 0); slot++) {
        const real *const first = p->w->w + p->w->gate[slot] * d->H * N + block * VL;
        const real *const at = d->data + slot * d->slot + (p->d_row + row) * VL;
        for (int64_t units = 0; units < layout_blocks(d->H, VL); units++) {
            const bool last = (units + 2) * VL > d->H;
            multiply_plain(acc, R, Q, lanes_of_block(units, d->H), at + units * d->block, first + units * VL * N, N,
                           lanes_of_block(block, N), last ? 0 : ahead);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int q = 0; q < Q; q++) {
            finished[r * Q + q] = vkeep(acc[r][q]);
        }
    }
    p->finish(p->job, R, Q, finished, row, block);
}

static void unpacked_slot_product(const struct slot_product *const p, const struct team_range rows,
                                  const struct team_range blocks) {
    const int64_t whole_end = blocks.end * VL <= p->w->N ? blocks.end : blocks.end - 1; /* whole vectors */
    const struct tile_cut cut = tile_cut_rows(rows.end - rows.begin, VECTOR_REGISTERS == 32 ? 4 : 3);
    int64_t row = rows.begin;
    for (int64_t tile = 0; tile < cut.tiles; tile++) {
        const int R = tile_cut_height(&cut, tile);
        int64_t block = blocks.begin;
        if (R == 1) {
            for (; block + 8 <= whole_end; block += 8) {
                unpacked_slot_tile(p, 1, 8, row, block);
            }
        }
        for (; block + 4 <= whole_end; block += 4) {
            switch (R) {
            case 1:
                UNMERGED unpacked_slot_tile(p, 1, 4, row, block);
                break;
            case 2:
                UNMERGED unpacked_slot_tile(p, 2, 4, row, block);
                break;
            case 3:
                UNMERGED unpacked_slot_tile(p, 3, 4, row, block);
                break;
            default:
                if (VECTOR_REGISTERS == 32) {
                    UNMERGED unpacked_slot_tile(p, 4, 4, row, block);
                }
                break;
            }
        }
        for (; block < blocks.end; block++) {
            for (int r = 0; r < R; r++) {
                UNMERGED unpacked_slot_tile(p, 1, 1, row + r, block);
            }
        }
        row += R;
    }
}

#endif
