/* From settings to a model and a recipe, and from one model to another that is finetuned. */
#include "trainer.h"
#include "dist.h"
#include <stdlib.h>
#include <string.h>

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
