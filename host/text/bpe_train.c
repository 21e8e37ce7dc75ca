/* Byte pairs learned from a text (Sennrich, Haddow and Birch 2016; on bytes as in GPT-2): every
 * piece of GPT-2's split begins as its bytes, and the pair of neighbours that occurs most often
 * becomes a token, again and again. Of pairs that occur equally often the one with the smaller left
 * id comes first, then the one with the smaller right id, as in Hugging Face's trainer; overlapping
 * ones count each ("aaa" has two), and are merged from the left. */
#define XXH_INLINE_ALL
#include "text.h"
#include "utf8.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Room for one more in an array of `n`, which doubles. */
static void *array_grow(void *array, int64_t n, int64_t *room, size_t size) {
    if (n < *room) return array;
    *room = i64_max(2 * *room, 1024);
    array = realloc(array, (size_t)*room * size);
    CHECK(array, "no memory for %ld entries", (long)*room);
    return array;
}

/* ---- the different pieces of a text and their counts ---- */

typedef struct Word {
    const char *text;
    uint64_t hash;
    int64_t bytes, count;
} Word;

typedef struct Words {
    Word *list;
    int64_t n, room;
    int32_t *slots; /* open addressing: index + 1, 0 for empty */
    int64_t n_slots;
} Words;

static void words_free(Words *w) {
    free(w->list);
    free(w->slots);
}

static void words_rehash(Words *w) {
    w->n_slots = i64_max(4 * w->n, 4096);
    while (w->n_slots & (w->n_slots - 1)) w->n_slots &= w->n_slots - 1;
    free(w->slots);
    w->slots = calloc((size_t)w->n_slots, sizeof *w->slots);
    CHECK(w->slots, "no memory for %ld words", (long)w->n);
    for (int64_t i = 0; i < w->n; i++) {
        uint64_t at = w->list[i].hash & (uint64_t)(w->n_slots - 1);
        while (w->slots[at]) at = (at + 1) & (uint64_t)(w->n_slots - 1);
        w->slots[at] = (int32_t)i + 1;
    }
}

static void words_add(Words *w, const char *text, int64_t bytes, uint64_t hash, int64_t count) {
    if (2 * w->n >= w->n_slots) words_rehash(w);
    uint64_t at = hash & (uint64_t)(w->n_slots - 1);
    for (; w->slots[at]; at = (at + 1) & (uint64_t)(w->n_slots - 1)) {
        Word *word = &w->list[w->slots[at] - 1];
        if (word->hash != hash || word->bytes != bytes || memcmp(word->text, text, (size_t)bytes))
            continue;
        word->count += count;
        return;
    }
    CHECK(w->n < INT32_MAX, "%ld different words", (long)w->n);
    w->list = array_grow(w->list, w->n, &w->room, sizeof *w->list);
    w->list[w->n] = (Word){text, hash, bytes, count};
    w->slots[at] = (int32_t)++w->n;
}

/* END_OF_TEXT is cut out, for encoding never merges across it. */
static void words_count(Words *w, const Split *split, const char *text, int64_t first,
                        int64_t last) {
    const int64_t length = (int64_t)strlen(END_OF_TEXT);
    SplitMatch *match = NULL;
    for (int64_t at = first; at < last; at += length) {
        const char *end = memmem(text + at, (size_t)(last - at), END_OF_TEXT, (size_t)length);
        const int64_t stop = end ? end - text : last;
        for (int64_t bytes; at < stop; at += bytes) {
            bytes = split_next(split, &match, text, at, stop);
            CHECK(bytes > 0, "GPT-2's split fails at byte %ld", (long)at);
            words_add(w, text + at, bytes, XXH3_64bits(text + at, (size_t)bytes), 1);
        }
    }
    split_match_free(match);
}

/* Each thread counts its part of the text. The order of the words follows from that, but nothing
 * that is learned from them does. */
