/* A folder for one test program, and whole files in it. */
#pragma once
#include "base.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[256];

static inline void scratch_make(void) {
    const char *base = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/puck-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(scratch));
}

static inline int scratch_remove_one(const char *path, const struct stat *s, int kind,
                                     struct FTW *at) {
    (void)s, (void)kind, (void)at;
    return remove(path);
}

/* Deletes a path and what it holds. */
static inline void scratch_remove(const char *path) {
    nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int scratch_setup(void **state) {
    (void)state;
    scratch_make();
    return 0;
}

static inline int scratch_teardown(void **state) {
    (void)state;
    scratch_remove(scratch);
    return 0;
}

/* scratch/name; the text stays, and is the same for the same name. */
static inline const char *scratch_path(const char *name) {
    static char *paths[64];
    static int n;
    char *path;
    assert_true(asprintf(&path, "%s/%s", scratch, name) > 0);
    for (int i = 0; i < n; i++) {
        if (strcmp(paths[i], path) != 0) continue;
        free(path);
        return paths[i];
    }
    assert_in_range(n, 0, 63);
    return paths[n++] = path;
}

static inline void file_put(const char *path, const void *data, int64_t bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, (size_t)bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* A whole file, NUL after its end. The caller frees it. */
static inline char *file_get(const char *path, int64_t *bytes) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
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
