/* Text from a model, token by token. */
#include "generate.h"
#include "show.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Sliding the window by one token would read all of it again for every token, as positions are part
 * of what the cache holds. Sliding by half of it costs one extra row a token. */
int64_t generate_window(int64_t n_tokens, int64_t context) {
    const int64_t stride = context - context / 2;
    return n_tokens <= context ? 0 : i64_div_up(n_tokens - context, stride) * stride;
}

/* The text so far. */
typedef struct Text {
    int64_t n;       /* tokens in all */
    int64_t first;   /* number of the window's first token */
    int64_t n_read;  /* tokens of the window in the KV cache */
    int32_t *window; /* tokens first .. n-1; room for `context` */
    int32_t *seen;   /* the different tokens, n_seen of them */
    int64_t n_seen;
    bool *is_seen; /* (vocab) */
    float *logits; /* (vocab), after the last token */
    Candidate *top;
} Text;

static bool text_open(Text *t, const ModelConfig *c, int n_top, Error *e) {
    *t = (Text){.window = calloc((size_t)c->context, sizeof *t->window),
                .seen = calloc((size_t)c->vocab, sizeof *t->seen),
                .is_seen = calloc((size_t)c->vocab, sizeof *t->is_seen),
                .logits = calloc((size_t)c->vocab, sizeof *t->logits),
                .top = calloc((size_t)n_top + 1, sizeof *t->top)};
    if (t->window && t->seen && t->is_seen && t->logits && t->top) return true;
    return error_set(e, NULL, NULL, "there is no memory for a text");
}

static void text_close(Text *t) {
    free(t->window);
    free(t->seen);
    free(t->is_seen);
    free(t->logits);
    free(t->top);
}

/* Brings the cache and the logits up to the last token. */
static void text_read(Text *t, Model *m) {
    while (t->n_read < t->n - t->first) {
        const int64_t rows = i64_min(t->n - t->first - t->n_read, m->use.decode_rows);
        const int64_t before = model_endless(&m->config) ? t->first : 0;
        const int32_t position = (int32_t)(before + t->n_read);
        model_decode(m, t->window + t->n_read, rows, &position, t->logits);
        t->n_read += rows;
    }
}

/* Where the window moves on, a model that remembers has read what leaves it, and a GPT reads what
 * stays again. */
static void text_append(Text *t, Model *m, int32_t id) {
    const int64_t first = generate_window(t->n + 1, m->config.context);
    if (first != t->first) {
        const bool endless = model_endless(&m->config);
        if (endless) text_read(t, m);
        memmove(t->window, t->window + (first - t->first),
                (size_t)(t->n - first) * sizeof *t->window);
        t->n_read = endless ? t->n - first : 0;
        t->first = first;
    }
    t->window[t->n - first] = id;
    t->n++;
    if (!t->is_seen[id]) t->seen[t->n_seen++] = id;
    t->is_seen[id] = true;
}

int32_t generate_start(const Tokenizer *t) {
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *text = tokenizer_text(t, id, &bytes);
        if (bytes == 1 && *text == '\n') return id;
    }
    return 0;
}

static bool read_prompt(Text *text, Model *m, const Tokenizer *t, const GenerateRequest *r,
                        Error *e) {
    int32_t *ids = malloc((size_t)(r->prompt_bytes + 1) * sizeof *ids);
    if (!ids) return error_set(e, NULL, NULL, "there is no memory for the prompt");
    const int64_t n = tokenizer_encode(t, "the prompt", r->prompt, r->prompt_bytes, ids, e);
    for (int64_t i = 0; i < n; i++) text_append(text, m, ids[i]);
    if (n == 0) text_append(text, m, generate_start(t)); /* blanks are no words */
    free(ids);
    return n >= 0;
}

/* What a model that has met several texts writes between them. */
static bool ends_text(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    return t->kind == TOKENIZER_BPE && bytes == (int32_t)strlen(END_OF_TEXT) &&
           memcmp(text, END_OF_TEXT, (size_t)bytes) == 0;
}

/* How much of `stop` the text ends with after one more byte, if it ended with `matched` bytes of
 * it. */
