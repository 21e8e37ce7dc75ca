/* What the tests of texts and tokens share: a temporary folder, small files, errors. */
#pragma once
#include "base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <ftw.h>

/* A folder that scratch_remove deletes. The caller frees nothing. */
static inline const char *scratch_make(char path[256]) {
    const char *root = getenv("TMPDIR");
    snprintf(path, 256, "%s/puck-test-XXXXXX", root && strlen(root) < 200 ? root : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline int scratch_unlink(const char *path, const struct stat *s, int type, struct FTW *f) {
    (void)s, (void)type, (void)f;
    return remove(path);
}

static inline void scratch_remove(const char *path) {
    nftw(path, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* DIR/NAME, valid until the eighth call after it. */
static inline const char *scratch_path(const char *dir, const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static inline const char *scratch_write(const char *dir, const char *name, const void *data,
                                        int64_t bytes) {
    const char *path = scratch_path(dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, (size_t)bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline const char *scratch_text(const char *dir, const char *name, const char *text) {
    return scratch_write(dir, name, text, (int64_t)strlen(text));
}

/* A whole file, NUL after its end; NULL if it cannot be read. The caller frees it. */
static inline char *scratch_read(const char *path, int64_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *bytes = ftell(f);
    rewind(f);
    char *data = malloc((size_t)*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)*bytes, f), *bytes);
    data[*bytes] = 0;
    fclose(f);
    return data;
}

/* The call failed, and its sentence and place together name all of what the user must know. */
static inline void scratch_error(const Error *e, int code, const char *const *words) {
    char all[1600];
    snprintf(all, sizeof all, "%s (%s). %s", e->text, e->place, e->hint);
    if (e->code != code) fail_msg("exit code %d, not %d: %s", e->code, code, all);
    for (; *words; words++)
        if (!strstr(all, *words)) fail_msg("\"%s\" is not in: %s", *words, all);
}
#define ASSERT_ERROR(e, code, ...) scratch_error(e, code, (const char *const[]){__VA_ARGS__, NULL})
