/* Any bytes as tokenizer.json: refused with a place, or a tokenizer that encodes its own tokens (of
 * characters and bytes) or any text (byte pairs, also from GPT-2's merges and ranks), with memory
 * bounded by the file; and as text: refused as no UTF-8, or encoded and decoded to itself. */
#include "tokenizer.h"
#include "utf8.h"
#include <sanitizer/allocator_interface.h>
#include <stdlib.h>
#include <string.h>

static int64_t live, peak;

static void count_malloc(const volatile void *p, size_t bytes) {
    (void)p;
    live += (int64_t)bytes;
    peak = i64_max(peak, live);
}

static void count_free(const volatile void *p) {
    live -= p ? (int64_t)__sanitizer_get_allocated_size(p) : 0;
}

static void assert_round_trip(const Tokenizer *t, const char *text, int64_t bytes) {
    Error e;
    int32_t *ids = malloc((size_t)bytes * sizeof *ids);
    CHECK(ids, "no memory");
    const int64_t n = tokenizer_encode(t, "fuzz", text, bytes, ids, &e);
    const bool slow = n < 0 && t->split && strstr(e.text, "takes too long");
    CHECK(n > 0 || slow, "%s (%s)", e.text, e.place);
    int64_t at = slow ? bytes : 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t length;
        const char *token = tokenizer_text(t, ids[i], &length);
        CHECK(at + length <= bytes && !memcmp(text + at, token, (size_t)length), "token %ld",
              (long)i);
        at += length;
    }
    CHECK(at == bytes, "%ld of %ld bytes", (long)at, (long)bytes);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool counting;
    if (!counting) __sanitizer_install_malloc_and_free_hooks(count_malloc, count_free);
    counting = true;
    const char *text = (const char *)data;
    const int64_t bytes = (int64_t)size;
    Tokenizer t;
    Error e = {0};
    live = peak = 0;
    if (tokenizer_parse(&t, "fuzz", text, bytes, &e)) {
        const bool single = t.kind == TOKENIZER_CHAR || t.kind == TOKENIZER_BYTE;
        for (int32_t i = 0; single && i < t.n_vocab; i++) {
            int32_t length, id;
            const char *token = tokenizer_text(&t, i, &length);
            CHECK(tokenizer_encode(&t, "fuzz", token, length, &id, &e) == 1 && id == i, "token %d",
                  (int)i);
        }
        if (t.kind == TOKENIZER_BPE) assert_round_trip(&t, text, bytes);
        tokenizer_free(&t);
    } else {
        CHECK(e.text[0] && !strcmp(e.place, "fuzz"), "\"%s\" (%s)", e.text, e.place);
    }
    CHECK(peak <= 32 * bytes + (1 << 20), "%ld bytes for a file of %ld", (long)peak, (long)bytes);

    const bool valid = bytes > 0 && utf8_check("fuzz", text, bytes, &e);
    const bool whole = valid && !memchr(text, 0, size); /* no NUL in a character tokenizer */
    if (valid && *text == '#' && tokenizer_parse_merges(&t, "fuzz", text, bytes, &e)) {
        assert_round_trip(&t, text, bytes);
        tokenizer_free(&t);
    }
    peak = live;
    const int64_t before = live;
    if (tokenizer_parse_ranks(&t, "fuzz", text, bytes, &e)) {
        if (valid) assert_round_trip(&t, text, bytes);
        tokenizer_free(&t);
    }
    CHECK(peak - before <= 64 * bytes + (1 << 20), "%ld bytes for ranks of %ld", (long)peak,
          (long)bytes);
    const bool made = tokenizer_make_char(&t, "fuzz", text, bytes, &e);
    CHECK(made == whole, "made %d, valid %d", made, whole);
    if (made) {
        assert_round_trip(&t, text, bytes);
        tokenizer_free(&t);
    }
    return 0;
}
