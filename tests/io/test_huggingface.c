/* Folders that others wrote: dtypes, shards, names with and without prefix; what is refused. */
#include "foreign.h"

/* How a folder differs from the plain one. */
typedef struct Variant {
    DType dtype; /* of every weight; DTYPE_F64 is 0: say it */
    bool bare;   /* names without "transformer." */
    bool masks;  /* attn.bias and attn.masked_bias beside the weights */
    bool head;   /* lm_head.weight, equal to wte */
    bool head_differs;
    bool zero_biases;
    int shards; /* 0: model.safetensors; else this many, and an index */
    const char *leave_out, *twice, *extra, *transpose, *as_integers; /* names without prefix */
} Variant;

static bool is(const char *name, const char *wanted) { return wanted && strcmp(name, wanted) == 0; }

static int list_foreign(const Model *m, const Variant *v, Foreign *out) {
    int n = 0;
    const char *prefix = v->bare ? "" : "transformer.";
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        if (is(p->name, v->leave_out)) continue;
        Foreign f = {.dtype = is(p->name, v->as_integers) ? DTYPE_I32 : v->dtype,
                     .rank = p->w.rank,
                     .param = v->zero_biases && p->spec->is_bias ? -1 : i,
                     .swapped = p->spec->transposed};
        const int64_t cols = p->w.rank == 2 ? p->w.dim[1] : 1, rows = tiny_live(m, p) / cols;
        if (is(p->name, v->transpose)) f.swapped = !f.swapped;
        f.dim[0] = f.swapped ? cols : rows;
        f.dim[1] = f.swapped ? rows : cols;
        snprintf(f.name, sizeof f.name, "%s%s", prefix, p->name);
        out[n++] = f;
        if (is(p->name, v->twice)) {
            snprintf(f.name, sizeof f.name, "%s%s", v->bare ? "transformer." : "", p->name);
            out[n++] = f;
        }
        if (i == 0 && (v->head || v->head_differs)) {
            strcpy(f.name, "lm_head.weight");
            f.shift = v->head_differs ? 0.0625f : 0;
            out[n++] = f;
        }
    }
    const Foreign mask = {.dtype = DTYPE_U8, .rank = 1, .param = -1, .dim = {3, 1}};
    for (int layer = 0; v->masks && layer < m->config.layers; layer++) {
        out[n] = out[n + 1] = mask;
        snprintf(out[n++].name, sizeof mask.name, "%sh.%d.attn.bias", prefix, layer);
        snprintf(out[n++].name, sizeof mask.name, "%sh.%d.attn.masked_bias", prefix, layer);
    }
    if (v->extra) {
        out[n] = mask;
        snprintf(out[n++].name, sizeof mask.name, "%s%s", prefix, v->extra);
    }
    return n;
}

/* Weights of a folder as transformers would write them. */
static void put_weights(const char *folder, const Model *m, const Variant *v) {
    static Foreign list[64];
    const int n = list_foreign(m, v, list);
    foreign_put(folder, list, n, v->shards);
}

static void test_variants(void **state) {
    (void)state;
    const Variant variants[] = {
        {.dtype = DTYPE_F32},
        {.dtype = DTYPE_F16, .bare = true},
        {.dtype = DTYPE_BF16, .masks = true},
        {.dtype = DTYPE_F64, .head = true, .bare = true, .masks = true},
        {.dtype = DTYPE_F16, .shards = 3},
        {.dtype = DTYPE_F32, .shards = 5, .head = true, .bare = true, .masks = true},
    };
    const char *folder = scratch_path("variant");
    for (int64_t i = 0; i < COUNT_OF(variants); i++) {
        Tiny t;
        Error e;
        tiny_open(&t, &tiny_config, false);
        put_weights(folder, &t.m, &variants[i]);
        tiny_fill(&t, 9);
        if (!checkpoint_read_weights(folder, &t.m, &e)) fail_msg("%s (%s)", e.text, e.place);
        foreign_check_values(&t.m, false);
        tiny_close(&t);
    }
}

/* A model without biases takes files whose biases are zero, and no others. */
static void test_no_biases(void **state) {
    (void)state;
    const char *folder = scratch_path("nobias");
    ModelConfig bare = tiny_config;
    bare.bias = false;
    Tiny full, t;
    Error e;
    tiny_open(&full, &tiny_config, false);
    tiny_open(&t, &bare, false);
    put_weights(folder, &full.m, &(Variant){.dtype = DTYPE_F32, .zero_biases = true});
    assert_true(checkpoint_read_weights(folder, &t.m, &e));
    assert_true(checkpoint_read_weights(folder, &full.m, &e));
    foreign_check_values(&full.m, true);
    put_weights(folder, &full.m, &(Variant){.dtype = DTYPE_F32});
    assert_false(checkpoint_read_weights(folder, &t.m, &e));
    assert_non_null(strstr(e.text, "h.0.ln_1.bias is not zero"));
    tiny_close(&full);
    tiny_close(&t);
}

