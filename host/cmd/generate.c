/* puck generate */
#include "generate.h"
#include "cmd.h"
#include "load.h"
#include "loader.h"
#include "log.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a prompt read at once: enough for the products to be efficient. */
enum { PROMPT_ROWS = 64 };
/* Sentences scored at once by --fill. */
enum { FILL_BATCH = 16 };
/* Candidates that --fill lists unless --probs says how many. */
enum { FILL_SHOWN = 10 };

/* The prompt, which the caller frees. */
static bool read_prompt(const Options *o, char **text, int64_t *bytes, Error *e) {
    if (o->prompt[0] && o->prompt_file[0])
        return error_misuse(e, "--prompt-file", "Give one of them", "there are two prompts");
    if (o->prompt_file[0]) return (*text = file_read(o->prompt_file, bytes, e)) != NULL;
    *text = strdup(o->prompt);
    *bytes = (int64_t)strlen(o->prompt);
    return *text ? true : error_set(e, NULL, NULL, "there is no memory for the prompt");
}

static void print_sample(const char *text, size_t bytes, const GenerateRequest *r) {
    json_t *line = json_pack("{s:I, s:I, s:s%}", "sample", (json_int_t)r->sample, "seed",
                             (json_int_t)r->sampler.seed, "text", text, bytes);
    CHECK(line, "%zu bytes of text are no JSON", bytes);
    json_dumpf(line, stdout, 0);
    putchar('\n');
    json_decref(line);
}

static bool generate_json(Loaded *l, const GenerateRequest *r, Error *e) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    if (!memory) return error_set(e, NULL, NULL, "there is no memory for a text");
    const bool ok = generate_text(&l->model, &l->tokenizer, r, memory, e);
    fclose(memory);
    if (ok) print_sample(text, bytes, r);
    free(text);
    return ok;
}

static bool generate_samples(Loaded *l, const Options *o, GenerateRequest *r, Error *e) {
    const ModelUse use = {.decode_batch = 1,
                          .decode_rows = i64_min(PROMPT_ROWS, l->config.context)};
    bool ok = load_weights(l, &use, e);
    for (r->sample = 0; ok && r->sample < o->samples; r->sample++) {
        if (o->json) {
            ok = generate_json(l, r, e);
        } else {
            if (r->sample > 0) puts("---");
            ok = generate_text(&l->model, &l->tokenizer, r, stdout, e);
            if (ok) putchar('\n');
        }
        fflush(stdout);
    }
    return ok;
}

static bool run_text(Loaded *l, const Options *o, Error *e) {
    char *prompt = NULL;
    GenerateRequest r = {.n_tokens = o->tokens,
                         .stop = o->stop,
                         .n_probs = (int)o->probs,
                         .echo_prompt = true,
                         .sampler = {.temperature = o->greedy ? 0 : o->temperature,
                                     .top_k = o->top_k,
                                     .top_p = o->top_p,
                                     .repetition_penalty = o->repetition_penalty,
                                     .seed = (uint64_t)o->seed}};
    bool ok = read_prompt(o, &prompt, &r.prompt_bytes, e);
    r.prompt = prompt;
    Error unknown;
    if (ok && !tokenizer_check_words(&l->tokenizer, prompt, r.prompt_bytes, &unknown))
        log_info("the prompt's word \"%s\" is read as <UNK>, for it is not in the vocabulary. %s",
                 unknown.place, unknown.hint);
    ok = ok && generate_samples(l, o, &r, e);
    free(prompt);
    return ok;
}

static bool run_fill(Loaded *l, const Options *o, Error *e) {
    /* No sentence has more tokens than the two texts have bytes. */
    const int64_t most = (int64_t)(strlen(o->fill) + strlen(o->candidates));
    if (l->config.kind != MODEL_GPT || l->config.classes)
        return error_misuse(e, "--fill", "Use a run of --model gpt and --task text",
                            "the ranking of whole sentences is for transformers alone");
    const ModelUse use = {.B = FILL_BATCH, .T = i64_min(l->config.context, most)};
    return load_weights(l, &use, e) &&
           generate_fill(&l->model, &l->tokenizer, o->fill, o->candidates,
                         o->probs ? (int)o->probs : FILL_SHOWN, o->json, stdout, e);
}

