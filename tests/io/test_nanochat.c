/* Folders of the other layouts: NanoChat's, as puck and as transformers write them, puck's own, and
 * which mix gets which. */
#include "foreign.h"

static const ModelConfig nano = {.vocab = 67,
                                 .context = 5,
                                 .layers = 2,
                                 .heads = 4,
                                 .channels = 16,
                                 .hidden = 24,
                                 .norm_eps = 1e-6,
                                 .kv_heads = 2,
                                 .head_size = 4,
                                 .positions = POSITIONS_ROTARY_REVERSED,
                                 .rope_base = 5000,
                                 .qk_norm = true,
                                 .norm = NORMS_RMSNORM_PLAIN,
                                 .embed_norm = true,
                                 .mlp = MLP_RELU2,
                                 .untied = true,
                                 .softcap = 15};

/* ---- folders that puck writes ---- */

static bool same_config(const ModelConfig *a, const ModelConfig *b) {
    return a->vocab == b->vocab && a->context == b->context && a->layers == b->layers &&
           a->heads == b->heads && a->channels == b->channels && a->hidden == b->hidden &&
           a->bias == b->bias && a->norm_eps == b->norm_eps && a->dropout == b->dropout &&
           model_kv_heads(a) == model_kv_heads(b) && model_head_size(a) == model_head_size(b) &&
           a->positions == b->positions && a->rope_base == b->rope_base &&
           a->qk_norm == b->qk_norm && a->norm == b->norm && a->embed_norm == b->embed_norm &&
           a->mlp == b->mlp && a->untied == b->untied && a->softcap == b->softcap &&
           a->classes == b->classes && a->kind == b->kind;
}

/* Saves the model with Muon's state, checks that the folder has this model_type and this tensor,
 * and that everything comes back to the bit. */
static void check_round_trip(const ModelConfig *config, const char *type, const char *tensor) {
    const char *run = scratch_path("run");
    const char *folder = scratch_path("run/ckpt/step-00000003");
    scratch_remove(run);
    Tiny saved, loaded;
    Tokenizer tokenizer;
    Error e;
    tiny_open_with(&saved, config, &(ModelUse){.training = true, .muon = true});
    tiny_open_with(&loaded, config, &(ModelUse){.training = true, .muon = true});
    tiny_fill(&saved, 5);
    tiny_tokenizer(&tokenizer);
    const TrainState state = tiny_state(3);
    if (!checkpoint_save(run, &saved.m, &tokenizer, NULL, &state, 2, &e)) fail_msg("%s", e.text);

    char path[600], wanted[64];
    ModelConfig c;
    SafetensorsFile file;
    snprintf(path, sizeof path, "%s/config.json", folder);
    snprintf(wanted, sizeof wanted, "\"model_type\": \"%s\"", type);
    int64_t bytes;
    char *text = file_read(path, &bytes, &e);
    assert_non_null(text);
    if (!strstr(text, wanted)) fail_msg("%s: %s", wanted, text);
    free(text);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_true(safetensors_open(&file, path, &e));
    if (!safetensors_find(&file, tensor)) fail_msg("no tensor %s", tensor);
    safetensors_close(&file);

    if (!checkpoint_read_config(folder, &c, &e)) fail_msg("%s", e.text);
    assert_true(same_config(&c, config));
    if (!checkpoint_read_weights(folder, &loaded.m, &e)) fail_msg("%s", e.text);
    if (!checkpoint_read_optim(folder, &loaded.m, &e)) fail_msg("%s", e.text);
    assert_true(tiny_same(&saved, &loaded));
    tokenizer_free(&tokenizer);
    tiny_close(&saved);
    tiny_close(&loaded);
}

static void test_round_trips(void **state) {
    (void)state;
    const char *const q = "model.layers.1.self_attn.q_proj.weight";
    const char *const packed = "transformer.h.1.attn.c_attn.weight";
    ModelConfig c = nano;
    check_round_trip(&c, "nanochat", q);
    c.kv_heads = 0;
    c.untied = false;
    c.softcap = 0;
    c.mlp = MLP_GELU;
    c.dropout = 0.25;
    c.norm_eps = 0x1.5p-17;
    check_round_trip(&c, "nanochat", q);
    c = nano; /* heads whose widths do not add up to C */
    c.head_size = 6;
    check_round_trip(&c, "nanochat", q);

    c = tiny_config; /* GPT-2's class has these two options */
    c.untied = true;
    check_round_trip(&c, "gpt2", "lm_head.weight");
    c.mlp = MLP_RELU2;
    check_round_trip(&c, "gpt2", packed);

    c = nano;
    c.mlp = MLP_SWIGLU;
    check_round_trip(&c, "puck", packed);
    c.positions = POSITIONS_ROTARY;
    c.norm = NORMS_RMSNORM;
    c.bias = true;
    check_round_trip(&c, "puck", "transformer.ln_e.weight");
    c.positions = POSITIONS_NONE;
    c.norm = NORMS_LAYERNORM;
    c.dropout = 0.125;
    check_round_trip(&c, "puck", "transformer.ln_e.bias");
}

