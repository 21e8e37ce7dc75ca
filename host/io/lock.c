/* One writer a run. The lock ends with its holder, so a file left behind locks nothing. */
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static bool holds(const char *folder, const char *name) {
    char path[IO_PATH_MAX];
    Error ignored;
    return path_join(path, folder, name, &ignored) && access(path, F_OK) == 0;
}

/* A folder that was never a run's must not hold what a run would write over, nor be a
 * checkpoint. */
static bool check_foreign(const char *run, Error *e) {
    static const char *const names[] = {"MANIFEST.json", "config.json", "model.safetensors",
                                        "metrics.jsonl", "samples.txt", "pairs.tsv"};
    const char *found = NULL;
    char path[IO_PATH_MAX];
    Settings s;
    if (holds(run, "lock") || holds(run, "ckpt")) return true;
    for (int i = 0; i < COUNT_OF(names) && !found; i++)
        if (holds(run, names[i])) found = names[i];
    options_defaults(&s); /* a config of puck's may have been put there for --config */
    if (!found && holds(run, "config.toml") && path_join(path, run, "config.toml", e) &&
        !options_read_file(&s, path, e))
        found = "config.toml";
    return !found || error_set(e, run, "Choose a folder of its own for --run",
                               "the folder is no run's, and holds a %s", found);
}

bool run_lock(const char *run, int *lock, Error *e) {
    char path[IO_PATH_MAX], pid[32] = "";
    if (!check_foreign(run, e) || !path_make_folder(run, e) || !path_join(path, run, "lock", e))
        return false;
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
