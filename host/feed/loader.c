/* Batches as a pure function of (seed, sample index). */
#include "loader.h"
#include "rng.h"
#include <inttypes.h>

enum { FEISTEL_ROUNDS = 8 };

/* A keyed bijection of [0, n): a Feistel network over the next even number of bits, walked along
 * its cycle until it is back inside n (Black and Rogaway, "Ciphers with arbitrary finite domains",
 * 2002). The power of two is below 4n (or 64), so four steps are expected at most. */
int64_t loader_shuffle(int64_t n, int64_t index, uint64_t seed, int64_t epoch) {
    int half = 3; /* networks of fewer bits favour some orders by several per cent */
    while ((int64_t)1 << (2 * half) < n) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t x = (uint64_t)index;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (int round = 0; round < FEISTEL_ROUNDS; round++) {
            uint32_t word[4];
            rng_philox(word, seed, (uint32_t)epoch, rng_site(RNG_SHUFFLE, round), right);
            const uint64_t mixed = left ^ (word[0] & mask);
            left = right;
            right = mixed;
        }
        x = left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

int64_t loader_epoch_samples(const LoaderConfig *c) {
    const int64_t n_targets = c->tokens->n_tokens - 1;
    if (c->form == BATCH_STREAMS)
        return c->streams * i64_div_up(i64_div_up(n_targets + 1, c->streams), c->T);
    if (c->form == BATCH_TEXTS && c->rows == BATCH_NEXT) return n_targets + 1 - c->tokens->n_lines;
    if (c->tokens->lines) return c->tokens->n_lines;
    if (c->form == BATCH_GRAMS) return n_targets + 2 - c->T;
    return c->form != BATCH_WINDOWS ? n_targets : i64_div_up(n_targets, c->T);
}

/* Of form next the token that is a sample's last input, of grams that which is its first, of lines
 * and texts the line. */
static int64_t choose(const LoaderConfig *c, int64_t sample) {
    const int64_t n = loader_epoch_samples(c);
    if (c->order == ORDER_RANDOM)
        return (int64_t)rng_below((uint64_t)n, c->seed, 0, rng_site(RNG_OFFSET, 0),
                                  (uint64_t)sample);
    return loader_shuffle(n, sample % n, c->seed, sample / n);
}

int64_t loader_window(const LoaderConfig *c, int64_t sample, int64_t *n_inputs) {
    const int64_t n = c->tokens->n_tokens;
    if (c->form == BATCH_STREAMS) {
        const int64_t s = sample % c->streams, end = (s + 1) * n / c->streams;
        const int64_t window = sample / c->streams % (loader_epoch_samples(c) / c->streams);
        const int64_t start = i64_min(s * n / c->streams + window * c->T, end);
        *n_inputs = i64_min(c->T, end - start);
        return start;
    }
    if (c->form == BATCH_LINES) {
        const int64_t line = choose(c, sample);
        *n_inputs = c->tokens->lines[line + 1] - c->tokens->lines[line] - 1;
        return c->tokens->lines[line];
    }
    if (c->form == BATCH_NEXT) {
        const int64_t end = choose(c, sample) + 1;
        *n_inputs = i64_min(c->T, end);
        return end - *n_inputs;
    }
    if (c->order == ORDER_RANDOM) {
        *n_inputs = c->T;
        return (int64_t)rng_below((uint64_t)(n - c->T), c->seed, 0, rng_site(RNG_OFFSET, 0),
                                  (uint64_t)sample);
    }
    const int64_t windows = loader_epoch_samples(c);
    const int64_t start =
        c->T * loader_shuffle(windows, sample % windows, c->seed, sample / windows);
    *n_inputs = i64_min(c->T, n - 1 - start);
    return start;
}

bool loader_begins(const LoaderConfig *c, int64_t sample) {
    return sample / c->streams % (loader_epoch_samples(c) / c->streams) == 0;
}

int64_t loader_targets(const LoaderConfig *c, int64_t sample) {
    if (c->form == BATCH_NEXT || c->form == BATCH_NEIGHBOURS || c->form == BATCH_GRAMS ||
        c->form == BATCH_TEXTS)
        return 1;
    int64_t n_inputs, source = 0;
    const int64_t start = loader_window(c, sample, &n_inputs);
    if (c->form != BATCH_LINES) return n_inputs;
    for (int32_t token = -1; token != c->tokens->tab; source++)
        tokens_read(c->tokens, start + source, 1, &token);
    return n_inputs - source + 1;
}

bool loader_check(const LoaderConfig *c, int64_t batch, const char *dir, Error *e) {
    const int64_t n = c->tokens->n_tokens;
    if (c->form == BATCH_NEIGHBOURS) /* drawn one by one, however many */
        return c->words->n_used >= 3 ||
               error_set(e, dir, "Use more text",
                         "the text has %" PRId64 " different words, too few to tell them apart",
                         c->words->n_used);
    if (n <= (c->form == BATCH_WINDOWS || c->form == BATCH_GRAMS ? c->T : 1))
        return error_set(e, dir, "Use a smaller --context or more text",
                         "the data has %" PRId64 " tokens, too few for one window of %" PRId64
                         " and its last target",
                         n, c->T);
    const int64_t windows = c->order == ORDER_RANDOM && c->form == BATCH_WINDOWS
                                ? n - c->T
                                : loader_epoch_samples(c);
    if (batch <= windows) return true;
    if (c->tokens->lines)
        return error_set(e, dir, "Use a smaller --batch-size, or more lines",
                         "the data has %" PRId64 " lines to learn from, fewer than the %" PRId64
                         " of a batch",
                         windows, batch);
    return error_set(e, dir, "Use a smaller --batch-size or --context, or more text",
                     "the data has %" PRId64 " windows of %" PRId64
                     " tokens, fewer than the %" PRId64 " sequences of a batch",
                     windows, c->T, batch);
}

/* order: rows sorted by token, stable (a radix sort, least digit first); starts: where each token's
 * rows begin in it. */
static void sort_rows(const int32_t *tokens, int64_t n, int32_t *order, int32_t *starts) {
    int32_t largest = 0;
    for (int64_t i = 0; i < n; i++) largest = tokens[i] > largest ? tokens[i] : largest;
    int passes = 1;
    while (passes < 4 && largest >> (8 * passes)) passes++;
    /* The passes go to and fro between the two arrays such that the last one writes `order`. */
    const int32_t *from = NULL;
    for (int pass = 0; pass < passes; pass++) {
        int32_t *to = (passes - pass) % 2 ? order : starts;
        int64_t at[257] = {0};
        const int shift = 8 * pass;
        for (int64_t i = 0; i < n; i++) at[((tokens[i] >> shift) & 255) + 1]++;
        for (int digit = 0; digit < 256; digit++) at[digit + 1] += at[digit];
        for (int64_t i = 0; i < n; i++) {
            const int32_t row = from ? from[i] : (int32_t)i;
            to[at[(tokens[row] >> shift) & 255]++] = row;
        }
        from = to;
    }
    int64_t segments = 0;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || tokens[order[i]] != tokens[order[i - 1]]) starts[segments++] = (int32_t)i;
    while (segments <= n) starts[segments++] = (int32_t)n;
}

