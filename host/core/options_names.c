/* Names of options: spellings, and the nearest known one to a wrong one. */
#include "options.h"
#include <stdio.h>
#include <string.h>

static const char *const command_names[] = {"train", "generate", "eval",  "tokenize", "info",
                                            "bench", "plot",     "embed", "classify"};

const char *options_command_name(int command) {
    for (int i = 0; i < COUNT_OF(command_names); i++)
        if (command == 1 << i) return command_names[i];
    CHECK(false, "%d is no command", command);
    return NULL;
}

const OptionRow *options_find_bytes(const char *name, size_t n) {
    for (int i = 0; i < n_option_rows; i++) {
        const char *known = option_rows[i].name;
        size_t same = 0;
        while (same < n && known[same] == (name[same] == '-' ? '_' : name[same])) same++;
        if (same == n && known[n] == '\0') return &option_rows[i];
    }
    return NULL;
}

const OptionRow *options_find(const char *name) { return options_find_bytes(name, strlen(name)); }

const char *options_flag(char flag[OPTIONS_NAME_MAX], const char *name) {
    snprintf(flag, OPTIONS_NAME_MAX, "%s", name);
    for (char *c = flag; *c; c++)
        if (*c == '_') *c = '-';
    return flag;
}

const char *options_dashed(char flag[OPTIONS_DASHED_MAX], const char *name) {
    memcpy(flag, "--", 2);
    options_flag(flag + 2, name);
    return flag;
}

const char *options_quote(char quoted[OPTIONS_QUOTE_MAX], const char *text) {
    size_t n = 0;
    for (; n < OPTIONS_QUOTE_MAX - 4 && text[n]; n++) {
        const unsigned char c = (unsigned char)text[n];
        quoted[n] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    /* Never half a UTF-8 character: step back over its continuation bytes. */
    if (text[n])
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    strcpy(quoted + n, text[n] ? "..." : "");
    return quoted;
}

/* Fewest insertions, deletions and replacements that turn a into b (Wagner and Fischer 1974).
 * Both are shorter than OPTIONS_NAME_MAX. */
static int edit_distance(const char *a, const char *b) {
    int row[OPTIONS_NAME_MAX];
    const int n = (int)strlen(b);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            const int replaced = diagonal + (a[i] != b[j]);
            const int shifted = 1 + (row[j] < row[j + 1] ? row[j] : row[j + 1]);
            diagonal = row[j + 1];
            row[j + 1] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[n];
}

const char *options_nearest(const char *unknown, const char *const *names) {
    char sought[OPTIONS_NAME_MAX], known[OPTIONS_NAME_MAX];
    const size_t n = strlen(unknown);
    if (n == 0 || n >= sizeof sought) return NULL;
    options_flag(sought, unknown);
    const char *best = NULL;
    int best_distance = n < 4 ? 2 : n < 8 ? 3 : 4; /* this far is no longer near */
    for (; *names; names++) {
        options_flag(known, *names);
        /* The beginning of a name is taken for an abbreviation. */
        const bool begins = n >= 3 && !strncmp(known, sought, n);
        const int distance = begins ? 1 : edit_distance(sought, known);
        if (distance >= best_distance) continue;
        best = *names;
        best_distance = distance;
    }
    return best;
}

const char *options_hint(char hint[OPTIONS_HINT_MAX], const char *prefix, const char *unknown,
                         const char *const *names, const char *otherwise) {
    char flag[OPTIONS_NAME_MAX];
    const char *nearest = options_nearest(unknown, names);
    if (nearest)
        snprintf(hint, OPTIONS_HINT_MAX, "Did you mean %s%s?", prefix, options_flag(flag, nearest));
    else
        snprintf(hint, OPTIONS_HINT_MAX, "%s", otherwise);
    return hint;
}
