/* Labelled texts: rows of each layout, the split, files that are read and refused. */
#include "../text/scratch.h"
#include "examples.h"
#include "loader.h"

/* Tokens 0 .. 9, labels 10 and 11: "1 2" is of class 1, "3 4 5 6 7" of class 0. */
static int32_t stream[] = {1, 2, 11, 3, 4, 5, 6, 7, 10};
static TokenShard shard = {.tokens = stream, .token_bytes = 4, .n = COUNT_OF(stream)};

static Tokens texts_open(void) {
    Tokens t = {.shards = &shard, .n_shards = 1, .n_tokens = COUNT_OF(stream)};
    Error e;
    assert_true(tokens_find_texts(&t, 10, "data", &e));
    return t;
}

static void texts_are_found(void **state) {
    (void)state;
    Tokens t = texts_open();
    assert_int_equal(t.n_lines, 2);
    assert_memory_equal(t.lines, ((int64_t[]){0, 3, 9}), 3 * sizeof(int64_t));
    assert_int_equal(t.first_label, 10);
    free(t.lines);
}

/* A folder that no puck wrote: nothing between two labels, or nothing behind the last text. */
static void texts_are_refused(void **state) {
    (void)state;
    int32_t empty[] = {1, 11, 10, 2, 10}, open[] = {1, 11, 2};
    const TokenShard shards[] = {{.tokens = empty, .token_bytes = 4, .n = COUNT_OF(empty)},
                                 {.tokens = open, .token_bytes = 4, .n = COUNT_OF(open)}};
    static const char *const why[] = {"text 2 of a part of the data has no token",
                                      "the last text of a part of the data has no label"};
    for (int i = 0; i < 2; i++) {
        Tokens t = {.shards = (TokenShard *)&shards[i], .n_shards = 1, .n_tokens = shards[i].n};
        Error e = {0};
        assert_false(tokens_find_texts(&t, 10, "data", &e));
        assert_string_equal(e.text, why[i]);
        free(t.lines);
    }
}

/* Both texts side by side in rows of four; `special` is 77. */
static void check_rows(BatchForm rows, const int32_t tokens[8], const int32_t *targets, int n,
                       const int64_t answers[2]) {
    Tokens t = texts_open();
    int32_t memory[16];
    Batch batch = {.tokens = memory, .targets = memory + 8};
    const LoaderConfig c = {.tokens = &t, .B = 2, .T = 4, .form = BATCH_TEXTS, .rows = rows,
                            .special = 77};
    for (int64_t b = 0; b < 2; b++)
        assert_int_equal(loader_fill_text(&c, b, loader_text_tokens(&t, b), b, &batch), answers[b]);
    assert_memory_equal(batch.tokens, tokens, 8 * sizeof *tokens);
    assert_memory_equal(batch.targets, targets, (size_t)n * sizeof *targets);
    free(t.lines);
}

/* The second text has five tokens, of which a row has the last four, or three behind the start. */
static void rows_of_each_layout(void **state) {
    (void)state;
    check_rows(BATCH_WINDOWS, (int32_t[]){1, 2, 0, 0, 4, 5, 6, 7},
               (int32_t[]){-1, 1, -1, -1, -1, -1, -1, 0}, 8, (int64_t[]){1, 7});
    check_rows(BATCH_NEXT, (int32_t[]){77, 77, 1, 2, 4, 5, 6, 7}, (int32_t[]){1, 0}, 2,
               (int64_t[]){0, 1});
    check_rows(BATCH_STREAMS, (int32_t[]){77, 77, 1, 5, 2, 6, 0, 7},
               (int32_t[]){-1, -1, -1, -1, 1, -1, -1, 0}, 8, (int64_t[]){4, 7});
}

/* A feed-forward model reads up to each token of each text, labels left out; others read all. */
static void samples_of_each_layout(void **state) {
    (void)state;
    static const int64_t texts[] = {0, 0, 1, 1, 1, 1, 1};
    static const int64_t read[] = {1, 2, 1, 2, 3, 4, 5};
    Tokens t = texts_open();
    int32_t memory[5];
    int64_t n;
    Batch batch = {.tokens = memory, .targets = memory + 4};
    LoaderConfig c = {.tokens = &t, .B = 1, .T = 4, .form = BATCH_TEXTS, .rows = BATCH_NEXT,
                      .special = 77};
    assert_int_equal(loader_epoch_samples(&c), 7);
    for (int64_t i = 0; i < 7; i++) {
        assert_int_equal(loader_text(&c, i, &n), texts[i]);
        assert_int_equal(n, read[i]);
    }
    loader_fill_text(&c, 1, 2, 0, &batch);
    assert_memory_equal(memory, ((int32_t[]){77, 77, 3, 4, 0}), sizeof memory);
    c.rows = BATCH_WINDOWS;
    assert_int_equal(loader_epoch_samples(&c), 2);
    assert_int_equal(loader_text(&c, 1, &n), 1);
    assert_int_equal(n, 5);
    free(t.lines);
}

