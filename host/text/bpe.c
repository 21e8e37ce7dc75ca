/* Byte pairs: a piece of text begins as its bytes, and the two neighbours of the earliest merge
 * become one token until no merge fits. (Sennrich, Haddow and Birch 2016; on bytes as in GPT-2.) */
#include "text.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

/* ---- making: merges by their two parts ---- */

struct Bpe {
    const TokenizerMerge *merges; /* the tokenizer's, by rank */
    uint32_t *slots; /* open addressing; 0: empty, else rank + 1 below 8 bits of the hash */
    uint64_t mask;
    int32_t byte_id[256];
    Split *split;
};

enum { RANK_BITS = 24 }; /* a slot of 4 bytes: the table of GPT-2 is half a megabyte */
static const uint32_t no_rank = UINT32_MAX;

static uint64_t hash_of(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
}

static uint32_t rank_in(uint32_t slot) { return (slot & ((1u << RANK_BITS) - 1)) - 1; }

/* The slot of a merge, or the empty one where it would be. */
static uint32_t *slot_find(const Bpe *b, int32_t left, int32_t right, uint64_t hash) {
    uint64_t i = hash >> 32 & b->mask;
    for (; b->slots[i]; i = (i + 1) & b->mask) {
        if (b->slots[i] >> RANK_BITS != hash >> 56) continue;
        const TokenizerMerge *m = &b->merges[rank_in(b->slots[i])];
        if (m->left == left && m->right == right) break;
    }
    return &b->slots[i];
}

static uint32_t rank_of(const Bpe *b, int32_t left, int32_t right) {
    const uint32_t slot = *slot_find(b, left, right, hash_of(left, right));
    return slot ? rank_in(slot) : no_rank;
}

void bpe_free(Bpe *b) {
    if (!b) return;
    split_free(b->split);
    free(b->slots);
    free(b);
}

static bool fill_slots(const Tokenizer *t, const char *name, Error *e) {
    Bpe *b = t->bpe;
    for (int i = 0; i < 256; i++) b->byte_id[i] = tokenizer_find(t, (const char[]){(char)i}, 1);
    for (int32_t k = 0; k < t->n_merges; k++) {
        const TokenizerMerge *m = &b->merges[k];
        const uint64_t hash = hash_of(m->left, m->right);
        uint32_t *slot = slot_find(b, m->left, m->right, hash);
        if (*slot)
            return error_set(e, name, "Give the file as its maker wrote it",
                             "merges %d and %d are the same", (int)rank_in(*slot) + 1, (int)k + 1);
        *slot = (uint32_t)(hash >> 56 << RANK_BITS) | ((uint32_t)k + 1);
    }
    return true;
}

bool bpe_make(Tokenizer *t, const char *name, Error *e) {
    CHECK(t->n_merges < (1 << RANK_BITS) - 1, "%d merges", (int)t->n_merges);
    Bpe *b = calloc(1, sizeof *b);
    CHECK(b, "no memory for a table of merges");
    t->bpe = b;
    b->merges = t->merges;
    b->mask = 1023;
    while (b->mask < 2 * (uint64_t)t->n_merges) b->mask = 2 * b->mask + 1;
    b->slots = calloc(b->mask + 1, sizeof *b->slots);
    CHECK(b->slots, "no memory for %d merges", (int)t->n_merges);
    b->split = split_make(t->split, name, e);
    return b->split && fill_slots(t, name, e);
}

/* ---- merging a short piece ---- */

enum { SHORT = 64 };

/* As its bytes are few, the earliest merge is found faster by looking at all than by a queue. */
static int64_t merge_short(const Bpe *b, const char *text, int64_t bytes, int32_t *ids) {
    uint32_t rank[SHORT]; /* of the merge with the token after it */
    int64_t n = bytes;
    for (int64_t i = 0; i < n; i++) ids[i] = b->byte_id[(uint8_t)text[i]];
    for (int64_t i = 0; i + 1 < n; i++) rank[i] = rank_of(b, ids[i], ids[i + 1]);
    while (n > 1) {
        int64_t first = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[first]) first = i;
        if (rank[first] == no_rank) break;
        ids[first] = b->merges[rank[first]].made;
        n--;
        for (int64_t i = first + 1; i < n; i++) ids[i] = ids[i + 1];
        for (int64_t i = first; i + 1 < n; i++) rank[i] = rank[i + 1];
        if (first > 0) rank[first - 1] = rank_of(b, ids[first - 1], ids[first]);
        if (first + 1 < n) rank[first] = rank_of(b, ids[first], ids[first + 1]);
    }
    return n;
}

/* ---- merging by a queue ---- */

/* A token of the text; neighbours by index, -1 at the ends. `rank` is of the merge with the token
 * after it: an entry of the queue with another rank is out of date. */
typedef struct Symbol {
    int32_t id, before, after;
    uint32_t rank;
} Symbol;

