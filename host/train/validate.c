/* During training: an estimate of the validation loss, and sample texts. */
#include "trainer.h"
#include "dist.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Always the same windows, so that estimates of one run compare; each rank takes its part. */
static double estimate_by_batches(Trainer *t) {
    Model *m = &t->model;
    const int64_t B = m->use.B, T = m->use.T, n = B * T, rows = tensor_count(m->losses);
    int32_t *memory = t->val_memory;
    Batch batch = {
        .tokens = memory, .targets = memory + n, .order = memory + 2 * n, .starts = memory + 3 * n};
    LoaderConfig feed = t->feed;
    feed.tokens = &t->val;
    feed.order = ORDER_RANDOM;
    float *losses = (void *)(memory + 4 * n + 1);
    double sum = 0;
    int64_t n_valid = 0;
    void *carry = model_save_carry(m);
    model_reset_carry(m);
    for (int64_t i = 0; i < t->options->eval_batches; i++) {
        loader_fill(&feed, (i * dist_ranks() + dist_rank()) * B, &batch);
        model_write(m, m->tokens, batch.tokens);
        model_write(m, m->targets, batch.targets);
        model_forward(m, false);
        model_read_f32(m, m->losses, losses);
        for (int64_t row = 0; row < rows; row++) sum += losses[row];
        n_valid += batch.n_valid;
    }
    model_restore_carry(m, carry);
    return dist_sum(sum) / dist_sum((double)n_valid);
}

static double loss_of_texts(Trainer *t) {
    ClassScore score;
    classify_split(&t->model, &t->val, dist_rank(), dist_ranks(), &score);
    classify_free(&score);
    return dist_sum(score.loss) / dist_sum((double)score.n);
}

double trainer_estimate(Trainer *t) {
    Model *m = &t->model;
    const int64_t n_estimate =
        t->options->eval_batches * dist_ranks() * tensor_count(m->losses);
    const int64_t n_texts = t->options->eval_batches * dist_ranks() * m->use.B;
    const bool whole = n_estimate >= t->val.n_tokens || t->val.n_tokens <= m->use.T;
    if (t->val.first_label && t->val.n_lines <= n_texts) return loss_of_texts(t);
    if (whole && !t->val.lines && m->config.kind != MODEL_SKIPGRAM) /* of pairs there is no whole */
        return evaluate_split(m, &t->val, 0).loss;
    t->params[0] = (StepParams){.step = 1, .loss_scale = 0};
    model_set_step(m, &t->params[0]);
    return estimate_by_batches(t);
}

static const char sample_mark[] = "=== step ";

bool trainer_sample(Trainer *t, Error *e) {
    char path[1200];
    snprintf(path, sizeof path, "%s/samples.txt", t->run);
    FILE *out = fopen(path, "a");
    if (!out) return error_set(e, path, "Check the folder", "samples cannot be written: %m");
    fprintf(out, "%s%ld ===\n", sample_mark, (long)t->state.step);
    const bool ok =
        t->sample(&t->model, &t->tokenizer, (uint64_t)t->options->seed, t->state.step, out, e);
    fprintf(out, "\n");
    if (fclose(out) != 0 && ok) return error_set(e, path, "Free some space", "write failed: %m");
    return ok;
}

/* A resumed run writes the samples of later steps again, so those that are there go. */
bool trainer_cut_samples(Trainer *t, Error *e) {
    char path[1200];
    snprintf(path, sizeof path, "%s/samples.txt", t->run);
    if (access(path, F_OK) != 0) return true;
    int64_t bytes;
    char *text = file_read(path, &bytes, e);
    if (!text) return false;
    bool ok = true;
    const size_t mark_bytes = strlen(sample_mark);
    /* A sample of a byte tokenizer may hold NUL. */
    for (char *at = text; (at = memmem(at, (size_t)(text + bytes - at), sample_mark, mark_bytes));
         at++) {
        if (at != text && at[-1] != '\n') continue;
        if (strtol(at + mark_bytes, NULL, 10) <= t->state.step) continue;
        ok = file_write_atomic(path, text, at - text, e);
        break;
    }
    free(text);
    return ok;
}
