/* Tokens for a reader: rows with brackets and with colours, JSON, the page, and counts. */
#include "token_view.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const merges[] = {"a b", "ab c", "\xC4\xA0 ab", "\xC3\xA2 \xC4\xBA"};

typedef struct Lab {
    Tokenizer t;
    int32_t ids[4096];
    TokenView view;
    char *text; /* what was written */
    size_t bytes;
    FILE *out;
} Lab;

static Lab *begin(const char *text) {
    Lab *l = calloc(1, sizeof *l);
    Error e = {0};
    if (!tokenizer_from_merges(&l->t, "m", merges, COUNT_OF(merges), &e)) fail_msg("%s", e.text);
    const int64_t bytes = (int64_t)strlen(text);
    const int64_t n = tokenizer_encode(&l->t, "t", text, bytes, l->ids, &e);
    l->view = (TokenView){&l->t, l->ids, n, bytes};
    l->out = open_memstream(&l->text, &l->bytes);
    return l;
}

static void end(Lab *l) {
    tokenizer_free(&l->t);
    free(l->text);
    free(l);
}

static void rows(void **state) {
    (void)state;
    Lab *l = begin("abc ab\n\\'b");
    token_view_print(&l->view, false, l->out);
    fclose(l->out);
    assert_string_equal(l->text, "[abc][ ab][\\n]\n"
                                 "257  258  198\n\n"
                                 "[\\\\]['][b]\n"
                                 "59  6  65\n\n");
    end(l);
    l = begin("abca");
    token_view_print(&l->view, true, l->out);
    fclose(l->out);
    assert_string_equal(l->text, "\033[38;5;16;48;5;153mabc\033[0m "
                                 "\033[38;5;16;48;5;157ma\033[0m\n257 64\n\n");
    end(l);
}

/* No row is wider than 80, and no token is lost. */
static void long_rows(void **state) {
    (void)state;
    char text[2001] = "";
    memset(text, 'x', 2000);
    Lab *l = begin(text);
    token_view_print(&l->view, false, l->out);
    fclose(l->out);
    int64_t seen = 0, width = 0;
    for (const char *c = l->text; *c; c++) {
        seen += *c == 'x';
        width = *c == '\n' ? 0 : width + 1;
        assert_true(width <= 80);
    }
    assert_int_equal(seen, 2000);
    end(l);
}

/* U+2603 is E2 98 83: one merge leaves two tokens that are no UTF-8. */
static void half_characters(void **state) {
    (void)state;
    Lab *l = begin("\xE2\x98\x83");
    assert_int_equal(l->view.n, 2);
    token_view_print(&l->view, false, l->out);
    fclose(l->out);
    assert_non_null(strstr(l->text, "[\\xe2\\x98][\\x83]"));
    end(l);
    l = begin("a\xE2\x98\x83");
    token_view_json(&l->view, l->out);
    fclose(l->out);
    assert_string_equal(l->text, "{\"id\": 64, \"text\": \"a\"}\n{\"id\": 259}\n{\"id\": 225}\n");
    end(l);
}

static void page(void **state) {
    (void)state;
    Lab *l = begin("<b>&ab\n");
    token_view_page(&l->view, "a<b.txt", l->out);
    fclose(l->out);
    assert_non_null(strstr(l->text, "a&lt;b.txt: 7 bytes, 6 tokens, 1.17 bytes each"));
    assert_non_null(strstr(l->text, "<b title='id 27, 1 byte'>&lt;<i>27</i></b>"));
    assert_non_null(strstr(l->text, "<b title='id 256, 2 bytes'>ab<i>256</i></b>"));
    assert_non_null(strstr(l->text, "\\n<i>198</i></b><br>"));
    assert_non_null(strstr(l->text, "<b>\\n</b> is the end of a line"));
    assert_null(strstr(l->text, "http"));
    assert_null(strstr(l->text, "<script"));
    end(l);
}

static void counts(void **state) {
    (void)state;
    Lab *l = begin("abc ab abc ab aaa");
    TokenStats s;
    token_view_count(&l->view, &s); /* [abc][ ab][ ][abc][ ab][ ][a][a][a] */
    assert_int_equal(l->view.n, 9);
    assert_true(s.bytes_per_token == 17.0 / 9);
    assert_int_equal(s.n_used, 4);
    assert_int_equal(s.n_listed, 4);
    static const int32_t longest[] = {257, 258, 64, 220}, commonest[] = {64, 220, 257, 258};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s.longest[i].id, longest[i]);
        assert_int_equal(s.commonest[i].id, commonest[i]);
    }
    assert_int_equal(s.commonest[0].count, 3);
    assert_int_equal(s.longest[0].bytes, 3);
    assert_int_equal(s.longest[0].count, 2);
    token_view_print_stats(&l->view, &s, false, l->out);
    fclose(l->out);
    assert_non_null(strstr(l->text, "bytes per token  1.889\ndifferent        4 of 261\n"));
    assert_non_null(strstr(l->text, "  22.22%     258  ' ab'\n"));
    end(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),   cmocka_unit_test(long_rows), cmocka_unit_test(half_characters),
        cmocka_unit_test(page),   cmocka_unit_test(counts),
    };
    return cmocka_run_group_tests_name("token view", tests, NULL, NULL);
}
