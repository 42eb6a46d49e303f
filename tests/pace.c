/* Drives calibration (csrc/threads/calibration.h and long_calls.h) by a simulated clock: the tests set the duration of
 * each call. Prints the failures, and ends with 1 if there are any. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "threads/long_calls.h"

static struct pace pace;
static struct pace_slot *const slot = &pace.slots[PACE_INFERENCE][5];

/* Indices of cuts, and sets of them. */
enum { ONE, SEQUENCES, UNITS };
enum { TWO_CUTS = 1 << ONE | 1 << SEQUENCES, ALL_CUTS = TWO_CUTS | 1 << UNITS };
enum { KEY = 7, AMOUNT = 100 };

static int failures;

/* Forgets all records. */
static void begin_anew(void) { memset(&pace, 0, sizeof pace); }

static void check(const bool holds, const char *const what, const char *const scenario, const double figure) {
    if (!holds) {
        printf("%s: %s (%g)\n", scenario, what, figure);
        failures++;
    }
}

static struct pace_call begin_in(struct pace_slot *const where, const uint32_t key, const int guess,
                                 const unsigned cuts, const int64_t now) {
    const struct pace_question question = {key, cuts, pace_cut(guess), FASTRNN_CUT_BY_SEQUENCES, AMOUNT};
    return pace_begin(&pace, where, &question, now);
}

static struct pace_call begin(const int guess, const unsigned cuts, const int64_t now) {
    return begin_in(slot, KEY, guess, cuts, now);
}

/* A machine: the duration of a call with each cut, in ns, and how often several threads lose a slice of the scheduler
 * (0: never). */
struct machine {
    double ns[PACE_CUTS];
    int slice_every;
    double slice_ns;
    double noise;     /* of each call, a share */
    int hiccup_every; /* of calls of any cut */
    double wake_ns;   /* for threads that sleep */
    double rest_ns;   /* between two calls */
};

struct run {
    int64_t now, threads_end;
    uint64_t random;
    int calls, by_cut[PACE_CUTS], slices;
    double spent;
};

static double draw(struct run *const run) {
    run->random = run->random * 6364136223846793005U + 1442695040888963407U;
    return (double)(run->random >> 40) / (double)(1 << 24);
}

static void call_once(struct run *const run, const struct machine *const machine, const int guess,
                      const unsigned cuts) {
    const struct pace_call call = begin(guess, cuts, run->now);
    const int cut = pace_index(call.cut);
    double wall = machine->ns[cut] * (1 + machine->noise * draw(run));
    if (cut != ONE && machine->slice_every && draw(run) * machine->slice_every < 1) {
        wall += machine->slice_ns;
        run->slices++;
    }
    if (machine->hiccup_every && draw(run) * machine->hiccup_every < 1) {
        wall += 3e6;
    }
    if (cut != ONE && run->now - run->threads_end > 3000000) {
        wall += machine->wake_ns;
    }
    run->now += (int64_t)wall;
    run->threads_end = cut != ONE ? run->now : run->threads_end;
    if (call.slot) {
        pace_end(&pace, &call, run->now);
    }
    run->by_cut[cut]++;
    run->calls++;
    run->spent += wall;
    run->now += (int64_t)machine->rest_ns;
}

static void count_anew(struct run *const run) {
    run->calls = run->slices = 0;
    run->spent = 0;
    memset(run->by_cut, 0, sizeof run->by_cut);
}

static void call_for(struct run *const run, const struct machine *const machine, const double seconds, const int guess,
                     const unsigned cuts) {
    const int64_t end = run->now + (int64_t)(seconds * 1e9);
    count_anew(run);
    while (run->now < end) {
        call_once(run, machine, guess, cuts);
    }
}

/* ---- short calls ---- */

