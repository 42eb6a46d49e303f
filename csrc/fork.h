/* Whether OpenMP's threads can be used in this process: GNU OpenMP's pool does not survive fork(), and a parallel
 * region in the child would wait for threads that are gone. */
#ifndef FASTRNN_FORK_H
#define FASTRNN_FORK_H

#include <stdbool.h>

/* This process is a fork, without exec, of one that had loaded fastrnn, or of one that had loaded GNU OpenMP before
 * this process loaded fastrnn. */
bool fork_is_child(void);

#endif
