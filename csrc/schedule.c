/* Schedules of a batch: the sizes of their memory. Regions (regions.h) become the pieces of each stage (pieces.h), and
 * pieces that run side by side become parts (stages.h). */
#include "schedule.h"

#include <string.h>

#include "stages.h"

/* ---- sizes ---- */

/* The bytes that a build needs at most. A part has as many steps as its longest piece, and no piece of the part before
 * is shorter; hence the bound of `active`. */
static size_t bytes_needed(const struct fastrnn_batch *const batch, const struct batch_counts *const counts,
                           bool *const overflowed) {
    const struct staging staging = staging_of(batch, counts->longest);
    const int64_t sets = staging.kind_count, parts = parts_in(counts->regions);
    const int64_t active = counts->longest + counts->rows / SCHEDULE_PIECES_MAX;
    struct layout_cursor cursor = {0};
    layout_take(&cursor, 1, stages_in(&staging), words(sizeof(struct fastrnn_stage)), 1, 1);
    layout_take(&cursor, 1, sets, parts, words(sizeof(struct fastrnn_schedule)), 1);
    layout_take(&cursor, 1, sets, counts->rows, 1, 1);
    layout_take(&cursor, 1, sets, active, 1, 1);
    layout_take(&cursor, 1, sets, counts->regions, 3, 1); /* first, last, d_first */
    layout_take(&cursor, 1, batch->B, 2, 1, 1);           /* initial, empty */
    layout_take(&cursor, 1, batch->rows == FASTRNN_PACKED ? counts->longest : 0, 1, 1, 1);
    layout_take(&cursor, 1, counts->regions, words(sizeof(struct region)), 1, 1);
    layout_take(&cursor, 1, counts->regions, words(sizeof(struct piece)) + 2, 1, 1);
    layout_take(&cursor, 1, counts->longest, 1, 1, 1);
    layout_take(&cursor, 1, 2, 1, 1, 1); /* an entry more of the counts; alignment */
    const size_t bytes = layout_bytes(&cursor, sizeof(int64_t));
    *overflowed = cursor.overflowed;
    return bytes;
}

static enum fastrnn_status set_sizes(const struct fastrnn_batch *const batch, const struct batch_counts *const counts,
                                     struct fastrnn_schedules *const schedules) {
    bool overflowed;
    const bool packed = batch->rows == FASTRNN_PACKED;
    const struct staging staging = staging_of(batch, counts->longest);
    const int64_t regions = counts->regions;
    memset(schedules, 0, sizeof *schedules);
    schedules->struct_size = sizeof *schedules;
    schedules->bytes = bytes_needed(batch, counts, &overflowed);
    schedules->T = packed ? counts->rows : batch->T;
    schedules->B = packed ? 1 : batch->B;
    schedules->steps = counts->longest;
    schedules->sequences = regions < SCHEDULE_PIECES_MAX ? regions : SCHEDULE_PIECES_MAX;
    schedules->rows = counts->rows;
    schedules->states = batch->B;
    schedules->backward_only = batch_is_truncated(batch, counts->longest);
    schedules->d_states = staging.kind_count > 1 ? 2 * batch->B + regions : 0;
    return overflowed ? FASTRNN_TOO_LARGE : FASTRNN_OK;
}

static enum fastrnn_status measure(const struct fastrnn_batch *const batch, struct batch_counts *const counts,
                                   struct fastrnn_schedules *const schedules) {
    const enum fastrnn_status status = schedules ? batch_check(batch) : FASTRNN_NULL_POINTER;
    if (status != FASTRNN_OK) {
        return status;
    }
    *counts = batch_count(batch);
    return set_sizes(batch, counts, schedules);
}

enum fastrnn_status fastrnn_measure_schedules(const struct fastrnn_batch *const batch,
                                              struct fastrnn_schedules *const schedules) {
    struct batch_counts counts;
    return measure(batch, &counts, schedules);
}

enum fastrnn_status fastrnn_bound_schedules(const struct fastrnn_batch *const batch,
                                            struct fastrnn_schedules *const schedules) {
    struct fastrnn_batch shape;
    if (!batch || !schedules) {
        return FASTRNN_NULL_POINTER;
    }
    shape = *batch;
    shape.lengths = NULL;
    const enum fastrnn_status status = batch_check(&shape);
    if (status != FASTRNN_OK) {
        return status;
    }
    const struct batch_counts counts = batch_bound(&shape);
    return set_sizes(&shape, &counts, schedules);
}

enum fastrnn_status fastrnn_build_schedules(const struct fastrnn_batch *const batch, void *const memory,
                                            const size_t bytes, struct fastrnn_schedules *const schedules) {
    struct batch_counts counts;
    const enum fastrnn_status status = measure(batch, &counts, schedules);
    if (status != FASTRNN_OK) {
        return status;
    }
    return memory ? stages_build(batch, &counts, memory, bytes, schedules) : FASTRNN_NULL_POINTER;
}
