/* Targets of sources, each read with a tab behind it, as in training. */
#include "generate.h"
#include "examples.h"
#include "utf8.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many tokens of a target the context has room for behind a prompt; -1 on failure. */
static int64_t room_behind(const Model *m, const Tokenizer *t, const char *prompt, int64_t bytes,
                           const char *name, Error *e) {
    int32_t *ids = malloc((size_t)bytes * sizeof *ids);
    CHECK(ids, "no memory for %ld tokens", (long)bytes);
    const int64_t n = tokenizer_encode(t, name, prompt, bytes, ids, e);
    free(ids);
    if (n < 0 || n < m->config.context) return n < 0 ? -1 : m->config.context - n;
    error_set(e, name, "Shorten it, or train with a larger --context",
              "a source of %ld tokens and its target do not fit the context of %ld", (long)n - 1,
              (long)m->config.context);
    return -1;
}

/* The target of one source, without its newline; the caller frees it. NULL on failure. */
static char *write_target(Model *m, const Tokenizer *t, char *source, const char *name, Error *e) {
    const int64_t bytes = (int64_t)strlen(source);
    char *target = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&target, &n);
    CHECK(memory, "no memory for a target");
    source[bytes] = '\t'; /* in the place of the line's end */
    const GenerateRequest r = {.prompt = source,
                               .prompt_bytes = bytes + 1,
                               .n_tokens = room_behind(m, t, source, bytes + 1, name, e),
                               .stop = "\n",
                               .sampler = {.top_p = 1, .repetition_penalty = 1}};
    const bool ok = r.n_tokens > 0 && generate_text(m, t, &r, memory, e);
    fclose(memory);
    source[bytes] = 0;
    if (ok) {
        target[strcspn(target, "\n")] = 0;
        return target;
    }
    free(target);
    return NULL;
}

/* One line, its end cut off. With a score it is a pair, whose target is compared and counted; else
 * a source, whose target is written. */
static bool take_line(Model *m, const Tokenizer *t, char *line, const char *name,
                      PairScore *score, FILE *out, Error *e) {
    char *right = strchr(line, '\t');
    if (!line[0])
        return error_set(e, name, "Remove it", "the line is empty, so it holds no source");
    if (right && !score)
        return error_set(e, name, "Give sources alone", "the source holds a tab");
    if (right) *right++ = 0;
    /* The cut leaves room for the tab that write_target puts in its place. */
    char *target = write_target(m, t, line, name, e);
    if (!target) return false;
    if (score) {
        score->n++;
        score->n_exact += strcmp(target, right) == 0;
    } else {
        fprintf(out, "%s\n", target);
        fflush(out);
    }
    free(target);
    return true;
}

bool generate_pairs(Model *m, const Tokenizer *t, FILE *in, const char *name, PairScore *score,
                    FILE *out, Error *e) {
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool ok = true;
    for (int64_t number = 1; ok && (n = getline(&line, &room, in)) >= 0; number++) {
        if (n > 0 && line[n - 1] == '\n') line[--n] = 0;
        if (n > 0 && line[n - 1] == '\r') line[--n] = 0;
        ok = (int64_t)strlen(line) == n
                 ? take_line(m, t, line, name, score, out, e)
                 : error_set(e, name, "Give text", "the line holds the character U+0000");
        /* A column of the text that was made of JSON is none of the file's. */
        if (!ok && examples_are_json(name)) snprintf(e->place, sizeof e->place, "%s", name);
        if (!ok) utf8_place_line(e, name, number);
    }
    free(line);
    if (ok && !feof(in)) /* a read failed, or a line has no end that fits the memory */
        ok = error_set(e, name, NULL, "it could not be read: %s", strerror(errno));
    if (ok && (fflush(out) != 0 || ferror(out)))
        ok = error_set(e, NULL, "Is the disk full?", "the targets could not be written: %s",
                       strerror(errno));
    return ok;
}