/* Whatever the guess, nearly all calls use the fastest cut, and all together take at most two percent longer. */
static void finds_the_fastest_cut(const double one, const double sequences, const double units) {
    for (int guess = 0; guess < PACE_CUTS; guess++) {
        struct run run = {.random = 3};
        const struct machine machine = {.ns = {one, sequences, units}, .noise = 0.03};
        double least = one < sequences ? one : sequences;
        least = least < units ? least : units;
        begin_anew();
        call_for(&run, &machine, 200 * least * 1e-9, guess, ALL_CUTS);
        for (int turn = 0; turn < 20; turn++) {
            call_for(&run, &machine, 200 * least * 1e-9, guess, ALL_CUTS);
            const double over = run.spent / run.calls / (least * 1.015);
            check(over < 1.05, "takes too long, soon after the first call", "quiet", over);
        }
        call_for(&run, &machine, 2, guess, ALL_CUTS);
        const double over = run.spent / run.calls / (least * 1.015);
        check(over < 1.02, "takes longer than the fastest cut", "quiet", over);
    }
}

static void leaves_cuts_that_are_not_allowed(void) {
    struct run run = {.random = 5};
    begin_anew();
    call_for(&run, &(struct machine){.ns = {2e5, 1e5, 1e4}}, 1, ONE, TWO_CUTS);
    check(run.by_cut[UNITS] == 0, "used a cut that is not allowed", "two cuts", run.by_cut[UNITS]);
    check(run.by_cut[SEQUENCES] > 0.9 * run.calls, "did not find the threads", "two cuts", run.by_cut[SEQUENCES]);
}

static void a_neighbour_comes_and_goes(const double one, const double threads, const int slice_every) {
    struct run run = {.random = 7};
    const struct machine quiet = {.ns = {one, threads, threads}, .noise = 0.03};
    struct machine crowded = quiet;
    crowded.slice_every = slice_every;
    crowded.slice_ns = 8e6;
    begin_anew();
    call_for(&run, &quiet, 2, SEQUENCES, ALL_CUTS);
    call_for(&run, &crowded, 2, SEQUENCES, ALL_CUTS); /* learns */
    call_for(&run, &crowded, 10, SEQUENCES, ALL_CUTS);
    const double lost = (double)run.slices / run.calls;
    check(lost < 0.01, "of a hundred calls, one loses a slice", "neighbour", lost);
    check(run.spent / run.calls < 1.05 * one, "takes longer than one thread", "neighbour", run.spent / run.calls / one);
    call_for(&run, &quiet, 5, SEQUENCES, ALL_CUTS);
    call_for(&run, &quiet, 1, SEQUENCES, ALL_CUTS);
    check(run.by_cut[ONE] < 0.05 * run.calls, "does not return to the threads", "neighbour has gone", run.by_cut[ONE]);
}

/* Once in a thousand calls, something takes 3 ms: no reason to fall back. */
static void hiccups_are_forgiven(void) {
    struct run run = {.random = 11};
    const struct machine machine = {.ns = {2e5, 1.2e5, 1.3e5}, .noise = 0.1, .hiccup_every = 1000};
    begin_anew();
    call_for(&run, &machine, 20, SEQUENCES, ALL_CUTS);
    check(run.by_cut[ONE] < 0.1 * run.calls, "falls back", "hiccups", (double)run.by_cut[ONE] / run.calls);
}

static void a_bad_cut_does_not_discredit_the_guess(const double one, const double sequences, const double units) {
    begin_anew();
    struct run run = {.random = 31};
    const struct machine machine = {.ns = {one, sequences, units}, .noise = 0.03};
    call_for(&run, &machine, 5, SEQUENCES, ALL_CUTS);
    call_for(&run, &machine, 10, SEQUENCES, ALL_CUTS);
    check(run.by_cut[SEQUENCES] > 0.95 * run.calls, "leaves the guess", "a bad cut",
          (double)run.by_cut[SEQUENCES] / run.calls);
}

