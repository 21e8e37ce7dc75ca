/* The help of one command, made from the table. */
#include "options.h"
#include <string.h>

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

/* "  -p, --prompt TEXT": returns the width. */
static int write_flag(const OptionRow *row, FILE *out) {
    char flag[OPTIONS_NAME_MAX];
    options_flag(flag, row->name);
    const char *shorter = !strcmp(flag, "prompt") ? "-p, " : !strcmp(flag, "tokens") ? "-n, " : "";
    if (row->type == TYPE_BOOL)
        return fprintf(out, "  --%s%s", strcmp(row->initial, "true") ? "" : "[no-]", flag);
    static const char *const argument[] = {
        [TYPE_BOOL] = "", [TYPE_INT] = "N", [TYPE_FLOAT] = "X", [TYPE_STRING] = "TEXT"};
    return fprintf(out, "  %s--%s %s", shorter, flag, argument[row->type]);
}

/* "[0.8; 0 to 100]": default, then range or choices. */
static void values_text(const OptionRow *row, char *text, size_t size) {
    *text = '\0';
    if (row->type == TYPE_INT || row->type == TYPE_FLOAT)
        snprintf(text, size, "[%s; %.10g to %.10g]", row->initial, row->minimum, row->maximum);
    else if (row->choices)
        snprintf(text, size, "[%s; %s]", row->initial, row->choices);
    else if (row->initial[0] && strcmp(row->initial, "false") != 0)
        snprintf(text, size, "[%s]", row->initial);
}

static void write_row(const OptionRow *row, FILE *out) {
    char values[128];
    values_text(row, values, sizeof values);
    int width = write_flag(row, out);
    if (width < HELP_COLUMN) width += fprintf(out, "%*s", HELP_COLUMN - width, "");
    width += fprintf(out, "%s", row->help);
    if (*values && width + 1 + (int)strlen(values) > HELP_WIDTH)
        fprintf(out, "\n%*s", HELP_COLUMN - 1, "");
    fprintf(out, "%s%s\n", *values ? " " : "", values);
}

/* What a command needs besides options, or which of them. */
static const struct {
    int command;
    const char *usage;
} usages[] = {{CMD_TRAIN, "--data TEXT.txt --run RUN"},
              {CMD_GENERATE, "--from RUN --prompt TEXT"},
              {CMD_EVAL, "--from RUN --data TEXT.txt"},
              {CMD_TOKENIZE, "--input FILE... --output FOLDER"},
              {CMD_TOKENIZE, "--input FILE... --show|--stats"},
              {CMD_INFO, "[--from RUN | --preset NAME]"},
              {CMD_BENCH, "ops|step|decode|feed|comm"},
              {CMD_PLOT, "RUN... --output FILE.svg"},
              {CMD_PLOT, "--from RUN --attention TEXT --output FILE.html"},
              {CMD_EMBED, "nearest WORD --from RUN"},
              {CMD_EMBED, "similar WORD WORD --from RUN"},
              {CMD_EMBED, "analogy MAN KING WOMAN --from RUN"},
              {CMD_EMBED, "odd WORD WORD WORD... --from RUN"},
              {CMD_EMBED, "map [WORD...] --from RUN --output FILE.svg"},
              {CMD_EMBED, "export --from RUN --output FOLDER"},
              {CMD_CLASSIFY, "--from RUN <FILE, a text a line"}};

void options_help(int command, FILE *out) {
    const char *begin = "usage:";
    for (int i = 0; i < COUNT_OF(usages); i++) {
        if (usages[i].command != command) continue;
        fprintf(out, "%s puck %s %s\n", begin, options_command_name(command), usages[i].usage);
        begin = "      ";
    }
    fprintf(out, "\nOptions, with [default; range or choices]:\n");
    const char *group = "";
    for (int i = 0; i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (!(row->commands & command)) continue;
        if (strcmp(group, row->group) != 0) fprintf(out, "\n%s\n", row->group);
        group = row->group;
        write_row(row, out);
    }
    fprintf(out, "  -h, --help%*sthis text\n", HELP_COLUMN - 12, "");
}