/* Logits of classes: GPT-2's class for them, and puck's own folders. */
static void test_classes(void **state) {
    (void)state;
    ModelConfig c = tiny_config;
    c.untied = true;
    c.classes = 3;
    check_round_trip(&c, "gpt2", "score.weight");
    c = nano;
    c.classes = 70; /* more than one block of padding, more than tokens */
    check_round_trip(&c, "puck", "score.weight");
    c = (ModelConfig){.kind = MODEL_FFN, .vocab = 67, .context = 3, .layers = 1, .heads = 1,
                      .channels = 8, .hidden = 16, .bias = true, .classes = 2, .rope_base = 10000};
    check_round_trip(&c, "puck-ffn", "output.weight");
    c.kind = MODEL_RNN;
    check_round_trip(&c, "puck-rnn", "W_ho");

    const char *folder = scratch_path("classes");
    Error e = {0};
    foreign_put_text(folder, "config.json",
             "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2ForSequenceClassification\"], "
             "\"vocab_size\": 67, \"n_positions\": 5, \"n_embd\": 8, \"n_layer\": 2, "
             "\"n_head\": 2, \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}}");
    if (!checkpoint_read_config(folder, &c, &e)) fail_msg("%s", e.text);
    assert_true(c.classes == 3 && c.untied);
}

/* On disk each of q, k, v has its rows of the packed matrix, and nothing is transposed. */
static void test_parts(void **state) {
    (void)state;
    const char *run = scratch_path("parts");
    Tiny t;
    Tokenizer tokenizer;
    Error e;
    SafetensorsFile file;
    tiny_open(&t, &nano, false);
    tiny_fill(&t, 6);
    tiny_tokenizer(&tokenizer);
    const TrainState step = tiny_state(0);
    assert_true(checkpoint_save(run, &t.m, &tokenizer, NULL, &step, 2, &e));
    assert_true(
        safetensors_open(&file, scratch_path("parts/ckpt/step-00000000/model.safetensors"), &e));
    const struct {
        const char *name;
        int64_t first, rows, cols;
    } parts[] = {{"q_proj", 0, 16, 16}, {"k_proj", 16, 8, 16}, {"v_proj", 24, 8, 16}};
    int n = 0;
    for (int i = 0; i < t.m.n_params; i++) {
        const Param *p = &t.m.params[i];
        if (!strstr(p->name, "c_attn")) continue;
        for (int k = 0; k < 3; k++, n++) {
            char name[80];
            snprintf(name, sizeof name, "model.layers.%d.self_attn.%s.weight", p->layer,
                     parts[k].name);
            const SafetensorsEntry *entry = safetensors_find(&file, name);
            assert_non_null(entry);
            assert_true(entry->rank == 2 && entry->dim[0] == parts[k].rows && entry->dim[1] == 16);
            assert_memory_equal(entry->data, tiny_data(p->w) + parts[k].first * 16,
                                (size_t)(parts[k].rows * 16) * sizeof(float));
        }
    }
    assert_int_equal(n, 6);
    assert_int_equal(file.n_entries, 2 + 2 * 6);
    safetensors_close(&file);
    tokenizer_free(&tokenizer);
    tiny_close(&t);
}

/* ---- folders that transformers writes ---- */

typedef struct Variant {
    DType dtype;
    bool bare; /* the base model's names, without "model." */
    int shards;
    const char *leave_out, *extra, *twice, *swap, *as_bytes; /* ends of names */
} Variant;

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), k = end ? strlen(end) : 0;
    return end && n >= k && strcmp(name + n - k, end) == 0;
}

