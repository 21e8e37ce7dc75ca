/* Files mapped to be read. Whoever cuts one off meanwhile, or a disk that fails, ends the process
 * by a signal at the first byte that cannot be had; what has happened is said in a sentence. */
#include "io.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Mapping {
    struct Mapping *next;
    char *start;
    int64_t bytes;
    char path[]; /* a copy, which stays where it is */
} Mapping;

/* Of the process, as its signals are: a handler can reach nothing else. */
static Mapping *volatile mappings; /* the newest first */
static struct sigaction before;
static atomic_flag told = ATOMIC_FLAG_INIT;

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(EXIT_FAILED);
}

/* Calls nothing that a handler may not. */
static void on_bus_error(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *at = info->si_addr;
    const Mapping *m = mappings;
    while (m && (at < m->start || at >= m->start + m->bytes)) m = m->next;
    if (!m) { /* the access is tried again, as if nobody had handled it */
        sigaction(number, &before, NULL);
        return;
    }
    while (atomic_flag_test_and_set(&told)) pause(); /* another thread is about to end all */
    if (isatty(STDERR_FILENO)) say("\n"); /* the progress line may stand there */
    say("puck: the file was cut off while it was in use, or its disk has failed (");
    say(m->path);
    say("). Restore it, and start again.\n");
    _exit(EXIT_FAILED);
}

void *file_map(int fd, int64_t bytes, const char *path, Error *e) {
    Mapping *m = malloc(sizeof *m + strlen(path) + 1);
    CHECK(m, "no memory to map a file");
    void *start = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (start == MAP_FAILED) {
        free(m);
        file_failed(path, "cannot map the file", e);
        return NULL;
    }
    if (!mappings) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO}, old;
        sigfillset(&action.sa_mask);
        if (sigaction(SIGBUS, &action, &old) == 0 && old.sa_sigaction != on_bus_error) before = old;
    }
    *m = (Mapping){.next = mappings, .start = start, .bytes = bytes};
    strcpy(m->path, path);
    mappings = m;
    return start;
}

void file_unmap(void *start) {
    Mapping *m = mappings, *newer = NULL;
    while (m->start != start) newer = m, m = m->next;
    if (newer)
        newer->next = m->next;
    else
        mappings = m->next;
    munmap(start, (size_t)m->bytes);
    free(m);
}
