/* `puck bench ops|step|decode|feed|comm`: times of single ops, of whole training steps, of decoded
 * tokens, of the batches' feed. */
#include "bench.h"
#include "cmd.h"
#include "dist.h"
#include "loader.h"
#include "model.h"
#include "plugin.h"
#include "train.h"
#include "rng.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    WARM_UP = 2,                /* untimed repetitions */
    TINYSHAKESPEARE_VOCAB = 65, /* where neither --data nor --vocab-size says one */
    SYNTHETIC_TOKENS = 1 << 20,
    PROMPT_ROWS = 64 /* as `puck generate` reads prompts */
};

/* ---- what is measured ---- */

typedef struct Subject {
    const Options *o;
    ModelConfig config;
    Tokens tokens;
    LoaderConfig feed;
    struct TokenShard synthetic;
} Subject;

/* Takes the folder's vocabulary where *n_vocab is 0. */
static bool open_folder(Subject *s, int64_t *n_vocab, Error *e) {
    struct stat status;
    DataMeta meta;
    if (stat(s->o->data, &status) != 0 || !S_ISDIR(status.st_mode))
        return error_misuse(e, "--data", "Make one with `puck tokenize`, or leave --data out",
                            "%s is no folder of tokens", s->o->data);
    if (!data_meta_read(s->o->data, &meta, e)) return false;
    if (!*n_vocab) *n_vocab = meta.n_vocab;
    return tokens_open(&s->tokens, s->o->data, "train", *n_vocab, e);
}

/* Without --data: random tokens in memory, enough that a batch's windows differ. */
static void make_tokens(Subject *s, int64_t n_vocab) {
    const int64_t n = i64_max(SYNTHETIC_TOKENS, 2 * s->feed.B * s->feed.T);
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    CHECK(ids, "no memory for %ld tokens", (long)n);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)rng_below((uint64_t)n_vocab, 1, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
    s->synthetic = (struct TokenShard){.tokens = ids, .token_bytes = sizeof *ids, .n = n};
    s->tokens = (Tokens){.shards = &s->synthetic, .n_shards = 1, .n_tokens = n};
}

static void subject_close(Subject *s) {
    if (s->tokens.shards == &s->synthetic)
        free((void *)s->synthetic.tokens);
    else
        tokens_close(&s->tokens);
}

static bool subject_open(Subject *s, const Options *o, Error *e) {
    *s = (Subject){.o = o};
    int64_t n_vocab = o->vocab_size;
    if (o->data[0] && !open_folder(s, &n_vocab, e)) return false;
    if (!n_vocab) n_vocab = TINYSHAKESPEARE_VOCAB;
    ModelUse use;
    if (!train_model_config(o, n_vocab, &s->config, e) || !train_model_use(o, &use, e))
        return false;
    s->feed = train_feed(&s->config, &s->tokens, use.B, use.T, (uint64_t)o->seed,
                         strcmp(o->order, "random") == 0 ? ORDER_RANDOM : ORDER_SHUFFLE);
    if (!o->data[0]) make_tokens(s, n_vocab);
    return loader_check(&s->feed, s->feed.B, o->data, e);
}

static bool model_open(Model *m, const Subject *s, bool decode, Backend *b, Error *e) {
    ModelUse use;
    if (!train_model_use(s->o, &use, e)) return false;
    use.decode_batch = use.decode_rows = decode ? 1 : 0;
    model_plan(m, &s->config, &use, b);
    if (!model_commit(m, e)) return false;
    model_init(m, (uint64_t)s->o->seed);
    return true;
}

/* One batch on the device, and the step's parameters. */
static void model_feed(Model *m, const Subject *s) {
    const int64_t n = s->feed.B * s->feed.T;
    int32_t *memory = malloc((size_t)(4 * n + 1) * sizeof *memory);
    CHECK(memory, "no memory for a batch");
    Batch batch = {
        .tokens = memory, .targets = memory + n, .order = memory + 2 * n, .starts = memory + 3 * n};
    loader_fill(&s->feed, 0, &batch);
    model_write(m, m->tokens, batch.tokens);
    model_write(m, m->targets, batch.targets);
    model_write(m, m->order, batch.order);
    model_write(m, m->starts, batch.starts);
    const StepParams p = {.seed = (uint64_t)s->o->seed,
                          .step = 1,
                          .training = 1,
                          .loss_scale = 1 / (double)batch.n_valid,
                          .lr = s->o->lr,
                          .max_grad_norm = s->o->clip};
    model_set_step(m, &p);
    free(memory);
}

static double finished(const Model *m) {
    m->backend->stream_finish(m->backend, m->cx.stream);
    return time_now();
}

/* Targets of the step, over all ranks. */
static double step_tokens(const Model *m) {
    return (double)(tensor_count(m->targets) * dist_ranks());
}

/* Adds a phase of a step. `flops` are this rank's, as the roof is. */
static void phase_add(BenchTable *table, const Model *m, const Subject *s, const char *name,
                      double flops, double sec) {
    BenchRow row = {.tokens = step_tokens(m), .flops = flops};
    snprintf(row.op, sizeof row.op, "%s", name);
    snprintf(row.shape, sizeof row.shape, "%ld x %ld, %ld layers of %ld", (long)s->feed.B,
             (long)s->feed.T, (long)s->o->layers, (long)s->o->channels);
    bench_add(table, &row, sec);
}

