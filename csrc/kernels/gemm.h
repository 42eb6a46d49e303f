/* The products: every one is a loop of tiles over rows and blocks, which says where its operands lie, what the
 * accumulators start from and where they go.
 *
 *     unit_product     gates[row] = start[row] + a[row] w'         forward: inputs of a chunk, or the state of a step
 *     slot_product     start[row] + slots[row] w                   backward: dx and dh; k over gates and units
 *     weight_gradient  dw[u] += sum over rows slots[row][u] x[row] k over rows, in the order backward visits them
 */
#ifndef FASTRNN_GEMM_H
#define FASTRNN_GEMM_H

#include "../team.h"
#include "unpacked.h"

/* Blocks side by side in a tile of one row: independent chains enough, and what is left. */
static inline int blocks_of_one_row(const int G, const int64_t left) {
    if (G == 4) {
        return left >= 2 ? 2 : 1;
    }
    if (G == 3) {
        return left == 4 ? 2 : left < 3 ? (int)left : 3; /* 2 + 2, not 3 + 1 */
    }
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The same in a tile of several rows, where single panels may stand side by side. */
static inline int blocks_of_rows(const int G, const int64_t left) {
    return G > 1 ? 1 : left >= TILE_PANELS ? (int)TILE_PANELS : left >= 2 ? 2 : 1;
}

static inline int rows_of_tile(const int panels) { return panels == 3 ? (int)TILE_ROWS_OF_THREE : (int)TILE_ROWS; }

/* ---- strips ---- */

/* Rows whose tiles pass over the weights together. While one chunk of a block's K is in the second-level cache, each
 * tile fetches a part of the chunk that follows, in the same block or the next, a line with every k: weights come once
 * from where they lie, at the pace of the products, and no tile waits for them. Between chunks the sums wait in a
 * buffer and go on where they were, so that chunks never show in the result (docs/decisions/0017). Few tiles would have
 * to fetch more than a line: each fetches its own panels, a little ahead. */
enum {
    CHUNK_BYTES = 128 << 10,
    STRIP_ROWS = 96, /* whose sums the buffer holds */
    STRIP_VECTORS = STRIP_ROWS * 4,
    PASSES_OF_FOUR = 4 / TILE_PANELS, /* of a tile of several rows over a block of four gates */
};

struct strip {
    struct team_range rows;
    struct tile_cut cut;
    int parts;     /* that fetch a chunk together; 0: each its own */
    int64_t chunk; /* so many k */
};

/* The rows after those of `strip`: strip `number`, over K of `panels` panels, in so many passes. */
static struct strip strip_after(const struct strip *const strip, const struct tile_cut *const strips,
                                const int64_t number, const int rows_max, const int64_t K, const int panels,
                                const int passes) {
    const int64_t begin = strip->rows.end, end = begin + tile_cut_height(strips, number);
    const struct tile_cut cut = tile_cut_rows(end - begin, rows_max);
    const int parts = (int)cut.tiles * passes, chunk = CHUNK_BYTES / (panels * VECTOR_BYTES) / VL * VL;
    const bool together = parts > 2 || parts * LINE_BYTES >= panels * VECTOR_BYTES;
    return (struct strip){
        .rows = {begin, end},
        .cut = cut,
        .parts = together ? parts : 0,
        .chunk = together && K > chunk + chunk / 2 ? chunk : K,
    };
}

/* What the tiles of a chunk fetch together: Q streams at `next`, w_block reals apart. */
struct fetches {
    const real *next;
    ptrdiff_t w_block, stream, part; /* the last two in bytes */
    int parts, Q;
};

static inline struct fetches fetches_of(struct tile *const t, const int parts, const int64_t K, const int Q,
                                        const int G, const real *const next) {
    if (parts == 0) {
        return (struct fetches){.Q = Q};
    }
    const ptrdiff_t row = (ptrdiff_t)G * VECTOR_BYTES, stream = K * row;
    t->fetch_step = row * Q / parts;
    return (struct fetches){next, t->w_block, stream, stream * Q / parts, parts, Q};
}

/* Where part `number` of them begins; null: there are none. */
static inline const char *fetch_from(const struct fetches *const f, const int64_t number) {
    if (f->parts == 0) {
        return NULL;
    }
    const ptrdiff_t at = number * f->part, q = f->Q == 1 || f->stream == 0 ? 0 : at / f->stream;
    return (const char *)(f->next + q * f->w_block) + (at - q * f->stream);
}

/* ---- forward ---- */

/* The panels of Q blocks on R rows: TILE_PANELS at a time, or all if they are few, or of one row. */
static inline void run_unit_tile(struct tile *const t, const struct fetches *const f, const int64_t number, const int G,
                                 const int R, const real *const a, const real *const w, const real *const start,
                                 const real *const apart, real *const to) {
    tile_function *const run = tiles_of_units[G][R][f->Q];
    if (R > 1 && G == 4) {
        for (int pass = 0; pass < PASSES_OF_FOUR; pass++) {
            const int panel = pass * TILE_PANELS;
            t->fetch = fetch_from(f, number * PASSES_OF_FOUR + pass);
            run(t, a, w + panel * VL, start + panel * VL, apart, to + panel * VL);
        }
    } else {
        t->fetch = fetch_from(f, number);
        run(t, a, w, start, apart, to);
    }
}

/* Q blocks; `next` comes after them. */
static inline void unit_strip(const struct unit_product *const p, const struct strip *const strip, const int64_t block,
                              const int Q, const real *const next) {
    const int panels = Q * p->G;
    const int64_t K = p->w->rows.K, panel = block * p->G * VL;
    struct tile t = {.a_row = p->a_row, .w_block = p->w->block};
    vreal sums[STRIP_VECTORS];
    const real *w = p->w->packed + block * p->w->block;
    int64_t k = 0;
    do {
        const bool first = k == 0, last = K - k <= strip->chunk;
        t.K = last ? K - k : strip->chunk;
        t.start_row = first ? p->start_row : panels * VL;
        t.apart = first ? p->apart : NO_PANEL;
        t.to_row = last && p->to ? p->to_row : panels * VL;
        const real *const after = last ? next : w + t.K * p->G * VL;
        const struct fetches f = fetches_of(&t, strip->parts, t.K, Q, p->G, after);
        int64_t row = strip->rows.begin;
        for (int64_t tile = 0; tile < strip->cut.tiles; tile++) {
            const int R = tile_cut_height(&strip->cut, tile);
            vreal *const acc = strip->chunk == K ? sums : sums + (row - strip->rows.begin) * panels;
            run_unit_tile(&t, &f, tile, p->G, R, p->a + row * p->a_row + k, w,
                          first ? p->start + row * p->start_row + panel : (const real *)acc, p->w->b_apart + block * VL,
                          last && p->to ? p->to + row * p->to_row + panel : (real *)acc);
            if (last && !p->to) {
                p->finish(p->job, R, Q, acc, row, block);
            }
            row += R;
        }
        w += t.K * p->G * VL;
        k += strip->chunk;
    } while (k < K);
}

/* Rows of a single tile: weights are read once, as fast as the machine fetches by itself. */
static void unit_tile_alone(const struct unit_product *const p, const struct team_range rows,
                            const struct team_range blocks) {
    const int R = (int)(rows.end - rows.begin);
    struct tile t = {
        .K = p->w->rows.K,
        .a_row = p->a_row,
        .w_block = p->w->block,
        .start_row = p->start_row,
        .apart = p->apart,
    };
    const real *const a = p->a + rows.begin * p->a_row, *const start = p->start + rows.begin * p->start_row;
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block, panel = block * p->G * VL;
        const int Q = R == 1 ? blocks_of_one_row(p->G, left) : blocks_of_rows(p->G, left);
        const struct fetches own = {.Q = Q};
        vreal acc[TILE_VECTORS_MAX];
        t.to_row = p->to ? p->to_row : Q * p->G * VL;
        run_unit_tile(&t, &own, 0, p->G, R, a, p->w->packed + block * p->w->block, start + panel,
                      p->w->b_apart + block * VL, p->to ? p->to + rows.begin * p->to_row + panel : (real *)acc);
        if (!p->to) {
            p->finish(p->job, R, Q, acc, rows.begin, block);
        }
        block += Q;
    }
}

