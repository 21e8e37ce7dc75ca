/* UTF-8: writing a character, naming a place in a text, checking one. */
#include "utf8.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int utf8_write(char *out, int32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = length - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF00 >> length) | code); /* as many leading ones as bytes */
    return length;
}

void utf8_place(char *place, size_t size, const char *name, const char *text, int64_t offset) {
    int64_t line = 1, column = 1;
    for (int64_t i = 0; i < offset; i++) {
        if (text[i] == '\n') {
            line++;
            column = 1;
        } else {
            column += utf8_starts(text[i]);
        }
    }
    snprintf(place, size, "%s:%" PRId64 ":%" PRId64, name, line, column);
}

void utf8_place_line(Error *e, const char *name, int64_t line) {
    const size_t n = strlen(name);
    const char *behind = e->place + n;
    if (strncmp(e->place, name, n) != 0 || (*behind && strncmp(behind, ":1:", 3) != 0)) return;
    char column[32];
    snprintf(column, sizeof column, "%s", *behind ? behind + 2 : "");
    snprintf(e->place, sizeof e->place, "%s:%" PRId64 "%s", name, line, column);
}

bool utf8_check(const char *name, const char *text, int64_t bytes, Error *e) {
    int32_t code;
    for (int64_t i = 0; i < bytes;) {
        uint64_t eight = UINT64_MAX;
        if (bytes - i >= 8) memcpy(&eight, text + i, 8);
        if ((eight & 0x8080808080808080u) == 0) { /* ASCII */
            i += 8;
            continue;
        }
        const int length = utf8_next(text + i, bytes - i, &code);
        if (length == 0) {
            char place[512];
            utf8_place(place, sizeof place, name, text, i);
            return error_set(e, place, "Convert the text to UTF-8, or use --tokenizer byte",
                             "the text is not UTF-8: byte 0x%02x at offset %" PRId64,
                             (unsigned)(uint8_t)text[i], i);
        }
        i += length;
    }
    return true;
}

bool utf8_check_part(const char *name, const char *text, int64_t first, int64_t last, Error *e) {
    if (utf8_check(name, text + first, last - first, e)) return true;
    utf8_check(name, text, last, e); /* what is before is right, so this names the same byte */
    return false;
}