static void test_weight_faults(void **state) {
    (void)state;
    const struct {
        Variant v;
        const char *says;
    } cases[] = {
        {{.leave_out = "h.1.mlp.c_fc.bias"}, "transformer.h.1.mlp.c_fc.bias is missing"},
        {{.leave_out = "wte.weight"}, "transformer.wte.weight is missing"},
        {{.twice = "ln_f.weight"}, "transformer.ln_f.weight is there twice"},
        {{.extra = "h.2.attn.bias"}, "h.2.attn.bias is not part of this model"},
        {{.extra = "score.weight"}, "score.weight is not part of this model"},
        {{.transpose = "h.0.mlp.c_fc.weight"}, "has shape [32, 8], where the model needs [8, 32]"},
        {{.transpose = "wte.weight"}, "has shape [8, 67], where the model needs [67, 8]"},
        {{.as_integers = "wpe.weight"}, "transformer.wpe.weight has dtype I32"},
        {{.head_differs = true}, "lm_head.weight differs from transformer.wte.weight"},
        {{.head_differs = true, .shards = 2, .bare = true}, "lm_head.weight differs"},
    };
    const char *folder = scratch_path("faulty");
    Tiny t;
    tiny_open(&t, &tiny_config, false);
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Variant v = cases[i].v;
        v.dtype = DTYPE_F32;
        put_weights(folder, &t.m, &v);
        foreign_refused(folder, &t.m, cases[i].says);
    }
    tiny_close(&t);
}

static void test_index_faults(void **state) {
    (void)state;
#define MAP(file) "{\"weight_map\": {\"transformer.wte.weight\": " file "}}"
    const struct {
        const char *index, *says;
    } cases[] = {
        {MAP("\"../model-0.safetensors\""), "no plain file name"},
        {MAP("\"/etc/passwd\""), "no plain file name"},
        {MAP("\"..\""), "no plain file name"},
        {MAP("\"\""), "no plain file name"},
        {MAP("3"), "no plain file name"},
        {MAP("\"model-9.safetensors\""), "cannot open"},
        {MAP("\"model-1.safetensors\""), "transformer.wte.weight is missing"},
        {MAP("\"model-0.safetensors\""), "is missing"}, /* the other shard is not named */
        {"{\"weight_map\": {}}", "\"weight_map\" is missing or empty"},
        {"{\"weight_map\": []}", "\"weight_map\" is missing or empty"},
        {"{}", "\"weight_map\" is missing or empty"},
        {"[]", "not an object"},
        {"{\"weight_map\":", "JSON is broken"},
    };
    const char *folder = scratch_path("index");
    Tiny t;
    tiny_open(&t, &tiny_config, false);
    put_weights(folder, &t.m, &(Variant){.dtype = DTYPE_F32, .shards = 2});
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Error e = {0};
        foreign_put_text(folder, "model.safetensors.index.json", cases[i].index);
        assert_false(checkpoint_read_weights(folder, &t.m, &e));
        if (!strstr(e.text, cases[i].says)) fail_msg("%s: %s", cases[i].index, e.text);
    }
    tiny_close(&t);
}

/* ---- config.json ---- */

#define SHAPE "\"vocab_size\": 67, \"n_positions\": 5, \"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2"
#define RATES "\"attn_pdrop\": 0.1, \"embd_pdrop\": 0.1, \"resid_pdrop\": 0.1"
#define GPT2 "\"model_type\": \"gpt2\", " SHAPE

