#include "output.h"
#include "checkpoint.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

bool output_check(const Options *o, const char *end, Error *e) {
    char hint[64];
    snprintf(hint, sizeof hint, "Give a file that ends with %s", end);
    if (!o->output[0]) return error_misuse(e, "--output", hint, "no file is named");
    if (!ends_with(o->output, end))
        return error_misuse(e, "--output", hint, "%s is no name for this file", o->output);
    if (o->replace || access(o->output, F_OK) != 0) return true;
    return error_set(e, o->output, "Give another name, or --replace", "the file is there already");
}

void output_begin(Output *out) {
    *out = (Output){0};
    out->file = open_memstream(&out->text, &out->bytes);
    CHECK(out->file, "no memory for a file");
}

bool output_end(Output *out, bool ok, const char *path, Error *e) {
    CHECK(fclose(out->file) == 0, "no memory for %s", path);
    ok = ok && file_write_atomic(path, out->text, (int64_t)out->bytes, e);
    free(out->text);
    return ok;
}
