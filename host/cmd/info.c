/* `puck info`: a checkpoint, a preset, or this machine. Each is a list of facts, printed as lines
 * or as one JSON object. */
#include "checkpoint.h"
#include "cmd.h"
#include "info.h"
#include "plugin.h"
#include "train.h"
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- facts ---- */

static void add_text(json_t *facts, const char *name, const char *text) {
    /* A path need not be UTF-8; JSON must. */
    json_t *value = json_string(text);
    json_object_set_new(facts, name, value ? value : json_null());
}

static void add_int(json_t *facts, const char *name, int64_t value) {
    json_object_set_new(facts, name, json_integer(value));
}

static void add_real(json_t *facts, const char *name, double value) {
    json_object_set_new(facts, name, isfinite(value) ? json_real(value) : json_null());
}

static void add_bool(json_t *facts, const char *name, bool value) {
    json_object_set_new(facts, name, json_boolean(value));
}

/* A number that stands for one of an option's choices. */
static void add_choice(json_t *facts, const char *option, int number) {
    char text[64];
    add_text(facts, option, options_choice_text(option, number, text, sizeof text));
}

static void print_line(const char *name, const json_t *value) {
    char label[64];
    snprintf(label, sizeof label, "%s", name);
    for (char *c = label; *c; c++)
        if (*c == '_') *c = ' ';
    printf("  %-24s ", label);
    if (json_is_string(value))
        printf("%s\n", json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld\n", (long long)json_integer_value(value));
    else if (json_is_real(value))
        printf("%.6g\n", json_real_value(value));
    else
        printf("%s\n", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "unknown");
}

static void print_facts(json_t *facts, bool json) {
    const char *name;
    json_t *value;
    if (json) {
        json_dumpf(facts, stdout, 0);
        putchar('\n');
        return;
    }
    json_object_foreach(facts, name, value) {
        if (!json_is_object(value) && !json_is_array(value)) print_line(name, value);
    }
}

/* What a GPT's blocks are. */
static void add_blocks(json_t *facts, const ModelConfig *c) {
    add_int(facts, "heads", c->heads);
    add_int(facts, "kv_heads", model_kv_heads(c));
    add_int(facts, "head_size", model_head_size(c));
    add_choice(facts, "positions", c->positions);
    add_choice(facts, "norm", c->norm);
    add_bool(facts, "qk_norm", c->qk_norm);
    add_bool(facts, "embed_norm", c->embed_norm);
    add_bool(facts, "tie_embeddings", !c->untied);
    add_real(facts, "softcap", c->softcap);
    add_bool(facts, "bias", c->bias);
    add_real(facts, "dropout", c->dropout);
}

static void add_model(json_t *facts, const ModelConfig *c) {
    add_choice(facts, "model", c->kind);
    add_int(facts, "vocab_size", c->vocab);
    add_int(facts, "channels", c->channels);
    if (c->kind != MODEL_SKIPGRAM) {
        add_int(facts, "context", c->context);
        add_int(facts, "layers", c->layers);
        add_int(facts, "hidden", c->hidden);
    }
    if (c->kind != MODEL_SKIPGRAM && c->kind != MODEL_RNN)
        add_choice(facts, "activation", c->mlp);
    if (c->kind == MODEL_GPT) add_blocks(facts, c);
    if (c->classes) add_int(facts, "classes", c->classes);
    add_int(facts, "parameters", model_count_params(c));
    add_int(facts, "without_lookups", model_count_matmul_params(c));
    add_real(facts, "flops_per_token", model_flops_per_token(c, c->context));
}

/* ---- a preset, or the options given ---- */

/* A vocabulary of 0 is the text's, which is not here: the byte tokenizer's, or the number of
 * characters in tinyshakespeare. */
static int64_t guess_vocab(const Options *o) {
    return o->vocab_size ? 0 : strcmp(o->tokenizer, "byte") == 0 ? 256 : 65;
}

static void add_memory(json_t *facts, const Arena *arena) {
    json_t *memory = json_object();
    for (int i = 0; i < ARENA_CATEGORIES; i++)
        add_int(memory, arena_category_name((ArenaCategory)i), arena->bytes[i]);
    add_int(memory, "device", arena->own);
    add_int(memory, "total", arena_total(arena));
    json_object_set_new(facts, "memory_bytes", memory);
}

/* For the device that is here, or one with *device_bytes. GPUs of a prediction have 80 GB unless
 * told. */
static bool open_device(Backend *out, const Options *o, int64_t *device_bytes, Error *e) {
    const char *memory = o->device_memory[0] ? o->device_memory : o->ranks ? "80G" : "";
    *device_bytes = 0;
    if (memory[0] && !options_bytes(memory, "--device-memory", device_bytes, e)) return false;
    if (o->ranks) return info_ranks_plan(out, o, *device_bytes, e);
    if (*device_bytes) return plugin_open_plan(out, o->device, o->dtype, *device_bytes, e);
    if (!plugin_open(out, o->device, o->dtype, o->threads, e)) return false;
    *device_bytes = out->properties.memory_bytes;
    return true;
}

static bool info_model(const Options *o, json_t *facts, Error *e) {
    ModelConfig c;
    Backend backend;
    int64_t device_bytes;
    ModelUse use;
    Options rank;
    if (!info_ranks_options(o, &rank, e) || !train_model_config(o, guess_vocab(o), &c, e) ||
        !train_model_use(&rank, &use, e) || !open_device(&backend, o, &device_bytes, e))
        return false;

    if (o->preset[0]) add_text(facts, "preset", o->preset);
    add_model(facts, &c);
    const double step_tokens = (double)o->batch_size * (double)model_row_targets(&c);
    add_int(facts, "steps", o->steps);
    add_real(facts, "tokens_per_step", step_tokens);
    add_real(facts, "training_flops",
             model_flops_per_token(&c, c.context) * step_tokens * (double)o->steps);

    if (o->ranks > 1) {
        use.ranks = o->ranks;
        use.zero = o->zero;
    }
    Model m;
    model_plan(&m, &c, &use, &backend);
    add_int(facts, "micro_batch", use.B);
    add_text(facts, "optimizer", o->optimizer);
    add_memory(facts, &m.arena);
    if (o->ranks) info_ranks_add(facts, o, &m);
    print_facts(facts, o->json);
    if (o->ranks && !o->json) info_ranks_print(facts);
    if (!o->json) arena_report(&m.arena, device_bytes, stdout);
    model_free(&m);
    backend.close(&backend);
    return true;
}

/* ---- a checkpoint ---- */

static bool has_file(const char *folder, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static bool add_state(json_t *facts, const char *folder, Error *e) {
    TrainState state;
    if (!checkpoint_read_state(folder, &state, e)) return false;
    add_int(facts, "step", state.step);
    add_bool(facts, "finished", state.finished);
    add_int(facts, "trained_tokens", state.tokens);
    add_int(facts, "skipped_steps", state.skipped_steps);
    add_real(facts, "best_loss", state.best_loss);
    add_int(facts, "best_step", state.best_step);
    add_real(facts, "elapsed_sec", state.elapsed_sec);
    return true;
}

static bool add_tokenizer(json_t *facts, const char *path, Error *e) {
    Tokenizer t;
    if (!tokenizer_load(&t, path, e)) return false;
    add_text(facts, "tokenizer",
             t.kind == TOKENIZER_CHAR         ? "char"
             : t.kind == TOKENIZER_BYTE       ? "byte"
             : t.kind == TOKENIZER_BPE        ? "bpe"
             : t.kind == TOKENIZER_WORD_LOWER ? "word-lower"
                                              : "word");
    add_int(facts, "tokens", t.n_vocab);
    tokenizer_free(&t);
    return true;
}

static bool info_checkpoint(const Options *o, json_t *facts, Error *e) {
    char folder[1024], path[1200];
    ModelConfig c;
    if (!checkpoint_find(o->from, folder, sizeof folder, e)) return false;
    if (!checkpoint_read_config(folder, &c, e)) return false;
    add_text(facts, "checkpoint", folder);
    /* checkpoint_find has compared every file with the manifest, where there is one. */
    add_bool(facts, "verified", has_file(folder, "MANIFEST.json", path, sizeof path));
    add_model(facts, &c);
    if (has_file(folder, "state.json", path, sizeof path) && !add_state(facts, folder, e))
        return false;
    if (tokenizer_path(folder, path, sizeof path) && !add_tokenizer(facts, path, e)) return false;
    print_facts(facts, o->json);
    return true;
}

/* ---- this machine ---- */

static void add_presets(json_t *facts) {
    json_t *list = json_array();
    for (int i = 0; preset_name(i); i++) json_array_append_new(list, json_string(preset_name(i)));
    json_object_set_new(facts, "presets", list);
}

static bool info_machine(const Options *o, json_t *facts, Error *e) {
    Backend b;
    if (!plugin_open(&b, o->device, o->dtype, o->threads, e)) return false;
    const DeviceProperties *p = &b.properties;
    add_text(facts, "version", PUCK_VERSION);
    add_int(facts, "abi", PUCK_ABI);
    add_text(facts, "compiler", __VERSION__);
#ifdef __AVX2__
    const CpuBuild best = backend_cpu_best();
    add_text(facts, "instructions",
             best == CPU_TILES  ? "AVX-512 and AMX tiles"
             : best == CPU_WIDE ? "AVX-512"
                                : "AVX2");
#else
    add_text(facts, "instructions", "baseline");
#endif
    add_text(facts, "device", b.name);
    add_text(facts, "device_name", p->name);
    add_int(facts, b.host_memory ? "threads" : "multiprocessors", p->n_units);
    add_text(facts, "dtype", dtype_name(b.compute));
    add_int(facts, "memory_bytes", p->memory_bytes);
    add_int(facts, "memory_free", p->memory_free);
    if (p->peak_flops > 0) add_real(facts, "peak_flops", p->peak_flops);
    if (p->copy_bytes_per_sec > 0) add_real(facts, "copy_bytes_per_sec", p->copy_bytes_per_sec);
    add_presets(facts);
    print_facts(facts, o->json);
    if (!o->json) {
        printf("presets\n");
        preset_list(stdout);
    }
    b.close(&b);
    return true;
}

/* Whether the command line describes a model or its training. */
static bool asks_model(const Settings *s) {
    for (int i = 0; i < n_option_rows; i++) {
        const char *group = option_rows[i].group;
        if (s->source[i] != FROM_DEFAULT &&
            (!strcmp(group, "Model") || !strcmp(group, "Training") || !strcmp(group, "Ranks")))
            return true;
    }
    return s->options.config[0] || s->options.device_memory[0];
}

static bool run_facts(Settings *s, json_t *facts, Error *e) {
    const Options *o = &s->options;
    if (o->from[0] && asks_model(s))
        return error_misuse(e, "--from", "Leave one of them out",
                            "a checkpoint's model and a described one exclude each other");
    if (o->from[0]) return info_checkpoint(o, facts, e);
    if (!asks_model(s)) return info_machine(o, facts, e);
    return train_own_defaults(s, e) && train_check_kind(s, e) && info_model(o, facts, e);
}

static bool run(Settings *s, Error *e) {
    json_t *facts = json_object();
    const bool ok = run_facts(s, facts, e);
    json_decref(facts);
    return ok;
}

int cmd_info(int argc, char **argv) { return cmd_call(CMD_INFO, argc, argv, run); }
