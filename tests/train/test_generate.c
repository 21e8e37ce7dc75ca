/* Texts from small models: against passes over the whole window, and from a model whose output is
 * scripted, where what must come is known. */
#include "../../host/gen/show.h"
#include "../model/lab.h"
#include "generate.h"

static const char alphabet[] = "\n abcdefghij";

typedef struct Bench {
    Backend backend;
    Model model;
    Tokenizer tokenizer;
} Bench;

static void open_bench(Bench *b, const ModelConfig *config, const ModelUse *use, bool bytes) {
    Error e = {0};
    lab_backend(&b->backend, false, 1);
    lab_open(&b->model, &b->backend, config, use);
    if (!(bytes ? tokenizer_make_byte(&b->tokenizer, &e)
                : tokenizer_make_char(&b->tokenizer, "alphabet", alphabet,
                                      (int64_t)strlen(alphabet), &e)))
        fail_msg("%s", e.text);
    assert_true(b->tokenizer.n_vocab <= config->vocab);
}

static void close_bench(Bench *b) {
    lab_close(&b->model);
    tokenizer_free(&b->tokenizer);
}

static const ModelConfig tiny = {12, 10, 2, 2, 12, 48, true, 1e-5, .dropout = 0};

static void open_random(Bench *b) {
    const ModelUse use = {.decode_batch = 1, .decode_rows = 4};
    open_bench(b, &tiny, &use, false);
    lab_randomise(&b->model, 4);
}

static const Sampler greedy = {.temperature = 0, .top_p = 1, .repetition_penalty = 1};
static const Sampler sampled = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 3};

static GenerateRequest request(const char *prompt, int64_t n_tokens, Sampler sampler) {
    return (GenerateRequest){.prompt = prompt,
                             .prompt_bytes = (int64_t)strlen(prompt),
                             .n_tokens = n_tokens,
                             .stop = "",
                             .echo_prompt = true,
                             .sampler = sampler};
}

/* The text; the caller frees it. */
static char *generate(Bench *b, const GenerateRequest *r) {
    char *text = NULL;
    size_t bytes = 0;
    Error e = {0};
    FILE *out = open_memstream(&text, &bytes);
    if (!generate_text(&b->model, &b->tokenizer, r, out, &e)) fail_msg("%s", e.text);
    fclose(out);
    return text;
}

/* ---- a random model ---- */

/* The window begins at a multiple of the stride, moves only when it must, and keeps half and
 * one. */
static void test_window(void **state) {
    (void)state;
    for (int64_t context = 1; context <= 9; context++)
        for (int64_t n = 1; n <= 60; n++) {
            const int64_t first = generate_window(n, context),
                          before = generate_window(n - 1, context);
            assert_true(first >= 0 && n - first >= 1 && n - first <= context);
            if (n <= context) assert_int_equal(first, 0);
            if (first == before) continue;
            assert_int_equal(n - 1 - before, context);
            assert_int_equal(n - first, context / 2 + 1);
        }
}

/* The likeliest token after `n` tokens by a pass over the window, without any cache. */
static int32_t likeliest_by_pass(Model *m, const int32_t *text, int64_t n) {
    const int64_t first = generate_window(n, tiny.context);
    int32_t inputs[16] = {0}, targets[16];
    memcpy(inputs, text + first, (size_t)(n - first) * sizeof *inputs);
    memset(targets, 0xFF, sizeof targets);
    const StepParams step = {.loss_scale = 1};
    model_set_step(m, &step);
    lab_batch(m, inputs, targets);
    model_forward(m, false);
    double *logits = lab_values(m, m->logits);
    const double *row = logits + (n - first - 1) * m->logits.dim[1];
    int32_t best = 0;
    for (int32_t v = 1; v < tiny.vocab; v++)
        if (row[v] > row[best]) best = v;
    free(logits);
    return best;
}