static void unit_product(const struct unit_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    if (!p->w->packed) {
        unpacked_unit_product(p, rows, blocks);
        return;
    }
    if (rows.end - rows.begin <= rows_of_tile(p->G)) {
        if (rows.end > rows.begin) {
            unit_tile_alone(p, rows, blocks);
        }
        return;
    }
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_ROWS);
    struct strip strip = {.rows = {rows.begin, rows.begin}};
    const int panels = p->G > 1 ? p->G : (int)TILE_PANELS, passes = p->G == 4 ? (int)PASSES_OF_FOUR : 1;
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = strip_after(&strip, &strips, j, rows_of_tile(p->G), p->w->rows.K, panels, passes);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t left = blocks.end - block;
            const int Q = blocks_of_rows(p->G, left);
            const int64_t next = left > Q ? block + Q : blocks.begin;
            unit_strip(p, &strip, block, Q, p->w->packed + next * p->w->block);
            block += Q;
        }
    }
}

/* ---- backward ---- */

/* Q blocks; k goes over the parts, one for each slot, and the units of each. */
static void slot_strip(const struct slot_product *const p, const struct strip *const strip, const int64_t block,
                       const int Q, const real *const next) {
    const int64_t H = p->d.H, whole = H * p->d.gates;
    const bool at_once = strip->chunk == whole || !p->multiplies;
    struct tile t = {
        .w_block = p->w->block,
        .apart = NO_PANEL,
        .to_row = Q * VL,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    vreal sums[STRIP_VECTORS];
    const real *w = p->w->packed + block * p->w->block;
    const real *d = p->d.data + p->d_row * VL;
    int part = 0;
    int64_t unit = 0;
    bool first = true, last;
    do {
        const real *const a = d + unit / VL * p->d.block;
        if (at_once) {
            t.K = H;
            t.parts = p->multiplies ? p->d.gates : 0;
            part = p->d.gates;
        } else {
            t.K = H - unit < strip->chunk ? H - unit : strip->chunk;
            t.parts = 1;
            unit += t.K;
            if (unit == H) {
                unit = 0;
                part++;
                d += p->d.slot;
            }
        }
        last = part == p->d.gates;
        const real *const after = last ? next : w + t.parts * t.K * VL;
        const struct fetches f = fetches_of(&t, strip->parts, t.parts * t.K, Q, 1, after);
        int64_t row = strip->rows.begin;
        for (int64_t tile = 0; tile < strip->cut.tiles; tile++) {
            const int R = tile_cut_height(&strip->cut, tile);
            vreal *const acc = at_once ? sums : sums + (row - strip->rows.begin) * Q;
            const real *start = (const real *)acc;
            t.start_row = Q * VL;
            if (first) {
                start = p->start ? p->start + row * p->start_row + block * VL : NULL;
                t.start_row = p->start_row;
            }
            t.fetch = fetch_from(&f, tile);
            tiles_of_slots[R][Q](&t, a + row * VL, w, start, NULL, (real *)acc);
            if (last) {
                p->finish(p->job, R, Q, acc, row, block);
            }
            row += R;
        }
        w += t.parts * t.K * VL;
        first = false;
    } while (!last);
}

static void slot_tile_alone(const struct slot_product *const p, const struct team_range rows,
                            const struct team_range blocks) {
    const int R = (int)(rows.end - rows.begin);
    struct tile t = {
        .K = p->d.H,
        .w_block = p->w->block,
        .start_row = p->start_row,
        .apart = NO_PANEL,
        .parts = p->multiplies ? p->d.gates : 0,
        .a_part = p->d.slot,
        .a_block = p->d.block,
    };
    const real *const d = p->d.data + (p->d_row + rows.begin) * VL;
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = R == 1 ? blocks_of_one_row(1, left) : blocks_of_rows(1, left);
        const real *const w = p->w->packed + block * p->w->block;
        vreal acc[TILE_VECTORS_MAX];
        t.to_row = Q * VL;
        tiles_of_slots[R][Q](&t, d, w, p->start ? p->start + rows.begin * p->start_row + block * VL : NULL, NULL,
                             (real *)acc);
        p->finish(p->job, R, Q, acc, rows.begin, block);
        block += Q;
    }
}

