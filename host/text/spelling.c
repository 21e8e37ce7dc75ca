/* Words that a user names: the token that is meant, or the nearest spellings. */
#include "text.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 64, SPELLINGS = 3 };

bool tokenizer_is_plain(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    return bytes < 3 || text[0] != '<' || text[bytes - 1] != '>';
}

static char small_letter(char c) { return (char)tolower((unsigned char)c); }

/* Fewest insertions, deletions and replacements of bytes, small and capital letters being the same
 * (Wagner and Fischer 1974). Words are shorter than WORD_MAX. */
static int edit_distance(const char *a, int n_a, const char *b, int n_b) {
    int row[WORD_MAX + 1];
    for (int j = 0; j <= n_b; j++) row[j] = j;
    for (int i = 0; i < n_a; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n_b; j++) {
            const int replaced = diagonal + (small_letter(a[i]) != small_letter(b[j]));
            const int shifted = 1 + (row[j] < row[j + 1] ? row[j] : row[j + 1]);
            diagonal = row[j + 1];
            row[j + 1] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[n_b];
}

/* The nearest spellings, in order, into `best`; returns how many are near at all. */
static int find_spellings(const Tokenizer *t, const char *word, int32_t best[SPELLINGS]) {
    const int n = (int)strlen(word);
    int distance[SPELLINGS + 1], found = 0;
    if (n >= WORD_MAX) return 0;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *known = tokenizer_text(t, id, &bytes);
        if (bytes > 1 && known[0] == ' ') known++, bytes--;
        if (bytes < 2 || bytes >= WORD_MAX || !tokenizer_is_plain(t, id)) continue;
        const int d = edit_distance(word, n, known, bytes);
        if (d > 1 + n / 3) continue;
        int at = found;
        for (; at > 0 && distance[at - 1] > d; at--) {
            distance[at] = distance[at - 1];
            if (at < SPELLINGS) best[at] = best[at - 1];
        }
        if (at == SPELLINGS) continue;
        distance[at] = d;
        best[at] = id;
        if (found < SPELLINGS) found++;
    }
    return found;
}

/* "Did you mean a, b or c?" */
static void write_hint(const Tokenizer *t, const char *word, char *hint, size_t size) {
    int32_t best[SPELLINGS], bytes;
    const int found = find_spellings(t, word, best);
    size_t at =
        (size_t)snprintf(hint, size, found ? "Did you mean" : "Its words are in tokenizer.json");
    for (int i = 0; i < found; i++) {
        const char *known = tokenizer_text(t, best[i], &bytes);
        const int space = known[0] == ' ';
        at += (size_t)snprintf(hint + at, size - at, "%s %.*s%s",
                               i == 0           ? ""
                               : i == found - 1 ? " or"
                                                : ",",
                               (int)bytes - space, known + space, i == found - 1 ? "?" : "");
    }
}

static int32_t find_text(const Tokenizer *t, const char *text, size_t n) {
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *known = tokenizer_text(t, id, &bytes);
        if ((size_t)bytes == n && memcmp(known, text, n) == 0) return id;
    }
    return -1;
}

/* Whether any token is longer than a character. */
static bool has_words(const Tokenizer *t) {
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        tokenizer_text(t, id, &bytes);
        if (bytes > 4) return true;
    }
    return false;
}

bool tokenizer_find_word(const Tokenizer *t, const char *word, int32_t *id, Error *e) {
    char text[WORD_MAX + 2], hint[512];
    const size_t n = strlen(word);
    if (n == 0) return error_misuse(e, "\"\"", "Give a word", "the word is empty");
    *id = find_text(t, word, n);
    if (*id < 0 && n <= WORD_MAX) {
        snprintf(text, sizeof text, " %s", word);
        *id = find_text(t, text, n + 1);
    }
    for (size_t i = 0; *id < 0 && i < n && n <= WORD_MAX; i++) text[i] = small_letter(word[i]);
    if (*id < 0 && n <= WORD_MAX) *id = find_text(t, text, n);
    if (*id >= 0) return true;
    const size_t character = (unsigned char)word[0] < 0x80 ? 1 : 4; /* bytes at most */
    if (n > character && !has_words(t))
        return error_misuse(e, word, "Give single characters, or train with --tokenizer word",
                            "the tokens of this model are characters, not words");
    write_hint(t, word, hint, sizeof hint);
    return error_misuse(e, word, hint, "the word is not in the model's vocabulary");
}

bool tokenizer_check_words(const Tokenizer *t, const char *text, int64_t bytes, Error *e) {
    int64_t at = 0;
    for (int64_t n; tokenizer_is_word(t) && (n = words_next(text, &at, bytes)) > 0; at += n) {
        char word[256], hint[512];
        int32_t id;
        Error ignored;
        if (words_encode(t, "word", text, at, at + n, &id, &ignored) != 1 || id != t->unknown)
            continue;
        snprintf(word, sizeof word, "%.*s", (int)i64_min(n, 255), text + at);
        write_hint(t, word, hint, sizeof hint);
        return error_misuse(e, word, hint, "the word is not in the model's vocabulary");
    }
    return true;
}
