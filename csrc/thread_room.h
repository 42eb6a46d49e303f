/* Whether OpenMP can have the threads that a call would take. GNU OpenMP ends the process if it cannot start one, which
 * limits on memory and on the number of threads bring about. */
#ifndef FASTRNN_THREAD_ROOM_H
#define FASTRNN_THREAD_ROOM_H

#include <stdbool.h>

/* Asked before each parallel region of `threads`, at most TEAM_THREADS_MAX. */
bool thread_room_for(int threads);

#endif
