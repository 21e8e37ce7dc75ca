/* Questions to an embedding table: a word's neighbours, analogies, the odd one out. */
#include "embed.h"
#include "show.h"
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

char *embed_word(const Embedding *m, int32_t id) { return show_text(m->tokenizer, id); }

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
        bool left_out = !tokenizer_is_plain(m->tokenizer, id);
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
        char *word = embed_word(m, id);
        fprintf(out, "%s\n", word);
        free(word);
    }
}
