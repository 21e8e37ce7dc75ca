/* Text from a model: sampling, decoding beyond the context, ranking what fits a blank. */
#pragma once
#include "checkpoint.h"
#include <stdio.h>

typedef struct Sampler {
    double temperature; /* 0: greedy */
    int64_t top_k;      /* 0: all */
    double top_p;       /* 1: all */
    double repetition_penalty; /* Keskar et al. 2019: positive logits divided, negative multiplied */
    uint64_t seed;
} Sampler;

typedef struct Candidate { int32_t id; double probability; } Candidate;

/* Chooses a token. `logits` (n_vocab) is overwritten. `seen` lists n_seen tokens of the text so far
 * (repetition penalty). The draw is a pure function of (seed, sample, position): sampler state there is
 * none. `top` (or NULL) receives the n_top likeliest candidates, after temperature, before top-k/top-p. */
int32_t sampler_next(const Sampler *s, float *logits, int64_t n_vocab, const int32_t *seen,
                     int64_t n_seen, int64_t sample, int64_t position, Candidate *top, int n_top);

typedef struct GenerateRequest {
    const char *prompt; /* UTF-8; empty: a newline, or the first token if there is none */
    int64_t prompt_bytes;
    int64_t n_tokens;
    int64_t sample;  /* number of this text: another number, another text */
    const char *stop; /* "" for none */
    int n_probs;      /* candidates shown a step; 0 is none */
    bool echo_prompt;
    Sampler sampler;
} GenerateRequest;

/* Streams prompt and continuation to `out`, flushing after each token but never inside a UTF-8
 * character. The model is planned with decode_batch 1. Beyond the context the last half is read again. */
bool generate_text(Model *m, const Tokenizer *t, const GenerateRequest *r, FILE *out, Error *e);

/* Ranks candidates for the blank "___" by the mean log-likelihood of the whole sentence. */
bool generate_fill(Model *m, const Tokenizer *t, const char *sentence, const char *candidates,
                   int n_show, bool json, FILE *out, Error *e);
