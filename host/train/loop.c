/* The training loop. One iteration enqueues a step's work on the device, then reads the result of
 * the step before, so a device never waits for the host. On a boundary (evaluation, save, sample,
 * signal, end) the result of the step itself is awaited first. */
#include "trainer.h"
#include "dist.h"
#include "log.h"
#include "plugin.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The signal that asks for a save and an end; 0 is none. A handler can reach nothing else. */
static volatile sig_atomic_t stop_signal;

static void on_signal(int signal_number) {
    if (stop_signal == SIGINT && signal_number == SIGINT) _exit(128 + SIGINT);
    stop_signal = signal_number;
    if (signal_number == SIGTERM) dist_hurry();
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    /* A terminal that closes asks the same, unless nohup has said that it shall not. */
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader of the log that goes away does not end the run */
}

/* Copies a micro-batch to the device. Its slot is free again once `fed` has passed. */
static void copy_batch(Trainer *t, const Batch *batch) {
    Backend *b = &t->backend;
    Model *m = &t->model;
    b->copy(b, m->tokens.data, batch->tokens, tensor_bytes(m->tokens), COPY_TO_DEVICE,
            m->cx.stream);
    b->copy(b, m->targets.data, batch->targets, tensor_bytes(m->targets), COPY_TO_DEVICE,
            m->cx.stream);
    b->copy(b, m->order.data, batch->order, tensor_bytes(m->order), COPY_TO_DEVICE, m->cx.stream);
    b->copy(b, m->starts.data, batch->starts, tensor_bytes(m->starts), COPY_TO_DEVICE,
            m->cx.stream);
    b->event_record(b, t->fed, m->cx.stream);
}

/* Targets of the global batch, known before any of it is read. */
static int64_t count_valid(const Trainer *t) {
    int64_t n_valid = 0;
    for (int64_t i = 0; i < t->options->batch_size; i++)
        n_valid += loader_targets(&t->feed, t->state.samples + i);
    return n_valid;
}

/* For tests of bad steps: PUCK_TEST_NAN="3,4" puts a NaN into a gradient at these steps. */
static void inject_nan(Trainer *t) {
    const char *steps = getenv("PUCK_TEST_NAN");
    while (steps && *steps) {
        char *end;
        if (strtol(steps, &end, 10) == t->state.step) {
            const Tensor grad = t->model.params[0].grad;
            t->backend.fill(&t->backend, grad.data, 0xff, dtype_bytes(grad.dtype),
                            t->model.cx.stream);
        }
        steps = *end == ',' ? end + 1 : NULL;
    }
}

/* For tests of ranks: PUCK_TEST_STUCK="1,3" lets rank 1 hang in step 3. */
static void inject_hang(const Trainer *t) {
    const char *text = getenv("PUCK_TEST_STUCK");
    int rank, step;
    if (!text || sscanf(text, "%d,%d", &rank, &step) != 2) return;
    while (rank == dist_rank() && step == t->state.step) pause();
}

/* A disk may make it wait, which is no fault of a step's. */
static const Batch *next_batch(Trainer *t) {
    dist_leave_step(false);
    const Batch *batch = loader_next(t->loader);
    dist_enter_step();
    return batch;
}

