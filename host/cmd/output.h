/* A file that a subcommand writes into --output: made in memory, written when it is whole. */
#pragma once
#include "checkpoint.h"
#include "config.h"
#include <stdio.h>

/* Before any work is done: --output must end with `end` (".svg") and not be there already, unless
 * --replace says that it may. */
bool output_check(const Options *o, const char *end, Error *e);

/* The last of it, for any path. */
bool output_is_free(const Options *o, const char *path, Error *e);

typedef struct Output {
    FILE *file; /* what is written here is the file's content */
    char *text;
    size_t bytes;
} Output;
void output_begin(Output *out);
/* Puts the content into a file at `path` if all went well so far; returns whether it still does. */
bool output_end(Output *out, bool ok, const char *path, Error *e);
/* The same up to file_install. */
bool output_prepare(Output *out, NewFile *file, bool ok, const char *path, Error *e);
