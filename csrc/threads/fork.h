/* Detects a forked process, where OpenMP's threads cannot be used: GNU OpenMP's pool does not survive fork(), and a
 * parallel region in the child would wait forever for threads of the parent. */
#ifndef FASTRNN_FORK_H
#define FASTRNN_FORK_H

#include <stdbool.h>

/* True in a process that was forked without exec, if its parent had loaded fastrnn, or had loaded GNU OpenMP and the
 * child then loaded fastrnn. */
bool fork_is_child(void);

#endif
