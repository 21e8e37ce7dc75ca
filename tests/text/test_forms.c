/* Byte pairs in the forms that others give them: tokenizer.json with other ids, splits and special
 * tokens, vocab.json with merges.txt, tiktoken's ranks; and files that are wrong. */
#include "pieces.h"
#include "scratch.h"
#include <jansson.h>
#include <sys/stat.h>

#define SPACE "\xC4\xA0"
static const char *const merges[] = {"h e", "l l", "he ll", SPACE " w", "a a", "aa aa", "' s"};

/* The tokenizer.json of the merges above, as a tree to change. */
static json_t *begin(void) {
    Tokenizer t;
    Error e = {0};
    assert_true(tokenizer_from_merges(&t, "merges", merges, COUNT_OF(merges), &e));
    assert_true(tokenizer_save(&t, "begin.json", &e));
    json_t *root = json_load_file("begin.json", 0, NULL);
    assert_non_null(root);
    tokenizer_free(&t);
    return root;
}

static json_t *at(json_t *root, const char *a, const char *b) {
    json_t *found = json_object_get(root, a);
    return b ? json_object_get(found, b) : found;
}

static bool parse(Tokenizer *t, json_t *root, Error *e) {
    char *text = json_dumps(root, 0);
    const bool good = tokenizer_parse(t, "tokenizer.json", text, (int64_t)strlen(text), e);
    free(text);
    json_decref(root);
    return good;
}

static Tokenizer accepted(json_t *root) {
    Tokenizer t;
    Error e = {0};
    if (!parse(&t, root, &e)) fail_msg("%s", e.text);
    /* What is written of it reads the same. */
    Tokenizer back = saved_and_loaded(&t);
    tokenizer_free(&back);
    return t;
}

static void refused(json_t *root, const char *why) {
    Tokenizer t;
    Error e = {0};
    if (parse(&t, root, &e)) fail_msg("accepted, without \"%s\"", why);
    if (!strstr(e.text, why)) fail_msg("\"%s\" has no \"%s\"", e.text, why);
    assert_string_equal(e.place, "tokenizer.json");
}

static void add_token(json_t *root, int id, const char *text) {
    json_t *one = json_pack("{s:i, s:s}", "id", id, "content", text);
    json_array_append_new(at(root, "added_tokens", NULL), one);
}

static void set_split(json_t *root, const char *pattern) {
    json_t *list = json_pack("[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b}]", "type", "Split",
                             "pattern", "Regex", pattern, "behavior", "Isolated", "invert", 0,
                             "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 0);
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list));
}

/* Every id three higher, special tokens in front, a gap behind, merges as text. */
static void other_ids(void **state) {
    (void)state;
    json_t *root = begin(), *vocab = at(root, "model", "vocab"), *value;
    const char *key;
    json_object_foreach(vocab, key, value) json_integer_set(value, json_integer_value(value) + 3);
    json_array_clear(at(root, "added_tokens", NULL));
    add_token(root, 266, "<|endoftext|>");
    add_token(root, 0, "<s>");
    add_token(root, 2, "<s>he");
    add_token(root, 290, "<s>h");
    add_token(root, 300, "two words");
    json_t *list = at(root, "model", "merges");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *m = json_array_get(list, i);
        json_array_set_new(list, i,
                           json_sprintf("%s %s", json_string_value(json_array_get(m, 0)),
                                        json_string_value(json_array_get(m, 1))));
    }
    Tokenizer t = accepted(root);
    int32_t ids[32];
    Error e = {0};
    assert_int_equal(t.n_vocab, 301);
    assert_string_equal(pieces(&t, "hello"), "[hell][o]");
    assert_string_equal(pieces(&t, "<s>hello<s>two words<|endoftext|>two"),
                        "[<s>he][ll][o][<s>][two words][<|endoftext|>][t][w][o]");
    assert_int_equal(tokenizer_encode(&t, "t", "<s>!<|endoftext|>he", 19, ids, &e), 4);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 3);
    assert_int_equal(ids[2], 266);
    assert_int_equal(ids[3], 259);
    tokenizer_free(&t);
}

