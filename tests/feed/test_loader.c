/* Batches: coverage, order, purity, the row order for the embedding's gradient, the prefetch
 * thread. */
#include "loader.h"
#include "rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static LoaderConfig windows(const Tokens *tokens, int64_t B, int64_t T, uint64_t seed,
                            DataOrder order) {
    return (LoaderConfig){.tokens = tokens, .B = B, .T = T, .seed = seed, .order = order};
}

/* n tokens in memory, as two shards: token i is i modulo n_vocab. */
typedef struct Data {
    Tokens tokens;
    TokenShard shards[2];
    int32_t *ids;
} Data;

static void data_make(Data *d, int64_t n, int64_t n_vocab) {
    d->ids = malloc((size_t)n * sizeof *d->ids);
    for (int64_t i = 0; i < n; i++) d->ids[i] = (int32_t)(i % n_vocab);
    const int64_t half = n / 2;
    d->shards[0] = (TokenShard){.tokens = d->ids, .token_bytes = 4, .first = 0, .n = half};
    d->shards[1] =
        (TokenShard){.tokens = d->ids + half, .token_bytes = 4, .first = half, .n = n - half};
    d->tokens = (Tokens){.shards = d->shards, .n_shards = 2, .n_tokens = n};
}

static void batch_make(Batch *b, int64_t rows) {
    *b = (Batch){0};
    b->tokens = malloc((size_t)(4 * rows + 1) * sizeof(int32_t));
    b->targets = b->tokens + rows;
    b->order = b->tokens + 2 * rows;
    b->starts = b->tokens + 3 * rows;
}

/* ---- order of windows ---- */

static void every_window_once_an_epoch(void **state) {
    (void)state;
    static const int64_t sizes[] = {2,  3,  4,  5,  7,   8,    9,    15,  16,
                                    17, 63, 64, 65, 100, 1000, 1023, 4097};
    static const int64_t contexts[] = {1, 2, 3, 8, 64};
    for (int64_t s = 0; s < COUNT_OF(sizes); s++)
        for (int64_t c = 0; c < COUNT_OF(contexts); c++) {
            const int64_t n = sizes[s], T = contexts[c];
            if (n <= T) continue;
            const Tokens tokens = {.n_tokens = n};
            const LoaderConfig config = windows(&tokens, 1, T, 1000 + (uint64_t)n, ORDER_SHUFFLE);
            const int64_t windows = loader_epoch_samples(&config);
            assert_int_equal(windows, (n - 1 + T - 1) / T);
            char *seen = malloc((size_t)windows);
            for (int64_t epoch = 0; epoch < 3; epoch++) {
                memset(seen, 0, (size_t)windows);
                int64_t inputs = 0;
                for (int64_t i = 0; i < windows; i++) {
                    int64_t n_inputs;
                    const int64_t start = loader_window(&config, epoch * windows + i, &n_inputs);
                    assert_int_equal(start % T, 0);
                    assert_in_range(start / T, 0, windows - 1);
                    assert_false(seen[start / T]++);
                    assert_int_equal(n_inputs, i64_min(T, n - 1 - start));
                    inputs += n_inputs;
                }
                assert_int_equal(inputs, n - 1);
            }
            free(seen);
        }
}

/* Each of the 120 orders of 5 windows about equally often: the chi-square statistic of 119 degrees
 * of freedom has mean 119 and standard deviation 15.4; 200 is more than five of them away. */
static void orders_are_equally_likely(void **state) {
    (void)state;
    const Tokens tokens = {.n_tokens = 6};
    const LoaderConfig config = windows(&tokens, 1, 1, 42, ORDER_SHUFFLE);
    const int64_t epochs = 60000;
    static int64_t count[3125];
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        int64_t code = 0, n;
        for (int64_t i = 0; i < 5; i++) code = code * 5 + loader_window(&config, epoch * 5 + i, &n);
        count[code]++;
    }
    double chi_square = 0;
    int64_t orders = 0;
    for (int64_t i = 0; i < 3125; i++) {
        const double expected = (double)epochs / 120, excess = (double)count[i] - expected;
        if (count[i]) chi_square += excess * excess / expected;
        orders += count[i] > 0;
    }
    assert_int_equal(orders, 120);
    assert_true(chi_square < 200);
}

