#include "stages.h"

struct staging staging_of(const struct fastrnn_batch *const batch, const int64_t longest) {
    if (!batch_is_truncated(batch, longest) || batch->k1 == batch->k2) {
        return (struct staging){{STAGE_ALONE}, 1, 0};
    }
    struct staging staging = {0};
    const bool divides = batch->k2 % batch->k1 == 0;
    const int64_t passing = batch_windows(batch->k2, batch->k1) - (divides ? 1 : 2);
    if (passing > 0) {
        staging.kinds[staging.kind_count++] = STAGE_FIRST;
    }
    if (passing > 1) {
        staging.kinds[staging.kind_count++] = STAGE_NEXT;
        staging.repeats = passing - 1;
    }
    if (divides) {
        staging.kinds[staging.kind_count++] = STAGE_WHOLE;
    } else {
        staging.kinds[staging.kind_count++] = STAGE_OPEN_END;
        staging.kinds[staging.kind_count++] = STAGE_WHOLE_FRONT;
        staging.kinds[staging.kind_count++] = STAGE_WHOLE_END;
    }
    return staging;
}

/* ---- memory ---- */

struct room {
    int64_t *next;
    int64_t left;
    bool exhausted;
};

static struct room room_in(void *const memory, const size_t bytes) {
    const uintptr_t align = sizeof(int64_t), from = (uintptr_t)memory, to = (from + align - 1) / align * align;
    const size_t skipped = to - from;
    return (struct room){(int64_t *)to, skipped < bytes ? (int64_t)((bytes - skipped) / align) : 0, false};
}

/* Null, for good, once there is no room. */
static void *take(struct room *const room, const int64_t n) {
    if (room->exhausted || n > room->left) {
        room->exhausted = true;
        return NULL;
    }
    int64_t *const taken = room->next;
    room->next += n;
    room->left -= n;
    return taken;
}

/* ---- parts ---- */

/* Arrays of the build, besides the schedules themselves. */
struct tools {
    struct building s;
    struct room room;
    struct region *regions;
    struct piece *pieces;
    int64_t *order, *spare, *counts;
};

/* Sets active; returns the rows. The pieces are the longest first. */
static int64_t set_active(const struct piece *const pieces, const int64_t *const order, const int64_t n,
                          const int64_t steps, int64_t *const active) {
    int64_t rows = 0, i = n;
    for (int64_t s = 0; s < steps; s++) {
        while (pieces[order[i - 1]].end - pieces[order[i - 1]].begin <= s) {
            i--;
        }
        active[s] = i;
        rows += i;
    }
    return rows;
}

static void set_rows(const struct building *const s, const struct piece *const pieces, const int64_t *const order,
                     const struct fastrnn_schedule *const part, int64_t *row) {
    const int64_t B = s->batch->B, onward = s->batch->direction == FASTRNN_FROM_LAST_STEP ? -B : B;
    const int64_t *before = NULL;
    for (int64_t step = 0; step < part->steps; step++) {
        const int64_t active = part->active[step];
        if (before && !s->offset) {
            for (int64_t i = 0; i < active; i++) {
                row[i] = before[i] + onward;
            }
        } else {
            for (int64_t i = 0; i < active; i++) {
                const struct piece *const piece = &pieces[order[i]];
                row[i] = row_at(s, piece->b, piece->begin + step);
            }
        }
        before = row;
        row += active;
    }
}

/* Sets one part, of the pieces order[0 … n - 1]; false if there is no room. */
static bool set_part(struct tools *const tools, const int64_t *const order, const int64_t n,
                     struct fastrnn_schedules *const to, struct fastrnn_schedule *const part) {
    const struct piece *const pieces = tools->pieces;
    const int64_t steps = pieces[order[0]].end - pieces[order[0]].begin;
    int64_t *const active = take(&tools->room, steps), *const first = take(&tools->room, n);
    int64_t *const last = take(&tools->room, n), *const d_first = take(&tools->room, to->d_states ? n : 0);
    if (tools->room.exhausted) {
        return false;
    }
    const int64_t rows = set_active(pieces, order, n, steps, active);
    int64_t *const row = take(&tools->room, rows);
    if (!row) {
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        const struct piece *const piece = &pieces[order[i]];
        first[i] = piece->first;
        last[i] = piece->last;
        if (to->d_states) {
            d_first[i] = piece->d_first;
        }
    }
    *part = (struct fastrnn_schedule){.steps = steps,
                                      .active = active,
                                      .row = row,
                                      .states = to->states,
                                      .first = first,
                                      .last = last,
                                      .d_first = to->d_states ? d_first : NULL,
                                      .d_states = to->d_states};
    set_rows(&tools->s, pieces, order, part, row);
    to->steps = steps > to->steps ? steps : to->steps;
    to->sequences = n > to->sequences ? n : to->sequences;
    to->rows = rows > to->rows ? rows : to->rows;
    return true;
}

/* ---- stages ---- */

