/* Which layout a folder has: that of the Hugging Face class which computes the model, or puck's
 * own, whose config.json says what the options say. */
#include "io.h"
#include <stdio.h>
#include <string.h>

/* What a class needs of a model, as the option that would give it. */
typedef struct Need {
    bool met;
    const char *option;
} Need;

/* Writes the options that are missing; returns how many. */
static int list_missing(const Need *needs, int64_t n, char *text, size_t size) {
    int missing = 0;
    text[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        if (needs[i].met) continue;
        const size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", missing++ ? " " : "", needs[i].option);
    }
    return missing;
}

static bool grouped(const ModelConfig *c) { return model_kv_heads(c) != c->heads; }
static bool own_head_size(const ModelConfig *c) {
    return c->head_size && c->head_size * c->heads != c->channels;
}

/* transformers' GPT2LMHeadModel, and of classes GPT2ForSequenceClassification */
static int needs_of_gpt2(const ModelConfig *c, char *text, size_t size) {
    const Need needs[] = {{c->positions == POSITIONS_LEARNED, "--positions learned"},
                          {c->norm == NORMS_LAYERNORM, "--norm layernorm"},
                          {!c->embed_norm, "--no-embed-norm"},
                          {!c->qk_norm, "--no-qk-norm"},
                          {!grouped(c), "--kv-heads 0"},
                          {!own_head_size(c), "--head-size 0"},
                          {c->mlp != MLP_SWIGLU, "--activation gelu"},
                          {c->softcap == 0, "--softcap 0"}};
    return list_missing(needs, COUNT_OF(needs), text, size);
}

/* transformers' NanoChatForCausalLM */
static int needs_of_nanochat(const ModelConfig *c, char *text, size_t size) {
    const Need needs[] = {
        {c->positions == POSITIONS_ROTARY_REVERSED, "--positions rotary-reversed"},
        {c->norm == NORMS_RMSNORM_PLAIN, "--norm rmsnorm-plain"},
        {c->embed_norm, "--embed-norm"},
        {c->qk_norm, "--qk-norm"},
        {c->mlp != MLP_SWIGLU, "--activation relu2"},
        {!c->classes, "--task text"},
        {!c->bias, "--no-bias"}};
    return list_missing(needs, COUNT_OF(needs), text, size);
}

Layout layout_of(const ModelConfig *c) {
    char none[512];
    if (c->kind != MODEL_GPT) return LAYOUT_PUCK;
    if (!needs_of_gpt2(c, none, sizeof none)) return LAYOUT_GPT2;
    return needs_of_nanochat(c, none, sizeof none) ? LAYOUT_PUCK : LAYOUT_NANOCHAT;
}

bool checkpoint_check_format(const ModelConfig *c, bool any, Error *e) {
    if (any || c->kind != MODEL_GPT || layout_of(c) != LAYOUT_PUCK) return true;
    char gpt2[160], nanochat[160];
    const int n_gpt2 = needs_of_gpt2(c, gpt2, sizeof gpt2);
    const int n_nanochat = needs_of_nanochat(c, nanochat, sizeof nanochat);
    const bool gpt2_first = n_gpt2 <= n_nanochat;
    return error_misuse(
        e, "--format", "Or add --format puck: the folder then loads in puck alone",
        "no class of transformers computes this mix of options; %s would with %s, and %s with %s",
        gpt2_first ? "GPT-2's" : "NanoChat's", gpt2_first ? gpt2 : nanochat,
        gpt2_first ? "NanoChat's" : "GPT-2's", gpt2_first ? nanochat : gpt2);
}

/* ---- puck's own config.json ---- */

const char *layout_model_type(ModelKind kind) {
    static const char *const types[] = {
        [MODEL_GPT] = "puck", [MODEL_FFN] = "puck-ffn",
        [MODEL_SKIPGRAM] = "puck-skipgram", [MODEL_RNN] = "puck-rnn",
        [MODEL_NGRAM] = "puck-ngram"};
    return types[kind];
}

/* Fields under their options' names. Choices are written as the options have them. */
typedef struct Field {
    const char *key;
    enum { FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_CHOICE } type;
    size_t offset;
    double minimum, maximum;
} Field;

#define INT(key, field, maximum)                                                                   \
    { key, FIELD_INT, offsetof(ModelConfig, field), 1, maximum }
#define REAL(key, field, minimum, maximum)                                                         \
    { key, FIELD_REAL, offsetof(ModelConfig, field), minimum, maximum }