/* The order is part of what a checkpoint resumes, so it must never change. */
static void order_is_pinned(void **state) {
    (void)state;
    static const int64_t shuffled[] = {700, 200, 500, 100, 800, 400, 0, 600, 300, 900};
    static const int64_t random[] = {726, 451, 484, 862, 565, 606, 730, 561, 549, 61};
    const Tokens tokens = {.n_tokens = 1000};
    int64_t n;
    for (int64_t i = 0; i < COUNT_OF(shuffled); i++) {
        const LoaderConfig a = windows(&tokens, 1, 100, 1, ORDER_SHUFFLE),
                           b = windows(&tokens, 1, 100, 1, ORDER_RANDOM);
        assert_int_equal(loader_window(&a, i, &n), shuffled[i]);
        assert_int_equal(loader_window(&b, i, &n), random[i]);
    }
}

static void random_offsets(void **state) {
    (void)state;
    const Tokens tokens = {.n_tokens = 20};
    const LoaderConfig config = windows(&tokens, 1, 8, 3, ORDER_RANDOM);
    int64_t count[12] = {0}, n;
    for (int64_t i = 0; i < 12000; i++) {
        const int64_t start = loader_window(&config, i, &n);
        assert_in_range(start, 0, 11); /* [0, n - T) */
        assert_int_equal(n, 8);
        count[start]++;
    }
    /* 1000 each is expected, with a standard deviation of 30. */
    for (int i = 0; i < 12; i++) assert_in_range(count[i], 820, 1180);
}

static void seeds_differ(void **state) {
    (void)state;
    const Tokens tokens = {.n_tokens = 100001};
    for (int order = ORDER_SHUFFLE; order <= ORDER_RANDOM; order++) {
        int64_t same_seed = 0, same_epoch = 0, n;
        const LoaderConfig a = windows(&tokens, 1, 100, 1, (DataOrder)order),
                           b = windows(&tokens, 1, 100, 2, (DataOrder)order);
        for (int64_t i = 0; i < 1000; i++) {
            same_seed += loader_window(&a, i, &n) == loader_window(&b, i, &n);
            same_epoch += loader_window(&a, i, &n) == loader_window(&a, i + 1000, &n);
        }
        assert_in_range(same_seed, 0, 10); /* one is expected */
        assert_in_range(same_epoch, 0, 10);
    }
}

/* ---- batches ---- */

static void fill_shifts_targets(void **state) {
    (void)state;
    Data d;
    Batch b;
    data_make(&d, 104, 1000); /* windows of 10: ten whole ones, and one of 3 inputs */
    batch_make(&b, 11 * 10);
    const LoaderConfig config = windows(&d.tokens, 11, 10, 5, ORDER_SHUFFLE);
    loader_fill(&config, 0, &b);
    assert_int_equal(b.n_valid, 103);
    assert_int_equal(b.sample, 0);
    int short_rows = 0;
    for (int64_t row = 0; row < 11; row++) {
        const int32_t *tokens = b.tokens + 10 * row, *targets = b.targets + 10 * row;
        const bool last = tokens[0] == 100;
        short_rows += last;
        for (int32_t t = 0; t < 10; t++) {
            const bool valid = !last || t < 3;
            assert_int_equal(tokens[t], valid ? tokens[0] + t : 0);
            assert_int_equal(targets[t], valid ? tokens[0] + t + 1 : -1);
        }
    }
    assert_int_equal(short_rows, 1);
    free(b.tokens);
    free(d.ids);
}