static void add_foreign(Foreign *list, int *n, const Variant *v, Foreign f) {
    const size_t skip = v->bare && strncmp(f.name, "model.", 6) == 0 ? 6 : 0;
    memmove(f.name, f.name + skip, strlen(f.name + skip) + 1);
    if (ends_with(f.name, v->leave_out)) return;
    if (ends_with(f.name, v->as_bytes)) f.dtype = DTYPE_U8;
    if (ends_with(f.name, v->swap)) {
        const int64_t rows = f.dim[0];
        f.dim[0] = f.dim[1];
        f.dim[1] = rows;
    }
    list[(*n)++] = f;
    if (!ends_with(f.name, v->twice)) return;
    list[*n] = f;
    snprintf(list[(*n)++].name, sizeof f.name, "%.*s", (int)(sizeof f.name - 1),
             f.name + strlen("model."));
}

static int list_foreign(const Model *m, const Variant *v, Foreign *list) {
    int n = 0;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        int64_t rows[PARAM_PARTS_MAX], first = 0;
        const int parts = model_param_parts(p->spec, &m->config, rows);
        for (int k = 0; k < parts; first += rows[k++]) {
            Foreign f = {.dtype = v->dtype,
                         .rank = 2,
                         .param = i,
                         .first = first * p->w.dim[1],
                         .dim = {rows[k], p->w.dim[1]}};
            model_name_param(f.name, sizeof f.name, p->spec->nanochat[k], p->layer);
            add_foreign(list, &n, v, f);
        }
    }
    if (v->extra) {
        list[n] = (Foreign){.dtype = DTYPE_F32, .rank = 2, .dim = {1, 1}};
        snprintf(list[n++].name, sizeof list->name, "%s", v->extra);
    }
    return n;
}

static void put_weights(const char *folder, const Model *m, const Variant *v) {
    static Foreign list[64];
    const int n = list_foreign(m, v, list);
    foreign_put(folder, list, n, v->shards);
}

static void test_foreign(void **state) {
    (void)state;
    const Variant variants[] = {{.dtype = DTYPE_F32},
                                {.dtype = DTYPE_BF16, .bare = true},
                                {.dtype = DTYPE_F16, .shards = 3},
                                {.dtype = DTYPE_F64, .shards = 5, .bare = true}};
    const char *folder = scratch_path("foreign");
    for (int64_t i = 0; i < COUNT_OF(variants); i++) {
        Tiny t;
        Error e;
        tiny_open(&t, &nano, false);
        put_weights(folder, &t.m, &variants[i]);
        tiny_fill(&t, 9);
        if (!checkpoint_read_weights(folder, &t.m, &e)) fail_msg("%s (%s)", e.text, e.place);
        foreign_check_values(&t.m, false);
        tiny_close(&t);
    }
}

static void test_foreign_faults(void **state) {
    (void)state;
    const struct {
        Variant v;
        const char *says;
    } cases[] = {
        {{.leave_out = "1.self_attn.k_proj.weight"},
         "model.layers.1.self_attn.k_proj.weight is missing"},
        {{.leave_out = "lm_head.weight"}, "lm_head.weight is missing"},
        {{.leave_out = "0.mlp.fc2.weight", .shards = 2, .bare = true},
         "model.layers.0.mlp.fc2.weight is missing"},
        {{.extra = "model.layers.2.mlp.fc1.weight"},
         "model.layers.2.mlp.fc1.weight is not part of this model"},
        {{.extra = "model.layers.0.self_attn.q_norm.weight"}, "q_norm.weight is not part of"},
        {{.extra = "transformer.h.0.attn.c_attn.weight"}, "c_attn.weight is not part of"},
        {{.extra = "h.0.attn.bias"}, "h.0.attn.bias is not part of"},
        {{.twice = "0.self_attn.v_proj.weight"},
         "model.layers.0.self_attn.v_proj.weight is there twice"},
        {{.swap = "0.self_attn.k_proj.weight"}, "has shape [16, 8], where the model needs [8, 16]"},
        {{.swap = "1.mlp.fc2.weight"}, "has shape [24, 16], where the model needs [16, 24]"},
        {{.as_bytes = "embed_tokens.weight"}, "model.embed_tokens.weight has dtype U8"},
    };
    const char *folder = scratch_path("faulty");
    Tiny t;
    tiny_open(&t, &nano, false);
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Variant v = cases[i].v;
        v.dtype = DTYPE_F32;
        put_weights(folder, &t.m, &v);
        foreign_refused(folder, &t.m, cases[i].says);
    }
    tiny_close(&t);
}