/* 45 greedy tokens, four windows beyond the context, after prompts of none to many windows. */
static void test_greedy_equals_passes(void **state) {
    (void)state;
    Bench b, whole;
    open_random(&b);
    const ModelUse use = {.B = 1, .T = tiny.context};
    open_bench(&whole, &tiny, &use, false);
    lab_randomise(&whole.model, 4);
    static const char *const prompts[] = {
        "", "a", "abcdefg", "abcabcabca", "jihgfedcbaj", "a b c d e f g h i j a b c d e"};
    for (int64_t i = 0; i < COUNT_OF(prompts); i++) {
        const GenerateRequest r = request(prompts[i], 45, greedy);
        char *text = generate(&b, &r);
        int32_t ids[128];
        Error e = {0};
        const char *from = *prompts[i] ? prompts[i] : "\n";
        int64_t n = tokenizer_encode(&b.tokenizer, "", from, (int64_t)strlen(from), ids, &e);
        for (int64_t k = 0; k < 45; k++, n++) ids[n] = likeliest_by_pass(&whole.model, ids, n);
        const int64_t hidden = *prompts[i] ? 0 : 1; /* the newline that no prompt stands for */
        assert_int_equal((int64_t)strlen(text), n - hidden);
        for (int64_t k = hidden; k < n; k++) {
            int32_t bytes;
            assert_int_equal(text[k - hidden], *tokenizer_text(&b.tokenizer, ids[k], &bytes));
        }
        free(text);
    }
    close_bench(&b);
    close_bench(&whole);
}

/* A text cut anywhere and gone on with is the same text. */
static void test_going_on(void **state) {
    (void)state;
    Bench b;
    open_random(&b);
    GenerateRequest r = request("abc", 50, sampled);
    char *whole = generate(&b, &r);
    for (int64_t cut = 0; cut <= 50; cut += 7) {
        r = request("abc", cut, sampled);
        char *part = generate(&b, &r);
        r = request(part, 50 - cut, sampled);
        char *rest = generate(&b, &r);
        assert_string_equal(rest, whole);
        free(part);
        free(rest);
    }
    free(whole);
    close_bench(&b);
}

/* The same request, the same text; another seed or sample, another text; each without the
 * prompt. */
static void test_purity(void **state) {
    (void)state;
    Bench b;
    open_random(&b);
    GenerateRequest r = request("abc", 30, sampled);
    char *text = generate(&b, &r);
    r.sampler.seed++;
    char *other_seed = generate(&b, &r);
    r.sampler.seed--;
    r.sample++;
    char *other_sample = generate(&b, &r);
    r.sample--;
    r.echo_prompt = false;
    char *bare = generate(&b, &r);
    assert_string_equal(bare, text + 3);
    assert_string_not_equal(text, other_seed);
    assert_string_not_equal(text, other_sample);
    free(text);
    free(other_seed);
    free(other_sample);
    free(bare);
    close_bench(&b);
}

static void test_errors(void **state) {
    (void)state;
    Bench b;
    open_random(&b);
    Error e = {0};
    FILE *out = fopen("/dev/null", "w");
    GenerateRequest r = request("ab\ncXd", 5, sampled);
    assert_false(generate_text(&b.model, &b.tokenizer, &r, out, &e));
    assert_non_null(strstr(e.text, "U+0058")); /* X */
    assert_non_null(strstr(e.place, "the prompt:2:2"));

    r = request("abc", 5, sampled);
    const float bad = NAN;
    model_write(&b.model, tensor_1d(b.model.params[0].w.data, DTYPE_F32, 1), &bad);
    e = (Error){0};
    assert_false(generate_text(&b.model, &b.tokenizer, &r, out, &e));
    assert_non_null(strstr(e.text, "not finite"));
    fclose(out);

    lab_randomise(&b.model, 4);
    out = fopen("/dev/full", "w");
    e = (Error){0};
    assert_false(generate_text(&b.model, &b.tokenizer, &r, out, &e));
    assert_int_equal(e.code, EXIT_FAILED);
    fclose(out);
    close_bench(&b);
}

/* ---- a scripted model ---- */

enum { SCRIPT_MAX = 64 };

