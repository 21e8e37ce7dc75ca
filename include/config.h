/* Settings: one row of options.def each. The table makes the struct, the parser, `--help`, config
 * files, the printed settings and the checkpoint's record, so they cannot disagree.
 *
 * Order of sources: defaults < preset < config file < flags. */
#pragma once
#include "base.h"
#include <stdio.h>

/* Which subcommands take an option: a bit each. */
enum {
    CMD_TRAIN = 1,
    CMD_GENERATE = 2,
    CMD_EVAL = 4,
    CMD_TOKENIZE = 8,
    CMD_INFO = 16,
    CMD_BENCH = 32,
    CMD_PLOT = 64,
    CMD_EMBED = 128,
    CMD_CLASSIFY = 256,
    CMD_ALL = 511
};

/* What a change of the option on resume means. */
typedef enum OptionKind {
    OPTION_MODEL,    /* part of the model: a changed value is an error on resume */
    OPTION_SCHEDULE, /* part of the training recipe: a changed value needs --override */
    OPTION_RUN,      /* how and where it runs: free to change */
    OPTION_ACTION    /* this call only: never recorded (--dry-run, --fresh, --prompt) */
} OptionKind;

typedef enum OptionType { TYPE_BOOL, TYPE_INT, TYPE_FLOAT, TYPE_STRING } OptionType;

enum { OPTION_STRING_MAX = 1024 };

/* C types of the four option types. Strings are fixed arrays, so Options can be copied by `=`. */
typedef bool option_BOOL;
typedef int64_t option_INT;
typedef double option_FLOAT;
typedef char option_STRING[OPTION_STRING_MAX];

typedef struct Options {
#define OPTION(type, name, ...) option_##type name;
#include "options.def"
#undef OPTION
} Options;

typedef struct OptionRow {
    OptionType type;
    const char *name; /* with '_', where flags have '-' */
    OptionKind kind;
    int commands;            /* CMD_ bits */
    const char *group;       /* heading in the help */
    const char *initial;     /* default, as text */
    double minimum, maximum; /* INT and FLOAT: inclusive range */
    const char *choices;     /* STRING: "a|b|c", or NULL for any */
    const char *help;
    size_t offset; /* in Options */
} OptionRow;

extern const OptionRow option_rows[];
extern const int n_option_rows;

/* Where an option's value came from. */
typedef enum OptionSource { FROM_DEFAULT, FROM_PRESET, FROM_FILE, FROM_FLAG } OptionSource;

typedef struct Settings {
    Options options;
    uint8_t source[256]; /* OptionSource of each row */
    /* Arguments that are no options, in order, as argv has them; all values of --input too. */
    const char *positional[256];
    int n_positional;
} Settings;

/* Defaults, then --preset, then --config, then the flags. Sets *help if -h or --help was given
 * (then nothing else is checked). argv[0] is skipped. Misuse: unknown option (the nearest is
 * named), one of another command, a missing or unreadable value, a value out of range or not among
 * the choices. Sets the log level by --quiet and --verbose. */
bool options_parse(Settings *s, int command, int argc, char **argv, bool *help, Error *e);
void options_defaults(Settings *s);
/* Sets one option from text. `place` says where the text stood (a flag, FILE:LINE). */
bool options_set(Settings *s, const char *name, const char *value, OptionSource source,
                 const char *place, Error *e);
/* Row by name ('_' equals '-'), or NULL. */
const OptionRow *options_find(const char *name);
/* A row's name as a flag has it: '-' for '_', without leading dashes. Returns `flag`. */
enum { OPTIONS_NAME_MAX = 64 };
const char *options_flag(char flag[OPTIONS_NAME_MAX], const char *name);
/* The same with the dashes, for the place of an Error. */
enum { OPTIONS_DASHED_MAX = 2 + OPTIONS_NAME_MAX };
const char *options_dashed(char flag[OPTIONS_DASHED_MAX], const char *name);
/* Value of a row as text that options_set reads back to the same value. */
void options_value(const Options *o, const OptionRow *row, char *text, size_t size);
/* Number of a value among the choices of an option, in the order of options.def, which is that of
 * the enum it stands for; -1: none of them. And the way back. `name` must be an option with
 * choices. */
int options_choice(const char *name, const char *value);
const char *options_choice_text(const char *name, int number, char *text, size_t size);
/* Whether both have the same value in this row. */
bool options_equal(const Options *a, const Options *b, const OptionRow *row);
/* `name` must be an option's. */
OptionSource options_source(const Settings *s, const char *name);
/* The known name nearest to an unknown one (edit distance), or NULL if none is near. `names` ends
 * with NULL. */
const char *options_nearest(const char *unknown, const char *const *names);

/* Flat TOML: `key = value`, # comments, bare or quoted values, [section] lines refused. Only
 * options of kind MODEL, SCHEDULE and RUN. An unknown key is an error at FILE:LINE. */
bool options_read_file(Settings *s, const char *path, Error *e);
/* The same, from memory; `name` stands in for the path in errors. */
bool options_read_text(Settings *s, const char *name, const char *text, size_t bytes, Error *e);
/* Writes what options_read_file reads; every recorded row of `command`, grouped. */
void options_write_file(const Options *o, int command, FILE *out);
/* The help of one command: groups, types, defaults, ranges. */
void options_help(int command, FILE *out);

/* "80G", "900M" or "123456": bytes, in powers of 1000. `place` is the flag. */
bool options_bytes(const char *text, const char *place, int64_t *bytes, Error *e);

/* Presets: named sets of option values (host/core/presets.c). The option `preset` itself stays as
 * it is: the caller records the name. Misuse: no such preset (the nearest is named). */
bool preset_apply(Settings *s, const char *name, Error *e);
/* A line each: name and help. */
void preset_list(FILE *out);
/* Name of preset `number`, from 0; NULL behind the last. */
const char *preset_name(int number);