/* A barrier becomes slow and quick again: the best cut changes, and is found. */
static void follows_the_barrier(void) {
    struct run run = {.random = 13};
    const struct machine quick = {.ns = {8e5, 5e5, 5.5e5}, .noise = 0.05},
                         slow = {.ns = {8e5, 12e5, 13e5}, .noise = 0.05};
    begin_anew();
    for (int turn = 0; turn < 4; turn++) {
        const struct machine *const machine = turn % 2 ? &slow : &quick;
        const int best = turn % 2 ? ONE : SEQUENCES;
        call_for(&run, machine, turn % 2 ? 0.05 : 3, SEQUENCES, ALL_CUTS);
        call_for(&run, machine, 1, SEQUENCES, ALL_CUTS);
        check(run.by_cut[best] > 0.9 * run.calls, "does not follow", turn % 2 ? "slow barrier" : "quick barrier",
              (double)run.by_cut[best] / run.calls);
    }
}

/* Threads that must first be woken up are as good as before for the calls that follow soon. */
static void wakes_the_threads_for_many_calls(void) {
    begin_anew();
    struct run run = {.random = 37};
    const struct machine machine = {.ns = {6.7e3, 5.7e3, 7e3}, .noise = 0.03, .wake_ns = 6e4, .hiccup_every = 20000};
    double threads = 0, calls = 0;
    for (int turn = 0; turn < 20; turn++) {
        call_for(&run, &machine, 0.08, ONE, ALL_CUTS);
        threads += turn >= 4 ? run.by_cut[SEQUENCES] : 0;
        calls += turn >= 4 ? run.calls : 0;
        run.now += 1000000000;
    }
    check(threads > 0.6 * calls, "does not use the threads", "turns", threads / calls);
}

/* Threads sleep while calls use one thread. Waking them takes several times as long as a call, and the first call of a
 * probe must not end it: otherwise calls would use one thread for good. */
static void recovers_although_the_threads_sleep(const double one, const double threads, const double wake) {
    const struct machine slow = {.ns = {one, 3 * one, 3 * one}},
                         quiet = {.ns = {one, threads, threads}, .wake_ns = wake};
    for (int seed = 1; seed <= 20; seed++) {
        begin_anew();
        struct run run = {.random = (uint64_t)seed, .now = 1000000000};
        call_for(&run, &slow, 0.05 + 0.01 * seed, SEQUENCES, TWO_CUTS); /* falls to one thread */
        count_anew(&run);
        while (run.calls < 100000 && (slot->soon.best != SEQUENCES || slot->soon.probed >= 0)) {
            call_once(&run, &quiet, SEQUENCES, TWO_CUTS);
        }
        const double most = 2.6e8 / one > 1000 ? 2.6e8 / one : 1000;
        check(run.calls < most, "stays on one thread", "threads that sleep", run.calls);
    }
}

/* The first calls of the threads lose slices of the scheduler to a neighbour that soon goes. */
static void recovers_from_a_bad_start(const double one, const double threads) {
    const struct machine quiet = {.ns = {one, threads, threads}, .wake_ns = 6e4};
    struct machine crowded = quiet;
    crowded.slice_every = 1;
    crowded.slice_ns = 4e6;
    for (int bad = 1; bad <= 40; bad++) {
        begin_anew();
        struct run run = {.random = 3, .now = 1000000000};
        for (int n = 0; n < bad; n++) {
            call_once(&run, &crowded, SEQUENCES, ALL_CUTS);
        }
        const int64_t begin_quiet = run.now;
        count_anew(&run);
        while (run.calls < 100000 && (slot->soon.best == ONE || slot->soon.probed >= 0)) {
            call_once(&run, &quiet, SEQUENCES, ALL_CUTS);
        }
        const double seconds = 1e-9 * (double)(run.now - begin_quiet);
        check(run.calls < 300 || seconds < 0.6, "stays on one thread", "a bad start", run.calls);
    }
}

