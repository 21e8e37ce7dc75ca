/* Which settings a run may have: defaults of its kind, options that go together, and what may
 * change when it is resumed. */
#include "trainer.h"
#include <string.h>

bool train_own_defaults(Settings *s, Error *e) {
    static const char *const values[][3] = {{"skipgram", "batch_size", "4096"},
                                            {"skipgram", "lr", "0.005"},
                                            {"skipgram", "steps", "2000"},
                                            {"skipgram", "beta2", "0.999"},
                                            {"skipgram", "schedule", "linear"},
                                            {"skipgram", "channels", "64"},
                                            {"skipgram", "clip", "0"},
                                            {"skipgram", "eval_every", "500"},
                                            {"ngram", "context", "5"},
                                            {"ngram", "layers", "1"},
                                            {"ngram", "batch_size", "512"},
                                            {"ngram", "lr", "0.01"},
                                            {"ngram", "steps", "3000"},
                                            {"ngram", "schedule", "linear"},
                                            {"ngram", "channels", "48"},
                                            {"ngram", "eval_every", "500"},
                                            {"classify", "val_fraction", "0.2"}};
    for (int i = 0; i < COUNT_OF(values); i++)
        if ((strcmp(s->options.model, values[i][0]) == 0 ||
             strcmp(s->options.task, values[i][0]) == 0) &&
            options_source(s, values[i][1]) == FROM_DEFAULT &&
            !options_set(s, values[i][1], values[i][2], FROM_DEFAULT, "--model", e))
            return false;
    return true;
}

/* A run's config.toml, given as --config, says of each option at least its default. */
static bool is_given(const Settings *s, const char *name) {
    Settings defaults;
    const OptionSource source = options_source(s, name);
    if (source != FROM_FILE) return source != FROM_DEFAULT;
    options_defaults(&defaults);
    return !options_equal(&s->options, &defaults.options, options_find(name));
}

bool train_check_kind(const Settings *s, Error *e) {
    static const char *const gpt[] = { /* ffn has the last of them too */
        "heads", "kv_heads",       "head_size", "bias",      "positions", "rope_base", "qk_norm",
        "norm",  "embed_norm", "tie_embeddings", "softcap", "init", "recompute", "dropout"};
    static const char *const language[] = {"context", "layers", "hidden", "activation",
                                           "optimizer"};
    const bool skipgram = strcmp(s->options.model, "skipgram") == 0;
    const bool ngram = strcmp(s->options.model, "ngram") == 0;
    for (int i = 0; skipgram && i < COUNT_OF(language); i++) {
        char flag[OPTIONS_DASHED_MAX];
        if (is_given(s, language[i]))
            return error_misuse(e, options_dashed(flag, language[i]),
                                "Leave it out; --window and --channels count",
                                "a model of kind skipgram has no %s", language[i]);
    }
    if (ngram && s->options.context % 2 == 0)
        return error_misuse(e, "--context", "Give an odd number, 5 by default",
                            "%ld words have none in their middle", (long)s->options.context);
    const bool classifies = strcmp(s->options.task, "classify") == 0;
    if ((skipgram || ngram) && classifies)
        return error_misuse(e, "--task", "Use --model gpt, ffn or rnn",
                            "a model of kind %s reads no texts", s->options.model);
    if (classifies && s->options.sample_every)
        return error_misuse(e, "--sample-every", "Ask it with puck classify",
                            "a classifier writes no text");
    if ((skipgram || ngram) && s->options.sample_every)
        return error_misuse(e, "--sample-every", "Ask it with puck embed",
                            "a model of kind %s writes no text", s->options.model);
    if (strcmp(s->options.model, "gpt") == 0) return true;
    if (strcmp(s->options.task, "pairs") == 0)
        return error_misuse(e, "--task", "Use --model gpt", "a model of kind %s learns no pairs",
                            s->options.model);
    const bool feeds = strcmp(s->options.model, "ffn") == 0;
    for (int i = 0; i < COUNT_OF(gpt) - feeds; i++) {
        char flag[OPTIONS_DASHED_MAX];
        if (is_given(s, gpt[i]))
            return error_misuse(e, options_dashed(flag, gpt[i]),
                                "Leave it out, or use --model gpt",
                                "a model of kind %s has no %s", s->options.model, gpt[i]);
    }
    return true;
}

