/* Any bytes as a token shard, and as meta.json: refused with a place, or tokens within the
 * vocabulary. */
#include "loader.h"
#include "memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64], shard[128], meta_path[128];

static void remove_folder(void) {
    unlink(shard);
    unlink(meta_path);
    rmdir(folder);
}

/* The shard is a file in memory; meta.json is the same one, but only while it is tested. */
static int make_folder(void) {
    char target[64];
    const int fd = memory_folder(folder, target);
    atexit(remove_folder);
    snprintf(shard, sizeof shard, "%s/train_000000.bin", folder);
    snprintf(meta_path, sizeof meta_path, "%s/meta.json", folder);
    if (symlink(target, shard) != 0) abort();
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd;
    if (!folder[0]) fd = make_folder();
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    Error e = {0};
    Tokens t;
    if (tokens_open(&t, folder, "train", 1000, &e)) {
        for (int64_t i = 0; i < t.n_tokens; i++) {
            int32_t id;
            tokens_read(&t, i, 1, &id);
            CHECK(id >= 0 && id < 1000, "token %d", (int)id);
        }
        tokens_close(&t);
    } else {
        CHECK(e.text[0] && e.place[0], "\"%s\" (%s)", e.text, e.place);
    }
    char target[64];
    DataMeta meta;
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    if (symlink(target, meta_path) != 0) abort();
    if (data_meta_read(folder, &meta, &e))
        CHECK(meta.n_train >= 0 && meta.n_val >= 0, "negative counts");
    else
        CHECK(e.text[0] && e.place[0], "\"%s\" (%s)", e.text, e.place);
    unlink(meta_path);
    return 0;
}
