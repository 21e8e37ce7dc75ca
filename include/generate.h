/* Text from a model: sampling, decoding beyond the context, ranking what fits a blank. */
#pragma once
#include "checkpoint.h"
#include <stdio.h>

typedef struct Sampler {
    double temperature;        /* 0: greedy */
    int64_t top_k;             /* 0: all */
    double top_p;              /* 1: all */
    double repetition_penalty; /* divides positive logits, multiplies negative ones; 1: off */
    uint64_t seed;
} Sampler;

typedef struct Candidate {
    int32_t id;
    double probability;
} Candidate;

/* Chooses a token. `logits` (n_vocab) is overwritten. `seen` lists the n_seen different tokens of
 * the text so far (repetition penalty). Order: penalty, temperature, top-k, top-p among what is
 * left; ties go to the lower id. The draw is a pure function of (seed, sample, position): sampler
 * state there is none. `top` (or NULL) receives the n_top likeliest candidates, after temperature,
 * before top-k/top-p (id -1 where there are fewer tokens). -1 if the logits are no distribution:
 * NaN, +infinity, nothing finite. */
int32_t sampler_next(const Sampler *s, float *logits, int64_t n_vocab, const int32_t *seen,
                     int64_t n_seen, int64_t sample, int64_t position, Candidate *top, int n_top);

typedef struct GenerateRequest {
    const char *prompt; /* UTF-8; empty: a newline, or the first token if there is none */
    int64_t prompt_bytes;
    int64_t n_tokens;
    int64_t sample;   /* number of this text: another number, another text */
    const char *stop; /* "" for none */
    int n_probs;      /* candidates shown a step; 0 is none */
    bool echo_prompt;
    Sampler sampler;
} GenerateRequest;

/* Streams prompt and continuation to `out`, flushing after each token but never inside a UTF-8
 * character; bytes that are no UTF-8 come out as U+FFFD. With n_probs, a line a step (number, token
 * taken, candidates) comes first and the text follows whole. A text that writes `stop` ends with
 * it, and one of byte pairs before END_OF_TEXT. The model is planned with decode_batch 1. Beyond
 * the context the last half is read again: of n tokens the model sees those from generate_window(n,
 * context) on, however they came. */
bool generate_text(Model *m, const Tokenizer *t, const GenerateRequest *r, FILE *out, Error *e);

/* Pairs whose target came out to the byte. */
typedef struct PairScore {
    int64_t n, n_exact;
} PairScore;

/* For a model of --task pairs: greedily writes the target of each line of `in`, a source. With a
 * score, lines are pairs (pairs_read), whose targets are compared and not written. Fails
 * on an empty line or a tab in a source (name:line named), and on a source that the context has no
 * room for. The model is planned with decode_batch 1. */
bool generate_pairs(Model *m, const Tokenizer *t, FILE *in, const char *name, PairScore *score,
                    FILE *out, Error *e);

int64_t generate_window(int64_t n_tokens, int64_t context);
/* The token that a text without a beginning is read after: a newline, or else the first token. */
int32_t generate_start(const Tokenizer *t);

/* Ranks candidates (a comma-separated list, or "": every token) for the blank "___" by the mean
 * log-likelihood per token of the whole sentence, read after a newline, so that lengths compare.
 * The probabilities shown are softmax(mean * average length) over the candidates: the exact
 * posterior where all have one length. The model is planned for passes of (B,T), T at least the
 * sentence's tokens. */
bool generate_fill(Model *m, const Tokenizer *t, const char *sentence, const char *candidates,
                   int n_show, bool json, FILE *out, Error *e);