/* Moments of one optimiser are not another's. */
static void test_other_optimiser(void **state) {
    (void)state;
    const char *run = scratch_path("optim");
    const char *folder = scratch_path("optim/ckpt/step-00000001");
    Tiny muon, adamw;
    Tokenizer tokenizer;
    Error e;
    tiny_open_with(&muon, &nano, &(ModelUse){.training = true, .muon = true});
    tiny_open_with(&adamw, &nano, &(ModelUse){.training = true});
    tiny_fill(&muon, 1);
    tiny_tokenizer(&tokenizer);
    const TrainState state_1 = tiny_state(1);
    assert_true(checkpoint_save(run, &muon.m, &tokenizer, NULL, &state_1, 2, &e));
    assert_false(checkpoint_read_optim(folder, &adamw.m, &e));
    assert_non_null(strstr(e.text, "12 tensors, where the model has 20 moments"));
    assert_non_null(strstr(e.hint, "optimizer"));
    tokenizer_free(&tokenizer);
    tiny_close(&muon);
    tiny_close(&adamw);
}

/* ---- config.json ---- */

#define NANO                                                                                       \
    "\"model_type\": \"nanochat\", \"vocab_size\": 67, \"max_position_embeddings\": 5, "           \
    "\"hidden_size\": 16, \"intermediate_size\": 24, \"num_hidden_layers\": 2, "                   \
    "\"num_attention_heads\": 4"

static void test_configs(void **state) {
    (void)state;
    ModelConfig plain = nano; /* the rest as transformers assumes it */
    plain.kv_heads = 4;
    plain.rope_base = 10000;
    ModelConfig based = plain, other = plain;
    based.rope_base = 500;
    other.kv_heads = 2;
    other.softcap = 0;
    other.untied = false;
    other.mlp = MLP_GELU;
    other.dropout = 0.125;
    other.norm_eps = 1e-5;
    const struct {
        const char *text;
        const ModelConfig *c;
    } cases[] = {
        {"{" NANO "}", &plain},
        {"{" NANO ", \"num_key_value_heads\": null, \"head_dim\": 4, \"rope_scaling\": null, "
         "\"rope_parameters\": null, \"attention_bias\": false, \"use_cache\": true}",
         &plain},
        {"{" NANO ", \"rope_theta\": 500}", &based},
        {"{" NANO ", \"rope_theta\": 500.0, \"rope_scaling\": {\"rope_type\": \"default\"}}",
         &based},
        {"{" NANO ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500.0}}",
         &based},
        {"{" NANO ", \"num_key_value_heads\": 2, \"final_logit_softcapping\": null, "
         "\"tie_word_embeddings\": true, \"hidden_act\": \"gelu_pytorch_tanh\", "
         "\"attention_dropout\": 0.125, \"rms_norm_eps\": 1e-5}",
         &other},
    };
    const char *folder = scratch_path("config");
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        ModelConfig c;
        Error e = {0};
        foreign_put_text(folder, "config.json", cases[i].text);
        if (!checkpoint_read_config(folder, &c, &e)) fail_msg("%s: %s", cases[i].text, e.text);
        if (!same_config(&c, cases[i].c)) fail_msg("%s", cases[i].text);
    }
}

static void test_config_faults(void **state) {
    (void)state;
    const struct {
        const char *text, *says;
    } cases[] = {
        {"{" NANO ", \"hidden_act\": \"silu\"}", "hidden_act"},
        {"{" NANO ", \"hidden_act\": null}", "hidden_act"},
        {"{" NANO ", \"attention_bias\": true}", "attention_bias"},
        {"{" NANO ", \"attention_dropout\": 1}", "attention_dropout"},
        {"{" NANO ", \"final_logit_softcapping\": 0}", "final_logit_softcapping"},
        {"{" NANO ", \"final_logit_softcapping\": -15.0}", "final_logit_softcapping"},
        {"{" NANO ", \"final_logit_softcapping\": \"15\"}", "final_logit_softcapping"},
        {"{" NANO ", \"num_key_value_heads\": 3}", "3 key-value heads do not divide 4 heads"},
        {"{" NANO ", \"head_dim\": 5}", "even head size, not 5"},
        {"{" NANO ", \"rms_norm_eps\": -1}", "rms_norm_eps"},
        {"{" NANO ", \"rope_theta\": 0}", "rope_theta"},
        {"{" NANO ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2}}", "rope_type"},
        {"{" NANO ", \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000}}",
         "rope_type"},
        {"{" NANO ", \"tie_word_embeddings\": 1}", "tie_word_embeddings"},
        {"{" NANO ", \"quantization_config\": {\"bits\": 4}}", "quantization_config"},
        {"{\"model_type\": \"nanochat\"}", "vocab_size"},
        {"{\"model_type\": \"puck\"}", "vocab_size"},
    };
    const char *folder = scratch_path("config");
    for (int64_t i = 0; i < COUNT_OF(cases); i++)
        foreign_config_refused(folder, cases[i].text, cases[i].says);
}