/* ---- files ---- */

static void check_read(const char *name, const char *text) {
    Examples x;
    Labels labels;
    Error e = {0};
    scratch_text(name, text);
    if (!examples_read(&x, name, "text", "label", &e)) fail_msg("%s: %s", text, e.text);
    assert_int_equal(x.n, 4);
    assert_string_equal(x.items[0].text, "one \"two\"");
    assert_string_equal(x.items[0].label, "b");
    assert_string_equal(x.items[3].text, "\u00e9");
    assert_string_equal(x.items[3].label, "7");
    assert_int_equal(x.items[3].line, 4);
    if (!labels_collect(&labels, &x, name, &e)) fail_msg("%s", e.text);
    assert_int_equal(labels.n, 2); /* sorted, whatever the order of the lines */
    assert_int_equal(labels_find(&labels, "7"), 0);
    assert_int_equal(labels_find(&labels, "b"), 1);
    assert_int_equal(labels_find(&labels, "c"), -1);
    labels_free(&labels);
    examples_free(&x);
}

static void both_kinds_of_files(void **state) {
    (void)state;
    /* The last line has no end. */
    check_read("good.tsv", "one \"two\"\tb\r\nx\t7\ny\tb\n\u00e9\t7");
    check_read("good.jsonl", "{\"text\": \"one \\\"two\\\"\", \"label\": \"b\"}\n"
                             "{\"label\": 7, \"text\": \"x\", \"more\": [1]}\n"
                             "{\"label\": \"b\", \"text\": \"y\"}\n"
                             "{\"label\": \"7\", \"text\": \"\\u00e9\"}\n");
}

static void bad_files(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
        int64_t bytes;
        const char *place, *says;
    } cases[] = {
        {"a.tsv", "", 0, "a.tsv", "empty"},
        {"a.tsv", "x\ty\nno tab\n", 0, "a.tsv:2", "no labelled text"},
        {"a.tsv", "x\ty\n\nx\ty\n", 0, "a.tsv:2", "the line is empty"},
        {"a.tsv", "x\ty\tz\n", 0, "a.tsv:1", "no labelled text"},
        {"a.tsv", "x\ty\n\ty\n", 0, "a.tsv:2", "no labelled text"},
        {"a.tsv", "x\t\n", 0, "a.tsv:1", "no labelled text"},
        {"a.tsv", "x\ty\nx\xffz\ty\n", 0, "a.tsv:2:2", "not UTF-8: byte 0xff"},
        {"a.tsv", "x\ty\nx\0z\ty\n", 10, "a.tsv:2:2", "U+0000"},
        {"a.jsonl", "{\"text\": \"x\", \"label\": \"y\"}\n{\n", 0, "a.jsonl:2", "not JSON"},
        {"a.jsonl", "{\"text\": \"x\"}\n", 0, "a.jsonl:1", "no text \"text\" with a \"label\""},
        {"a.jsonl", "{\"text\": \"\", \"label\": \"y\"}\n", 0, "a.jsonl:1", "no text"},
        {"a.jsonl", "{\"text\": \"x\", \"label\": 1.5}\n", 0, "a.jsonl:1", "no text"},
        {"a.jsonl", "{\"text\": \"x\\u0000\", \"label\": \"y\"}\n", 0, "a.jsonl:1", "not JSON"},
    };
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Examples x;
        Error e = {0};
        const int64_t bytes = cases[i].bytes ? cases[i].bytes : (int64_t)strlen(cases[i].text);
        scratch_write(cases[i].name, cases[i].text, bytes);
        if (examples_read(&x, cases[i].name, "text", "label", &e))
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(e.text, cases[i].says)) fail_msg("%s: %s", cases[i].text, e.text);
        assert_string_equal(e.place, cases[i].place);
    }
}

