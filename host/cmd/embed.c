/* puck embed */
#include "embed.h"
#include "cmd.h"
#include "load.h"
#include "output.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 255 };

/* A question: its name, how many words it takes, and what answers it. */
typedef struct Question {
    const char *name, *words;
    int least, most;
    bool (*answer)(const Embedding *m, const int32_t *ids, int n, const Options *o, Error *e);
} Question;

/* A line of the result: a word and its number, as text or as JSON. */
static void print_word(const Embedding *m, int32_t id, double value, const Options *o) {
    char *word = embed_word(m, id);
    if (o->json) {
        json_t *line = json_pack("{s:s, s:f}", "word", word, "cosine", value);
        CHECK(line, "no memory for a line of JSON");
        json_dumpf(line, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(line);
    } else {
        printf("%6.3f  %s\n", value, word);
    }
    free(word);
}

static bool print_nearest(const Embedding *m, const double *direction, const int32_t *without,
                          int n_without, const Options *o, Error *e) {
    const int64_t most = i64_min(o->count, m->n);
    EmbedHit *hits = malloc((size_t)most * sizeof *hits);
    if (!hits) return error_set(e, NULL, NULL, "there is no memory for %ld words", (long)most);
    const int64_t n = embed_nearest(m, direction, without, n_without, most, hits);
    for (int64_t i = 0; i < n; i++) print_word(m, hits[i].id, hits[i].cosine, o);
    free(hits);
    return true;
}

static bool answer_nearest(const Embedding *m, const int32_t *ids, int n, const Options *o,
                           Error *e) {
    double *direction = calloc((size_t)m->width, sizeof *direction);
    CHECK(direction, "no memory for a vector");
    for (int64_t c = 0; c < m->width; c++) direction[c] = m->unit[ids[0] * m->width + c];
    const bool ok = print_nearest(m, direction, ids, n, o, e);
    free(direction);
    return ok;
}

static bool answer_similar(const Embedding *m, const int32_t *ids, int n, const Options *o,
                           Error *e) {
    (void)n, (void)e;
    const double cosine = embed_cosine(m, ids[0], ids[1]);
    printf(o->json ? "{\"cosine\": %.6f}\n" : "%.3f\n", cosine);
    return true;
}

static bool answer_analogy(const Embedding *m, const int32_t *ids, int n, const Options *o,
                           Error *e) {
    double *direction = calloc((size_t)m->width, sizeof *direction);
    CHECK(direction, "no memory for a vector");
    embed_analogy(m, ids[0], ids[1], ids[2], direction);
    const bool ok = print_nearest(m, direction, ids, n, o, e);
    free(direction);
    return ok;
}

static bool answer_odd(const Embedding *m, const int32_t *ids, int n, const Options *o, Error *e) {
    (void)e;
    double mean[WORDS_MAX];
    const int odd = embed_odd(m, ids, n, mean);
    for (int i = 0; i < n; i++) {
        if (i != odd && o->json) continue;
        if (!o->json) printf(i == odd ? "* " : "  ");
        print_word(m, ids[i], mean[i], o);
    }
    return true;
}

/* The projector's files, in the folder of --output. */
static const struct {
    const char *name;
    void (*write)(const Embedding *, FILE *);
} exports[] = {{"vectors.tsv", embed_write_vectors}, {"metadata.tsv", embed_write_names}};

static void export_path(char path[OPTION_STRING_MAX + 32], const Options *o, int i) {
    snprintf(path, OPTION_STRING_MAX + 32, "%s/%s", o->output, exports[i].name);
}

static bool check_export(const Options *o, Error *e) {
    if (!o->output[0])
        return error_misuse(e, "--output", "Give a folder for vectors.tsv and metadata.tsv",
                            "no folder is named");
    for (int i = 0; i < COUNT_OF(exports); i++) {
        char path[OPTION_STRING_MAX + 32];
        export_path(path, o, i);
        if (!output_is_free(o, path, e)) return false;
    }
    return path_make_folder(o->output, e);
}

static bool answer_export(const Embedding *m, const int32_t *ids, int n, const Options *o,
                          Error *e) {
    (void)ids, (void)n;
    if (!check_export(o, e)) return false;
    NewFile files[COUNT_OF(exports)];
    int n_files = 0; /* of a disk that gets full, neither */
    bool ok = true;
    while (ok && n_files < COUNT_OF(exports)) {
        char path[OPTION_STRING_MAX + 32];
        Output out;
        export_path(path, o, n_files);
        output_begin(&out);
        exports[n_files].write(m, out.file);
        ok = output_prepare(&out, &files[n_files], true, path, e);
        n_files += ok;
    }
    for (int i = 0; i < n_files; i++) ok = file_install(&files[i], ok, e);
    if (!ok) return false;
    if (o->json)
        printf("{\"words\": %ld, \"width\": %ld}\n", (long)m->n, (long)m->width);
    else
        printf("%s: vectors.tsv and metadata.tsv, %ld words of %ld numbers\n", o->output,
               (long)m->n, (long)m->width);
    return true;
}

enum { MAP_MAX = 3000 };

/* The words of the map: those that were named, else the first `count` of the vocabulary. */
static int64_t map_words(const Embedding *m, const int32_t *ids, int n, int64_t count,
                         int32_t *words) {
    int64_t n_words = 0;
    for (int i = 0; i < n; i++) words[n_words++] = ids[i];
    for (int32_t id = 0; n == 0 && id < m->n && n_words < count; id++)
        if (tokenizer_is_plain(m->tokenizer, id)) words[n_words++] = id;
    return n_words;
}

static bool answer_map(const Embedding *m, const int32_t *ids, int n, const Options *o, Error *e) {
    int32_t words[MAP_MAX];
    if (!output_check(o, ".svg", e)) return false;
    if (o->count > MAP_MAX)
        return error_misuse(e, "--count", "Draw fewer", "a map has room for %d words", MAP_MAX);
    const int64_t n_words = map_words(m, ids, n, o->count, words);
    if (n_words < 3)
        return error_misuse(e, "map", "Name more words, or none and a larger --count",
                            "%ld words make no map; three do", (long)n_words);
    if (o->arrows && (n == 0 || n % 2))
        return error_misuse(e, "--arrows", "Name pairs: HE SHE KING QUEEN",
                            "arrows join words two by two, and there are %d", n);
    const double perplexity = n_words / 3 < 30 ? (double)n_words / 3 : 30;
    const EmbedMap map = {strcmp(o->method, "tsne") == 0, perplexity, o->from, o->arrows};
    Output out;
    output_begin(&out);
    const int64_t n_labels = embed_draw_map(m, words, n_words, &map, out.file);
    const bool ok = output_end(&out, true, o->output, e);
    if (ok)
        printf(o->json ? "{\"words\": %ld, \"labels\": %ld}\n" : "%ld words, %ld with a label\n",
               (long)n_words, (long)n_labels);
    return ok;
}

static const Question questions[] = {
    {"nearest", "WORD", 1, 1, answer_nearest},
    {"similar", "WORD WORD", 2, 2, answer_similar},
    {"analogy", "MAN KING WOMAN", 3, 3, answer_analogy},
    {"odd", "WORD WORD WORD...", 3, WORDS_MAX, answer_odd},
    {"map", "[WORD...] --output FILE.svg", 0, WORDS_MAX, answer_map},
    {"export", "--output FOLDER", 0, 0, answer_export}};

static const Question *find_question(const Settings *s, Error *e) {
    const char *name = s->n_positional ? s->positional[0] : "";
    const int n = s->n_positional - 1;
    for (int i = 0; i < COUNT_OF(questions); i++) {
        const Question *q = &questions[i];
        if (strcmp(q->name, name) != 0) continue;
        if (n >= q->least && n <= q->most) return q;
        char hint[128];
        snprintf(hint, sizeof hint, "puck embed %s %s --from RUN", name, q->words);
        error_misuse(e, name, hint, "%d words are too %s for this question", n,
                     n < q->least ? "few" : "many");
        return NULL;
    }
    error_misuse(e, s->n_positional ? name : "puck embed",
                 "nearest WORD, similar A B, analogy A B C, odd A B C D, map or export",
                 s->n_positional ? "there is no such question" : "no question is asked");
    return NULL;
}

static bool run(Settings *s, Error *e) {
    const Question *q = find_question(s, e);
    if (!q) return false;
    int32_t ids[WORDS_MAX];
    const int n = s->n_positional - 1;
    Loaded l;
    Embedding m = {0};
    const ModelUse use = {0};
    strcpy(s->options.device, "cpu"); /* a table is only read */
    bool ok = load_open(&l, &s->options, e) && load_weights(&l, &use, e) &&
              embed_open(&m, &l.model, &l.tokenizer, e);
    for (int i = 0; ok && i < n; i++)
        ok = tokenizer_find_word(&l.tokenizer, s->positional[i + 1], &ids[i], e);
    ok = ok && q->answer(&m, ids, n, &s->options, e);
    embed_close(&m);
    load_close(&l);
    return ok;
}

int cmd_embed(int argc, char **argv) { return cmd_call(CMD_EMBED, argc, argv, run); }
