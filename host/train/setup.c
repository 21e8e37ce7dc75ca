/* From settings to a model and a recipe, and what a resumed or finetuned run may change. */
#include "trainer.h"
#include "dist.h"
#include <stdlib.h>
#include <string.h>

/* Settings that were given must agree with the recorded ones as their kind demands; those that were
 * not given are taken from the record, and still count as not given. */
bool setup_merge_recorded(Settings *s, const char *folder, Error *e) {
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

LoaderConfig train_feed(const ModelConfig *c, const Tokens *tokens, int64_t B, int64_t T,
                        uint64_t seed, DataOrder order) {
    const BatchForm rows = c->kind == MODEL_FFN        ? BATCH_NEXT
                           : c->kind == MODEL_RNN      ? BATCH_STREAMS
                           : c->kind == MODEL_SKIPGRAM ? BATCH_NEIGHBOURS
                           : c->kind == MODEL_NGRAM    ? BATCH_GRAMS
                                                       : BATCH_WINDOWS;
    return (LoaderConfig){.tokens = tokens,
                          .B = B,
                          .T = T,
                          .seed = seed,
                          .order = order,
                          .form = tokens->first_label ? BATCH_TEXTS
                                  : tokens->lines     ? BATCH_LINES
                                                      : rows,
                          .rows = rows,
                          .special = model_special(c),
                          .streams = B};
}

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

bool setup_check(const Settings *s, Error *e) {
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

/* The model that the options describe, with `n_vocab` from the tokenizer where they leave it
 * open. */
bool train_model_config(const Options *o, int64_t n_vocab, ModelConfig *c, Error *e) {
    *c = (ModelConfig){.kind = (ModelKind)options_choice("model", o->model),
                       .vocab = o->vocab_size ? o->vocab_size : n_vocab,
                       .context = o->context,
                       .layers = o->layers,
                       .heads = o->heads,
                       .channels = o->channels,
                       .hidden = o->hidden ? o->hidden : 4 * o->channels,
                       .bias = o->bias,
                       .dropout = o->dropout,
                       .kv_heads = o->kv_heads,
                       .head_size = o->head_size,
                       .positions = (Positions)options_choice("positions", o->positions),
                       .rope_base = o->rope_base,
                       .qk_norm = o->qk_norm,
                       .norm = (NormLayers)options_choice("norm", o->norm),
                       .embed_norm = o->embed_norm,
                       .mlp = (MlpKind)options_choice("activation", o->activation),
                       .untied = !o->tie_embeddings,
                       .softcap = o->softcap,
                       .init = (InitRecipe)options_choice("init", o->init)};
    c->norm_eps = c->norm == NORMS_LAYERNORM ? 1e-5 : 1e-6;
    if (c->kind != MODEL_GPT) /* what only a GPT's blocks read */
        *c = (ModelConfig){.kind = c->kind,
                           .vocab = c->vocab,
                           .context = c->context,
                           .layers = c->layers,
                           .heads = 1,
                           .channels = c->channels,
                           .hidden = c->hidden,
                           .bias = true,
                           .dropout = c->kind == MODEL_FFN ? c->dropout : 0,
                           .rope_base = c->rope_base,
                           .mlp = c->mlp};
    if (c->kind == MODEL_SKIPGRAM) /* a table is all it has */
        *c = (ModelConfig){.kind = c->kind,
                           .vocab = c->vocab,
                           .context = 1,
                           .layers = 1,
                           .heads = 1,
                           .channels = c->channels,
                           .hidden = 1,
                           .bias = true,
                           .rope_base = c->rope_base};
    if (c->kind == MODEL_NGRAM) c->classes = 2;
    if (n_vocab > c->vocab)
        return error_misuse(e, "--vocab-size", "Leave it out to take the tokenizer's",
                            "a vocabulary of %ld is smaller than the tokenizer's %ld",
                            (long)c->vocab, (long)n_vocab);
    if (!c->vocab)
        return error_misuse(e, "--vocab-size", "Give it, or --data",
                            "the size of the vocabulary is not known");
    return model_config_check(c, e);
}

void setup_classes(const Trainer *t, ModelConfig *c) {
    if (!t->labels.n) return;
    c->classes = t->labels.n;
    c->untied |= c->kind == MODEL_GPT;
}

/* A configuration as options say it, dropout aside; choices are numbers. */
typedef struct ModelOption {
    const char *name;
    double value;
} ModelOption;
enum { N_MODEL_OPTIONS = 18 };

static void model_options(const ModelConfig *c, ModelOption list[N_MODEL_OPTIONS]) {
    const ModelOption all[N_MODEL_OPTIONS] = {{"model", c->kind},
                                              {"vocab_size", (double)c->vocab},
                                              {"context", (double)c->context},
                                              {"layers", (double)c->layers},
                                              {"heads", (double)c->heads},
                                              {"kv_heads", (double)model_kv_heads(c)},
                                              {"head_size", (double)model_head_size(c)},
                                              {"channels", (double)c->channels},
                                              {"hidden", (double)c->hidden},
                                              {"bias", c->bias},
                                              {"positions", c->positions},
                                              {"rope_base", c->rope_base},
                                              {"qk_norm", c->qk_norm},
                                              {"norm", c->norm},
                                              {"embed_norm", c->embed_norm},
                                              {"activation", c->mlp},
                                              {"tie_embeddings", !c->untied},
                                              {"softcap", c->softcap}};
    memcpy(list, all, sizeof all);
}

static void option_text(const ModelOption *option, char *text, size_t size) {
    const OptionRow *row = options_find(option->name);
    if (row->type == TYPE_BOOL)
        snprintf(text, size, option->value != 0 ? "true" : "false");
    else if (row->choices)
        options_choice_text(option->name, (int)option->value, text, size);
    else
        snprintf(text, size, "%.17g", option->value);
}

bool setup_same_config(const ModelConfig *a, const ModelConfig *b, const char *folder, Error *e) {
    ModelOption is[N_MODEL_OPTIONS], was[N_MODEL_OPTIONS];
    model_options(a, is);
    model_options(b, was);
    for (int i = 0; i < N_MODEL_OPTIONS; i++) {
        char now[64], then[64];
        if (is[i].value == was[i].value) continue;
        option_text(&is[i], now, sizeof now);
        option_text(&was[i], then, sizeof then);
        return error_misuse(e, folder, "Use the same data and model options as before",
                            "the checkpoint is of another architecture: %s %s, not %s", is[i].name,
                            then, now);
    }
    return a->classes == b->classes ||
           error_misuse(e, folder, "Use the same data as before",
                        "the checkpoint is of %ld classes, not %ld", (long)b->classes,
                        (long)a->classes);
}

/* With --init-from the folder says what the model is; an option that says otherwise is an error. */
bool setup_config_from_folder(Trainer *t, const char *folder, ModelConfig *c, Error *e) {
    if (!checkpoint_read_config(folder, c, e)) return false;
    if (c->classes && c->kind != MODEL_NGRAM && !t->labels.n)
        return error_misuse(e, "--init-from", "Add --task classify",
                            "the model in %s is a classifier, which writes no text", folder);
    setup_classes(t, c);
    ModelOption list[N_MODEL_OPTIONS];
    model_options(c, list);
    for (int i = 0; i < N_MODEL_OPTIONS; i++) {
        char text[64], flag[OPTIONS_DASHED_MAX];
        Settings *s = &t->settings;
        Settings wanted = *s;
        const OptionRow *row = options_find(list[i].name);
        option_text(&list[i], text, sizeof text);
        if (!options_set(&wanted, list[i].name, text, FROM_FILE, folder, e)) return false;
        if (options_source(s, list[i].name) != FROM_DEFAULT &&
            !options_equal(&s->options, &wanted.options, row))
            return error_misuse(e, options_dashed(flag, row->name), "Leave the option out",
                                "%s has %s %s", folder, row->name, text);
        *s = wanted;
    }
    /* Dropout may be chosen; either way it is recorded, for the resumed run reads the record. */
    if (options_source(&t->settings, "dropout") == FROM_DEFAULT) {
        char text[32];
        snprintf(text, sizeof text, "%.17g", c->dropout);
        if (!options_set(&t->settings, "dropout", text, FROM_FILE, folder, e)) return false;
    }
    c->dropout = t->options->dropout;
    /* A model's vocabulary may be rounded up, to a multiple of 64 or 128. */
    const int64_t n = t->tokenizer.n_vocab;
    if (n > c->vocab || (n && c->vocab >= n + 128))
        return error_misuse(e, "--data",
                            "Use the tokenizer that the weights were trained with, such as "
                            "--tokenizer gpt2",
                            "the data's vocabulary of %ld does not fit the %ld tokens of %s",
                            (long)n, (long)c->vocab, folder);
    return model_config_check(c, e);
}

bool setup_transfer(Trainer *t, const char *folder, Error *e) {
    Model from, *to = &t->model;
    ModelConfig c;
    if (!checkpoint_read_config(folder, &c, e)) return false;
    model_plan(&from, &c, &(ModelUse){0}, &t->backend);
    const bool good = model_commit(&from, e) && checkpoint_read_weights(folder, &from, e);
    model_init(to, (uint64_t)t->options->seed);
    for (int i = 0; good && i < from.n_params; i++) {
        const Param *p = &from.params[i];
        Param *same = model_find_param(to, p->spec, p->layer);
        if (!same || p->spec->per_output) continue;
        const int64_t n = tensor_count(p->w);
        float *values = malloc((size_t)n * sizeof *values);
        CHECK(values && n == tensor_count(same->w), "%s has %ld elements", p->name, (long)n);
        model_read_f32(&from, p->w, values);
        model_write_param(to, same, 0, n, values);
        free(values);
    }
    model_free(&from);
    return good;
}

static Recompute recompute_of(const char *name) {
    return strcmp(name, "block") == 0 ? RECOMPUTE_BLOCK
           : strcmp(name, "mlp") == 0 ? RECOMPUTE_MLP
                                      : RECOMPUTE_NONE;
}

/* Each rank takes an equal part of the batch. */
static bool check_batch(const Options *o, int64_t ranks, Error *e) {
    const int64_t below = o->batch_size / ranks * ranks;
    char hint[64];
    if (below == o->batch_size) return true;
    if (below)
        snprintf(hint, sizeof hint, "%ld or %ld would do", (long)below, (long)(below + ranks));
    else
        snprintf(hint, sizeof hint, "%ld would do", (long)ranks);
    return error_misuse(e, "--batch-size", hint, "%ld ranks do not divide the batch of %ld",
                        (long)ranks, (long)o->batch_size);
}

/* One process makes no collectives, unless the check of a single card asks for them. */
static bool is_alone(void) { return dist_ranks() == 1 && !getenv("PUCK_ALWAYS_NCCL"); }

/* With the options' bounds, the bytes of what a pass keeps of so many tokens are below 2^63. */
enum { PASS_TOKENS_MAX = 1 << 26 };

bool train_model_use(const Options *o, ModelUse *use, Error *e) {
    const int64_t ranks = dist_ranks(), part = o->batch_size / ranks;
    if (!check_batch(o, ranks, e)) return false;
    const int64_t micro = o->micro_batch ? i64_min(o->micro_batch, part) : part;
    if (part % micro)
        return error_misuse(e, "--micro-batch", "Choose a divisor of --batch-size",
                            "%ld does not divide %s of %ld", (long)micro,
                            ranks > 1 ? "a rank's part" : "the batch", (long)part);
    const bool recurs = strcmp(o->model, "rnn") == 0;
    if (recurs && ranks > 1)
        return error_misuse(e, "--model", "Start it without a launcher, or use gpt or ffn",
                            "a recurrent model trains on one rank");
    if (recurs && micro != part)
        return error_misuse(e, "--micro-batch", "Leave it out, or lower --batch-size",
                            "a recurrent model carries the states of a whole batch, which cannot "
                            "be cut");
    const int64_t T = strcmp(o->model, "skipgram") == 0 ? o->negatives + 2 : o->context;
    if (micro * T > PASS_TOKENS_MAX)
        return error_misuse(e, "--micro-batch", "Give one that divides --batch-size",
                            "a pass over %ld x %ld tokens is too large; at most %d fit",
                            (long)micro, (long)T, PASS_TOKENS_MAX);
    *use = (ModelUse){.B = micro,
                      .T = T,
                      .training = true,
                      .muon = strcmp(o->optimizer, "muon") == 0,
                      .recompute = recompute_of(o->recompute),
                      .ranks = is_alone() ? 0 : ranks,
                      .rank = dist_rank(),
                      .zero = o->zero && !is_alone(),
                      .bucket_bytes = (int64_t)(o->bucket_mb * 1e6),
                      .graph = strcmp(o->graph, "on") == 0};
    if (o->sample_every > 0) {
        use->decode_batch = 1;
        use->decode_rows = i64_min(o->context, 64);
    }
    return true;
}

static ScheduleKind schedule_of(const char *name) {
    return strcmp(name, "linear") == 0     ? SCHEDULE_LINEAR
           : strcmp(name, "constant") == 0 ? SCHEDULE_CONSTANT
           : strcmp(name, "wsd") == 0      ? SCHEDULE_WSD
                                           : SCHEDULE_COSINE;
}

/* Both follow one schedule, that of --lr. */
Optimiser train_optimiser(const Options *o) {
    return (Optimiser){
        .adamw = {o->beta1, o->beta2, o->adam_eps, o->weight_decay, 1.0},
        .muon = {o->muon_momentum, o->muon_weight_decay, o->lr > 0 ? o->muon_lr / o->lr : 0}};
}

void setup_schedule(Trainer *t) {
    const Options *o = t->options;
    t->schedule = (Schedule){.kind = schedule_of(o->schedule),
                             .peak = o->lr,
                             .minimum = o->min_lr,
                             .warmup = o->warmup,
                             .steps = o->steps,
                             .decay_fraction = o->decay_fraction};
    t->optimiser = train_optimiser(o);
}
