/* Questions to an embedding table: a word's neighbours, analogies, the odd one out. */
#include "embed.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool embed_open(Embedding *m, const Model *model, const Tokenizer *tokenizer, Error *e) {
    const Param *p = model_embedding(model);
    *m = (Embedding){.tokenizer = tokenizer, .n = tokenizer->n_vocab};
    if (!p)
        return error_set(e, NULL, "Use a model with an embedding, such as --model skipgram",
                         "the model has no embedding table");
    m->width = p->w.dim[1];
    float *all = malloc((size_t)tensor_count(p->w) * sizeof *all);
    m->vector = malloc((size_t)(m->n * m->width) * sizeof *m->vector);
    m->unit = malloc((size_t)(m->n * m->width) * sizeof *m->unit);
    CHECK(all && m->vector && m->unit, "no memory for %ld vectors", (long)m->n);
    model_read_f32(model, p->w, all);
    memcpy(m->vector, all, (size_t)(m->n * m->width) * sizeof *all);
    free(all);
    for (int64_t i = 0; i < m->n; i++) {
        const float *v = m->vector + i * m->width;
        double sum = 0;
        for (int64_t c = 0; c < m->width; c++) sum += (double)v[c] * v[c];
        if (!isfinite(sum))
            return error_set(e, p->name, "Take an older checkpoint",
                             "the vector of token %ld is not finite", (long)i);
        const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
        for (int64_t c = 0; c < m->width; c++) m->unit[i * m->width + c] = (float)(v[c] * scale);
    }
    return true;
}

void embed_close(Embedding *m) {
    free(m->vector);
    free(m->unit);
    *m = (Embedding){0};
}

/* ---- words ---- */

bool embed_is_word(const Embedding *m, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(m->tokenizer, id, &bytes);
    return bytes < 3 || text[0] != '<' || text[bytes - 1] != '>';
}

static int32_t find_text(const Embedding *m, const char *text, size_t n) {
    for (int32_t id = 0; id < m->n; id++) {
        int32_t bytes;
        const char *known = tokenizer_text(m->tokenizer, id, &bytes);
        if ((size_t)bytes == n && memcmp(known, text, n) == 0) return id;
    }
    return -1;
}

