/* Everything before the first step of a run: settings, data, tokenizer, device, model, resume. */
#include "trainer.h"
#include "log.h"
#include "plugin.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool exists(const char *folder, const char *name) {
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* ---- folders ---- */

/* Moves what RUN holds to RUN.old-N. The lock is held meanwhile, and again on the new folder. */
static bool move_aside(const char *run, int *lock, Error *e) {
    char old[2048];
    for (int n = 1;; n++) {
        snprintf(old, sizeof old, "%s.old-%d", run, n);
        if (access(old, F_OK) != 0) break;
    }
    if (rename(run, old) != 0)
        return error_set(e, run, "Check the folder's permissions", "cannot move it aside: %m");
    log_info("moved the earlier run to %s", old);
    run_unlock(*lock);
    return run_lock(run, lock, e);
}

/* ---- data and tokenizer ---- */

/* The tokenizer of a finetuned checkpoint, where it has one and none was asked for. */
static const char *choose_tokenizer(const Trainer *t, char *path, size_t size) {
    const Options *o = t->options;
    if (o->init_from[0] && options_source(&t->settings, "tokenizer") == FROM_DEFAULT) {
        char folder[1024];
        Error ignored;
        if (checkpoint_find(o->init_from, folder, sizeof folder, &ignored) &&
            exists(folder, "tokenizer.json")) {
            snprintf(path, size, "%s/tokenizer.json", folder);
            return path;
        }
    }
    return o->tokenizer;
}

/* A folder is taken as it is; a text is tokenized into RUN/data. */
static bool prepare_data(Trainer *t, Error *e) {
    const Options *o = t->options;
    if (!o->data[0])
        return error_misuse(e, "--data", "Give a text file, or a folder made by `puck tokenize`",
                            "there is nothing to train on");
    if (is_folder(o->data)) {
        snprintf(t->data, sizeof t->data, "%s", o->data);
        return true;
    }
    char path[2048];
    snprintf(t->data, sizeof t->data, "%s/data", t->run);
    const char *input = o->data;
    const TokenizeRequest request = {.inputs = &input,
                                     .n_inputs = 1,
                                     .field = "",
                                     .tokenizer = choose_tokenizer(t, path, sizeof path),
                                     .output = t->data,
                                     .val_fraction = o->val_fraction};
    TokenizeResult result;
    if (!tokenize_files(&request, &result, e)) return false;
    log_info("%s: %ld training and %ld validation tokens, vocabulary %d", o->data,
             (long)result.n_train, (long)result.n_val, (int)result.n_vocab);
    return true;
}

static bool open_data(Trainer *t, Error *e) {
    char path[2048];
    snprintf(path, sizeof path, "%s/tokenizer.json", t->data);
    if (!data_meta_read(t->data, &t->meta, e) || !tokenizer_load(&t->tokenizer, path, e) ||
        !tokens_open(&t->train, t->data, "train", t->tokenizer.n_vocab, e))
        return false;
    return t->meta.n_val == 0 || tokens_open(&t->val, t->data, "val", t->tokenizer.n_vocab, e);
}

/* ---- the plan, printed ---- */

static void print_plan(const Trainer *t, const ModelConfig *c, FILE *out) {
    const Options *o = t->options;
    const Model *m = &t->model;
    const double flops = model_flops_per_token(c, o->context);
    const double tokens = (double)o->steps * (double)(o->batch_size * o->context);
    fprintf(out,
            "model       GPT-2, %ld layers, %ld heads, %ld channels, context %ld, vocabulary %ld\n",
            (long)c->layers, (long)c->heads, (long)c->channels, (long)c->context, (long)c->vocab);
    fprintf(out, "parameters  %ld, without the position lookup %ld\n", (long)model_count_params(c),
            (long)model_count_matmul_params(c));
    fprintf(out,
            "work        %ld steps of %ld x %ld tokens: %.4g tokens, %.4g FLOPs a token "
            "(6N + 6LCT)\n",
            (long)o->steps, (long)o->batch_size, (long)o->context, tokens, flops);
    arena_report(&m->arena, m->backend->properties.memory_free, out);
}

/* Nothing is written: a text is only read for its vocabulary. */
static bool vocab_of_data(Trainer *t, Error *e) {
    const Options *o = t->options;
    if (!o->data[0] || o->vocab_size) return true;
    char path[2048];
    if (is_folder(o->data)) {
        snprintf(path, sizeof path, "%s/tokenizer.json", o->data);
        return tokenizer_load(&t->tokenizer, path, e);
    }
    if (strcmp(o->tokenizer, "byte") == 0) return tokenizer_make_byte(&t->tokenizer, e);
    if (strcmp(o->tokenizer, "char") != 0) return tokenizer_load(&t->tokenizer, o->tokenizer, e);
    int64_t bytes;
    char *text = file_read(o->data, &bytes, e);
    const bool ok = text && tokenizer_make_char(&t->tokenizer, o->data, text, bytes, e);
    free(text);
    return ok;
}