static double step_flops(const Model *m, const Subject *s) {
    return (double)tensor_count(m->targets) * model_flops_per_token(&s->config, s->feed.T);
}

/* A step as training runs it; table NULL: warming up. Ranks start together. */
static void step_time(Model *m, const Subject *s, BenchTable *table) {
    const Optimiser optimiser = train_optimiser(s->o);
    dist_max(0);
    const double start = finished(m);
    model_begin_step(m);
    model_micro_last(m);
    model_update_step(m, &optimiser);
    const double sec = finished(m) - start;
    if (table) phase_add(table, m, s, "step", step_flops(m, s), sec);
}

/* Times of the phases of one step, each waited for. Ranks wait for the slowest before they exchange
 * gradients and weights, so that this time is seen apart. */
static void phases_time(Model *m, const Subject *s, BenchTable *table) {
    const Optimiser optimiser = train_optimiser(s->o);
    const double t0 = finished(m);
    model_begin_step(m);
    model_forward(m, true);
    const double t1 = finished(m);
    model_backward(m);
    const double t2 = finished(m);
    dist_max(0);
    const double t3 = finished(m);
    model_reduce(m);
    const double t4 = finished(m);
    model_update(m, &optimiser);
    const double t5 = finished(m);
    dist_max(0);
    const double t6 = finished(m);
    model_gather(m);
    model_wait_gather(m);
    const double t7 = finished(m), flops = step_flops(m, s);
    if (!table) return;
    phase_add(table, m, s, "forward", flops / 3, t1 - t0);
    phase_add(table, m, s, "backward", 2 * flops / 3, t2 - t1);
    phase_add(table, m, s, "update", 0, t5 - t4);
    if (dist_ranks() == 1) return;
    phase_add(table, m, s, "communication", 0, t4 - t3 + t7 - t6);
    phase_add(table, m, s, "waiting", 0, t3 - t2 + t6 - t5);
}

static bool bench_step(const Subject *s, Backend *b, BenchTable *table, Error *e) {
    Model m;
    const bool ok = model_open(&m, s, false, b, e);
    if (ok) {
        model_feed(&m, s);
        train_choices(&m);
        for (int64_t i = -WARM_UP; i < s->o->repeats; i++) step_time(&m, s, i < 0 ? NULL : table);
        for (int64_t i = -WARM_UP; i < s->o->repeats; i++) phases_time(&m, s, i < 0 ? NULL : table);
    }
    model_free(&m);
    return ok;
}

/* Every op of a training step and of one decoded token, at the end of a full context. */
static bool bench_ops(const Subject *s, Backend *b, BenchTable *table, Error *e) {
    TimedBackend timed;
    timed_backend_make(&timed, b);
    Model m;
    const bool ok = model_open(&m, s, true, &timed.backend, e);
    float *logits = calloc((size_t)s->config.vocab, sizeof *logits);
    CHECK(logits, "no memory for logits");
    if (ok) {
        model_feed(&m, s);
        const int32_t token = 0, position = (int32_t)(s->config.context - 1);
        for (int64_t i = -WARM_UP; i < s->o->repeats; i++) {
            timed.table = i < 0 ? NULL : table;
            phases_time(&m, s, NULL);
            model_decode(&m, &token, 1, &position, logits);
        }
    }
    free(logits);
    model_free(&m);
    return ok;
}

/* Bytes that a token must read at least: every weight that is no lookup, and the whole caches. */
static double decode_bytes(const Model *m) {
    double bytes = 0;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        if (p->spec->is_lookup && p->spec->is_lookup(&m->config)) continue;
        bytes += (double)tensor_bytes(tensor_present(p->w_act) ? p->w_act : p->w);
    }
    for (int64_t l = 0; m->k_cache && l < m->config.layers; l++)
        bytes += (double)(tensor_bytes(m->k_cache[l]) + tensor_bytes(m->v_cache[l]));
    return bytes;
}

/* One token of one stream at the end of a full context, and a block of a prompt at its start. */
static bool bench_decode(const Subject *s, Backend *b, BenchTable *table, Error *e) {
    const int64_t context = s->config.context, block = i64_min(PROMPT_ROWS, context);
    const ModelUse use = {.decode_batch = 1, .decode_rows = block};
    Model m;
    model_plan(&m, &s->config, &use, b);
    const bool ok = model_commit(&m, e);
    float *logits = calloc((size_t)s->config.vocab, sizeof *logits);
    CHECK(logits, "no memory for logits");
    if (ok) {
        model_init(&m, (uint64_t)s->o->seed);
        const int32_t tokens[PROMPT_ROWS] = {0}, first = 0, last = (int32_t)(context - 1);
        BenchRow token = {.op = "token", .tokens = 1, .bytes = decode_bytes(&m)};
        BenchRow prompt = {.op = "prompt", .tokens = (double)block};
        snprintf(token.shape, sizeof token.shape, "%ld layers of %ld, %ld cached",
                 (long)s->config.layers, (long)s->config.channels, (long)context);
        snprintf(prompt.shape, sizeof prompt.shape, "%ld layers of %ld, %ld rows",
                 (long)s->config.layers, (long)s->config.channels, (long)block);
        for (int64_t i = -WARM_UP; i < s->o->repeats; i++) {
            const double t0 = finished(&m);
            model_decode(&m, tokens, block, &first, logits);
            const double t1 = finished(&m);
            model_decode(&m, tokens, 1, &last, logits);
            const double t2 = finished(&m);
            if (i < 0) continue;
            bench_add(table, &token, t2 - t1);
            bench_add(table, &prompt, t1 - t0);
        }
    }
    free(logits);
    model_free(&m);
    return ok;
}

