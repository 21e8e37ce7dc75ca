#include "show.h"
#include <string.h>

/* Length of the character that n > 0 bytes begin with; 0 if unfinished, -1 if they begin none. */
static int character_length(const unsigned char *p, int64_t n) {
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return -1;
    const int length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    for (int i = 1; i < length; i++) {
        if (i == n) return 0;
        /* The second byte's range also rules out overlong forms, surrogates, and above U+10FFFF. */
        const int low = i > 1 ? 0x80 : p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
        const int high = i > 1 ? 0xBF : p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
        if (p[i] < low || p[i] > high) return -1;
    }
    return length;
}

static const char replacement[] = "\xEF\xBF\xBD";

void show_byte(Utf8Writer *w, unsigned char byte) {
    w->held[w->n_held++] = byte;
    const int length = character_length(w->held, w->n_held);
    if (length > 0) {
        fwrite(w->held, 1, (size_t)length, w->out);
        w->n_held = 0;
    } else if (length < 0) {
        const bool had_begun = w->n_held > 1; /* then this byte begins anew */
        fputs(replacement, w->out);
        w->n_held = 0;
        if (had_begun) show_byte(w, byte);
    }
}

void show_finish(Utf8Writer *w) {
    if (w->n_held) fputs(replacement, w->out);
    w->n_held = 0;
}

/* Escapes what `special` holds as a backslash and the letter in the same place of `letter`. */
static void escape(FILE *out, const char *text, int64_t bytes, const char *special,
                   const char *letter) {
    const unsigned char *p = (const unsigned char *)text;
    for (int64_t i = 0; i < bytes;) {
        const int length = character_length(p + i, bytes - i);
        const char *found = p[i] ? strchr(special, p[i]) : NULL;
        if (found)
            fprintf(out, "\\%c", letter[found - special]);
        else if (length <= 0 || p[i] < 0x20 || p[i] == 0x7F)
            fprintf(out, "\\x%02x", p[i]);
        else if (p[i] == 0xC2 && p[i + 1] < 0xA0) /* U+0080 to U+009F are control characters */
            fprintf(out, "\\u%04x", p[i + 1]);
        else
            fwrite(p + i, 1, (size_t)length, out);
        i += length > 0 ? length : 1;
    }
}

void show_quoted(FILE *out, const char *text, int64_t bytes) {
    putc('\'', out);
    escape(out, text, bytes, "\n\t\r\\'", "ntr\\'");
    putc('\'', out);
}

char *show_text(const Tokenizer *t, int32_t id) {
    char *shown = NULL;
    size_t n;
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    FILE *memory = open_memstream(&shown, &n);
    CHECK(memory, "no memory for a token");
    escape(memory, text, bytes, "\n\t\r\\", "ntr\\");
    CHECK(fclose(memory) == 0, "no memory for a token");
    return shown;
}
