/* Drives csrc/trials.h by a clock of its own: what calls take, is said here. Prints what fails, and ends with 1. */
#include <stdio.h>
#include <stdlib.h>

#include "trials.h"

static struct trial_slot slots[TRIAL_SLOTS];
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
};

struct run {
    int64_t now;
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
        const struct trial_call call = trial_begin(slots, 7, 100, ways, guess, run->now);
        double wall = machine->ns[call.way] * (1 + machine->noise * draw(run));
        if (call.way != TRIAL_ALONE && machine->slice_every && draw(run) * machine->slice_every < 1) {
            wall += machine->slice_ns;
            run->slices++;
        }
        if (machine->hiccup_every && draw(run) * machine->hiccup_every < 1) {
            wall += 3e6;
        }
        run->now += (int64_t)wall;
        trial_end(&call, run->now);
        run->in_way[call.way]++;
        run->calls++;
        run->spent += wall;
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
        slots[7].kind = 0;
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
    slots[7].kind = 0;
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
    slots[7].kind = 0;
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
    slots[7].kind = 0;
    call_for(&run, &machine, 20, TRIAL_USUAL, ALL_WAYS);
    check(run.in_way[TRIAL_ALONE] < 0.1 * run.calls, "gives the team up", "hiccups",
          (double)run.in_way[TRIAL_ALONE] / run.calls);
}

/* A barrier becomes slow and quick again: the best way changes, and is found. */
static void follows_the_barrier(void) {
    struct run run = {.random = 13};
    const struct machine quick = {.ns = {8e5, 5e5, 5.5e5}, .noise = 0.05},
                         slow = {.ns = {8e5, 12e5, 13e5}, .noise = 0.05};
    slots[7].kind = 0;
    for (int turn = 0; turn < 4; turn++) {
        const struct machine *const machine = turn % 2 ? &slow : &quick;
        const enum trial_way best = turn % 2 ? TRIAL_ALONE : TRIAL_USUAL;
        call_for(&run, machine, turn % 2 ? 0.05 : 3, TRIAL_USUAL, ALL_WAYS);
        call_for(&run, machine, 1, TRIAL_USUAL, ALL_WAYS);
        check(run.in_way[best] > 0.9 * run.calls, "does not follow", turn % 2 ? "slow barrier" : "quick barrier",
              (double)run.in_way[best] / run.calls);
    }
}

/* A clock that is set back by an hour stops no trial, and neither does a slot that another caller holds. */
static void survives_a_clock_that_is_set_back(void) {
    struct run run = {.random = 17, .now = 3600LL * 1000000000};
    slots[7].kind = 0;
    call_for(&run, &(struct machine){.ns = {1e5, 3e5, 3e5}}, 1, TRIAL_ALONE, ALL_WAYS);
    run.now = 1000;
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 4, TRIAL_ALONE, ALL_WAYS);
    call_for(&run, &(struct machine){.ns = {1e5, 5e4, 3e5}}, 1, TRIAL_ALONE, ALL_WAYS);
    check(run.in_way[TRIAL_USUAL] > 0.9 * run.calls, "does not try again", "clock", run.in_way[TRIAL_USUAL]);
    atomic_store(&slots[7].held, true);
    const struct trial_call call = trial_begin(slots, 7, 1, ALL_WAYS, TRIAL_OTHER, run.now);
    check(!call.slot && call.way == TRIAL_OTHER, "does not take the guess", "held", call.way);
    atomic_store(&slots[7].held, false);
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
    survives_a_clock_that_is_set_back();
    printf("%d failures\n", failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