static void print_score(const PairScore *s, bool json) {
    const double part = s->n ? (double)s->n_exact / (double)s->n : 0;
    if (json)
        printf("{\"pairs\": %ld, \"exact\": %ld, \"exact_match\": %.17g}\n", (long)s->n,
               (long)s->n_exact, part);
    else
        printf("exact match     %.4f (%ld of %ld)\n", part, (long)s->n_exact, (long)s->n);
}

/* A Hugging Face folder does not say what it was trained on. */
static bool check_pairs(const Loaded *l, Error *e) {
    Settings recorded;
    if (!load_recorded(l, &recorded, e)) return false;
    return options_source(&recorded, "task") == FROM_DEFAULT ||
           strcmp(recorded.options.task, "pairs") == 0 ||
           error_misuse(e, "--pairs", "Use a run of --task pairs",
                        "%s was not trained on pairs", l->folder);
}

static bool run_pairs(Loaded *l, const Options *o, Error *e) {
    if (!check_pairs(l, e)) return false;
    const ModelUse use = {.decode_batch = 1,
                          .decode_rows = i64_min(PROMPT_ROWS, l->config.context)};
    PairScore score = {0};
    int64_t bytes = 0;
    char *text = o->data[0] ? pairs_read(o->data, &bytes, e) : NULL;
    if (o->data[0] && !text) return false;
    FILE *in = text ? fmemopen(text, (size_t)bytes, "r") : stdin;
    CHECK(in, "no memory for a stream");
    if (!text) load_tell_stdin("source");
    const bool ok = load_weights(l, &use, e) &&
                    generate_pairs(&l->model, &l->tokenizer, in,
                                   o->data[0] ? o->data : "standard input",
                                   o->data[0] ? &score : NULL, stdout, e);
    if (ok && text) print_score(&score, o->json);
    if (text) fclose(in);
    free(text);
    return ok;
}

/* --fill ranks texts and --pairs reads sources: neither takes the other options of sampling. */
static bool check_mode(const Settings *s, Error *e) {
    static const char *const fill[] = {"fill", "candidates", "probs", NULL};
    static const char *const pairs[] = {"pairs", NULL};
    const char *const *used = s->options.fill[0] ? fill : pairs;
    const char *mode = s->options.fill[0] ? "--fill" : "--pairs";
    for (int i = 0; (s->options.fill[0] || s->options.pairs) && i < n_option_rows; i++) {
        const OptionRow *row = &option_rows[i];
        bool is_used = s->source[i] == FROM_DEFAULT || strcmp(row->group, "Generation") != 0;
        for (int k = 0; used[k]; k++) is_used |= strcmp(row->name, used[k]) == 0;
        char flag[OPTIONS_NAME_MAX];
        if (!is_used)
            return error_misuse(e, mode, "Leave one of them out", "%s takes no --%s", mode,
                                options_flag(flag, row->name));
    }
    return true;
}

/* --greedy throws no dice. */
static bool check_greedy(const Settings *s, Error *e) {
    static const char *const dice[] = {"temperature", "top_k", "top_p"};
    for (int i = 0; s->options.greedy && i < COUNT_OF(dice); i++) {
        char flag[OPTIONS_NAME_MAX];
        if (options_source(s, dice[i]) == FROM_FLAG)
            return error_misuse(e, "--greedy", "Leave one of them out", "--greedy takes no --%s",
                                options_flag(flag, dice[i]));
    }
    return true;
}

static bool run(Settings *s, Error *e) {
    const Options *o = &s->options;
    if (!check_mode(s, e) || !check_greedy(s, e)) return false;
    if (o->candidates[0] && !o->fill[0])
        return error_misuse(e, "--candidates", "Give --fill too", "there is no sentence to fill");
    if (o->probs && o->json && !o->fill[0])
        return error_misuse(e, "--probs", "Leave one of them out",
                            "the table of candidates has no JSON form");
    if (o->data[0] && !o->pairs)
        return error_misuse(e, "--data", "Give --pairs too", "there are no pairs to score");
    Loaded l;
    bool ok = load_open(&l, o, e);
    ok = ok && (o->pairs     ? run_pairs(&l, o, e)
                 : o->fill[0] ? run_fill(&l, o, e)
                              : run_text(&l, o, e));
    load_close(&l);
    return ok;
}

int cmd_generate(int argc, char **argv) { return cmd_call(CMD_GENERATE, argc, argv, run); }
