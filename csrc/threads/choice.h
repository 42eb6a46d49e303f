/* Chooses the cut and the number of threads of a call, from the cost model (cut.h) and what the call's pace has
 * recorded. */
#ifndef FASTRNN_CHOICE_H
#define FASTRNN_CHOICE_H

#include "cut.h"
#include "long_calls.h"
#include "run.h"

struct choice {
    enum fastrnn_cut cut; /* ONE_THREAD, BY_SEQUENCES, BY_UNITS or BY_PIECES */
    int threads;
    struct pace *pace;        /* may be null */
    struct pace_call timed;   /* slot null: the call leaves no record of a short call */
    struct pace_long *judged; /* null: the call leaves no record of a long call */
    bool has_pieces;          /* a long call could take pieces */
};

/* The call is not empty. */
struct choice choice_of_call(const struct run *run);
struct choice choice_of_packing(const struct run *run);
struct choice choice_of_comparison(size_t bytes, int threads, struct fastrnn_pace *pace);

/* The threads of an element-wise call that reads and writes so many bytes. It leaves no record. */
int choice_of_elements(enum fastrnn_cut cut, double bytes, int threads);

/* Call one of these after a call: choice_end if it ran to its end, choice_abandon if its time is meaningless. */
void choice_end(const struct choice *choice);
void choice_abandon(const struct choice *choice);

#endif