/* "a-b" sorts between "a" and "a/x", so a kind's labels need not stand together. */
static void kinds_of_labels(void **state) {
    (void)state;
    Examples x;
    Labels labels;
    Error e = {0};
    scratch_text("kinds.tsv", "1\ta/y\n2\ta/x\n3\ta-b\n4\t/z\n5\ta\n"
                              "1\ta/y\n2\ta/x\n3\ta-b\n4\t/z\n5\ta\n");
    assert_true(examples_read(&x, "kinds.tsv", "text", "label", &e));
    assert_true(labels_collect(&labels, &x, "kinds.tsv", &e));
    static const char *const names[] = {"/z", "a", "a-b", "a/x", "a/y"};
    static const int32_t kind[] = {0, 1, 2, 1, 1};
    assert_int_equal(labels.n, 5);
    assert_int_equal(labels.n_kinds, 3);
    for (int32_t i = 0; i < labels.n; i++) {
        assert_string_equal(labels.names[i], names[i]);
        assert_int_equal(labels.kind[i], kind[i]);
        assert_int_equal(labels_find(&labels, names[i]), i);
    }
    assert_string_equal(labels.kinds[0], "/z");
    assert_string_equal(labels.kinds[1], "a");
    assert_string_equal(labels.kinds[2], "a-b");
    assert_int_equal(labels_find(&labels, "a/new"), 1);
    assert_int_equal(labels_find(&labels, "a-b/new"), 2);
    assert_int_equal(labels_find(&labels, "b/x"), -1);
    labels_free(&labels);
    examples_free(&x);
}

static void labels_that_cannot_be_learnt(void **state) {
    (void)state;
    static const char *const texts[][3] = {{"x\ta\ny\tb\nz\ta\n", "one.tsv:2", "\"b\""},
                                           {"x\ta\ny\ta\n", "one.tsv", "all examples"},
                                           {"x\ta/b\ny\ta/b\nz\ta\nz\ta\n", "one.tsv",
                                            "of the kind \"a\""}};
    for (int64_t i = 0; i < COUNT_OF(texts); i++) {
        Examples x;
        Labels labels;
        Error e = {0};
        scratch_text("one.tsv", texts[i][0]);
        assert_true(examples_read(&x, "one.tsv", "text", "label", &e));
        assert_false(labels_collect(&labels, &x, "one.tsv", &e));
        assert_string_equal(e.place, texts[i][1]);
        assert_non_null(strstr(e.text, texts[i][2]));
        examples_free(&x);
    }
}

/* ---- the split ---- */

/* Ten texts "a" of class a, five "b" of class b; the tokens are the letters. */
static void tokenize(uint64_t seed, double val_fraction, int64_t in_val[2], uint64_t *hash) {
    char text[256] = "";
    const char *input = "split.tsv", *output = "data";
    for (int i = 0; i < 15; i++) strcat(text, i % 3 == 2 ? "b\tb\n" : i % 2 ? "a\ta\n" : "aa\ta\n");
    scratch_text(input, text);
    const TokenizeRequest r = {.inputs = &input, .n_inputs = 1, .field = "",
                               .tokenizer = "char", .output = output,
                               .val_fraction = val_fraction, .seed = seed};
    TokenizeResult result;
    DataMeta meta;
    Labels labels;
    Tokens t;
    Error e = {0};
    if (!tokenize_labelled(&r, &result, &e)) fail_msg("%s (%s)", e.text, e.place);
    assert_true(data_meta_read(output, &meta, &e) && labels_read(&labels, output, &e));
    assert_int_equal(labels.n, 2);
    *hash = meta.data_hash;
    in_val[0] = in_val[1] = 0;
    if (meta.n_val && tokens_open(&t, output, "val", result.n_vocab + 2, &e)) {
        assert_true(tokens_find_texts(&t, result.n_vocab, output, &e));
        for (int64_t i = 0; i < t.n_lines; i++) {
            int32_t label;
            tokens_read(&t, t.lines[i + 1] - 1, 1, &label);
            in_val[label - t.first_label]++;
        }
        tokens_close(&t);
    }
    labels_free(&labels);
}

static void split_by_label_and_seed(void **state) {
    (void)state;
    int64_t n[2];
    uint64_t hash, again, other;
    tokenize(1, 0.2, n, &hash);
    assert_true(n[0] == 2 && n[1] == 1);
    tokenize(1, 0.2, n, &again);
    tokenize(2, 0.2, n, &other);
    assert_true(hash == again && hash != other);
    tokenize(1, 0.01, n, &hash); /* one at least, of each */
    assert_true(n[0] == 1 && n[1] == 1);
    tokenize(1, 0.9, n, &hash); /* and not all */
    assert_true(n[0] == 9 && n[1] == 4);
    tokenize(1, 0, n, &hash);
    assert_true(n[0] == 0 && n[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_found),
        cmocka_unit_test(texts_are_refused),
        cmocka_unit_test(rows_of_each_layout),
        cmocka_unit_test(samples_of_each_layout),
        SCRATCH_TEST(both_kinds_of_files),
        SCRATCH_TEST(bad_files),
        SCRATCH_TEST(kinds_of_labels),
        SCRATCH_TEST(labels_that_cannot_be_learnt),
        SCRATCH_TEST(split_by_label_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
