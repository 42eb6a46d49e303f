#include "room.h"

#if !defined(_OPENMP) || defined(_WIN32)
bool room_for_threads(const int threads) {
    (void)threads;
    return true;
}
#else
#include <pthread.h>

#include "team.h"

/* Lives until the lock is free. */
static void *wait_for_lock(void *const lock) {
    pthread_mutex_lock(lock);
    pthread_mutex_unlock(lock);
    return NULL;
}

/* Starts so many threads at the same time, as OpenMP would. */
static bool can_start(const int count) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t started[TEAM_THREADS_MAX];
    int n = 0;
    pthread_mutex_lock(&lock);
    while (n < count && pthread_create(&started[n], NULL, wait_for_lock, &lock) == 0) {
        n++;
    }
    pthread_mutex_unlock(&lock);
    for (int j = 0; j < n; j++) {
        pthread_join(started[j], NULL);
    }
    return n == count;
}

bool room_for_threads(const int threads) {
    /* OpenMP keeps the threads of the last region that this thread began, and starts what the next one needs more. */
    static _Thread_local int kept;
    if (threads > kept && !can_start(threads - 1)) {
        return false;
    }
    kept = threads;
    return true;
}
#endif
