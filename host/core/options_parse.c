/* The command line: --name value, --name=value, --switch, --no-switch, -p and -n. */
#include "log.h"
#include "options.h"
#include <string.h>

/* Other spellings: short options, and what other programs call it. */
static const struct {
    const char *flag, *name;
} aliases[] = {{"-p", "prompt"},
               {"-n", "tokens"},
               {"--max-new-tokens", "tokens"},
               {"--max_new_tokens", "tokens"}};

/* One flag, taken apart. */
typedef struct Flag {
    const OptionRow *row;
    const char *value;             /* after '=', or NULL */
    bool negated;                  /* --no-NAME */
    char place[OPTIONS_QUOTE_MAX]; /* the flag as written, without its value */
} Flag;

static bool is_flag(const char *argument) { return argument[0] == '-' && argument[1]; }

static Flag split_flag(const char *argument) {
    const size_t n = strcspn(argument, "=");
    Flag f = {.value = argument[n] ? argument + n + 1 : NULL};
    char written[OPTIONS_QUOTE_MAX];
    snprintf(written, sizeof written, "%.*s", (int)n, argument);
    options_quote(f.place, written);
    for (int i = 0; i < COUNT_OF(aliases); i++)
        if (n == strlen(aliases[i].flag) && !strncmp(argument, aliases[i].flag, n))
            f.row = options_find(aliases[i].name);
    if (f.row || strncmp(argument, "--", 2) != 0) return f;
    f.row = options_find_bytes(argument + 2, n - 2);
    if (f.row || (strncmp(argument, "--no-", 5) != 0 && strncmp(argument, "--no_", 5) != 0))
        return f;
    f.row = options_find_bytes(argument + 5, n - 5);
    if (f.row && f.row->type != TYPE_BOOL) f.row = NULL;
    f.negated = f.row != NULL;
    return f;
}

/* Whether the flag's value is the next argument. */
static bool takes_next(const Flag *f) { return f->row && f->row->type != TYPE_BOOL && !f->value; }

static bool asks_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) return true;
        const Flag f = split_flag(argv[i]);
        if (takes_next(&f)) i++;
    }
    return false;
}

static bool unknown_flag(int command, const Flag *f, Error *e) {
    const char *names[256 + 1], *command_name = options_command_name(command);
    int n = 0;
    for (int i = 0; i < n_option_rows; i++)
        if (option_rows[i].commands & command) names[n++] = option_rows[i].name;
    names[n] = NULL;
    char otherwise[OPTIONS_HINT_MAX], hint[OPTIONS_HINT_MAX];
    snprintf(otherwise, sizeof otherwise, "`puck %s --help` lists the options", command_name);
    options_hint(hint, "--", f->place + strspn(f->place, "-"), names, otherwise);
    return error_misuse(e, f->place, hint, "`puck %s` has no such option", command_name);
}

static bool foreign_flag(int command, const Flag *f, Error *e) {
    char hint[OPTIONS_HINT_MAX] = "";
    for (int bit = 1; bit < CMD_ALL; bit <<= 1)
        if (f->row->commands & bit) {
            strcat(hint, hint[0] ? ", puck " : "These take it: puck ");
            strcat(hint, options_command_name(bit));
        }
    return error_misuse(e, f->place, hint, "`puck %s` does not take this option",
                        options_command_name(command));
}

/* The value that a flag stands for; argv[*i] is the flag, or its value afterwards. */
static bool flag_value(int command, Flag *f, int argc, char **argv, int *i, Error *e) {
    if (!f->row) return unknown_flag(command, f, e);
    if (!(f->row->commands & command)) return foreign_flag(command, f, e);
    if (f->row->type == TYPE_BOOL) {
        if (f->negated && f->value)
            return error_misuse(e, f->place, NULL, "a --no- option takes no value");
        if (!f->value) f->value = f->negated ? "false" : "true";
        return true;
    }
    if (f->value) return true;
    /* A flag where a value should be: the value was forgotten. Text such as "-- said he" is one. */
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    if (!next || (is_flag(next) && split_flag(next).row))
        return error_misuse(e, f->place,
                            next ? "A value that looks like a flag goes after a =" : NULL,
                            "this option needs a value");
    f->value = next;
    ++*i;
    return true;
}

static bool add_positional(Settings *s, int command, const char *argument, Error *e) {
    char quoted[OPTIONS_QUOTE_MAX];
    options_quote(quoted, argument);
    if (!(command & (CMD_TOKENIZE | CMD_BENCH | CMD_PLOT | CMD_EMBED)))
        return error_misuse(e, quoted,
                            "Options begin with --, and values with spaces stand in quotes",
                            "`puck %s` takes no such argument", options_command_name(command));
    if (s->n_positional == COUNT_OF(s->positional))
        return error_misuse(e, quoted, "Name a folder instead of its files",
                            "there are more than %d arguments", s->n_positional);
    s->positional[s->n_positional++] = argument;
    return true;
}

/* An empty text where one is needed is most often a variable that was not set. */
static bool refuse_empty(const Flag *f, Error *e) {
    static const char *const may_be_empty[] = {"prompt", "stop", "candidates"};
    if (f->row->type != TYPE_STRING || f->row->choices || f->value[0]) return true;
    for (int i = 0; i < COUNT_OF(may_be_empty); i++)
        if (!strcmp(f->row->name, may_be_empty[i])) return true;
    return error_misuse(e, f->place, "Leave the option out, or give it a value",
                        "the value of this option is empty");
}

/* Sets every flag or, `early`, only --preset and --config, which the others go over. */
static bool read_flags(Settings *s, int command, bool early, int argc, char **argv, Error *e) {
    bool flags_end = false;
    for (int i = 1; i < argc; i++) {
        if (flags_end || !is_flag(argv[i])) {
            if (!early && !add_positional(s, command, argv[i], e)) return false;
            continue;
        }
        if (!strcmp(argv[i], "--")) {
            flags_end = true;
            continue;
        }
        Flag f = split_flag(argv[i]);
        if (!flag_value(command, &f, argc, argv, &i, e)) return false;
        if (!refuse_empty(&f, e)) return false;
        const char *name = f.row->name;
        if (early && strcmp(name, "preset") != 0 && strcmp(name, "config") != 0) continue;
        if (!options_set(s, name, f.value, FROM_FLAG, f.place, e)) return false;
        if (!early && !strcmp(name, "input") && !add_positional(s, command, f.value, e))
            return false;
    }
    return true;
}

bool options_parse(Settings *s, int command, int argc, char **argv, bool *help, Error *e) {
    options_defaults(s);
    *help = asks_help(argc, argv);
    if (*help) return true;
    if (!read_flags(s, command, true, argc, argv, e)) return false;
    if (s->options.preset[0] && !preset_apply(s, s->options.preset, e)) return false;
    if (s->options.config[0] && !options_read_file(s, s->options.config, e)) return false;
    if (!read_flags(s, command, false, argc, argv, e)) return false;
    log_set_level(s->options.quiet ? LOG_WARNING : s->options.verbose ? LOG_DEBUG : LOG_INFO);
    return true;
}
