/* Config files: any text is read or refused with a place; what was read is written and read back
 * to the same values. */
#include "config.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Settings first, again;
    Error e = {0};
    options_defaults(&first);
    if (!options_read_text(&first, "fuzz", (const char *)data, size, &e)) {
        CHECK(e.text[0] && !strncmp(e.place, "fuzz:", 5), "\"%s\" at \"%s\"", e.text, e.place);
        return 0;
    }
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    CHECK(out, "no memory");
    options_write_file(&first.options, CMD_ALL, out);
    fclose(out);
    options_defaults(&again);
    CHECK(options_read_text(&again, "again", text, bytes, &e), "%s (%s) of\n%s", e.text, e.place,
          text);
    for (int i = 0; i < n_option_rows; i++)
        CHECK(options_equal(&first.options, &again.options, &option_rows[i]), "%s differs in\n%s",
              option_rows[i].name, text);
    free(text);
    return 0;
}
