/* Pictures of runs and models: files that any browser shows without a network. */
#pragma once
#include "checkpoint.h"
#include <stdio.h>

/* As many as there are colours, see host/gen/svg.h. */
enum { PLOT_RUNS_MAX = 8 };

/* What a run's metrics.jsonl says of its losses. */
typedef struct PlotRun {
    const char *name;  /* the path as it was given */
    int64_t steps;     /* of its last line */
    double train_loss; /* last of the lines that have one; NaN: none has */
    double best_loss;  /* lowest estimate of the validation loss; NaN: there is none */
    int64_t best_step;
} PlotRun;

/* An SVG of the losses of n <= PLOT_RUNS_MAX runs, training and validation, and below them of the
 * learning rate, over steps or over seconds of training. `found` receives a run each. Fails on a
 * run without metrics or without one loss, and at the line of a file that is damaged; a last line
 * that a crash cut short is left out. */
bool plot_losses(const char *const *runs, int n, bool over_seconds, FILE *out, PlotRun *found,
                 Error *e);

/* Tokens in one picture of attention: beyond it nobody can read the labels. */
enum { PLOT_TOKENS_MAX = 256 };

/* Attention weights of n tokens in every layer and head: weights (L,H,n,n); row i holds what token
 * i reads of each token j, 0 for j > i. The kernels do not keep them, so they are made again, in
 * double, from the q and k that a forward pass leaves: softmax(q k^T / sqrt(D)), the p of ops.h's
 * attention. The model is planned with use {.B = 1, .T = n, .keep_blocks = true}. */
void plot_attention_weights(Model *m, const int32_t *tokens, float *weights);
/* The same as one HTML page with every head's matrix, and the text to point at. `name` is the
 * model's, for the heading. Fails on weights that are not finite. */
bool plot_attention(Model *m, const Tokenizer *t, const int32_t *tokens, const char *name,
                    FILE *out, Error *e);
