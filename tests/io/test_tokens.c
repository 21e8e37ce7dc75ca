/* Token shards, meta.json and the folder that holds them: exact values, damage, failed writes. */
#include "../text/scratch.h"
#include "loader.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* A shard with this magic, version and count in its header, and `data` behind it. */
static void write_shard(const char *name, int32_t magic, int32_t version, int32_t n,
                        const void *data, int64_t bytes) {
    int32_t header[TOKENS_HEADER_BYTES / 4] = {magic, version, n};
    char *all = malloc(sizeof header + (size_t)bytes);
    memcpy(all, header, sizeof header);
    memcpy(all + sizeof header, data, (size_t)bytes);
    scratch_write(name, all, (int64_t)sizeof header + bytes);
    free(all);
}

static int64_t count_files(const char *path) {
    int64_t n = 0;
    DIR *d = opendir(path);
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2; /* . and .. */
}

/* ---- reading ---- */

static void read_across_shards(void **state) {
    (void)state;
    const uint16_t first[] = {5, 6, 7};
    const uint32_t second[] = {70000, 9};
    const uint16_t third[] = {1};
    write_shard("train_000002.bin", 20240520, 1, 1, third, sizeof third);
    write_shard("train_000000.bin", 20240520, 1, 3, first, sizeof first);
    write_shard("train_000001.bin", 20240801, 7, 2, second, sizeof second);
    scratch_text("train_notes.txt", "not a shard");
    scratch_text("training.bin", "not a shard");
    const int32_t all[] = {5, 6, 7, 70000, 9, 1};
    Tokens t;
    Error e;
    if (!tokens_open(&t, ".", "train", 70001, &e)) fail_msg("%s", e.text);
    assert_int_equal(t.n_tokens, 6);
    assert_int_equal(t.n_shards, 3);
    for (int from = 0; from <= 6; from++)
        for (int to = from; to <= 6; to++) {
            int32_t out[7] = {-7, -7, -7, -7, -7, -7, -7};
            tokens_read(&t, from, to - from, out);
            assert_memory_equal(out, all + from, (size_t)(to - from) * sizeof *out);
            assert_int_equal(out[to - from], -7);
        }
    tokens_close(&t);
    assert_false(tokens_open(&t, ".", "train", 70000, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "train_000001.bin", "token 0 (byte offset 1024) is 70000",
                 "vocabulary of 70000");
}

static void refuses(void **state) {
    (void)state;
    const uint16_t data[] = {0, 1, 2, 99};
    const uint32_t huge[] = {0xFFFFFFFFu};
    static const struct {
        int32_t magic, version, n;
        int64_t bytes;
        const char *word;
    } cases[] = {
        {20240520, 1, 3, 8, "1032 bytes, but its 3 tokens need 1030"},
        {20240520, 1, 5, 8, "1032 bytes, but its 5 tokens need 1034"},
        {20240520, 1, 0, 0, "0 tokens"},
        {20240520, 1, -4, 8, "-4 tokens"},
        {20240520, 1, INT32_MAX, 8, "4294968318"},
        {20240520, 7, 4, 8, "not a token shard"},
        {20240801, 1, 2, 8, "not a token shard"},
        {20240522, 1, 4, 8, "begins 20240522, 1"},
        {20240520, 1, 4, 8, "token 3 (byte offset 1030) is 99"},
    };
    Tokens t;
    Error e;
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        write_shard("val_000000.bin", cases[i].magic, cases[i].version, cases[i].n, data,
                    cases[i].bytes);
        assert_false(tokens_open(&t, ".", "val", 99, &e));
        ASSERT_ERROR(&e, EXIT_FAILED, "val_000000.bin", cases[i].word);
    }
    write_shard("val_000000.bin", 20240801, 7, 1, huge, sizeof huge);
    assert_false(tokens_open(&t, ".", "val", INT32_MAX, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "is 4294967295");
    scratch_text("val_000000.bin", "");
    assert_false(tokens_open(&t, ".", "val", 99, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "val_000000.bin", "too short");
    assert_false(tokens_open(&t, ".", "test", 99, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "(.)", "no test_*.bin");
    assert_false(tokens_open(&t, "none", "val", 99, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "none", "No such file");
}

/* Every cut is an error. A flipped bit is an error, or the token that it stands in changes, or (in
 * the unused part of the header) nothing does. */
static void damaged_shard(void **state) {
    (void)state;
    const uint16_t data[] = {3, 1, 4, 1, 5};
    int64_t bytes;
    Tokens t;
    Error e;
    int32_t out[5];
    write_shard("val_000000.bin", 20240520, 1, 5, data, sizeof data);
    char *whole = scratch_read("val_000000.bin", &bytes);
    for (int64_t cut = 0; cut < bytes; cut++) {
        scratch_write("val_000000.bin", whole, cut);
        assert_false(tokens_open(&t, ".", "val", 6, &e));
        ASSERT_ERROR(&e, EXIT_FAILED, "val_000000.bin");
    }
    for (int64_t bit = 0; bit < 8 * bytes; bit++) {
        const bool used = bit < 96 || bit >= 8 * TOKENS_HEADER_BYTES;
        if (!used && bit % 61) continue; /* of the unused part a sample */
        whole[bit / 8] ^= (char)(1 << bit % 8);
        scratch_write("val_000000.bin", whole, bytes);
        whole[bit / 8] ^= (char)(1 << bit % 8);
        if (!tokens_open(&t, ".", "val", 6, &e)) {
            assert_true(used);
            ASSERT_ERROR(&e, EXIT_FAILED, "val_000000.bin");
            continue;
        }
        int changed = 0;
        tokens_read(&t, 0, 5, out);
        for (int i = 0; i < 5; i++) changed += out[i] != data[i];
        assert_int_equal(changed, used);
        assert_true(bit >= 96);
        tokens_close(&t);
    }
    free(whole);
}

/* ---- meta.json ---- */

static const DataMeta sample = {65, 1003854, 111540, 1003854, 111540, 0xFDB74A85E6DB7ACAu, 7};

static void meta_round_trip(void **state) {
    (void)state;
    DataMeta meta;
    Error e;
    assert_true(data_meta_write(".", &sample, &e));
    assert_true(data_meta_read(".", &meta, &e));
    assert_memory_equal(&meta, &sample, sizeof meta);
}

static void meta_damaged(void **state) {
    (void)state;
    DataMeta meta;
    Error e;
    int64_t bytes;
    assert_true(data_meta_write(".", &sample, &e));
    char *whole = scratch_read("meta.json", &bytes);
    for (int64_t cut = 0; cut < bytes - 1; cut++) { /* the last byte is a newline */
        scratch_write("meta.json", whole, cut);
        assert_false(data_meta_read(".", &meta, &e));
        ASSERT_ERROR(&e, EXIT_FAILED, "meta.json");
    }
    for (int64_t bit = 0; bit < 8 * bytes; bit++) {
        whole[bit / 8] ^= (char)(1 << bit % 8);
        scratch_write("meta.json", whole, bytes);
        if (data_meta_read(".", &meta, &e))
            assert_true(meta.n_vocab >= 0 && meta.n_train >= 0 && meta.n_val >= 0 &&
                        meta.train_bytes >= 0 && meta.val_bytes >= 0);
        else
            ASSERT_ERROR(&e, EXIT_FAILED, "meta.json");
        whole[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(whole);
    static const char *const bad[] = {"[]",
                                      "{}",
                                      "{\"n_vocab\":-1}",
                                      "{\"n_vocab\":1e400}",
                                      "{\"n_vocab\":65,\"n_train\":1.5}",
                                      "null",
                                      "{\"a\":1,\"a\":1}"};
    for (int64_t i = 0; i < COUNT_OF(bad); i++) {
        scratch_text("meta.json", bad[i]);
        assert_false(data_meta_read(".", &meta, &e));
        ASSERT_ERROR(&e, EXIT_FAILED, "meta.json");
    }
}

/* ---- writing ---- */

/* Writes 0, step, 2 step ... (modulo n_vocab) as n_train + n_val tokens. */
static bool write_folder(const char *output, int64_t n_vocab, int32_t step, int64_t n_train,
                         int64_t n_val, DataMeta *meta, Error *e) {
    Tokenizer tokenizer;
    assert_true(tokenizer_make_byte(&tokenizer, e));
    *meta = (DataMeta){.n_vocab = n_vocab, .n_train = n_train, .n_val = n_val};
    const int64_t n = n_train + n_val;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(i * step % n_vocab);
    DataWriter *w = data_writer_begin(output, n_vocab, e);
    const bool good = w && data_writer_split(w, "train", e) &&
                      data_writer_tokens(w, ids, n_train, e) && data_writer_split(w, "val", e) &&
                      data_writer_tokens(w, ids + n_train, n_val, e) &&
                      data_writer_finish(w, &tokenizer, meta, e);
    if (w) data_writer_end(w);
    free(ids);
    tokenizer_free(&tokenizer);
    return good;
}

static void assert_folder(const char *output, int64_t n_vocab, int32_t step, int64_t n_train,
                          int64_t n_val) {
    Tokens t;
    Error e;
    for (int split = 0; split < 2; split++) {
        const int64_t n = split ? n_val : n_train;
        if (!tokens_open(&t, output, split ? "val" : "train", n_vocab, &e)) fail_msg("%s", e.text);
        assert_int_equal(t.n_tokens, n);
        assert_int_equal(t.shards[0].token_bytes, n_vocab <= 65536 ? 2 : 4);
        int32_t *out = malloc((size_t)n * sizeof *out);
        tokens_read(&t, 0, n, out);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(out[i], (split * n_train + i) * step % n_vocab);
        free(out);
        tokens_close(&t);
    }
}

static void write_and_read(void **state) {
    (void)state;
    static const int64_t vocabs[] = {2, 65536, 65537};
    DataMeta meta;
    Error e;
    for (int i = 0; i < COUNT_OF(vocabs); i++) { /* each replaces the one before */
        if (!write_folder("data/deep", vocabs[i], 7919, 150000, 70000, &meta, &e))
            fail_msg("%s", e.text);
        assert_folder("data/deep", vocabs[i], 7919, 150000, 70000);
        assert_int_equal(count_files("data/deep"), 4);
        assert_int_equal(count_files("data/deep.tmp"), -1);
    }
    /* A lost shard, and another count than meta.json's. */
    Tokens t;
    unlink("data/deep/train_000000.bin");
    rename("data/deep/val_000000.bin", "data/deep/train_000000.bin");
    assert_false(tokens_open(&t, "data/deep", "train", 65537, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "data/deep", "70000 tokens, but meta.json says 150000");
}

static void hash_tells_apart(void **state) {
    (void)state;
    static const struct {
        int32_t step;
        int64_t n_train, n_val;
    } cases[] = {{7, 90, 10}, {7, 89, 11}, {7, 91, 9}, {7, 90, 9}, {7, 100, 0}, {11, 90, 10}};
    DataMeta meta[COUNT_OF(cases)], again;
    Error e;
    for (int i = 0; i < COUNT_OF(cases); i++) {
        assert_true(write_folder("data", 65, cases[i].step, cases[i].n_train, cases[i].n_val,
                                 &meta[i], &e));
        for (int j = 0; j < i; j++) assert_true(meta[i].data_hash != meta[j].data_hash);
    }
    assert_true(write_folder("data", 65, 7, 90, 10, &again, &e));
    assert_true(again.data_hash == meta[0].data_hash);
}

/* Whatever fails, the folder that was there stays as it was, and no temporary one stays. */
static void failed_write_changes_nothing(void **state) {
    (void)state;
    DataMeta meta;
    Error e;
    assert_true(write_folder("data", 65, 7, 3000, 300, &meta, &e));
    /* A limit on the size of files stands in for a full disk: the write that crosses it fails. */
    struct rlimit before, small;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    static const rlim_t limits[] = {0, 1, 1023, 1024, 1500, 150000, 390000};
    for (int i = 0; i < COUNT_OF(limits); i++) {
        small = before;
        small.rlim_cur = limits[i];
        setrlimit(RLIMIT_FSIZE, &small);
        const bool good = write_folder("data", 65, 11, 200000, 100, &meta, &e);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_false(good);
        ASSERT_ERROR(&e, EXIT_FAILED, "train_000000.bin", "File too large");
        assert_folder("data", 65, 7, 3000, 300);
        assert_int_equal(count_files("data"), 4);
        assert_int_equal(count_files("data.tmp"), -1);
    }
}

static void foreign_folders_stay(void **state) {
    (void)state;
    DataMeta meta;
    Error e;
    assert_int_equal(mkdir("data", 0777), 0);
    scratch_text("data/thesis.tex", "years of work");
    assert_false(write_folder("data", 65, 7, 30, 3, &meta, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "data", "thesis.tex");
    unlink("data/thesis.tex");

    /* The same for the temporary name; what a crashed call left there is replaced. */
    assert_int_equal(mkdir("data.tmp", 0777), 0);
    scratch_text("data.tmp/thesis.tex", "years of work");
    assert_false(write_folder("data", 65, 7, 30, 3, &meta, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "data.tmp", "thesis.tex");
    int64_t bytes;
    char *kept = scratch_read("data.tmp/thesis.tex", &bytes);
    assert_non_null(kept);
    free(kept);
    unlink("data.tmp/thesis.tex");
    scratch_text("data.tmp/train_000000.bin", "half a shard");
    scratch_text("data.tmp/train_000001.bin", "half a shard");

    /* While another writes there, nothing happens. */
    const int lock = open("data.tmp", O_RDONLY | O_DIRECTORY);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_false(write_folder("data", 65, 7, 30, 3, &meta, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "data.tmp", "another process");
    assert_int_equal(count_files("data.tmp"), 2);
    close(lock);

    if (!write_folder("data", 65, 7, 30, 3, &meta, &e)) fail_msg("%s", e.text);
    assert_folder("data", 65, 7, 30, 3);
    assert_int_equal(count_files("data"), 4);
    assert_int_equal(count_files("data.tmp"), -1);

    assert_false(write_folder("data/meta.json", 65, 7, 30, 3, &meta, &e));
    ASSERT_ERROR(&e, EXIT_FAILED, "meta.json");
    assert_false(write_folder("", 65, 7, 30, 3, &meta, &e));
    ASSERT_ERROR(&e, EXIT_MISUSE, "--output");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(read_across_shards),   SCRATCH_TEST(refuses),
        SCRATCH_TEST(damaged_shard),        SCRATCH_TEST(meta_round_trip),
        SCRATCH_TEST(meta_damaged),         SCRATCH_TEST(write_and_read),
        SCRATCH_TEST(hash_tells_apart),     SCRATCH_TEST(failed_write_changes_nothing),
        SCRATCH_TEST(foreign_folders_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
