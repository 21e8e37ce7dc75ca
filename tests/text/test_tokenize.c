/* Texts to data folders: counts, the split, joined inputs, JSON lines, errors that change nothing.
 */
#include "scratch.h"
#include "loader.h"
#include "rng.h"
#include "utf8.h"

#include <fcntl.h>
#include <sys/stat.h>

static char shakespeare[1200], gpt2[1200]; /* paths, empty if there is none */

typedef struct Run {
    const char *inputs[4];
    const char *field, *tokenizer;
    double val_fraction;
} Run;

/* Tokenizes into the folder "data". */
static bool run(const Run *r, TokenizeResult *result, Error *e) {
    TokenizeRequest request = {.inputs = r->inputs,
                               .field = r->field ? r->field : "",
                               .tokenizer = r->tokenizer ? r->tokenizer : "char",
                               .output = "data",
                               .val_fraction = r->val_fraction};
    while (request.n_inputs < 4 && r->inputs[request.n_inputs]) request.n_inputs++;
    return tokenize_files(&request, result, e);
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* The text of a split, from its tokens; NUL-terminated, the caller frees it. "" if there is no
 * shard. */
static char *text_of(const char *split, int64_t *bytes) {
    Tokenizer tokenizer;
    Tokens t;
    Error e;
    char first[64];
    *bytes = 0;
    snprintf(first, sizeof first, "data/%s_000000.bin", split);
    if (!exists(first)) return calloc(1, 1);
    if (!tokenizer_load(&tokenizer, "data/tokenizer.json", &e)) fail_msg("%s", e.text);
    if (!tokens_open(&t, "data", split, tokenizer.n_vocab, &e)) fail_msg("%s", e.text);
    int32_t *ids = malloc((size_t)t.n_tokens * sizeof *ids);
    char *text = malloc((size_t)t.n_tokens * 4 + 1);
    tokens_read(&t, 0, t.n_tokens, ids);
    for (int64_t i = 0; i < t.n_tokens; i++) {
        int32_t length;
        const char *token = tokenizer_text(&tokenizer, ids[i], &length);
        memcpy(text + *bytes, token, (size_t)length);
        *bytes += length;
    }
    text[*bytes] = 0;
    free(ids);
    tokens_close(&t);
    tokenizer_free(&tokenizer);
    return text;
}

static void assert_texts(const Run *r, const char *train, const char *val) {
    TokenizeResult result;
    DataMeta meta;
    Error e;
    int64_t bytes;
    if (!run(r, &result, &e)) fail_msg("%s (%s)", e.text, e.place);
    assert_true(data_meta_read("data", &meta, &e));
    assert_int_equal(meta.train_bytes, strlen(train));
    assert_int_equal(meta.val_bytes, strlen(val));
    assert_int_equal(meta.n_train, result.n_train);
    assert_int_equal(meta.n_val, result.n_val);
    assert_int_equal(meta.n_vocab, result.n_vocab);
    assert_int_equal(result.n_bytes, strlen(train) + strlen(val));
    char *got = text_of("train", &bytes);
    assert_string_equal(got, train);
    free(got);
    got = text_of("val", &bytes);
    assert_string_equal(got, val);
    free(got);
    assert_false(exists("data.tmp"));
}

/* ---- the split ---- */

static void split_rounds_up(void **state) {
    (void)state;
    static const struct {
        int64_t n;
        double val_fraction;
        int64_t n_val;
    } cases[] = {{10, 0.1, 1},   {11, 0.1, 2},  {30, 0.1, 3},   {3, 0.1, 1},
                 {100, 0.3, 30}, {70, 0.7, 49}, {10, 0.9, 9},   {10, 0, 0},
                 {1, 0, 0},      {20, 0.15, 3}, {100, 0.07, 7}, {7, 0.5, 4}};
    char text[1000];
    memset(text, 'x', sizeof text);
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        TokenizeResult result;
        Error e;
        scratch_write("in.txt", text, cases[i].n);
        if (!run(&(Run){.inputs = {"in.txt"}, .val_fraction = cases[i].val_fraction}, &result, &e))
            fail_msg("%s", e.text);
        assert_int_equal(result.n_val, cases[i].n_val);
        assert_int_equal(result.n_train, cases[i].n - cases[i].n_val);
        assert_true(exists("data/val_000000.bin") == (cases[i].n_val > 0));
    }
}

