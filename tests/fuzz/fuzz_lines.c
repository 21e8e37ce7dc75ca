/* Any bytes as a file of labelled texts and as one of pairs, of lines and of JSON: refused with a
 * place, or texts with labels, of which none is empty; pairs that are lines with a tab. */
#include "examples.h"
#include "loader.h"
#include "memory.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], names[2][128];

static void remove_folder(void) {
    for (int i = 0; i < 2; i++) unlink(names[i]);
    rmdir(folder);
}

/* Both names are one file in memory. */
static int make_folder(void) {
    static const char *const ends[] = {"tsv", "jsonl"};
    char target[64];
    const int fd = memory_folder(folder, target);
    atexit(remove_folder);
    for (int i = 0; i < 2; i++) {
        snprintf(names[i], sizeof names[i], "%s/lines.%s", folder, ends[i]);
        if (symlink(target, names[i]) != 0) abort();
    }
    return fd;
}

static void check_examples(const char *path) {
    Examples x;
    Labels labels = {0};
    Error e = {0};
    if (!examples_read(&x, path, "text", "label", &e)) {
        CHECK(e.text[0] && e.place[0], "\"%s\" (%s)", e.text, e.place);
        return;
    }
    for (int64_t i = 0; i < x.n; i++)
        CHECK(x.items[i].text[0] && x.items[i].label[0], "example %ld is empty", (long)i);
    if (labels_collect(&labels, &x, path, &e))
        for (int64_t i = 0; i < x.n; i++)
            CHECK(labels_find(&labels, x.items[i].label) >= 0, "label %ld", (long)i);
    labels_free(&labels);
    examples_free(&x);
}

static void check_pairs(const char *path) {
    Error e = {0};
    int64_t bytes;
    char *text = pairs_read(path, &bytes, &e);
    CHECK(text || (e.text[0] && e.place[0]), "\"%s\" (%s)", e.text, e.place);
    for (const char *at = text, *end; text && at < text + bytes; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + bytes - at));
        if (!end) end = text + bytes;
        CHECK(memchr(at, '\t', (size_t)(end - at)), "a line without a tab");
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd;
    if (!folder[0]) fd = make_folder();
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    for (int i = 0; i < 2; i++) {
        check_examples(names[i]);
        check_pairs(names[i]);
    }
    return 0;
}