enum { WORD_MAX = 64, SPELLINGS = 3 };

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
static int find_spellings(const Embedding *m, const char *word, int32_t best[SPELLINGS]) {
    const int n = (int)strlen(word);
    int distance[SPELLINGS + 1], found = 0;
    if (n >= WORD_MAX) return 0;
    for (int32_t id = 0; id < m->n; id++) {
        int32_t bytes;
        const char *known = tokenizer_text(m->tokenizer, id, &bytes);
        if (bytes > 1 && known[0] == ' ') known++, bytes--;
        if (bytes < 2 || bytes >= WORD_MAX || !embed_is_word(m, id)) continue;
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

/* Whether any token is longer than a character. */
static bool has_words(const Embedding *m) {
    for (int32_t id = 0; id < m->n; id++) {
        int32_t bytes;
        tokenizer_text(m->tokenizer, id, &bytes);
        if (bytes > 4) return true;
    }
    return false;
}

bool embed_find(const Embedding *m, const char *word, int32_t *id, Error *e) {
    char text[WORD_MAX + 2];
    const size_t n = strlen(word);
    *id = find_text(m, word, n);
    if (*id < 0 && n <= WORD_MAX) {
        snprintf(text, sizeof text, " %s", word);
        *id = find_text(m, text, n + 1);
    }
    for (size_t i = 0; *id < 0 && i < n && n <= WORD_MAX; i++) text[i] = small_letter(word[i]);
    if (*id < 0 && n <= WORD_MAX) *id = find_text(m, text, n);
    if (*id >= 0) return true;
    if (n > 4 - 3 * (size_t)((unsigned char)word[0] < 0x80) && !has_words(m))
        return error_misuse(e, word, "Give single characters, or train with --tokenizer word",
                            "the tokens of this model are characters, not words");
    char hint[512] = "Its words are in tokenizer.json";
    int32_t best[SPELLINGS], bytes;
    const int found = find_spellings(m, word, best);
    size_t at = found ? (size_t)snprintf(hint, sizeof hint, "Did you mean") : 0;
    for (int i = 0; i < found; i++) {
        const char *known = tokenizer_text(m->tokenizer, best[i], &bytes);
        at += (size_t)snprintf(hint + at, sizeof hint - at, "%s %.*s",
                               i == 0           ? ""
                               : i == found - 1 ? " or"
                                                : ",",
                               (int)bytes - (known[0] == ' '), known + (known[0] == ' '));
    }
    if (found) snprintf(hint + at, sizeof hint - at, "?");
    return error_misuse(e, word, hint, "the word is not in the model's vocabulary");
}

void embed_write_word(const Embedding *m, int32_t id, FILE *out) {
    int32_t bytes;
    const char *text = tokenizer_text(m->tokenizer, id, &bytes);
    for (int32_t i = 0; i < bytes; i++) {
        if (text[i] == '\n' || text[i] == '\t' || text[i] == '\r' || text[i] == '\\')
            fprintf(out, "\\%c",
                    text[i] == '\n'   ? 'n'
                    : text[i] == '\t' ? 't'
                    : text[i] == '\r' ? 'r'
                                      : '\\');
        else
            fputc(text[i], out);
    }
}

/* ---- questions ---- */

double embed_cosine(const Embedding *m, int32_t a, int32_t b) {
    const float *x = m->unit + a * m->width, *y = m->unit + b * m->width;
    double sum = 0;
    for (int64_t c = 0; c < m->width; c++) sum += (double)x[c] * y[c];
    return sum;
}

int64_t embed_nearest(const Embedding *m, const double *direction, const int32_t *without,
                      int n_without, int64_t count, EmbedHit *hits) {
    double length = 0;
    int64_t n = 0;
    for (int64_t c = 0; c < m->width; c++) length += direction[c] * direction[c];
    length = length > 0 ? sqrt(length) : 1;
    for (int32_t id = 0; id < m->n; id++) {
        bool left_out = !embed_is_word(m, id);
        for (int i = 0; i < n_without; i++) left_out |= without[i] == id;
        if (left_out) continue;
        double sum = 0;
        for (int64_t c = 0; c < m->width; c++) sum += direction[c] * m->unit[id * m->width + c];
        const EmbedHit hit = {id, sum / length};
        int64_t at = n;
        for (; at > 0 && hits[at - 1].cosine < hit.cosine; at--)
            if (at < count) hits[at] = hits[at - 1];
        if (at == count) continue;
        hits[at] = hit;
        if (n < count) n++;
    }
    return n;
}

void embed_analogy(const Embedding *m, int32_t a, int32_t b, int32_t c, double *direction) {
    for (int64_t i = 0; i < m->width; i++)
        direction[i] = (double)m->unit[b * m->width + i] - m->unit[a * m->width + i] +
                       m->unit[c * m->width + i];
}

int embed_odd(const Embedding *m, const int32_t *ids, int n, double *mean) {
    int lowest = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            if (k != i) sum += embed_cosine(m, ids[i], ids[k]);
        mean[i] = sum / (n - 1);
        if (mean[i] < mean[lowest]) lowest = i;
    }
    return lowest;
}

void embed_write_vectors(const Embedding *m, FILE *out) {
    for (int64_t i = 0; i < m->n; i++)
        for (int64_t c = 0; c < m->width; c++)
            fprintf(out, "%.9g%c", (double)m->vector[i * m->width + c],
                    c == m->width - 1 ? '\n' : '\t');
}

void embed_write_names(const Embedding *m, FILE *out) {
    for (int32_t id = 0; id < m->n; id++) {
        embed_write_word(m, id, out);
        fputc('\n', out);
    }
}