/* Bursts of calls: at the beginning of each, another library's threads still spin. The pauses elapse between bursts. */
static void recovers_in_every_burst(void) {
    const double one = 1.5e6, threads = 0.8e6;
    const struct machine quiet = {.ns = {one, threads, threads}, .noise = 0.03, .wake_ns = 6e4};
    struct machine crowded = quiet;
    crowded.slice_every = 1;
    crowded.slice_ns = 4e6;
    begin_anew();
    struct run run = {.random = 47, .now = 1000000000};
    double least = 1;
    for (int burst = 0; burst < 40; burst++) {
        call_for(&run, &crowded, 0.03, SEQUENCES, ALL_CUTS);
        call_for(&run, &quiet, 1, SEQUENCES, ALL_CUTS);
        const double share = 1 - (double)run.by_cut[ONE] / run.calls;
        least = share < least ? share : least;
        run.now += 3000000000;
    }
    check(least > 0.3, "stays on one thread for a burst", "bursts", least);
}

/* Calls that come one by one use one thread, if the threads would have to be woken up for each. */
static void lets_the_threads_sleep_for_single_calls(void) {
    begin_anew();
    struct run run = {.random = 41};
    const struct machine machine = {.ns = {6e4, 4e4, 5e4}, .noise = 0.03, .wake_ns = 6e4, .rest_ns = 1e7};
    call_for(&run, &machine, 5, SEQUENCES, ALL_CUTS);
    call_for(&run, &machine, 20, SEQUENCES, ALL_CUTS);
    check(run.by_cut[ONE] > 0.95 * run.calls, "wakes the threads", "single calls", (double)run.by_cut[ONE] / run.calls);
}

/* A clock that is set back by an hour stops no probe. */
static void survives_a_clock_that_is_set_back(void) {
    struct run run = {.random = 17, .now = 3600LL * 1000000000};
    begin_anew();
    call_for(&run, &(struct machine){.ns = {1e5, 3e5, 3e5}}, 1, ONE, ALL_CUTS);
    run.now = 1000;
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 4, ONE, ALL_CUTS);
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 1, ONE, ALL_CUTS);
    check(run.by_cut[SEQUENCES] > 0.9 * run.calls, "does not probe again", "clock", run.by_cut[SEQUENCES]);
}

static void does_not_wait_for_a_record_that_is_held(void) {
    begin_anew();
    struct run run = {.random = 19};
    call_for(&run, &(struct machine){.ns = {2e5, 1e5, 3e5}}, 1, ONE, ALL_CUTS);
    atomic_store(&slot->held, true);
    const struct pace_call call = begin(UNITS, ALL_CUTS, run.now);
    check(!call.slot && call.cut == FASTRNN_CUT_BY_UNITS, "does not follow the guess", "held", call.cut);
}

/* A process, or its machine, that is stopped for ten minutes in a call does not make the next minutes slow. */
static void forgets_that_it_was_stopped(void) {
    const struct machine machine = {.ns = {2e5, 1.2e5, 1.3e5}, .noise = 0.1, .hiccup_every = 1000};
    for (int more = 1; more <= 30; more++) { /* calls before, so that some stops meet a probe */
        begin_anew();
        struct run run = {.random = 23};
        call_for(&run, &machine, 0.1 + 0.0003 * more, SEQUENCES, ALL_CUTS);
        const struct pace_call call = begin(SEQUENCES, ALL_CUTS, run.now);
        run.now += 600LL * 1000000000;
        pace_end(&pace, &call, run.now);
        call_for(&run, &machine, 20, SEQUENCES, ALL_CUTS);
        call_for(&run, &machine, 10, SEQUENCES, ALL_CUTS);
        check(run.by_cut[ONE] < 0.2 * run.calls, "still uses one thread", "stopped",
              (double)run.by_cut[ONE] / run.calls);
    }
}