static bool dry_run(Trainer *t, Error *e) {
    ModelConfig c;
    ModelUse use;
    int64_t memory = 0;
    if ((t->options->device_memory[0] &&
         !options_bytes(t->options->device_memory, "--device-memory", &memory, e)) ||
        !vocab_of_data(t, e) || !train_model_config(t->options, t->tokenizer.n_vocab, &c, e) ||
        !train_model_use(t->options, &use, e) ||
        !plugin_open(&t->backend, t->options->device, t->options->threads, e))
        return false;
    if (memory) t->backend.properties.memory_free = memory;
    model_plan(&t->model, &c, &use, &t->backend);
    options_write_file(t->options, CMD_TRAIN, stdout);
    printf("\n");
    print_plan(t, &c, stdout);
    const double speed = 0.5 * measure_peak_flops(&t->backend);
    const double flops = model_flops_per_token(&c, use.T) * (double)t->options->steps *
                         (double)(t->options->batch_size * use.T);
    if (!memory)
        printf("time        about %.0f s, at half of this machine's speed of products\n",
               flops / speed);
    return true;
}

/* ---- start ---- */

static void *pinned(Trainer *t, int64_t bytes) {
    void *memory = t->backend.alloc_pinned(&t->backend, bytes);
    CHECK(memory, "no pinned memory for %ld bytes", (long)bytes);
    return memory;
}

/* Weights, moments and state: from the run, from --init-from, or new. */
static bool load_or_init(Trainer *t, const char *resume, const char *init, Error *e) {
    t->last_saved = -1;
    t->state.best_loss = INFINITY;
    t->state.tokenizer_hash = t->meta.tokenizer_hash;
    t->state.data_hash = t->meta.data_hash;
    if (init) return checkpoint_read_weights(init, &t->model, e);
    if (!resume) {
        model_init(&t->model, (uint64_t)t->options->seed);
        return true;
    }
    TrainState state;
    if (!checkpoint_read_state(resume, &state, e)) return false;
    if (state.data_hash != t->meta.data_hash && !t->options->override)
        return error_misuse(e, "--data", "Add --override to go on with other data",
                            "%s was trained on other data than %s", resume, t->data);
    if (!checkpoint_read_weights(resume, &t->model, e) ||
        !checkpoint_read_optim(resume, &t->model, e))
        return false;
    const uint64_t data_hash = t->meta.data_hash;
    t->state = state;
    t->state.data_hash = data_hash;
    t->last_saved = state.step;
    return true;
}

static bool start_feed(Trainer *t, Error *e) {
    const Options *o = t->options;
    const ModelUse *use = &t->model.use;
    const DataOrder order = strcmp(o->order, "random") == 0 ? ORDER_RANDOM : ORDER_SHUFFLE;
    t->feed = (LoaderConfig){&t->train, use->B, use->T, (uint64_t)o->seed, order};
    if (!loader_check(&t->feed, t->data, e)) return false;
    const int64_t windows = loader_epoch_samples(&t->feed);
    if (o->batch_size > windows)
        return error_misuse(e, "--batch-size", "Use a smaller batch or context, or more text",
                            "a batch of %ld sequences is more than the %ld in %s",
                            (long)o->batch_size, (long)windows, t->data);
    Backend *b = &t->backend;
    t->loader_memory = pinned(t, loader_bytes(use->B, use->T));
    t->val_memory = pinned(t, (5 * use->B * use->T + 1) * 4);
    t->params = pinned(t, t->n_micro * RING * (int64_t)sizeof(StepParams));
    t->results = pinned(t, RING * (int64_t)sizeof(StepResult));
    t->fed = b->event_create(b);
    for (int i = 0; i < RING; i++) t->done[i] = b->event_create(b);
    t->loader = loader_start(&t->feed, t->state.samples, use->B, t->loader_memory);
    return true;
}