/* Each field of puck's own config.json is needed, and checked. */
static void test_own_config_faults(void **state) {
    (void)state;
    static const char *const lines[] = {
        "\"vocab_size\": 67", "\"context\": 5",       "\"layers\": 2",
        "\"heads\": 4",       "\"kv_heads\": 2",      "\"head_size\": 4",
        "\"channels\": 16",   "\"hidden\": 24",       "\"bias\": false",
        "\"norm_eps\": 1e-6", "\"dropout\": 0.0",     "\"positions\": \"rotary\"",
        "\"rope_base\": 1e4", "\"qk_norm\": true",    "\"norm\": \"rmsnorm\"",
        "\"softcap\": 15.0",  "\"embed_norm\": true", "\"activation\": \"swiglu\"",
        "\"untied\": true",
    };
    const char *folder = scratch_path("own");
    ModelConfig c;
    Error e = {0};
    for (int64_t bad = 0; bad <= 2 * COUNT_OF(lines); bad++) {
        char text[2048] = "{\"model_type\": \"puck\"";
        for (int64_t i = 0; i < COUNT_OF(lines); i++) {
            const int64_t key = (int64_t)strcspn(lines[i], ":");
            const size_t used = strlen(text);
            if (bad == i + COUNT_OF(lines)) /* no field may be this */
                snprintf(text + used, sizeof text - used, ", %.*s: -2", (int)key, lines[i]);
            else if (bad != i)
                snprintf(text + used, sizeof text - used, ", %s", lines[i]);
        }
        strcat(text, "}");
        foreign_put_text(folder, "config.json", text);
        const bool good = checkpoint_read_config(folder, &c, &e);
        if (good != (bad == 2 * COUNT_OF(lines))) fail_msg("%s", text);
        if (good) continue;
        const char *line = lines[bad % COUNT_OF(lines)];
        char key[32];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(line, ":"), line);
        if (!strstr(e.text, key)) fail_msg("%s: %s", text, e.text);
    }
    assert_true(c.positions == POSITIONS_ROTARY && c.norm == NORMS_RMSNORM && c.untied);
}

/* ---- which mixes Hugging Face has ---- */

static void test_formats(void **state) {
    (void)state;
    Error e = {0};
    ModelConfig c = nano;
    assert_true(checkpoint_check_format(&nano, false, &e));
    assert_true(checkpoint_check_format(&tiny_config, false, &e));
    c.norm = NORMS_RMSNORM; /* one step from a NanoChat */
    assert_true(checkpoint_check_format(&c, true, &e));
    assert_false(checkpoint_check_format(&c, false, &e));
    assert_int_equal(e.code, EXIT_MISUSE);
    assert_string_equal(e.place, "--format");
    assert_non_null(strstr(e.text, "NanoChat's would with --norm rmsnorm-plain, and GPT-2's with "
                                   "--positions learned --norm layernorm --no-embed-norm"));
    assert_non_null(strstr(e.hint, "--format puck"));
    c = tiny_config;
    c.norm = NORMS_RMSNORM_PLAIN;
    c.softcap = 3;
    assert_false(checkpoint_check_format(&c, false, &e));
    assert_non_null(strstr(e.text,
                           "GPT-2's would with --norm layernorm --softcap 0, and NanoChat's "
                           "with --positions rotary-reversed --embed-norm --qk-norm "
                           "--no-bias"));
    c = nano; /* the longest texts, whole */
    c.positions = POSITIONS_NONE;
    c.norm = NORMS_RMSNORM;
    c.embed_norm = false;
    c.head_size = 6;
    c.mlp = MLP_SWIGLU;
    c.bias = true;
    assert_false(checkpoint_check_format(&c, false, &e));
    assert_non_null(strstr(e.text, "--activation relu2 --no-bias"));
    assert_non_null(strstr(e.text, "--activation gelu --softcap 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),     cmocka_unit_test(test_classes),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_foreign),         cmocka_unit_test(test_foreign_faults),
        cmocka_unit_test(test_other_optimiser), cmocka_unit_test(test_configs),
        cmocka_unit_test(test_config_faults),   cmocka_unit_test(test_own_config_faults),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
