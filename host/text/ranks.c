/* tiktoken's file of ranks. Its program merges the two neighbours whose joint text has the lowest
 * rank; here each token gets the one merge that makes it, of the two parts that lower ranks leave
 * of it. */
#include "text.h"
#include <stdlib.h>
#include <string.h>

static const char *const remedy = "Give the file as its maker wrote it";

/* Tokens sorted by text. */
typedef struct Rank {
    const char *text;
    int32_t bytes, id;
} Rank;

static int by_text(const void *a, const void *b) {
    const Rank *x = a, *y = b;
    return text_compare(x->text, x->bytes, y->text, y->bytes);
}

enum {
    RANKS_LEFT_OUT = 1024, /* that a file may leave out, or special tokens add */
    TOKEN_BYTES_MAX = 1024 /* taking a token apart takes time as its square */
};

typedef struct Ranks {
    TokenizerPairs pairs;
    Rank *sorted;
    int32_t n;
    char *pool;    /* bytes of tokens */
    char *strings; /* merges "a b" */
    const char **merges;
} Ranks;

/* Six bits of a character of base64, or -1. */
static int sextet(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Decodes base64 up to its end into `out`; returns the bytes, or -1. */
static int64_t base64_read(const char *text, int64_t length, char *out) {
    int64_t n = 0;
    if (length == 0 || length % 4) return -1;
    for (int64_t i = 0; i < length; i += 4) {
        const int padded = i + 4 < length || text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1;
        int32_t bits = 0;
        for (int k = 0; k < 4; k++) {
            const int six = k >= 4 - padded ? 0 : sextet(text[i + k]);
            if (six < 0) return -1;
            bits = bits << 6 | six;
        }
        for (int k = 0; k < 3 - padded; k++) out[n++] = (char)(bits >> (16 - 8 * k));
    }
    return n;
}

/* A line "base64 rank". */
static bool line_read(Ranks *r, const char *line, int64_t length, int64_t number, int64_t most,
                      char **at, const char *name, Error *e) {
    const char *space = memchr(line, ' ', (size_t)length);
    const int64_t bytes = space ? base64_read(line, space - line, *at) : -1;
    int64_t rank = 0, i = space ? space + 1 - line : length;
    const bool digits = i < length && length - i < 10;
    for (; digits && i < length && line[i] >= '0' && line[i] <= '9'; i++)
        rank = 10 * rank + line[i] - '0';
    if (bytes <= 0 || !digits || i < length)
        return error_set(e, name, remedy, "line %ld is not a token in base64 and its rank",
                         (long)number);
    if (bytes > TOKEN_BYTES_MAX)
        return error_set(e, name, remedy, "line %ld has a token of %ld bytes, more than %d",
                         (long)number, (long)bytes, TOKEN_BYTES_MAX);
    if (rank >= most)
        return error_set(e, name, remedy,
                         "line %ld has the rank %ld, too high for so short a file", (long)number,
                         (long)rank);
    if (r->pairs.text[rank])
        return error_set(e, name, remedy, "line %ld has the rank %ld, which was there already",
                         (long)number, (long)rank);
    r->pairs.text[rank] = *at;
    r->pairs.bytes[rank] = (int32_t)bytes;
    r->pairs.n_vocab = (int32_t)i64_max(r->pairs.n_vocab, rank + 1);
    r->sorted[r->n++] = (Rank){*at, (int32_t)bytes, (int32_t)rank};
    *at += bytes;
    return true;
}

/* The rank of a text, which is above all if no token has it. */
static int32_t rank_of(const Ranks *r, const char *text, int32_t bytes) {
    const Rank key = {text, bytes, 0};
    const Rank *found = bsearch(&key, r->sorted, (size_t)r->n, sizeof key, by_text);
    return found ? found->id : INT32_MAX;
}

/* A part of a token, up to the next part's start, and the rank of the two joined. */
typedef struct Part {
    int32_t start, joined;
} Part;

static void part_join(const Ranks *r, const char *text, Part *p, int32_t i, int32_t n) {
    if (i >= 0 && i + 1 < n)
        p[i].joined = rank_of(r, text + p[i].start, p[i + 2].start - p[i].start);
}

/* Where the two parts of a token meet: its bytes merged as far as ranks below its own do; 0 if they
 * leave more. */
static int32_t middle_of(const Ranks *r, int32_t id, Part *p) {
    const char *text = r->pairs.text[id];
    int32_t n = r->pairs.bytes[id]; /* parts; the last of p is the end */
    for (int32_t i = 0; i <= n; i++) p[i].start = i;
    for (int32_t i = 0; i < n; i++) part_join(r, text, p, i, n);
    while (n > 2) {
        int32_t lowest = id, at = -1;
        for (int32_t i = 0; i + 1 < n; i++) {
            if (p[i].joined >= lowest) continue;
            lowest = p[i].joined;
            at = i;
        }
        if (at < 0) return 0;
        memmove(&p[at + 1], &p[at + 2], (size_t)(n - at - 1) * sizeof *p);
        n--;
        part_join(r, text, p, at - 1, n);
        part_join(r, text, p, at, n);
    }
    return p[1].start;
}

/* The merges of all tokens of two bytes and more, by rank. */
static bool make_merges(Ranks *r, const char *name, Error *e) {
    Part parts[TOKEN_BYTES_MAX + 1];
    char *out = r->strings;
    bool good = true;
    for (int32_t id = 0; good && id < r->pairs.n_vocab; id++) {
        const char *text = r->pairs.text[id];
        const int32_t bytes = r->pairs.bytes[id];
        if (!text || bytes < 2) continue;
        const int32_t middle = middle_of(r, id, parts);
        if (middle == 0)
            good =
                error_set(e, name, remedy,
                          "the token of rank %d is not made of two tokens of lower ranks", (int)id);
        r->merges[r->pairs.n_merges++] = out;
        out += tokenizer_write_alphabet(text, middle, out);
        *out++ = ' ';
        out += tokenizer_write_alphabet(text + middle, bytes - middle, out);
        *out++ = 0;
    }
    return good;
}

/* cl100k_base, as Oniguruma and PCRE2 both read it. */
static const char cl100k_split[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,"
                                   "3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|"
                                   "\\s++\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s";
static const struct {
    int32_t id;
    const char *text;
} cl100k_specials[] = {{100257, END_OF_TEXT},
                       {100258, "<|fim_prefix|>"},
                       {100259, "<|fim_middle|>"},
                       {100260, "<|fim_suffix|>"},
                       {100276, "<|endofprompt|>"}};
enum { CL100K = 100256, O200K = 199998, SPECIALS_MAX = COUNT_OF(cl100k_specials) };

static void add_special(Ranks *r, int32_t *specials, int32_t id, const char *text) {
    r->pairs.text[id] = text;
    r->pairs.bytes[id] = (int32_t)strlen(text);
    r->pairs.n_vocab = (int32_t)i64_max(r->pairs.n_vocab, id + 1);
    specials[r->pairs.n_specials++] = id;
}

static bool ranks_make(Tokenizer *t, Ranks *r, const char *name, Error *e) {
    int32_t specials[SPECIALS_MAX], free_id = 0;
    if (r->n == O200K)
        return error_set(e, name, "Use its tokenizer.json",
                         "its %d tokens are those of o200k_base, whose split puck does not have",
                         (int)r->n);
    qsort(r->sorted, (size_t)r->n, sizeof *r->sorted, by_text);
    if (!make_merges(r, name, e)) return false;
    r->pairs.merges = r->merges;
    r->pairs.specials = specials;
    r->pairs.whole_first = true;
    while (r->pairs.text[free_id]) free_id++;
    if (r->n == CL100K) {
        r->pairs.split = cl100k_split;
        for (int i = 0; i < SPECIALS_MAX; i++)
            add_special(r, specials, cl100k_specials[i].id, cl100k_specials[i].text);
    } else {
        add_special(r, specials, free_id, END_OF_TEXT);
    }
    return tokenizer_from_pairs(t, name, &r->pairs, e);
}

bool tokenizer_parse_ranks(Tokenizer *t, const char *name, const char *file, int64_t bytes,
                           Error *e) {
    if (bytes > INT32_MAX / 4) return error_set(e, name, remedy, "it has %ld bytes", (long)bytes);
    const int64_t lines = bytes / 7 + 1, most = lines + RANKS_LEFT_OUT; /* "AA== 0" and its end */
    int64_t number = 0;
    Ranks r = {.pairs = {.text = calloc((size_t)most, sizeof *r.pairs.text),
                         .bytes = calloc((size_t)most, sizeof *r.pairs.bytes)},
               .sorted = malloc((size_t)lines * sizeof *r.sorted),
               .pool = malloc((size_t)bytes + 1),
               .strings = malloc((size_t)bytes * 2 + 1),
               .merges = malloc((size_t)lines * sizeof *r.merges)};
    CHECK(r.pairs.text && r.pairs.bytes && r.sorted && r.pool && r.strings && r.merges,
          "no memory for %ld ranks", (long)lines);
    char *at = r.pool;
    bool good = true;
    for (int64_t i = 0; good && i < bytes;) {
        const char *end = memchr(file + i, '\n', (size_t)(bytes - i));
        const int64_t length = end ? end - (file + i) : bytes - i;
        good = line_read(&r, file + i, length, ++number, lines + RANKS_LEFT_OUT / 2, &at, name, e);
        i += length + 1;
    }
    good = good && ranks_make(t, &r, name, e);
    free(r.merges);
    free(r.strings);
    free(r.pool);
    free(r.sorted);
    free(r.pairs.bytes);
    free(r.pairs.text);
    return good;
}