static void split_is_between_characters(void **state) {
    (void)state;
    scratch_text("in.txt",
                 "\xE2\x82\xAC\xC3\xA9 x\xF0\x9F\x98\x80"); /* euro, e-acute, space, x, smile */
    assert_texts(&(Run){.inputs = {"in.txt"}, .val_fraction = 0.5}, "\xE2\x82\xAC\xC3\xA9",
                 " x\xF0\x9F\x98\x80");
    assert_texts(&(Run){.inputs = {"in.txt"}, .val_fraction = 0.2, .tokenizer = "byte"},
                 "\xE2\x82\xAC\xC3\xA9 x", "\xF0\x9F\x98\x80");
}

static void shakespeare_counts(void **state) {
    (void)state;
    if (!shakespeare[0]) skip();
    TokenizeResult result;
    Error e;
    int64_t bytes, n;
    if (!run(&(Run){.inputs = {shakespeare}, .val_fraction = 0.1}, &result, &e))
        fail_msg("%s", e.text);
    assert_int_equal(result.n_train, 1003854);
    assert_int_equal(result.n_val, 111540);
    assert_int_equal(result.n_vocab, 65);
    assert_int_equal(result.n_bytes, 1115394);
    char *text = scratch_read(shakespeare, &bytes), *train = text_of("train", &n);
    assert_int_equal(n, 1003854);
    assert_memory_equal(train, text, 1003854);
    char *val = text_of("val", &n);
    assert_memory_equal(val, text + 1003854, 111540);
    free(text);
    free(train);
    free(val);
}

/* The hash is of ids that were equal to those of tiktoken, as test-peers compares them. */
static void gpt2_counts(void **state) {
    (void)state;
    if (!shakespeare[0] || !gpt2[0]) skip();
    TokenizeResult result;
    DataMeta meta;
    Error e;
    const Run r = {.inputs = {shakespeare}, .tokenizer = gpt2, .val_fraction = 0.1};
    if (!run(&r, &result, &e)) fail_msg("%s", e.text);
    assert_int_equal(result.n_train, 301966);
    assert_int_equal(result.n_val, 36059);
    assert_int_equal(result.n_vocab, 50257);
    assert_true(data_meta_read("data", &meta, &e));
    assert_true(meta.data_hash == 0xcee8504dc384a4d3);
}

/* Texts are encoded a MiB at a time: at every offset of the border within a character the same. */
static void chunks_join(void **state) {
    (void)state;
    const int64_t n = 800000;
    char *text = malloc((size_t)n * 4 + 4);
    for (int shift = 0; shift < 4; shift++) {
        int64_t bytes = 0, got;
        for (int i = 0; i < shift; i++) text[bytes++] = 'a';
        for (int64_t i = 0; i < n; i++)
            bytes += utf8_write(
                text + bytes,
                0x1F600 + (int32_t)rng_below(50, 1, 0, rng_site(RNG_TEST, 0), (uint64_t)i));
        scratch_write("in.txt", text, bytes);
        TokenizeResult result;
        Error e;
        if (!run(&(Run){.inputs = {"in.txt"}}, &result, &e)) fail_msg("%s", e.text);
        assert_int_equal(result.n_train, n + shift);
        char *back = text_of("train", &got);
        assert_int_equal(got, bytes);
        assert_memory_equal(back, text, (size_t)bytes);
        free(back);
    }
    free(text);
}

/* ---- inputs ---- */

static void files_and_folders(void **state) {
    (void)state;
    mkdir("in", 0777);
    mkdir("in/b", 0777);
    scratch_text("in/c", "3");
    scratch_text("in/a", "1");
    scratch_text("in/b/x", "2");
    scratch_text("in/empty", "");
    mkfifo("in/fifo", 0666);
    scratch_text("last", "9");
    assert_texts(&(Run){.inputs = {"in"}}, "123", "");
    assert_texts(&(Run){.inputs = {"last", "in", "last"}, .val_fraction = 0.2}, "9123", "9");
    symlink("../last", "in/zlink");
    assert_texts(&(Run){.inputs = {"in/"}}, "1239", "");
}

