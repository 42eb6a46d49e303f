/* Builds the stages of a batch in the caller's memory. */
#ifndef FASTRNN_STAGES_H
#define FASTRNN_STAGES_H

#include "pieces.h"
#include "schedule.h"

/* The stages of a batch. Stages between the first and the last have the same parts. */
struct staging {
    enum stage_kind kinds[5]; /* the distinct ones, in order */
    int kind_count;
    int64_t repeats; /* how often STAGE_NEXT runs */
};

struct staging staging_of(const struct fastrnn_batch *batch, int64_t longest);

static inline int64_t stages_in(const struct staging *const staging) {
    return staging->kind_count + (staging->repeats > 1 ? staging->repeats - 1 : 0);
}

static inline int64_t parts_in(const int64_t pieces) {
    return pieces / SCHEDULE_PIECES_MAX + (pieces % SCHEDULE_PIECES_MAX != 0);
}

/* Bytes as 64-bit integers. */
static inline int64_t words(const size_t bytes) { return (int64_t)((bytes + sizeof(int64_t) - 1) / sizeof(int64_t)); }

/* Builds the schedules, which have their largest sizes. */
enum fastrnn_status stages_build(const struct fastrnn_batch *batch, const struct batch_counts *counts, void *memory,
                                 size_t bytes, struct fastrnn_schedules *to);

#endif
