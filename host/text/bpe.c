/* Byte pairs: a piece of text begins as its bytes, and the two neighbours of the earliest merge
 * become one token until no merge fits. (Sennrich, Haddow and Birch 2016; on bytes as in GPT-2.) */
#define XXH_INLINE_ALL
#include "text.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- making: merges by their two parts ---- */

typedef struct Pair {
    uint64_t parts; /* left << 32 | right */
    int32_t rank, id;
} Pair;

struct Bpe {
    Pair *pairs; /* open addressing; rank -1: empty */
    uint64_t mask;
    int32_t byte_id[256];
    Split *split;
};

static Pair *pair_slot(const Bpe *b, int32_t left, int32_t right) {
    const uint64_t parts = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t i = (parts * 0x9E3779B97F4A7C15u) >> 32 & b->mask;
    while (b->pairs[i].rank >= 0 && b->pairs[i].parts != parts) i = (i + 1) & b->mask;
    return &b->pairs[i];
}

void bpe_free(Bpe *b) {
    if (!b) return;
    split_free(b->split);
    free(b->pairs);
    free(b);
}

static bool fill_pairs(Tokenizer *t, const char *name, Error *e) {
    Bpe *b = t->bpe;
    for (int i = 0; i < 256; i++) b->byte_id[i] = tokenizer_find(t, (const char[]){(char)i}, 1);
    for (int32_t k = 0; k < t->n_merges; k++) {
        const int32_t left = t->merges[k].left, right = t->merges[k].right;
        Pair *p = pair_slot(b, left, right);
        if (p->rank >= 0)
            return error_set(e, name, "Give the file as its maker wrote it",
                             "merges %d and %d are the same", (int)p->rank + 1, (int)k + 1);
        *p = (Pair){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, k, t->merges[k].made};
    }
    return true;
}

bool bpe_make(Tokenizer *t, const char *name, Error *e) {
    Bpe *b = calloc(1, sizeof *b);
    CHECK(b, "no memory for a table of merges");
    t->bpe = b;
    b->mask = 1023;
    while (b->mask < 3 * (uint64_t)t->n_merges) b->mask = 2 * b->mask + 1;
    b->pairs = malloc((b->mask + 1) * sizeof *b->pairs);
    CHECK(b->pairs, "no memory for %d merges", (int)t->n_merges);
    for (uint64_t i = 0; i <= b->mask; i++) b->pairs[i].rank = -1;
    b->split = split_make(t->split, name, e);
    return b->split && fill_pairs(t, name, e);
}

/* ---- merging one piece ---- */

/* A token of the piece; neighbours by index, -1 at the ends. `rank` is of the merge with the token
 * after it, -1 for none: an entry of the queue with another rank is out of date. */
typedef struct Symbol {
    int32_t id, before, after, rank;
} Symbol;

typedef struct Piece {
    Symbol *symbols;
    uint64_t *queue; /* binary heap of rank << 32 | index */
    int64_t n_queue, room;
} Piece;

static void queue_push(Piece *p, uint64_t entry) {
    int64_t i = p->n_queue++;
    for (; i > 0 && p->queue[(i - 1) / 2] > entry; i = (i - 1) / 2)
        p->queue[i] = p->queue[(i - 1) / 2];
    p->queue[i] = entry;
}

static uint64_t queue_pop(Piece *p) {
    const uint64_t first = p->queue[0], last = p->queue[--p->n_queue];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < p->n_queue; i = child) {
        child += child + 1 < p->n_queue && p->queue[child + 1] < p->queue[child];
        if (p->queue[child] >= last) break;
        p->queue[i] = p->queue[child];
    }
    p->queue[i] = last;
    return first;
}

/* Queues the merge of symbol i and the one after it, if there is one. */
static void consider(const Bpe *b, Piece *p, int32_t i) {
    Symbol *s = &p->symbols[i];
    s->rank = s->after < 0 ? -1 : pair_slot(b, s->id, p->symbols[s->after].id)->rank;
    if (s->rank >= 0) queue_push(p, (uint64_t)s->rank << 32 | (uint32_t)i);
}

