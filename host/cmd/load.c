#include "load.h"
#include "log.h"
#include "plugin.h"
#include <stdio.h>
#include <unistd.h>

bool load_open(Loaded *l, const Options *o, Error *e) {
    *l = (Loaded){0};
    if (!o->from[0])
        return error_misuse(e, "--from", "Give a run folder, a checkpoint or a Hugging Face folder",
                            "there is no model to load");
    char path[sizeof l->folder + 32];
    if (!checkpoint_find(o->from, l->folder, sizeof l->folder, e)) return false;
    if (!checkpoint_read_config(l->folder, &l->config, e)) return false;
    if (!tokenizer_path(l->folder, path, sizeof path))
        return error_set(e, l->folder, "Copy the tokenizer.json that it was trained with there",
                         "the model has no tokenizer.json");
    if (!tokenizer_load(&l->tokenizer, path, e)) return false;
    if (l->tokenizer.n_vocab > l->config.vocab)
        return error_set(e, path, "They belong to different models",
                         "the tokenizer has %d tokens, but the model %ld", l->tokenizer.n_vocab,
                         (long)l->config.vocab);
    if (!labels_read(&l->labels, l->folder, e)) return false;
    if (l->labels.n && l->labels.n != l->config.classes)
        return error_set(e, l->folder, "They belong to different models",
                         "labels.json has %d names, but the model %ld classes", l->labels.n,
                         (long)l->config.classes);
    log_info("loading %s", l->folder);
    return plugin_open(&l->backend, o->device, o->dtype, o->threads, e);
}

bool load_weights(Loaded *l, const ModelUse *use, Error *e) {
    const bool skipgram = l->config.kind == MODEL_SKIPGRAM, ngram = l->config.kind == MODEL_NGRAM;
    if ((skipgram && use->B) || ((skipgram || ngram) && use->decode_batch))
        return error_set(e, l->folder, "Ask it with `puck embed`",
                         "a model of kind %s has vectors of words, but is no language model",
                         skipgram ? "skipgram" : "ngram");
    if (l->config.classes && !ngram && !l->labels.n && use->B)
        return error_set(e, l->folder, "Write them there as {\"labels\": [\"first\", \"second\"]}",
                         "the model has classes, but no labels.json with their names");
    if (l->config.classes && use->decode_batch)
        return error_set(e, l->folder, "Ask it with `puck classify`",
                         "the model is a classifier, which writes no text");
    model_plan(&l->model, &l->config, use, &l->backend);
    l->model.labels = &l->labels;
    return model_commit(&l->model, e) && checkpoint_read_weights(l->folder, &l->model, e);
}

bool load_recorded(const Loaded *l, Settings *recorded, Error *e) {
    char path[sizeof l->folder + 16];
    options_defaults(recorded);
    snprintf(path, sizeof path, "%s/config.toml", l->folder);
    return access(path, F_OK) != 0 || checkpoint_read_options(l->folder, recorded, e);
}

void load_tell_stdin(const char *what) {
    if (isatty(STDIN_FILENO)) log_info("type one %s a line; Ctrl-D ends", what);
}

void load_close(Loaded *l) {
    if (l->model.backend) model_free(&l->model);
    if (l->backend.close) l->backend.close(&l->backend);
    tokenizer_free(&l->tokenizer);
    labels_free(&l->labels);
}
