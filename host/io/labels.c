/* labels.json: the names of a model's classes. */
#include "examples.h"
#include "io.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "labels.json";

static int32_t find(char *const *names, int32_t n, const char *name) {
    for (int32_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

/* What stands before the first slash, unless that is nothing; the caller frees it. */
static char *kind_of(const char *name) {
    const size_t n = strcspn(name, "/");
    char *kind = n ? strndup(name, n) : strdup(name);
    CHECK(kind, "no memory for a label");
    return kind;
}

int32_t labels_find(const Labels *labels, const char *name) {
    const int32_t known = find(labels->names, labels->n, name);
    if (known >= 0) return known;
    char *of = kind_of(name);
    const int32_t kind = find(labels->kinds, labels->n_kinds, of);
    free(of);
    for (int32_t i = 0; kind >= 0 && i < labels->n; i++)
        if (labels->kind[i] == kind) return i;
    return -1;
}

bool labels_sort(Labels *labels, const char *path, Error *e) {
    labels->kinds = calloc((size_t)labels->n, sizeof *labels->kinds);
    labels->kind = calloc((size_t)labels->n, sizeof *labels->kind);
    CHECK(labels->kinds && labels->kind, "no memory for %d labels", labels->n);
    for (int32_t i = 0; i < labels->n; i++) {
        char *of = kind_of(labels->names[i]);
        labels->kind[i] = find(labels->kinds, labels->n_kinds, of);
        if (labels->kind[i] < 0) {
            labels->kind[i] = labels->n_kinds;
            labels->kinds[labels->n_kinds++] = of;
        } else {
            free(of);
        }
    }
    return labels->n_kinds >= 2 || error_set(e, path, "What stands before a slash is the kind",
                                             "all labels are of the kind \"%.100s\"",
                                             labels->kinds[0]);
}

void labels_free(Labels *labels) {
    for (int32_t i = 0; i < labels->n; i++) free(labels->names[i]);
    for (int32_t i = 0; i < labels->n_kinds; i++) free(labels->kinds[i]);
    free(labels->names);
    free(labels->kinds);
    free(labels->kind);
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
        if (!name || find(labels->names, labels->n, name) >= 0)
            return error_set(e, path, NULL, "\"labels\" must hold different names");
        labels->names[labels->n] = strdup(name);
        CHECK(labels->names[labels->n++], "no memory for a label");
    }
    return labels_sort(labels, path, e);
}

static bool take_shares(Labels *labels, const json_t *list, const char *path, Error *e) {
    if (!list) return true;
    labels->shares = calloc((size_t)labels->n, sizeof *labels->shares);
    CHECK(labels->shares, "no memory for the shares of %d labels", labels->n);
    for (int32_t i = 0; i < labels->n; i++) {
        labels->shares[i] = json_number_value(json_array_get(list, (size_t)i));
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
