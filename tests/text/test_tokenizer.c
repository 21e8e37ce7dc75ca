/* Character and byte tokenizers: exact ids, round trips, tokenizer.json, what is refused. */
#include "scratch.h"
#include "rng.h"
#include "tokenizer.h"
#include "utf8.h"

/* ---- UTF-8 ---- */

static void utf8_every_code_point(void **state) {
    (void)state;
    for (int32_t code = 0; code < 0x110000; code++) {
        char text[4];
        const int length = utf8_write(text, code);
        int32_t back = -1;
        const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        assert_int_equal(utf8_next(text, length, &back), surrogate ? 0 : length);
        if (!surrogate) assert_int_equal(back, code);
        for (int cut = 1; cut < length; cut++) assert_int_equal(utf8_next(text, cut, &back), 0);
    }
}

static void utf8_refuses(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF", /* stray, overlong */
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xF0\x80\x80\x80",
        "\xF0\x8F\xBF\xBF",
        "\xED\xA0\x80",
        "\xED\xBF\xBF", /* surrogates */
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xF8\x88\x80\x80\x80",
        "\xFF", /* too large */
        "\xC3"
        "A",
        "\xE2\x82"
        "A",
        "\xF0\x9F\x98"
        "A", /* cut short */
    };
    for (int64_t i = 0; i < COUNT_OF(bad); i++) {
        Error e;
        int32_t code;
        assert_int_equal(utf8_next(bad[i], (int64_t)strlen(bad[i]), &code), 0);
        assert_false(utf8_check("t", bad[i], (int64_t)strlen(bad[i]), &e));
        ASSERT_ERROR(&e, EXIT_FAILED, "not UTF-8", "offset 0", "t:1:1");
    }
}

/* ---- characters ---- */

static void char_exact(void **state) {
    (void)state;
    const char text[] = "b\xC3\xA9"
                        "b\n\xE2\x82\xAC"
                        "a\xF0\x9F\x98\x80"; /* b e-acute b newline euro a smile */
    const int32_t expected[] = {2, 3, 2, 0, 4, 1, 5};
    Tokenizer t;
    Error e;
    int32_t ids[sizeof text];
    assert_true(tokenizer_make_char(&t, "t", text, sizeof text - 1, &e));
    assert_int_equal(t.n_vocab, 6);
    assert_int_equal(tokenizer_encode(&t, "t", text, sizeof text - 1, ids, &e), 7);
    assert_memory_equal(ids, expected, sizeof expected);
    int32_t bytes;
    const char *euro = tokenizer_text(&t, 4, &bytes);
    assert_int_equal(bytes, 3);
    assert_memory_equal(euro, "\xE2\x82\xAC", 3);
    assert_int_equal(tokenizer_encode(&t, "t", "", 0, ids, &e), 0);
    tokenizer_free(&t);
}

