/* meta.json of a data folder. */
#include "io.h"
#include "loader.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
    const char *key;
    size_t offset;
} counts[] = {
    {"n_vocab", offsetof(DataMeta, n_vocab)},     {"n_train", offsetof(DataMeta, n_train)},
    {"n_val", offsetof(DataMeta, n_val)},         {"train_bytes", offsetof(DataMeta, train_bytes)},
    {"val_bytes", offsetof(DataMeta, val_bytes)},
};

bool data_meta_read(const char *dir, DataMeta *meta, Error *e) {
    char path[IO_PATH_MAX];
    if (!path_join(path, dir, "meta.json", e)) return false;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return error_set(e, dir, "Give a text, or a folder made by `puck tokenize`",
                         "the folder holds no tokens: it has no meta.json");
    json_t *root = json_read_file(path, e);
    bool good = root != NULL;
    for (int64_t i = 0; good && i < COUNT_OF(counts); i++)
        good = json_get_int(root, path, counts[i].key, 0, INT64_MAX,
                            (int64_t *)((char *)meta + counts[i].offset), e);
    good = good && json_get_hash(root, path, "tokenizer_hash", &meta->tokenizer_hash, e) &&
           json_get_hash(root, path, "data_hash", &meta->data_hash, e);
    json_decref(root);
    return good;
}

bool data_meta_write(const char *dir, const DataMeta *meta, Error *e) {
    char path[IO_PATH_MAX], text[512];
    int n = snprintf(text, sizeof text, "{\n");
    for (int64_t i = 0; i < COUNT_OF(counts); i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "  \"%s\": %" PRId64 ",\n", counts[i].key,
                      *(const int64_t *)((const char *)meta + counts[i].offset));
    n += snprintf(text + n, sizeof text - (size_t)n,
                  "  \"tokenizer_hash\": \"%016" PRIx64 "\",\n  \"data_hash\": \"%016" PRIx64
                  "\"\n}\n",
                  meta->tokenizer_hash, meta->data_hash);
    return path_join(path, dir, "meta.json", e) && file_write_atomic(path, text, n, e);
}