/* One block that does nothing, embeddings of random signs, and positions that each hold the
 * embedding of the script's next token a thousandfold: so the likeliest token at position p is
 * script[p]. */
static void open_script(Bench *b, const char *script, bool bytes) {
    const int64_t n = (int64_t)strlen(script);
    const ModelConfig config = {bytes ? 256 : 12, SCRIPT_MAX, 1, 1, 128, 512, true,
                                .norm_eps = 1e-5};
    const ModelUse use = {.decode_batch = 1, .decode_rows = 4};
    open_bench(b, &config, &use, bytes);
    int32_t ids[SCRIPT_MAX];
    Error e = {0};
    assert_true(n <= SCRIPT_MAX);
    assert_int_equal(tokenizer_encode(&b->tokenizer, "script", script, n, ids, &e), n);
    double *wte = calloc((size_t)model_vocab_padded(&config) * 128, sizeof *wte);
    double wpe[SCRIPT_MAX * 128] = {0}, ones[128];
    for (int64_t i = 0; i < config.vocab * 128; i++)
        wte[i] = rng_word(1, 0, rng_site(RNG_TEST, 0), (uint64_t)i) & 1 ? 1 : -1;
    for (int64_t i = 0; i < n * 128; i++) wpe[i] = 1000 * wte[ids[i / 128] * 128 + i % 128];
    for (int i = 0; i < 128; i++) ones[i] = 1;
    for (int i = 0; i < b->model.n_params; i++) {
        const Param *p = &b->model.params[i];
        if (!strcmp(p->name, "wte.weight")) lab_set(&b->model, p->w, wte);
        if (!strcmp(p->name, "wpe.weight")) lab_set(&b->model, p->w, wpe);
        if (!strcmp(p->name, "ln_f.weight")) lab_set(&b->model, p->w, ones);
    }
    free(wte);
}

static void assert_script(const char *script, const char *stop, const char *expected) {
    Bench b;
    open_script(&b, script, false);
    GenerateRequest r = request("", (int64_t)strlen(script), greedy);
    r.stop = stop;
    char *text = generate(&b, &r);
    assert_string_equal(text, expected);
    free(text);
    close_bench(&b);
}

static void test_stop(void **state) {
    (void)state;
    assert_script("abcabcabdabc", "", "abcabcabdabc");
    assert_script("abcabcabdabc", "abd", "abcabcabd");
    assert_script("aaaabaaa", "aab", "aaaab"); /* a failed match is also the beginning of one */
    assert_script("abababac", "ababac", "abababac");
    assert_script("abcabc", "a", "a");
    assert_script("abcabc", "abcabcd", "abcabc");
    /* The prompt does not count. */
    Bench b;
    open_script(&b, "aabcab", false);
    GenerateRequest r = request("ab", 3, greedy);
    r.stop = "ba";
    char *text = generate(&b, &r);
    assert_string_equal(text, "ababc");
    free(text);
    close_bench(&b);
}

/* Every write that reaches the file must hold whole characters. */
static bool is_utf8(const char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)p[i++];
        const int more = c < 0x80 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        if (c >= 0x80 && c < 0xC2) return false;
        for (int k = 0; k < more; k++)
            if (i >= n || ((unsigned char)p[i++] & 0xC0) != 0x80) return false;
    }
    return true;
}

typedef struct Writes {
    char text[256];
    size_t n;
    int count;
} Writes;

static ssize_t write_checked(void *cookie, const char *p, size_t n) {
    Writes *w = cookie;
    assert_true(is_utf8(p, n));
    memcpy(w->text + w->n, p, n);
    w->n += n;
    w->count++;
    return (ssize_t)n;
}