/* Every merge removes a symbol and queues at most two more: 3n entries in all. */
static void piece_reserve(Piece *p, int64_t bytes) {
    if (bytes <= p->room) return;
    CHECK(bytes < INT32_MAX, "a word of %ld bytes", (long)bytes);
    p->room = i64_max(2 * bytes, 256);
    free(p->symbols);
    free(p->queue);
    p->symbols = malloc((size_t)p->room * sizeof *p->symbols);
    p->queue = malloc((size_t)p->room * 3 * sizeof *p->queue);
    CHECK(p->symbols && p->queue, "no memory for a word of %ld bytes", (long)bytes);
}

static int64_t encode_piece(const Tokenizer *t, Piece *p, const char *text, int64_t bytes,
                            int32_t *ids) {
    const Bpe *b = t->bpe;
    if (t->whole_first && (ids[0] = tokenizer_find(t, text, bytes)) >= 0) return 1;
    piece_reserve(p, bytes);
    p->n_queue = 0;
    for (int32_t i = 0; i < bytes; i++)
        p->symbols[i] = (Symbol){b->byte_id[(uint8_t)text[i]], i - 1, i + 1, -1};
    p->symbols[bytes - 1].after = -1;
    for (int32_t i = 0; i < bytes; i++) consider(b, p, i);
    while (p->n_queue > 0) {
        const uint64_t entry = queue_pop(p);
        const int32_t i = (int32_t)(uint32_t)entry;
        Symbol *s = &p->symbols[i];
        if (s->rank != (int32_t)(entry >> 32)) continue;
        Symbol *gone = &p->symbols[s->after];
        s->id = pair_slot(b, s->id, gone->id)->id;
        s->after = gone->after;
        gone->rank = -1;
        if (s->after >= 0) p->symbols[s->after].before = i;
        consider(b, p, i);
        if (s->before >= 0) consider(b, p, s->before);
    }
    int64_t n = 0;
    for (int32_t i = 0; i >= 0; i = p->symbols[i].after) ids[n++] = p->symbols[i].id;
    return n;
}

/* ---- a text ---- */

/* Words repeat: where a piece stood last, and where its ids were written. */
typedef struct Seen {
    int64_t at, ids_at;
    int32_t bytes, n;
} Seen;

enum { CACHE_SLOTS = 1 << 15, CACHED_BYTES = 64 };

static int64_t encode_plain(const Tokenizer *t, const char *text, int64_t first, int64_t last,
                            int32_t *ids) {
    const int64_t slots = last - first < CACHE_SLOTS ? 256 : CACHE_SLOTS;
    Seen *cache = calloc((size_t)slots, sizeof *cache);
    CHECK(cache, "no memory for a cache of words");
    Piece piece = {0};
    SplitMatch *match = NULL;
    int64_t n = 0;
    for (int64_t at = first, bytes; at < last; at += bytes) {
        bytes = split_next(t->bpe->split, &match, text, at, last);
        Seen *seen = &cache[XXH3_64bits(text + at, (size_t)bytes) & (uint64_t)(slots - 1)];
        if (seen->bytes == bytes && memcmp(text + seen->at, text + at, (size_t)bytes) == 0) {
            memcpy(ids + n, ids + seen->ids_at, (size_t)seen->n * sizeof *ids);
            n += seen->n;
            continue;
        }
        const int64_t made = encode_piece(t, &piece, text + at, bytes, ids + n);
        if (bytes <= CACHED_BYTES) *seen = (Seen){at, n, (int32_t)bytes, (int32_t)made};
        n += made;
    }
    split_match_free(match);
    free(piece.symbols);
    free(piece.queue);
    free(cache);
    return n;
}

int64_t bpe_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                   int64_t last, int32_t *ids, Error *e) {
    if (!utf8_check(name, text + first, last - first, e)) return -1;
    int64_t n = 0;
    for (int64_t at = first; at < last;) {
        int32_t special, length = 0;
        const int64_t stop = special_next(t, text, at, last, &special);
        n += encode_plain(t, text, at, stop, ids + n);
        if (special >= 0) {
            ids[n++] = special;
            tokenizer_text(t, special, &length);
        }
        at = stop + length;
    }
    return n;
}
