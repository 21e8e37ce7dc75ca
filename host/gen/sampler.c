/* From logits to a token. Works in the caller's array, so a token costs no allocation. */
#include "generate.h"
#include "rng.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* Keskar, McCann, Varshney, Xiong, Socher, "CTRL", 2019, section 4.1. */
static void penalise(float *logits, const int32_t *seen, int64_t n_seen, double penalty) {
    for (int64_t i = 0; i < n_seen; i++) {
        float *x = &logits[seen[i]];
        *x = (float)(*x > 0 ? *x / penalty : *x * penalty);
    }
}

/* The lowest id among the largest logits, or -1 if they are no distribution. */
static int32_t likeliest(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    return isfinite(logits[best]) ? (int32_t)best : -1;
}

/* Logits to weights exp((logit - max) / temperature), the largest exactly 1. Returns their sum. */
static double make_weights(float *logits, int64_t n, float max, double temperature) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        logits[i] = (float)exp(((double)logits[i] - max) / temperature);
        sum += logits[i];
    }
    return sum;
}

static void list_likeliest(const float *weights, int64_t n, double sum, Candidate *top, int n_top) {
    int count = 0;
    for (int64_t i = 0; i < n; i++) {
        const double p = weights[i] / sum;
        if (count == n_top && p <= top[count - 1].probability) continue;
        int at = count < n_top ? count++ : n_top - 1;
        for (; at > 0 && p > top[at - 1].probability; at--) top[at] = top[at - 1];
        top[at] = (Candidate){(int32_t)i, p};
    }
    while (count < n_top) top[count++] = (Candidate){-1, 0};
}

static uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Zeroes all but the fewest largest weights that together reach `target` > 0, each counting as 1
 * (by_count) or as itself. Among equal weights the lowest ids stay. Returns the sum of what stays.
 *
 * Weights are not negative, so their bits order as integers do: four passes find the smallest
 * weight that stays byte by byte, highest byte first. No sorting, and no memory but a histogram. */
static double keep_largest(float *weights, int64_t n, double target, bool by_count) {
    uint32_t threshold = 0; /* its bytes above `shift` are known */
    double reached = 0;     /* by the weights that are larger in those bytes */
    for (int shift = 24; shift >= 0; shift -= 8) {
        double mass[256] = {0};
        for (int64_t i = 0; i < n; i++) {
            const uint32_t bits = float_bits(weights[i]);
            if ((uint64_t)(bits ^ threshold) >> (shift + 8) == 0)
                mass[(bits >> shift) & 255] += by_count ? 1 : weights[i];
        }
        uint32_t byte = 255;
        while (byte > 0 && reached + mass[byte] < target) reached += mass[byte--];
        threshold |= byte << shift;
    }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = float_bits(weights[i]);
        if (bits == threshold && reached < target)
            reached += by_count ? 1 : weights[i];
        else if (bits <= threshold)
            weights[i] = 0;
        sum += weights[i];
    }
    return sum;
}

/* Inverse of the cumulative sum, in order of id. */
static int32_t draw(const float *weights, int64_t n, double sum, const Sampler *s, int64_t sample,
                    int64_t position) {
    uint32_t word[4];
    rng_philox(word, s->seed, (uint32_t)position, rng_site(RNG_SAMPLE, 0), (uint64_t)sample);
    const uint64_t fraction = ((uint64_t)word[0] << 32 | word[1]) >> 11;
    const double target = (double)fraction * 0x1p-53 * sum;
    double reached = 0;
    int64_t last = 0; /* rounding can put the target at the sum itself */
    for (int64_t i = 0; i < n; i++) {
        if (weights[i] <= 0) continue;
        last = i;
        reached += weights[i];
        if (reached > target) break;
    }
    return (int32_t)last;
}

int32_t sampler_next(const Sampler *s, float *logits, int64_t n_vocab, const int32_t *seen,
                     int64_t n_seen, int64_t sample, int64_t position, Candidate *top, int n_top) {
    if (s->repetition_penalty != 1) penalise(logits, seen, n_seen, s->repetition_penalty);
    const int32_t best = likeliest(logits, n_vocab);
    if (best < 0) return -1;
    const bool greedy = s->temperature == 0 || s->top_k == 1;
    if (greedy && n_top == 0) return best;
    double sum = make_weights(logits, n_vocab, logits[best], s->temperature ? s->temperature : 1);
    if (n_top > 0) list_likeliest(logits, n_vocab, sum, top, n_top);
    if (greedy) return best;
    if (s->top_k > 0 && s->top_k < n_vocab)
        sum = keep_largest(logits, n_vocab, (double)s->top_k, true);
    if (s->top_p < 1) sum = keep_largest(logits, n_vocab, fmax(s->top_p * sum, DBL_MIN), false);
    return draw(logits, n_vocab, sum, s, sample, position);
}