/* A probe that is abandoned is over, and another one comes later. */
static void abandons_a_probe(void) {
    begin_anew();
    int64_t now = 1000;
    int probed = 0;
    for (int n = 0; n < 100000; n++) {
        const struct pace_call call = begin(ONE, TWO_CUTS, now);
        now += 100000;
        if (pace_index(call.cut) == SEQUENCES) {
            probed++;
            pace_abandon(&call, now);
        } else {
            pace_end(&pace, &call, now);
        }
    }
    check(probed >= 2 && probed <= 50, "probes too rarely or too often", "abandoned", probed);
}

/* ---- records ---- */

static void keys_differ(void) {
    enum { KEYS = 40 };
    uint32_t keys[KEYS];
    for (int64_t k = 0; k < KEYS; k++) {
        keys[k] = pace_key((int64_t[]){k / 8, k % 8}, 2);
        for (int64_t j = 0; j < k; j++) {
            check(keys[j] != keys[k], "two keys are equal", "keys", (double)k);
        }
    }
    check(pace_key((int64_t[]){3, 5}, 2) == keys[29] && pace_key((int64_t[]){5, 3}, 2) != keys[29],
          "a key does not depend on the facts alone", "keys", 0);
}

/* Calls of another kind leave the record alone unless they come alone: then it becomes theirs. */
static void a_record_has_one_kind_of_call(void) {
    begin_anew();
    struct run run = {.random = 43};
    const struct machine machine = {.ns = {2e5, 1e5, 3e5}};
    call_for(&run, &machine, 0.5, ONE, ALL_CUTS);
    for (int n = 0; n < 100; n++) {
        const struct pace_call stranger = begin_in(slot, KEY + 2, ONE, ALL_CUTS, run.now);
        check(!stranger.slot && stranger.cut == FASTRNN_CUT_ONE_THREAD, "records a stranger", "kinds", n);
        call_once(&run, &machine, ONE, ALL_CUTS);
    }
    check(slot->soon.best == SEQUENCES, "forgets", "kinds", slot->soon.best);
    int refused = 0;
    while (refused < 100 && !begin_in(slot, KEY + 2, ONE, ALL_CUTS, run.now).slot) {
        refused++;
    }
    check(refused == PACE_STRANGERS - 1, "keeps the record too long", "kinds", refused);
}

/* After a fallback, a new record begins with one thread, for a while. */
static void warns_other_records(void) {
    begin_anew();
    struct run run = {.random = 29, .now = 1000};
    const struct machine crowded = {.ns = {1.7e5, 1e5, 1e5}, .slice_every = 5, .slice_ns = 8e6};
    call_for(&run, &crowded, 0.3, SEQUENCES, ALL_CUTS);
    struct pace_slot *const others = &pace.slots[PACE_BACKWARD][0];
    const int cut = pace_index(begin_in(&others[0], 99, SEQUENCES, ALL_CUTS, run.now).cut);
    check(cut == ONE, "a new record begins with several threads", "beside a neighbour", cut);
    const int later = pace_index(begin_in(&others[1], 99, SEQUENCES, ALL_CUTS, run.now + 3000000000).cut);
    check(later == SEQUENCES, "a new record begins with one thread", "long after a neighbour", later);
}

/* Calls of eight slots, in turn with the other threads. */
static void *call_at_once(void *const seed) {
    struct run run = {.random = *(const uint64_t *)seed, .now = 1000};
    for (int n = 0; n < 20000; n++) {
        const struct pace_call call = begin_in(&pace.slots[PACE_TRAINING][n % 8], KEY, SEQUENCES, ALL_CUTS, run.now);
        run.now += (int64_t)(1e5 * (1 + (double)pace_index(call.cut) + draw(&run)));
        if (call.slot && n % 100 == 0) {
            pace_abandon(&call, run.now);
        } else if (call.slot) {
            pace_end(&pace, &call, run.now);
        }
        struct pace_long *const l = &pace.longs[PACE_TRAINING];
        const struct pace_times times = {100000, 150000 - (int64_t)(1e5 * draw(&run)), 90000, 70000};
        pace_judge(l, pace_long_cut(l, FASTRNN_CUT_BY_SEQUENCES, true, run.now), true, &times, run.now);
    }
    return NULL;
}