/* Characters of two, three and four byte tokens, one write each; and one cut off by the end. */
static void test_streaming(void **state) {
    (void)state;
    const char script[] = "\xC3\xA9x\xE2\x82\xAC\xF0\x9F\x98\x80y\xE2\x82";
    Bench b;
    open_script(&b, script, true);
    Writes writes = {0};
    FILE *out = fopencookie(&writes, "w", (cookie_io_functions_t){.write = write_checked});
    const GenerateRequest r = request("", (int64_t)strlen(script), greedy);
    Error e = {0};
    assert_true(generate_text(&b.model, &b.tokenizer, &r, out, &e));
    fclose(out);
    assert_string_equal(writes.text, "\xC3\xA9x\xE2\x82\xAC\xF0\x9F\x98\x80y\xEF\xBF\xBD");
    assert_int_equal(writes.count, 6);
    close_bench(&b);
}

/* What Python's bytes.decode(errors="replace") makes of them. */
static void test_replacement(void **state) {
    (void)state;
#define R "\xEF\xBF\xBD"
    static const char *const cases[][2] = {
        {"a\xFFz", "a" R "z"},
        {"\xC0\xAF", R R}, /* overlong */
        {"\xE2\x82"
         "A",
         R "A"}, /* cut off by another character */
        {"\xE2\x82\xE2\x82\xAC", R "\xE2\x82\xAC"},
        {"\xED\xA0\x80", R R R},       /* surrogate */
        {"\xF0\x80\x80\x80", R R R R}, /* overlong */
        {"\xF4\x90\x80\x80", R R R R}, /* beyond U+10FFFF */
        {"\xF0\x9F\x98", R},           /* the end comes too soon */
        {"\xF4\x8F\xBF\xBF\xDF\xBF", "\xF4\x8F\xBF\xBF\xDF\xBF"},
    };
#undef R
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = NULL;
        size_t bytes = 0;
        Utf8Writer w = {.out = open_memstream(&text, &bytes)};
        for (const char *p = cases[i][0]; *p; p++) show_byte(&w, (unsigned char)*p);
        show_finish(&w);
        fclose(w.out);
        assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

static void test_quoted(void **state) {
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    show_quoted(out, "ant'\n\t\\\0\x1B\x7F\xC3\xA9\xC2\x85\xFF\xE2\x82", 17);
    fclose(out);
    assert_string_equal(text, "'ant\\'\\n\\t\\\\\\x00\\x1b\\x7f\xC3\xA9\\u0085\\xff\\xe2\\x82'");
    free(text);
}

/* A line a step, then the text. */
static void test_candidates(void **state) {
    (void)state;
    Bench b;
    open_script(&b, "ab\n", false);
    GenerateRequest r = request("", 3, greedy);
    r.n_probs = 1;
    char *text = generate(&b, &r);
    assert_string_equal(text, "   1  'a'   1.000 'a'\n"
                              "   2  'b'   1.000 'b'\n"
                              "   3  '\\n'   1.000 '\\n'\n\nab\n");
    free(text);
    r.n_probs = 50; /* more than there are */
    text = generate(&b, &r);
    for (const char *p = alphabet; *p > ' '; p++) assert_non_null(strchr(text, *p));
    free(text);
    close_bench(&b);
}

/* ---- the blank ---- */

static char *fill(Bench *b, const char *sentence, const char *candidates, bool json) {
    char *text = NULL;
    size_t bytes = 0;
    Error e = {0};
    FILE *out = open_memstream(&text, &bytes);
    if (!generate_fill(&b->model, &b->tokenizer, sentence, candidates, 100, json, out, &e))
        fail_msg("%s", e.text);
    fclose(out);
    return text;
}

static void open_fill(Bench *b, int64_t B) {
    const ModelUse use = {.B = B, .T = tiny.context};
    open_bench(b, &tiny, &use, false);
    lab_randomise(&b->model, 4);
}

/* Mean log-likelihood of a sentence after a newline, from the logits. */
static double sentence_likelihood(Bench *b, const char *sentence) {
    const int64_t n = (int64_t)strlen(sentence);
    int32_t ids[16] = {generate_start(&b->tokenizer)}, targets[16];
    Error e = {0};
    tokenizer_encode(&b->tokenizer, "", sentence, n, ids + 1, &e);
    memset(targets, 0xFF, sizeof targets);
    const StepParams step = {.loss_scale = 1};
    model_set_step(&b->model, &step);
    lab_batch(&b->model, ids, targets);
    model_forward(&b->model, false);
    double *logits = lab_values(&b->model, b->model.logits), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *row = logits + i * b->model.logits.dim[1];
        double z = 0;
        for (int64_t v = 0; v < tiny.vocab; v++) z += exp(row[v]);
        sum += row[ids[i + 1]] - log(z);
    }
    free(logits);
    return sum / (double)n;
}