/* Row b, sample number `sample`. */
static void fill_window(const LoaderConfig *c, int64_t sample, int64_t b, Batch *batch) {
    const int64_t T = c->T;
    int32_t *tokens = batch->tokens + b * T, *targets = batch->targets + b * T;
    int64_t n;
    const int64_t start = loader_window(c, sample, &n);
    tokens_read(c->tokens, start, n, tokens);
    tokens_read(c->tokens, start + 1, n, targets);
    for (int64_t t = n; t < T; t++) {
        tokens[t] = 0;
        targets[t] = -1;
    }
    batch->n_valid += n;
}

void loader_fill_next(const LoaderConfig *c, int64_t last, int32_t *row, int32_t *target) {
    const int64_t n = i64_min(c->T, last + 1);
    for (int64_t t = 0; t < c->T - n; t++) row[t] = c->special;
    tokens_read(c->tokens, last + 1 - n, n, row + c->T - n);
    tokens_read(c->tokens, last + 1, 1, target);
}

/* Column b: a part's next T targets, and before each the token that it follows. */
static void fill_stream(const LoaderConfig *c, int64_t sample, int64_t b, Batch *batch) {
    int64_t n;
    const int64_t start = loader_window(c, sample, &n);
    int32_t before = c->special;
    if (n > 0 && !loader_begins(c, sample)) tokens_read(c->tokens, start - 1, 1, &before);
    for (int64_t t = 0; t < c->T; t++) {
        int32_t target = -1;
        if (t < n) tokens_read(c->tokens, start + t, 1, &target);
        batch->tokens[t * c->B + b] = t < n ? before : 0;
        batch->targets[t * c->B + b] = before = target;
    }
    batch->n_valid += n;
}

void loader_fill(const LoaderConfig *c, int64_t sample, Batch *batch) {
    const int64_t T = c->T;
    batch->n_valid = 0;
    batch->sample = sample;
    for (int64_t b = 0; b < c->B; b++) {
        if (c->form == BATCH_NEIGHBOURS) {
            loader_fill_neighbours(c, sample + b, batch->tokens + b * T);
            batch->targets[b] = 0;
            batch->n_valid++;
        } else if (c->form == BATCH_NEXT) {
            loader_fill_next(c, choose(c, sample + b), batch->tokens + b * T,
                             batch->targets + b);
            batch->n_valid++;
        } else if (c->form == BATCH_GRAMS) {
            const uint64_t index = (uint64_t)(sample + b);
            batch->targets[b] = (int32_t)rng_below(2, c->seed, 0, rng_site(RNG_OFFSET, 3), index);
            loader_fill_gram(c, choose(c, sample + b), sample + b, batch->targets[b] == 1,
                             batch->tokens + b * T);
            batch->n_valid++;
        } else if (c->form == BATCH_LINES) {
            batch->n_valid += loader_fill_line(c, choose(c, sample + b), batch->tokens + b * T,
                                               batch->targets + b * T);
        } else if (c->form == BATCH_TEXTS) {
            int64_t n;
            const int64_t text = loader_text(c, choose(c, sample + b), &n);
            loader_fill_text(c, text, n, b, batch);
            batch->n_valid++;
        } else if (c->form == BATCH_STREAMS) {
            fill_stream(c, sample + b, b, batch);
        } else {
            fill_window(c, sample + b, b, batch);
        }
    }
    sort_rows(batch->tokens, c->B * T, batch->order, batch->starts);
}
