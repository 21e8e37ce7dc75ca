/* Writes a data folder whole or not at all. */
#include "examples.h"
#include "io.h"
#include "loader.h"
#include "temporary.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    SHARD_TOKENS = 100000000, /* as llm.c cuts its shards: 200 or 400 MB */
    CHUNK = 65536             /* tokens converted and written at once */
};

struct DataWriter {
    char output[IO_PATH_MAX], temporary[IO_PATH_MAX];
    int lock;        /* the temporary folder, flocked; -1 until then */
    int token_bytes; /* 2 or 4 */
    char split[16];
    int n_shards;     /* of this split, the open one included */
    int file;         /* the open shard, or -1 */
    int64_t in_shard; /* tokens in it */
    int64_t in_split;
    char path[IO_PATH_MAX]; /* of the open shard */
    XXH3_state_t *hash;     /* of ids as int32, and each split's count after its ids */
    union {
        uint16_t narrow[CHUNK];
        uint32_t wide[CHUNK];
    } chunk;
};

static bool is_data_file(const char *name) {
    const size_t n = strlen(name);
    const bool shard = !strncmp(name, "train_", 6) || !strncmp(name, "val_", 4);
    return (shard && n > 4 && !strcmp(name + n - 4, ".bin")) || !strcmp(name, "tokenizer.json") ||
           !strcmp(name, "meta.json") || !strcmp(name, "tokenizer.json.tmp") ||
           !strcmp(name, "meta.json.tmp") || !strcmp(name, "labels.json") ||
           !strcmp(name, "labels.json.tmp");
}

/* Fails if the folder holds anything but token data, which replacing it would delete. */
static bool folder_is_data(const char *path, Error *e) {
    DIR *d = opendir(path);
    if (!d)
        return error_set(e, path, "Choose another folder", "cannot open the folder: %s",
                         strerror(errno));
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(d));)
        if (path_is_plain_name(entry->d_name) && !is_data_file(entry->d_name))
            good = error_set(e, path, "Choose another folder, or move that away",
                             "the folder to replace holds something else than tokens: %.200s",
                             entry->d_name);
    closedir(d);
    return good;
}

/* OUTPUT without trailing slashes, links followed if it exists; and OUTPUT.tmp. */
static bool paths_set(DataWriter *w, const char *output, Error *e) {
    char *real = realpath(output, NULL);
    const char *path = real ? real : output;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    const bool fits = n + sizeof ".tmp" <= IO_PATH_MAX;
    if (fits) {
        snprintf(w->output, sizeof w->output, "%.*s", (int)n, path);
        memcpy(w->temporary, path, n);
        memcpy(w->temporary + n, ".tmp", sizeof ".tmp");
    }
    free(real);
    if (n == 0)
        return error_misuse(e, "--output", "Give the folder to write", "no folder is named");
    return fits || error_set(e, output, "Use a shorter path", "the path is too long");
}

/* What a crashed call left is deleted first; a living one holds the lock. */
static bool folder_begin(DataWriter *w, Error *e) {
    if (!path_make_folder(w->temporary, e)) return false;
    const int fd = open(w->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(e, w->temporary, "Check the permissions", "cannot open: %s",
                         strerror(errno));
    struct stat locked, there; /* the other may have moved the folder since it was opened */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &locked) != 0 ||
        stat(w->temporary, &there) != 0 || locked.st_ino != there.st_ino) {
        close(fd);
        return error_set(e, w->temporary, "Wait until it ends, or choose another folder",
                         "another process is writing this folder");
    }
    DIR *d = folder_is_data(w->temporary, e) ? opendir(w->temporary) : NULL;
    if (!d) {
        close(fd);
        return false;
    }
    w->lock = fd; /* from here on the folder and all in it is ours to delete */
    temporary_guard(w->temporary);
    for (struct dirent *entry; (entry = readdir(d));)
        if (path_is_plain_name(entry->d_name)) unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
    return true;
}

DataWriter *data_writer_begin(const char *output, int64_t n_vocab, Error *e) {
    DataWriter *w = calloc(1, sizeof *w);
    CHECK(w, "no memory to write tokens");
    w->lock = w->file = -1;
    w->token_bytes = n_vocab <= 65536 ? 2 : 4;
    w->hash = XXH3_createState();
    CHECK(w->hash, "no memory for a hash");
    XXH3_64bits_reset(w->hash);
    struct stat info;
    if (paths_set(w, output, e) && (stat(w->output, &info) != 0 || folder_is_data(w->output, e)) &&
        folder_begin(w, e))
        return w;
    data_writer_end(w);
    return NULL;
}

/* Puts the count into the header; zero tokens so far is what a crash leaves, and readers refuse. */
static bool header_write(DataWriter *w, Error *e) {
    int32_t header[TOKENS_HEADER_BYTES / 4] = {0};
    header[0] = w->token_bytes == 2 ? TOKENS_MAGIC_16 : TOKENS_MAGIC_32;
    header[1] = w->token_bytes == 2 ? TOKENS_VERSION_16 : TOKENS_VERSION_32;
    header[2] = (int32_t)w->in_shard;
    if (lseek(w->file, 0, SEEK_SET) != 0) return file_failed(w->path, "cannot seek", e);
    return fd_write_all(w->file, header, sizeof header, w->path, e);
}

