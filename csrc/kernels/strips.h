/* Strips: sets of rows. The tiles of a strip share the weights in the cache, and each fetches a part of the next ones.
 */
#ifndef FASTRNN_STRIPS_H
#define FASTRNN_STRIPS_H

#include "tile.h"
#include "weights.h"

static inline int rows_of_tile(const int panels) { return panels == 3 ? (int)TILE_ROWS_OF_THREE : (int)TILE_ROWS; }

/* The number of blocks in a tile of one row: enough for independent chains, or all that are left. */
static inline int blocks_of_one_row(const int G, const int64_t left) {
    if (G == 4) {
        return left >= 2 ? 2 : 1;
    }
    if (G == 3) {
        return left == 4 ? 2 : left < 3 ? (int)left : 3; /* 2 + 2, not 3 + 1 */
    }
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The same for a tile of several rows. Its single panels may stand side by side. */
static inline int blocks_of_rows(const int G, const int R, const int64_t left) {
    const int most = R <= TILE_ROWS_OF_FOUR_PANELS ? 4 : (int)TILE_PANELS;
    return G > 1 ? 1 : left >= most ? most : left >= 2 ? 2 : 1;
}

static inline int blocks_of_tile(const int G, const int R, const int64_t left) {
    return R == 1 ? blocks_of_one_row(G, left) : blocks_of_rows(G, R, left);
}

/* A strip is a set of rows; its tiles share each chunk of K of a block of weights. The second-level cache keeps the
 * chunk until the last tile has used it. Meanwhile each tile fetches its part of the next chunk, one cache line with
 * every k, so memory delivers at the pace of the products and no tile waits. Between two chunks the sums are stored in
 * a buffer; the chains continue unchanged, and results do not depend on chunks (docs/decisions/0017). With few tiles,
 * one line for every k is not enough; then each tile fetches its own panels a little ahead. */
enum {
    CHUNK_BYTES = 128 << 10,
    STRIP_ROWS = 96, /* the buffer holds the sums of so many rows */
    STRIP_VECTORS = STRIP_ROWS * 4,
    PASSES_OF_FOUR = 4 / TILE_PANELS, /* of a tile of several rows over a block of four gates */
};

struct strip {
    struct team_range rows;
    struct tile_cut cut;
    int parts;     /* the tiles that fetch a chunk together; 0: each fetches its own panels */
    int64_t chunk; /* number of k in a chunk */
};

/* The blocks of a strip of one tile, of so many panels, that are finished together: as many as fit the buffer. */
static inline int64_t blocks_together(const int R, const int panels, const int64_t left) {
    const int64_t most = STRIP_VECTORS / (R * panels);
    return left < most ? left : most;
}

/* The strip after `strip`: strip `number`, over K of `panels` panels, in `passes` passes. */
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

/* The next chunk, which the tiles of a chunk fetch together: Q streams at `next`, w_block reals apart. */
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

/* The start of part `number`; null if there is nothing to fetch. */
static inline const char *fetch_from(const struct fetches *const f, const int64_t number) {
    if (f->parts == 0) {
        return NULL;
    }
    const ptrdiff_t at = number * f->part, q = f->Q == 1 || f->stream == 0 ? 0 : at / f->stream;
    return (const char *)(f->next + q * f->w_block) + (at - q * f->stream);
}

#endif