/* Concurrent calls damage no record (the thread sanitizer looks on), and each releases it. */
static void serves_concurrent_calls(void) {
    begin_anew();
    enum { CALLERS = 4 };
    pthread_t threads[CALLERS];
    uint64_t seeds[CALLERS];
    for (int j = 0; j < CALLERS; j++) {
        seeds[j] = 43 + (uint64_t)j;
        check(pthread_create(&threads[j], NULL, call_at_once, &seeds[j]) == 0, "no thread", "at once", j);
    }
    for (int j = 0; j < CALLERS; j++) {
        pthread_join(threads[j], NULL);
    }
    for (int j = 0; j < 8; j++) {
        const struct pace_slot *const one = &pace.slots[PACE_TRAINING][j];
        check(!atomic_load(&one->held), "a record is still held", "at once", j);
        check(one->soon.best >= 0 && one->soon.best < PACE_CUTS && one->soon.probed < PACE_CUTS, "no cut", "at once",
              one->soon.best);
    }
}

/* ---- long calls ---- */

/* A machine for long calls: the times in ms of one thread, of several threads, and of several threads in pieces, and
 * the slowest thread's time over the mean with equal shares. */
struct long_machine {
    double one, equal, pieces, uneven;
};

static enum fastrnn_cut long_call(struct run *const run, const struct long_machine *const m, const bool has_pieces) {
    struct pace_long *const l = &pace.longs[PACE_INFERENCE];
    const enum fastrnn_cut cut = pace_long_cut(l, FASTRNN_CUT_BY_SEQUENCES, has_pieces, run->now);
    const bool in_pieces = cut == FASTRNN_CUT_BY_PIECES;
    const double wall = 1e6 * (cut == FASTRNN_CUT_ONE_THREAD ? m->one : in_pieces ? m->pieces : m->equal);
    run->now += (int64_t)wall;
    if (cut != FASTRNN_CUT_ONE_THREAD) {
        const struct pace_times times = {(int64_t)wall, (int64_t)(m->one * 1e6), (int64_t)wall,
                                         (int64_t)(in_pieces ? wall : wall / m->uneven)};
        pace_judge(l, cut, has_pieces, &times, run->now);
    }
    return cut;
}

/* Of calls that lose as long as a neighbour is there, few use several threads; afterwards nearly all do, soon. */
static void long_calls_follow_a_neighbour(const double one, const double lost, const double won,
                                          const bool has_pieces) {
    begin_anew();
    struct run run = {.now = 1000000000};
    double losses = 0;
    const int64_t begin_crowded = run.now;
    while (run.now - begin_crowded < 20000000000) {
        losses += long_call(&run, &(struct long_machine){one, lost, lost, 1}, has_pieces) != FASTRNN_CUT_ONE_THREAD
                      ? lost - one
                      : 0;
    }
    check(losses < 0.05 * 1e-6 * (double)(run.now - begin_crowded) + 4 * lost, "loses too much", "long calls", losses);
    const int64_t begin_quiet = run.now;
    while (long_call(&run, &(struct long_machine){one, won, won, 1}, has_pieces) == FASTRNN_CUT_ONE_THREAD) {
    }
    check(run.now - begin_quiet < 1500000000, "returns late", "long calls", 1e-9 * (double)(run.now - begin_quiet));
}

