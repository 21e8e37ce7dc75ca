/* Special tokens: each is one wherever its text stands, before anything is split. */
#include "text.h"
#include <stdlib.h>
#include <string.h>

/* The longest special token that text[at .. last) begins with, or -1. */
static int32_t longest_at(const Tokenizer *t, const char *text, int64_t at, int64_t last) {
    int32_t found = -1, most = 0;
    for (int32_t i = 0; i < t->n_specials; i++) {
        int32_t bytes;
        const char *special = tokenizer_text(t, t->specials[i], &bytes);
        if (bytes <= most || bytes > last - at || memcmp(special, text + at, (size_t)bytes) != 0)
            continue;
        found = t->specials[i];
        most = bytes;
    }
    return found;
}

int64_t special_next(const Tokenizer *t, const char *text, int64_t at, int64_t last, int32_t *id) {
    bool begins[256] = {false};
    int n_first = 0; /* different first bytes; nearly always it is one, which memchr finds faster */
    char first = 0;
    for (int32_t i = 0; i < t->n_specials; i++) {
        int32_t bytes;
        first = *tokenizer_text(t, t->specials[i], &bytes);
        n_first += !begins[(uint8_t)first];
        begins[(uint8_t)first] = true;
    }
    *id = -1;
    for (int64_t i = at; n_first > 0 && i < last; i++) {
        if (n_first == 1) {
            const char *next = memchr(text + i, first, (size_t)(last - i));
            i = next ? next - text : last;
        } else if (!begins[(uint8_t)text[i]]) {
            continue;
        }
        if (i < last && (*id = longest_at(t, text, i, last)) >= 0) return i;
    }
    return last;
}

int64_t special_boundary(const Tokenizer *t, const char *text, int64_t first, int64_t at,
                         int64_t end) {
    for (int32_t i = 0; i < t->n_specials; i++) {
        int32_t bytes;
        const char *special = tokenizer_text(t, t->specials[i], &bytes);
        for (int32_t k = 0; k < bytes; k++)
            if (special[k] == ' ' || (special[k] >= '\t' && special[k] <= '\r')) return end;
    }
    return t->split ? end : split_boundary(text, first, at, end);
}
