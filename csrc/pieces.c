#include "pieces.h"

#include <string.h>

/* ---- the pieces of a stage ---- */

static int64_t clip(const int64_t n, const int64_t low, const int64_t high) {
    return n < low ? low : n > high ? high : n;
}

/* Rows of the states' gradients between stages: b for the final state of sequence b, B + b for its initial state,
 * 2*B + r for the gradient that reaches the end of region r. */
struct handing {
    int64_t last;    /* without a gradient from the next region: the final states of the sequence, or nowhere */
    int64_t after;   /* the gradient from the next region, or `last` */
    int64_t own;     /* the end of the region itself */
    int64_t before;  /* the end of the region before, or nowhere */
    int64_t initial; /* the same; the initial state, if the region starts from it */
};

static struct handing handing_of(const struct building *const s, const int64_t r) {
    const struct region *const region = &s->regions[r];
    const int64_t B = s->batch->B, own = 2 * B + r;
    const bool continues = region->first == REGION_CONTINUES;
    const bool goes_on = r + 1 < s->count && region[1].first == REGION_CONTINUES;
    const int64_t last = region->end == batch_length(s->batch, region->b) ? region->b : -1;
    const int64_t before = continues ? own - 1 : -1;
    return (struct handing){last, goes_on ? own : last, own, before, region->first >= 0 ? B + region->first : before};
}

/* The first position of region r that m windows reach. */
static int64_t cut_of(const struct building *const s, const struct region *const region) {
    const int64_t k1 = s->batch->k1, window = region->begin / k1;
    return clip((window + s->windows) * k1 - s->batch->k2, region->begin, region->end);
}

/* Chooses begin, end, last and d_first; `first` is set by the caller. */
static struct piece piece_of(const struct building *const s, const enum stage_kind kind, const int64_t r) {
    const struct region *const region = &s->regions[r];
    const struct handing to = handing_of(s, r);
    struct piece piece = {region->b, region->begin, region->end, -1, to.after, to.before};
    if (kind == STAGE_ALONE || kind == STAGE_FIRST) {
        piece.last = to.last;
    } else if (kind == STAGE_WHOLE) {
        piece.d_first = to.initial;
    } else if (kind == STAGE_OPEN_END) {
        piece.begin = cut_of(s, region);
        piece.last = s->windows == 2 ? to.last : to.after;
        piece.d_first = piece.begin > region->begin ? to.own : -1;
    } else if (kind == STAGE_WHOLE_FRONT) {
        piece.end = cut_of(s, region);
        piece.last = piece.end < region->end ? to.own : to.last;
        piece.d_first = to.initial;
    } else if (kind == STAGE_WHOLE_END) {
        piece.begin = cut_of(s, region);
        piece.d_first = -1;
    }
    return piece;
}

int64_t pieces_of_stage(const struct building *const s, const enum stage_kind kind, struct piece *const pieces) {
    int64_t n = 0;
    for (int64_t r = 0; r < s->count; r++) {
        const struct region *const region = &s->regions[r];
        struct piece piece = piece_of(s, kind, r);
        if (piece.begin >= piece.end || (piece.d_first < 0 && !stage_is_whole(kind))) {
            continue;
        }
        const bool opens = piece.begin == region->begin && region->first != REGION_CONTINUES;
        piece.first = opens ? region->first : s->batch->B + row_at(s, piece.b, piece.begin - 1);
        pieces[n++] = piece;
    }
    return n;
}

/* ---- their order ---- */

enum key { BY_BEGIN, BY_LENGTH };

static int64_t key_of(const struct building *const s, const struct piece *const piece, const enum key key) {
    return key == BY_BEGIN ? piece->begin : s->longest - (piece->end - piece->begin);
}

/* A stable counting sort. */
static void sort_by(const struct building *const s, const enum key key, const struct piece *const pieces,
                    const int64_t n, const int64_t *const from, int64_t *const to, int64_t *const counts) {
    memset(counts, 0, (size_t)(s->longest + 1) * sizeof *counts);
    for (int64_t j = 0; j < n; j++) {
        counts[key_of(s, &pieces[j], key)]++;
    }
    int64_t sum = 0;
    for (int64_t k = 0; k <= s->longest; k++) {
        const int64_t before = sum;
        sum += counts[k];
        counts[k] = before;
    }
    for (int64_t j = 0; j < n; j++) {
        to[counts[key_of(s, &pieces[from[j]], key)]++] = from[j];
    }
}

/* Whether the pieces have this order already. */
static bool is_sorted_by(const struct building *const s, const enum key key, const struct piece *const pieces,
                         const int64_t n, const int64_t *const order) {
    for (int64_t j = 1; j < n; j++) {
        if (key_of(s, &pieces[order[j - 1]], key) > key_of(s, &pieces[order[j]], key)) {
            return false;
        }
    }
    return true;
}

void order_pieces(const struct building *const s, const struct piece *const pieces, const int64_t n,
                  int64_t *const order, int64_t *const spare, int64_t *const counts) {
    for (int64_t j = 0; j < n; j++) {
        order[j] = j;
    }
    if (!is_sorted_by(s, BY_BEGIN, pieces, n, order)) {
        memcpy(spare, order, (size_t)n * sizeof *order);
        sort_by(s, BY_BEGIN, pieces, n, spare, order, counts);
    }
    if (!is_sorted_by(s, BY_LENGTH, pieces, n, order)) {
        memcpy(spare, order, (size_t)n * sizeof *order);
        sort_by(s, BY_LENGTH, pieces, n, spare, order, counts);
    }
}
