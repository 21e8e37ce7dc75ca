/* Split patterns of tokenizer.json are regular expressions of Oniguruma. Those parts of its
 * language that PCRE2 has with the same meaning are handed on; the rest is refused. */
#include "text.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct Reader {
    const char *at; /* of the pattern, NUL-terminated */
    FILE *out;
    bool in_class;
} Reader;

/* What may follow "(?"; a plain "(" may be followed by anything but a star. */
static bool read_group(Reader *r) {
    static const char *const kinds[] = {"?:", "?=", "?!", "?>", "?i:"};
    fputc('(', r->out);
    if (r->at[1] == '*') return false;
    if (r->at[1] != '?') return r->at++, true;
    for (int i = 0; i < COUNT_OF(kinds); i++) {
        const size_t n = strlen(kinds[i]);
        if (strncmp(r->at + 1, kinds[i], n) != 0) continue;
        fputs(kinds[i], r->out);
        r->at += n + 1;
        return true;
    }
    return false;
}

/* \p{NAME}, \x{HEX} and \uHEXX. */
static bool read_braces(Reader *r) {
    const char kind = r->at[1];
    if (kind == 'u') {
        for (int i = 2; i < 6; i++)
            if (!isxdigit((unsigned char)r->at[i])) return false;
        fprintf(r->out, "\\x{%.4s}", r->at + 2);
        r->at += 6;
        return true;
    }
    const size_t n = r->at[2] == '{' ? strcspn(r->at + 3, "}") : 0;
    if (n == 0 || n > 32 || r->at[3 + n] != '}') return false;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)r->at[3 + i];
        if (kind == 'x' ? !isxdigit(c) : !isalpha(c) && c != '_') return false;
    }
    fprintf(r->out, "\\%c{%.*s}", kind, (int)n, r->at + 3);
    r->at += n + 4;
    return true;
}

static bool read_escape(Reader *r) {
    const char c = r->at[1];
    if (c && strchr("pPxu", c)) return read_braces(r);
    if (c == 's')
        fputs(r->in_class ? SPLIT_SPACE : "[" SPLIT_SPACE "]", r->out);
    else if (c == 'S' && !r->in_class)
        fputs("[^" SPLIT_SPACE "]", r->out);
    else if (c == 'd')
        fputs("\\p{Nd}", r->out);
    else if (c && (strchr("rntf", c) || (c == 'z' && !r->in_class) || ispunct((unsigned char)c)))
        fprintf(r->out, "\\%c", c);
    else
        return false;
    r->at += 2;
    return true;
}

/* "{2,3}"; with a plus behind it the two languages differ. */
static bool read_count(Reader *r) {
    const size_t n = 1 + strspn(r->at + 1, "0123456789,");
    if (!isdigit((unsigned char)r->at[1]) || r->at[n] != '}' || r->at[n + 1] == '+') return false;
    fprintf(r->out, "%.*s}", (int)n, r->at);
    r->at += n + 1;
    return true;
}

static bool read_one(Reader *r) {
    const char c = *r->at;
    if (c == '\\') return read_escape(r);
    if (r->in_class) {
        if (c == '[' || (c == '&' && r->at[1] == '&')) return false;
        r->in_class = c != ']';
    } else {
        if (c == '(') return read_group(r);
        if (c == '{') return read_count(r);
        if (strchr(".^$", c)) return false;
        if (c == '[') {
            r->in_class = true;
            fputc(c, r->out);
            r->at++;
            if (*r->at == '^') fputc(*r->at++, r->out);
            return *r->at != ']';
        }
    }
    fputc(c, r->out);
    r->at++;
    return true;
}

char *pattern_translate(const char *pattern, const char **refused) {
    char *text = NULL;
    size_t bytes = 0;
    Reader r = {pattern, open_memstream(&text, &bytes), false};
    CHECK(r.out, "no memory for a pattern");
    bool good = true;
    while (good && *r.at) {
        *refused = r.at;
        good = read_one(&r);
    }
    fclose(r.out);
    if (good) return text;
    free(text);
    return NULL;
}