static void char_errors(void **state) {
    (void)state;
    Tokenizer t;
    Error e;
    int32_t ids[64];
    assert_false(tokenizer_make_char(&t, "t.txt", "", 0, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "empty", "t.txt");
    assert_false(tokenizer_make_char(&t, "t.txt", "ab\nc\xC3\xA9\xFF!", 8, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "0xff", "offset 6", "t.txt:2:3", "--tokenizer byte");
    assert_false(tokenizer_make_char(&t, "t.txt", "ab\n\0", 4, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "U+0000", "t.txt:2:1");

    assert_true(tokenizer_make_char(&t, "t.txt", "ab\n", 3, &e));
    assert_int_equal(tokenizer_encode(&t, "p.txt", "a\nb\xE2\x82\xAC", 6, ids, &e), -1);
    ASSERT_ERROR(&e, EXIT_FAILED, "U+20AC (\xE2\x82\xAC)", "p.txt:2:2");
    assert_int_equal(tokenizer_encode(&t, "p.txt", "a\tb", 3, ids, &e), -1);
    ASSERT_ERROR(&e, EXIT_FAILED, "U+0009 is not", "p.txt:1:2");
    assert_int_equal(tokenizer_encode(&t, "p.txt", "a\xC3", 2, ids, &e), -1);
    ASSERT_ERROR(&e, EXIT_FAILED, "not UTF-8", "offset 1", "p.txt:1:2");
    tokenizer_free(&t);
}

/* A text of `n` characters with all kinds of code points, every one of which JSON can hold. */
static int64_t random_text(char *text, int64_t n, uint64_t seed) {
    static const int32_t awkward[] = {1,      '\t',   '\n',   '\r',    0x1B,    '"',
                                      '\\',   '/',    0x7F,   0x85,    0xA0,    0xAD,
                                      0x301,  0x2028, 0x2029, 0xFEFF,  0xFFFD,  0xFFFE,
                                      0xFFFF, 0xD7FF, 0xE000, 0x10000, 0x1F600, 0x10FFFF};
    static const int64_t ranges[] = {128, 0x800, 0xD800, 0x110000};
    char *at = text;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t range = rng_below(5, seed, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
        int32_t code = awkward[i % COUNT_OF(awkward)];
        if (range < 4)
            code = 1 + (int32_t)rng_below((uint64_t)ranges[range] - 1, seed, 1,
                                          rng_site(RNG_TEST, 0), (uint64_t)i);
        if (code >= 0xD800 && code <= 0xDFFF) code -= 0x800;
        at += utf8_write(at, code);
    }
    return at - text;
}

static void assert_round_trip(const Tokenizer *t, const char *text, int64_t bytes) {
    Error e;
    int32_t *ids = malloc((size_t)bytes * sizeof *ids);
    const int64_t n = tokenizer_encode(t, "t", text, bytes, ids, &e);
    assert_true(n > 0);
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t length;
        const char *token = tokenizer_text(t, ids[i], &length);
        assert_true(at + length <= bytes);
        assert_memory_equal(token, text + at, (size_t)length);
        at += length;
    }
    assert_int_equal(at, bytes);
    free(ids);
}

static void assert_saves(const Tokenizer *t) {
    const char *path = "tokenizer.json";
    Error e;
    Tokenizer back;
    assert_true(tokenizer_save(t, path, &e));
    if (!tokenizer_load(&back, path, &e)) fail_msg("%s", e.text);
    assert_int_equal(back.kind, t->kind);
    assert_int_equal(back.n_vocab, t->n_vocab);
    assert_memory_equal(back.offset, t->offset, ((size_t)t->n_vocab + 1) * sizeof *t->offset);
    assert_memory_equal(back.text, t->text, (size_t)t->offset[t->n_vocab]);
    assert_true(tokenizer_hash(&back) == tokenizer_hash(t));
    tokenizer_free(&back);
}

static void char_random(void **state) {
    (void)state;
    static char text[4 * 20000];
    for (uint64_t seed = 1; seed <= 4; seed++) {
        const int64_t bytes = random_text(text, seed == 1 ? 20000 : (int64_t)(10 * seed), seed);
        Tokenizer t;
        Error e;
        assert_true(tokenizer_make_char(&t, "t", text, bytes, &e));
        for (int32_t i = 1; i < t.n_vocab; i++) assert_true(t.chars[i].code > t.chars[i - 1].code);
        assert_round_trip(&t, text, bytes);
        assert_saves(&t);
        tokenizer_free(&t);
    }
}

/* ---- bytes ---- */

static void byte_exact(void **state) {
    (void)state;
    Tokenizer t;
    Error e;
    assert_true(tokenizer_make_byte(&t, &e));
    assert_int_equal(t.n_vocab, 256);
    /* GPT-2's ids of these bytes. */
    const char text[] = "!Az \n\t\xFF\x80\xAD\x7F";
    const int32_t expected[] = {0, 32, 89, 220, 198, 197, 187, 222, 255, 221};
    int32_t ids[16];
    assert_int_equal(tokenizer_encode(&t, "t", text, 10, ids, &e), 10);
    assert_memory_equal(ids, expected, sizeof expected);
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    assert_round_trip(&t, all, 256);
    assert_saves(&t);
    tokenizer_free(&t);
}

/* ---- tokenizer.json ---- */

static const char sample[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":"
    "null,"
    "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Fuse\"},\"model\":{"
    "\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
    "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":"
    "false,"
    "\"vocab\":{\"a\":2,\"\\u00e9\":0,\"\\n\":1},\"merges\":[]}}";

/* The sample with the first `from` replaced by `to`. */
static void replace(char *out, const char *from, const char *to) {
    const char *at = strstr(sample, from);
    assert_non_null(at);
    sprintf(out, "%.*s%s%s", (int)(at - sample), sample, to, at + strlen(from));
}

static void json_order_of_ids(void **state) {
    (void)state;
    Tokenizer t;
    Error e;
    int32_t ids[8];
    const int32_t expected[] = {2, 0, 1};
    assert_true(tokenizer_parse(&t, "t.json", sample, sizeof sample - 1, &e));
    assert_int_equal(tokenizer_encode(&t, "t", "a\xC3\xA9\n", 4, ids, &e), 3);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_saves(&t);
    tokenizer_free(&t);
}

/* A change to `sample`, and what the refusal must say. */
static const struct {
    const char *from, *to, *word;
} refused[] = {
    {"\"1.0\"", "\"2.0\"", "`version` is \"2.0\""},
    {"\"truncation\":null", "\"truncation\":{\"max_length\":5}", "`truncation`"},
    {"\"padding\":null", "\"padding\":{}", "`padding`"},
    {"\"added_tokens\":[]", "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\"}]", "`added_tokens`"},
    {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", "Lowercase"},
    {"\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"Whitespace\"}",
     "`pre_tokenizer.type`"},
    {"\"pre_tokenizer\":null", "\"pre_tokenizer\":7", "`pre_tokenizer` is 7"},
    {"\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}", "add_prefix_space"},
    {"\"pre_tokenizer\":null",
     "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "add_prefix_space"},
    {"\"pre_tokenizer\":null",
     "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "`decoder.type`"},
    {"\"post_processor\":null", "\"post_processor\":{}", "`post_processor`"},
    {"{\"type\":\"Fuse\"}", "null", "`decoder` is null"},
    {"\"Fuse\"", "\"ByteLevel\"", "`decoder.type`"},
    {"\"Fuse\"", "\"Fuse\",\"more\":1", "`decoder.more`"},
    {"\"BPE\"", "\"Unigram\"", "`model.type` is \"Unigram\""},
    {"\"dropout\":null", "\"dropout\":0.1", "`model.dropout` is 0.1"},
    {"\"unk_token\":null", "\"unk_token\":\"a\"", "`model.unk_token`"},
    {"\"unk_token\":null", "\"unk_token\":5", "`model.unk_token`"},
    {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
     "subword_prefix"},
    {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix"},
    {"\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback"},
    {"\"merges\":[]", "\"merges\":[\"a a\"]", "`model.merges`"},
    {",\"merges\":[]", "", "`model.merges` is missing"},
    {"\"merges\":[]", "\"merges\":[],\"scores\":[]", "`model.scores`"},
    {"\"a\":2", "\"ab\":2", "\"ab\" is not one character"},
    {"\"a\":2", "\"\":2", "not one character"},
    {"\"a\":2", "\"a\":1", "id of its own from 0 to 2"},
    {"\"a\":2", "\"a\":3", "id of its own"},
    {"\"a\":2", "\"a\":-1", "id of its own"},
    {"\"a\":2", "\"a\":2.0", "id of its own"},
    {"\"a\":2", "\"a\":1e400", "broken"},
    {"\"a\":2", "\"a\":2,\"a\":3", "duplicate"},
    {"\"a\":2", "\"\\u0000\":2", "broken"},
    {"\"a\":2", "\"\xED\xA0\x80\":2", "broken"},
    {"{\"a\":2,\"\\u00e9\":0,\"\\n\":1}", "{}", "0 tokens"},
    {"{\"a\":2,\"\\u00e9\":0,\"\\n\":1}", "[]", "`model.vocab`"},
    {"\"model\":", "\"mode\":", "`model` is missing"},
    {"\"model\":", "\"more\":0,\"model\":", "`more`"},
    {"{\"version\"", "\xEF\xBB\xBF{\"version\"", "broken"},
};

static void json_refuses(void **state) {
    (void)state;
    for (int64_t i = 0; i < COUNT_OF(refused); i++) {
        char json[2048];
        Tokenizer t;
        Error e;
        replace(json, refused[i].from, refused[i].to);
        if (tokenizer_parse(&t, "t.json", json, (int64_t)strlen(json), &e))
            fail_msg("accepted: %s", refused[i].to);
        ASSERT_ERROR(&e, EXIT_FAILED, "t.json", refused[i].word);
    }
}

/* Same ids all the same: what is refused must not be more than needed. */
static void json_accepts(void **state) {
    (void)state;
    static const char *const same[][2] = {
        {"\"version\":\"1.0\",", ""},
        {"\"unk_token\":null", "\"unk_token\":\"<unk>\""},
        {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"\""},
        {"\"fuse_unk\":false", "\"fuse_unk\":true"},
        {",\"ignore_merges\":false", ""},
    };
    Tokenizer plain;
    Error e;
    assert_true(tokenizer_parse(&plain, "t.json", sample, sizeof sample - 1, &e));
    for (int64_t i = 0; i < COUNT_OF(same); i++) {
        char json[2048];
        Tokenizer t;
        replace(json, same[i][0], same[i][1]);
        if (!tokenizer_parse(&t, "t.json", json, (int64_t)strlen(json), &e)) fail_msg("%s", e.text);
        assert_true(tokenizer_hash(&t) == tokenizer_hash(&plain));
        tokenizer_free(&t);
    }
    tokenizer_free(&plain);
}

/* Damage gives a clear error or a tokenizer that is whole: it encodes its own tokens to their ids.
 */
static bool parse_damaged(const char *json, int64_t bytes) {
    Tokenizer t;
    Error e = {0};
    if (!tokenizer_parse(&t, "t.json", json, bytes, &e)) {
        ASSERT_ERROR(&e, EXIT_FAILED, "t.json");
        assert_true(e.text[0]);
        return false;
    }
    for (int32_t i = 0; i < t.n_vocab; i++) {
        int32_t length, id;
        const char *text = tokenizer_text(&t, i, &length);
        assert_int_equal(tokenizer_encode(&t, "t", text, length, &id, &e), 1);
        assert_int_equal(id, i);
    }
    tokenizer_free(&t);
    return true;
}

static void json_damaged(void **state) {
    (void)state;
    char json[sizeof sample];
    for (int64_t cut = 0; cut < (int64_t)sizeof sample - 1; cut++)
        assert_false(parse_damaged(sample, cut));
    int64_t accepted = 0;
    for (int64_t bit = 0; bit < 8 * ((int64_t)sizeof sample - 1); bit++) {
        memcpy(json, sample, sizeof sample);
        json[bit / 8] ^= (char)(1 << bit % 8);
        accepted += parse_damaged(json, sizeof sample - 1);
    }
    /* Only bits of the three tokens can pass: 'a' and the last letter of the two escapes. */
    assert_in_range(accepted, 1, 40);
}

static void json_missing_file(void **state) {
    (void)state;
    Tokenizer t;
    Error e;
    assert_false(tokenizer_load(&t, "none.json", &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "none.json", "No such file");
    assert_false(tokenizer_load(&t, ".", &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "neither tokenizer.json");
}

static void hash_tells_apart(void **state) {
    (void)state;
    Tokenizer ab, ba, abc, byte;
    Error e;
    const int32_t codes[] = {'b', 'a'};
    assert_true(tokenizer_make_char(&ab, "t", "ab", 2, &e));
    assert_true(tokenizer_make_char(&abc, "t", "abc", 3, &e));
    assert_true(tokenizer_from_codes(&ba, codes, 2, &e));
    assert_true(tokenizer_make_byte(&byte, &e));
    assert_true(tokenizer_hash(&ab) != tokenizer_hash(&abc));
    assert_true(tokenizer_hash(&ab) != tokenizer_hash(&ba));
    assert_true(tokenizer_hash(&ab) != tokenizer_hash(&byte));
    assert_true(tokenizer_hash(&ab) == tokenizer_hash(&ab));
    tokenizer_free(&ab);
    tokenizer_free(&ba);
    tokenizer_free(&abc);
    tokenizer_free(&byte);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_every_code_point),
        cmocka_unit_test(utf8_refuses),
        cmocka_unit_test(char_exact),
        cmocka_unit_test(char_errors),
        SCRATCH_TEST(char_random),
        SCRATCH_TEST(byte_exact),
        SCRATCH_TEST(json_order_of_ids),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(json_accepts),
        cmocka_unit_test(json_damaged),
        SCRATCH_TEST(json_missing_file),
        cmocka_unit_test(hash_tells_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