/* Every token but the first is a target once an epoch, after the tokens before it. */
static void next_fills_from_the_left(void **state) {
    (void)state;
    enum { N = 60, T = 4, PAD = 1000 };
    Data d;
    Batch b;
    data_make(&d, N, PAD);
    batch_make(&b, (N - 1) * T);
    LoaderConfig config = windows(&d.tokens, N - 1, T, 5, ORDER_SHUFFLE);
    config.form = BATCH_NEXT;
    config.special = PAD;
    Error e;
    assert_true(loader_check(&config, config.B, "data", &e));
    assert_int_equal(loader_epoch_samples(&config), N - 1);
    for (int epoch = 0; epoch < 2; epoch++) {
        bool seen[N] = {false};
        loader_fill(&config, epoch * (N - 1), &b);
        assert_int_equal(b.n_valid, N - 1);
        for (int64_t row = 0; row < N - 1; row++) {
            const int32_t target = b.targets[row];
            assert_in_range(target, 1, N - 1);
            assert_false(seen[target]);
            seen[target] = true;
            for (int32_t t = 0; t < T; t++)
                assert_int_equal(b.tokens[row * T + t], target - T + t < 0 ? PAD : target - T + t);
        }
    }
    free(b.tokens);
    free(d.ids);
}

/* Bytes are their own ids here: "a TAB xy", "bc TAB z", and a line that does not end. */
static void lines_score_targets_alone(void **state) {
    (void)state;
    enum { T = 5, ROWS = 2, NL = '\n', TAB = '\t' };
    static const int32_t ids[] = {'a', TAB, 'x', 'y', NL, 'b', 'c', TAB, 'z', NL, 'd', TAB};
    static const int32_t inputs[2][T] = {{'a', TAB, 'x', 'y', 0}, {'b', 'c', TAB, 'z', 0}};
    static const int32_t targets[2][T] = {{-1, 'x', 'y', NL, -1}, {-1, -1, 'z', NL, -1}};
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = (uint8_t)i;
    Tokenizer tokenizer;
    Error e;
    Batch b;
    TokenShard shard = {.tokens = ids, .token_bytes = 4, .n = COUNT_OF(ids)};
    Tokens t = {.shards = &shard, .n_shards = 1, .n_tokens = COUNT_OF(ids)};
    assert_true(tokenizer_from_bytes(&tokenizer, bytes, &e));
    assert_true(tokens_find_lines(&t, &tokenizer, "data", true, T, &e));
    assert_int_equal(t.n_lines, 1); /* what goes on from another split is no line */
    assert_int_equal(t.lines[0], 5);
    free(t.lines);
    assert_false(tokens_find_lines(&t, &tokenizer, "data", false, 3, &e));
    free(t.lines);
    static const int32_t bare[] = {'a', TAB, 'x', NL, 'b', NL, 'c', TAB, 'y', NL};
    TokenShard no_pair = {.tokens = bare, .token_bytes = 4, .n = COUNT_OF(bare)};
    Tokens broken = {.shards = &no_pair, .n_shards = 1, .n_tokens = COUNT_OF(bare)};
    assert_false(tokens_find_lines(&broken, &tokenizer, "data", false, T, &e));
    assert_string_equal(e.text, "line 2 of the training part is no pair: it has no tab");
    free(broken.lines);
    assert_true(tokens_find_lines(&t, &tokenizer, "data", false, T, &e));
    assert_int_equal(t.n_lines, 2);
    batch_make(&b, ROWS * T);
    LoaderConfig config = windows(&t, ROWS, T, 5, ORDER_SHUFFLE);
    config.form = BATCH_LINES;
    for (int64_t sample = 0; sample < 20; sample += ROWS) {
        loader_fill(&config, sample, &b);
        assert_int_equal(b.n_valid, 5);
        const int first = b.tokens[0] == 'b';
        for (int64_t row = 0; row < ROWS; row++) {
            const int64_t line = row ^ first;
            assert_int_equal(loader_targets(&config, sample + row), line ? 2 : 3);
            assert_memory_equal(b.tokens + row * T, inputs[line], sizeof inputs[0]);
            assert_memory_equal(b.targets + row * T, targets[line], sizeof targets[0]);
        }
    }
    free(b.tokens);
    free(t.lines);
    tokenizer_free(&tokenizer);
}

