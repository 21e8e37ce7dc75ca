/* A text's tokens as rows on a terminal, as a page, and in numbers. */
#include "token_view.h"
#include "show.h"
#include "svg.h"
#include "utf8.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Backgrounds in turn. On a terminal 5 of the 256 colours, with black text on them. */
enum { COLOURS = 5, ROW_WIDTH = 80 };
static const int terminal_colour[COLOURS] = {153, 157, 222, 217, 183};

/* ---- rows ---- */

/* A row that grows: its tokens and its ids. */
typedef struct Row {
    FILE *tokens, *ids;
    char *text[2];
    size_t bytes[2];
    int64_t width;
} Row;

static void row_begin(Row *r) {
    *r = (Row){0};
    r->tokens = open_memstream(&r->text[0], &r->bytes[0]);
    r->ids = open_memstream(&r->text[1], &r->bytes[1]);
    CHECK(r->tokens && r->ids, "no memory for a row of tokens");
}

static void row_end(Row *r, FILE *out) {
    fclose(r->tokens);
    fclose(r->ids);
    for (int i = 0; i < 2; i++) {
        while (r->bytes[i] > 0 && r->text[i][r->bytes[i] - 1] == ' ') r->bytes[i]--;
        if (r->width) fprintf(out, "%.*s\n", (int)r->bytes[i], r->text[i]);
        free(r->text[i]);
    }
    if (r->width) putc('\n', out);
}

static bool ends_line(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    return bytes > 0 && text[bytes - 1] == '\n';
}

/* In characters. */
static int64_t width_of(const char *text) {
    int64_t n = 0;
    for (; *text; text++) n += utf8_starts(*text);
    return n;
}

void token_view_print(const TokenView *v, bool colour, FILE *out) {
    Row row;
    row_begin(&row);
    for (int64_t i = 0; i < v->n; i++) {
        char *token = show_text(v->tokenizer, v->ids[i]);
        const int64_t width = width_of(token) + (colour ? 0 : 2); /* brackets */
        const int64_t cell = i64_max(width, snprintf(NULL, 0, "%d ", (int)v->ids[i]));
        if (row.width && row.width + cell > ROW_WIDTH) {
            row_end(&row, out);
            row_begin(&row);
        }
        if (colour)
            fprintf(row.tokens, "\033[38;5;16;48;5;%dm%s\033[0m", terminal_colour[i % COLOURS],
                    token);
        else
            fprintf(row.tokens, "[%s]", token);
        fprintf(row.tokens, "%*s", (int)(cell - width), "");
        fprintf(row.ids, "%-*d", (int)cell, (int)v->ids[i]);
        row.width += cell;
        free(token);
        if (ends_line(v->tokenizer, v->ids[i])) {
            row_end(&row, out);
            row_begin(&row);
        }
    }
    row_end(&row, out);
}

/* A token as JSON: half a UTF-8 character is no text there. */
static json_t *token_json(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    json_t *object = json_pack("{s:i, s:s%}", "id", (int)id, "text", text, (size_t)bytes);
    if (!object) object = json_pack("{s:i}", "id", (int)id);
    CHECK(object, "no memory for a token in JSON");
    return object;
}

void token_view_json(const TokenView *v, FILE *out) {
    for (int64_t i = 0; i < v->n; i++) {
        json_t *token = token_json(v->tokenizer, v->ids[i]);
        json_dumpf(token, out, 0);
        putc('\n', out);
        json_decref(token);
    }
}

/* ---- the page ---- */

static const char page_head[] =
    "<!doctype html>\n"
    "<html lang='en'><meta charset='utf-8'>\n"
    "<meta name='viewport' content='width=device-width'>\n"
    "<title>Tokens</title>\n"
    "<style>\n"
    ":root{color-scheme:light dark;--page:#fff;--text:#24292f;--quiet:#57606a;"
    "--c0:#c9e1ff;--c1:#c6efc9;--c2:#ffe2b3;--c3:#ffd0d3;--c4:#e6d4ff}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#0d1117;--text:#e6edf3;--quiet:#9aa4ae;"
    "--c0:#1b4677;--c1:#1f5429;--c2:#64470f;--c3:#6d2a31;--c4:#4b3378}}\n"
    "body{background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif;"
    "margin:1.5em;max-width:1100px}\n"
    "h1{font-size:1.2em;margin:0}p{margin:.3em 0 .8em;color:var(--quiet)}\n"
    "#text{font:17px/1.4 ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}\n"
    "b{display:inline-block;white-space:pre;font-weight:normal;border-radius:3px;"
    "margin-bottom:.3em;vertical-align:top;color:var(--text)}p b{margin:0}\n"
    "b:nth-of-type(5n+1){background:var(--c0)}b:nth-of-type(5n+2){background:var(--c1)}\n"
    "b:nth-of-type(5n+3){background:var(--c2)}b:nth-of-type(5n+4){background:var(--c3)}\n"
    "b:nth-of-type(5n){background:var(--c4)}\n"
    "b i{display:none;font:11px/1.3 system-ui,sans-serif;padding:0 2px;color:var(--quiet);"
    "color:color-mix(in srgb,var(--text) 75%,transparent)}\n"
    "#ids:checked~#text i{display:block}\n"
    "b:hover{outline:2px solid var(--text)}\n"
    "</style>\n"
    "<h1>Tokens</h1>\n<p>";

