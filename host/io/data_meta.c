/* meta.json of a data folder. Hashes are hexadecimal text: JSON numbers lose bits beyond 2^53. */
#include "io.h"
#include "loader.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct MetaField {
    const char *key;
    size_t offset;
    bool is_hash;
} MetaField;

static const MetaField fields[] = {
    {"n_vocab", offsetof(DataMeta, n_vocab), false},
    {"n_train", offsetof(DataMeta, n_train), false},
    {"n_val", offsetof(DataMeta, n_val), false},
    {"train_bytes", offsetof(DataMeta, train_bytes), false},
    {"val_bytes", offsetof(DataMeta, val_bytes), false},
    {"tokenizer_hash", offsetof(DataMeta, tokenizer_hash), true},
    {"data_hash", offsetof(DataMeta, data_hash), true},
};

static bool hash_read(const char *text, uint64_t *hash) {
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) return false;
    *hash = strtoull(text, NULL, 16);
    return true;
}

bool data_meta_read(const char *dir, DataMeta *meta, Error *e) {
    char path[IO_PATH_MAX];
    if (!path_join(path, dir, "meta.json", e)) return false;
    json_t *root = json_read_file(path, e);
    bool good = root != NULL;
    for (int64_t i = 0; good && i < COUNT_OF(fields); i++) {
        const json_t *value = json_object_get(root, fields[i].key);
        void *at = (char *)meta + fields[i].offset;
        if (fields[i].is_hash) {
            good = hash_read(json_string_value(value), at);
        } else {
            const int64_t number = json_integer_value(value);
            good = json_is_integer(value) && number >= 0;
            memcpy(at, &number, sizeof number);
        }
        if (!good)
            error_set(e, path, "Make the folder again with `puck tokenize`.",
                      "`%s` should be %s", fields[i].key,
                      fields[i].is_hash ? "16 hexadecimal digits" : "a count");
    }
    json_decref(root);
    return good;
}

bool data_meta_write(const char *dir, const DataMeta *meta, Error *e) {
    char path[IO_PATH_MAX], text[512];
    if (!path_join(path, dir, "meta.json", e)) return false;
    int n = 0;
    for (int64_t i = 0; i < COUNT_OF(fields); i++) {
        uint64_t value;
        memcpy(&value, (const char *)meta + fields[i].offset, sizeof value);
        n += snprintf(text + n, sizeof text - (size_t)n,
                      fields[i].is_hash ? "%s  \"%s\": \"%016" PRIx64 "\"" : "%s  \"%s\": %" PRIu64,
                      i ? ",\n" : "{\n", fields[i].key, value);
    }
    n += snprintf(text + n, sizeof text - (size_t)n, "\n}\n");
    return file_write_atomic(path, text, n, e);
}
