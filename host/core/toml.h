/* The flat part of TOML that config files use: one `key = value` a line, # comments. Values are
 * basic strings "..." with TOML's escapes, literal strings '...', or bare words without spaces
 * (numbers, true, false, plain names). No sections, lists or tables. Private to host/core. */
#pragma once
#include "config.h"

typedef struct TomlReader {
    const char *name; /* of the text, in errors */
    const char *at, *end;
    int line; /* of the entry last read, from 1 */
} TomlReader;

typedef struct TomlEntry {
    char key[64];
    char value[OPTION_STRING_MAX];
    char place[512]; /* NAME:LINE */
} TomlEntry;

TomlReader toml_start(const char *name, const char *text, size_t bytes);
/* Reads the next entry. *end is true, and the entry empty, when there is none left. */
bool toml_next(TomlReader *r, TomlEntry *entry, bool *end, Error *e);
/* A basic string, quotes included, that toml_next reads back to the same bytes. */
void toml_write_string(const char *text, FILE *out);
