/* puck train */
#include "cmd.h"
#include "dist.h"
#include "generate.h"
#include "train.h"

enum { SAMPLE_TOKENS = 200 };

static bool sample_text(Model *m, const Tokenizer *t, uint64_t seed, int64_t step, FILE *out,
                        Error *e) {
    const GenerateRequest request = {
        .prompt = "",
        .n_tokens = SAMPLE_TOKENS,
        .sample = step,
        .stop = "",
        .sampler = {.temperature = 0.8, .top_p = 1, .repetition_penalty = 1, .seed = seed}};
    return generate_text(m, t, &request, out, e);
}

int cmd_train(int argc, char **argv) {
    Settings s;
    Error e;
    int code;
    if (!dist_start(&e)) return dist_finish(cmd_fail(&e));
    if (cmd_parse(&s, CMD_TRAIN, argc, argv, &code) && !train_run(&s, sample_text, &code, &e))
        code = cmd_fail(&e);
    return dist_finish(code);
}