/* Three parts of a text of 32 tokens: 10, 11 and 11, each in three batches of 4 steps. The text is
 * 0, 1, 2 ..., so a target says where it is; its input is the token before, and START at first. */
/* A row is the text's own, or differs in its middle alone; the other word is as frequent as in the
 * text. There token 0 is one in two, ten others one in twenty each: a middle word that was not 0
 * becomes 0 in 0.5 / 0.95 of all cases, so 0.2632 of all replaced ones are 0: of 4000 rows 1053,
 * with a standard deviation of 28. An epoch has every row once, half of them real: 2000, with one
 * of 32. Both may be five of these away. */
static void grams_are_real_or_not(void **state) {
    (void)state;
    enum { T = 5, ROWS = 4000, N = ROWS + T - 1 };
    Data d;
    data_make(&d, N, 10);
    for (int64_t i = 0; i < N; i++)
        d.ids[i] = rng_below(2, 3, 0, rng_site(RNG_TEST, 0), (uint64_t)i) ? 0 : 1 + d.ids[i];
    LoaderConfig c = windows(&d.tokens, 1, T, 5, ORDER_SHUFFLE);
    c.form = BATCH_GRAMS;
    assert_int_equal(loader_epoch_samples(&c), ROWS);
    int64_t n_real = 0, n_frequent = 0, sum = 0;
    for (int64_t first = 0; first < ROWS; first++) {
        int32_t row[T];
        loader_fill_gram(&c, first, first, true, row);
        assert_memory_equal(row, d.ids + first, sizeof row);
        loader_fill_gram(&c, first, first, false, row);
        for (int64_t t = 0; t < T; t++)
            assert_true((row[t] == d.ids[first + t]) == (t != T / 2));
        n_frequent += row[T / 2] == 0;
        sum += d.ids[first];
    }
    assert_in_range(n_frequent, 1053 - 140, 1053 + 140);
    Batch b;
    batch_make(&b, T);
    for (int64_t sample = 0; sample < ROWS; sample++) {
        assert_int_equal(loader_targets(&c, sample), 1);
        loader_fill(&c, sample, &b);
        assert_int_equal(b.n_valid, 1);
        n_real += b.targets[0];
        sum -= b.tokens[0];
    }
    assert_int_equal(sum, 0);
    assert_in_range(n_real, ROWS / 2 - 160, ROWS / 2 + 160);
    free(b.tokens);
    free(d.ids);
}

static void streams_go_on(void **state) {
    (void)state;
    enum { N = 32, T = 4, S = 3, START = 1000 };
    Data d;
    Batch b;
    data_make(&d, N, START);
    batch_make(&b, S * T);
    LoaderConfig config = windows(&d.tokens, S, T, 5, ORDER_SHUFFLE);
    config.form = BATCH_STREAMS;
    config.special = START;
    config.streams = S;
    assert_int_equal(loader_epoch_samples(&config), 3 * S);
    for (int batch = 0; batch < 6; batch++) {
        const int window = batch % 3;
        loader_fill(&config, batch * S, &b);
        assert_true(loader_begins(&config, batch * S) == (window == 0));
        int64_t n_valid = 0;
        for (int s = 0; s < S; s++) {
            const int first = s * N / S, end = (s + 1) * N / S;
            int64_t targets = 0;
            for (int t = 0; t < T; t++) {
                const int at = first + window * T + t;
                const int32_t token = b.tokens[t * S + s], target = b.targets[t * S + s];
                assert_int_equal(target, at < end ? at : -1);
                if (at < end) assert_int_equal(token, at > first ? at - 1 : START);
                targets += at < end;
            }
            assert_int_equal(loader_targets(&config, batch * S + s), targets);
            n_valid += targets;
        }
        assert_int_equal(b.n_valid, n_valid);
    }
    free(b.tokens);
    free(d.ids);
}

/* A sequence depends on its sample index only: not on B, the batch's first sample or the epoch's
 * end. */
