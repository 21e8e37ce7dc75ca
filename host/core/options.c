/* The options table: values from text and back. The command line is in options_parse.c, config
 * files in options_file.c, the help in options_help.c. */
#include "options.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const OptionRow option_rows[] = {
#define OPTION(type, name, ...) {TYPE_##type, #name, __VA_ARGS__, offsetof(Options, name)},
#include "options.def"
#undef OPTION
};
const int n_option_rows = (int)COUNT_OF(option_rows);
_Static_assert(COUNT_OF(option_rows) <= 256, "Settings.source has one byte a row");

static bool parse_bool(const OptionRow *row, void *field, const char *value, const char *place,
                       Error *e) {
    const bool yes = !strcmp(value, "true");
    char quoted[OPTIONS_QUOTE_MAX], flag[OPTIONS_NAME_MAX];
    if (!yes && strcmp(value, "false") != 0)
        return error_misuse(e, place, NULL, "%s must be true or false, not \"%s\"",
                            options_flag(flag, row->name), options_quote(quoted, value));
    *(option_BOOL *)field = yes;
    return true;
}

static bool refuse_number(const OptionRow *row, const char *value, const char *place, Error *e) {
    char quoted[OPTIONS_QUOTE_MAX], flag[OPTIONS_NAME_MAX];
    return error_misuse(e, place, NULL, "%s must be a %snumber from %.10g to %.10g, not \"%s\"",
                        options_flag(flag, row->name), row->type == TYPE_INT ? "whole " : "",
                        row->minimum, row->maximum, options_quote(quoted, value));
}

/* strtoll and strtod also take leading spaces, hexadecimal, "inf" and "nan": the characters allowed
 * here leave decimal numbers only. A number beyond the type's range is out of the row's range
 * too. */
static bool parse_int(const OptionRow *row, void *field, const char *value, const char *place,
                      Error *e) {
    char *end;
    const long long number = strtoll(value, &end, 10);
    if (!*value || *end || strspn(value, "+-0123456789") != strlen(value) ||
        (double)number < row->minimum || (double)number > row->maximum)
        return refuse_number(row, value, place, e);
    *(option_INT *)field = number;
    return true;
}

static bool parse_float(const OptionRow *row, void *field, const char *value, const char *place,
                        Error *e) {
    char *end;
    const double number = strtod(value, &end);
    if (!*value || *end || strspn(value, "+-.eE0123456789") != strlen(value) ||
        !(number >= row->minimum && number <= row->maximum))
        return refuse_number(row, value, place, e);
    *(option_FLOAT *)field = number;
    return true;
}

/* Number of the value in the list "a|b|c"; -1: not there. */
static int find_choice(const char *choices, const char *value) {
    const size_t n = strlen(value);
    int number = 0;
    for (const char *at = choices; at; at = strchr(at, '|'), number++) {
        at += *at == '|';
        if (strcspn(at, "|") == n && !strncmp(at, value, n)) return number;
    }
    return -1;
}

static const char *choices_of(const char *name) {
    const OptionRow *row = options_find(name);
    CHECK(row && row->choices, "%s is no option with choices", name);
    return row->choices;
}

int options_choice(const char *name, const char *value) {
    return find_choice(choices_of(name), value);
}

const char *options_choice_text(const char *name, int number, char *text, size_t size) {
    const char *at = choices_of(name);
    for (int i = 0; i < number; i++) {
        at = strchr(at, '|');
        CHECK(at, "%s has no choice %d", name, number);
        at++;
    }
    snprintf(text, size, "%.*s", (int)strcspn(at, "|"), at);
    return text;
}

static bool parse_string(const OptionRow *row, void *field, const char *value, const char *place,
                         Error *e) {
    char quoted[OPTIONS_QUOTE_MAX], flag[OPTIONS_NAME_MAX];
    if (row->choices && find_choice(row->choices, value) < 0)
        return error_misuse(e, place, NULL, "%s must be one of %s, not \"%s\"",
                            options_flag(flag, row->name), row->choices,
                            options_quote(quoted, value));
    if (strlen(value) >= OPTION_STRING_MAX)
        return error_misuse(e, place, NULL, "the value of %s is longer than %d bytes",
                            options_flag(flag, row->name), OPTION_STRING_MAX - 1);
    strcpy(field, value);
    return true;
}

