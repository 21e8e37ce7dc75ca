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
