/* Products with unpacked weights, for calls of few rows, which read the weights only once. Sums run in the same order
 * as with packed weights: results are bitwise identical.
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

/* Unpacked weights of more bytes than this do not fit a core's caches. Backward reads a part of each row, a pattern
 * that the hardware prefetcher does not follow, so it fetches the next rows itself (docs/decisions/0010). */
enum { NEAR_BYTES = 2 << 20 };
ALWAYS_INLINE bool lie_far(const int64_t rows, const int64_t columns) {
    return rows * columns * (int64_t)sizeof(real) > NEAR_BYTES;
}

/* ---- units ---- */

enum { UNPACKED_ROWS = LAYOUT_UNPACKED_ROWS }; /* rows of a that share one transposed square */

/* The start value of a pre-activation before the input product. */
ALWAYS_INLINE vreal bias_of_input(const struct unit_weights *const w, const int64_t block, const int gate,
                                  const unsigned apart) {
    const struct block at = block_at(w->rows.blocks, block, VL);
    const int64_t u = gate * w->rows.blocks.n + at.first;
    return apart >> gate & 1 ? load_n_or_zero(w->b_ih, u, at.lanes) : bias_sum(w->b_ih, w->b_hh, u, at.lanes);
}

/* The start value of the recurrent half of a gate that stays apart. */
ALWAYS_INLINE vreal bias_apart(const struct unit_weights *const w, const int64_t block, const int gate) {
    const struct block at = block_at(w->rows.blocks, block, VL);
    return load_n_or_zero(w->b_hh, gate * w->rows.blocks.n + at.first, at.lanes);
}

/* The rows of a gate's units, and their accumulators. */
struct unpacked_panel {
    const real *w;
    int lanes;
    vreal *acc; /* accumulator of the first row of a */
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

/* Partial or several squares from k on. */
static void multiply_rest(const struct unpacked_panel *const panel, const int64_t K, int64_t k, const real *const a,
                          const ptrdiff_t a_row, const int R, const ptrdiff_t acc_row) {
    for (; k < K; k += VL) {
        const int columns = K - k < VL ? (int)(K - k) : VL;
        vreal square[VL];
        transpose_partial_square(panel->w + k, K, panel->lanes, columns, square);
        multiply_square(square, columns, a + k, a_row, R, panel->acc, acc_row);
    }
}

/* Whole cache lines of all panels from k = 0 on. Accumulators stay in registers, together with a square or half of one.
 */
enum { LINES_PANELS = 3 };
ALWAYS_INLINE void multiply_lines_in_registers(const int R, const int panels, const struct unpacked_panel *const panel,
                                               const int64_t K, const real *const a, const ptrdiff_t a_row,
                                               const ptrdiff_t acc_row) {
    const int columns = R == 1 ? (int)VL : (int)SQUARE_HALF;
    vreal acc[UNPACKED_ROWS][LINES_PANELS];
    const real *rows[LINES_PANELS];
    UNROLL
    for (int j = 0; j < panels; j++) {
        rows[j] = panel[j].w;
        UNROLL
        for (int r = 0; r < R; r++) {
            acc[r][j] = panel[j].acc[r * acc_row];
        }
    }
    for (int64_t line = 0; line + LINE_REALS <= K; line += LINE_REALS) {
        UNROLL
        for (int j = 0; j < panels; j++) {
            UNROLL
            for (int k = 0; k < LINE_REALS; k += columns) {
                vreal column[VL];
                if (columns == VL) {
                    transpose_square(rows[j] + k, K, column);
                } else {
                    transpose_half(rows[j] + k / VL * VL, K, k % VL, column);
                }
                UNROLL
                for (int c = 0; c < columns; c++) {
                    UNROLL
                    for (int r = 0; r < R; r++) {
                        acc[r][j] = vfma(vsplat(a[r * a_row + line + k + c]), column[c], acc[r][j]);
                    }
                }
            }
            acc[R - 1][j] = vbefore_loads(acc[R - 1][j]);
            rows[j] += LINE_REALS;
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int j = 0; j < panels; j++) {
            panel[j].acc[r * acc_row] = acc[r][j];
        }
    }
}

typedef void lines_function(const struct unpacked_panel *, int64_t K, const real *a, ptrdiff_t a_row,
                            ptrdiff_t acc_row);
#define LINES(R, panels) \
    static __attribute__((noinline)) void lines_##R##x##panels(const struct unpacked_panel *const panel, \
                                                               const int64_t K, const real *const a, \
                                                               const ptrdiff_t a_row, const ptrdiff_t acc_row) { \
        multiply_lines_in_registers(R, panels, panel, K, a, a_row, acc_row); \
    }