static void test_configs(void **state) {
    (void)state;
    const struct {
        const char *text;
        bool bias;
        double dropout, eps;
        int64_t hidden;
    } cases[] = {
        {"{" GPT2 "}", true, 0.1, 1e-5, 32}, /* the rest as transformers assumes it */
        {"{" GPT2 ", \"attn_pdrop\": 0, \"embd_pdrop\": 0.0, \"resid_pdrop\": 0}", true, 0, 1e-5,
         32},
        {"{" GPT2 ", " RATES ", \"layer_norm_epsilon\": 1e-6, \"n_inner\": null}", true, 0.1, 1e-6,
         32},
        {"{" GPT2 ", \"n_inner\": 24, \"activation_function\": \"gelu_pytorch_tanh\"}", true, 0.1,
         1e-5, 24},
        {"{" GPT2 ", \"n_ctx\": 1024, \"puck\": {\"bias\": false}, \"bos_token_id\": 50256}", false,
         0.1, 1e-5, 32},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 67, \"n_ctx\": 5, \"n_embd\": 8, "
         "\"n_layer\": 2, \"n_head\": 2}",
         true, 0.1, 1e-5, 32},
        {"{" GPT2 ", \"tie_word_embeddings\": true, \"scale_attn_weights\": true, "
         "\"reorder_and_upcast_attn\": true, \"scale_attn_by_inverse_layer_idx\": false, "
         "\"add_cross_attention\": false, \"quantization_config\": null}",
         true, 0.1, 1e-5, 32},
    };
    const char *folder = scratch_path("config");
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        ModelConfig c;
        Error e = {0};
        foreign_put_text(folder, "config.json", cases[i].text);
        if (!checkpoint_read_config(folder, &c, &e)) fail_msg("%s: %s", cases[i].text, e.text);
        assert_true(c.vocab == 67 && c.context == 5 && c.channels == 8 && c.layers == 2 &&
                    c.heads == 2);
        assert_true(c.bias == cases[i].bias && c.dropout == cases[i].dropout &&
                    c.norm_eps == cases[i].eps && c.hidden == cases[i].hidden);
    }
}

static void test_config_faults(void **state) {
    (void)state;
    const struct {
        const char *text, *says;
    } cases[] = {
        {"{" SHAPE "}", "model_type"},
        {"{\"model_type\": \"llama\", " SHAPE "}", "model_type is \"llama\""},
        {"{" GPT2 ", \"activation_function\": \"gelu\"}", "activation_function"},
        {"{" GPT2 ", \"activation_function\": \"relu\"}", "activation_function"},
        {"{" GPT2 ", \"activation_function\": null}", "activation_function"},
        {"{" GPT2 ", \"scale_attn_by_inverse_layer_idx\": true}",
         "scale_attn_by_inverse_layer_idx"},
        {"{" GPT2 ", \"scale_attn_weights\": false}", "scale_attn_weights"},
        {"{" GPT2 ", \"scale_attn_weights\": 1}", "scale_attn_weights"},
        {"{" GPT2 ", \"add_cross_attention\": true}", "add_cross_attention"},
        {"{" GPT2 ", \"tie_word_embeddings\": 0}", "tie_word_embeddings"},
        {"{" GPT2 ", \"quantization_config\": {\"bits\": 4}}", "quantization_config"},
        {"{" GPT2 ", \"attn_pdrop\": 0.2}", "pdrop"},
        {"{" GPT2 ", \"attn_pdrop\": 1.0}", "attn_pdrop"},
        {"{" GPT2 ", \"attn_pdrop\": \"0.1\"}", "attn_pdrop"},
        {"{" GPT2 ", \"layer_norm_epsilon\": -1}", "layer_norm_epsilon"},
        {"{" GPT2 ", \"layer_norm_epsilon\": null}", "layer_norm_epsilon"},
        {"{" GPT2 ", \"n_inner\": 0}", "n_inner"},
        {"{" GPT2 ", \"n_inner\": 1e9}", "n_inner"},
        {"{" GPT2 ", \"puck\": {}}", "bias"},
        {"{" GPT2 ", \"puck\": true}", "bias"},
        {"{" GPT2 ", \"n_head\": 2}", "duplicate"},
        {"{\"model_type\": \"gpt2\"}", "vocab_size"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 67, \"n_positions\": 5, \"n_embd\": 8, "
         "\"n_layer\": 2, \"n_head\": 3}",
         "3 heads"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 67, \"n_positions\": 5, \"n_embd\": 8, "
         "\"n_layer\": 0, \"n_head\": 2}",
         "n_layer"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 1e400}", "JSON is broken"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 99999999999}", "vocab_size"},
        {"", "JSON is broken"},
        {"[]", "not an object"},
        {"\xff", "JSON is broken"},
    };
    const char *folder = scratch_path("config");
    ModelConfig c;
    Error e;
    for (int64_t i = 0; i < COUNT_OF(cases); i++)
        foreign_config_refused(folder, cases[i].text, cases[i].says);
    const char *good = "{" GPT2 ", " RATES "}";
    for (int64_t cut = 0; cut < (int64_t)strlen(good); cut++) {
        file_put(scratch_path("config/config.json"), good, cut);
        assert_false(checkpoint_read_config(folder, &c, &e));
    }
    assert_false(checkpoint_read_config(scratch_path("nowhere"), &c, &e));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),      cmocka_unit_test(test_no_biases),
        cmocka_unit_test(test_weight_faults), cmocka_unit_test(test_index_faults),
        cmocka_unit_test(test_configs),       cmocka_unit_test(test_config_faults),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