static void fill_is_pure(void **state) {
    (void)state;
    Data d;
    Batch one, many;
    data_make(&d, 98, 50);
    batch_make(&one, 7);
    batch_make(&many, 9 * 7);
    for (int order = ORDER_SHUFFLE; order <= ORDER_RANDOM; order++)
        for (int64_t B = 1; B <= 9; B++)
            for (int64_t sample = 0; sample < 40; sample += B) {
                const LoaderConfig wide = windows(&d.tokens, B, 7, 9, (DataOrder)order);
                const LoaderConfig narrow = windows(&d.tokens, 1, 7, 9, (DataOrder)order);
                loader_fill(&wide, sample, &many);
                int64_t n_valid = 0;
                for (int64_t row = 0; row < B; row++) {
                    loader_fill(&narrow, sample + row, &one);
                    assert_memory_equal(one.tokens, many.tokens + 7 * row, 7 * sizeof(int32_t));
                    assert_memory_equal(one.targets, many.targets + 7 * row, 7 * sizeof(int32_t));
                    n_valid += one.n_valid;
                }
                assert_int_equal(many.n_valid, n_valid);
            }
    free(one.tokens);
    free(many.tokens);
    free(d.ids);
}

/* Against the definition: each token in rising order, its rows in rising order, then its start. */
static void assert_sorted(const Batch *b, int64_t n, const int64_t *distinct, int64_t n_distinct) {
    int64_t at = 0, segment = 0;
    for (int64_t k = 0; k < n_distinct; k++) {
        const int64_t start = at;
        for (int64_t row = 0; row < n; row++)
            if (b->tokens[row] == distinct[k]) assert_int_equal(b->order[at++], row);
        if (at > start) assert_int_equal(b->starts[segment++], start);
    }
    assert_int_equal(at, n);
    while (segment <= n) assert_int_equal(b->starts[segment++], n);
}

/* Vocabularies whose ids take one, two, three and four bytes, so each number of sorting passes. */
static void rows_sorted_by_token(void **state) {
    (void)state;
    static const int64_t scales[] = {1, 5, 300, 70000, 50000000};
    enum { DISTINCT = 40, N = 1000 };
    for (int64_t s = 0; s < COUNT_OF(scales); s++) {
        Data d;
        Batch b;
        int64_t distinct[DISTINCT];
        data_make(&d, N, DISTINCT);
        for (int64_t i = 0; i < N; i++)
            d.ids[i] = (int32_t)(rng_below(DISTINCT, 7, 0, rng_site(RNG_TEST, 0), (uint64_t)i) *
                                 (uint64_t)scales[s]);
        for (int64_t k = 0; k < DISTINCT; k++) distinct[k] = k * scales[s];
        for (int64_t B = 1; B <= 16; B += 5) {
            const LoaderConfig config = windows(&d.tokens, B, 13, 1, ORDER_SHUFFLE);
            batch_make(&b, B * 13);
            for (int64_t sample = 0; sample < 200; sample += B) {
                loader_fill(&config, sample, &b);
                assert_sorted(&b, B * 13, distinct, DISTINCT);
            }
            free(b.tokens);
        }
        free(d.ids);
    }
}

static void check_names_both(void **state) {
    (void)state;
    static const struct {
        int64_t n, B, T;
        DataOrder order;
        const char *first, *second;
    } cases[] = {
        {64, 1, 64, ORDER_SHUFFLE, "64 tokens", "window of 64"},
        {1, 1, 1, ORDER_SHUFFLE, "1 tokens", "window of 1"},
        {64, 1, 64, ORDER_RANDOM, "64 tokens", "window of 64"},
        {65, 2, 64, ORDER_SHUFFLE, "1 windows of 64", "2 sequences"},
        {70, 7, 64, ORDER_RANDOM, "6 windows of 64", "7 sequences"},
        {65, 1, 64, ORDER_SHUFFLE, NULL, NULL},
        {65, 1, 64, ORDER_RANDOM, NULL, NULL},
        {70, 2, 64, ORDER_SHUFFLE, NULL, NULL},
        {70, 6, 64, ORDER_RANDOM, NULL, NULL},
    };
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Error e = {0};
        const Tokens tokens = {.n_tokens = cases[i].n};
        const LoaderConfig config = windows(&tokens, cases[i].B, cases[i].T, 1, cases[i].order);
        const bool good = loader_check(&config, cases[i].B, "some/data", &e);
        assert_true(good == !cases[i].first);
        if (good) continue;
        assert_int_equal(e.code, EXIT_FAILED);
        assert_string_equal(e.place, "some/data");
        assert_non_null(strstr(e.text, cases[i].first));
        assert_non_null(strstr(e.text, cases[i].second));
    }
}

