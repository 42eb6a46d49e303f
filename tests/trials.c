/* Drives csrc/trials.h by a clock of its own: what calls take, is said here. Prints what fails, and ends with 1. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trials.h"

static struct trials trials;

enum { KIND = 7 };

/* Forgets what was found. */
static void begin_anew(void) { memset(&trials, 0, sizeof trials); }
static int failures;

static void check(const bool holds, const char *const what, const char *const scenario, const double figure) {
    if (!holds) {
        printf("%s: %s (%g)\n", scenario, what, figure);
        failures++;
    }
}

/* A machine: what a call takes in each way, in ns, and how often a team loses a slice of the scheduler (0: never). */
struct machine {
    double ns[TRIAL_WAYS];
    int slice_every;
    double slice_ns;
    double noise;     /* of each call, a share */
    int hiccup_every; /* of calls of any way */
    double wake_ns;   /* for a team whose threads sleep */
    double rest_ns;   /* between two calls */
};

struct run {
    int64_t now, team_end;
    uint64_t random;
    int calls, in_way[TRIAL_WAYS], slices;
    double spent;
};

static double draw(struct run *const run) {
    run->random = run->random * 6364136223846793005U + 1442695040888963407U;
    return (double)(run->random >> 40) / (double)(1 << 24);
}

static void call_for(struct run *const run, const struct machine *const machine, const double seconds,
                     const enum trial_way guess, const unsigned ways) {
    const int64_t end = run->now + (int64_t)(seconds * 1e9);
    run->calls = run->slices = 0;
    run->spent = 0;
    for (int way = 0; way < TRIAL_WAYS; way++) {
        run->in_way[way] = 0;
    }
    while (run->now < end) {
        const struct trial_call call = trial_begin(&trials, KIND, 100, ways, guess, run->now);
        double wall = machine->ns[call.way] * (1 + machine->noise * draw(run));
        if (call.way != TRIAL_ALONE && machine->slice_every && draw(run) * machine->slice_every < 1) {
            wall += machine->slice_ns;
            run->slices++;
        }
        if (machine->hiccup_every && draw(run) * machine->hiccup_every < 1) {
            wall += 3e6;
        }
        if (call.way != TRIAL_ALONE && run->now - run->team_end > 3000000) {
            wall += machine->wake_ns;
        }
        run->now += (int64_t)wall;
        run->team_end = call.way != TRIAL_ALONE ? run->now : run->team_end;
        trial_end(&trials, &call, run->now);
        run->in_way[call.way]++;
        run->calls++;
        run->spent += wall;
        run->now += (int64_t)machine->rest_ns;
    }
}

enum { TWO_WAYS = 1 << TRIAL_ALONE | 1 << TRIAL_USUAL, ALL_WAYS = TWO_WAYS | 1 << TRIAL_OTHER };

/* Whatever the guess, nearly all calls go the fastest way, and all together take at most two percent longer. */
static void finds_the_fastest_way(const double alone, const double usual, const double other) {
    for (int guess = 0; guess < TRIAL_WAYS; guess++) {
        struct run run = {.random = 3};
        const struct machine machine = {.ns = {alone, usual, other}, .noise = 0.03};
        double least = alone < usual ? alone : usual;
        least = least < other ? least : other;
        begin_anew();
        call_for(&run, &machine, 200 * least * 1e-9, (enum trial_way)guess, ALL_WAYS);
        for (int turn = 0; turn < 20; turn++) {
            call_for(&run, &machine, 200 * least * 1e-9, (enum trial_way)guess, ALL_WAYS);
            const double over = run.spent / run.calls / (least * 1.015);
            check(over < 1.05, "takes too long, soon after the first call", "quiet", over);
        }
        call_for(&run, &machine, 2, (enum trial_way)guess, ALL_WAYS);
        const double over = run.spent / run.calls / (least * 1.015);
        check(over < 1.02, "takes too long over the fastest way", "quiet", over);
    }
}

static void leaves_ways_that_are_not_open(void) {
    struct run run = {.random = 5};
    begin_anew();
    call_for(&run, &(struct machine){.ns = {2e5, 1e5, 1e4}}, 1, TRIAL_ALONE, TWO_WAYS);
    check(run.in_way[TRIAL_OTHER] == 0, "took a way that is not open", "two ways", run.in_way[TRIAL_OTHER]);
    check(run.in_way[TRIAL_USUAL] > 0.9 * run.calls, "did not find the team", "two ways", run.in_way[TRIAL_USUAL]);
}