typedef struct Queue {
    Symbol *symbols;
    uint64_t *entries; /* binary heap of rank << 32 | index */
    int64_t n;
} Queue;

static void queue_push(Queue *q, uint64_t entry) {
    int64_t i = q->n++;
    for (; i > 0 && q->entries[(i - 1) / 2] > entry; i = (i - 1) / 2)
        q->entries[i] = q->entries[(i - 1) / 2];
    q->entries[i] = entry;
}

static uint64_t queue_pop(Queue *q) {
    const uint64_t first = q->entries[0], last = q->entries[--q->n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < q->n; i = child) {
        child += child + 1 < q->n && q->entries[child + 1] < q->entries[child];
        if (q->entries[child] >= last) break;
        q->entries[i] = q->entries[child];
    }
    q->entries[i] = last;
    return first;
}

/* Queues the merge of symbol i and the one after it, if there is one. */
static void consider(const Bpe *b, Queue *q, int32_t i) {
    Symbol *s = &q->symbols[i];
    s->rank = s->after < 0 ? no_rank : rank_of(b, s->id, q->symbols[s->after].id);
    if (s->rank != no_rank) queue_push(q, (uint64_t)s->rank << 32 | (uint32_t)i);
}

/* The text's tokens are the symbols from 0 on by `after`; an index is a token's first byte. */
static void merge_queued(const Bpe *b, Queue *q, const char *text, int32_t bytes) {
    for (int32_t i = 0; i < bytes; i++)
        q->symbols[i] = (Symbol){b->byte_id[(uint8_t)text[i]], i - 1, i + 1, no_rank};
    q->symbols[bytes - 1].after = -1;
    for (int32_t i = 0; i < bytes; i++) consider(b, q, i);
    while (q->n > 0) {
        const uint64_t entry = queue_pop(q);
        const int32_t i = (int32_t)(uint32_t)entry;
        Symbol *s = &q->symbols[i];
        if (s->rank != entry >> 32) continue;
        Symbol *gone = &q->symbols[s->after];
        s->id = b->merges[s->rank].made;
        s->after = gone->after;
        gone->rank = no_rank;
        if (s->after >= 0) q->symbols[s->after].before = i;
        consider(b, q, i);
        if (s->before >= 0) consider(b, q, s->before);
    }
}

/* ---- a long piece, window by window ----
 *
 * Tokens are those of a text if and only if each two neighbours are those of their joint bytes: the
 * first merge across a boundary would be the first across it in the two tokens alone, too. So one
 * window may end and the next begin with the same token, as each two neighbours are of one window.
 * That takes time linear in the text, and memory that the processor's cache holds. */

/* Returns the count, or -1 if windows of `size` bytes are too small: what follows a window changes
 * its tokens as far back as the next one begins. */
static int64_t merge_windows(const Bpe *b, Queue *q, const char *text, int64_t bytes, int64_t size,
                             int32_t *ids) {
    const Symbol *s = q->symbols;
    int64_t n = 0, begin = 0, shared = 0; /* where the token that both windows have ends */
    for (;;) {
        const int64_t length = i64_min(size, bytes - begin);
        const bool last = begin + length == bytes;
        const int64_t keep = last ? length : size - size / 8;
        merge_queued(b, q, text + begin, (int32_t)length);
        if (begin > 0 && begin + (s[0].after < 0 ? length : s[0].after) != shared) return -1;
        int32_t i = 0;
        for (; s[i].after >= 0 && s[i].after <= keep; i = s[i].after) ids[n++] = s[i].id;
        if (last) {
            ids[n++] = s[i].id;
            return n;
        }
        if (i < size / 2) return -1;
        shared = begin + (s[i].after < 0 ? length : s[i].after);
        begin += i;
    }
}

static int64_t merge_long(const Bpe *b, const char *text, int64_t bytes, int32_t *ids) {
    int64_t n = -1;
    for (int64_t size = 1024; n < 0; size *= 4) {
        const int64_t room = i64_min(size, bytes);
        CHECK(room < INT32_MAX, "a word of %ld bytes", (long)bytes);
        /* Every merge removes a symbol and queues at most two more: 3 a byte in all. */
        Queue q = {malloc((size_t)room * sizeof *q.symbols),
                   malloc((size_t)room * 3 * sizeof *q.entries), 0};
        CHECK(q.symbols && q.entries, "no memory for a word of %ld bytes", (long)bytes);
        n = merge_windows(b, &q, text, bytes, size, ids);
        free(q.symbols);
        free(q.entries);
    }
    return n;
}

static int64_t encode_piece(const Tokenizer *t, const char *text, int64_t bytes, int32_t *ids) {
    const Bpe *b = t->bpe;
    if (t->whole_first && (ids[0] = tokenizer_find(t, text, bytes)) >= 0) return 1;
    return bytes <= SHORT ? merge_short(b, text, bytes, ids) : merge_long(b, text, bytes, ids);
}

