/* puck tokenize: texts to a data folder. */
#include "cmd.h"
#include "loader.h"
#include <inttypes.h>
#include <stdio.h>

static bool check_options(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (s->n_positional == 0)
        return error_misuse(e, "--input", "Give a file, a folder, or - for standard input",
                            "there is nothing to read");
    if (!o->output[0])
        return error_misuse(e, "--output", "Give the folder to write", "no folder is named");
    const bool words = tokenizer_word_kind(o->tokenizer) != TOKENIZER_CHAR;
    if (o->vocab_size != 0 && !words)
        return error_misuse(e, "--vocab-size", "Leave it out",
                            "the vocabulary of this tokenizer follows from the text");
    return true;
}

static void print_result(const Options *o, const TokenizeResult *r) {
    if (o->json) {
        printf("{\"n_train\": %" PRId64 ", \"n_val\": %" PRId64 ", \"n_bytes\": %" PRId64
               ", \"n_vocab\": %" PRId32 "}\n",
               r->n_train, r->n_val, r->n_bytes, r->n_vocab);
        return;
    }
    printf("training    %12" PRId64 " tokens\n", r->n_train);
    printf("validation  %12" PRId64 " tokens\n", r->n_val);
    printf("text        %12" PRId64 " bytes\n", r->n_bytes);
    printf("vocabulary  %12" PRId32 " tokens\n", r->n_vocab);
    printf("written to  %s\n", o->output);
}

static bool run(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (!check_options(s, e)) return false;
    const TokenizeRequest request = {.inputs = s->positional,
                                     .n_inputs = s->n_positional,
                                     .field = o->field,
                                     .tokenizer = o->tokenizer,
                                     .output = o->output,
                                     .min_count = o->min_count,
                                     .vocab_size = o->vocab_size,
                                     .val_fraction = o->val_fraction};
    TokenizeResult result;
    if (!tokenize_files(&request, &result, e)) return false;
    print_result(o, &result);
    return true;
}

int cmd_tokenize(int argc, char **argv) {
    Settings s;
    Error e;
    int code;
    if (!cmd_parse(&s, CMD_TOKENIZE, argc, argv, &code)) return code;
    return run(&s, &e) ? EXIT_DONE : cmd_fail(&e);
}
