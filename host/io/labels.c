/* labels.json: the names of a model's classes. */
#include "examples.h"
#include "io.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "labels.json";

int32_t labels_find(const Labels *labels, const char *name) {
    for (int32_t i = 0; i < labels->n; i++)
        if (strcmp(labels->names[i], name) == 0) return i;
    return -1;
}

void labels_free(Labels *labels) {
    for (int32_t i = 0; i < labels->n; i++) free(labels->names[i]);
    free(labels->names);
    free(labels->shares);
    *labels = (Labels){0};
}

static json_t *pack_shares(const Labels *labels) {
    json_t *list = json_array();
    for (int32_t i = 0; i < labels->n; i++)
        json_array_append_new(list, json_real(labels->shares[i]));
    return list;
}

bool labels_write(const Labels *labels, const char *folder, Error *e) {
    char path[IO_PATH_MAX];
    json_t *list = json_array();
    for (int32_t i = 0; i < labels->n; i++)
        json_array_append_new(list, json_string(labels->names[i]));
    json_t *root = json_pack("{s:o}", "labels", list);
    if (labels->shares) json_object_set_new(root, "shares", pack_shares(labels));
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    CHECK(text, "no memory for %d labels", labels->n);
    const bool good = path_join(path, folder, file_name, e) &&
                      file_write_atomic(path, text, (int64_t)strlen(text), e);
    free(text);
    json_decref(root);
    return good;
}

static bool take_names(Labels *labels, const json_t *list, const char *path, Error *e) {
    const size_t n = json_array_size(list);
    if (n < 2 || n > LABELS_MAX)
        return error_set(e, path, NULL, "\"labels\" must list 2 to %d names", LABELS_MAX);
    labels->names = calloc(n, sizeof *labels->names);
    CHECK(labels->names, "no memory for %zu labels", n);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name || labels_find(labels, name) >= 0)
            return error_set(e, path, NULL, "\"labels\" must hold different names");
        labels->names[labels->n] = strdup(name);
        CHECK(labels->names[labels->n++], "no memory for a label");
    }
    return true;
}

static bool take_shares(Labels *labels, const json_t *list, const char *path, Error *e) {
    if (!list) return true;
    labels->shares = calloc((size_t)labels->n, sizeof *labels->shares);
    CHECK(labels->shares, "no memory for the shares of %d labels", labels->n);
    for (int32_t i = 0; i < labels->n; i++) {
        labels->shares[i] = json_real_value(json_array_get(list, (size_t)i));
        if (!(labels->shares[i] > 0))
            return error_set(e, path, NULL, "\"shares\" must hold a number above 0 for each label");
    }
    return true;
}

bool labels_read(Labels *labels, const char *folder, Error *e) {
    char path[IO_PATH_MAX];
    *labels = (Labels){0};
    if (!path_join(path, folder, file_name, e)) return false;
    if (access(path, F_OK) != 0 && errno == ENOENT) return true;
    json_t *root = json_read_file(path, e);
    const bool good = root && take_names(labels, json_object_get(root, "labels"), path, e) &&
                      take_shares(labels, json_object_get(root, "shares"), path, e);
    json_decref(root);
    if (!good) labels_free(labels);
    return good;
}
