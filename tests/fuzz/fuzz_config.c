/* Any text as the JSON files of a checkpoint: config.json, state.json, MANIFEST.json. */
#include "checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const names[] = {"config.json", "state.json", "MANIFEST.json"};
static char folder[64];

static void name_path(char path[128], int64_t i) { snprintf(path, 128, "%s/%s", folder, names[i]); }

static void remove_folder(void) {
    char path[128];
    for (int64_t i = 0; i < COUNT_OF(names); i++) {
        name_path(path, i);
        unlink(path);
    }
    rmdir(folder);
}

/* A folder whose files are all the same file in memory. */
static int make_folder(void) {
    char target[64], path[128];
    const int fd = memfd_create("fuzz", 0);
    snprintf(folder, sizeof folder, "/tmp/puck-fuzz-XXXXXX");
    if (fd < 0 || !mkdtemp(folder)) abort();
    atexit(remove_folder);
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    for (int64_t i = 0; i < COUNT_OF(names); i++) {
        name_path(path, i);
        if (symlink(target, path) != 0) abort();
    }
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    if (!folder[0]) fd = make_folder();
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n) abort();
    Error e = {0};
    ModelConfig c;
    TrainState s;
    if (checkpoint_read_config(folder, &c, &e))
        CHECK(c.layers > 0 && c.heads > 0 && c.channels % c.heads == 0 && c.context > 0 &&
                  c.vocab > 0 && c.hidden > 0 && c.dropout >= 0 && c.dropout < 1,
              "a model that cannot be built");
    if (checkpoint_read_state(folder, &s, &e)) CHECK(s.step >= 0, "step %ld", (long)s.step);
    checkpoint_verify(folder, &e);
    return 0;
}