static void a_neighbour_comes_and_goes(const double alone, const double team, const int slice_every) {
    struct run run = {.random = 7};
    const struct machine quiet = {.ns = {alone, team, team}, .noise = 0.03};
    struct machine crowded = quiet;
    crowded.slice_every = slice_every;
    crowded.slice_ns = 8e6;
    begin_anew();
    call_for(&run, &quiet, 2, TRIAL_USUAL, ALL_WAYS);
    call_for(&run, &crowded, 2, TRIAL_USUAL, ALL_WAYS); /* learns */
    call_for(&run, &crowded, 10, TRIAL_USUAL, ALL_WAYS);
    const double lost = (double)run.slices / run.calls;
    check(lost < 0.01, "of a hundred calls, one loses a slice", "neighbour", lost);
    check(run.spent / run.calls < 1.05 * alone, "takes longer than one thread", "neighbour",
          run.spent / run.calls / alone);
    call_for(&run, &quiet, 5, TRIAL_USUAL, ALL_WAYS);
    call_for(&run, &quiet, 1, TRIAL_USUAL, ALL_WAYS);
    check(run.in_way[TRIAL_ALONE] < 0.05 * run.calls, "does not come back to the team", "neighbour has gone",
          run.in_way[TRIAL_ALONE]);
}

/* Once in a thousand calls, something takes 3 ms: no reason to give a team up. */
static void hiccups_are_forgiven(void) {
    struct run run = {.random = 11};
    const struct machine machine = {.ns = {2e5, 1.2e5, 1.3e5}, .noise = 0.1, .hiccup_every = 1000};
    begin_anew();
    call_for(&run, &machine, 20, TRIAL_USUAL, ALL_WAYS);
    check(run.in_way[TRIAL_ALONE] < 0.1 * run.calls, "gives the team up", "hiccups",
          (double)run.in_way[TRIAL_ALONE] / run.calls);
}

static void a_bad_other_way_does_not_discredit_the_usual(const double alone, const double usual, const double other) {
    begin_anew();
    struct run run = {.random = 31};
    const struct machine machine = {.ns = {alone, usual, other}, .noise = 0.03};
    call_for(&run, &machine, 5, TRIAL_USUAL, ALL_WAYS);
    call_for(&run, &machine, 10, TRIAL_USUAL, ALL_WAYS);
    check(run.in_way[TRIAL_USUAL] > 0.95 * run.calls, "leaves the usual cut", "a bad other cut",
          (double)run.in_way[TRIAL_USUAL] / run.calls);
}

/* A barrier becomes slow and quick again: the best way changes, and is found. */
static void follows_the_barrier(void) {
    struct run run = {.random = 13};
    const struct machine quick = {.ns = {8e5, 5e5, 5.5e5}, .noise = 0.05},
                         slow = {.ns = {8e5, 12e5, 13e5}, .noise = 0.05};
    begin_anew();
    for (int turn = 0; turn < 4; turn++) {
        const struct machine *const machine = turn % 2 ? &slow : &quick;
        const enum trial_way best = turn % 2 ? TRIAL_ALONE : TRIAL_USUAL;
        call_for(&run, machine, turn % 2 ? 0.05 : 3, TRIAL_USUAL, ALL_WAYS);
        call_for(&run, machine, 1, TRIAL_USUAL, ALL_WAYS);
        check(run.in_way[best] > 0.9 * run.calls, "does not follow", turn % 2 ? "slow barrier" : "quick barrier",
              (double)run.in_way[best] / run.calls);
    }
}

/* A team whose threads must first be woken up is as good as before for the calls that follow soon. */
static void wakes_the_team_up_for_many_calls(void) {
    begin_anew();
    struct run run = {.random = 37};
    const struct machine machine = {.ns = {6.7e3, 5.7e3, 7e3}, .noise = 0.03, .wake_ns = 6e4, .hiccup_every = 20000};
    double team = 0, calls = 0;
    for (int turn = 0; turn < 20; turn++) {
        call_for(&run, &machine, 0.08, TRIAL_ALONE, ALL_WAYS);
        team += turn >= 4 ? run.in_way[TRIAL_USUAL] : 0;
        calls += turn >= 4 ? run.calls : 0;
        run.now += 1000000000;
    }
    check(team > 0.6 * calls, "does not take the team", "turns", team / calls);
}