#define ALL_LINES(of) \
    of(1, 1) of(1, 2) of(1, 3) of(2, 1) of(2, 2) of(2, 3) of(3, 1) of(3, 2) of(3, 3) of(4, 1) of(4, 2) of(5, 1) \
        of(6, 1) of(7, 1) of(8, 1)
ALL_LINES(LINES)
#define LINES_ENTRY(R, panels) [R][panels] = lines_##R##x##panels,
static lines_function *const lines_of[UNPACKED_ROWS + 1][LINES_PANELS + 1] = {ALL_LINES(LINES_ENTRY)};

/* All gates of Q blocks of a head, two or three panels at a time: the squares of one panel are transposed while the
 * sums of another run. */
static void multiply_unpacked(const struct unit_product *const p, const int64_t number, const int Q, const int64_t row,
                              const int R, vreal *const acc) {
    const struct unit_rows *const w = &p->w->rows;
    const int64_t H = w->blocks.n, K = w->blocks.K;
    const struct block block = block_at(w->blocks, number, VL);
    const int all = Q * p->G;
    const real *const a = p->a + row * p->a_row + block.k_at;
    const int most = R > 4 ? 1 : p->G == 3 && R < 4 ? 3 : 2;
    for (int next = 0; next < all;) {
        int panels = 0;
        struct unpacked_panel panel[LINES_PANELS];
        for (; next < all && panels < most; next++) {
            const int q = next / p->G, gate = next % p->G;
            const int64_t first = (gate * H + block_at(w->blocks, number + q, VL).first) * K;
            panel[panels] = (struct unpacked_panel){w->w + first, block.lanes, acc + next};
            panels += !(p->skipped >> gate & 1);
        }
        int64_t k = 0;
        if (panels > 0 && block.lanes == VL) {
            lines_of[R][panels](panel, K, a, p->a_row, all);
            k = K / LINE_REALS * LINE_REALS;
        }
        for (int j = 0; j < panels; j++) {
            multiply_rest(&panel[j], K, k, a, p->a_row, R, all);
        }
    }
}

/* The start values of the accumulators of a row and a block. */
ALWAYS_INLINE vreal unpacked_start(const struct unit_product *const p, const int64_t row, const int64_t block,
                                   const int gate) {
    if (p->apart >> gate & 1) {
        return bias_apart(p->w, block, gate);
    }
    const int64_t at = block_at(p->w->rows.blocks, block, VL).at * p->G + gate * VL;
    return p->start ? vload(p->start + row * p->start_row + at) : bias_of_input(p->w, block, gate, p->start_apart);
}

