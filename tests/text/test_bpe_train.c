/* Byte pairs learned from a text: merges by hand, random texts against counting anew for every
 * merge, any number of threads, tokenizer.json there and back, and more than the text supports. */
#include "pieces.h"
#include "rng.h"

static Tokenizer train(const char *text, int64_t n_vocab, int64_t min_count, int n_threads) {
    Tokenizer t;
    Error e = {0};
    if (!tokenizer_train_bpe(&t, "text", text, (int64_t)strlen(text), n_vocab, min_count, n_threads,
                             &e))
        fail_msg("%s: %s", text, e.text);
    return t;
}

/* The tokens that merges made, in order and in brackets. */
static const char *learned(const char *text, int64_t n_merges, int64_t min_count) {
    static char out[256];
    Tokenizer t = train(text, 257 + n_merges, min_count, 1);
    assert_int_equal(t.n_vocab, 257 + n_merges);
    out[0] = 0;
    for (int32_t id = 256; id < t.n_vocab - 1; id++) {
        int32_t bytes;
        const char *token = tokenizer_text(&t, id, &bytes);
        snprintf(out + strlen(out), sizeof out - strlen(out), "[%.*s]", (int)bytes, token);
    }
    tokenizer_free(&t);
    return out;
}

static void merges_by_hand(void **state) {
    (void)state;
    /* The pieces ab, " ab" and " abc": a b stands three times, then " " ab twice, then one c. */
    assert_string_equal(learned("ab ab abc", 3, 1), "[ab][ ab][ abc]");
    /* All pairs stand twice. In GPT-2's alphabet the space, U+0120, has the largest id. */
    assert_string_equal(learned("ba dc ba dc", 4, 1), "[ba][dc][ dc][ ba]");
    /* a a stands twice in aaa, where it is merged once, from the left. */
    assert_string_equal(learned("aaa xy xy", 3, 1), "[aa][xy][ xy]");
    assert_string_equal(learned("aaaaaa", 2, 1), "[aa][aaaa]");
    /* aa aa a: both pairs stand once, and the id of a is the smaller. */
    assert_string_equal(learned("aaaaa", 2, 1), "[aa][aaa]");
    /* No merge across a cut of the split, or the special token. */
    assert_string_equal(learned("a1 a1 a1 a1 bc", 2, 1), "[ a][bc]");
    assert_string_equal(learned("ab<|endoftext|>cd<|endoftext|>cd", 2, 1), "[cd][ab]");
}

/* ---- against counting anew ---- */

enum { MOST = 400, N_MERGES = 25 };

/* Words of a text of letters and single spaces, as tokens with -1 between. */
static int64_t words_to_ids(const Tokenizer *bytes, const char *text, int32_t *ids) {
    int64_t n = 0;
    for (int64_t i = 0; text[i]; i++) {
        if (text[i] == ' ') ids[n++] = -1;
        ids[n++] = tokenizer_find(bytes, text + i, 1);
    }
    return n;
}

/* The pair that stands most often, of several the smallest. Returns its count. */
static int64_t most_frequent(const int32_t *ids, int64_t n, TokenizerMerge *best) {
    int64_t most = 0;
    for (int64_t i = 0; i + 1 < n; i++) {
        const int32_t a = ids[i], b = ids[i + 1];
        int64_t count = 0;
        if (a < 0 || b < 0) continue;
        for (int64_t k = 0; k + 1 < n; k++) count += ids[k] == a && ids[k + 1] == b;
        const bool smaller = a < best->left || (a == best->left && b < best->right);
        if (count > most || (count == most && smaller)) {
            most = count;
            *best = (TokenizerMerge){.left = a, .right = b};
        }
    }
    return most;
}

static int64_t merge(int32_t *ids, int64_t n, TokenizerMerge m, int32_t id) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const bool here = i + 1 < n && ids[i] == m.left && ids[i + 1] == m.right;
        ids[kept++] = here ? id : ids[i];
        i += here;
    }
    return kept;
}

