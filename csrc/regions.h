/* The regions of a batch: ranges of positions of one sequence that nothing cuts, neither a reset nor a window's end.
 *
 * Positions p = 0, 1, … count the steps of a sequence in the order in which they run: p = t, or length - 1 - t in the
 * direction from the last step.
 */
#ifndef FASTRNN_REGIONS_H
#define FASTRNN_REGIONS_H

#include "layout.h"

struct region {
    int64_t b, begin, end;
    int64_t first; /* as in a schedule, or REGION_CONTINUES: it starts from the states of the region before */
};

enum { REGION_CONTINUES = -2 };

/* The sizes of a batch: exact, or the most that they can be. */
struct batch_counts {
    int64_t rows, longest, regions;
};

/* Checks the batch; reads lengths. */
enum fastrnn_status batch_check(const struct fastrnn_batch *batch);

/* batch_bound reads neither lengths nor resets. */
struct batch_counts batch_bound(const struct fastrnn_batch *batch);
struct batch_counts batch_count(const struct fastrnn_batch *batch);

static inline int64_t batch_length(const struct fastrnn_batch *const batch, const int64_t b) {
    return batch->lengths ? batch->lengths[b] : batch->T;
}

/* ceil(steps / k1) */
static inline int64_t batch_windows(const int64_t steps, const int64_t k1) { return steps / k1 + (steps % k1 != 0); }

/* Whether truncation cuts off any step of a batch that has `longest` steps. */
static inline bool batch_is_truncated(const struct fastrnn_batch *const batch, const int64_t longest) {
    return batch->k1 > 0 && batch->k2 < batch_windows(longest, batch->k1) * batch->k1;
}

/* Fills the regions, ordered by b and then by position; regions of k1 steps if `truncated`, else whole segments between
 * resets. Returns how many there are; -1 if there are more than `most`. */
int64_t batch_regions(const struct fastrnn_batch *batch, bool truncated, struct region *regions, int64_t most);

#endif
