#include "regions.h"

#include <string.h>

/* ---- checks ---- */

static bool lengths_are_sound(const struct fastrnn_batch *const batch) {
    const bool packed = batch->rows == FASTRNN_PACKED;
    if (!batch->lengths) {
        return true;
    }
    if (packed && batch->B > 0 && batch->lengths[0] != batch->T) {
        return false;
    }
    for (int64_t b = 0; b < batch->B; b++) {
        const int64_t length = batch->lengths[b];
        if (length < 0 || length > batch->T || (packed && (length == 0 || (b > 0 && length > batch->lengths[b - 1])))) {
            return false;
        }
    }
    return true;
}

enum fastrnn_status batch_check(const struct fastrnn_batch *const batch) {
    int64_t rows;
    if (!batch) {
        return FASTRNN_NULL_POINTER;
    }
    if (batch->T < 0 || batch->B < 0) {
        return FASTRNN_BAD_SIZE;
    }
    if (__builtin_mul_overflow(batch->T, batch->B, &rows) || rows > INT64_MAX / 2 || batch->B > INT64_MAX / 2) {
        return FASTRNN_TOO_LARGE;
    }
    const bool whole = batch->k1 == 0 && batch->k2 == 0;
    if ((batch->direction != FASTRNN_FROM_FIRST_STEP && batch->direction != FASTRNN_FROM_LAST_STEP) ||
        (batch->rows != FASTRNN_PADDED && batch->rows != FASTRNN_PACKED) ||
        (!whole && (batch->k1 < 1 || batch->k2 < batch->k1)) || !lengths_are_sound(batch)) {
        return FASTRNN_BAD_BATCH;
    }
    return FASTRNN_OK;
}

/* ---- sizes ---- */

static int64_t least(const int64_t a, const int64_t b) { return a < b ? a : b; }

static int64_t windows_of(const struct fastrnn_batch *const batch, const int64_t length) {
    return batch->k1 > 0 ? batch_windows(length, batch->k1) : length > 0;
}

struct batch_counts batch_bound(const struct fastrnn_batch *const batch) {
    const int64_t rows = batch->T * batch->B, windows = windows_of(batch, batch->T) * batch->B;
    return (struct batch_counts){rows, batch->B > 0 ? batch->T : 0, batch->resets ? rows : windows};
}

/* Counts bytes that are not zero. */
static int64_t count_marks(const unsigned char *const bytes, const int64_t n, const ptrdiff_t stride) {
    int64_t count = 0;
    if (stride == 1) {
        for (int64_t j = 0; j < n; j++) {
            count += bytes[j] != 0;
        }
    } else {
        for (int64_t j = 0; j < n; j++) {
            count += bytes[j * stride] != 0;
        }
    }
    return count;
}

static int64_t count_resets(const struct fastrnn_batch *const batch) {
    const ptrdiff_t t = batch->resets_stride_t, b = batch->resets_stride_b;
    int64_t count = 0;
    if (t == 1) {
        for (int64_t j = 0; j < batch->B; j++) {
            count += count_marks(batch->resets + j * b, batch->T, t);
        }
    } else {
        for (int64_t j = 0; batch->B > 0 && j < batch->T; j++) {
            count += count_marks(batch->resets + j * t, batch->B, b);
        }
    }
    return count;
}

struct batch_counts batch_count(const struct fastrnn_batch *const batch) {
    struct batch_counts counts = {0};
    for (int64_t b = 0; b < batch->B; b++) {
        const int64_t length = batch_length(batch, b);
        counts.rows += length;
        counts.longest = length > counts.longest ? length : counts.longest;
        counts.regions += windows_of(batch, length);
    }
    counts.regions = least(counts.regions + (batch->resets ? count_resets(batch) : 0), counts.rows);
    return counts;
}

/* ---- regions ---- */

static bool is_reset(const struct fastrnn_batch *const batch, const int64_t t, const int64_t b) {
    return batch->resets[t * batch->resets_stride_t + b * batch->resets_stride_b] != 0;
}

/* The first position after p at which a reset cuts the sequence, or its length. A reset at t stands between t - 1 and
 * t, in both directions. */
static int64_t next_cut(const struct fastrnn_batch *const batch, const int64_t b, const int64_t length, int64_t p) {
    if (!batch->resets) {
        return length;
    }
    const bool from_last = batch->direction == FASTRNN_FROM_LAST_STEP;
    for (p++; p < length; p++) {
        if (is_reset(batch, from_last ? length - p : p, b)) {
            return p;
        }
    }
    return length;
}

int64_t batch_regions(const struct fastrnn_batch *const batch, const bool truncated, struct region *const regions,
                      const int64_t most) {
    int64_t count = 0;
    for (int64_t b = 0; b < batch->B; b++) {
        const int64_t length = batch_length(batch, b), step = truncated ? batch->k1 : length;
        const bool ignores_state =
            batch->resets && length > 0 && batch->direction == FASTRNN_FROM_FIRST_STEP && is_reset(batch, 0, b);
        int64_t window = 0, cut = 0, first = ignores_state ? -1 : b;
        for (int64_t p = 0; p < length;) {
            window = window == p ? p + least(step, length - p) : window;
            cut = cut == p ? next_cut(batch, b, length, p) : cut;
            const int64_t end = least(window, cut);
            if (count == most) {
                return -1;
            }
            regions[count++] = (struct region){b, p, end, first};
            first = end == cut ? -1 : REGION_CONTINUES;
            p = end;
        }
    }
    return count;
}
