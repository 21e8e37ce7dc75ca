/* UTF-8, as strict as RFC 3629. */
#pragma once
#include "base.h"

/* Length 1..4 of the character at s and its code point, or 0 if it is not UTF-8 as RFC 3629 has it:
 * no overlong form, no surrogate, nothing beyond U+10FFFF, nothing cut off at `bytes`. */
static inline int utf8_next(const char *s, int64_t bytes, int32_t *code) {
    /* Smallest code point of each length: anything below is overlong. */
    static const int32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t lead = (uint8_t)s[0];
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    const int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC0 || lead >= 0xF8 || length > bytes) return 0;
    int32_t c = lead & (0x7F >> length);
    for (int i = 1; i < length; i++) {
        if (((uint8_t)s[i] & 0xC0) != 0x80) return 0;
        c = c << 6 | ((uint8_t)s[i] & 0x3F);
    }
    if (c < smallest[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return 0;
    *code = c;
    return length;
}

/* A byte at which a character begins, in valid UTF-8. */
static inline bool utf8_starts(char byte) { return ((uint8_t)byte & 0xC0) != 0x80; }

/* Writes a character, returns its length. */
int utf8_write(char *out, int32_t code);
/* Says where in `name` the byte `offset` of `text` stands: "NAME:LINE:COLUMN", columns in
 * characters. */
void utf8_place(char *place, size_t size, const char *name, const char *text, int64_t offset);
/* Of an Error about a text that is line `line` of `name`, and was called by that name: its place
 * becomes "NAME:LINE:COLUMN", or "NAME:LINE" where it names no column. Any other place stays. */
void utf8_place_line(Error *e, const char *name, int64_t line);
/* Fails, with the place and byte offset named, if the text is not UTF-8. */
bool utf8_check(const char *name, const char *text, int64_t bytes, Error *e);
/* The same of text[first .. last), which begins between characters; the place is that in text. */
bool utf8_check_part(const char *name, const char *text, int64_t first, int64_t last, Error *e);
