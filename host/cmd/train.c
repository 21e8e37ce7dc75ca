/* puck train */
#include "cmd.h"
#include "config.h"
#include "generate.h"
#include "train.h"

enum { SAMPLE_TOKENS = 200 };

static bool sample_text(Model *m, const Tokenizer *t, uint64_t seed, int64_t step, FILE *out,
                        Error *e) {
    const GenerateRequest request = {.prompt = "",
                                     .n_tokens = SAMPLE_TOKENS,
                                     .sample = step,
                                     .stop = "",
                                     .sampler = {.temperature = 0.8,
                                                 .top_p = 1,
                                                 .repetition_penalty = 1,
                                                 .seed = seed}};
    return generate_text(m, t, &request, out, e);
}

int cmd_train(int argc, char **argv) {
    static Settings s; /* too large for comfort on the stack */
    Error e = {0};
    bool help = false;
    int exit_code = EXIT_DONE;
    bool ok = options_parse(&s, CMD_TRAIN, argc, argv, &help, &e);
    if (ok && help) {
        options_help(CMD_TRAIN, stdout);
        return EXIT_DONE;
    }
    if (ok) ok = train_run(&s, sample_text, &exit_code, &e);
    if (ok) return exit_code;
    error_print(&e);
    return e.code;
}