static bool build_model(Trainer *t, const char *resume, const char *init, Error *e) {
    ModelConfig c, recorded;
    ModelUse use;
    if (!(init ? setup_config_from_folder(t, init, &c, e)
               : train_model_config(t->options, t->tokenizer.n_vocab, &c, e)))
        return false;
    if (resume && (!checkpoint_read_config(resume, &recorded, e) ||
                   !setup_same_config(&c, &recorded, resume, e)))
        return false;
    if (resume) c.norm_eps = recorded.norm_eps; /* no option: --init-from may have set it */
    if (!train_model_use(t->options, &use, e) ||
        !plugin_open(&t->backend, t->options->device, t->options->threads, e))
        return false;
    model_plan(&t->model, &c, &use, &t->backend);
    if (!t->options->quiet) print_plan(t, &c, stderr);
    return model_commit(&t->model, e) && load_or_init(t, resume, init, e);
}

static bool start_metrics(Trainer *t, Error *e) {
    Metrics *m = &t->metrics;
    m->flops_per_token = model_flops_per_token(&t->model.config, t->model.use.T);
    m->peak_flops = measure_peak_flops(&t->backend);
    m->memory_bytes = arena_total(&t->model.arena);
    m->steps = t->options->steps;
    return metrics_open(m, t->run, &t->state, e) && trainer_cut_samples(t, e);
}

/* Says so if the run has nothing left to do. An unreadable state is found again when it is
 * loaded. */
static bool is_finished(const Trainer *t, const char *resume) {
    TrainState state;
    Error ignored;
    if (!checkpoint_read_state(resume, &state, &ignored) || !state.finished ||
        !trainer_is_finished(t->options, &state))
        return false;
    log_info("the run in %s is finished at step %ld; more --steps with --override go on, --fresh "
             "starts anew",
             t->run, (long)state.step);
    return true;
}

/* The run folder is locked. */
static bool run_locked(Trainer *t, int *exit_code, Error *e) {
    char folder[1024], init_folder[1024];
    const char *resume = NULL, *init = NULL;
    if (checkpoint_exists(t->run)) {
        if (!checkpoint_find(t->run, folder, sizeof folder, e) ||
            !setup_merge_recorded(&t->settings, folder, e))
            return false;
        resume = folder;
    } else if (t->options->init_from[0]) {
        if (!checkpoint_find(t->options->init_from, init_folder, sizeof init_folder, e))
            return false;
        init = init_folder;
    }
    if (resume && is_finished(t, resume)) {
        *exit_code = EXIT_DONE;
        return true;
    }
    if (!prepare_data(t, e) || !open_data(t, e) || !build_model(t, resume, init, e)) return false;
    if (resume) log_info("resuming %s at step %ld", folder, (long)t->state.step);
    t->state.finished = false;
    setup_schedule(t);
    t->n_micro = t->options->batch_size / t->model.use.B;
    return start_feed(t, e) && checkpoint_write_options(t->run, t->options, e) &&
           start_metrics(t, e) && trainer_loop(t, exit_code, e);
}

static void trainer_close(Trainer *t) {
    if (t->loader) loader_stop(t->loader);
    metrics_close(&t->metrics);
    tokenizer_free(&t->tokenizer);
    tokens_close(&t->train);
    tokens_close(&t->val);
    Backend *b = &t->backend;
    if (!b->ops) return; /* never opened */
    if (t->fed) {
        b->event_destroy(b, t->fed);
        for (int i = 0; i < RING; i++) b->event_destroy(b, t->done[i]);
    }
    void *const pins[] = {t->loader_memory, t->val_memory, t->params, t->results};
    for (int64_t i = 0; i < COUNT_OF(pins); i++)
        if (pins[i]) b->free_pinned(b, pins[i]);
    model_free(&t->model);
    b->close(b);
}

bool train_run(Settings *s, SampleText sample, int *exit_code, Error *e) {
    Trainer *t = calloc(1, sizeof *t);
    CHECK(t, "no memory");
    t->settings = *s;
    t->options = &t->settings.options;
    t->run = t->options->run;
    t->sample = sample;
    t->metrics.file = -1;
    bool ok;
    int lock = -1;
    *exit_code = EXIT_DONE;
    if (t->options->dry_run) {
        ok = dry_run(t, e);
    } else if (!t->run[0]) {
        ok = error_misuse(e, "--run", "Give a folder, such as --run runs/first",
                          "a run needs a folder for its checkpoints");
    } else {
        const bool old =
            t->options->fresh && (checkpoint_exists(t->run) || exists(t->run, "metrics.jsonl"));
        ok = run_lock(t->run, &lock, e) && (!old || move_aside(t->run, &lock, e)) &&
             run_locked(t, exit_code, e);
    }
    trainer_close(t);
    if (lock >= 0) run_unlock(lock);
    free(t);
    return ok;
}