#define BOOL(key, field)                                                                           \
    { key, FIELD_BOOL, offsetof(ModelConfig, field), 0, 1 }
#define CHOICE(key, field)                                                                         \
    { key, FIELD_CHOICE, offsetof(ModelConfig, field), 0, 0 }

/* The first ones are those of every kind of model, the others a GPT's. */
enum { SHARED_FIELDS = 6 };
static const Field fields[] = {
    INT("vocab_size", vocab, CONFIG_VOCAB_MAX),
    INT("context", context, CONFIG_CONTEXT_MAX),
    INT("layers", layers, CONFIG_LAYERS_MAX),
    INT("channels", channels, CONFIG_CHANNELS_MAX),
    INT("hidden", hidden, CONFIG_HIDDEN_MAX),
    CHOICE("activation", mlp),
    INT("heads", heads, CONFIG_HEADS_MAX),
    INT("kv_heads", kv_heads, CONFIG_HEADS_MAX),
    INT("head_size", head_size, CONFIG_CHANNELS_MAX),
    BOOL("bias", bias),
    REAL("norm_eps", norm_eps, 0, 1),
    REAL("dropout", dropout, 0, 0.95),
    CHOICE("positions", positions),
    REAL("rope_base", rope_base, 1, 1e12),
    BOOL("qk_norm", qk_norm),
    CHOICE("norm", norm),
    BOOL("embed_norm", embed_norm),
    BOOL("untied", untied),
    REAL("softcap", softcap, 0, 1e6),
};
_Static_assert(sizeof(Positions) == sizeof(int) && sizeof(NormLayers) == sizeof(int) &&
                   sizeof(MlpKind) == sizeof(int),
               "choices are read and written as int");

static int64_t n_fields(ModelKind kind) {
    return kind == MODEL_GPT ? COUNT_OF(fields) : SHARED_FIELDS;
}

void layout_write_config(FILE *out, const ModelConfig *config) {
    ModelConfig c = *config;
    c.kv_heads = model_kv_heads(config);
    c.head_size = model_head_size(config);
    fprintf(out, "{\n  \"model_type\": \"%s\"", layout_model_type(c.kind));
    for (int64_t i = 0; i < n_fields(c.kind); i++) {
        const Field *f = &fields[i];
        const void *at = (const char *)&c + f->offset;
        char text[64];
        fprintf(out, ",\n  \"%s\": ", f->key);
        switch (f->type) {
        case FIELD_INT: fprintf(out, "%ld", (long)*(const int64_t *)at); break;
        case FIELD_BOOL: fputs(*(const bool *)at ? "true" : "false", out); break;
        case FIELD_REAL:
            json_real_text(text, *(const double *)at);
            fputs(text, out);
            break;
        case FIELD_CHOICE:
            options_choice_text(f->key, *(const int *)at, text, sizeof text);
            fprintf(out, "\"%s\"", text);
            break;
        }
    }
    if (c.classes) fprintf(out, ",\n  \"classes\": %ld", (long)c.classes);
    fputs("\n}\n", out);
}

bool layout_read_config(json_t *root, const char *path, ModelConfig *c, Error *e) {
    c->bias = c->kind != MODEL_GPT;
    c->heads = 1;
    for (int64_t i = 0; i < n_fields(c->kind); i++) {
        const Field *f = &fields[i];
        void *at = (char *)c + f->offset;
        if (f->type == FIELD_INT) {
            if (!json_get_int(root, path, f->key, (int64_t)f->minimum, (int64_t)f->maximum, at, e))
                return false;
        } else if (f->type == FIELD_BOOL) {
            if (!json_get_bool(root, path, f->key, at, e)) return false;
        } else if (f->type == FIELD_REAL) {
            const double *value = at;
            if (!json_get_real(root, path, f->key, at, e)) return false;
            if (!(*value >= f->minimum && *value <= f->maximum))
                return error_set(e, path, NULL, "\"%s\" must be between %g and %g", f->key,
                                 f->minimum, f->maximum);
        } else {
            const char *text = json_string_value(json_object_get(root, f->key));
            const int number = text ? options_choice(f->key, text) : -1;
            if (number < 0)
                return error_set(e, path, NULL, "\"%s\" must be one of %s", f->key,
                                 options_find(f->key)->choices);
            *(int *)at = number;
        }
    }
    return !json_object_get(root, "classes") ||
           json_get_int(root, path, "classes", 1, CONFIG_CLASSES_MAX, &c->classes, e);
}
