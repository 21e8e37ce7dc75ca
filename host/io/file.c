/* Small files and paths. */
#include "io.h"
#include "temporary.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_failed(const char *path, const char *what, Error *e) {
    const int reason = errno;
    const char *hint = "Check the name and the permissions";
    if (reason == ENOSPC || reason == EDQUOT) hint = "Free some space on the disk";
    if (reason == EIO) hint = "Check the disk";
    if (reason == EISDIR) hint = "Give a file in it";
    return error_set(e, path, hint, "%s: %s", what, strerror(reason));
}

/* A pipe or a device has no size; reading one stops here instead of filling the memory. */
enum { STREAM_BYTES_MAX = 1 << 30 };

bool path_join(char path[IO_PATH_MAX], const char *folder, const char *name, Error *e) {
    if (snprintf(path, IO_PATH_MAX, "%s/%s", folder, name) < IO_PATH_MAX) return true;
    return error_set(e, folder, "Use a shorter path", "the path is longer than %d bytes",
                     IO_PATH_MAX - 1);
}

bool path_is_plain_name(const char *name) {
    return name[0] && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Reads to the end; `guess` is the expected size. */
static char *read_to_end(int fd, int64_t guess, const char *path, int64_t *bytes, Error *e) {
    int64_t capacity = guess + 2, n = 0; /* room for the NUL and for seeing the end */
    char *text = malloc((size_t)capacity);
    while (text) {
        const ssize_t got = read(fd, text + n, (size_t)(capacity - 1 - n));
        if (got == 0) {
            text[n] = 0;
            if (bytes) *bytes = n;
            return text;
        }
        if (got < 0) {
            if (errno == EINTR) continue;
            file_failed(path, "cannot read", e);
            free(text);
            return NULL;
        }
        n += got;
        if (n + 1 < capacity) continue;
        if (capacity > i64_max(guess + 2, STREAM_BYTES_MAX)) {
            error_set(e, path, "Give a regular file", "the input has no end within 1 GiB");
            free(text);
            return NULL;
        }
        capacity *= 2;
        char *larger = realloc(text, (size_t)capacity);
        if (!larger) free(text);
        text = larger;
    }
    error_set(e, path, NULL, "not enough memory to read the file");
    return NULL;
}

char *file_read(const char *path, int64_t *bytes, Error *e) {
    const bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    const int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    char *text = NULL;
    if (fd < 0 || fstat(fd, &info) != 0)
        error_set(e, name, "Check the name and the permissions", "cannot open: %s",
                  strerror(errno));
    else
        text = read_to_end(fd, S_ISREG(info.st_mode) ? info.st_size : 0, name, bytes, e);
    if (fd >= 0) close(fd);
    return text;
}

bool fd_write_all(int fd, const void *data, int64_t bytes, const char *path, Error *e) {
    const char *at = data;
    while (bytes > 0) {
        const ssize_t n = write(fd, at, (size_t)bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_failed(path, "cannot write", e);
        at += n;
        bytes -= n;
    }
    return true;
}

bool file_prepare(NewFile *f, const char *path, const char *text, int64_t bytes, Error *e) {
    const int room = sizeof f->temporary;
    if (snprintf(f->temporary, sizeof f->temporary, "%s.tmp", path) >= room)
        return error_set(e, path, "Use a shorter path", "the path is too long");
    strcpy(f->path, path);
    temporary_guard(f->temporary);
    const int fd = open(f->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        temporary_release(f->temporary);
        return file_failed(path, "cannot create", e);
    }
    bool good = fd_write_all(fd, text, bytes, path, e);
    if (good && fsync(fd) != 0) good = file_failed(path, "cannot write to disk", e);
    close(fd);
    return good || file_install(f, false, e);
}

bool file_install(NewFile *f, bool well, Error *e) {
    if (well && rename(f->temporary, f->path) != 0)
        well = file_failed(f->path, "cannot put the new file in place", e);
    if (!well) unlink(f->temporary);
    temporary_release(f->temporary);
    return well;
}

bool file_write_atomic(const char *path, const char *text, int64_t bytes, Error *e) {
    NewFile f;
    return file_prepare(&f, path, text, bytes, e) && file_install(&f, true, e);
}

bool path_make_folder(const char *path, Error *e) {
    char part[IO_PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part)
        return error_set(e, path, "Use a shorter path", "the path is too long");
    if (!path[0]) return error_misuse(e, NULL, "Give a name", "the name of a folder is empty");
    for (char *at = part + 1;; at++) {
        if (*at && *at != '/') continue;
        const char end = *at;
        *at = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return error_set(e, part, "Check the permissions, or choose another folder",
                             "cannot make the folder: %s", strerror(errno));
        if (!end) break;
        *at = end;
    }
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return true;
    return error_set(e, path, "Move it away, or choose another name",
                     "a folder is needed here, but this is none");
}

bool path_sync_folder(const char *folder, Error *e) {
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems of a network sync no folders, and say EINVAL: theirs are as durable as they
     * can be. */
    const bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (!good) file_failed(folder, "cannot write to disk", e);
    if (fd >= 0) close(fd);
    return good;
}

bool path_remove(const char *path, Error *e) {
    if (unlink(path) == 0 || errno == ENOENT) return true;
    DIR *dir = errno == EISDIR ? opendir(path) : NULL;
    bool good = true;
    for (struct dirent *d; dir && good && (d = readdir(dir));) {
        char inner[IO_PATH_MAX];
        if (path_is_plain_name(d->d_name))
            good = path_join(inner, path, d->d_name, e) && path_remove(inner, e);
    }
    if (good && (!dir || rmdir(path) != 0))
        good = error_set(e, path, "Delete it by hand", "cannot delete: %s", strerror(errno));
    if (dir) closedir(dir);
    return good;
}
