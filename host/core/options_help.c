/* The help of one command, made from the table. */
#include "options.h"
#include <string.h>

enum { HELP_COLUMN = 30 };

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

/* " [0.8; 0 to 100]": default, then range or choices. */
static void write_values(const OptionRow *row, FILE *out) {
    if (row->type == TYPE_INT || row->type == TYPE_FLOAT)
        fprintf(out, " [%s; %.10g to %.10g]", row->initial, row->minimum, row->maximum);
    else if (row->choices)
        fprintf(out, " [%s; %s]", row->initial, row->choices);
    else if (row->initial[0] && strcmp(row->initial, "false") != 0)
        fprintf(out, " [%s]", row->initial);
}

void options_help(int command, FILE *out) {
    fprintf(out, "usage: puck %s [options]        ([default; range or choices])\n",
            options_command_name(command));
    const char *group = "";
    for (int i = 0; i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (!(row->commands & command)) continue;
        if (strcmp(group, row->group) != 0) fprintf(out, "\n%s\n", row->group);
        group = row->group;
        const int width = write_flag(row, out);
        fprintf(out, "%*s%s", width < HELP_COLUMN ? HELP_COLUMN - width : 1, "", row->help);
        write_values(row, out);
        fputc('\n', out);
    }
    fprintf(out, "  -h, --help%*sthis text\n", HELP_COLUMN - 12, "");
}