static Words words_of_text(const char *text, int64_t bytes, int n_threads) {
    Words *part = calloc((size_t)n_threads, sizeof *part);
    int64_t *cut = calloc((size_t)n_threads + 1, sizeof *cut);
    Error e = {0};
    Split *split = split_make(NULL, "GPT-2", &e);
    CHECK(part && cut && split, "no memory for %d threads", n_threads);
    for (int i = 1; i < n_threads; i++)
        cut[i] =
            split_boundary(text, cut[i - 1], i64_max(cut[i - 1], bytes / n_threads * i), bytes);
    cut[n_threads] = bytes;
#pragma omp parallel for num_threads(n_threads) schedule(static, 1)
    for (int i = 0; i < n_threads; i++) words_count(&part[i], split, text, cut[i], cut[i + 1]);
    Words all = part[0];
    for (int i = 1; i < n_threads; i++) {
        for (int64_t k = 0; k < part[i].n; k++) {
            const Word *w = &part[i].list[k];
            words_add(&all, w->text, w->bytes, w->hash, w->count);
        }
        words_free(&part[i]);
    }
    split_free(split);
    free(cut);
    free(part);
    return all;
}

/* ---- places and pairs ---- */

/* A token of a word; neighbours by index, -1 at the word's ends. The places of a pair (this token
 * and the one after it) are a list from left to right, so a merge visits nothing else. */
typedef struct Place {
    int32_t id, word, before, after;
    int32_t pair, earlier, later; /* -1: none */
} Place;

typedef struct Pair {
    int64_t count; /* over the words' counts */
    int32_t left, right;
    int32_t first, last; /* place; -1: none */
} Pair;

/* In a binary heap, the next to be merged first. An entry whose count is not its pair's any more is
 * out of date: counts only fall once a pair is there. */
typedef struct Next {
    int64_t count;
    uint64_t parts; /* left << 32 | right */
    int32_t pair;
} Next;

typedef struct Learner {
    const Word *words;
    Place *places;
    Pair *pairs;
    Next *queue;
    int32_t *slots; /* of pairs, as those of words */
    int64_t n_pairs, pairs_room, n_queue, queue_room, n_slots;
} Learner;

static uint64_t parts_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint64_t slot_of(const Learner *l, int32_t left, int32_t right) {
    uint64_t at = parts_of(left, right) * 0x9E3779B97F4A7C15u >> 32 & (uint64_t)(l->n_slots - 1);
    for (; l->slots[at]; at = (at + 1) & (uint64_t)(l->n_slots - 1)) {
        const Pair *p = &l->pairs[l->slots[at] - 1];
        if (p->left == left && p->right == right) break;
    }
    return at;
}

static void pairs_rehash(Learner *l) {
    l->n_slots = l->n_slots ? 2 * l->n_slots : 1 << 14;
    free(l->slots);
    l->slots = calloc((size_t)l->n_slots, sizeof *l->slots);
    CHECK(l->slots, "no memory for %ld pairs", (long)l->n_pairs);
    for (int64_t i = 0; i < l->n_pairs; i++)
        l->slots[slot_of(l, l->pairs[i].left, l->pairs[i].right)] = (int32_t)i + 1;
}

static int32_t pair_find(Learner *l, int32_t left, int32_t right) {
    if (2 * l->n_pairs >= l->n_slots) pairs_rehash(l);
    const uint64_t at = slot_of(l, left, right);
    if (l->slots[at]) return l->slots[at] - 1;
    CHECK(l->n_pairs < INT32_MAX, "%ld different pairs", (long)l->n_pairs);
    l->pairs = array_grow(l->pairs, l->n_pairs, &l->pairs_room, sizeof *l->pairs);
    l->pairs[l->n_pairs] = (Pair){0, left, right, -1, -1};
    l->slots[at] = (int32_t)++l->n_pairs;
    return (int32_t)l->n_pairs - 1;
}

/* Puts place i behind all others of its pair. */
static void place_link(Learner *l, int32_t i) {
    Place *p = &l->places[i];
    if (p->after < 0) return;
    p->pair = pair_find(l, p->id, l->places[p->after].id);
    Pair *pair = &l->pairs[p->pair];
    p->earlier = pair->last;
    p->later = -1;
    if (pair->last >= 0)
        l->places[pair->last].later = i;
    else
        pair->first = i;
    pair->last = i;
    pair->count += l->words[p->word].count;
}

static void place_unlink(Learner *l, int32_t i) {
    Place *p = &l->places[i];
    if (p->pair < 0) return;
    Pair *pair = &l->pairs[p->pair];
    if (p->earlier >= 0)
        l->places[p->earlier].later = p->later;
    else
        pair->first = p->later;
    if (p->later >= 0)
        l->places[p->later].earlier = p->earlier;
    else
        pair->last = p->earlier;
    pair->count -= l->words[p->word].count;
    p->pair = -1;
}

