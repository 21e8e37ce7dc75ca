/* What is the same for all vocabularies: ids to texts and back, the hash. */
#include "text.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* JSON libraries, the one used here among them, take no NUL in a key. */
bool text_check_nul(const char *name, const char *text, int64_t bytes, Error *e) {
    const char *nul = memchr(text, 0, (size_t)bytes);
    char place[512];
    if (!nul) return true;
    utf8_place(place, sizeof place, name, text, nul - text);
    return error_set(e, place, "Remove it, or use --tokenizer byte",
                     "the text holds the character U+0000, which no character or word may be");
}

int text_compare(const char *a, int64_t a_bytes, const char *b, int64_t b_bytes) {
    const int order = memcmp(a, b, (size_t)i64_min(a_bytes, b_bytes));
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_ids(const void *a, const void *b, void *tokenizer) {
    int32_t a_bytes, b_bytes;
    const char *a_text = tokenizer_text(tokenizer, *(const int32_t *)a, &a_bytes);
    const char *b_text = tokenizer_text(tokenizer, *(const int32_t *)b, &b_bytes);
    return text_compare(a_text, a_bytes, b_text, b_bytes);
}

void text_sort_ids(Tokenizer *t) {
    for (int32_t i = 0; i < t->n_vocab; i++) t->sorted[i] = i;
    qsort_r(t->sorted, (size_t)t->n_vocab, sizeof *t->sorted, compare_ids, t);
}

int32_t tokenizer_find(const Tokenizer *t, const char *text, int64_t bytes) {
    for (int32_t low = 0, high = t->n_vocab; low < high;) {
        const int32_t middle = low + (high - low) / 2;
        int32_t length;
        const char *known = tokenizer_text(t, t->sorted[middle], &length);
        const int order = text_compare(text, bytes, known, length);
        if (order == 0) return t->sorted[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return -1;
}

const char *tokenizer_text(const Tokenizer *t, int32_t id, int32_t *bytes) {
    CHECK(id >= 0 && id < t->n_vocab, "token %d of %d", (int)id, (int)t->n_vocab);
    *bytes = t->offset[id + 1] - t->offset[id];
    return t->text + t->offset[id];
}

uint64_t tokenizer_hash(const Tokenizer *t) {
    const int32_t kind = t->kind;
    XXH3_state_t *state = XXH3_createState();
    CHECK(state, "no memory for a hash");
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, &kind, sizeof kind);
    XXH3_64bits_update(state, t->offset, ((size_t)t->n_vocab + 1) * sizeof *t->offset);
    XXH3_64bits_update(state, t->text, (size_t)t->offset[t->n_vocab]);
    if (t->n_merges > 0) /* the same tokens may be made of other parts */
        XXH3_64bits_update(state, t->merges, (size_t)t->n_merges * sizeof *t->merges);
    if (t->n_specials > 0)
        XXH3_64bits_update(state, t->specials, (size_t)t->n_specials * sizeof *t->specials);
    if (t->split) XXH3_64bits_update(state, t->split, strlen(t->split));
    if (t->whole_first) XXH3_64bits_update(state, "whole", 5);
    const uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}