static void slot_product(const struct slot_product *const p, const struct team_range rows,
                         const struct team_range blocks) {
    if (!p->w->packed) {
        unpacked_slot_product(p, rows, blocks);
        return;
    }
    if (rows.end - rows.begin <= rows_of_tile(1)) {
        if (rows.end > rows.begin) {
            slot_tile_alone(p, rows, blocks);
        }
        return;
    }
    const struct tile_cut strips = tile_cut_rows(rows.end - rows.begin, STRIP_ROWS);
    struct strip strip = {.rows = {rows.begin, rows.begin}};
    for (int64_t j = 0; j < strips.tiles; j++) {
        strip = strip_after(&strip, &strips, j, rows_of_tile(1), p->d.H * p->d.gates, TILE_PANELS, 1);
        for (int64_t block = blocks.begin; block < blocks.end;) {
            const int64_t left = blocks.end - block;
            const int Q = blocks_of_rows(1, left);
            const int64_t next = left > Q ? block + Q : blocks.begin;
            slot_strip(p, &strip, block, Q, p->w->packed + next * p->w->block);
            block += Q;
        }
    }
}

/* ---- weight gradients ---- */

/* dw[u][n] += sum over k of d[k][u] * x[k][n], for the units of one block and gate: a row of the tile is a lane of d.
 */