/* The sequences with an initial state that receives its gradient from these pieces. */
static bool set_initial(struct tools *const tools, const int64_t n, struct fastrnn_stage *const stage) {
    const int64_t B = tools->s.batch->B;
    int64_t count = 0;
    for (int64_t j = 0; j < n; j++) {
        count += tools->pieces[j].d_first >= B && tools->pieces[j].d_first < 2 * B;
    }
    int64_t *const initial = take(&tools->room, count);
    if (!initial) {
        return false;
    }
    stage->initial = initial;
    for (int64_t j = 0; j < n; j++) {
        if (tools->pieces[j].d_first >= B && tools->pieces[j].d_first < 2 * B) {
            initial[stage->initial_count++] = tools->pieces[j].d_first - B;
        }
    }
    return true;
}

static bool set_stage(struct tools *const tools, const enum stage_kind kind, struct fastrnn_schedules *const to,
                      struct fastrnn_stage *const stage) {
    const int64_t n = pieces_of_stage(&tools->s, kind, tools->pieces), count = parts_in(n);
    struct fastrnn_schedule *const parts = take(&tools->room, count * words(sizeof *parts));
    *stage = (struct fastrnn_stage){.parts = parts, .part_count = count};
    if (!parts || (to->d_states && !set_initial(tools, n, stage))) {
        return false;
    }
    order_pieces(&tools->s, tools->pieces, n, tools->order, tools->spare, tools->counts);
    for (int64_t part = 0; part < count; part++) {
        const int64_t begin = part * SCHEDULE_PIECES_MAX, left = n - begin;
        if (!set_part(tools, tools->order + begin, left < SCHEDULE_PIECES_MAX ? left : SCHEDULE_PIECES_MAX, to,
                      &parts[part])) {
            return false;
        }
    }
    return true;
}

static bool set_stages(struct tools *const tools, const struct staging *const staging,
                       struct fastrnn_schedules *const to) {
    struct fastrnn_stage *const stages = take(&tools->room, stages_in(staging) * words(sizeof *stages)), *next = stages;
    for (int j = 0; stages && j < staging->kind_count; j++) {
        const enum stage_kind kind = staging->kinds[j];
        if (!set_stage(tools, kind, to, next)) {
            return false;
        }
        to->whole_stages += stage_is_whole(kind);
        next++;
        for (int64_t again = 1; kind == STAGE_NEXT && again < staging->repeats; again++, next++) {
            *next = next[-1];
        }
    }
    to->stage_count = stages_in(staging);
    to->stages = stages;
    return stages;
}

static bool set_empty(struct tools *const tools, struct fastrnn_schedules *const to) {
    const struct fastrnn_batch *const batch = tools->s.batch;
    int64_t *const empty = take(&tools->room, batch->B);
    for (int64_t b = 0; empty && b < batch->B; b++) {
        if (batch_length(batch, b) == 0) {
            empty[to->empty_count++] = b;
        }
    }
    to->empty = empty;
    return empty;
}

/* The row of (t, 0) in packed sequences. */
static bool set_offsets(struct tools *const tools) {
    const struct fastrnn_batch *const batch = tools->s.batch;
    int64_t *const offset = take(&tools->room, tools->s.longest);
    int64_t rows = 0, active = batch->B;
    for (int64_t t = 0; offset && t < tools->s.longest; t++) {
        while (active > 0 && batch_length(batch, active - 1) <= t) {
            active--;
        }
        offset[t] = rows;
        rows += active;
    }
    tools->s.offset = offset;
    return offset;
}

static bool take_tools(struct tools *const tools, const struct batch_counts *const counts) {
    tools->regions = take(&tools->room, counts->regions * words(sizeof *tools->regions));
    tools->pieces = take(&tools->room, counts->regions * words(sizeof *tools->pieces));
    tools->order = take(&tools->room, counts->regions);
    tools->spare = take(&tools->room, counts->regions);
    tools->counts = take(&tools->room, counts->longest + 1);
    return !tools->room.exhausted;
}

/* ---- all of it ---- */

enum fastrnn_status stages_build(const struct fastrnn_batch *const batch, const struct batch_counts *const counts,
                                 void *const memory, const size_t bytes, struct fastrnn_schedules *const to) {
    struct tools made = {.room = room_in(memory, bytes)}, *const tools = &made;
    const struct staging staging = staging_of(batch, counts->longest);
    const bool truncated = batch_is_truncated(batch, counts->longest);
    if (!take_tools(tools, counts)) {
        return FASTRNN_NO_ROOM;
    }
    tools->s = (struct building){.batch = batch, .regions = tools->regions, .longest = counts->longest};
    tools->s.windows = batch->k1 > 0 ? batch_windows(batch->k2, batch->k1) : 0;
    tools->s.count = batch_regions(batch, truncated, tools->regions, counts->regions);
    to->steps = to->sequences = to->rows = 0;
    to->d_states = staging.kind_count > 1 ? 2 * batch->B + tools->s.count : 0;
    const bool has_room = tools->s.count >= 0 && (batch->rows == FASTRNN_PADDED || set_offsets(tools)) &&
                          set_empty(tools, to) && set_stages(tools, &staging, to);
    return has_room ? FASTRNN_OK : FASTRNN_NO_ROOM;
}