static void random_texts(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 30; seed++) {
        char text[MOST + 1];
        int32_t ids[2 * MOST];
        const uint32_t letters = 2 + (uint32_t)seed % 3;
        for (int i = 0; i < MOST; i++) {
            const uint32_t r = rng_word(seed, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
            const bool space = r % 8 == 0 && i > 0 && text[i - 1] != ' ' && i < MOST - 1;
            text[i] = space ? ' ' : (char)('a' + r / 8 % letters);
        }
        text[MOST] = 0;
        Tokenizer t = train(text, 257 + N_MERGES, 1, 1 + (int)(seed % 3));
        int64_t n = words_to_ids(&t, text, ids);
        for (int32_t k = 0; k < N_MERGES; k++) {
            TokenizerMerge m = {0};
            assert_true(most_frequent(ids, n, &m) > 0);
            if (t.merges[k].left != m.left || t.merges[k].right != m.right)
                fail_msg("seed %d, merge %d: %d %d, not %d %d", (int)seed, (int)k,
                         (int)t.merges[k].left, (int)t.merges[k].right, (int)m.left, (int)m.right);
            n = merge(ids, n, m, 256 + k);
        }
        tokenizer_free(&t);
    }
}

/* ---- the rest ---- */

static char *long_text(void) {
    char *text = malloc(20001);
    assert_non_null(text);
    for (int i = 0; i < 20000; i++) {
        const uint32_t r = rng_word(7, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
        text[i] = "etaoin  .\n'1"[r % 12];
    }
    text[20000] = 0;
    return text;
}

static void threads_change_nothing(void **state) {
    (void)state;
    char *text = long_text();
    Tokenizer one = train(text, 600, 2, 1);
    for (int n = 2; n < 9; n += 3) {
        Tokenizer more = train(text, 600, 2, n);
        assert_true(tokenizer_hash(&one) == tokenizer_hash(&more));
        tokenizer_free(&more);
    }
    tokenizer_free(&one);
    free(text);
}

static void there_and_back(void **state) {
    (void)state;
    char *text = long_text();
    Tokenizer t = train(text, 600, 2, 2), back = saved_and_loaded(&t);
    Error e = {0};
    int32_t *ids = malloc(20000 * sizeof *ids);
    assert_non_null(ids);
    const int64_t n = tokenizer_encode(&back, "text", text, 20000, ids, &e);
    assert_in_range(n, 1, 15000);
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t bytes;
        const char *token = tokenizer_text(&back, ids[i], &bytes);
        assert_memory_equal(text + at, token, (size_t)bytes);
        at += bytes;
    }
    assert_int_equal(at, 20000);
    free(ids);
    free(text);
    tokenizer_free(&back);
    tokenizer_free(&t);
}

static void refused(const char *text, int64_t n_vocab, int64_t min_count, const char *why) {
    Tokenizer t;
    Error e = {0};
    if (tokenizer_train_bpe(&t, "text", text, (int64_t)strlen(text), n_vocab, min_count, 1, &e))
        fail_msg("accepted: %s", text);
    if (!strstr(e.text, why)) fail_msg("\"%s\" has no \"%s\"", e.text, why);
}

static void more_than_the_text_supports(void **state) {
    (void)state;
    refused("ab ab abc", 261, 1, "the text supports 260 tokens, not 261");
    refused("ab ab abc", 261, 2, "the text supports 259 tokens, not 261");
    refused("ab ab abc", 261, 4, "no other pair of tokens occurs 4 times");
    refused("", 300, 1, "the text supports 257 tokens");
    refused("ab", 257, 1, "258");
    refused("ab", 0, 1, "258");
    refused("ab \xFF", 258, 1, "UTF-8");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_hand),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(more_than_the_text_supports),
    };
    return cmocka_run_group_tests_name("bpe_train", tests, NULL, NULL);
}
