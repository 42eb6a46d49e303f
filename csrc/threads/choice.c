#include "choice.h"

#include "../plan.h"
#include "costs.h"
#include "fork.h"
#include "room.h"

static const struct choice one_thread = {.cut = FASTRNN_CUT_ONE_THREAD, .threads = 1};

/* The choice, if its threads can be had. */
static struct choice with_room(struct choice choice) {
    if (choice.cut == FASTRNN_CUT_ONE_THREAD || choice.threads == 1) {
        choice.threads = 1;
    } else if (!room_for_threads(choice.threads)) {
        choice_abandon(&choice);
        return one_thread;
    } else if (choice.pace) {
        costs_measure(choice.threads);
        choice.timed.begin = choice.timed.slot ? team_clock() : 0;
    }
    return choice;
}

static struct choice calibrated(struct pace *const pace, struct pace_slot *const slot,
                                const struct pace_question *const question, const int threads) {
    const struct pace_call call = pace_begin(pace, slot, question, team_clock());
    return with_room((struct choice){.cut = call.cut, .threads = threads, .pace = pace, .timed = call});
}

/* ---- calls ---- */

/* Bit j: pointer j is not null. */
static int64_t present(void *const *const pointers) {
    int64_t bits = 0;
    for (int j = 0; j < FASTRNN_PARAMETERS_MAX; j++) {
        bits |= (int64_t)(pointers[j] != NULL) << j;
    }
    return bits;
}

/* The facts that determine the time of a row, besides the pass and the power of two of the rows. Sequences are rounded
 * to a power of two, or to a quarter of one. */
static uint32_t key_of_call(const struct run *const run, const int threads) {
    const struct fastrnn_problem *const p = &run->plan->problem;
    const struct fastrnn_arrays *const a = run->arrays;
    const int64_t sequences = run->plan->shape.sequences, power = pace_log2(sequences);
    const int64_t facts[] = {
        (int)p->cell | (int)p->dtype << 8 | (p->schedule != NULL) << 10 | (a->packed != NULL) << 11 |
            (a->dx.data != NULL) << 12 | (int)a->accumulation << 13 | (p->program != NULL) << 14 | p->backend << 16,
        run->pass == FASTRNN_BACKWARD ? present(a->gradients) : 0,
        p->I,
        p->H,
        (int64_t)threads << 32 | p->threads,
        power < 3 ? sequences : power << 8 | sequences >> (power - 2),
    };
    return pace_key(facts, sizeof facts / sizeof facts[0]);
}

static enum pace_kind kind_of_call(const struct run *const run) {
    return run->pass == FASTRNN_BACKWARD ? PACE_BACKWARD : run->arrays->reserve ? PACE_TRAINING : PACE_INFERENCE;
}

static struct choice choice_of_short_call(const struct run *const run, struct pace *const pace, const int worthwhile) {
    const struct layout_shape *const shape = &run->plan->shape;
    const int threads = worthwhile > 1 ? worthwhile : 2;
    const enum fastrnn_cut of_threads = cut_of_model(shape);
    const int64_t power = pace_log2(shape->rows);
    const bool by_sequences = shape->sequences > 1 || of_threads == FASTRNN_CUT_BY_SEQUENCES;
    const bool by_units = layout_shares(shape) > 1 || of_threads == FASTRNN_CUT_BY_UNITS;
    const struct pace_question question = {
        .key = key_of_call(run, threads),
        .cuts = pace_bit(FASTRNN_CUT_ONE_THREAD) | (by_sequences ? pace_bit(FASTRNN_CUT_BY_SEQUENCES) : 0) |
                (by_units ? pace_bit(FASTRNN_CUT_BY_UNITS) : 0),
        .guess = worthwhile > 1 ? of_threads : FASTRNN_CUT_ONE_THREAD,
        .of_threads = of_threads,
        .amount = (double)shape->rows,
    };
    return calibrated(pace, &pace->slots[kind_of_call(run)][power < PACE_ROWS ? power : PACE_ROWS - 1], &question,
                      threads);
}

static struct choice choice_of_long_call(const struct run *const run, struct pace *const pace, const int threads) {
    const struct plan *const plan = run->plan;
    const enum fastrnn_cut cut = cut_of_model(&plan->shape);
    struct pace_long *const judged = &pace->longs[kind_of_call(run)];
    const bool has_pieces =
        cut_has_pieces(&plan->shape, cut_split(&plan->shape, cut, threads), plan->forward_scratch.chunk_rows);
    return with_room((struct choice){
        .cut = pace_long_cut(judged, cut, has_pieces, team_clock()),
        .threads = threads,
        .pace = pace,
        .judged = judged,
        .has_pieces = has_pieces,
    });
}

static struct choice choice_of_model(const struct plan *const plan, const int threads) {
    return with_room((struct choice){.cut = cut_of_model(&plan->shape), .threads = threads});
}

