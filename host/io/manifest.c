/* MANIFEST.json: size and XXH3-64 of every other file of a checkpoint. */
#include "io.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static const char file_name[] = "MANIFEST.json";

typedef struct Digest {
    int64_t bytes;
    char hash[17]; /* hexadecimal, compared as text */
} Digest;

static bool digest_file(const char *path, Digest *d, Error *e) {
    enum { BLOCK = 64 << 10 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0 && !S_ISREG(info.st_mode)) {
        close(fd); /* a pipe or a device may have no end */
        return error_set(e, path, NULL, "this is no regular file");
    }
    char *block = malloc(BLOCK);
    XXH3_state_t *hash = XXH3_createState();
    CHECK(block && hash, "no memory to hash a file");
    XXH3_64bits_reset(hash);
    ssize_t n = fd < 0 ? -1 : 0;
    d->bytes = 0;
    while (fd >= 0 && ((n = read(fd, block, BLOCK)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0) continue;
        XXH3_64bits_update(hash, block, (size_t)n);
        d->bytes += n;
    }
    snprintf(d->hash, sizeof d->hash, "%016" PRIx64, (uint64_t)XXH3_64bits_digest(hash));
    if (n < 0) file_failed(path, "cannot read", e);
    if (fd >= 0) close(fd);
    XXH3_freeState(hash);
    free(block);
    return n == 0;
}

static int is_listed(const struct dirent *d) {
    return path_is_plain_name(d->d_name) && strcmp(d->d_name, file_name) != 0;
}

bool manifest_write(const char *folder, Error *e) {
    struct dirent **names;
    const int n = scandir(folder, &names, is_listed, alphasort);
    if (n < 0) return file_failed(folder, "cannot list", e);
    char path[IO_PATH_MAX], *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    CHECK(out, "no memory for the manifest");
    bool good = true;
    fputs("{\"files\": {\n", out);
    for (int i = 0; i < n; i++) {
        Digest d = {0};
        good = good && path_join(path, folder, names[i]->d_name, e) && digest_file(path, &d, e);
        fprintf(out, "  \"%s\": {\"bytes\": %ld, \"xxh3\": \"%s\"}%s\n", names[i]->d_name,
                (long)d.bytes, d.hash, i + 1 < n ? "," : "");
        free(names[i]);
    }
    free(names);
    fputs("}}\n", out);
    CHECK(fclose(out) == 0, "no memory for the manifest");
    good = good && path_join(path, folder, file_name, e) &&
           file_write_atomic(path, text, (int64_t)bytes, e) && path_sync_folder(folder, e);
    free(text);
    return good;
}

static bool verify_file(const char *folder, const char *name, json_t *entry, const char *manifest,
                        Error *e) {
    char path[IO_PATH_MAX];
    int64_t bytes;
    const char *hash = json_string_value(json_object_get(entry, "xxh3"));
    if (!hash || !path_is_plain_name(name))
        return error_set(e, manifest, NULL, "the manifest's entry %.100s is broken", name);
    Digest d;
    if (!json_get_int(entry, manifest, "bytes", 0, INT64_MAX, &bytes, e) ||
        !path_join(path, folder, name, e) || !digest_file(path, &d, e))
        return false;
    if (d.bytes != bytes)
        return error_set(e, path, NULL, "the file has %ld bytes, where the manifest has %ld",
                         (long)d.bytes, (long)bytes);
    if (strcmp(d.hash, hash) != 0)
        return error_set(e, path, NULL, "the file's contents have changed since it was saved");
    return true;
}

bool checkpoint_verify(const char *folder, Error *e) {
    char path[IO_PATH_MAX];
    json_t *root = NULL;
    if (!path_join(path, folder, file_name, e) || !(root = json_read_file(path, e))) return false;
    json_t *files = json_object_get(root, "files"), *entry;
    bool good = json_object_size(files) > 0;
    if (!good) error_set(e, path, NULL, "the manifest lists no files");
    const char *name;
    json_object_foreach(files, name, entry) {
        good = verify_file(folder, name, entry, path, e);
        if (!good) break;
    }
    json_decref(root);
    return good;
}
