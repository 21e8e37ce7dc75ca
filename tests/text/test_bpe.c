/* Byte pairs: merges by hand, GPT-2's split, chunks, long words, tokenizer.json there and back, and
 * vocabularies that are wrong. */
#include "pieces.h"
#include <stdlib.h>
#include <unistd.h>

/* The letters and the space in GPT-2's alphabet, where U+0120 is the space. */
#define SPACE "\xC4\xA0"
static const char *const merges[] = {"h e", "l l", "he ll", SPACE " w", "a a", "aa aa", "' s"};

static Tokenizer make(void) {
    Tokenizer t;
    Error e = {0};
    if (!tokenizer_from_merges(&t, "merges", merges, COUNT_OF(merges), &e)) fail_msg("%s", e.text);
    return t;
}

static void merges_the_earliest_first(void **state) {
    (void)state;
    Tokenizer t = make();
    assert_int_equal(t.n_vocab, 256 + 7 + 1);
    assert_string_equal(pieces(&t, "hello"), "[hell][o]");
    assert_string_equal(pieces(&t, "helol"), "[he][l][o][l]");
    assert_string_equal(pieces(&t, "aaaaaaa"), "[aaaa][aa][a]"); /* from the left */
    assert_string_equal(pieces(&t, "x w"), "[x][ w]");
    assert_string_equal(pieces(&t, ""), "");
    int32_t id;
    Error e = {0};
    assert_int_equal(tokenizer_encode(&t, "t", "!", 1, &id, &e), 1);
    assert_int_equal(id, 0);
    tokenizer_free(&t);
}

/* Where merges would fit but for a cut; test-peers compares the split beyond ASCII. */
static void splits_as_gpt2(void **state) {
    (void)state;
    Tokenizer t = make();
    assert_string_equal(pieces(&t, "it's"), "[i][t]['s]");
    assert_string_equal(pieces(&t, "!'s"), "[!]['][s]"); /* the apostrophe belongs to the marks */
    assert_string_equal(pieces(&t, "  w"), "[ ][ w]");   /* the last blank goes to the word */
    assert_string_equal(pieces(&t, "\n\nw"), "[\n][\n][w]");
    assert_string_equal(pieces(&t, "1w"), "[1][w]");
    assert_string_equal(pieces(&t, "h\xC3\xA9he"), "[h][\xC3][\xA9][he]");
    assert_string_equal(pieces(&t, "<|endoftext|>he"), "[<|endoftext|>][he]");
    tokenizer_free(&t);
}

/* A word of a million letters, whose tokens are known: the queue is not quadratic. */
static void long_word(void **state) {
    (void)state;
    enum { N = 1000003 };
    Tokenizer t = make();
    char *text = malloc(N);
    int32_t *ids = malloc(N * sizeof *ids);
    Error e = {0};
    memset(text, 'a', N);
    assert_int_equal(tokenizer_encode(&t, "t", text, N, ids, &e), N / 4 + 2);
    assert_int_equal(ids[0], 256 + 5);
    assert_int_equal(ids[N / 4], 256 + 4);
    free(ids);
    free(text);
    tokenizer_free(&t);
}

static void there_and_back(void **state) {
    (void)state;
    Tokenizer t = make(), back;
    Error e = {0};
    char path[] = "/tmp/puck-bpe-XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    assert_true(tokenizer_save(&t, path, &e));
    if (!tokenizer_load(&back, path, &e)) fail_msg("%s", e.text);
    assert_true(tokenizer_hash(&t) == tokenizer_hash(&back));
    assert_string_equal(pieces(&back, "hello aaaa"), "[hell][o][ ][aaaa]");
    unlink(path);
    tokenizer_free(&back);
    tokenizer_free(&t);
}

static void refused(const char *file, const char *why) {
    Tokenizer t;
    Error e = {0};
    if (tokenizer_parse_merges(&t, "vocab.bpe", file, (int64_t)strlen(file), &e))
        fail_msg("accepted: %s", file);
    if (!strstr(e.text, why)) fail_msg("\"%s\" has no \"%s\"", e.text, why);
}

static void wrong_merges(void **state) {
    (void)state;
    refused("#version: 0.2\nhe ll\nh e\nl l\n", "merge 1 stands before merge 2");
    refused("#version: 0.2\nh e\nhe xy\n", "merge 2 refers to a part that no merge makes");
    refused("#version: 0.2\nh e\nh e\n", "tokens 256 and 257 have the same text");
    refused("#version: 0.2\nl l\nl ll\nll l\n", "tokens 257 and 258 have the same text");
    refused("#version: 0.2\n", "no merges");
    refused("#version: 0.2\nh\n", "merge 1 is \"h\"");
    refused("#version: 0.2\nh \xE4\xB8\x80\n", "not two tokens in GPT-2's alphabet");
    refused("#version: 0.2\nh \xFF\n", "UTF-8");
    Tokenizer t = make();
    int32_t ids[8];
    Error e = {0};
    assert_int_equal(tokenizer_encode(&t, "t", "he\xFFll", 5, ids, &e), -1);
    assert_non_null(strstr(e.text, "UTF-8"));
    tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_the_earliest_first),
        cmocka_unit_test(splits_as_gpt2),
        cmocka_unit_test(long_word),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(wrong_merges),
    };
    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}
