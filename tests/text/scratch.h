/* What the tests of texts and tokens share: a temporary folder, small files, errors. */
#pragma once
#include "../io/scratch.h"

typedef struct Scratch {
    char folder[256], before[1024];
} Scratch;

/* Makes an empty temporary folder the working folder, so that tests name their files in short. A
 * pair of set-up and tear-down for cmocka. */
static inline int scratch_enter(void **state) {
    Scratch *s = malloc(sizeof *s);
    const char *root = getenv("TMPDIR");
    assert_non_null(s);
    snprintf(s->folder, sizeof s->folder, "%.200s/puck-test-XXXXXX", root ? root : "/tmp");
    assert_non_null(getcwd(s->before, sizeof s->before));
    assert_non_null(mkdtemp(s->folder));
    assert_int_equal(chdir(s->folder), 0);
    *state = s;
    return 0;
}

static inline int scratch_leave(void **state) {
    Scratch *s = *state;
    assert_int_equal(chdir(s->before), 0);
    scratch_remove(s->folder);
    free(s);
    return 0;
}
#define SCRATCH_TEST(test) cmocka_unit_test_setup_teardown(test, scratch_enter, scratch_leave)

static inline void scratch_write(const char *path, const void *data, int64_t bytes) {
    remove(path); /* some file systems flush a file that is emptied and written again */
    file_put(path, data, bytes);
}

static inline void scratch_text(const char *path, const char *text) {
    scratch_write(path, text, (int64_t)strlen(text));
}

/* A whole file, NUL after its end; NULL if it cannot be read. The caller frees it. */
static inline char *scratch_read(const char *path, int64_t *bytes) {
    *bytes = 0;
    return access(path, R_OK) == 0 ? file_get(path, bytes) : NULL;
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
