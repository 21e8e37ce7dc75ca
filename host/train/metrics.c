/* What a run reports: metrics.jsonl, TensorBoard events, the progress line. */
#include "log.h"
#include "tfevents.h"
#include "trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Whether a line of metrics.jsonl belongs to the time before the resumed state. The evaluation of
 * the state's own step is not part of it while it is due. */
static bool line_is_kept(const char *line, int64_t length, const TrainState *state) {
    json_t *object = json_loadb(line, (size_t)length, 0, NULL);
    if (!object) return false; /* a line that a crash cut short */
    const int64_t step = json_integer_value(json_object_get(object, "step"));
    const bool eval = json_object_get(object, "val_loss") != NULL;
    json_decref(object);
    return step < state->step || (step == state->step && !(eval && state->eval_due));
}

static bool cut_metrics(const char *path, const TrainState *state, Error *e) {
    if (access(path, F_OK) != 0) return true;
    int64_t bytes, kept = 0;
    char *text = file_read(path, &bytes, e);
    if (!text) return false;
    for (int64_t at = 0, n; at < bytes; at += n) {
        const char *end = memchr(text + at, '\n', (size_t)(bytes - at));
        n = end ? end + 1 - (text + at) : bytes - at;
        if (!end || !line_is_kept(text + at, n, state)) continue;
        memmove(text + kept, text + at, (size_t)n);
        kept += n;
    }
    const bool ok = kept == bytes || file_write_atomic(path, text, kept, e);
    free(text);
    return ok;
}

bool metrics_open(Metrics *m, const char *run, const TrainState *state, Error *e) {
    char path[1200];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    m->run = run;
    if (!cut_metrics(path, state, e)) return false;
    m->file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (m->file < 0) return error_set(e, path, "Check the folder", "cannot be written: %m");
    m->events = tfevents_open(run, e);
    if (!m->events) return false;
    m->start = m->last_time = time_now();
    m->elapsed_before = state->elapsed_sec;
    m->last_tokens = state->tokens;
    return true;
}

double metrics_elapsed(const Metrics *m) { return m->elapsed_before + time_now() - m->start; }

static bool write_line(Metrics *m, Error *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One write a line, so that a crash leaves whole lines but for the last. */
static bool write_line(Metrics *m, Error *e, const char *format, ...) {
    char line[512], path[1200];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    const ssize_t written = write(m->file, line, (size_t)length);
    if (written == length) return true;
    if (written >= 0) errno = ENOSPC; /* only a part found room */
    snprintf(path, sizeof path, "%s/metrics.jsonl", m->run);
    return error_set(e, path, "Free some space and resume", "write failed: %s", strerror(errno));
}

/* JSON has no NaN: null instead. */
static const char *json_number(char text[32], double value) {
    if (isfinite(value))
        snprintf(text, 32, "%.9g", value);
    else
        snprintf(text, 32, "null");
    return text;
}

static void show_progress(const Metrics *m, const StepRecord *step, const StepResult *result) {
    const double flops = m->tokens_per_sec * m->flops_per_token;
    const int64_t left = m->steps - step->step;
    const double per_step = (double)step->n_valid / m->tokens_per_sec;
    const int64_t eta = (int64_t)((double)left * per_step + 0.5);
    char share[48] = "unknown device";
    if (m->peak_flops > 0)
        snprintf(share, sizeof share, "%.0f %% of peak", 100 * flops / m->peak_flops);
    log_progress("step %ld/%ld  loss %.4f  lr %.2e  norm %.2f  %.0f tok/s  %.1f GFLOP/s (%s)  "
                 "%.0f MB  ETA %ld:%02ld",
                 (long)step->step, (long)m->steps, result->loss, step->lr, result->grad_norm,
                 m->tokens_per_sec, flops * 1e-9, share, (double)m->memory_bytes * 1e-6,
                 (long)(eta / 60), (long)(eta % 60));
}

bool metrics_step(Metrics *m, const StepRecord *step, const StepResult *result, int64_t tokens,
                  Error *e) {
    const double sec = step->time - m->last_time - m->paused;
    m->tokens_per_sec = (double)(tokens - m->last_tokens) / fmax(sec, 1e-9);
    m->last_time = step->time;
    m->last_tokens = tokens;
    m->paused = 0;
    const double flops = m->tokens_per_sec * m->flops_per_token;
    char loss[32], norm[32], mfu[32];
    json_number(mfu, m->peak_flops > 0 ? flops / m->peak_flops : NAN);
    const double wall = (double)time(NULL);
    if (!tfevents_scalar(m->events, step->step, "train/loss", result->loss, wall, e) ||
        !tfevents_scalar(m->events, step->step, "train/lr", step->lr, wall, e) ||
        !tfevents_scalar(m->events, step->step, "train/grad_norm", result->grad_norm, wall, e))
        return false;
    if (!result->bad) show_progress(m, step, result);
    return write_line(m, e,
                      "{\"step\": %ld, \"train_loss\": %s, \"lr\": %.9g, \"grad_norm\": %s, "
                      "\"tokens_per_sec\": %.6g, \"gflops_per_sec\": %.6g, \"mfu\": %s, "
                      "\"elapsed_sec\": %.3f}\n",
                      (long)step->step, json_number(loss, result->loss), step->lr,
                      json_number(norm, result->grad_norm), m->tokens_per_sec, flops * 1e-9, mfu,
                      metrics_elapsed(m));
}

bool metrics_eval(Metrics *m, int64_t step, double val_loss, Error *e) {
    char loss[32];
    log_progress_end();
    log_info("step %ld: validation loss %.4f (estimate)", (long)step, val_loss);
    if (!tfevents_scalar(m->events, step, "val/loss", val_loss, (double)time(NULL), e))
        return false;
    return write_line(m, e, "{\"step\": %ld, \"val_loss\": %s, \"elapsed_sec\": %.3f}\n",
                      (long)step, json_number(loss, val_loss), metrics_elapsed(m));
}

void metrics_sync(Metrics *m) {
    if (m->file >= 0) fsync(m->file);
}

void metrics_close(Metrics *m) {
    if (m->file >= 0) close(m->file);
    tfevents_close(m->events);
}
