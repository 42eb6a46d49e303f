/* Two ways to find out that this process is a child of fork(). If fastrnn was there before, a handler notes it. If it
 * was not, as where a worker process is the first to import it, another user of the same OpenMP may have started
 * threads in the parent: Linux knows which processes have not called exec since they were forked, and the loader which
 * library came first. (LLVM's OpenMP starts afresh in a child by itself.) */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* dl_iterate_phdr */
#endif
#include "fork.h"

#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

static bool child;

static void note_fork(void) { child = true; }

#if defined(__linux__)
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The flags of /proc/self/stat, the seventh number after the name in parentheses. */
static bool has_not_called_exec(void) {
    enum { PF_FORKNOEXEC = 0x40 };
    char text[1024];
    unsigned long flags = 0;
    FILE *const file = fopen("/proc/self/stat", "re");
    if (!file) {
        return false;
    }
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *const name_end = strrchr(text, ')');
    return name_end && sscanf(name_end + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 && (flags & PF_FORKNOEXEC);
}

enum library { NEITHER, THIS_LIBRARY, GNU_OPENMP };

static enum library library_of(const struct dl_phdr_info *const info) {
    const char *const slash = strrchr(info->dlpi_name, '/');
    if (strncmp(slash ? slash + 1 : info->dlpi_name, "libgomp", strlen("libgomp")) == 0) {
        return GNU_OPENMP;
    }
    for (int j = 0; j < info->dlpi_phnum; j++) {
        const uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[j].p_vaddr;
        if (info->dlpi_phdr[j].p_type == PT_LOAD && (uintptr_t)&child - begin < info->dlpi_phdr[j].p_memsz) {
            return THIS_LIBRARY;
        }
    }
    return NEITHER;
}

/* Libraries come in the order in which they were loaded, one that is needed after the one that needs it. */
static int take_first(struct dl_phdr_info *const info, const size_t size, void *const first) {
    (void)size;
    return (*(enum library *)first = library_of(info)) != NEITHER;
}

static bool openmp_was_here_before(void) {
    enum library first = NEITHER;
    dl_iterate_phdr(take_first, &first);
    return first == GNU_OPENMP;
}
#else
static bool has_not_called_exec(void) { return false; }
static bool openmp_was_here_before(void) { return false; }
#endif

__attribute__((constructor)) static void watch_fork(void) {
    pthread_atfork(NULL, NULL, note_fork);
    child = openmp_was_here_before() && has_not_called_exec();
}

bool fork_is_child(void) { return child; }
#else
bool fork_is_child(void) { return false; }
#endif