/* A few lost calls at the beginning of every burst cost a small part of the burst, in later bursts as well. */
static void long_calls_recover_in_every_burst(const bool has_pieces) {
    begin_anew();
    struct run run = {.now = 1000000000};
    for (int burst = 0; burst < 20; burst++) {
        int calls = 0, alone = 0;
        for (int n = 0; n < 3; n++) {
            long_call(&run, &(struct long_machine){10, 18, 18, 1}, has_pieces);
        }
        for (const int64_t end = run.now + 1000000000; run.now < end; calls++) {
            alone += long_call(&run, &(struct long_machine){10, 5.5, 6, 1}, has_pieces) == FASTRNN_CUT_ONE_THREAD;
        }
        check(alone < 0.5 * calls, "stays on one thread for a burst", "long calls", (double)alone / calls);
        run.now += 3000000000;
    }
}

/* Unequal threads lead to pieces, not to one thread, even if equal shares lose; equal threads lead back. */
static void unequal_threads_take_pieces(const double equal, const double uneven) {
    begin_anew();
    struct run run = {.now = 1000000000};
    int pieces = 0;
    for (int n = 0; n < 1000; n++) {
        pieces += long_call(&run, &(struct long_machine){20, equal, 15, uneven}, true) == FASTRNN_CUT_BY_PIECES;
    }
    check(pieces > 950, "uses equal shares", "unequal threads", pieces);
    pieces = 0;
    for (int n = 0; n < 1000; n++) {
        pieces += long_call(&run, &(struct long_machine){20, 10.5, 11, 1.05}, true) == FASTRNN_CUT_BY_PIECES;
    }
    check(pieces < 200, "still takes pieces", "equal threads", pieces);
}

int main(void) {
    finds_the_fastest_cut(7e3, 9e3, 12e3);
    finds_the_fastest_cut(9e3, 6e3, 7e3);
    finds_the_fastest_cut(1e5, 2e5, 5e4);
    finds_the_fastest_cut(3e6, 1.6e6, 1.9e6);
    leaves_cuts_that_are_not_allowed();
    a_neighbour_comes_and_goes(1.7e5, 1e5, 20);
    a_neighbour_comes_and_goes(1.7e6, 0.9e6, 2);
    a_neighbour_comes_and_goes(1.7e6, 0.9e6, 20);
    a_neighbour_comes_and_goes(2e4, 1.2e4, 200);
    a_neighbour_comes_and_goes(2e4, 1.2e4, 500);
    hiccups_are_forgiven();
    follows_the_barrier();
    wakes_the_threads_for_many_calls();
    recovers_although_the_threads_sleep(1.2e4, 0.8e4, 6e4);
    recovers_although_the_threads_sleep(6e3, 4e3, 6e4);
    recovers_although_the_threads_sleep(1e5, 6e4, 1e5);
    recovers_from_a_bad_start(1.2e4, 0.8e4);
    recovers_from_a_bad_start(3e5, 1.6e5);
    recovers_from_a_bad_start(3e6, 1.6e6);
    recovers_in_every_burst();
    lets_the_threads_sleep_for_single_calls();
    survives_a_clock_that_is_set_back();
    does_not_wait_for_a_record_that_is_held();
    forgets_that_it_was_stopped();
    abandons_a_probe();
    keys_differ();
    a_record_has_one_kind_of_call();
    warns_other_records();
    serves_concurrent_calls();
    a_bad_cut_does_not_discredit_the_guess(1.2e6, 0.9e6, 2.5e6);
    a_bad_cut_does_not_discredit_the_guess(1e6, 0.6e6, 2.2e6);
    a_bad_cut_does_not_discredit_the_guess(0.9e6, 0.5e6, 1.95e6);
    for (int has_pieces = 0; has_pieces < 2; has_pieces++) {
        long_calls_follow_a_neighbour(10, 18, 5.5, has_pieces);
        long_calls_follow_a_neighbour(100, 140, 55, has_pieces);
        long_calls_recover_in_every_burst(has_pieces);
    }
    unequal_threads_take_pieces(20, 1.3);
    unequal_threads_take_pieces(27, 1);
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
