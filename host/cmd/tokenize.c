/* puck tokenize: texts to a data folder, or tokens to look at. */
#include "cmd.h"
#include "loader.h"
#include "output.h"
#include "token_view.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool check_page(const Options *o, Error *e) {
    if (!o->show)
        return error_misuse(e, "--output", "Leave it out, or call twice",
                            "--stats prints, and writes no folder");
    if (o->json || o->stats)
        return error_misuse(e, o->json ? "--json" : "--stats", "Leave it out, or call twice",
                            "--show draws a page into --output, and prints nothing else");
    return output_check(o, ".html", e);
}

static bool check_options(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (s->n_positional == 0)
        return error_misuse(e, "--input", "Give a file, a folder, or - for standard input",
                            "there is nothing to read");
    if (!o->output[0] && !o->show && !o->stats)
        return error_misuse(e, "--output", "Give the folder to write, or --show or --stats",
                            "no folder is named");
    if (o->output[0] && (o->show || o->stats) && !check_page(o, e)) return false;
    if (tokenizer_counts(o->tokenizer)) return true;
    if (o->vocab_size != 0)
        return error_misuse(e, "--vocab-size", "Leave it out",
                            "the vocabulary of this tokenizer follows from the text");
    if (options_source(s, "min_count") == FROM_FLAG)
        return error_misuse(e, "--min-count", "Leave it out, or give --tokenizer word",
                            "no word of the text is counted");
    return true;
}

static void print_result(const Options *o, const TokenizeResult *r) {
    if (o->json) {
        printf("{\"n_train\": %" PRId64 ", \"n_val\": %" PRId64 ", \"n_bytes\": %" PRId64
               ", \"n_vocab\": %" PRId32 ", \"learn_sec\": %.6f, \"encode_sec\": %.6f}\n",
               r->n_train, r->n_val, r->n_bytes, r->n_vocab, r->learn_sec, r->encode_sec);
        return;
    }
    printf("training    %12" PRId64 " tokens\n", r->n_train);
    printf("validation  %12" PRId64 " tokens\n", r->n_val);
    printf("text        %12" PRId64 " bytes\n", r->n_bytes);
    printf("vocabulary  %12" PRId32 " tokens\n", r->n_vocab);
    printf("time        %12.3f s for the vocabulary, %.3f s for %.1f MB of text\n",
           r->learn_sec, r->encode_sec, 1e-6 * (double)r->n_bytes);
    printf("written to  %s\n", o->output);
}

static bool write_page(const TokenView *v, const Settings *s, Error *e) {
    Output out;
    output_begin(&out);
    token_view_page(v, s->n_positional == 1 ? s->positional[0] : "several texts", out.file);
    const bool ok = output_end(&out, true, s->options.output, e);
    if (ok) printf("%s written\n", s->options.output);
    return ok;
}

static bool view(const Settings *s, const TokenizeRequest *request, Error *e) {
    const Options *o = &s->options;
    Tokenized t;
    bool ok = tokenize_memory(request, &t, e);
    const TokenView v = {&t.tokenizer, t.ids, t.n_tokens, t.n_bytes};
    if (ok && v.n == 0)
        ok = error_set(e, s->positional[0], "Give a text with some words",
                       "the text has no token");
    if (ok && o->show) {
        if (o->output[0])
            ok = write_page(&v, s, e);
        else if (o->json)
            token_view_json(&v, stdout);
        else
            token_view_print(&v, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), stdout);
    }
    if (ok && o->stats) {
        TokenStats stats;
        token_view_count(&v, &stats);
        token_view_print_stats(&v, &stats, o->json, stdout);
    }
    tokenize_free(&t);
    return ok;
}

static bool run(Settings *s, Error *e) {
    const Options *o = &s->options;
    if (!check_options(s, e)) return false;
    const TokenizeRequest request = {.inputs = s->positional,
                                     .n_inputs = s->n_positional,
                                     .field = o->field,
                                     .tokenizer = o->tokenizer,
                                     .output = o->output,
                                     .min_count = o->min_count,
                                     .vocab_size = o->vocab_size,
                                     .threads = o->threads,
                                     .val_fraction = o->val_fraction};
    if (o->show || o->stats) return view(s, &request, e);
    TokenizeResult result;
    if (!tokenize_files(&request, &result, e)) return false;
    print_result(o, &result);
    return true;
}

int cmd_tokenize(int argc, char **argv) { return cmd_call(CMD_TOKENIZE, argc, argv, run); }
