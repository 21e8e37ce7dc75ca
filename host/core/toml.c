/* The flat part of TOML: see toml.h. */
#include "toml.h"
#include "utf8.h"
#include <string.h>

/* One line while it is taken apart. */
typedef struct Cursor {
    const char *at, *end;
} Cursor;

static bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }

static bool is_key(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* Ends a bare word: what would start a comment, a string, a list or a table, and white space. */
static bool ends_bare(unsigned char c) {
    return is_control(c) || memchr(" #\"'[]{}", c, 8) != NULL;
}

static void skip_spaces(Cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t')) c->at++;
}

static bool at_end(const Cursor *c) { return c->at == c->end || *c->at == '#'; }

/* Appends `n` bytes and keeps the value NUL-terminated. */
static bool append(TomlEntry *entry, size_t *length, const char *bytes, size_t n, Error *e) {
    if (*length + n >= sizeof entry->value)
        return error_misuse(e, entry->place, NULL, "the value of %s is longer than %zu bytes",
                            entry->key, sizeof entry->value - 1);
    memcpy(entry->value + *length, bytes, n);
    *length += n;
    entry->value[*length] = '\0';
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* \uXXXX or \UXXXXXXXX, the cursor behind the letter, as UTF-8. Zero would end a C string. */
static bool read_code_point(Cursor *c, int n_digits, char utf8[4], size_t *n) {
    uint32_t code = 0;
    for (int i = 0; i < n_digits; i++) {
        const int digit = c->at < c->end ? hex_digit(*c->at++) : -1;
        if (digit < 0) return false;
        code = code << 4 | (uint32_t)digit;
    }
    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    *n = (size_t)utf8_write(utf8, (int32_t)code);
    return true;
}

static bool read_escape(Cursor *c, char out[4], size_t *n) {
    static const char letter[] = "btnfr\"\\", meaning[] = "\b\t\n\f\r\"\\";
    if (c->at == c->end) return false;
    const char kind = *c->at++;
    if (kind == 'u' || kind == 'U') return read_code_point(c, kind == 'u' ? 4 : 8, out, n);
    const char *found = kind ? strchr(letter, kind) : NULL;
    if (!found) return false;
    out[0] = meaning[found - letter];
    *n = 1;
    return true;
}

/* A "basic" or 'literal' string; the cursor stands on its first quote. */
static bool read_string(Cursor *c, TomlEntry *entry, Error *e) {
    const char quote = *c->at++;
    size_t length = 0;
    while (c->at < c->end && *c->at != quote) {
        char bytes[4] = {*c->at++};
        size_t n = 1;
        if (bytes[0] == '\\' && quote == '"') {
            if (!read_escape(c, bytes, &n))
                return error_misuse(e, entry->place, "Write a backslash as \\\\",
                                    "the value of %s has an escape that TOML does not know",
                                    entry->key);
        } else if (is_control((unsigned char)bytes[0]) && bytes[0] != '\t') {
            return error_misuse(e, entry->place, "Write it as \\uXXXX",
                                "the value of %s has a control character in it", entry->key);
        }
        if (!append(entry, &length, bytes, n, e)) return false;
    }
    if (c->at == c->end)
        return error_misuse(e, entry->place, NULL, "the value of %s has no closing quote",
                            entry->key);
    c->at++;
    return true;
}

static bool read_line(Cursor c, TomlEntry *entry, Error *e) {
    const char *const form = "A line is `key = value`, and values with spaces stand in quotes";
    if (*c.at == '[') return error_misuse(e, entry->place, form, "config files have no sections");
    size_t n = 0;
    while (c.at < c.end && is_key((unsigned char)*c.at)) {
        if (n + 1 == sizeof entry->key)
            return error_misuse(e, entry->place, form, "the key is too long to be one");
        entry->key[n++] = *c.at++;
    }
    entry->key[n] = '\0';
    skip_spaces(&c);
    if (n == 0 || c.at == c.end || *c.at++ != '=')
        return error_misuse(e, entry->place, form, "this is no `key = value` line");
    skip_spaces(&c);
    if (at_end(&c)) return error_misuse(e, entry->place, form, "%s has no value", entry->key);
    if (*c.at == '"' || *c.at == '\'') {
        if (!read_string(&c, entry, e)) return false;
    } else {
        const char *start = c.at;
        while (c.at < c.end && !ends_bare((unsigned char)*c.at)) c.at++;
        size_t length = 0;
        if (!append(entry, &length, start, (size_t)(c.at - start), e)) return false;
    }
    skip_spaces(&c);
    if (!at_end(&c))
        return error_misuse(e, entry->place, form, "the line goes on after the value of %s",
                            entry->key);
    return true;
}

TomlReader toml_start(const char *name, const char *text, size_t bytes) {
    /* Editors of some systems put a byte order mark first. */
    const size_t mark = bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
    return (TomlReader){.name = name, .at = text + mark, .end = text + bytes};
}

bool toml_next(TomlReader *r, TomlEntry *entry, bool *end, Error *e) {
    entry->key[0] = entry->value[0] = '\0';
    *end = false;
    while (r->at < r->end) {
        const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
        Cursor c = {r->at, newline ? newline : r->end};
        r->at = newline ? newline + 1 : r->end;
        r->line++;
        if (newline && c.end > c.at && c.end[-1] == '\r') c.end--;
        snprintf(entry->place, sizeof entry->place, "%s:%d", r->name, r->line);
        skip_spaces(&c);
        if (!at_end(&c)) return read_line(c, entry, e);
    }
    *end = true;
    return true;
}

void toml_write_string(const char *text, FILE *out) {
    fputc('"', out);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (is_control(c))
            fprintf(out, "\\u%04X", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}
