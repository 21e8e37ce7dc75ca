#include "output.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

bool output_is_free(const Options *o, const char *path, Error *e) {
    struct stat there;
    if (stat(path, &there) != 0) return true;
    if (S_ISDIR(there.st_mode))
        return error_set(e, path, "Give another name", "a folder has this name");
    return o->replace ||
           error_set(e, path, "Give another name, or --replace", "the file is there already");
}

bool output_check(const Options *o, const char *end, Error *e) {
    char hint[64];
    snprintf(hint, sizeof hint, "Give a file that ends with %s", end);
    if (!o->output[0]) return error_misuse(e, "--output", hint, "no file is named");
    if (!ends_with(o->output, end))
        return error_misuse(e, "--output", hint, "%s is no name for this file", o->output);
    return output_is_free(o, o->output, e);
}

void output_begin(Output *out) {
    *out = (Output){0};
    out->file = open_memstream(&out->text, &out->bytes);
    CHECK(out->file, "no memory for a file");
}

bool output_prepare(Output *out, NewFile *file, bool ok, const char *path, Error *e) {
    CHECK(fclose(out->file) == 0, "no memory for %s", path);
    ok = ok && file_prepare(file, path, out->text, (int64_t)out->bytes, e);
    free(out->text);
    return ok;
}

bool output_end(Output *out, bool ok, const char *path, Error *e) {
    NewFile file;
    return output_prepare(out, &file, ok, path, e) && file_install(&file, true, e);
}
