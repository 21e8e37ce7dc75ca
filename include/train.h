/* Training and evaluation of a language model. */
#pragma once
#include "checkpoint.h"
#include "loader.h"
#include "log.h"

/* The model that the options describe, with `n_vocab` tokens where --vocab-size leaves it open, and
 * how training uses it. Misuse: heads that do not divide channels, a micro-batch that does not
 * divide the batch, a vocabulary smaller than the tokenizer's or unknown. */
bool train_model_config(const Options *o, int64_t n_vocab, ModelConfig *c, Error *e);
bool train_model_use(const Options *o, ModelUse *use, Error *e);
Optimiser train_optimiser(const Options *o);
/* Defaults that suit a kind of model or a task, where they are far from what suits the others. */
bool train_own_defaults(Settings *s, Error *e);
/* Fails (misuse) on a given option that the model's kind does not have. */
bool train_check_kind(const Settings *s, Error *e);
/* The batches that a kind of model is trained on. */
LoaderConfig train_feed(const ModelConfig *c, const Tokens *tokens, int64_t B, int64_t T,
                        uint64_t seed, DataOrder order);

/* Writes one text made by the model at this step: host/gen's part, handed in by the subcommand,
 * since host/train does not know host/gen. */
typedef bool (*SampleText)(Model *m, const Tokenizer *t, uint64_t seed, int64_t step, FILE *out,
                           Error *e);

/* Runs `puck train` with these settings. True with *exit_code 0 (done) or 75 (preempted after
 * saving); false with an Error. A dry run prints to stdout and changes nothing. */
bool train_run(Settings *s, SampleText sample, int *exit_code, Error *e);

/* Before the first pass over the batch that is on the device: of several ranks, rank 0 makes the
 * back end's choices for all (Backend.choices), in passes that leave nothing behind. */
void train_choices(Model *m);

/* Loss over a whole split as puck reports it: each token but the first scored once, windows of
 * T with stride T/2, the second half scored, the first window whole. */
typedef struct EvalResult {
    double loss;          /* nats per token */
    int64_t n_scored;     /* tokens; 0 (and loss NaN) where there are fewer than two */
    double perplexity;    /* e^loss */
    double bits_per_byte; /* 0 if the bytes of the text are not known */
    double accuracy;      /* kind ngram: part with a probability above 1/2; else 0 */
} EvalResult;
/* Of kind ngram: each n-gram twice, as it is and with its middle word replaced.
 * Windows of m->use.T, m->use.B of them a pass. Losses of single tokens are added as doubles in the
 * order of the text: so B shows only where it makes products round otherwise, threads never.
 * Overwrites the step parameters and the step result, so model_set_step and model_begin_step must
 * follow; else no trace. */
EvalResult evaluate_split(Model *m, const Tokens *tokens, int64_t text_bytes);

/* The windows of the definition. Window k reads n_inputs tokens from `first`, and scores the
 * targets of its inputs from `scored` on. */
typedef struct EvalWindow {
    int64_t first, n_inputs, scored;
} EvalWindow;
int64_t evaluate_windows(int64_t n_tokens, int64_t T);
EvalWindow evaluate_window(int64_t n_tokens, int64_t T, int64_t k);

/* Measured speed, in FLOP/s, of a product of side^3 multiplications and additions, large enough
 * to fill the device: the peak that progress and benches are shown against. 0 without memory for
 * it. */
double measure_peak_flops(Backend *b, int64_t *side);
