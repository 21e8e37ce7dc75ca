/* Files of labelled texts. */
#include "examples.h"
#include "corpus.h"
#include "utf8.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE_SIZE = 1100 };

/* "text TAB label"; the tab becomes the text's end. */
static bool cut_line(char *line, Example *x, const char *place, Error *e) {
    char *tab = strchr(line, '\t');
    if (!tab || tab == line || !tab[1] || strchr(tab + 1, '\t'))
        return error_set(e, place, "Write a text, one tab and its label",
                         line[0] ? "the line is no labelled text" : "the line is empty");
    *tab = 0;
    x->text = line;
    x->label = tab + 1;
    return true;
}

/* What an object says, put in the place of its own bytes: no string is longer than its JSON. */
static bool take_object(char *line, const char *text_field, const char *label_field, Example *x,
                        const char *place, Error *e) {
    json_error_t fault;
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &fault);
    const json_t *label = json_object_get(object, label_field);
    const char *text = json_string_value(json_object_get(object, text_field));
    char number[32];
    snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(label));
    const char *name = json_is_integer(label) ? number : json_string_value(label);
    const bool good = text && *text && name && *name;
    if (!object)
        error_set(e, place, "Write one JSON object a line", "the line is not JSON: %s", fault.text);
    else if (!good)
        error_set(e, place, "Give both, and neither empty",
                  "the line has no text \"%s\" with a \"%s\"", text_field, label_field);
    if (good) {
        char *const behind = line + strlen(text) + 1;
        x->text = memcpy(line, text, (size_t)(behind - line));
        x->label = memcpy(behind, name, strlen(name) + 1);
    }
    json_decref(object);
    return good;
}

bool examples_are_json(const char *path) {
    const size_t n = strlen(path);
    return n >= 6 && strcmp(path + n - 6, ".jsonl") == 0;
}

static bool take_lines(Examples *x, int64_t bytes, const char *path, const char *text_field,
                       const char *label_field, Error *e) {
    const bool objects = examples_are_json(path);
    char place[PLACE_SIZE], *const text_end = x->memory + bytes;
    int64_t room = 0;
    for (char *at = x->memory, *end; at < text_end; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text_end - at));
        if (!end) end = text_end;
        *end = 0;
        if (end > at && end[-1] == '\r') end[-1] = 0;
        if (x->n == room) {
            room = 2 * room + 1024;
            x->items = realloc(x->items, (size_t)room * sizeof *x->items);
            CHECK(x->items, "no memory for %ld examples", (long)room);
        }
        Example *item = &x->items[x->n++];
        item->line = x->n;
        snprintf(place, sizeof place, "%s:%" PRId64, path, item->line);
        if (objects ? !take_object(at, text_field, label_field, item, place, e)
                    : !cut_line(at, item, place, e))
            return false;
    }
    return true;
}

static bool check_bytes(const char *path, const Bytes *file, Error *e) {
    if (!utf8_check(path, file->data, file->n, e)) {
        snprintf(e->hint, sizeof e->hint, "Convert the file to UTF-8");
        return false;
    }
    const char *nul = memchr(file->data, 0, (size_t)file->n);
    if (!nul) return true;
    char place[PLACE_SIZE];
    utf8_place(place, sizeof place, path, file->data, nul - file->data);
    return error_set(e, place, "Give text", "the file holds the character U+0000");
}

bool examples_read(Examples *x, const char *path, const char *text_field, const char *label_field,
                   Error *e) {
    Corpus file;
    *x = (Examples){0};
    bool good = corpus_read(&file, &path, 1, "", "", e) && check_bytes(path, &file.text, e);
    if (good) {
        const int64_t bytes = file.text.n;
        x->memory = realloc(file.text.data, (size_t)bytes + 1); /* for the last line's end */
        CHECK(x->memory, "no memory for %s", path);
        file.text.data = NULL;
        good = take_lines(x, bytes, path, text_field, label_field, e);
    }
    corpus_free(&file);
    if (!good) examples_free(x);
    return good;
}

void examples_free(Examples *x) {
    free(x->items);
    free(x->memory);
    *x = (Examples){0};
}

static int compare_labels(const void *a, const void *b) {
    const Example *const *x = a, *const *y = b;
    return strcmp((*x)->label, (*y)->label);
}

/* From the examples in the order of their labels. */
static bool collect_sorted(Labels *labels, const Example **sorted, int64_t n, const char *path,
                           Error *e) {
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !strcmp(sorted[end]->label, sorted[i]->label);) end++;
        if (labels->n == LABELS_MAX)
            return error_set(e, path, "Is the label behind the tab?",
                             "there are more than %d different labels", LABELS_MAX);
        if (end == i + 1) {
            char place[PLACE_SIZE];
            snprintf(place, sizeof place, "%s:%" PRId64, path, sorted[i]->line);
            return error_set(e, place, "Add another one, or remove it",
                             "this is the only example of the label \"%.100s\", and it takes one "
                             "to learn from and one to score",
                             sorted[i]->label);
        }
        labels->names[labels->n] = strdup(sorted[i]->label);
        CHECK(labels->names[labels->n++], "no memory for a label");
    }
    if (labels->n < 2)
        return error_set(e, path, "Give examples of two labels at least",
                         "all examples have the label \"%.100s\"", labels->names[0]);
    return labels_sort(labels, path, e);
}

bool labels_collect(Labels *labels, const Examples *x, const char *path, Error *e) {
    *labels = (Labels){.names = calloc(LABELS_MAX, sizeof *labels->names)};
    const Example **sorted = malloc((size_t)x->n * sizeof *sorted);
    CHECK(labels->names && sorted, "no memory for the labels of %" PRId64 " examples", x->n);
    for (int64_t i = 0; i < x->n; i++) sorted[i] = &x->items[i];
    qsort(sorted, (size_t)x->n, sizeof *sorted, compare_labels);
    const bool good = collect_sorted(labels, sorted, x->n, path, e);
    free(sorted);
    if (!good) labels_free(labels);
    return good;
}
