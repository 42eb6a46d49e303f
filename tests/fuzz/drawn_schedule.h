/* Schedules out of a fuzzer's bytes, sound and malformed ones, and the rule that tells them apart. */
#ifndef FASTRNN_TESTS_DRAWN_SCHEDULE_H
#define FASTRNN_TESTS_DRAWN_SCHEDULE_H

#include "drawn.h"

struct drawn_schedule {
    struct fastrnn_schedule c;
    int64_t rows; /* in all */
    bool spoilt;  /* active or states are malformed */
};

static int64_t greatest_common_divisor(const int64_t a, const int64_t b) {
    return b ? greatest_common_divisor(b, a % b) : a;
}

/* The first number from `least` on whose multiples visit every row of the grid. */
static int64_t coprime_from(int64_t least, const int64_t grid) {
    while (grid > 0 && greatest_common_divisor(least, grid) > 1) {
        least++;
    }
    return least;
}

/* Sequences of falling lengths over the rows of the grid in a shuffled order, all sound. */
static struct drawn_schedule draw_schedule(struct bytes *const from, const int64_t T, const int64_t B) {
    const int64_t grid = T * B, states = draw_below(from, 12), sequences = grid ? draw_below(from, B + 3) : 0;
    int64_t *const active = take_integers(T), left = grid, previous = sequences;
    struct drawn_schedule s = {.c = {.steps = T, .active = active, .states = states}};
    for (int64_t step = 0; step < T; step++) {
        const int64_t ended = draw_byte(from) % 4 == 3 ? draw_below(from, previous + 1) : 0;
        const int64_t wanted = previous - (step ? ended : 0);
        previous = active[step] = wanted < left ? wanted : left;
        left -= active[step];
    }
    s.rows = grid - left;
    const int64_t count = T ? active[0] : 0, offset = draw_byte(from), hop = coprime_from(draw_byte(from), grid);
    int64_t *const row = take_integers(s.rows), *const first = take_integers(count);
    int64_t *const last = take_integers(count);
    for (int64_t j = 0; j < s.rows; j++) {
        row[j] = (offset + j * hop) % grid;
    }
    const int64_t first_from = draw_byte(from), last_from = draw_byte(from);
    for (int64_t i = 0; i < count; i++) {
        first[i] = i < states && draw_bit(from) ? (first_from + i) % states : -1;
        last[i] = i < states && draw_bit(from) ? (last_from + i) % states : -1;
    }
    s.c.row = row, s.c.first = first, s.c.last = last;
    return s;
}

/* A number that may be anything, but is often close to what is there. */
static int64_t draw_wrong(struct bytes *const from, const int64_t there, const int64_t limit) {
    switch (draw_byte(from) % 6) {
    case 0:
        return there + 1;
    case 1:
        return there - 1;
    case 2:
        return -1;
    case 3:
        return limit;
    case 4:
        return draw_below(from, limit > 0 && limit < 255 ? limit + 1 : 255);
    default:
        return draw_wide(from);
    }
}

static bool active_is_sound(const struct fastrnn_schedule *const s, const int64_t grid, int64_t *const rows) {
    *rows = 0;
    for (int64_t step = 0; step < s->steps; step++) {
        const int64_t n = s->active[step];
        if (n < 0 || n > grid - *rows || (step > 0 && n > s->active[step - 1])) {
            return false;
        }
        *rows += n;
    }
    return true;
}

/* Changes a number of active, or states. What stays sound must fit the other arrays, which are never longer. */
static void spoil_active(struct bytes *const from, struct drawn_schedule *const s, const int64_t grid) {
    if (draw_byte(from) % 16 == 15) {
        s->c.states = draw_bit(from) ? INT64_MAX - draw_byte(from) : -1 - draw_byte(from);
        s->spoilt = true;
    }
    if (s->c.steps == 0) {
        return;
    }
    int64_t *const entry = (int64_t *)s->c.active + draw_byte(from) % s->c.steps, rows;
    const int64_t before = *entry, sequences = s->c.active[0];
    *entry = draw_wrong(from, before, grid);
    if (!active_is_sound(&s->c, grid, &rows)) {
        s->spoilt = true;
    } else if (rows > s->rows || s->c.active[0] > sequences) {
        *entry = before;
    } else {
        s->rows = rows;
    }
}

