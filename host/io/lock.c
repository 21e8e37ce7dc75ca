/* One writer a run. The lock ends with its holder, so a file left behind locks nothing. */
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

bool run_lock(const char *run, int *lock, Error *e) {
    char path[IO_PATH_MAX], pid[32] = "";
    if (!path_make_folder(run, e) || !path_join(path, run, "lock", e)) return false;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(e, path, "Choose a run folder that you may write to",
                         "cannot write to the run folder: %s", strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int reason = errno;
        if (read(fd, pid, sizeof pid - 1) > 0) pid[strcspn(pid, "\n")] = 0;
        close(fd);
        if (reason != EWOULDBLOCK)
            return error_set(e, path, NULL, "cannot lock the run folder: %s", strerror(reason));
        return error_set(e, run, "Wait until it ends, stop it, or choose another --run",
                         "process %s is already writing to this run", pid);
    }
    const int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    bool good = ftruncate(fd, 0) == 0;
    if (!good) file_failed(path, "cannot write to the run folder", e);
    good = good && fd_write_all(fd, pid, n, path, e) && checkpoint_remove_leftovers(run, e);
    if (!good) {
        close(fd);
        return false;
    }
    *lock = fd;
    return true;
}

void run_unlock(int lock) { close(lock); }