static void unpacked_unit_product(const struct unit_product *const p, const struct team_range rows,
                                  const struct team_range blocks) {
    for (int64_t row = rows.begin; row < rows.end; row += UNPACKED_ROWS) {
        const int R = rows.end - row < UNPACKED_ROWS ? (int)(rows.end - row) : (int)UNPACKED_ROWS;
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t run_end = block_run(p->w->rows.blocks, block, blocks.end, VL);
            const int64_t whole_end = block_whole_end(p->w->rows.blocks, run_end, VL);
            const int Q = p->G == 1 && block + 2 <= whole_end ? 2 : 1, panels = Q * p->G;
            vreal acc[UNPACKED_ROWS * GATES_MAX];
            for (int r = 0; r < R; r++) {
                for (int j = 0; j < panels; j++) {
                    acc[r * panels + j] = unpacked_start(p, row + r, block + j / p->G, j % p->G);
                }
            }
            multiply_unpacked(p, block, Q, row, R, acc);
            if (p->to) {
                real *const to = p->to + block_at(p->w->rows.blocks, block, VL).at * p->G;
                for (int r = 0; r < R; r++) {
                    memcpy(to + (row + r) * p->to_row, acc + r * panels, (size_t)panels * sizeof(vreal));
                }
            } else {
                p->finish(p->job, R, Q, acc, row, block);
            }
            block += Q;
        }
    }
}

/* ---- slots ---- */

/* acc[r][q] += sum over u < units of a[r][u] * w[u*N + …]: the rows of w in torch's layout. The last vector of a row
 * has `lanes` lanes. If `ahead` is not 0, the rows `ahead` reals further on are fetched. */
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
                                      const int64_t number) {
    const struct block first = block_at(p->w->rows.blocks, number, VL);
    vreal acc[TILE_ROWS_MAX][8], finished[TILE_VECTORS_MAX];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int q = 0; q < Q; q++) {
            acc[r][q] = p->start ? vload(p->start + (row + r) * p->start_row + first.at + q * VL) : vsplat(0);
        }
    }
    const struct gradient_slots *const d = &p->d;
    const struct slot_rows *const rows = &p->w->rows;
    const int64_t N = rows->N, width = rows->blocks.k_width, ahead = lie_far(d->gates * rows->H, N) ? VL * N : 0;
    const int64_t heads = block_k_heads(rows->blocks);
    for (int slot = 0; slot < (p->multiplies ? d->gates : 0); slot++) {
        const real *w = rows->w + (p->w->gate[slot] * rows->H + first.k_first) * N + first.column;
        const real *at = d->data + slot * d->slot + block_from(first.k_at, VL) * d->block + (p->d_row + row) * VL;
        for (int64_t head = 0; head < heads; head++) {
            for (int64_t u = 0; u < width; u += VL) {
                const int units = width - u < VL ? (int)(width - u) : VL;
                multiply_plain(acc, R, Q, units, at, w, N, first.lanes, u + 2 * VL > width ? 0 : ahead);
                at += d->block;
                w += units * N;
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int q = 0; q < Q; q++) {
            finished[r * Q + q] = vkeep(acc[r][q]);
        }
    }
    p->finish(p->job, R, Q, finished, row, number);
}

/* Four whole blocks of a tile of rows. */
static inline void unpacked_slot_tile_of_four(const struct slot_product *const p, const int R, const int64_t row,
                                              const int64_t block) {
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

/* For a run of blocks. All tiles of rows use four blocks, which are read from memory once. */
static void unpacked_slot_product(const struct slot_product *const p, const struct team_range rows,
                                  const struct team_range blocks) {
    const int64_t whole_end = block_whole_end(p->w->rows.blocks, blocks.end, VL);
    const int64_t n = rows.end - rows.begin;
    const struct tile_cut cut = tile_cut_rows(n, VECTOR_REGISTERS == 32 ? 4 : 3);
    int64_t block = blocks.begin;
    for (; n == 1 && block + 8 <= whole_end; block += 8) {
        unpacked_slot_tile(p, 1, 8, rows.begin, block);
    }
    for (; block + 4 <= whole_end; block += 4) {
        int64_t row = rows.begin;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            unpacked_slot_tile_of_four(p, R, row, block);
            row += R;
        }
    }
    for (; block < blocks.end; block++) {
        for (int64_t row = rows.begin; row < rows.end; row++) {
            UNMERGED unpacked_slot_tile(p, 1, 1, row, block);
        }
    }
}

#endif