/* A copy for backward, in which some sequences start from rows of y, and gradients may go elsewhere. */
static struct drawn_schedule starting_from_rows(struct bytes *const from, const struct drawn_schedule *const s,
                                                const int64_t grid) {
    struct drawn_schedule copy = *s;
    const int64_t n = s->rows ? s->c.active[0] : 0;
    int64_t *const first = take_integers(n), *const last = take_integers(n), *const active = take_integers(s->c.steps);
    int64_t *const row = take_integers(s->rows), *const d_first = take_integers(n), d_first_from = draw_byte(from);
    for (int64_t step = 0; step < s->c.steps; step++) {
        active[step] = s->c.active[step];
    }
    for (int64_t j = 0; j < s->rows; j++) {
        row[j] = s->c.row[j];
    }
    for (int64_t i = 0; i < n; i++) {
        first[i] = draw_byte(from) % 4 == 3 ? s->c.states + draw_below(from, grid) : s->c.first[i];
        last[i] = s->c.last[i];
        d_first[i] = i < s->c.states && draw_bit(from) ? (d_first_from + i) % s->c.states : -1;
    }
    copy.c.active = active, copy.c.row = row, copy.c.first = first, copy.c.last = last;
    copy.c.d_first = draw_bit(from) ? d_first : NULL, copy.c.d_states = s->c.states;
    return copy;
}

/* Changes a few entries. row, first, last and d_first keep their lengths: those of a sound `active`. */
static void spoil_schedule(struct bytes *const from, struct drawn_schedule *const s, const int64_t grid) {
    if (draw_byte(from) % 8 == 7) {
        spoil_active(from, s, grid);
    }
    const int64_t sequences = !s->spoilt && s->rows ? s->c.active[0] : 0;
    const struct {
        const int64_t *numbers;
        int64_t count, limit;
    } arrays[] = {{s->c.row, s->spoilt ? 0 : s->rows, grid},
                  {s->c.first, sequences, s->spoilt ? 0 : s->c.states + grid},
                  {s->c.last, sequences, s->c.states},
                  {s->c.d_first, s->c.d_first ? sequences : 0, s->c.d_states}};
    for (int64_t times = draw_below(from, 4); times > 0; times--) {
        const int64_t which = draw_below(from, 4), at = draw_byte(from);
        if (arrays[which].count > 0) {
            int64_t *const entry = (int64_t *)arrays[which].numbers + at % arrays[which].count;
            *entry = draw_wrong(from, *entry, arrays[which].limit);
        }
    }
}

static bool has_twice_plain(const int64_t *const numbers, const int64_t n, const int64_t limit) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++) {
            if (numbers[i] == numbers[j] && numbers[i] >= 0 && numbers[i] < limit) {
                return true;
            }
        }
    }
    return false;
}

static bool lies_in(const int64_t *const numbers, const int64_t n, const int64_t low, const int64_t high) {
    for (int64_t i = 0; i < n; i++) {
        if (numbers[i] < low || numbers[i] >= high) {
            return false;
        }
    }
    return true;
}

/* origins: the rows of y that a sequence may start from; 0 forward. */
static bool is_sound(const struct drawn_schedule *const s, const int64_t grid, const int64_t origins) {
    const int64_t n = s->rows ? s->c.active[0] : 0, states = s->c.states;
    return !s->spoilt && lies_in(s->c.row, s->rows, 0, grid) && !has_twice_plain(s->c.row, s->rows, grid) &&
           lies_in(s->c.first, n, -1, states + origins) && !has_twice_plain(s->c.first, n, states) &&
           lies_in(s->c.last, n, -1, states) && !has_twice_plain(s->c.last, n, states) &&
           (!s->c.d_first || (lies_in(s->c.d_first, n, -1, states) && !has_twice_plain(s->c.d_first, n, states)));
}

#endif