static bool unknown_option(const char *name, const char *place, Error *e) {
    const char *names[COUNT_OF(option_rows) + 1] = {NULL};
    int n = 0;
    for (int i = 0; i < n_option_rows; i++)
        if (option_rows[i].kind != OPTION_ACTION) names[n++] = option_rows[i].name;
    char quoted[OPTIONS_QUOTE_MAX], hint[OPTIONS_HINT_MAX];
    options_hint(hint, "", name, names, "`puck help train` lists the options");
    return error_misuse(e, place, hint, "there is no option \"%s\"", options_quote(quoted, name));
}

bool options_set(Settings *s, const char *name, const char *value, OptionSource source,
                 const char *place, Error *e) {
    const OptionRow *row = options_find(name);
    if (!row) return unknown_option(name, place, e);
    static bool (*const parse[])(const OptionRow *, void *, const char *, const char *,
                                 Error *) = {[TYPE_BOOL] = parse_bool,
                                             [TYPE_INT] = parse_int,
                                             [TYPE_FLOAT] = parse_float,
                                             [TYPE_STRING] = parse_string};
    if (!parse[row->type](row, (char *)&s->options + row->offset, value, place, e)) return false;
    s->source[row - option_rows] = (uint8_t)source;
    return true;
}

void options_defaults(Settings *s) {
    *s = (Settings){0};
    for (int i = 0; i < n_option_rows; i++) {
        Error e;
        const OptionRow *row = &option_rows[i];
        CHECK(options_set(s, row->name, row->initial, FROM_DEFAULT, row->name, &e), "%s", e.text);
    }
}

OptionSource options_source(const Settings *s, const char *name) {
    const OptionRow *row = options_find(name);
    CHECK(row, "there is no option %s", name);
    return (OptionSource)s->source[row - option_rows];
}

static const void *field_of(const Options *o, const OptionRow *row) {
    return (const char *)o + row->offset;
}

void options_value(const Options *o, const OptionRow *row, char *text, size_t size) {
    const void *field = field_of(o, row);
    switch (row->type) {
    case TYPE_BOOL:
        snprintf(text, size, "%s", *(const option_BOOL *)field ? "true" : "false");
        return;
    case TYPE_INT: snprintf(text, size, "%lld", (long long)*(const option_INT *)field); return;
    case TYPE_STRING: snprintf(text, size, "%s", (const char *)field); return;
    case TYPE_FLOAT: {
        const double number = *(const option_FLOAT *)field;
        /* 17 digits always read back to the same bits; most values need fewer. */
        for (int digits = 9; digits <= 17; digits++) {
            snprintf(text, size, "%.*g", digits, number);
            if (strtod(text, NULL) == number) return;
        }
        return;
    }
    }
}

bool options_equal(const Options *a, const Options *b, const OptionRow *row) {
    const void *x = field_of(a, row), *y = field_of(b, row);
    switch (row->type) {
    case TYPE_BOOL: return *(const option_BOOL *)x == *(const option_BOOL *)y;
    case TYPE_INT: return *(const option_INT *)x == *(const option_INT *)y;
    case TYPE_FLOAT: return *(const option_FLOAT *)x == *(const option_FLOAT *)y;
    case TYPE_STRING: return !strcmp(x, y);
    }
    return false;
}

bool options_bytes(const char *text, const char *place, int64_t *bytes, Error *e) {
    static const char units[] = "KMGT";
    char *end, quoted[OPTIONS_QUOTE_MAX];
    double number = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    const size_t digits = strspn(text, ".0123456789");
    if (unit) number *= pow(1000, (double)(unit - units) + 1);
    if (!digits || text + digits != end || (*end && (!unit || end[1])) ||
        !(number >= 1 && number < 0x1p62))
        return error_misuse(e, place, NULL, "\"%s\" is no size of memory such as 80G or 900M",
                            options_quote(quoted, text));
    *bytes = (int64_t)number;
    return true;
}