/* Flags that say nothing beside another option's value. What a model is comes from --init-from,
 * where there is one. */
static bool check_idle(const Settings *s, Error *e) {
    const Options *o = &s->options;
    const bool tuned = o->init_from[0];
    const struct {
        const char *name, *reader;
        bool is_read;
    } idle[] = {
        {"min_count", "tokenizer word", tokenizer_counts(o->tokenizer)},
        {"window", "model skipgram", tuned || strcmp(o->model, "skipgram") == 0},
        {"negatives", "model skipgram", tuned || strcmp(o->model, "skipgram") == 0},
        {"subsample", "model skipgram", tuned || strcmp(o->model, "skipgram") == 0},
        {"activation", "model gpt", tuned || strcmp(o->model, "rnn") != 0},
        {"rope_base", "positions rotary", tuned || strncmp(o->positions, "rotary", 6) == 0},
        {"decay_fraction", "schedule wsd", strcmp(o->schedule, "wsd") == 0},
        {"muon_lr", "optimizer muon", strcmp(o->optimizer, "muon") == 0},
        {"muon_momentum", "optimizer muon", strcmp(o->optimizer, "muon") == 0},
        {"muon_weight_decay", "optimizer muon", strcmp(o->optimizer, "muon") == 0},
    };
    for (int64_t i = 0; i < COUNT_OF(idle); i++) {
        char flag[OPTIONS_DASHED_MAX], hint[128];
        if (idle[i].is_read || options_source(s, idle[i].name) != FROM_FLAG) continue;
        snprintf(hint, sizeof hint, "Leave it out, or give --%s", idle[i].reader);
        return error_misuse(e, options_dashed(flag, idle[i].name), hint,
                            "nothing in this run reads the option");
    }
    return true;
}

bool settings_check(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (o->min_lr > o->lr && strcmp(o->schedule, "constant") != 0)
        return error_misuse(e, "--min-lr", "Give a --min-lr that is not above --lr",
                            "the rate at the end, %g, is above the peak of %g", o->min_lr, o->lr);
    if (o->lr == 0 && o->muon_lr > 0 && strcmp(o->optimizer, "muon") == 0)
        return error_misuse(e, "--lr", "Give a --lr above 0, however small",
                            "Muon's learning rate follows the schedule of --lr, which is 0");
    if (o->patience > 0 && o->eval_every == 0)
        return error_misuse(e, "--patience", "Give --eval-every too",
                            "without evaluations there is no loss that could stop to fall");
    if (o->device_memory[0] && !o->dry_run)
        return error_misuse(e, "--device-memory", "Add --dry-run, or leave it out",
                            "training plans for the device that is there");
    return check_idle(s, e);
}

/* Settings that were given must agree with the recorded ones as their kind demands; those that were
 * not given are taken from the record, and still count as not given. */
bool settings_merge_recorded(Settings *s, const char *folder, Error *e) {
    Settings recorded;
    options_defaults(&recorded);
    if (!checkpoint_read_options(folder, &recorded, e)) return false;
    for (int i = 0; i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        if (row->kind == OPTION_ACTION || !(row->commands & CMD_TRAIN)) continue;
        char was[OPTION_STRING_MAX + 8], is[OPTION_STRING_MAX + 8], flag[OPTIONS_DASHED_MAX];
        options_value(&recorded.options, row, was, sizeof was);
        options_value(&s->options, row, is, sizeof is);
        options_dashed(flag, row->name);
        if (s->source[i] == FROM_DEFAULT) {
            if (!options_set(s, row->name, was, FROM_DEFAULT, folder, e)) return false;
        } else if (options_equal(&recorded.options, &s->options, row)) {
            continue;
        } else if (row->kind == OPTION_MODEL) {
            return error_misuse(e, flag, "Use another --run, or --fresh to start anew",
                                "the run in %s was made with %s %s, not %s", folder, row->name,
                                was[0] ? was : "none", is);
        } else if (row->kind == OPTION_SCHEDULE && !s->options.override) {
            return error_misuse(e, flag, "Add --override to go on with the new value",
                                "the run in %s was started with %s %s, not %s", folder, row->name,
                                was, is);
        }
    }
    return true;
}
