/* Reads the inputs of `puck tokenize` and joins them. */
#include "corpus.h"
#include "log.h"
#include "text.h"
#include "utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool bytes_reserve(Bytes *b, int64_t more, const char *name, Error *e) {
    if (b->n + more <= b->capacity) return true;
    const int64_t capacity = i64_max(b->n + more, 2 * b->capacity);
    char *data = realloc(b->data, (size_t)capacity);
    if (!data)
        return error_set(e, name, "Tokenize it in parts",
                         "no memory for the text: %" PRId64 " bytes are needed", capacity);
    b->data = data;
    b->capacity = capacity;
    return true;
}

/* Of a device, which may have no end; a pipe's end is up to who writes into it. */
enum { DEVICE_BYTES_MAX = 1 << 30 };

/* Appends a file to its end. */
static bool bytes_read(Bytes *b, int fd, const char *name, Error *e) {
    struct stat info = {0};
    int64_t room = fstat(fd, &info) == 0 ? info.st_size + 1 : 1; /* one more sees the end at once */
    const int64_t most = S_ISCHR(info.st_mode) ? b->n + DEVICE_BYTES_MAX : INT64_MAX;
    for (;;) {
        if (b->n > most)
            return error_set(e, name, "Give a regular file", "the input has no end within 1 GiB");
        if (!bytes_reserve(b, i64_max(room, 65536), name, e)) return false;
        const ssize_t got = read(fd, b->data + b->n, (size_t)(b->capacity - b->n));
        if (got == 0) return true;
        if (got < 0 && errno != EINTR)
            return error_set(e, name, "Check the disk", "cannot read: %s", strerror(errno));
        if (got > 0) b->n += got;
        room = 1;
    }
}

/* Begins a document at the end of the text so far. */
static void document_add(Corpus *c, int64_t line) {
    if (c->n_documents + 1 >= c->document_capacity) {
        c->document_capacity = 2 * c->document_capacity + 16;
        c->documents = realloc(c->documents, (size_t)c->document_capacity * sizeof *c->documents);
        CHECK(c->documents, "no memory for %" PRId64 " documents", c->document_capacity);
    }
    c->documents[c->n_documents++] = (Document){c->text.n, c->n_sources - 1, line};
}

/* One line of JSON: appends the text of its field. */
static bool line_add(Corpus *c, const char *line, int64_t bytes, int64_t number, const char *field,
                     Error *e) {
    document_add(c, number);
    char place[512];
    corpus_name(c, &c->documents[c->n_documents - 1], place, sizeof place);
    json_error_t fault;
    json_t *object =
        json_loadb(line, (size_t)bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &fault);
    const json_t *text = json_object_get(object, field);
    bool good = json_is_string(text);
    if (!object)
        error_set(e, place, "Each line must be one JSON object", "the line is not JSON: %s",
                  fault.text);
    else if (!good)
        error_set(e, place, "Give the name of a text field with --field",
                  "the line has no text field \"%.100s\"", field);
    const int64_t n = (int64_t)json_string_length(text);
    good = good && bytes_reserve(&c->text, n + 1, place, e);
    if (good) {
        memcpy(c->text.data + c->text.n, json_string_value(text), (size_t)n);
        c->text.data[c->text.n + n] = '\n';
        c->text.n += n + 1;
    }
    json_decref(object);
    return good;
}

static bool lines_add(Corpus *c, const Bytes *file, const char *field, Error *e) {
    int64_t number = 1;
    for (int64_t i = 0; i < file->n; number++) {
        const char *line = file->data + i;
        const char *end = memchr(line, '\n', (size_t)(file->n - i));
        const int64_t bytes = end ? end - line : file->n - i;
        int64_t blank = 0;
        while (blank < bytes && memchr(" \t\r", line[blank], 3)) blank++;
        if (blank < bytes && !line_add(c, line, bytes, number, field, e)) return false;
        i += bytes + 1;
    }
    return true;
}

