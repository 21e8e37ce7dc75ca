/* A run from its start to its end: folders, where it goes on from, device, model, resume. */
#include "trainer.h"
#include "dist.h"
#include "log.h"
#include "plugin.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool exists(const char *folder, const char *name) {
    char path[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* ---- folders ---- */

/* Whether a path is, or is in, the run's folder. */
static bool is_within(const char *path, const char *run) {
    char *inner = realpath(path, NULL), *outer = realpath(run, NULL);
    const size_t n = outer ? strlen(outer) : 0;
    const bool within =
        inner && outer && strncmp(inner, outer, n) == 0 && (!inner[n] || inner[n] == '/');
    free(inner);
    free(outer);
    return within;
}

/* --fresh moves a run away only if what the new one begins with is there, and stays there. */
static bool check_fresh(const Options *o, Error *e) {
    const char *const inputs[] = {o->data, o->init_from};
    for (int i = 0; i < COUNT_OF(inputs); i++) {
        if (!inputs[i][0] || strcmp(inputs[i], "-") == 0) continue;
        if (access(inputs[i], R_OK) != 0)
            return error_set(e, inputs[i], "Check the name and the permissions", "cannot open: %m");
        if (is_within(inputs[i], o->run))
            return error_misuse(e, inputs[i], "Choose another --run, or copy that first",
                                "--fresh would move this away with the run in %s", o->run);
    }
    return true;
}

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

/* ---- where it starts ---- */

static bool locate_start(const Trainer *t, Start *s, Error *e) {
    const Options *o = t->options;
    s->resumes = t->run[0] && !o->fresh && checkpoint_exists(t->run);
    s->finetunes = !s->resumes && o->init_from[0];
    if (!s->resumes && !s->finetunes) return true;
    return checkpoint_find(s->resumes ? t->run : o->init_from, s->folder, sizeof s->folder, e);
}

/* Rank 0 looks, and verifies what it finds, for all. */
static bool find_start(Trainer *t, Start *s, Error *e) {
    *s = (Start){0};
    if (!dist_agree(dist_rank() != 0 || locate_start(t, s, e), e)) return false;
    dist_broadcast(s, sizeof *s, 0);
    const bool ok = !s->resumes || (settings_merge_recorded(&t->settings, s->folder, e) &&
                                    checkpoint_read_state(s->folder, &t->state, e));
    return dist_agree(ok && settings_check(&t->settings, e), e);
}

/* ---- the plan, printed ---- */

static void print_plan(const Trainer *t, const ModelConfig *c, FILE *out) {
    const Options *o = t->options;
    const Model *m = &t->model;
    const double flops = model_flops_per_token(c, o->context);
    const int64_t targets = model_row_targets(c);
    const double tokens = (double)o->steps * (double)(o->batch_size * targets);
    if (c->kind == MODEL_GPT)
        fprintf(out,
                "model       %ld layers, %ld heads, %ld channels, context %ld, vocabulary %ld\n",
                (long)c->layers, (long)c->heads, (long)c->channels, (long)c->context,
                (long)c->vocab);
    else if (c->kind == MODEL_SKIPGRAM)
        fprintf(out, "model       skipgram: vectors of %ld numbers, vocabulary %ld\n",
                (long)c->channels, (long)c->vocab);
    else
        fprintf(out,
                "model       %s: %ld hidden layers of %ld on embeddings of %ld, context %ld, "
                "vocabulary %ld\n",
                o->model, (long)c->layers, (long)c->hidden, (long)c->channels, (long)c->context,
                (long)c->vocab);
    fprintf(out, "parameters  %ld, without lookups %ld\n", (long)model_count_params(c),
            (long)model_count_matmul_params(c));
    fprintf(out,
            "work        %ld steps of %ld x %ld targets: %.4g, %.4g FLOPs each (%s)\n",
            (long)o->steps, (long)o->batch_size, (long)targets, tokens, flops,
            c->kind == MODEL_GPT ? "6N + 6LHDT" : "6N");
    arena_report(&m->arena, device_room(&m->backend->properties), out);
}

static bool config_of_options(Trainer *t, ModelConfig *c, Error *e) {
    if (!train_model_config(t->options, t->tokenizer.n_vocab, c, e)) return false;
    setup_classes(t, c);
    return true;
}

/* The model that --init-from names, else the one that the options describe. */
static bool choose_config(Trainer *t, const Start *start, ModelConfig *c, Error *e) {
    return (start->finetunes ? setup_config_from_folder(t, start->folder, c, e)
                             : config_of_options(t, c, e)) &&
           checkpoint_check_format(c, strcmp(t->options->format, "puck") == 0, e);
}

static bool dry_config(Trainer *t, ModelConfig *c, Error *e) {
    Start start;
    if (!find_start(t, &start, e)) return false;
    if (start.resumes) return checkpoint_read_config(start.folder, c, e);
    return data_survey(t, &start, e) && choose_config(t, &start, c, e);
}

static bool dry_run(Trainer *t, Error *e) {
    ModelConfig c;
    ModelUse use;
    int64_t memory = 0;
    if ((t->options->device_memory[0] &&
         !options_bytes(t->options->device_memory, "--device-memory", &memory, e)) ||
        !dry_config(t, &c, e) || !train_model_use(t->options, &use, e) ||
        !(memory ? plugin_open_plan(&t->backend, t->options->device, t->options->dtype, memory, e)
                 : plugin_open(&t->backend, t->options->device, t->options->dtype,
                               t->options->threads, e)))
        return false;
    model_plan(&t->model, &c, &use, &t->backend);
    options_write_file(t->options, CMD_TRAIN, stdout);
    printf("\n");
    print_plan(t, &c, stdout);
    if (memory) return true;
    int64_t side;
    const double speed = 0.5 * measure_peak_flops(&t->backend, &side);
    const double flops = model_flops_per_token(&c, use.T) * (double)t->options->steps *
                         (double)(t->options->batch_size * model_row_targets(&c));
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

/* Weights and moments: from the run, from --init-from, or new. */
static bool load_or_init(Trainer *t, const Start *start, Error *e) {
    if (start->resumes) {
        if (t->state.data_hash != t->meta.data_hash && !t->options->override)
            return error_misuse(e, "--data", "Add --override to go on with other data",
                                "%s was trained on other data than %s", start->folder, t->data);
        t->last_saved = t->state.step;
    } else {
        t->last_saved = -1;
        t->state.best_loss = INFINITY;
        t->state.tokenizer_hash = t->meta.tokenizer_hash;
    }
    t->state.data_hash = t->meta.data_hash;
    if (!start->folder[0]) {
        model_init(&t->model, (uint64_t)t->options->seed);
        return true;
    }
    if (start->finetunes && t->labels.n) return setup_transfer(t, start->folder, e);
    return checkpoint_read_weights(start->folder, &t->model, e) &&
           (!start->resumes || (checkpoint_read_optim(start->folder, &t->model, e) &&
                                checkpoint_read_carry(start->folder, &t->model, e)));
}

static bool start_feed(Trainer *t, Error *e) {
    const Options *o = t->options;
    const ModelUse *use = &t->model.use;
    const DataOrder order = strcmp(o->order, "random") == 0 ? ORDER_RANDOM : ORDER_SHUFFLE;
    t->feed = train_feed(&t->model.config, &t->train, use->B, use->T, (uint64_t)o->seed, order);
    if (t->feed.form == BATCH_NEIGHBOURS)
        t->words = loader_count_words(&t->train, t->model.config.vocab, o->subsample);
    t->feed.words = t->words;
    t->feed.window = o->window;
    if (!loader_check(&t->feed, o->batch_size, t->data, e)) return false;
    char kinds[32] = ""; /* where they are none but the classes, there is nothing to say */
    if (t->labels.n_kinds != t->labels.n)
        snprintf(kinds, sizeof kinds, " of %d kinds", t->labels.n_kinds);
    if (t->feed.form == BATCH_TEXTS)
        log_info("%ld texts to learn from, %ld for validation, %d classes%s",
                 (long)t->train.n_lines, (long)t->val.n_lines, t->labels.n, kinds);
    Backend *b = &t->backend;
    t->loader_memory = pinned(t, loader_bytes(use->B, use->T));
    t->val_memory = pinned(t, (5 * use->B * use->T + 1) * 4);
    t->params = pinned(t, t->n_micro * RING * (int64_t)sizeof(StepParams));
    t->results = pinned(t, RING * (int64_t)sizeof(StepResult));
    t->fed = b->event_create(b);
    for (int i = 0; i < RING; i++) t->done[i] = b->event_create(b);
    /* Micro-batch i of rank r is number i * ranks + r of the global batch. */
    t->loader = loader_start(&t->feed, t->state.samples + dist_rank() * use->B,
                             dist_ranks() * use->B, t->loader_memory);
    return true;
}

static bool build_model(Trainer *t, const Start *start, Error *e) {
    ModelConfig c, recorded;
    ModelUse use;
    if (!choose_config(t, start, &c, e)) return false;
    if (start->resumes) {
        if (!checkpoint_read_config(start->folder, &recorded, e) ||
            !setup_same_config(&c, &recorded, start->folder, e))
            return false;
        c.norm_eps = recorded.norm_eps; /* no option: --init-from may have set it */
    }
    if (!train_model_use(t->options, &use, e) ||
        !plugin_open(&t->backend, t->options->device, t->options->dtype, t->options->threads, e))
        return false;
    /* A run that was killed before its first checkpoint has made choices too. */
    if (!checkpoint_read_choices(t->run, &t->backend, e) ||
        (start->resumes && !checkpoint_read_choices(start->folder, &t->backend, e)))
        return false;
    model_plan(&t->model, &c, &use, &t->backend);
    if (t->labels.n) t->model.labels = &t->labels;
    if (!t->options->quiet && dist_rank() == 0) print_plan(t, &c, stderr);
    if (!model_commit(&t->model, e)) return false;
    dist_watch_device(t->model.marks, t->model.marks ? MODEL_MARKS : 0);
    return load_or_init(t, start, e);
}

static bool start_metrics(Trainer *t, Error *e) {
    Metrics *m = &t->metrics;
    m->flops_per_token = model_flops_per_token(&t->model.config, t->model.use.T);
    int64_t side;
    m->peak_flops = dist_sum(measure_peak_flops(&t->backend, &side));
    m->memory_bytes = arena_total(&t->model.arena);
    m->steps = t->options->steps;
    if (dist_rank() != 0) return true;
    return checkpoint_write_options(t->run, t->options, e) &&
           metrics_open(m, t->run, &t->state, e) && trainer_cut_samples(t, e);
}

/* Says so if the run has nothing left to do. */
static bool is_finished(const Trainer *t) {
    const TrainState *state = &t->state;
    if (!state->finished || !trainer_is_finished(t->options, state)) return false;
    log_info("the run in %s is finished at step %ld; %s, --fresh starts anew", t->run,
             (long)state->step,
             state->step < t->options->steps ? "a larger --patience goes on"
                                             : "more --steps with --override go on");
    return true;
}

/* The end of a classifier's run: how its best weights do on the validation part. */
static bool report_classes(Trainer *t, Error *e) {
    if (!t->labels.n || !t->val.n_lines) return true;
    char folder[2048];
    ClassScore score, bayes;
    const int64_t best = t->state.best_step;
    snprintf(folder, sizeof folder, "%s/ckpt/%s", t->run, best ? "best" : "latest");
    if (best && !checkpoint_read_weights(folder, &t->model, e)) return false;
    log_info("%s, step %ld, on the validation part:", folder, (long)(best ? best : t->state.step));
    classify_split(&t->model, &t->val, 0, 1, &score);
    classify_bayes(&t->train, &t->val, &t->labels, &bayes);
    classify_print(&score, &bayes, &t->labels, false, stdout);
    classify_free(&score);
    classify_free(&bayes);
    return true;
}

/* The run folder is locked. */
static bool run_locked(Trainer *t, int *exit_code, Error *e) {
    Start start;
    if (!find_start(t, &start, e)) return false;
    if (start.resumes && is_finished(t)) return true;
    if (!data_prepare(t, &start, e) ||
        !dist_agree(data_check(t, &start, e) && build_model(t, &start, e) &&
                        data_find_lines(t, e),
                    e) ||
        !dist_own_card(t->backend.properties.card, e))
        return false;
    if (start.resumes) log_info("resuming %s at step %ld", start.folder, (long)t->state.step);
    t->state.finished = false;
    setup_schedule(t);
    t->n_micro = t->options->batch_size / t->model.use.B / dist_ranks();
    return dist_agree(start_feed(t, e), e) && dist_agree(start_metrics(t, e), e) &&
           trainer_loop(t, exit_code, e) &&
           dist_agree(dist_rank() != 0 || !t->state.finished || report_classes(t, e), e);
}

static void trainer_close(Trainer *t) {
    if (t->loader) loader_stop(t->loader);
    metrics_close(&t->metrics);
    tokenizer_free(&t->tokenizer);
    tokens_close(&t->train);
    tokens_close(&t->val);
    loader_free_words(t->words);
    labels_free(&t->labels);
    Backend *b = &t->backend;
    if (!b->ops) return; /* never opened */
    if (t->fed) {
        b->event_destroy(b, t->fed);
        for (int i = 0; i < RING; i++) b->event_destroy(b, t->done[i]);
    }
    void *const pins[] = {t->loader_memory, t->val_memory, t->params, t->results};
    for (int64_t i = 0; i < COUNT_OF(pins); i++)
        if (pins[i]) b->free_pinned(b, pins[i]);
    dist_watch_device(NULL, 0);
    model_free(&t->model);
    b->close(b);
}

/* A run that did not begin leaves no folder that it made: none but the lock is in it. */
static void remove_empty(const char *run) {
    char path[2048];
    snprintf(path, sizeof path, "%s/lock", run);
    if (unlink(path) == 0) (void)rmdir(run);
}

/* The one writer's part: rank 0's. */
static bool take_folder_of_run(const Trainer *t, int *lock, Error *e) {
    const bool old =
        t->options->fresh && (checkpoint_exists(t->run) || exists(t->run, "metrics.jsonl"));
    return run_lock(t->run, lock, e) &&
           (!old || (check_fresh(t->options, e) && move_aside(t->run, lock, e)));
}

bool train_run(Settings *s, SampleText sample, int *exit_code, Error *e) {
    Trainer *t = calloc(1, sizeof *t);
    CHECK(t, "no memory");
    t->settings = *s;
    t->options = &t->settings.options;
    t->run = t->options->run;
    t->text = t->options->data;
    char *run = t->settings.options.run; /* RUN/ is RUN, and RUN.old-1 stands beside it */
    for (size_t n = strlen(run); n > 1 && run[n - 1] == '/';) run[--n] = 0;
    t->sample = sample;
    t->metrics.file = -1;
    bool ok;
    int lock = -1;
    const bool is_new = access(t->run, F_OK) != 0;
    *exit_code = EXIT_DONE;
    if (!together_options(t, e) || !dist_agree(train_own_defaults(&t->settings, e), e)) {
        ok = false;
    } else if (t->options->dry_run) {
        ok = dist_agree(train_check_kind(&t->settings, e) && dry_run(t, e), e);
    } else if (!dist_agree(train_check_kind(&t->settings, e), e)) {
        ok = false;
    } else if (!t->run[0]) {
        ok = error_misuse(e, "--run", "Give a folder, such as --run runs/first",
                          "a run needs a folder for its checkpoints");
        ok = dist_agree(ok, e);
    } else {
        ok = dist_agree(dist_rank() != 0 || take_folder_of_run(t, &lock, e), e) &&
             together_folder(t, e) && run_locked(t, exit_code, e);
    }
    trainer_close(t);
    if (lock >= 0 && !ok && is_new) remove_empty(t->run);
    if (lock >= 0) run_unlock(lock);
    free(t);
    return ok;
}