static void enqueue_step(Trainer *t) {
    Backend *b = &t->backend;
    Model *m = &t->model;
    const int slot = (int)(t->state.step % RING);
    const StepRecord record = {.step = t->state.step + 1,
                               .lr = schedule_lr(&t->schedule, t->state.step),
                               .n_valid = count_valid(t)};
    t->state.step = record.step;
    dist_enter_step();
    inject_hang(t);
    model_begin_step(m);
    for (int64_t i = 0; i < t->n_micro; i++) {
        b->event_finish(b, t->fed);
        const Batch *batch = next_batch(t);
        copy_batch(t, batch);
        StepParams *p = &t->params[slot * t->n_micro + i];
        *p = (StepParams){.seed = (uint64_t)t->options->seed,
                          .row_base = (i * dist_ranks() + dist_rank()) * m->use.B * m->use.T,
                          .step = (uint32_t)record.step,
                          .training = 1,
                          .loss_scale = 1.0 / (double)record.n_valid,
                          .lr = record.lr,
                          .max_grad_norm = t->options->clip};
        model_set_step(m, p);
        if (t->feed.form == BATCH_TEXTS ||
            (t->feed.form == BATCH_STREAMS && loader_begins(&t->feed, batch->sample)))
            model_reset_carry(m);
        if (!t->chosen) train_choices(m);
        t->chosen = true;
        if (i == t->n_micro - 1)
            model_micro_last(m);
        else
            model_micro_step(m);
    }
    inject_nan(t);
    model_update_step(m, &t->optimiser);
    b->copy(b, &t->results[slot], m->step_result.data, sizeof(StepResult), COPY_TO_HOST,
            m->cx.stream);
    b->event_record(b, t->done[slot], m->cx.stream);
    t->state.samples += t->options->batch_size;
    t->pending = record;
    t->pending.time = time_now();
    dist_leave_step(false);
}

/* "the last good checkpoint is step-N", or that there is none. */
static void describe_last_good(const Trainer *t, char text[64]) {
    if (t->last_saved < 0)
        snprintf(text, 64, "no checkpoint was saved before");
    else
        snprintf(text, 64, "the last good checkpoint is step-%08ld", (long)t->last_saved);
}

/* Reads the result of `record`: counts, metrics, and the end of a run that has gone bad. */
static bool collect_step(Trainer *t, const StepRecord *record, Error *e) {
    const int slot = (int)((record->step - 1) % RING);
    dist_enter_step();
    t->backend.event_finish(&t->backend, t->done[slot]);
    dist_leave_step(true);
    const StepResult *r = &t->results[slot];
    TrainState *state = &t->state;
    state->tokens += record->n_valid;
    if (!r->bad) {
        state->bad_steps = 0;
    } else {
        const char *culprit = model_param_name(&t->model, r->first_bad);
        state->bad_steps++;
        state->skipped_steps++;
        log_warning("step %ld is not finite (first in %s): skipped, no weight has changed",
                    (long)record->step, culprit);
        if (state->bad_steps >= t->options->max_bad_steps) {
            char good[64];
            describe_last_good(t, good);
            return error_set(e, t->run, "Lower --lr, or raise --warmup, and resume",
                             "%ld steps in a row were not finite, up to step %ld (first in %s); "
                             "%s",
                             (long)state->bad_steps, (long)record->step, culprit, good);
        }
    }
    const bool last = record->step == t->options->steps;
    if (record->step % t->options->log_every != 0 && !last) return true;
    return dist_rank() != 0 || metrics_step(&t->metrics, record, r, state->tokens, e);
}

/* What to say if the device fails from now on. */
static void tell_remedy(const Trainer *t) {
    char good[64], remedy[OPTION_STRING_MAX + 128];
    describe_last_good(t, good);
    snprintf(remedy, sizeof remedy, "To go on: puck train --run %s; %s", t->run, good);
    plugin_set_remedy(remedy);
}

/* `eval_due`: the step's evaluation comes after it. */
static bool save_checkpoint(Trainer *t, bool eval_due, Error *e) {
    t->state.eval_due = eval_due;
    t->state.elapsed_sec = metrics_elapsed(&t->metrics);
    metrics_sync(&t->metrics);
    if (!checkpoint_save(t->run, &t->model, &t->tokenizer, t->options, &t->state, t->options->keep,
                         e))
        return false;
    t->last_saved = t->state.step;
    tell_remedy(t);
    return true;
}

/* Evaluates, and keeps a checkpoint of the best loss so far. */
static bool evaluate(Trainer *t, Error *e) {
    TrainState *state = &t->state;
    state->eval_due = false;
    if (t->val.n_tokens < 2) return true;
    const double loss = trainer_estimate(t);
    const bool better = loss < state->best_loss;
    state->evals_since_best = better ? 0 : state->evals_since_best + 1;
    if (better) {
        state->best_loss = loss;
        state->best_step = state->step;
    }
    const bool speaks = dist_rank() == 0;
    if (!dist_agree(!speaks || metrics_eval(&t->metrics, state->step, loss, e), e)) return false;
    if (!better) return true;
    if (t->last_saved != state->step && !save_checkpoint(t, false, e)) return false;
    return dist_agree(!speaks || checkpoint_mark_best(t->run, state->step, e), e);
}