/* Scores and probabilities of three candidates of different lengths, recomputed. */
static void test_fill(void **state) {
    (void)state;
    static const char *const words[] = {"j", "bcd", "e"}, *const whole[] = {"aj a", "abcd a",
                                                                            "ae a"};
    Bench b;
    open_fill(&b, 1);
    double mean[3], weight[3], sum = 0;
    const double length = (4 + 6 + 4) / 3.0;
    for (int i = 0; i < 3; i++) mean[i] = sentence_likelihood(&b, whole[i]);
    for (int i = 0; i < 3; i++) sum += weight[i] = exp(mean[i] * length);
    char *text = fill(&b, "a___ a", "j,bcd,e", false);
    double last = 1;
    char *line = strchr(text, '\n') + 1;
    for (int rank = 0; rank < 3; rank++) {
        double probability, likelihood;
        char word[16];
        assert_int_equal(sscanf(line, "%lf %lf '%15[^']'", &probability, &likelihood, word), 3);
        int i = 0;
        while (strcmp(words[i], word) != 0) assert_true(++i < 3);
        assert_true(fabs(probability - weight[i] / sum) < 1e-4); /* as printed: four digits */
        assert_true(fabs(likelihood - mean[i]) < 1e-4);
        assert_true(likelihood <= last);
        last = likelihood;
        line = strchr(line, '\n') + 1;
    }
    assert_int_equal(*line, 0);
    free(text);
    close_bench(&b);
}

/* Every token of the vocabulary, the same for any batch; blanks at both ends. */
static void test_fill_vocabulary(void **state) {
    (void)state;
    static const char *const sentences[] = {"ab____ cd", "___", "___a", "abc___"};
    for (int64_t i = 0; i < COUNT_OF(sentences); i++) {
        char *text[2];
        for (int k = 0; k < 2; k++) {
            Bench b;
            open_fill(&b, k ? 5 : 1);
            text[k] = fill(&b, sentences[i], "", true);
            close_bench(&b);
        }
        assert_string_equal(text[0], text[1]);
        int lines = 0;
        for (const char *p = text[0]; *p; p++) lines += *p == '\n';
        assert_int_equal(lines, 12);
        assert_non_null(strstr(text[0], "\"candidate\": \"\\n\""));
        free(text[0]);
        free(text[1]);
    }
}

static void test_fill_errors(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"abc", "", "no blank"},
        {"a__b", "", "no blank"},
        {"a___b___c", "", "more than one"},
        {"a___b", "c,,d", "candidate 2 is empty"},
        {"a___b", "c,X", "U+0058"},
        {"aX___b", "c", "U+0058"},
        {"a___bX", "c", "U+0058"},
        {"abcde___abcde", "c", "11 tokens, but 10"},
    };
    Bench b;
    open_fill(&b, 2);
    FILE *out = fopen("/dev/null", "w");
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Error e = {0};
        assert_false(
            generate_fill(&b.model, &b.tokenizer, cases[i][0], cases[i][1], 5, false, out, &e));
        assert_non_null(strstr(e.text, cases[i][2]));
    }
    fclose(out);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),      cmocka_unit_test(test_greedy_equals_passes),
        cmocka_unit_test(test_going_on),    cmocka_unit_test(test_purity),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_stop),
        cmocka_unit_test(test_streaming),   cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_quoted),      cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_fill),        cmocka_unit_test(test_fill_vocabulary),
        cmocka_unit_test(test_fill_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
