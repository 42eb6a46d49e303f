/* Checks that OpenMP can start the threads of a call. GNU OpenMP ends the process if it cannot start a thread, as under
 * limits on memory or on the number of threads. */
#ifndef FASTRNN_ROOM_H
#define FASTRNN_ROOM_H

#include <stdbool.h>

/* Call it before each parallel region; threads is at most TEAM_THREADS_MAX. */
bool room_for_threads(int threads);

#endif