static bool shard_close(DataWriter *w, Error *e) {
    if (w->file < 0) return true;
    bool good = header_write(w, e);
    if (good && fsync(w->file) != 0) good = file_failed(w->path, "cannot write to disk", e);
    close(w->file);
    w->file = -1;
    return good;
}

static bool shard_next(DataWriter *w, Error *e) {
    char name[64];
    if (!shard_close(w, e)) return false;
    snprintf(name, sizeof name, "%s_%06d.bin", w->split, w->n_shards++);
    if (!path_join(w->path, w->temporary, name, e)) return false;
    w->in_shard = 0;
    w->file = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->file < 0) return file_failed(w->path, "cannot create", e);
    return header_write(w, e);
}

static bool split_close(DataWriter *w, Error *e) {
    XXH3_64bits_update(w->hash, &w->in_split, sizeof w->in_split);
    w->in_split = 0;
    w->n_shards = 0;
    return shard_close(w, e);
}

bool data_writer_split(DataWriter *w, const char *split, Error *e) {
    const bool good = !w->split[0] || split_close(w, e);
    snprintf(w->split, sizeof w->split, "%s", split);
    return good;
}

bool data_writer_tokens(DataWriter *w, const int32_t *ids, int64_t n, Error *e) {
    XXH3_64bits_update(w->hash, ids, (size_t)n * sizeof *ids);
    w->in_split += n;
    while (n > 0) {
        if ((w->file < 0 || w->in_shard == SHARD_TOKENS) && !shard_next(w, e)) return false;
        const int64_t count = i64_min(i64_min(n, CHUNK), SHARD_TOKENS - w->in_shard);
        for (int64_t i = 0; i < count; i++)
            if (w->token_bytes == 2)
                w->chunk.narrow[i] = (uint16_t)ids[i];
            else
                w->chunk.wide[i] = (uint32_t)ids[i];
        if (!fd_write_all(w->file, &w->chunk, count * w->token_bytes, w->path, e)) return false;
        ids += count;
        n -= count;
        w->in_shard += count;
    }
    return true;
}

bool data_writer_labels(DataWriter *w, const Labels *labels, Error *e) {
    return labels_write(labels, w->temporary, e);
}

/* The older data is then in w->temporary. NFS cannot exchange: a crash between two renames leaves
 * no folder there, and the older one beside it. */
static bool names_exchange(DataWriter *w) {
    char aside[IO_PATH_MAX + 8];
    Error ignored;
    if (renameat2(AT_FDCWD, w->temporary, AT_FDCWD, w->output, RENAME_EXCHANGE) == 0) return true;
    if (errno != EINVAL) return false;
    snprintf(aside, sizeof aside, "%s.old", w->temporary);
    if (access(aside, F_OK) == 0 && folder_is_data(aside, &ignored)) path_remove(aside, &ignored);
    if (rename(w->output, aside) != 0) return false;
    const bool good = rename(w->temporary, w->output) == 0;
    const int reason = errno;
    rename(aside, good ? w->temporary : w->output);
    errno = reason;
    return good;
}

/* Exchanges the two folders, so that there is no moment without a whole one. */
static bool folder_exchange(DataWriter *w, Error *e) {
    if (!folder_is_data(w->output, e)) return false;
    /* The older data gets the temporary name, and so needs the lock until it is deleted. */
    const int older = open(w->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (older >= 0 && flock(older, LOCK_EX | LOCK_NB) == 0 && names_exchange(w)) {
        close(w->lock);
        w->lock = older;
        return true;
    }
    error_set(e, w->output, "Delete the older folder and repeat, or choose another folder",
              "cannot put the new folder in its place: %s", strerror(errno));
    if (older >= 0) close(older);
    return false;
}

static bool folder_install(DataWriter *w, Error *e) {
    temporary_release(w->temporary); /* its name may soon be that of the older data */
    if (rename(w->temporary, w->output) == 0) { /* over nothing, or an empty folder */
        w->temporary[0] = 0;
    } else if (errno == EEXIST || errno == ENOTEMPTY) {
        if (!folder_exchange(w, e)) return false;
    } else {
        return error_set(e, w->output, "Choose another folder",
                         "cannot put the folder in place: %s", strerror(errno));
    }
    char parent[IO_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", w->output);
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    return path_sync_folder(slash ? parent : ".", e);
}

bool data_writer_finish(DataWriter *w, const Tokenizer *t, DataMeta *meta, Error *e) {
    char path[IO_PATH_MAX];
    if (!split_close(w, e)) return false;
    const uint64_t expected = meta->data_hash;
    meta->data_hash = XXH3_64bits_digest(w->hash);
    if (expected && expected != meta->data_hash)
        return error_misuse(e, "--data", "Add --override to go on with other data",
                            "the run in %s was trained on other data", w->output);
    return path_join(path, w->temporary, "tokenizer.json", e) && tokenizer_save(t, path, e) &&
           data_meta_write(w->temporary, meta, e) && path_sync_folder(w->temporary, e) &&
           folder_install(w, e);
}

void data_writer_end(DataWriter *w) {
    Error ignored;
    if (w->file >= 0) close(w->file);
    temporary_release(w->temporary);
    if (w->lock >= 0) {
        if (w->temporary[0]) path_remove(w->temporary, &ignored);
        close(w->lock);
    }
    XXH3_freeState(w->hash);
    free(w);
}