struct weight_gradient {
    const real *d; /* [k][VL] */
    const real *x; /* panels [block][k][VL], blocks x_block reals apart */
    real *dw;      /* row of the first unit */
    int units;
    enum fastrnn_accumulation accumulation;
    ptrdiff_t x_block;
    int64_t N, K;
    bool streams; /* whole vectors, aligned, that are stored past the caches */
};

/* R rows and Q blocks of dw, through a buffer of whole vectors. The last block has `lanes` lanes. */
static void partial_weight_gradient_tile(const struct weight_gradient *const p, const int R, const int Q,
                                         const real *const d, const real *const x, real *const dw, const int lanes) {
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = Q * VL, .to_row = Q * VL, .apart = NO_PANEL};
    const bool adds = p->accumulation == FASTRNN_ADD;
    vreal acc[TILE_VECTORS_MAX];
    for (int j = 0; adds && j < R * Q; j++) {
        acc[j] = vload_n(dw + j / Q * p->N + j % Q * VL, j % Q == Q - 1 ? lanes : VL);
    }
    tiles_of_columns[R][Q](&t, d, x, adds ? (real *)acc : NULL, NULL, (real *)acc);
    for (int j = 0; j < R * Q; j++) {
        vstore_n(dw + j / Q * p->N + j % Q * VL, acc[j], j % Q == Q - 1 ? lanes : VL);
    }
}

