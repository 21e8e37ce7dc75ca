/* Config files: options as flat TOML. */
#include "toml.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Sets the entries whose key is (or is not) `preset`: a preset goes under the other lines of the
 * file, wherever its own line stands. */
static bool set_entries(Settings *s, TomlReader r, bool presets, Error *e) {
    bool seen[256] = {false};
    for (;;) {
        TomlEntry entry;
        bool end;
        if (!toml_next(&r, &entry, &end, e)) return false;
        if (end) return true;
        const OptionRow *row = options_find(entry.key);
        if (row && (strcmp(row->name, "preset") == 0) != presets) continue;
        if (!row && presets) continue;
        if (row && row->kind == OPTION_ACTION)
            return error_misuse(e, entry.place, "Give it on the command line",
                                "%s is no setting of a run", entry.key);
        if (row && seen[row - option_rows])
            return error_misuse(e, entry.place, "Remove one of the lines", "%s is set twice",
                                entry.key);
        if (row) seen[row - option_rows] = true;
        /* A preset that a flag named wins over the file's. */
        if (presets && options_source(s, "preset") == FROM_FLAG) continue;
        if (!options_set(s, entry.key, entry.value, FROM_FILE, entry.place, e)) return false;
        if (presets && entry.value[0] && !preset_apply(s, entry.value, e)) {
            memcpy(e->place, entry.place, sizeof entry.place);
            return false;
        }
    }
}

bool options_read_text(Settings *s, const char *name, const char *text, size_t bytes, Error *e) {
    const TomlReader r = toml_start(name, text, bytes);
    return set_entries(s, r, true, e) && set_entries(s, r, false, e);
}

bool options_read_file(Settings *s, const char *path, Error *e) {
    enum { BYTES_MAX = 1 << 20 }; /* far more than all options of longest text: not a config file */
    const char *hint = "A config file has `key = value` lines";
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &info) != 0 || S_ISDIR(info.st_mode)) {
        const int error = file ? EISDIR : errno;
        if (file) fclose(file);
        return error_set(e, path, hint, "the config file cannot be read: %s", strerror(error));
    }
    char *text = malloc(BYTES_MAX + 1);
    CHECK(text, "no memory for a config file");
    const size_t bytes = fread(text, 1, BYTES_MAX + 1, file);
    bool ok = !ferror(file) && bytes <= BYTES_MAX;
    if (ok)
        ok = options_read_text(s, path, text, bytes, e);
    else
        error_set(e, path, hint, "the config file cannot be read: %s",
                  ferror(file) ? strerror(errno) : "it is larger than 1 MiB");
    fclose(file);
    free(text);
    return ok;
}

void options_write_file(const Options *o, int command, FILE *out) {
    const char *group = "";
    for (int i = 0; i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (!(row->commands & command) || row->kind == OPTION_ACTION) continue;
        if (strcmp(group, row->group) != 0)
            fprintf(out, "%s# %s\n", *group ? "\n" : "", row->group);
        group = row->group;
        char text[OPTION_STRING_MAX];
        options_value(o, row, text, sizeof text);
        fprintf(out, "%s = ", row->name);
        if (row->type == TYPE_STRING)
            toml_write_string(text, out);
        else
            fputs(text, out);
        fputc('\n', out);
    }
}
