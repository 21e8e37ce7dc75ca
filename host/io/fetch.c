/* What has a name and is fetched: data/fetch.sh knows from where, and keeps it. */
#include "io.h"
#include "plugin.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The script beside a built puck, one folder above it, or where `make install` puts it. */
static bool find_script(char path[IO_PATH_MAX]) {
    static const char *const places[] = {"data/fetch.sh", "../data/fetch.sh",
                                         "../share/puck/data/fetch.sh"};
    for (int i = 0; i < COUNT_OF(places); i++)
        if (plugin_beside(path, IO_PATH_MAX, places[i])) return true;
    return false;
}

/* Runs `bash script what` without input; its output, a line, into `line`. */
static bool run_script(const char *script, const char *what, char line[IO_PATH_MAX]) {
    extern char **environ;
    const char *const argv[] = {"bash", script, what, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], status = 1;
    pid_t child;
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const bool started =
        posix_spawnp(&child, "bash", &actions, NULL, (char *const *)argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t n = 0;
    for (ssize_t got; n < IO_PATH_MAX - 1; n += (size_t)(got > 0 ? got : 0)) {
        got = read(ends[0], line + n, IO_PATH_MAX - 1 - n);
        if (got == 0 || (got < 0 && errno != EINTR)) break;
    }
    close(ends[0]);
    while (started && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    line[n] = 0;
    line[strcspn(line, "\n")] = 0;
    return started && WIFEXITED(status) && WEXITSTATUS(status) == 0 && line[0];
}

bool fetch_gpt2(char path[IO_PATH_MAX], Error *e) {
    char script[IO_PATH_MAX];
    return (find_script(script) && run_script(script, "--gpt2", path)) ||
           error_set(e, "gpt2",
                     "Give the path of its vocab.bpe or merges.txt instead, or run "
                     "`data/fetch.sh --gpt2 COPY` with a copy of it",
                     "GPT-2's vocabulary is not here and could not be fetched");
}