static void weight_gradient_tiles(const struct weight_gradient *const p, const struct team_range blocks) {
    const int panels = VECTOR_REGISTERS == 32 ? 4 : 3; /* the units of a block are eight rows at most: 4 x 3 twice */
    const struct tile_cut cut = tile_cut_rows(p->units, rows_of_tile(panels));
    const struct tile t = {.K = p->K, .w_block = p->x_block, .start_row = p->N, .to_row = p->N, .apart = NO_PANEL};
    for (int64_t block = blocks.begin; block < blocks.end;) {
        const int64_t left = blocks.end - block;
        const int Q = left >= panels ? panels : left >= 2 ? 2 : 1;
        const int lanes = lanes_of_block(block + Q - 1, p->N);
        const real *const x = p->x + block * p->x_block;
        int row = 0;
        for (int64_t tile = 0; tile < cut.tiles; tile++) {
            const int R = tile_cut_height(&cut, tile);
            real *const dw = p->dw + row * p->N + block * VL;
            if (lanes == VL) {
                tiles_of_columns[R][Q](&t, p->d + row, x, p->accumulation == FASTRNN_ADD ? dw : NULL, NULL, dw);
            } else {
                partial_weight_gradient_tile(p, R, Q, p->d + row, x, dw, lanes);
            }
            row += R;
        }
        block += Q;
    }
}

/* R rows of dw at a time from K rows of x, so few that dw is written as fast as it can be stored. */
enum { THIN_ROWS = VECTOR_REGISTERS == 32 ? 4 : 6, THIN_VECTORS = VECTOR_REGISTERS == 32 ? 16 : 12 };
ALWAYS_INLINE void thin_weight_gradient_rows(const struct weight_gradient *const p, const int K, const int R,
                                             const int row, const struct team_range blocks) {
    vreal d[THIN_VECTORS];
    UNROLL
    for (int j = 0; j < R * K; j++) {
        d[j] = vsplat(p->d[j / R * VL + row + j % R]);
    }
    const bool adds = p->accumulation == FASTRNN_ADD;
    for (int64_t block = blocks.begin; block < blocks.end; block++) {
        const int lanes = lanes_of_block(block, p->N);
        const real *const x = p->x + block * p->x_block;
        real *const dw = p->dw + row * p->N + block * VL;
        vreal sum[4];
        UNROLL
        for (int r = 0; r < R; r++) {
            sum[r] = adds ? vload_n(dw + r * p->N, lanes) : vsplat(0);
        }
        UNROLL
        for (int k = 0; k < K; k++) {
            const vreal panel = vload(x + k * VL);
            UNROLL
            for (int r = 0; r < R; r++) {
                sum[r] = vfma(d[k * R + r], panel, sum[r]);
            }
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            if (p->streams) {
                vstream(dw + r * p->N, sum[r]);
            } else {
                vstore_n(dw + r * p->N, sum[r], lanes);
            }
        }
    }
}

ALWAYS_INLINE void thin_weight_gradient(const struct weight_gradient *const p, const int K,
                                        const struct team_range blocks) {
    const int R = K <= 2 || VECTOR_REGISTERS == 32 ? 4 : 2;
    int row = 0;
    for (; row + R <= p->units; row += R) {
        UNMERGED thin_weight_gradient_rows(p, K, R, row, blocks);
    }
    for (; row < p->units; row++) {
        UNMERGED thin_weight_gradient_rows(p, K, 1, row, blocks);
    }
}

static void weight_gradient_of_block(const struct weight_gradient *const p, const struct team_range blocks) {
    switch (p->K) {
#define THIN(K) \
    case K: \
        UNMERGED thin_weight_gradient(p, K, blocks); \
        break;
        THIN(1)
        THIN(2)
        THIN(3)
        THIN(4)
#if VECTOR_REGISTERS < 32
        THIN(5)
        THIN(6)
#endif
#undef THIN
    default:
        weight_gradient_tiles(p, blocks);
    }
}

/* db[u] += sum over k of d[k][u], for the units of one block and gate; k ascending. */
static void bias_gradient(const real *const d, const int64_t K, real *const db, const int lanes,
                          const enum fastrnn_accumulation accumulation) {
    vreal sum = accumulation == FASTRNN_ADD ? vload_n(db, lanes) : vsplat(0);
    for (int64_t k = 0; k < K; k++) {
        sum += vload(d + k * VL);
    }
    vstore_n(db, sum, lanes);
}

#endif