static const char page_legend[] =
    "</p>\n<p><b>Five</b><b> colours</b><b> take</b><b> turns</b><b>,</b> and only tell neighbours "
    "apart. A space belongs to the token in which it stands. <b>\\n</b> is the end of a line, "
    "<b>\\xe2</b> a byte of a character that several tokens share. Point at a token to see its "
    "length.</p>\n"
    "<input type='checkbox' id='ids' checked><label for='ids'> ids below the tokens</label>\n"
    "<div id='text'>\n";

static void write_token(FILE *out, const Tokenizer *t, int32_t id) {
    int32_t bytes;
    tokenizer_text(t, id, &bytes);
    char *shown = show_text(t, id);
    fprintf(out, "<b title='id %d, %d byte%s'>", (int)id, (int)bytes, bytes == 1 ? "" : "s");
    svg_escape(out, shown, (int64_t)strlen(shown));
    fprintf(out, "<i>%d</i></b>", (int)id);
    if (ends_line(t, id)) fputs("<br>\n", out);
    free(shown);
}

void token_view_page(const TokenView *v, const char *name, FILE *out) {
    const int64_t shown = i64_min(v->n, TOKEN_VIEW_MAX);
    fputs(page_head, out);
    svg_escape(out, name, (int64_t)strlen(name));
    fprintf(out, ": %ld bytes, %ld tokens, %.2f bytes each, of a vocabulary of %d.", (long)v->bytes,
            (long)v->n, (double)v->bytes / (double)v->n, (int)v->tokenizer->n_vocab);
    if (shown < v->n) fprintf(out, " Here are the first %ld.", (long)shown);
    fputs(page_legend, out);
    for (int64_t i = 0; i < shown; i++) write_token(out, v->tokenizer, v->ids[i]);
    fputs("</div>\n</html>\n", out);
}

/* ---- numbers ---- */

static int by_count(const void *a, const void *b) {
    const TokenCount *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : (x->id > y->id) - (x->id < y->id);
}

static int by_length(const void *a, const void *b) {
    const TokenCount *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes) - (x->bytes > y->bytes) : by_count(a, b);
}

void token_view_count(const TokenView *v, TokenStats *s) {
    const int32_t n_vocab = v->tokenizer->n_vocab;
    TokenCount *counts = calloc((size_t)n_vocab, sizeof *counts);
    CHECK(counts && v->n > 0, "%ld tokens of a vocabulary of %d", (long)v->n, (int)n_vocab);
    for (int32_t id = 0; id < n_vocab; id++) {
        tokenizer_text(v->tokenizer, id, &counts[id].bytes);
        counts[id].id = id;
    }
    for (int64_t i = 0; i < v->n; i++) counts[v->ids[i]].count++;
    *s = (TokenStats){.bytes_per_token = (double)v->bytes / (double)v->n};
    qsort(counts, (size_t)n_vocab, sizeof *counts, by_count); /* those not used come last */
    while (s->n_used < n_vocab && counts[s->n_used].count) s->n_used++;
    s->n_listed = s->n_used < TOKEN_STATS_LIST ? s->n_used : TOKEN_STATS_LIST;
    memcpy(s->commonest, counts, (size_t)s->n_listed * sizeof *counts);
    qsort(counts, (size_t)s->n_used, sizeof *counts, by_length);
    memcpy(s->longest, counts, (size_t)s->n_listed * sizeof *counts);
    free(counts);
}

static void print_list(const TokenView *v, const char *title, const TokenCount *list, int n,
                       FILE *out) {
    fprintf(out, "\n%-16s bytes     count   share      id\n", title);
    for (int i = 0; i < n; i++) {
        const TokenCount *c = &list[i];
        fprintf(out, "%22d %9ld %6.2f%% %7d  ", (int)c->bytes, (long)c->count,
                100 * (double)c->count / (double)v->n, (int)c->id);
        show_token(out, v->tokenizer, c->id);
        putc('\n', out);
    }
}

static json_t *list_json(const TokenView *v, const TokenCount *list, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++) {
        json_t *token = token_json(v->tokenizer, list[i].id);
        json_object_set_new(token, "bytes", json_integer(list[i].bytes));
        json_object_set_new(token, "count", json_integer(list[i].count));
        json_array_append_new(array, token);
    }
    return array;
}

void token_view_print_stats(const TokenView *v, const TokenStats *s, bool json, FILE *out) {
    if (json) {
        json_t *line =
            json_pack("{s:I, s:I, s:f, s:i, s:i, s:o, s:o}", "tokens", (json_int_t)v->n, "bytes",
                      (json_int_t)v->bytes, "bytes_per_token", s->bytes_per_token, "used",
                      (int)s->n_used, "vocabulary", (int)v->tokenizer->n_vocab, "longest",
                      list_json(v, s->longest, s->n_listed), "commonest",
                      list_json(v, s->commonest, s->n_listed));
        CHECK(line, "no memory for a line of JSON");
        json_dumpf(line, out, 0);
        putc('\n', out);
        json_decref(line);
        return;
    }
    fprintf(out, "tokens           %ld\n", (long)v->n);
    fprintf(out, "bytes            %ld\n", (long)v->bytes);
    fprintf(out, "bytes per token  %.3f\n", s->bytes_per_token);
    fprintf(out, "different        %d of %d\n", (int)s->n_used, (int)v->tokenizer->n_vocab);
    print_list(v, "longest", s->longest, s->n_listed, out);
    print_list(v, "commonest", s->commonest, s->n_listed, out);
}
