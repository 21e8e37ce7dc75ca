/* logits FOLDER ID...: the model of a folder over these tokens; a line of logits for each. */
#include "checkpoint.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void log_nothing(int level, const char *text) { (void)level, (void)text; }

/* The soft-cap is part of the classifier, behind the logits in memory. */
static double capped(double logit, double cap) { return cap > 0 ? cap * tanh(logit / cap) : logit; }

static int fail(const Error *e) {
    error_print(e);
    return e->code;
}

int main(int argc, char **argv) {
    const HostServices host = {.n_ranks = 1, .n_threads = 1, .log = log_nothing};
    const int T = argc - 2;
    ModelConfig config;
    Backend backend;
    Model m;
    Error e;
    if (T < 1) return EXIT_MISUSE;
    if (!checkpoint_read_config(argv[1], &config, &e) || !backend_open_cpu(&backend, &host, &e))
        return fail(&e);
    model_plan(&m, &config, &(ModelUse){.B = 1, .T = T}, &backend);
    if (!model_commit(&m, &e) || !checkpoint_read_weights(argv[1], &m, &e)) return fail(&e);

    int32_t *tokens = calloc((size_t)T, sizeof *tokens);
    int32_t *targets = calloc((size_t)T, sizeof *targets);
    float *logits = malloc((size_t)tensor_count(m.logits) * sizeof *logits);
    CHECK(tokens && targets && logits, "no memory for %d tokens", T);
    for (int t = 0; t < T; t++) tokens[t] = atoi(argv[t + 2]);
    model_write(&m, m.tokens, tokens);
    model_write(&m, m.targets, targets);
    model_set_step(&m, &(StepParams){.step = 1, .loss_scale = 1});
    model_forward(&m, false);
    model_read_f32(&m, m.logits, logits);
    for (int t = 0; t < T; t++)
        for (int64_t v = 0; v < config.vocab; v++)
            printf("%.9g%c",
                   capped((double)logits[t * model_vocab_padded(&config) + v], config.softcap),
                   v + 1 < config.vocab ? ' ' : '\n');
    free(tokens);
    free(targets);
    free(logits);
    model_free(&m);
    backend.close(&backend);
    return EXIT_DONE;
}