static void standard_input(void **state) {
    (void)state;
    scratch_text("in.txt", "from outside");
    const int before = dup(STDIN_FILENO), fd = open("in.txt", O_RDONLY);
    dup2(fd, STDIN_FILENO);
    assert_texts(&(Run){.inputs = {"-"}, .val_fraction = 0.5}, "from o", "utside");
    dup2(before, STDIN_FILENO);
    close(before);
    close(fd);
}

static void json_lines(void **state) {
    (void)state;
    scratch_text("in.jsonl",
                 "{\"text\": \"h\\u00e9\", \"id\": 1}\n\n  \r\n{\"id\": 2, \"text\": \"\"}\n"
                 "{\"text\": \"a\\nb\"}");
    assert_texts(&(Run){.inputs = {"in.jsonl"}, .field = "text"}, "h\xC3\xA9\n\na\nb\n", "");
    scratch_text("b.jsonl", "{\"text\": \"z\"}\n");
    assert_texts(&(Run){.inputs = {"b.jsonl", "in.jsonl"}, .field = "text", .val_fraction = 0.4},
                 "z\nh\xC3\xA9\n\n", "a\nb\n");
    assert_texts(&(Run){.inputs = {"b.jsonl"}}, "{\"text\": \"z\"}\n", "");
}

static void given_tokenizer(void **state) {
    (void)state;
    TokenizeResult result;
    Error e;
    scratch_text("in.txt", "abcdef");
    assert_true(run(&(Run){.inputs = {"in.txt"}}, &result, &e));
    assert_int_equal(rename("data/tokenizer.json", "t.json"), 0);
    scratch_text("in.txt", "fade");
    assert_texts(&(Run){.inputs = {"in.txt"}, .tokenizer = "t.json"}, "fade", "");
    DataMeta meta;
    Tokenizer t;
    assert_true(data_meta_read("data", &meta, &e));
    assert_int_equal(meta.n_vocab, 6);
    assert_true(tokenizer_load(&t, "t.json", &e));
    assert_true(meta.tokenizer_hash == tokenizer_hash(&t));
    tokenizer_free(&t);
    /* Bytes need not be UTF-8. */
    scratch_text("in.txt", "\xFF\xFE\x80 \xC3");
    assert_texts(&(Run){.inputs = {"in.txt"}, .tokenizer = "byte"}, "\xFF\xFE\x80 \xC3", "");
}

/* ---- errors ---- */