/* `path` is what to open, "-" for standard input. */
static bool file_add(Corpus *c, const char *path, const char *field, Error *e) {
    const bool standard = !strcmp(path, "-");
    const char *name = standard ? "standard input" : path;
    const int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(e, name, "Check the name and the permissions", "cannot open: %s",
                         strerror(errno));
    c->sources = realloc(c->sources, ((size_t)c->n_sources + 1) * sizeof *c->sources);
    CHECK(c->sources, "no memory for %d file names", c->n_sources + 1);
    c->sources[c->n_sources] = strdup(name);
    CHECK(c->sources[c->n_sources], "no memory for a file name");
    c->n_sources++;
    log_debug("reading %s", name);

    bool good;
    if (field[0]) {
        Bytes file = {0};
        good = bytes_read(&file, fd, name, e) && lines_add(c, &file, field, e);
        free(file.data);
    } else {
        document_add(c, 0);
        good = bytes_read(&c->text, fd, name, e);
    }
    if (!standard) close(fd);
    return good;
}

static int compare_entries(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool entry_add(Corpus *c, const FTSENT *entry, const char *field, const struct stat *output,
                      Error *e) {
    switch (entry->fts_info) {
    case FTS_F: return file_add(c, entry->fts_path, field, e);
    case FTS_D:
        if (output && entry->fts_statp->st_dev == output->st_dev &&
            entry->fts_statp->st_ino == output->st_ino)
            return error_set(e, entry->fts_path, "Choose another --output",
                             "the output folder lies within the input");
        return true;
    case FTS_DC:
        return error_set(e, entry->fts_path, "Remove the link",
                         "the folder holds itself by a link");
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return error_set(e, entry->fts_path, "Check the permissions", "cannot read: %s",
                         strerror(entry->fts_errno));
    case FTS_SLNONE:
        return error_set(e, entry->fts_path, "Remove the link", "the link leads nowhere");
    default: return true; /* the end of a folder; sockets, pipes and devices */
    }
}

static bool folder_add(Corpus *c, const char *path, const char *field, const struct stat *output,
                       Error *e) {
    char *const roots[] = {(char *)path, NULL}; /* fts_open does not write to it */
    const int before = c->n_sources;
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, compare_entries);
    if (!tree)
        return error_set(e, path, "Check the permissions", "cannot read the folder: %s",
                         strerror(errno));
    bool good = true;
    for (FTSENT *entry; good && (entry = fts_read(tree));)
        good = entry_add(c, entry, field, output, e);
    if (good && errno != 0)
        good = error_set(e, path, "Check the permissions", "cannot read the folder: %s",
                         strerror(errno));
    fts_close(tree);
    if (good && c->n_sources == before)
        good = error_set(e, path, "Give a folder with text files", "the folder holds no file");
    return good;
}

bool corpus_read(Corpus *c, const char *const *inputs, int n_inputs, const char *field,
                 const char *output, Error *e) {
    struct stat out, info;
    const bool output_exists = stat(output, &out) == 0;
    *c = (Corpus){.json = field[0] != 0};
    for (int i = 0; i < n_inputs; i++) {
        const bool folder =
            strcmp(inputs[i], "-") != 0 && stat(inputs[i], &info) == 0 && S_ISDIR(info.st_mode);
        if (folder ? !folder_add(c, inputs[i], field, output_exists ? &out : NULL, e)
                   : !file_add(c, inputs[i], field, e))
            return false;
    }
    if (c->text.n == 0)
        return error_set(e, n_inputs == 1 ? inputs[0] : "--input",
                         "Give a text with some characters", "the text is empty");
    document_add(c, 0);
    c->n_documents--; /* the end is no document */
    return true;
}

void corpus_free(Corpus *c) {
    for (int i = 0; i < c->n_sources; i++) free(c->sources[i]);
    free(c->sources);
    free(c->documents);
    free(c->text.data);
    *c = (Corpus){0};
}

void corpus_name(const Corpus *c, const Document *d, char *name, size_t size) {
    if (d->line)
        snprintf(name, size, "%s:%" PRId64, c->sources[d->source], d->line);
    else
        snprintf(name, size, "%s", c->sources[d->source]);
}

int64_t corpus_encode(const Corpus *c, const Document *d, const Tokenizer *t, int64_t first,
                      int64_t last, int32_t *ids, Error *e) {
    const char *name = c->sources[d->source];
    const int64_t n = text_encode(t, name, c->text.data + d->first, first, last, ids, e);
    if (n >= 0) return n;
    if (c->json) /* where in a string of JSON a character stands is not where its line has it */
        corpus_name(c, d, e->place, sizeof e->place);
    else if (d->line)
        utf8_place_line(e, name, d->line);
    return -1;
}
