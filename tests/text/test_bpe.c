/* Byte pairs: merges by hand, GPT-2's split, chunks, long words, tokenizer.json there and back, and
 * vocabularies that are wrong. */
#include "pieces.h"
#include "rng.h"

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

/* Tokens by the definition: the earliest merge, of several the leftmost, until none fits. */
static int64_t merge_by_definition(const Tokenizer *t, const char *text, int64_t n, int32_t *ids) {
    enum { MOST_TOKENS = 600 };
    static int32_t rank[MOST_TOKENS][MOST_TOKENS];
    assert_in_range(t->n_vocab, 257, MOST_TOKENS);
    memset(rank, 0x7f, sizeof rank);
    const int32_t none = rank[0][0];
    for (int32_t k = 0; k < t->n_merges; k++) rank[t->merges[k].left][t->merges[k].right] = k;
    for (int64_t i = 0; i < n; i++) ids[i] = tokenizer_find(t, text + i, 1);
    for (;; n--) {
        int32_t first = none;
        int64_t at = 0;
        for (int64_t i = 0; i + 1 < n; i++) {
            if (rank[ids[i]][ids[i + 1]] >= first) continue;
            first = rank[ids[i]][ids[i + 1]];
            at = i;
        }
        if (first == none) return n;
        ids[at] = 256 + first;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
    }
}

static void assert_by_definition(const Tokenizer *t, const char *text, int64_t bytes) {
    enum { MOST = 5000 };
    static int32_t ids[MOST], want[MOST];
    Error e = {0};
    assert_in_range(bytes, 1, MOST);
    const int64_t n = tokenizer_encode(t, "t", text, bytes, ids, &e);
    assert_int_equal(n, merge_by_definition(t, text, bytes, want));
    assert_memory_equal(ids, want, (size_t)n * sizeof *ids);
}

/* Words that are merged one window after another, with tokens of one byte to more than a window, by
 * merges learned from such words. */
static void long_words_by_definition(void **state) {
    (void)state;
    enum { MOST = 3000 };
    static const int lengths[] = {63, 64, 65, 1024, 1025, 1500, MOST};
    static char text[MOST];
    for (uint64_t seed = 0; seed < 16; seed++) {
        const uint32_t letters = 1 + seed % 4;
        for (int64_t i = 0; i < MOST; i++) {
            const uint32_t r = rng_word(seed, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
            /* Long runs in some: their tokens double. */
            const bool run = seed % 3 == 0 && i > 0 && r % 512 != 0;
            text[i] = run ? text[i - 1] : (char)('a' + r / 512 % letters);
        }
        Tokenizer t;
        Error e = {0};
        const int64_t n_merges = (letters == 1 ? 1 : seed % 3 == 0 ? 2 : 8) * (1 + (int64_t)seed);
        if (!tokenizer_train_bpe(&t, "text", text, MOST, 257 + n_merges, 1, 1, &e))
            fail_msg("%s", e.text);
        for (int k = 0; k < COUNT_OF(lengths); k++) assert_by_definition(&t, text, lengths[k]);
        tokenizer_free(&t);
    }
}

/* The merges Aa, Ab, ... Zz of some of a chain's links, then those of two neighbours, the last of
 * the chain first: which links are joined depends on where the chain ends, and a window that ends
 * inside of it joins others, up to its beginning. */
static void chains_longer_than_an_overlap(void **state) {
    (void)state;
    for (int links = 101; links < 145; links += 7) {
        char merges_of[300][8], chain[300] = "", text[5001] = "";
        const char *all[300];
        for (int i = 0; i < links; i++) {
            sprintf(merges_of[i], "%c %c", 'A' + i / 26, 'a' + i % 26);
            sprintf(chain + 2 * i, "%c%c", 'A' + i / 26, 'a' + i % 26);
        }
        for (int i = links - 2, k = links; i >= 0; i--, k++)
            sprintf(merges_of[k], "%.2s %.2s", chain + 2 * i, chain + 2 * i + 2);
        for (int k = 0; k < 2 * links - 1; k++) all[k] = merges_of[k];
        for (int at = 0; at + 2 * links <= 5000; at += 2 * links) strcpy(text + at, chain);
        Tokenizer t;
        Error e = {0};
        if (!tokenizer_from_merges(&t, "chain", all, 2 * links - 1, &e)) fail_msg("%s", e.text);
        for (int64_t bytes = 1021; bytes < 4000; bytes += 521)
            assert_by_definition(&t, text, bytes);
        tokenizer_free(&t);
    }
}

static void there_and_back(void **state) {
    (void)state;
    Tokenizer t = make(), back = saved_and_loaded(&t);
    assert_string_equal(pieces(&back, "hello aaaa"), "[hell][o][ ][aaaa]");
    tokenizer_free(&back);
    tokenizer_free(&t);
}

static void alphabet_there_and_back(void **state) {
    (void)state;
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;
        char letter[2], back;
        const int64_t n = tokenizer_write_alphabet(&byte, 1, letter);
        assert_int_equal(tokenizer_read_alphabet(letter, n, &back), 1);
        assert_int_equal(back, byte);
    }
    static const char *const others[] = {" ", "\x7F", "\xC2\xA0", "\xC2\xAD", "\xC5\x84", "\xFF"};
    char byte;
    for (int i = 0; i < COUNT_OF(others); i++)
        assert_int_equal(tokenizer_read_alphabet(others[i], (int64_t)strlen(others[i]), &byte), -1);
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
        cmocka_unit_test(long_words_by_definition),
        cmocka_unit_test(chains_longer_than_an_overlap),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(alphabet_there_and_back),
        cmocka_unit_test(wrong_merges),
    };
    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}
