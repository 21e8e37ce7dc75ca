/* Folders and files that do not outlive the process. */
#include "temporary.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUARDS = 4 };
static const char *volatile guarded[GUARDS]; /* a handler can reach nothing else */

/* Calls nothing that a handler may not. */
static void folder_delete(const char *folder) {
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _Alignas(struct dirent64) char entries[4096];
    for (ssize_t n; (n = getdents64(fd, entries, sizeof entries)) > 0;)
        for (ssize_t i = 0; i < n;) {
            const struct dirent64 *entry = (const struct dirent64 *)(entries + i);
            unlinkat(fd, entry->d_name, 0); /* fails on "." and ".." */
            i += entry->d_reclen;
        }
    if (fd >= 0) close(fd);
    rmdir(folder);
}

/* The main thread does it, for while it is here it writes nothing more into these folders. */
static void on_end(int number) {
    if (gettid() != getpid()) {
        tgkill(getpid(), getpid(), number);
        return;
    }
    for (int i = 0; i < GUARDS; i++)
        if (guarded[i] && unlink(guarded[i]) != 0) folder_delete(guarded[i]);
    signal(number, SIG_DFL);
    raise(number); /* arrives when this returns */
}

/* Takes signals that would end the process, but none that somebody handles or ignores. */
static void catch_ends(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGPIPE, SIGXCPU};
    struct sigaction before, action = {.sa_handler = on_end, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < COUNT_OF(ends); i++)
        if (sigaction(ends[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(ends[i], &action, NULL);
}

static const char *volatile *slot_of(const char *path) {
    for (int i = 0; i < GUARDS; i++)
        if (guarded[i] == path) return &guarded[i];
    return NULL;
}

void temporary_guard(const char *path) {
    const char *volatile *slot = slot_of(NULL);
    CHECK(slot, "there are %d temporary files and folders already", GUARDS);
    catch_ends();
    *slot = path;
}

void temporary_release(const char *path) {
    const char *volatile *slot = slot_of(path);
    if (slot) *slot = NULL;
}

bool temporary_make(char folder[1024], Error *e) {
    const char *parent = getenv("TMPDIR");
    snprintf(folder, 1024, "%s/puck-XXXXXX", parent && *parent ? parent : "/tmp");
    temporary_guard(folder);
    if (mkdtemp(folder)) return true;
    error_set(e, folder, "Set TMPDIR to a folder with room",
              "there is no folder for temporary files: %s", strerror(errno));
    temporary_release(folder);
    folder[0] = 0;
    return false;
}

void temporary_remove(const char *folder) {
    if (folder[0]) folder_delete(folder);
    temporary_release(folder);
}