static void other_splits(void **state) {
    (void)state;
    json_t *root = begin();
    set_split(root, "[ab\\s]+|l{1,2}");
    Tokenizer t = accepted(root);
    /* What no match covers is a piece too. */
    assert_string_equal(pieces(&t, "aa aahehell wl"), "[aa][ ][aa][he][he][ll][ ][w][l]");
    tokenizer_free(&t);
    root = begin();
    set_split(root, "(?i:'S)|\\p{L}+|\\s+(?!\\S)|[^\\s\\p{L}]");
    t = accepted(root);
    assert_string_equal(pieces(&t, "it's  w"), "[i][t]['s][ ][ ][w]");
    tokenizer_free(&t);
}

/* A pattern that tries every way to part the letters. */
static void slow_split(void **state) {
    (void)state;
    char text[64] = "a\n";
    int32_t ids[64];
    Error e = {0};
    json_t *root = begin();
    set_split(root, "(?:a+)+b|\\s|\\S");
    Tokenizer t = accepted(root);
    assert_string_equal(pieces(&t, "aab aac"), "[aa][b][ ][a][a][c]");
    memset(text + 2, 'a', 60);
    assert_int_equal(tokenizer_encode(&t, "text", text, 62, ids, &e), -1);
    ASSERT_ERROR(&e, 1, "text:2:1", "takes too long");
    tokenizer_free(&t);
}

/* " wa" is no token made by merges, but is one as a whole piece where the file says so. */
static void whole_pieces(void **state) {
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        json_t *root = begin();
        json_object_set_new(at(root, "model", "vocab"), SPACE "wa", json_integer(264));
        json_object_set_new(at(root, "model", NULL), "ignore_merges", json_boolean(whole));
        Tokenizer t = accepted(root);
        assert_string_equal(pieces(&t, " wa wab"), whole ? "[ wa][ w][a][b]" : "[ w][a][ w][a][b]");
        tokenizer_free(&t);
    }
}

static void wrong_json(void **state) {
    (void)state;
    json_t *root = begin();
    json_object_set_new(at(root, "model", "vocab"), "he", json_integer(5));
    refused(root, "two tokens have the id 5");
    root = begin();
    json_object_set_new(at(root, "model", "vocab"), "he", json_integer(-1));
    refused(root, "the token \"he\" needs an id from 0 to");
    root = begin();
    json_object_set_new(at(root, "model", "vocab"), "he", json_integer(1 << 20));
    refused(root, "the token \"he\" needs an id from 0 to");
    root = begin();
    json_object_set_new(at(root, "model", "vocab"), "\xE4\xB8\x80", json_integer(264));
    refused(root, "is neither in GPT-2's alphabet for bytes nor an added one");
    root = begin();
    json_object_del(at(root, "model", "vocab"), "!");
    refused(root, "no token stands for the byte 21");
    root = begin();
    json_object_del(at(root, "model", "vocab"), "hell");
    refused(root, "merge 3 makes a token that is not there");
    root = begin();
    json_array_append_new(at(root, "model", "merges"), json_pack("[s, s]", "he", "xy"));
    refused(root, "merge 8 refers to a part that no merge makes");
    root = begin();
    json_array_remove(at(root, "model", "merges"), 0);
    refused(root, "merge 2 refers to a part that no merge makes");
    root = begin();
    json_array_insert_new(at(root, "model", "merges"), 0, json_pack("[s, s]", "he", "ll"));
    json_array_remove(at(root, "model", "merges"), 3);
    refused(root, "merge 1 stands before merge 2");
    root = begin();
    json_array_append_new(at(root, "model", "merges"), json_pack("[s, s]", "h", "e"));
    refused(root, "merges 1 and 8 are the same");
    root = begin();
    json_array_append_new(at(root, "model", "merges"), json_pack("[s]", "h"));
    refused(root, "merge 8 is not two tokens");
    root = begin();
    add_token(root, 7, "<|endoftext|>");
    refused(root, "the token \"<|endoftext|>\" has the ids 7 and 263");
    root = begin();
    add_token(root, 300, "he");
    refused(root, "the token \"he\" has the ids 300 and 256");
    root = begin();
    add_token(root, 300, "");
    refused(root, "an added token is empty");
    root = begin();
    add_token(root, 300, " w");
    refused(root, "tokens 259 and 300 have the same text");
}