/* ---- prefetch ---- */

static void assert_same(const Batch *a, const Batch *b, int64_t rows) {
    assert_int_equal(a->sample, b->sample);
    assert_int_equal(a->n_valid, b->n_valid);
    assert_memory_equal(a->tokens, b->tokens, (size_t)rows * sizeof(int32_t));
    assert_memory_equal(a->targets, b->targets, (size_t)rows * sizeof(int32_t));
    assert_memory_equal(a->order, b->order, (size_t)rows * sizeof(int32_t));
    assert_memory_equal(a->starts, b->starts, (size_t)(rows + 1) * sizeof(int32_t));
}

static void prefetch_equals_fill(void **state) {
    (void)state;
    static const struct {
        int64_t B, T, first, stride;
    } cases[] = {{4, 16, 0, 4}, {3, 8, 5, 3}, {2, 64, 1000, 8}, {1, 1, 0, 1}};
    Data d;
    data_make(&d, 3001, 65);
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        const int64_t B = cases[i].B, T = cases[i].T, bytes = loader_bytes(B, T);
        const DataOrder order = i % 2 ? ORDER_RANDOM : ORDER_SHUFFLE;
        const LoaderConfig config = windows(&d.tokens, B, T, 11, order);
        char *memory = malloc((size_t)bytes + 64);
        memset(memory + bytes, 0x5A, 64);
        Batch direct, previous;
        batch_make(&direct, B * T);
        batch_make(&previous, B * T);
        Loader *loader = loader_start(&config, cases[i].first, cases[i].stride, memory);
        const Batch *before = NULL;
        for (int64_t k = 0; k < 300; k++) {
            const Batch *batch = loader_next(loader);
            loader_fill(&config, cases[i].first + k * cases[i].stride, &direct);
            assert_same(batch, &direct, B * T);
            if (before) assert_same(before, &previous, B * T); /* still whole after the next call */
            const Batch swap = previous;
            previous = direct;
            direct = swap;
            before = batch;
        }
        loader_stop(loader);
        for (int j = 0; j < 64; j++) assert_int_equal(memory[bytes + j], 0x5A);
        free(direct.tokens);
        free(previous.tokens);
        free(memory);
    }
    free(d.ids);
}

static void prefetch_stops_at_any_time(void **state) {
    (void)state;
    Data d;
    data_make(&d, 500, 65);
    const LoaderConfig config = windows(&d.tokens, 4, 16, 1, ORDER_SHUFFLE);
    char *memory = malloc((size_t)loader_bytes(4, 16));
    for (int taken = 0; taken < 200; taken++) {
        Loader *loader = loader_start(&config, 0, 4, memory);
        for (int i = 0; i < taken % 5; i++) assert_int_equal(loader_next(loader)->sample, 4 * i);
        loader_stop(loader);
    }
    free(memory);
    free(d.ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_window_once_an_epoch),
        cmocka_unit_test(orders_are_equally_likely),
        cmocka_unit_test(order_is_pinned),
        cmocka_unit_test(random_offsets),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(fill_shifts_targets),
        cmocka_unit_test(next_fills_from_the_left),
        cmocka_unit_test(lines_score_targets_alone),
        cmocka_unit_test(grams_are_real_or_not),
        cmocka_unit_test(streams_go_on),
        cmocka_unit_test(fill_is_pure),
        cmocka_unit_test(rows_sorted_by_token),
        cmocka_unit_test(check_names_both),
        cmocka_unit_test(prefetch_equals_fill),
        cmocka_unit_test(prefetch_stops_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
