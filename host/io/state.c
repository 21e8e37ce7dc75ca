/* state.json: TrainState, one field a line. */
#include "io.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *key;
    size_t offset;
} integers[] = {
    {"step", offsetof(TrainState, step)},
    {"samples", offsetof(TrainState, samples)},
    {"tokens", offsetof(TrainState, tokens)},
    {"bad_steps", offsetof(TrainState, bad_steps)},
    {"skipped_steps", offsetof(TrainState, skipped_steps)},
    {"best_step", offsetof(TrainState, best_step)},
    {"evals_since_best", offsetof(TrainState, evals_since_best)},
};

bool state_write(const char *folder, const TrainState *s, Error *e) {
    char path[IO_PATH_MAX], *text = NULL, best[32] = "null", elapsed[32];
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    CHECK(out, "no memory for state.json");
    if (isfinite(s->best_loss)) json_real_text(best, s->best_loss);
    json_real_text(elapsed, s->elapsed_sec);
    fputs("{\n", out);
    for (int64_t i = 0; i < COUNT_OF(integers); i++)
        fprintf(out, "  \"%s\": %" PRId64 ",\n", integers[i].key,
                *(const int64_t *)((const char *)s + integers[i].offset));
    fprintf(out,
            "  \"best_loss\": %s,\n"
            "  \"eval_due\": %s,\n"
            "  \"finished\": %s,\n"
            "  \"tokenizer_hash\": \"%016" PRIx64 "\",\n"
            "  \"data_hash\": \"%016" PRIx64 "\",\n"
            "  \"elapsed_sec\": %s\n}\n",
            best, s->eval_due ? "true" : "false", s->finished ? "true" : "false", s->tokenizer_hash,
            s->data_hash, elapsed);
    CHECK(fclose(out) == 0, "no memory for state.json");
    const bool good = path_join(path, folder, "state.json", e) &&
                      file_write_atomic(path, text, (int64_t)bytes, e);
    free(text);
    return good;
}

static bool read_fields(json_t *root, const char *path, TrainState *s, Error *e) {
    const int64_t most = (int64_t)1 << 53; /* a run goes on counting from here */
    for (int64_t i = 0; i < COUNT_OF(integers); i++)
        if (!json_get_int(root, path, integers[i].key, 0, most,
                          (int64_t *)((char *)s + integers[i].offset), e))
            return false;
    s->best_loss = INFINITY;
    if (!json_is_null(json_object_get(root, "best_loss")) &&
        !json_get_real(root, path, "best_loss", &s->best_loss, e))
        return false;
    return json_get_bool(root, path, "eval_due", &s->eval_due, e) &&
           json_get_bool(root, path, "finished", &s->finished, e) &&
           json_get_hash(root, path, "tokenizer_hash", &s->tokenizer_hash, e) &&
           json_get_hash(root, path, "data_hash", &s->data_hash, e) &&
           json_get_real(root, path, "elapsed_sec", &s->elapsed_sec, e);
}

bool checkpoint_read_state(const char *folder, TrainState *state, Error *e) {
    char path[IO_PATH_MAX];
    json_t *root = NULL;
    *state = (TrainState){0};
    if (!path_join(path, folder, "state.json", e) || !(root = json_read_file(path, e)))
        return false;
    const bool good = read_fields(root, path, state, e);
    json_decref(root);
    return good;
}
