/* Files of pairs: a source and its target. */
#include "corpus.h"
#include "examples.h"
#include "loader.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool check_text(const char *path, const char *text, int64_t bytes, Error *e) {
    char place[1100];
    int64_t line = 1;
    for (const char *at = text, *end; at < text + bytes; at = end + 1, line++) {
        end = memchr(at, '\n', (size_t)(text + bytes - at));
        snprintf(place, sizeof place, "%s:%" PRId64, path, line);
        if (!end) return error_set(e, place, "End it with a newline", "the last line has no end");
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        if (end == at)
            return error_set(e, place, "Remove it", "the line is empty, so it holds no pair");
        if (end[-1] == '\r') /* it would be learnt as the end of every target */
            return error_set(e, place, "End lines with a newline alone",
                             "the line ends with a carriage return");
        if (!tab || tab == at || tab + 1 == end || memchr(tab + 1, '\t', (size_t)(end - tab - 1)))
            return error_set(e, place, "Write a source, one tab and a target",
                             "the line is no pair");
    }
    return true;
}

static char *read_text(const char *path, int64_t *bytes, Error *e) {
    Corpus file;
    char *text = NULL;
    if (corpus_read(&file, &path, 1, "", "", e) &&
        check_text(path, file.text.data, file.text.n, e)) {
        *bytes = file.text.n;
        text = file.text.data;
        file.text.data = NULL;
    }
    corpus_free(&file);
    return text;
}

/* A pair whose halves hold a tab or a line's end would be another one in the text. */
static bool write_pair(const Example *x, const char *path, FILE *out, Error *e) {
    char place[1100];
    snprintf(place, sizeof place, "%s:%" PRId64, path, x->line);
    if (strpbrk(x->text, "\t\r\n") || strpbrk(x->label, "\t\r\n"))
        return error_set(e, place, "Write spaces instead", "the pair holds a tab or a line's end");
    fprintf(out, "%s\t%s\n", x->text, x->label);
    return true;
}

static char *read_objects(const char *path, int64_t *bytes, Error *e) {
    Examples pairs;
    if (!examples_read(&pairs, path, "source", "target", e)) return NULL;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    CHECK(out, "no memory for the pairs of %s", path);
    bool ok = true;
    for (int64_t i = 0; ok && i < pairs.n; i++) ok = write_pair(&pairs.items[i], path, out, e);
    CHECK(fclose(out) == 0, "no memory for the pairs of %s", path);
    examples_free(&pairs);
    *bytes = (int64_t)n;
    if (ok) return text;
    free(text);
    return NULL;
}

char *pairs_read(const char *path, int64_t *bytes, Error *e) {
    return (examples_are_json(path) ? read_objects : read_text)(path, bytes, e);
}