/* Every place of a pair becomes the token `id`. The lists of the pairs that arise are from left to
 * right, as this one is. */
static void pair_merge(Learner *l, int32_t pair, int32_t id) {
    for (int32_t i; (i = l->pairs[pair].first) >= 0;) {
        Place *p = &l->places[i];
        const int32_t before = p->before;
        place_unlink(l, i);
        place_unlink(l, p->after);
        if (before >= 0) place_unlink(l, before);
        p->id = id;
        p->after = l->places[p->after].after;
        if (p->after >= 0) l->places[p->after].before = i;
        if (before >= 0) place_link(l, before);
        place_link(l, i);
    }
}

/* ---- the queue ---- */

static bool comes_first(const Next *a, const Next *b) {
    return a->count != b->count ? a->count > b->count : a->parts < b->parts;
}

static void queue_push(Learner *l, int32_t pair) {
    const Pair *p = &l->pairs[pair];
    if (p->count == 0) return;
    const Next entry = {p->count, parts_of(p->left, p->right), pair};
    l->queue = array_grow(l->queue, l->n_queue, &l->queue_room, sizeof *l->queue);
    int64_t i = l->n_queue++;
    for (; i > 0 && comes_first(&entry, &l->queue[(i - 1) / 2]); i = (i - 1) / 2)
        l->queue[i] = l->queue[(i - 1) / 2];
    l->queue[i] = entry;
}

static Next queue_pop(Learner *l) {
    const Next first = l->queue[0], last = l->queue[--l->n_queue];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < l->n_queue; i = child) {
        child += child + 1 < l->n_queue && comes_first(&l->queue[child + 1], &l->queue[child]);
        if (!comes_first(&l->queue[child], &last)) break;
        l->queue[i] = l->queue[child];
    }
    l->queue[i] = last;
    return first;
}

/* The pair that occurs most often, at least min_count times; -1 for none. */
static int32_t queue_next(Learner *l, int64_t min_count) {
    while (l->n_queue > 0) {
        const Next top = queue_pop(l);
        if (top.count == l->pairs[top.pair].count) return top.count >= min_count ? top.pair : -1;
        queue_push(l, top.pair);
    }
    return -1;
}

/* ---- learning ---- */

/* Every word as its bytes. */
static bool learner_start(Learner *l, const Words *w, const int32_t id_of[256], const char *name,
                          Error *e) {
    int64_t n = 0;
    for (int64_t k = 0; k < w->n; k++) n += w->list[k].bytes;
    if (n > INT32_MAX)
        return error_set(e, name, "Learn from a part of it",
                         "the different words of the text have %ld bytes", (long)n);
    *l = (Learner){.words = w->list, .places = malloc(((size_t)n + 1) * sizeof *l->places)};
    CHECK(l->places, "no memory for words of %ld bytes", (long)n);
    int32_t at = 0;
    for (int64_t k = 0; k < w->n; k++) {
        const int32_t start = at, last = at + (int32_t)w->list[k].bytes - 1;
        for (; at <= last; at++) {
            const int32_t id = id_of[(uint8_t)w->list[k].text[at - start]];
            l->places[at] = (Place){
                id, (int32_t)k, at > start ? at - 1 : -1, at < last ? at + 1 : -1, -1, -1, -1};
        }
    }
    for (int32_t i = 0; i < at; i++) place_link(l, i);
    for (int32_t i = 0; i < l->n_pairs; i++) queue_push(l, i);
    return true;
}

static void learner_free(Learner *l) {
    free(l->places);
    free(l->pairs);
    free(l->queue);
    free(l->slots);
}

/* Returns how many merges the text supports, at most `wanted`. */
static int32_t learn(Learner *l, TokenizerMerge *merges, int32_t wanted, int64_t min_count) {
    for (int32_t k = 0; k < wanted; k++) {
        const int32_t pair = queue_next(l, min_count);
        if (pair < 0) return k;
        const int64_t known = l->n_pairs;
        merges[k] = (TokenizerMerge){l->pairs[pair].left, l->pairs[pair].right, 256 + k};
        pair_merge(l, pair, 256 + k);
        for (int64_t i = known; i < l->n_pairs; i++) queue_push(l, (int32_t)i);
    }
    return wanted;
}