static void errors(void **state) {
    (void)state;
    TokenizeResult result;
    Error e;
    scratch_text("good", "abc\n");
    assert_texts(&(Run){.inputs = {"good"}}, "abc\n", "");
    scratch_text("empty", "");
    scratch_text("one", "x");
    scratch_text("latin1", "cab\xE9\n");
    scratch_write("nul", "a\0", 2);
    scratch_text("euro", "ab\nc\xE2\x82\xAC");
    scratch_text("broken.jsonl", "{\"t\":\"a\"}\n{\"t\":\n");
    scratch_text("number.jsonl", "{\"t\":\"a\"}\n\n{\"t\":5}\n");
    scratch_text("twice.jsonl", "{\"t\":\"a\",\"t\":\"b\"}\n");
    scratch_text("list.jsonl", "[\"t\"]\n");
    scratch_text("euro.jsonl", "{\"t\":\"a\"}\n{\"t\":\"b\xE2\x82\xAC\"}\n");
    mkdir("hollow", 0777);
    mkdir("loop", 0777);
    symlink(".", "loop/again");
    mkdir("zdangling", 0777);
    symlink("nowhere", "zdangling/link");
    assert_int_equal(rename("data/tokenizer.json", "t.json"), 0);
    scratch_text("words.json", "{\"model\":{\"type\":\"Unigram\"},\"decoder\":{}}");
    static const struct {
        Run run;
        int code;
        const char *words[3];
    } cases[] = {
        {{.inputs = {"none"}}, 1, {"none", "No such file"}},
        {{.inputs = {"good", "none"}}, 1, {"none", "No such file"}},
        {{.inputs = {"empty"}}, 1, {"empty"}},
        {{.inputs = {"empty", "empty"}}, 1, {"empty"}},
        {{.inputs = {"hollow"}}, 1, {"hollow", "no file"}},
        {{.inputs = {"loop"}}, 1, {"loop/again"}},
        {{.inputs = {"zdangling"}}, 1, {"zdangling/link"}},
        {{.inputs = {"one"}, .val_fraction = 0.1}, 1, {"one", "too short"}},
        {{.inputs = {"good", "latin1"}}, 1, {"latin1:1:4", "0xe9", "--tokenizer byte"}},
        {{.inputs = {"latin1"}, .tokenizer = "t.json"}, 1, {"latin1:1:4", "0xe9"}},
        {{.inputs = {"nul"}}, 1, {"nul:1:2", "U+0000"}},
        {{.inputs = {"good", "euro"}, .tokenizer = "t.json"}, 1, {"euro:2:2", "U+20AC"}},
        {{.inputs = {"euro"}, .tokenizer = "t.json", .val_fraction = 0.2},
         1,
         {"euro:2:2", "U+20AC"}},
        {{.inputs = {"good"}, .tokenizer = "chra"}, 2, {"--tokenizer", "\"chra\"", "char, byte"}},
        {{.inputs = {"good"}, .tokenizer = "words.json"}, 1, {"words.json", "Unigram"}},
        {{.inputs = {"good"}, .tokenizer = "good"}, 1, {"good", "JSON"}},
        {{.inputs = {"broken.jsonl"}, .field = "t"}, 1, {"broken.jsonl:2", "not JSON"}},
        {{.inputs = {"number.jsonl"}, .field = "t"}, 1, {"number.jsonl:3", "\"t\""}},
        {{.inputs = {"number.jsonl"}, .field = "u"}, 1, {"number.jsonl:1", "\"u\""}},
        {{.inputs = {"twice.jsonl"}, .field = "t"}, 1, {"twice.jsonl:1", "duplicate"}},
        {{.inputs = {"list.jsonl"}, .field = "t"}, 1, {"list.jsonl:1"}},
        {{.inputs = {"euro.jsonl"}, .field = "t", .tokenizer = "t.json"},
         1,
         {"euro.jsonl:2", "U+20AC"}},
        {{.inputs = {"."}}, 1, {"output folder lies within"}},
    };
    int64_t before, after;
    char *meta = scratch_read("data/meta.json", &before);
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        if (run(&cases[i].run, &result, &e)) fail_msg("case %d passed", (int)i);
        scratch_error(
            &e, cases[i].code,
            (const char *const[]){cases[i].words[0], cases[i].words[1], cases[i].words[2], NULL});
        char *now = scratch_read("data/meta.json", &after);
        assert_int_equal(after, before);
        assert_memory_equal(now, meta, (size_t)before);
        assert_true(exists("data/train_000000.bin"));
        assert_false(exists("data.tmp"));
        free(now);
    }
    free(meta);
}

/* Where the user has a file, where data/fetch.sh put it, or beside the checkout: only with its size
 * it has the counts that the tests expect. */
static void find_text(char path[1200], const char *variable, const char *name, int64_t bytes) {
    static const char *const folders[] = {"data/text", "../shared/data"};
    const char *given = getenv(variable);
    struct stat info;
    char place[1200], real[4096];
    for (int i = given ? -1 : 0; i < COUNT_OF(folders) && !path[0]; i++) {
        snprintf(place, sizeof place, "%s%s%s", i < 0 ? given : folders[i], i < 0 ? "" : "/",
                 i < 0 ? "" : name);
        if (stat(place, &info) == 0 && info.st_size == bytes && realpath(place, real))
            snprintf(path, 1200, "%.1199s", real);
    }
}

int main(void) {
    find_text(shakespeare, "PUCK_TEXT", "tinyshakespeare.txt", 1115394);
    find_text(gpt2, "PUCK_GPT2", "gpt2-vocab.bpe", 456318);
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(split_rounds_up),
        SCRATCH_TEST(split_is_between_characters),
        SCRATCH_TEST(shakespeare_counts),
        SCRATCH_TEST(gpt2_counts),
        SCRATCH_TEST(chunks_join),
        SCRATCH_TEST(files_and_folders),
        SCRATCH_TEST(standard_input),
        SCRATCH_TEST(json_lines),
        SCRATCH_TEST(given_tokenizer),
        SCRATCH_TEST(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
