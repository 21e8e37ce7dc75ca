/* config.json as Hugging Face's NanoChat has it, model_type "nanochat". Values that a file leaves
 * out are those of the class. */
#include "io.h"
#include <stdio.h>
#include <string.h>

void nanochat_config_write(FILE *out, const ModelConfig *c) {
    char eps[32], dropout[32], base[32], cap[32] = "null";
    json_real_text(eps, c->norm_eps);
    json_real_text(dropout, c->dropout);
    json_real_text(base, c->rope_base);
    if (c->softcap > 0) json_real_text(cap, c->softcap);
    fprintf(out,
            "{\n"
            "  \"architectures\": [\"NanoChatForCausalLM\"],\n"
            "  \"model_type\": \"nanochat\",\n"
            "  \"vocab_size\": %ld,\n"
            "  \"max_position_embeddings\": %ld,\n"
            "  \"hidden_size\": %ld,\n"
            "  \"intermediate_size\": %ld,\n"
            "  \"num_hidden_layers\": %ld,\n"
            "  \"num_attention_heads\": %ld,\n"
            "  \"num_key_value_heads\": %ld,\n"
            "  \"head_dim\": %ld,\n"
            "  \"hidden_act\": \"%s\",\n"
            "  \"rms_norm_eps\": %s,\n"
            "  \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": %s},\n"
            "  \"final_logit_softcapping\": %s,\n"
            "  \"attention_bias\": false,\n"
            "  \"attention_dropout\": %s,\n"
            "  \"initializer_range\": 0.02,\n"
            "  \"tie_word_embeddings\": %s,\n"
            "  \"bos_token_id\": null,\n"
            "  \"eos_token_id\": null,\n"
            "  \"pad_token_id\": null,\n"
            "  \"dtype\": \"float32\"\n"
            "}\n",
            (long)c->vocab, (long)c->context, (long)c->channels, (long)c->hidden, (long)c->layers,
            (long)c->heads, (long)model_kv_heads(c), (long)model_head_size(c),
            c->mlp == MLP_RELU2 ? "relu2" : "gelu_new", eps, base, cap, dropout,
            c->untied ? "false" : "true");
}

/* Whether a value is there: null counts as left out. */
static bool given(const json_t *object, const char *key) {
    const json_t *field = json_object_get(object, key);
    return field && !json_is_null(field);
}

static bool read_shape(json_t *root, const char *path, ModelConfig *c, Error *e) {
    return json_get_int(root, path, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->vocab, e) &&
           json_get_int(root, path, "max_position_embeddings", 1, CONFIG_CONTEXT_MAX, &c->context,
                        e) &&
           json_get_int(root, path, "hidden_size", 1, CONFIG_CHANNELS_MAX, &c->channels, e) &&
           json_get_int(root, path, "intermediate_size", 1, CONFIG_HIDDEN_MAX, &c->hidden, e) &&
           json_get_int(root, path, "num_hidden_layers", 1, CONFIG_LAYERS_MAX, &c->layers, e) &&
           json_get_int(root, path, "num_attention_heads", 1, CONFIG_HEADS_MAX, &c->heads, e) &&
           (!given(root, "num_key_value_heads") ||
            json_get_int(root, path, "num_key_value_heads", 1, CONFIG_HEADS_MAX, &c->kv_heads,
                         e)) &&
           (!given(root, "head_dim") ||
            json_get_int(root, path, "head_dim", 1, CONFIG_CHANNELS_MAX, &c->head_size, e));
}

/* Newer files have rope_parameters, older ones rope_theta and rope_scaling. */
static bool read_rope(json_t *root, const char *path, ModelConfig *c, Error *e) {
    json_t *rope = json_object_get(root, "rope_parameters");
    if (!given(root, "rope_parameters")) rope = json_object_get(root, "rope_scaling");
    const json_t *named = json_object_get(rope, "rope_type");
    const char *type = named ? json_string_value(named) : "default";
    if (!type || strcmp(type, "default") != 0)
        return error_set(e, path, NULL, "\"rope_type\": puck computes \"default\" alone");
    json_t *holder = given(rope, "rope_theta") ? rope : root;
    c->rope_base = 10000;
    if (given(holder, "rope_theta") && !json_get_real(holder, path, "rope_theta", &c->rope_base, e))
        return false;
    return (c->rope_base >= 1 && c->rope_base <= 1e12) ||
           error_set(e, path, NULL, "\"rope_theta\" must be between 1 and 1e12");
}

static bool read_activation(json_t *root, const char *path, ModelConfig *c, Error *e) {
    const json_t *field = json_object_get(root, "hidden_act");
    const char *name = field ? json_string_value(field) : "relu2";
    if (name && strcmp(name, "relu2") == 0)
        c->mlp = MLP_RELU2;
    else if (name && (!strcmp(name, "gelu_new") || !strcmp(name, "gelu_pytorch_tanh")))
        c->mlp = MLP_GELU;
    else
        return error_set(e, path, NULL,
                         "\"hidden_act\": puck computes \"relu2\" and \"gelu_new\" alone");
    return true;
}

static bool read_rates(json_t *root, const char *path, ModelConfig *c, Error *e) {
    c->softcap = 15;
    c->norm_eps = 1e-6;
    const json_t *cap = json_object_get(root, "final_logit_softcapping");
    if (cap && json_is_null(cap))
        c->softcap = 0;
    else if (cap && (!json_get_real(root, path, "final_logit_softcapping", &c->softcap, e) ||
                     !(c->softcap > 0)))
        return error_set(e, path, NULL,
                         "\"final_logit_softcapping\" must be a number above 0, or null");
    if ((given(root, "rms_norm_eps") &&
         !json_get_real(root, path, "rms_norm_eps", &c->norm_eps, e)) ||
        (given(root, "attention_dropout") &&
         !json_get_real(root, path, "attention_dropout", &c->dropout, e)))
        return false;
    if (!(c->norm_eps >= 0 && c->norm_eps <= 1))
        return error_set(e, path, NULL, "\"rms_norm_eps\" must be in [0, 1]");
    return (c->dropout >= 0 && c->dropout < 1) ||
           error_set(e, path, NULL, "\"attention_dropout\" must be in [0, 1)");
}

bool nanochat_config_read(json_t *root, const char *path, ModelConfig *c, Error *e) {
    bool bias = false, tied = false;
    c->positions = POSITIONS_ROTARY_REVERSED;
    c->norm = NORMS_RMSNORM_PLAIN;
    c->qk_norm = c->embed_norm = true;
    if (!read_shape(root, path, c, e) || !read_rope(root, path, c, e) ||
        !read_activation(root, path, c, e) || !read_rates(root, path, c, e))
        return false;
    if ((given(root, "attention_bias") && !json_get_bool(root, path, "attention_bias", &bias, e)) ||
        (given(root, "tie_word_embeddings") &&
         !json_get_bool(root, path, "tie_word_embeddings", &tied, e)))
        return false;
    c->untied = !tied;
    return !bias || error_set(e, path, NULL, "\"attention_bias\": puck needs false");
}
