/* Writing safetensors in one pass: the header names every tensor first, then comes their data. */
#include "safetensors.h"
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct SafetensorsWriter {
    char path[IO_PATH_MAX];
    int fd;
    json_t *header;            /* keeps the order of insertion; __metadata__ is its first key */
    int64_t declared, written; /* bytes of data */
};

static const char *const dtype_texts[DTYPE_COUNT] = {
    [DTYPE_F64] = "F64", [DTYPE_F32] = "F32",        [DTYPE_BF16] = "BF16",
    [DTYPE_F16] = "F16", [DTYPE_F8E4M3] = "F8_E4M3", [DTYPE_F8E5M2] = "F8_E5M2",
    [DTYPE_I64] = "I64", [DTYPE_I32] = "I32",        [DTYPE_U16] = "U16",
    [DTYPE_U8] = "U8",
};

SafetensorsWriter *safetensors_create(const char *path, Error *e) {
    SafetensorsWriter *w = calloc(1, sizeof *w);
    CHECK(w, "no memory for a writer");
    snprintf(w->path, sizeof w->path, "%s", path);
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        file_failed(path, "cannot create", e);
        free(w);
        return NULL;
    }
    w->header = json_pack("{s:{}}", "__metadata__");
    return w;
}

void safetensors_declare(SafetensorsWriter *w, const char *name, DType dtype, int rank,
                         const int64_t *dim) {
    int64_t count = 1;
    json_t *shape = json_array();
    for (int i = 0; i < rank; i++) {
        count *= dim[i];
        json_array_append_new(shape, json_integer(dim[i]));
    }
    const int64_t begin = w->declared;
    w->declared += count * dtype_bytes(dtype);
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_texts[dtype], "shape", shape,
                              "data_offsets", (json_int_t)begin, (json_int_t)w->declared);
    CHECK(entry && !json_object_get(w->header, name), "tensor %s twice, or not UTF-8", name);
    json_object_set_new(w->header, name, entry);
}

void safetensors_metadata(SafetensorsWriter *w, const char *key, const char *value) {
    json_t *metadata = json_object_get(w->header, "__metadata__");
    CHECK(json_object_set_new(metadata, key, json_string(value)) == 0, "key %s: not UTF-8", key);
}

bool safetensors_begin(SafetensorsWriter *w, Error *e) {
    if (!json_object_size(json_object_get(w->header, "__metadata__")))
        json_object_del(w->header, "__metadata__");
    char *text = json_dumps(w->header, JSON_COMPACT);
    CHECK(text, "no memory for the header");

    const size_t length = strlen(text);
    const uint64_t padded = (uint64_t)i64_round_up((int64_t)length, 8);
    char *out = malloc(8 + padded);
    CHECK(out, "no memory for the header");
    memcpy(out, &padded, 8);
    memcpy(out + 8, text, length);
    memset(out + 8 + length, ' ', padded - length);
    const bool good = fd_write_all(w->fd, out, 8 + (int64_t)padded, w->path, e);
    free(out);
    free(text);
    return good;
}

bool safetensors_write(SafetensorsWriter *w, const void *data, int64_t bytes, Error *e) {
    w->written += bytes;
    CHECK(w->written <= w->declared, "%ld bytes written of %ld declared", (long)w->written,
          (long)w->declared);
    return fd_write_all(w->fd, data, bytes, w->path, e);
}

static void release(SafetensorsWriter *w) {
    close(w->fd);
    json_decref(w->header);
    free(w);
}

bool safetensors_finish(SafetensorsWriter *w, Error *e) {
    CHECK(w->written == w->declared, "%ld bytes written of %ld declared", (long)w->written,
          (long)w->declared);
    const bool good = fsync(w->fd) == 0;
    if (!good) {
        file_failed(w->path, "cannot write to disk", e);
        unlink(w->path);
    }
    release(w);
    return good;
}

void safetensors_abandon(SafetensorsWriter *w) {
    unlink(w->path);
    release(w);
}
