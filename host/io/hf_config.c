/* config.json in each layout, and as Hugging Face's GPT-2 has it. What puck does not compute is
 * refused by name. */
#include "io.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool write_text(const char *folder, const char *name, const char *text, Error *e) {
    char path[IO_PATH_MAX];
    return path_join(path, folder, name, e) &&
           file_write_atomic(path, text, (int64_t)strlen(text), e);
}

static void gpt2_config_write(FILE *out, const ModelConfig *c) {
    char eps[32], dropout[32], inner[32] = "null", classes[64] = "";
    json_real_text(eps, c->norm_eps);
    json_real_text(dropout, c->dropout);
    if (c->hidden != 4 * c->channels) snprintf(inner, sizeof inner, "%ld", (long)c->hidden);
    if (c->classes)
        snprintf(classes, sizeof classes, ",\n  \"num_labels\": %ld", (long)c->classes);
    /* n_ctx is for older readers. The token ids are null, because GPT-2's own would be assumed. */
    fprintf(out,
            "{\n"
            "  \"architectures\": [\"%s\"],\n"
            "  \"model_type\": \"gpt2\",\n"
            "  \"vocab_size\": %ld,\n"
            "  \"n_positions\": %ld,\n"
            "  \"n_ctx\": %ld,\n"
            "  \"n_embd\": %ld,\n"
            "  \"n_layer\": %ld,\n"
            "  \"n_head\": %ld,\n"
            "  \"n_inner\": %s,\n"
            "  \"activation_function\": \"%s\",\n"
            "  \"layer_norm_epsilon\": %s,\n"
            "  \"attn_pdrop\": %s,\n"
            "  \"embd_pdrop\": %s,\n"
            "  \"resid_pdrop\": %s,\n"
            "  \"initializer_range\": 0.02,\n"
            "  \"scale_attn_weights\": true,\n"
            "  \"scale_attn_by_inverse_layer_idx\": false,\n"
            "  \"reorder_and_upcast_attn\": false,\n"
            "  \"tie_word_embeddings\": %s,\n"
            "  \"bos_token_id\": null,\n"
            "  \"eos_token_id\": null,\n"
            "  \"pad_token_id\": null,\n"
            "  \"torch_dtype\": \"float32\",\n"
            "  \"puck\": {\"bias\": %s}%s\n"
            "}\n",
            c->classes ? "GPT2ForSequenceClassification" : "GPT2LMHeadModel", (long)c->vocab,
            (long)c->context, (long)c->context, (long)c->channels, (long)c->layers, (long)c->heads,
            inner, c->mlp == MLP_RELU2 ? "relu2" : "gelu_new", eps, dropout,
            dropout, dropout, c->untied ? "false" : "true", c->bias ? "true" : "false", classes);
}

bool config_write(const char *folder, const ModelConfig *c, Error *e) {
    static void (*const write[])(FILE *,
                                 const ModelConfig *) = {[LAYOUT_GPT2] = gpt2_config_write,
                                                         [LAYOUT_NANOCHAT] = nanochat_config_write,
                                                         [LAYOUT_PUCK] = layout_write_config};
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    CHECK(out, "no memory for config.json");
    write[layout_of(c)](out, c);
    CHECK(fclose(out) == 0, "no memory for config.json");
    const bool good =
        write_text(folder, "config.json", text, e) &&
        write_text(folder, "generation_config.json",
                   "{\"bos_token_id\": null, \"eos_token_id\": null, \"pad_token_id\": null, "
                   "\"do_sample\": true}\n",
                   e) &&
        /* Else transformers takes the class's own split and merges instead of tokenizer.json. */
        write_text(folder, "tokenizer_config.json",
                   "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", "
                   "\"clean_up_tokenization_spaces\": false}\n",
                   e);
    free(text);
    return good;
}

static bool refuse(const char *path, const char *key, const char *why, Error *e) {
    return error_set(e, path, NULL, "\"%s\": %s", key, why);
}

/* Everything that would make another function of the same weights. */
static bool check_architecture(json_t *root, const char *path, ModelConfig *c, Error *e) {
    const json_t *activation = json_object_get(root, "activation_function");
    const char *name = activation ? json_string_value(activation) : "gelu_new";
    if (name && strcmp(name, "relu2") == 0)
        c->mlp = MLP_RELU2;
    else if (!name || (strcmp(name, "gelu_new") && strcmp(name, "gelu_pytorch_tanh")))
        return refuse(path, "activation_function", "puck computes \"gelu_new\" and \"relu2\" alone",
                      e);
    static const struct {
        const char *key;
        bool needed;
    } flags[] = {
        {"scale_attn_weights", true},
        {"scale_attn_by_inverse_layer_idx", false},
        {"add_cross_attention", false},
    };
    for (int64_t i = 0; i < COUNT_OF(flags); i++) {
        bool value = flags[i].needed;
        if (json_object_get(root, flags[i].key) &&
            !json_get_bool(root, path, flags[i].key, &value, e))
            return false;
        if (value != flags[i].needed)
            return refuse(path, flags[i].key,
                          flags[i].needed ? "puck needs true" : "puck needs false", e);
    }
    bool tied = true;
    if (json_object_get(root, "tie_word_embeddings") &&
        !json_get_bool(root, path, "tie_word_embeddings", &tied, e))
        return false;
    c->untied = !tied;
    return true;
}