/* Calls that come one by one take one thread, if the team would have to be woken up for each. */
static void lets_the_team_sleep_for_single_calls(void) {
    begin_anew();
    struct run run = {.random = 41};
    const struct machine machine = {.ns = {6e4, 4e4, 5e4}, .noise = 0.03, .wake_ns = 6e4, .rest_ns = 1e7};
    call_for(&run, &machine, 5, TRIAL_USUAL, ALL_WAYS);
    call_for(&run, &machine, 20, TRIAL_USUAL, ALL_WAYS);
    check(run.in_way[TRIAL_ALONE] > 0.95 * run.calls, "wakes the team up", "single calls",
          (double)run.in_way[TRIAL_ALONE] / run.calls);
}

/* A clock that is set back by an hour stops no trial. */
static void survives_a_clock_that_is_set_back(void) {
    struct run run = {.random = 17, .now = 3600LL * 1000000000};
    begin_anew();
    call_for(&run, &(struct machine){.ns = {1e5, 3e5, 3e5}}, 1, TRIAL_ALONE, ALL_WAYS);
    run.now = 1000;
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 4, TRIAL_ALONE, ALL_WAYS);
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 1, TRIAL_ALONE, ALL_WAYS);
    check(run.in_way[TRIAL_USUAL] > 0.9 * run.calls, "does not try again", "clock", run.in_way[TRIAL_USUAL]);
}

static void passes_by_a_slot_that_is_held(void) {
    begin_anew();
    struct run run = {.random = 19};
    call_for(&run, &(struct machine){.ns = {2e5, 1e5, 3e5}}, 1, TRIAL_ALONE, ALL_WAYS);
    struct trial_slot *const slot = trial_find(&trials, KIND);
    atomic_store(&slot->held, true);
    const struct trial_call call = trial_begin(&trials, KIND, 1, ALL_WAYS, TRIAL_OTHER, run.now);
    check(!call.slot && call.way == TRIAL_OTHER, "does not take the guess", "held", call.way);
}

/* A process, or its machine, that is stopped for ten minutes in a call does not make the next minutes slow. */
static void forgets_that_it_was_stopped(void) {
    const struct machine machine = {.ns = {2e5, 1.2e5, 1.3e5}, .noise = 0.1, .hiccup_every = 1000};
    for (int more = 1; more <= 30; more++) { /* calls before, so that some stops meet a trial */
        begin_anew();
        struct run run = {.random = 23};
        call_for(&run, &machine, 0.1 + 0.0003 * more, TRIAL_USUAL, ALL_WAYS);
        const struct trial_call call = trial_begin(&trials, KIND, 100, ALL_WAYS, TRIAL_USUAL, run.now);
        run.now += 600LL * 1000000000;
        trial_end(&trials, &call, run.now);
        call_for(&run, &machine, 20, TRIAL_USUAL, ALL_WAYS);
        call_for(&run, &machine, 10, TRIAL_USUAL, ALL_WAYS);
        check(run.in_way[TRIAL_ALONE] < 0.2 * run.calls, "still takes one thread", "stopped",
              (double)run.in_way[TRIAL_ALONE] / run.calls);
    }
}

/* A trial that is abandoned is over, and another one comes later. */
static void abandons_a_trial(void) {
    begin_anew();
    int64_t now = 1000;
    int tried = 0;
    for (int n = 0; n < 100000; n++) {
        const struct trial_call call = trial_begin(&trials, KIND, 100, TWO_WAYS, TRIAL_ALONE, now);
        now += 100000;
        if (call.way == TRIAL_USUAL) {
            tried++;
            trial_abandon(&call, now);
        } else {
            trial_end(&trials, &call, now);
        }
    }
    check(tried >= 2 && tried <= 50, "tries too rarely or too often", "abandoned", tried);
}