/* 256 bytes, one token a merge, END_OF_TEXT. */
static bool tokenizer_from_learned(Tokenizer *t, const char *name, const TokenizerMerge *merges,
                                   int32_t n, Error *e) {
    Tokenizer bytes;
    if (!tokenizer_make_byte(&bytes, e)) return false;
    const int32_t special = (int32_t)strlen(END_OF_TEXT);
    int32_t *offset = malloc(((size_t)n + 258) * sizeof *offset);
    CHECK(offset, "no memory for %d merges", (int)n);
    memcpy(offset, bytes.offset, 257 * sizeof *offset);
    for (int32_t k = 0; k < n; k++) {
        const TokenizerMerge m = merges[k];
        const int64_t end = (int64_t)offset[256 + k] + offset[m.left + 1] - offset[m.left] +
                            offset[m.right + 1] - offset[m.right];
        CHECK(end < INT32_MAX - special, "tokens of %ld bytes", (long)end);
        offset[256 + k + 1] = (int32_t)end;
    }
    offset[257 + n] = offset[256 + n] + special;
    *t = (Tokenizer){.kind = TOKENIZER_BPE,
                     .n_vocab = 257 + n,
                     .n_merges = n,
                     .n_specials = 1,
                     .specials = malloc(sizeof *t->specials),
                     .text = malloc((size_t)offset[257 + n]),
                     .offset = offset,
                     .sorted = malloc(((size_t)n + 257) * sizeof *t->sorted),
                     .merges = malloc((size_t)n * sizeof *t->merges)};
    CHECK(t->text && t->sorted && t->merges && t->specials, "no memory for %d merges", (int)n);
    t->specials[0] = 256 + n;
    memcpy(t->merges, merges, (size_t)n * sizeof *merges);
    memcpy(t->text, bytes.text, 256);
    tokenizer_free(&bytes);
    char *out = t->text + 256;
    for (int32_t k = 0; k < 2 * n; k++) { /* the two parts of each merge */
        int32_t length;
        const char *part =
            tokenizer_text(t, k % 2 ? merges[k / 2].right : merges[k / 2].left, &length);
        out = (char *)memcpy(out, part, (size_t)length) + length;
    }
    memcpy(out, END_OF_TEXT, (size_t)special);
    text_sort_ids(t);
    if (bpe_make(t, name, e)) return true;
    tokenizer_free(t);
    return false;
}

bool tokenizer_train_bpe(Tokenizer *t, const char *name, const char *text, int64_t bytes,
                         int64_t n_vocab, int64_t min_count, int n_threads, Error *e) {
    int32_t id_of[256];
    if (n_vocab < 258 || n_vocab > 1 << 24)
        return error_misuse(e, "--vocab-size", "Give it, such as --vocab-size 1024",
                            "byte pairs need a vocabulary of 258 tokens to 16777216, not %ld",
                            (long)n_vocab);
    if (!utf8_check(name, text, bytes, e) || !tokenizer_make_byte(t, e)) return false;
    for (int32_t i = 0; i < 256; i++) id_of[(uint8_t)t->text[i]] = i;
    tokenizer_free(t);
    const int32_t wanted = (int32_t)n_vocab - 257;
    TokenizerMerge *merges = malloc((size_t)wanted * sizeof *merges);
    CHECK(merges, "no memory for %d merges", (int)wanted);
    Words words = words_of_text(text, bytes, n_threads);
    Learner learner;
    bool good = learner_start(&learner, &words, id_of, name, e);
    if (good) {
        const int32_t n = learn(&learner, merges, wanted, min_count);
        good = n == wanted ? tokenizer_from_learned(t, name, merges, n, e)
                           : error_misuse(e, "--vocab-size",
                                          "Give that or less, a smaller --min-count, or more text",
                                          "the text supports %d tokens, not %ld: no other pair of "
                                          "tokens occurs %ld times",
                                          (int)n + 257, (long)n_vocab, (long)min_count);
        learner_free(&learner);
    }
    words_free(&words);
    free(merges);
    return good;
}