struct choice choice_of_call(const struct run *const run) {
    const struct plan *const plan = run->plan;
    const struct fastrnn_problem *const p = &plan->problem;
    const int most = cut_threads_max(p->threads);
    if (fork_is_child() || most == 1 || p->cut == FASTRNN_CUT_ONE_THREAD) {
        return one_thread;
    }
    if (p->cut == FASTRNN_CUT_ALL_THREADS) {
        return choice_of_model(plan, most);
    }
    if (p->cut != FASTRNN_CUT_AUTO) {
        return with_room((struct choice){.cut = p->cut, .threads = most});
    }
    if (cut_work(&plan->shape, plan->shape.rows) < CUT_WORK_MIN) {
        return one_thread;
    }
    struct pace *const pace = (struct pace *)p->pace;
    const struct cut_costs costs = costs_now();
    const int threads = cut_threads(&plan->shape, most, &costs);
    if (pace && cut_is_short(&plan->shape)) {
        return choice_of_short_call(run, pace, threads);
    }
    if (threads == 1) {
        return one_thread;
    }
    return pace ? choice_of_long_call(run, pace, threads) : choice_of_model(plan, threads);
}

/* ---- copies ---- */

/* slot null: the cost model alone. */
static struct choice choice_of_bytes(struct pace *const pace, struct pace_slot *const slot, const uint32_t key,
                                     const double bytes, const int most) {
    if (fork_is_child() || most == 1 || bytes < CUT_BYTES_MIN) {
        return one_thread;
    }
    const struct cut_costs costs = costs_now();
    const int worthwhile = cut_threads_of_bytes(bytes, most, &costs);
    const enum fastrnn_cut guess = worthwhile > 1 ? FASTRNN_CUT_BY_UNITS : FASTRNN_CUT_ONE_THREAD;
    if (!slot) {
        return with_room((struct choice){.cut = guess, .threads = worthwhile});
    }
    const struct pace_question question = {
        .key = key,
        .cuts = pace_bit(FASTRNN_CUT_ONE_THREAD) | pace_bit(FASTRNN_CUT_BY_UNITS),
        .guess = guess,
        .of_threads = FASTRNN_CUT_BY_UNITS,
        .amount = bytes,
    };
    return calibrated(pace, slot, &question, worthwhile > 1 ? worthwhile : 2);
}

struct choice choice_of_packing(const struct run *const run) {
    const struct fastrnn_problem *const p = &run->plan->problem;
    const struct layout_shape *const shape = &run->plan->shape;
    const int most = cut_threads_max(p->threads);
    if (p->cut == FASTRNN_CUT_ONE_THREAD) {
        return one_thread;
    }
    if (p->cut != FASTRNN_CUT_AUTO) {
        return fork_is_child() ? one_thread : with_room((struct choice){.cut = p->cut, .threads = most});
    }
    struct pace *const pace = (struct pace *)p->pace;
    const int64_t facts[] = {(int)p->dtype | (int)p->cell << 8, p->backend, p->I, p->H, most};
    return choice_of_bytes(pace, pace ? &pace->packing[run->pass == FASTRNN_PACK_BACKWARD] : NULL,
                           pace_key(facts, sizeof facts / sizeof facts[0]), cut_work(shape, 1) * shape->real_bytes,
                           most);
}

struct choice choice_of_comparison(const size_t bytes, const int threads, struct fastrnn_pace *const given) {
    struct pace *const pace = (struct pace *)given;
    const int64_t power = pace_log2((int64_t)bytes), least = pace_log2(CUT_BYTES_MIN);
    const int64_t facts[] = {power, threads}, size = power - least < PACE_SIZES ? power - least : PACE_SIZES - 1;
    return choice_of_bytes(pace, pace ? &pace->comparison[size > 0 ? size : 0] : NULL,
                           pace_key(facts, sizeof facts / sizeof facts[0]), (double)bytes, cut_threads_max(threads));
}

int choice_of_elements(const enum fastrnn_cut cut, const double bytes, const int threads) {
    const int most = cut_threads_max(threads);
    if (fork_is_child() || cut == FASTRNN_CUT_ONE_THREAD) {
        return 1;
    }
    return (cut == FASTRNN_CUT_AUTO ? choice_of_bytes(NULL, NULL, 0, bytes, most)
                                    : with_room((struct choice){.cut = cut, .threads = most}))
        .threads;
}

/* ---- afterwards ---- */

void choice_end(const struct choice *const choice) {
    if (choice->timed.slot) {
        pace_end(choice->pace, &choice->timed, team_clock());
    }
}

void choice_abandon(const struct choice *const choice) {
    if (choice->timed.slot) {
        pace_abandon(&choice->timed, team_clock());
    }
}