/* The thread that prepares batches, with nobody to train on them. */
static void bench_feed(const Subject *s, Backend *b, BenchTable *table) {
    const int64_t B = s->feed.B, T = s->feed.T;
    void *memory = b->alloc_pinned(b, loader_bytes(B, T));
    CHECK(memory, "no pinned memory for a batch");
    Loader *loader = loader_start(&s->feed, 0, B, memory);
    BenchRow row = {.op = "batch", .tokens = (double)(B * T), .bytes = (double)(4 * B * T + 1) * 4};
    snprintf(row.shape, sizeof row.shape, "%ld x %ld, %s order", (long)B, (long)T,
             s->feed.order == ORDER_RANDOM ? "random" : "shuffled");
    for (int64_t i = -WARM_UP; i < s->o->repeats; i++) {
        const double start = time_now();
        loader_next(loader);
        if (i >= 0) bench_add(table, &row, time_now() - start);
    }
    loader_stop(loader);
    b->free_pinned(b, memory);
}

static bool learns_words(const Options *o) {
    return strcmp(o->model, "skipgram") == 0 || strcmp(o->model, "ngram") == 0;
}

static bool run(const Settings *s, BenchMachine *machine, Error *e) {
    static const char *const known[] = {"ops", "step", "decode", "feed", "comm", NULL};
    const char *what = s->n_positional ? s->positional[0] : "";
    int which = 0;
    while (known[which] && strcmp(what, known[which])) which++;
    if (!known[which] || s->n_positional > 1)
        return error_misuse(e, NULL, "Call `puck bench` with one of them",
                            "bench measures one of ops, step, decode, feed and comm, not \"%s\"",
                            s->n_positional > 1 ? s->positional[1] : what);
    if (which == 4) return bench_comm(&s->options, machine->command, e);
    Subject subject = {0};
    Backend b;
    BenchTable table = {0};
    if (learns_words(&s->options))
        return error_misuse(e, "--model", "Use `puck bench ops`",
                            "the step of a model of kind %s is timed by its training alone",
                            s->options.model);
    bool ok = train_check_kind(s, e) && subject_open(&subject, &s->options, e);
    if (ok && (ok = plugin_open(&b, s->options.device, s->options.dtype, s->options.threads, e))) {
        ok = bench_measure(machine, &b, e);
        if (ok && which == 0) ok = bench_ops(&subject, &b, &table, e);
        if (ok && which == 1) ok = bench_step(&subject, &b, &table, e);
        if (ok && which == 2) ok = bench_decode(&subject, &b, &table, e);
        if (ok && which == 3) bench_feed(&subject, &b, &table);
        if (ok) bench_print(&table, machine, s->options.repeats, s->options.json);
        b.close(&b);
    }
    bench_free(&table);
    subject_close(&subject);
    return ok;
}

/* Without a preset, a small one of the model goes ahead of the caller's options. */
static bool parse(Settings *s, int argc, char **argv, int *code) {
    if (!cmd_parse(s, CMD_BENCH, argc, argv, code)) return false;
    if (s->options.preset[0] || learns_words(&s->options)) return true; /* run refuses those */
    char **with_preset = calloc((size_t)argc + 2, sizeof *with_preset);
    CHECK(with_preset, "no memory for %d arguments", argc);
    with_preset[0] = argv[0];
    const bool gpt = strcmp(s->options.model, "gpt") == 0;
    char preset[sizeof s->options.model + 32];
    snprintf(preset, sizeof preset, "--preset=shakespeare-%s", gpt ? "cpu-gpt2" : s->options.model);
    with_preset[1] = preset;
    memcpy(with_preset + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
    const bool ok = cmd_parse(s, CMD_BENCH, argc + 1, with_preset, code);
    free(with_preset);
    return ok;
}

int cmd_bench(int argc, char **argv) {
    Settings s;
    Error e;
    int code;
    BenchMachine machine = {.command = "puck"};
    for (int i = 0; i < argc; i++) {
        const size_t n = strlen(machine.command);
        snprintf(machine.command + n, sizeof machine.command - n, " %s", argv[i]);
    }
    if (!dist_start(&e)) return dist_finish(cmd_fail(&e));
    if (parse(&s, argc, argv, &code) && !dist_agree(run(&s, &machine, &e), &e)) code = cmd_fail(&e);
    return dist_finish(code);
}