static void wrong_words(void **state) {
    (void)state;
    Tokenizer t;
    Error e = {0};
    assert_true(tokenizer_make_words(&t, TOKENIZER_WORD, "text", "the cat", 7, 1, 0, &e));
    assert_true(tokenizer_save(&t, "words.json", &e));
    tokenizer_free(&t);
    for (int i = 0; i < 3; i++) {
        json_t *root = json_load_file("words.json", 0, NULL), *vocab = at(root, "model", "vocab");
        assert_int_equal(json_object_size(vocab), 6);
        if (i < 2) json_object_set_new(vocab, "cat", json_integer(i ? 6 : 3));
        else json_object_del(vocab, "<UNK>"), json_object_set_new(vocab, "a", json_integer(1));
        refused(root, i < 2 ? "the token \"cat\" needs an id of its own from 0 to 5"
                            : "needs the token <UNK>");
    }
}

static void wrong_splits(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *why;
    } cases[] = {
        {"a|\\w", "from \"\\w\" on"},
        {"a.", "from \".\" on"},
        {"^a", "from \"^a\" on"},
        {"(?<=a)b", "from \"(?<=a)b\" on"},
        {"(*UTF)a", "from \"(*UTF)a\""},
        {"a{1,2}+", "from \"{1,2}+\" on"},
        {"[a&&b]", "from \"&&b]\" on"},
        {"[^\\S]", "from \"\\S]\" on"},
        {"(a", "is no regular expression"},
        {"a*", "may match nothing at all"},
        {"\\p{Nonsense}", "is no regular expression"},
    };
    for (int i = 0; i < COUNT_OF(cases); i++) {
        json_t *root = begin();
        set_split(root, cases[i].pattern);
        refused(root, cases[i].why);
    }
}

/* ---- vocab.json and merges.txt ---- */

static void write_old(json_t *vocab, const char *text) {
    mkdir("old", 0777);
    assert_int_equal(json_dump_file(vocab, "old/vocab.json", 0), 0);
    scratch_text("old/merges.txt", text);
}

static void load_refused(const char *path, const char *why) {
    Tokenizer t;
    Error e = {0};
    if (tokenizer_load(&t, path, &e)) fail_msg("accepted, without \"%s\"", why);
    if (!strstr(e.text, why)) fail_msg("\"%s\" has no \"%s\"", e.text, why);
    if (!strstr(e.place, path)) fail_msg("\"%s\" is not at %s", e.place, path);
}

static void two_files(void **state) {
    (void)state;
    json_t *root = begin(), *vocab = at(root, "model", "vocab");
    json_object_set_new(vocab, "<pad>", json_integer(264));
    write_old(vocab, "#version: 0.2\nh e\nl l\nhe ll\n" SPACE " w\na a\naa aa\n' s\n");
    static const char *const names[] = {"old", "old/merges.txt", "old/vocab.json"};
    for (int i = 0; i < COUNT_OF(names); i++) {
        Tokenizer t;
        Error e = {0};
        if (!tokenizer_load(&t, names[i], &e)) fail_msg("%s", e.text);
        assert_int_equal(t.n_specials, 2);
        assert_string_equal(pieces(&t, "hello<pad><|endoftext|>"),
                            "[hell][o][<pad>][<|endoftext|>]");
        tokenizer_free(&t);
    }
    write_old(vocab, "#version: 0.2\nhe ll\nh e\nl l\n" SPACE " w\na a\naa aa\n' s\n");
    load_refused("old", "merge 1 stands before merge 2");
    write_old(vocab, "h e\nh xy\n");
    load_refused("old", "merge 2 refers to a part that no merge makes");
    write_old(vocab, "h e\nl h\n");
    load_refused("old", "merge 2 makes a token that is not there");
    write_old(vocab, "h \xFF\n");
    load_refused("old", "UTF-8");
    json_object_set_new(vocab, "<pad>", json_integer(263));
    write_old(vocab, "h e\n");
    load_refused("old", "two tokens have the id 263");
    char token[8];
    for (int i = 0; i < 256; i++) {
        snprintf(token, sizeof token, "w%d", i);
        json_object_set_new(vocab, token, json_integer(300 + i));
    }
    write_old(vocab, "#version: 0.2\nh e\n"); /* the rest is cut off */
    load_refused("old", "tokens of vocab.json are made by no merge");
    json_decref(root);
}