/* ---- a text ---- */

/* Words repeat: the ids of a piece of less than 16 bytes. */
typedef struct Seen {
    uint64_t key[2]; /* its bytes and zeros, the last byte its length */
    int32_t n;
    int32_t ids[3]; /* of more than 3 tokens: where they stand in the output, as 8 bytes */
} Seen;

enum { CACHE_SETS = 1 << 14 }; /* of two entries, a line of the processor's cache */

/* `room` bytes may be read. */
static void key_make(uint64_t key[2], const char *text, int64_t bytes, int64_t room) {
    key[0] = key[1] = 0;
    if (room >= 16) {
        memcpy(key, text, 16);
        key[0] &= bytes < 8 ? ((uint64_t)1 << 8 * bytes) - 1 : UINT64_MAX;
        key[1] &= bytes > 8 ? ((uint64_t)1 << 8 * (bytes - 8)) - 1 : 0;
    } else {
        memcpy(key, text, (size_t)bytes);
    }
    key[1] |= (uint64_t)bytes << 56;
}

static Seen *cache_set(Seen *cache, uint64_t mask, const uint64_t key[2]) {
    const uint64_t mixed = key[0] * 0x9E3779B97F4A7C15u ^ key[1] * 0xC2B2AE3D27D4EB4Fu;
    return &cache[2 * ((mixed ^ mixed >> 29) * 0x9E3779B97F4A7C15u >> 40 & mask)];
}

/* Copies the ids of a piece that the set has and returns how many, or 0. `out` is all that was
 * written, of which `n` ids. */
static int64_t cache_take(const Seen set[2], const uint64_t key[2], int32_t *out, int64_t n) {
    const bool second = set[1].key[0] == key[0] && set[1].key[1] == key[1];
    const Seen *s = &set[second];
    if (!second && (s->key[0] != key[0] || s->key[1] != key[1])) return 0;
    out[n] = s->ids[0];
    if (s->n == 1) return 1;
    int64_t before = n;
    if (s->n > 3) memcpy(&before, s->ids, sizeof before);
    memcpy(out + n, s->n > 3 ? out + before : s->ids, (size_t)s->n * sizeof *out);
    return s->n;
}

static void cache_put(Seen set[2], const uint64_t key[2], const int32_t *out, int64_t n,
                      int64_t made) {
    set[1] = set[0];
    set[0] = (Seen){{key[0], key[1]}, (int32_t)made, {0}};
    if (made <= 3)
        memcpy(set->ids, out + n, (size_t)made * sizeof *out);
    else
        memcpy(set->ids, &n, sizeof n);
}

static int64_t refuse_split(const char *name, const char *text, int64_t at, Error *e) {
    char place[512];
    utf8_place(place, sizeof place, name, text, at);
    error_set(e, place, "Use another tokenizer",
              "the split pattern of the tokenizer takes too long for this text");
    return -1;
}

static int64_t encode_plain(const Tokenizer *t, const char *name, const char *text, int64_t first,
                            int64_t last, int32_t *ids, Error *e) {
    const uint64_t sets = last - first < CACHE_SETS ? 128 : CACHE_SETS;
    Seen *cache = aligned_alloc(64, 2 * sets * sizeof *cache);
    CHECK(cache, "no memory for a cache of words");
    memset(cache, 0, 2 * sets * sizeof *cache);
    SplitMatch *match = NULL;
    int64_t n = 0;
    for (int64_t at = first, bytes; at < last; at += bytes) {
        bytes = split_next(t->bpe->split, &match, text, at, last);
        if (bytes < 0) {
            n = refuse_split(name, text, at, e);
            break;
        }
        if (bytes >= 16) {
            n += encode_piece(t, text + at, bytes, ids + n);
            continue;
        }
        uint64_t key[2];
        key_make(key, text + at, bytes, last - at);
        Seen *set = cache_set(cache, sets - 1, key);
        int64_t made = cache_take(set, key, ids, n);
        if (made == 0) {
            made = encode_piece(t, text + at, bytes, ids + n);
            cache_put(set, key, ids, n, made);
        }
        n += made;
    }
    split_match_free(match);
    free(cache);
    return n;
}

int64_t bpe_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                   int64_t last, int32_t *ids, Error *e) {
    if (!utf8_check_part(name, text, first, last, e)) return -1;
    int64_t n = 0;
    for (int64_t at = first; at < last;) {
        int32_t special, length = 0;
        const int64_t stop = special_next(t, text, at, last, &special);
        const int64_t made = encode_plain(t, name, text, at, stop, ids + n, e);
        if (made < 0) return -1;
        n += made;
        if (special >= 0) {
            ids[n++] = special;
            tokenizer_text(t, special, &length);
        }
        at = stop + length;
    }
    return n;
}
