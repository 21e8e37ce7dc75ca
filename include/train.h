/* Training and evaluation of a language model. */
#pragma once
#include "checkpoint.h"
#include "loader.h"

/* Runs `puck train` with these settings. Returns the exit code's meaning: true with *exit_code 0 (done)
 * or 75 (preempted after saving); false with an Error. */
bool train_run(Settings *s, int *exit_code, Error *e);

/* Loss over a whole split by FORMATS' definition: each token but the first scored once, windows of T
 * with stride T/2, the second half scored, the first window whole. */
typedef struct EvalResult {
    double loss;         /* nats per token */
    int64_t n_scored;    /* tokens */
    double perplexity;   /* e^loss */
    double bits_per_byte; /* 0 if the bytes of the text are not known */
} EvalResult;
EvalResult evaluate_split(Model *m, const Tokens *tokens, int64_t text_bytes);