static bool read_shape(json_t *root, const char *path, ModelConfig *c, Error *e) {
    const char *context = json_object_get(root, "n_positions") ? "n_positions" : "n_ctx";
    if (!json_get_int(root, path, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->vocab, e) ||
        !json_get_int(root, path, context, 1, CONFIG_CONTEXT_MAX, &c->context, e) ||
        !json_get_int(root, path, "n_layer", 1, CONFIG_LAYERS_MAX, &c->layers, e) ||
        !json_get_int(root, path, "n_head", 1, CONFIG_HEADS_MAX, &c->heads, e) ||
        !json_get_int(root, path, "n_embd", 1, CONFIG_CHANNELS_MAX, &c->channels, e))
        return false;
    c->hidden = 4 * c->channels;
    const json_t *inner = json_object_get(root, "n_inner");
    return !inner || json_is_null(inner) ||
           json_get_int(root, path, "n_inner", 1, CONFIG_HIDDEN_MAX, &c->hidden, e);
}

/* transformers has three rates, puck one; 0.1 is what transformers takes for a missing one. */
static bool read_rates(json_t *root, const char *path, ModelConfig *c, Error *e) {
    static const char *const keys[] = {"attn_pdrop", "embd_pdrop", "resid_pdrop"};
    for (int i = 0; i < 3; i++) {
        double rate = 0.1;
        if (json_object_get(root, keys[i]) && !json_get_real(root, path, keys[i], &rate, e))
            return false;
        if (rate < 0 || rate >= 1) return refuse(path, keys[i], "must be in [0, 1)", e);
        if (i > 0 && rate != c->dropout)
            return error_set(e, path, "Make them equal: they only matter in training",
                             "attn_pdrop, embd_pdrop, resid_pdrop differ, and puck has one rate");
        c->dropout = rate;
    }
    c->norm_eps = 1e-5;
    if (json_object_get(root, "layer_norm_epsilon") &&
        !json_get_real(root, path, "layer_norm_epsilon", &c->norm_eps, e))
        return false;
    if (c->norm_eps < 0 || c->norm_eps > 1)
        return refuse(path, "layer_norm_epsilon", "must be in [0, 1]", e);
    json_t *own = json_object_get(root, "puck");
    c->bias = true;
    return !own || json_get_bool(own, path, "bias", &c->bias, e);
}

/* What GPT2ForSequenceClassification has in place of a logit a token. transformers leaves the
 * number out where it is the usual one. */
static bool read_classes(json_t *root, const char *path, ModelConfig *c, Error *e) {
    const json_t *class = json_array_get(json_object_get(root, "architectures"), 0);
    const char *name = json_string_value(class);
    const json_t *names = json_object_get(root, "id2label");
    if (!name || strcmp(name, "GPT2ForSequenceClassification") != 0) return true;
    c->untied = true;
    c->classes = json_is_object(names) ? (int64_t)json_object_size(names) : 2;
    return !json_object_get(root, "num_labels") ||
           json_get_int(root, path, "num_labels", 1, CONFIG_CLASSES_MAX, &c->classes, e);
}

static bool gpt2_config_read(json_t *root, const char *path, ModelConfig *c, Error *e) {
    return check_architecture(root, path, c, e) && read_classes(root, path, c, e) &&
           read_shape(root, path, c, e) && read_rates(root, path, c, e);
}

static bool read_any(json_t *root, const char *path, ModelConfig *c, Error *e) {
    const char *type = json_string_value(json_object_get(root, "model_type"));
    const json_t *quantized = json_object_get(root, "quantization_config");
    *c = (ModelConfig){.rope_base = 10000}; /* as the option has it, where it counts for nothing */
    if (quantized && !json_is_null(quantized))
        return refuse(path, "quantization_config", "puck reads plain weights alone", e);
    if (type && strcmp(type, "gpt2") == 0) return gpt2_config_read(root, path, c, e);
    if (type && strcmp(type, "nanochat") == 0) return nanochat_config_read(root, path, c, e);
    for (int kind = MODEL_GPT; type && kind <= MODEL_NGRAM; kind++) {
        c->kind = (ModelKind)kind;
        if (strcmp(type, layout_model_type(c->kind)) == 0)
            return layout_read_config(root, path, c, e);
    }
    return error_set(e, path, "Give a folder of a GPT-2 or a NanoChat",
                     "model_type is \"%.40s\", and puck reads \"gpt2\", \"nanochat\" and its own",
                     type ? type : "(missing)");
}

bool checkpoint_read_config(const char *folder, ModelConfig *config, Error *e) {
    char path[IO_PATH_MAX];
    json_t *root = NULL;
    *config = (ModelConfig){0};
    if (!path_join(path, folder, "config.json", e) || !(root = json_read_file(path, e)))
        return false;
    bool good = read_any(root, path, config, e);
    json_decref(root);
    if (!good) return false;
    good = model_config_check(config, e);
    if (!good) snprintf(e->place, sizeof e->place, "%.511s", path);
    return good;
}
