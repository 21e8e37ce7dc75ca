/* The reported loss of a whole split. */
#include "train.h"
#include "dist.h"
#include <math.h>
#include <stdlib.h>

/* Half a window of fresh targets each; a window of one token has no half. */
static int64_t stride_of(int64_t T) { return i64_max(1, T / 2); }

int64_t evaluate_windows(int64_t n_tokens, int64_t T) {
    const int64_t n_targets = n_tokens - 1;
    if (n_targets < 1) return 0;
    return 1 + i64_div_up(i64_max(0, n_targets - T), stride_of(T));
}

EvalWindow evaluate_window(int64_t n_tokens, int64_t T, int64_t k) {
    const int64_t first = k * stride_of(T);
    return (EvalWindow){.first = first,
                        .n_inputs = i64_min(T, n_tokens - 1 - first),
                        .scored = k == 0 ? 0 : T - stride_of(T)};
}

/* Window k as a row of a batch. Attention is causal, so what fills the row after it is not seen. */
static void fill_row(const Tokens *tokens, int64_t T, int64_t k, int32_t *inputs, int32_t *targets,
                     int32_t *window) {
    for (int64_t i = 0; i < T; i++) {
        inputs[i] = 0;
        targets[i] = -1;
    }
    if (k >= evaluate_windows(tokens->n_tokens, T)) return;
    const EvalWindow w = evaluate_window(tokens->n_tokens, T, k);
    tokens_read(tokens, w.first, w.n_inputs + 1, window);
    for (int64_t i = 0; i < w.n_inputs; i++) {
        inputs[i] = window[i];
        if (i >= w.scored) targets[i] = window[i + 1];
    }
}

/* Losses of a split's rows in the order of the text; each rank takes a part of the batches. */
typedef struct Sum {
    double loss;
    int64_t n_scored, n_likely; /* n_likely: of them with a probability above one half */
} Sum;

static void run_batch(Model *m, const int32_t *inputs, const int32_t *targets, float *losses,
                      Sum *sum) {
    model_write(m, m->tokens, inputs);
    model_write(m, m->targets, targets);
    model_forward(m, false);
    model_read_f32(m, m->losses, losses);
    for (int64_t i = 0; i < tensor_count(m->targets); i++) {
        if (targets[i] < 0) continue;
        sum->loss += losses[i];
        sum->n_scored++;
        sum->n_likely += losses[i] < M_LN2;
    }
}

/* Every token but the first, each after a whole context; where the text has less <PAD> fills it. */
static void evaluate_next(Model *m, const Tokens *tokens, int32_t *inputs, int32_t *targets,
                          float *losses, Sum *sum) {
    const int64_t B = m->use.B, T = m->use.T, n = tokens->n_tokens - 1;
    const LoaderConfig feed = train_feed(&m->config, tokens, B, T, 0, ORDER_SHUFFLE);
    for (int64_t first = dist_rank() * B; first < n; first += dist_ranks() * B) {
        for (int64_t b = 0; b < B; b++) {
            loader_fill_next(&feed, i64_min(first + b, n - 1), inputs + b * T, targets + b);
            if (first + b >= n) targets[b] = -1;
        }
        run_batch(m, inputs, targets, losses, sum);
    }
}

/* Rows 2 i and 2 i + 1 are n-gram i, real and not. */
static void evaluate_grams(Model *m, const Tokens *tokens, int32_t *inputs, int32_t *targets,
                           float *losses, Sum *sum) {
    const int64_t B = m->use.B, T = m->use.T;
    const LoaderConfig feed = train_feed(&m->config, tokens, B, T, 0, ORDER_SHUFFLE);
    const int64_t n = 2 * loader_epoch_samples(&feed);
    for (int64_t first = dist_rank() * B; first < n; first += dist_ranks() * B) {
        for (int64_t b = 0; b < B; b++) {
            const int64_t i = i64_min(first + b, n - 1);
            loader_fill_gram(&feed, i / 2, i, i % 2 == 0, inputs + b * T);
            targets[b] = first + b < n ? i % 2 == 0 : -1;
        }
        run_batch(m, inputs, targets, losses, sum);
    }
}

/* One pass through the whole text in the first row, whose state is carried; the others idle. Their
 * sum is one rank's work. */
static void evaluate_stream(Model *m, const Tokens *tokens, int32_t *inputs, int32_t *targets,
                            float *losses, Sum *sum) {
    const int64_t B = m->use.B, T = m->use.T;
    LoaderConfig feed = train_feed(&m->config, tokens, 1, T, 0, ORDER_SHUFFLE);
    Batch row = {.tokens = malloc((size_t)(4 * T + 1) * sizeof(int32_t))};
    CHECK(row.tokens, "no memory for %ld tokens", (long)T);
    row.targets = row.tokens + T;
    row.order = row.targets + T;
    row.starts = row.order + T;
    void *carry = model_save_carry(m);
    model_reset_carry(m);
    for (int64_t k = 0; dist_rank() == 0 && k < loader_epoch_samples(&feed); k++) {
        loader_fill(&feed, k, &row);
        if (k == 0) row.targets[0] = -1;
        for (int64_t i = 0; i < B * T; i++) {
            inputs[i] = i % B ? 0 : row.tokens[i / B];
            targets[i] = i % B ? -1 : row.targets[i / B];
        }
        run_batch(m, inputs, targets, losses, sum);
    }
    model_restore_carry(m, carry);
    free(row.tokens);
}

EvalResult evaluate_split(Model *m, const Tokens *tokens, int64_t text_bytes) {
    const int64_t B = m->use.B, T = m->use.T, N = B * T;
    const StepParams step = {.training = 0, .loss_scale = 1};
    int32_t *inputs = malloc((size_t)(2 * N + T + 1) * sizeof *inputs);
    float *losses = malloc((size_t)N * sizeof *losses);
    CHECK(inputs && losses, "no memory for %ld rows", (long)N);
    int32_t *targets = inputs + N, *window = targets + N;

    Sum sum = {0};
    model_set_step(m, &step);
    if (m->config.kind == MODEL_FFN) {
        evaluate_next(m, tokens, inputs, targets, losses, &sum);
    } else if (m->config.kind == MODEL_NGRAM) {
        evaluate_grams(m, tokens, inputs, targets, losses, &sum);
    } else if (m->config.kind == MODEL_RNN) {
        evaluate_stream(m, tokens, inputs, targets, losses, &sum);
    } else {
        const int64_t stride = dist_ranks() * B;
        for (int64_t k = dist_rank() * B; k < evaluate_windows(tokens->n_tokens, T); k += stride) {
            for (int64_t b = 0; b < B; b++)
                fill_row(tokens, T, k + b, inputs + b * T, targets + b * T, window);
            run_batch(m, inputs, targets, losses, &sum);
        }
    }
    free(inputs);
    free(losses);

    const double n_scored = dist_sum((double)sum.n_scored);
    EvalResult result = {.loss = dist_sum(sum.loss) / n_scored, .n_scored = (int64_t)n_scored};
    result.perplexity = exp(result.loss);
    const double n_likely = dist_sum((double)sum.n_likely);
    if (m->config.kind == MODEL_NGRAM)
        result.accuracy = n_likely / n_scored;
    else if (text_bytes > 0) /* the first token is not scored: the mean stands in for it */
        result.bits_per_byte = result.loss / log(2) * (double)tokens->n_tokens / (double)text_bytes;
    return result;
}
