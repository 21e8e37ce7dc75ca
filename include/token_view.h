/* A tokenized text for a reader: its tokens with their ids, and what they are like on the whole. */
#pragma once
#include "tokenizer.h"
#include <stdio.h>

/* A text's tokens; the tokenizer has each of their ids. */
typedef struct TokenView {
    const Tokenizer *tokenizer;
    const int32_t *ids;
    int64_t n, bytes; /* tokens; bytes of the text that they stand for */
} TokenView;

/* Rows of two lines: the tokens, and below each its id. A row ends with the text's line, or where
 * it gets too long. With colour tokens have backgrounds in turn, without it they stand in brackets;
 * control characters and what is no UTF-8 are escaped. */
void token_view_print(const TokenView *v, bool colour, FILE *out);
/* A line of JSON for each token: its id, and its text where that is UTF-8. */
void token_view_json(const TokenView *v, FILE *out);

/* Tokens in one page: more would make it slow, and nobody read them. */
enum { TOKEN_VIEW_MAX = 20000 };
/* The first TOKEN_VIEW_MAX tokens as one HTML page that fetches nothing. `name` is the text's, for
 * the heading. */
void token_view_page(const TokenView *v, const char *name, FILE *out);

enum { TOKEN_STATS_LIST = 10 };
typedef struct TokenCount {
    int32_t id, bytes;
    int64_t count; /* in the text */
} TokenCount;
typedef struct TokenStats {
    double bytes_per_token;
    int32_t n_used; /* different tokens that the text has */
    int n_listed;   /* of each of these: all that are used, at most TOKEN_STATS_LIST */
    TokenCount longest[TOKEN_STATS_LIST], commonest[TOKEN_STATS_LIST];
} TokenStats;
/* Of n > 0 tokens. Equally long tokens are ordered by their counts, equal counts by id. */
void token_view_count(const TokenView *v, TokenStats *s);
/* Prints them as text, or as one line of JSON. */
void token_view_print_stats(const TokenView *v, const TokenStats *s, bool json, FILE *out);
