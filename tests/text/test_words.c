/* Word tokenizers: where text is cut, what becomes <UNK>, how it is put together again, and
 * tokenizer.json there and back. */
#include "pieces.h"

static const char text[] = "The cat's mat, the cat--THE \xC3\x89t\xC3\xA9!\n"
                           "A dog's 'tis (the mat).\n";

static Tokenizer make(TokenizerKind kind, int64_t min_count, int64_t most) {
    Tokenizer t;
    Error e = {0};
    if (!tokenizer_make_words(&t, kind, "text", text, (int64_t)strlen(text), min_count, most, &e))
        fail_msg("%s", e.text);
    return t;
}

static void cuts_at_marks_and_spaces(void **state) {
    (void)state;
    Tokenizer t = make(TOKENIZER_WORD, 1, 0);
    assert_string_equal(pieces(&t, text),
                        "[The][cat's][mat][,][the][cat][-][-][THE][\xC3\x89t\xC3\xA9][!][\n]"
                        "[A][dog's]['][tis][(][the][mat][)][.][\n]");
    assert_string_equal(pieces(&t, "the  unicorn "), "[the][<UNK>]");
    assert_string_equal(pieces(&t, ""), "");
    tokenizer_free(&t);
}

static void lower_case_beyond_ascii(void **state) {
    (void)state;
    Tokenizer t = make(TOKENIZER_WORD_LOWER, 1, 0);
    assert_string_equal(pieces(&t, "THE CAT \xC3\x89T\xC3\x89"), "[the][cat][\xC3\xA9t\xC3\xA9]");
    tokenizer_free(&t);
}

/* the 3 (lower case: 4), mat 2, "-" 2, "\n" 2, cat 1 ... ; frequent ones first, then by bytes. */
static void rare_words_are_unknown(void **state) {
    (void)state;
    static const char *const want[] = {"<PAD>", "<UNK>", "<START>", "<END>",
                                       "the",   "\n",    "-",       "mat"};
    Tokenizer t = make(TOKENIZER_WORD_LOWER, 2, 0);
    assert_int_equal(t.n_vocab, COUNT_OF(want));
    for (int32_t i = 0; i < t.n_vocab; i++)
        assert_int_equal(tokenizer_find(&t, want[i], (int64_t)strlen(want[i])), i);
    assert_int_equal(tokenizer_find(&t, "cat", 3), -1);
    tokenizer_free(&t);
    t = make(TOKENIZER_WORD_LOWER, 1, 6);
    assert_int_equal(t.n_vocab, 6);
    tokenizer_free(&t);
}

static void put_together_it_reads_right(void **state) {
    (void)state;
    Tokenizer t = make(TOKENIZER_WORD, 1, 0);
    int32_t ids[64];
    char out[256] = "";
    Error e;
    const int64_t n = tokenizer_encode(&t, "text", text, (int64_t)strlen(text), ids, &e);
    for (int64_t i = 0; i < n; i++) {
        int32_t bytes;
        const char *piece = tokenizer_text(&t, ids[i], &bytes);
        const bool space = tokenizer_spaces(&t, i ? ids[i - 1] : -1, ids[i]);
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%.*s", space ? " " : "",
                 (int)bytes, piece);
    }
    assert_string_equal(out, text);
    tokenizer_free(&t);
}

static void file_there_and_back(void **state) {
    (void)state;
    for (int kind = TOKENIZER_WORD; kind <= TOKENIZER_WORD_LOWER; kind++) {
        Tokenizer t = make((TokenizerKind)kind, 1, 0), back = saved_and_loaded(&t);
        assert_int_equal(back.kind, kind);
        assert_int_equal(back.unknown, t.unknown);
        tokenizer_free(&t);
        tokenizer_free(&back);
    }
}

static void assert_refused(const char *of, int64_t bytes, int64_t min_count, const char *why) {
    Tokenizer t;
    Error e = {0};
    assert_false(tokenizer_make_words(&t, TOKENIZER_WORD, "text", of, bytes, min_count, 0, &e));
    if (!strstr(e.text, why)) fail_msg("%s", e.text);
    assert_non_null(strstr(e.place, "text"));
}

static void bad_texts_are_named(void **state) {
    (void)state;
    assert_refused("a\0b", 3, 1, "U+0000");
    assert_refused("a \xFF", 3, 1, "UTF-8");
    assert_refused("a b c", 5, 2, "2 times");
    assert_refused("", 0, 1, "1 times");
    static const char two[] =
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"<UNK>\":0,\"a\":0},"
        "\"unk_token\":\"<UNK>\"},\"pre_tokenizer\":{\"type\":\"Whitespace\"}}";
    Tokenizer t;
    Error e = {0};
    assert_false(tokenizer_parse(&t, "file", two, (int64_t)strlen(two), &e));
    assert_non_null(strstr(e.text, "pre_tokenizer"));
}

static void assert_meant(const Tokenizer *t, const char *word, const char *meant) {
    int32_t id, bytes;
    Error e = {0};
    if (!tokenizer_find_word(t, word, &id, &e)) {
        assert_string_equal(e.place, word);
        if (strcmp(e.hint, meant) != 0) fail_msg("%s: \"%s\", not \"%s\"", word, e.hint, meant);
        return;
    }
    const char *found = tokenizer_text(t, id, &bytes);
    assert_int_equal(bytes, strlen(meant));
    assert_memory_equal(found, meant, bytes);
}

static void words_that_a_user_names(void **state) {
    (void)state;
    Tokenizer t = make(TOKENIZER_WORD, 1, 0);
    assert_meant(&t, "THE", "THE");
    assert_meant(&t, "MAT", "mat"); /* in small letters */
    assert_meant(&t, "mta", "Did you mean mat?");
    assert_meant(&t, "matt", "Did you mean mat or cat?");
    assert_meant(&t, "unicorn", "Its words are in tokenizer.json");
    Error e = {0};
    assert_true(tokenizer_check_words(&t, "the cat's, mat", 14, &e));
    assert_false(tokenizer_check_words(&t, "the  kat's mat", 14, &e));
    assert_string_equal(e.place, "kat's");
    assert_string_equal(e.hint, "Did you mean cat's?");
    tokenizer_free(&t);
    t = make(TOKENIZER_WORD_LOWER, 1, 0);
    assert_true(tokenizer_check_words(&t, "THE \xC3\x89T\xC3\x89", 9, &e));
    tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_at_marks_and_spaces), cmocka_unit_test(lower_case_beyond_ascii),
        cmocka_unit_test(rare_words_are_unknown),   cmocka_unit_test(put_together_it_reads_right),
        cmocka_unit_test(file_there_and_back),      cmocka_unit_test(bad_texts_are_named),
        cmocka_unit_test(words_that_a_user_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