/* ---- tiktoken's ranks ---- */

/* The 256 bytes, then these lines. */
static bool ranks_load(Tokenizer *t, const char *lines, Error *e) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    FILE *f = fopen("ranks", "w");
    assert_non_null(f);
    for (int b = 0; b < 256; b++)
        fprintf(f, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    fputs(lines, f);
    fclose(f);
    return tokenizer_load(t, "ranks", e);
}

static void ranks_refused(const char *lines, const char *why) {
    Tokenizer t;
    Error e = {0};
    if (ranks_load(&t, lines, &e)) fail_msg("accepted, without \"%s\"", why);
    if (!strstr(e.text, why)) fail_msg("\"%s\" has no \"%s\"", e.text, why);
}

/* he, ll, hell; "lo" has a lower rank than "hello" and would part it, but a whole word is looked up
 * first. */
static void ranks(void **state) {
    (void)state;
    Tokenizer t;
    Error e = {0};
    if (!ranks_load(&t, "aGU= 256\nbGw= 257\naGVsbA== 258\naGVsbG8= 259\n", &e))
        fail_msg("%s", e.text);
    assert_int_equal(t.n_vocab, 261);
    assert_string_equal(pieces(&t, "hello shell <|endoftext|>"),
                        "[hello][ ][s][hell][ ][<|endoftext|>]");
    int32_t id;
    assert_int_equal(tokenizer_encode(&t, "t", "!", 1, &id, &e), 1);
    assert_int_equal(id, '!');
    tokenizer_free(&t);
    ranks_refused("aGU= 255\n", "line 257 has the rank 255, which was there already");
    ranks_refused("aGU= 99999\n", "line 257 has the rank 99999, too high for so short a file");
    ranks_refused("aGU= -1\n", "line 257 is not a token in base64 and its rank");
    ranks_refused("aGU 256\n", "line 257 is not a token in base64 and its rank");
    ranks_refused("a=U= 256\n", "line 257 is not a token in base64 and its rank");
    ranks_refused(" 256\n", "line 257 is not a token in base64 and its rank");
    ranks_refused("aGU= 256\naGU= 257\n", "have the same text");
    ranks_refused("aGVsbA== 256\naGU= 257\nbGw= 258\n",
                  "the token of rank 256 is not made of two tokens of lower ranks");
    char line[1400];
    for (int i = 0; i < 342; i++) memcpy(line + 4 * i, "aGVs", 4);
    strcpy(line + 4 * 342, " 256\n");
    ranks_refused(line, "line 257 has a token of 1026 bytes, more than 1024");
    scratch_text("short", "aA== 0\nZQ== 1\naGU= 2\n");
    load_refused("short", "no token stands for the byte 00");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(other_ids),  SCRATCH_TEST(other_splits), SCRATCH_TEST(whole_pieces),
        SCRATCH_TEST(wrong_json), SCRATCH_TEST(wrong_words),  SCRATCH_TEST(wrong_splits),
        SCRATCH_TEST(two_files),  SCRATCH_TEST(ranks),        SCRATCH_TEST(slow_split),
    };
    return cmocka_run_group_tests_name("forms", tests, NULL, NULL);
}