static int64_t match_stop(const char *stop, int64_t matched, char byte) {
    for (int64_t k = matched; k >= 0; k--)
        if (stop[k] == byte && memcmp(stop, stop + matched - k, (size_t)k) == 0) return k + 1;
    return 0;
}

/* Writes a token's text after the one before it, up to the end of `stop`. Returns whether that was
 * met. */
static bool write_token(Utf8Writer *w, const Tokenizer *t, int32_t before, int32_t id,
                        const char *stop, int64_t *matched) {
    const int64_t length = (int64_t)strlen(stop);
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    for (int32_t i = tokenizer_spaces(t, before, id) ? -1 : 0; i < bytes; i++) {
        const char byte = i < 0 ? ' ' : text[i];
        show_byte(w, (unsigned char)byte);
        if (length == 0) continue;
        *matched = match_stop(stop, *matched, byte);
        if (*matched == length) return true;
    }
    return false;
}

/* "  12  'e'   0.612 'e'   0.101 'o'" */
static void write_candidates(FILE *out, const Tokenizer *t, int64_t step, int32_t id,
                             const Candidate *top, int n_top) {
    fprintf(out, "%4ld  ", (long)step);
    show_token(out, t, id);
    for (int i = 0; i < n_top && top[i].id >= 0; i++) {
        fprintf(out, "   %.3f ", top[i].probability);
        show_token(out, t, top[i].id);
    }
    putc('\n', out);
}

/* Generates into `w`, with the candidates' lines on `table`. */
static bool write_text(Text *text, Model *m, const Tokenizer *t, const GenerateRequest *r,
                       Utf8Writer *w, FILE *table, Error *e) {
    if (!read_prompt(text, m, t, r, e)) return false;
    if (r->echo_prompt)
        for (int64_t i = 0; i < r->prompt_bytes; i++) show_byte(w, (unsigned char)r->prompt[i]);
    fflush(w->out);
    /* A model may have more rows than the tokenizer has tokens; those have no text. */
    const int64_t n_vocab = i64_min(m->config.vocab, t->n_vocab);
    int64_t matched = 0;
    bool stopped = false;
    for (int64_t i = 0; i < r->n_tokens && !stopped; i++) {
        text_read(text, m);
        const int32_t id = sampler_next(&r->sampler, text->logits, n_vocab, text->seen,
                                        text->n_seen, r->sample, text->n, text->top, r->n_probs);
        if (id < 0)
            return error_set(e, NULL, "Take an older checkpoint",
                             "the model's logits after %ld tokens are not finite", (long)text->n);
        const int32_t before = text->window[text->n - 1 - text->first];
        text_append(text, m, id);
        stopped = ends_text(t, id) || write_token(w, t, before, id, r->stop, &matched);
        if (r->n_probs > 0) write_candidates(table, t, i + 1, id, text->top, r->n_probs);
        if (fflush(table) != 0 || ferror(table)) break;
    }
    show_finish(w);
    return true;
}

bool generate_text(Model *m, const Tokenizer *t, const GenerateRequest *r, FILE *out, Error *e) {
    CHECK(m->use.decode_batch == 1, "planned for %ld sequences", (long)m->use.decode_batch);
    CHECK(t->n_vocab <= m->config.vocab, "%d tokens, %ld rows", t->n_vocab, (long)m->config.vocab);
    Text text;
    char *held = NULL; /* the text, where the candidates' table comes first */
    size_t held_bytes = 0;
    Utf8Writer w = {.out = r->n_probs > 0 ? open_memstream(&held, &held_bytes) : out};
    bool ok = text_open(&text, &m->config, r->n_probs, e);
    if (!w.out) ok = error_set(e, NULL, NULL, "there is no memory for a text");
    ok = ok && write_text(&text, m, t, r, &w, out, e);
    text_close(&text);
    if (r->n_probs > 0 && w.out) {
        fclose(w.out);
        putc('\n', out);
        fwrite(held, 1, held_bytes, out);
        free(held);
    }
    if (ok && (fflush(out) != 0 || ferror(out)))
        ok = error_set(e, NULL, "Is the disk full?", "the text could not be written: %s",
                       strerror(errno));
    return ok;
}