/* Many kinds in turn do not push each other out, and equal facts are equal kinds. */
static void keeps_many_kinds(void) {
    begin_anew();
    enum { KINDS = 40 };
    uint64_t kinds[KINDS];
    for (int64_t k = 0; k < KINDS; k++) {
        kinds[k] = trial_kind((int64_t[]){k / 8, k % 8}, 2);
        for (int64_t j = 0; j < k; j++) {
            check(kinds[j] != kinds[k], "two kinds are equal", "kinds", (double)k);
        }
    }
    check(trial_kind((int64_t[]){3, 5}, 2) == kinds[29] && trial_kind((int64_t[]){5, 3}, 2) != kinds[29],
          "a kind is not of its facts", "kinds", 0);
    int64_t now = 1000;
    int best = 0;
    for (int n = 0; n < 400; n++) {
        for (int k = 0; k < KINDS; k++) {
            const struct trial_call call = trial_begin(&trials, kinds[k], 100, TWO_WAYS, TRIAL_ALONE, now);
            now += call.way == TRIAL_USUAL ? 50000 : 100000;
            trial_end(&trials, &call, now);
            best += n >= 200 && call.way == TRIAL_USUAL;
        }
    }
    check(best > 0.9 * 200 * KINDS, "forgets", "kinds", best);
}

/* Once a team was given up, another kind begins with one thread, for a while. */
static void warns_other_kinds(void) {
    begin_anew();
    struct run run = {.random = 29, .now = 1000};
    const struct machine crowded = {.ns = {1.7e5, 1e5, 1e5}, .slice_every = 5, .slice_ns = 8e6};
    call_for(&run, &crowded, 0.3, TRIAL_USUAL, ALL_WAYS);
    const enum trial_way way = trial_begin(&trials, 99, 1, ALL_WAYS, TRIAL_USUAL, run.now).way;
    check(way == TRIAL_ALONE, "a new kind takes a team", "beside a neighbour", way);
    const enum trial_way later = trial_begin(&trials, 101, 1, ALL_WAYS, TRIAL_USUAL, run.now + 3000000000).way;
    check(later == TRIAL_USUAL, "a new kind takes one thread", "long after a neighbour", later);
}

/* What a caller's thread does: calls of eight kinds, in turn with the others. */
static void *call_at_once(void *const seed) {
    struct run run = {.random = *(const uint64_t *)seed, .now = 1000};
    for (int n = 0; n < 20000; n++) {
        const int64_t fact = n % 8;
        const uint64_t kind = trial_kind(&fact, 1);
        const struct trial_call call = trial_begin(&trials, kind, 100, ALL_WAYS, TRIAL_USUAL, run.now);
        run.now += (int64_t)(1e5 * (1 + (double)call.way + draw(&run)));
        if (call.slot && n % 100 == 0) {
            trial_abandon(&call, run.now);
        } else if (call.slot) {
            trial_end(&trials, &call, run.now);
        }
    }
    return NULL;
}

/* Callers at once harm no slot (the thread sanitizer looks on), and each is let go. */
static void serves_callers_at_once(void) {
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
    for (int64_t fact = 0; fact < 8; fact++) {
        const struct trial_slot *const slot = trial_find(&trials, trial_kind(&fact, 1));
        check(!atomic_load(&slot->held), "a slot is still held", "at once", (double)fact);
        check(slot->soon.best >= 0 && slot->soon.best < TRIAL_WAYS && slot->soon.trying < TRIAL_WAYS, "no way",
              "at once", slot->soon.best);
    }
}

int main(void) {
    finds_the_fastest_way(7e3, 9e3, 12e3);
    finds_the_fastest_way(9e3, 6e3, 7e3);
    finds_the_fastest_way(1e5, 2e5, 5e4);
    finds_the_fastest_way(3e6, 1.6e6, 1.9e6);
    leaves_ways_that_are_not_open();
    a_neighbour_comes_and_goes(1.7e5, 1e5, 20);
    a_neighbour_comes_and_goes(1.7e6, 0.9e6, 2);
    a_neighbour_comes_and_goes(1.7e6, 0.9e6, 20);
    a_neighbour_comes_and_goes(2e4, 1.2e4, 200);
    a_neighbour_comes_and_goes(2e4, 1.2e4, 500);
    hiccups_are_forgiven();
    follows_the_barrier();
    wakes_the_team_up_for_many_calls();
    lets_the_team_sleep_for_single_calls();
    survives_a_clock_that_is_set_back();
    passes_by_a_slot_that_is_held();
    forgets_that_it_was_stopped();
    abandons_a_trial();
    keeps_many_kinds();
    warns_other_kinds();
    serves_callers_at_once();
    a_bad_other_way_does_not_discredit_the_usual(1.2e6, 0.9e6, 2.5e6);
    a_bad_other_way_does_not_discredit_the_usual(1e6, 0.6e6, 2.2e6);
    a_bad_other_way_does_not_discredit_the_usual(0.9e6, 0.5e6, 1.95e6);
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