static bool every(int64_t step, int64_t n) { return n > 0 && step % n == 0; }

bool trainer_is_finished(const Options *o, const TrainState *state) {
    return state->step >= o->steps || (o->patience > 0 && state->evals_since_best >= o->patience);
}

/* What follows a step, in the order that makes a crash at any point resumable: sample, save,
 * evaluate. */
static bool after_step(Trainer *t, bool stopping, Error *e) {
    const Options *o = t->options;
    const int64_t step = t->state.step;
    const bool last = step >= o->steps;
    const bool eval = every(step, o->eval_every) || (last && o->eval_every > 0);
    if (every(step, o->sample_every) &&
        !dist_agree(dist_rank() != 0 || trainer_sample(t, e), e))
        return false;
    /* The last step's save would be followed at once by that of the finished run. */
    const bool save = stopping || (last ? eval : every(step, o->save_every));
    if (save && !save_checkpoint(t, eval, e)) return false;
    return !eval || stopping || evaluate(t, e);
}

static bool at_boundary(const Trainer *t) {
    const Options *o = t->options;
    const int64_t step = t->state.step;
    return step >= o->steps || every(step, o->eval_every) || every(step, o->sample_every) ||
           every(step, o->save_every);
}

/* After each step all ranks learn whether one has failed, and whether one has caught a signal:
 * *signal_number is then the same on all, so that all stop after the same step. */
static bool agree_on_step(bool ok, int *signal_number, Error *e) {
    enum { FAILED = 1 << 16 };
    const int most = dist_max(ok ? *signal_number : FAILED);
    if (most == FAILED) return dist_agree(ok, e);
    *signal_number = most;
    return true;
}

/* What a finished run can be asked. */
static const char *question_of(const Options *o) {
    if (strcmp(o->task, "classify") == 0) return "classify";
    if (strcmp(o->task, "pairs") == 0) return "generate --pairs";
    const bool words = strcmp(o->model, "skipgram") == 0 || strcmp(o->model, "ngram") == 0;
    return words ? "embed nearest WORD" : "generate";
}

bool trainer_loop(Trainer *t, int *exit_code, Error *e) {
    catch_signals();
    tell_remedy(t);
    if (t->state.eval_due && !evaluate(t, e)) return false;
    int64_t steps_here = 0;
    bool stopping = false;
    int caught = 0;
    while (!stopping && !trainer_is_finished(t->options, &t->state)) {
        const StepRecord before = t->pending;
        enqueue_step(t);
        bool ok = steps_here > 0 || dist_rank() != 0 ||
                  checkpoint_write_choices(t->run, &t->backend, e);
        ok = ok && (!before.step || collect_step(t, &before, e));
        caught = stop_signal;
        if (!agree_on_step(ok, &caught, e) || !together_weights(t, e)) return false;
        steps_here++;
        stopping = caught || steps_here == t->options->stop_after;
        if (!stopping && !at_boundary(t)) continue;
        const StepRecord now = t->pending;
        t->pending.step = 0;
        const double pause = time_now();
        if (!dist_agree(collect_step(t, &now, e), e) || !after_step(t, stopping, e)) return false;
        t->metrics.paused += time_now() - pause;
    }
    log_progress_end();
    *exit_code = caught ? EXIT_PREEMPTED : EXIT_DONE;
    if (stopping) {
        log_info("saved step %ld; to go on: puck train --run %s", (long)t->state.step, t->run);
        return true;
    }
    t->state.finished = true;
    if (!save_checkpoint(t, false, e)) return false;
    log_info("finished; to ask it: puck %s --from %s", question_of(t->options), t->run);
    return true;
}
