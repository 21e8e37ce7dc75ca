/* Labelled texts: what --task classify learns from. */
#pragma once
#include "base.h"

typedef struct Example {
    const char *text, *label; /* UTF-8 without NUL, not empty; in Examples.memory */
    int64_t line;             /* of the file, from 1 */
} Example;

typedef struct Examples {
    Example *items;
    int64_t n;
    char *memory;
} Examples;

/* Reads a file with an example a line: "text TAB label", or, if the name ends in .jsonl, a JSON
 * object with these two fields, the second of which may also be an integer. Fails, FILE:LINE named,
 * on a line that is no example, on NUL and invalid UTF-8, and on a file without a line. */
bool examples_read(Examples *x, const char *path, const char *text_field, const char *label_field,
                   Error *e);
void examples_free(Examples *x);
/* Whether a file of examples or pairs is one of JSON objects: its name ends in .jsonl. */
bool examples_are_json(const char *path);

/* The classes: number i is called names[i]. What stands in a name before a slash is its kind: a
 * model learns to tell "tragedy/hamlet" from "tragedy/macbeth", and is asked for the kind alone. */
enum { LABELS_MAX = 1000 };
typedef struct Labels {
    char **names;  /* (n) */
    char **kinds;  /* (n_kinds), in the order of the names */
    int32_t *kind; /* (n): number of each name's kind */
    int32_t n, n_kinds;
    double *shares; /* of the tokens learnt from, see classify.h; NULL: not known */
} Labels;

/* All labels of the examples, sorted by their bytes. Fails if there are fewer than two kinds, or
 * more than LABELS_MAX labels, or if one has a single example (named). */
bool labels_collect(Labels *labels, const Examples *x, const char *path, Error *e);
/* Finds the kinds of the names; fails, `path` named, if there are fewer than two. */
bool labels_sort(Labels *labels, const char *path, Error *e);
/* A label's number; of one that is not known, but its kind, that of another of this kind: they are
 * scored alike. Else -1. */
int32_t labels_find(const Labels *labels, const char *name);
/* labels.json of a data folder or a checkpoint: {"labels": [...], "shares": [...]}, the second in
 * a checkpoint alone. A folder without the file has no labels. */
bool labels_read(Labels *labels, const char *folder, Error *e);
bool labels_write(const Labels *labels, const char *folder, Error *e);
void labels_free(Labels *labels);
